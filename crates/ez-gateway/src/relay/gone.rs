//! Clients that leave: their upstream is let go or heard to its end, and what the call used is accounted for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ez_contract::snapshot::ClientGone;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::BrokenOff;
use super::stream::StreamRelay;

/// How long an upstream is heard on behalf of a client that left.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How many upstreams are at most; what comes on top of that is cancelled.
const MAX_DRAINS: usize = 256;

/// What becomes of the upstreams of clients that left.
#[derive(Clone)]
pub(crate) struct Abandonment {
    /// Where a binding does not say.
    policy: ClientGone,
    drains: Arc<Semaphore>,
    tasks: TaskTracker,
    cut_off: CancellationToken,
}

impl Abandonment {
    /// Work goes to `tasks`; it ends early once `cut_off` is set.
    pub(crate) fn new(policy: ClientGone, tasks: TaskTracker, cut_off: CancellationToken) -> Self {
        Self { policy, drains: Arc::new(Semaphore::new(MAX_DRAINS)), tasks, cut_off }
    }

    /// Sees a stream to its account: its client is gone.
    fn take_over(&self, mut relay: Box<StreamRelay>) {
        let policy = relay.on_client_gone.unwrap_or(self.policy);
        // Without a runtime the process is ending; dropping the relay still reports its account.
        let Ok(runtime) = Handle::try_current() else { return };
        let permit = match policy {
            // At its end nothing is left to be heard.
            ClientGone::Drain if relay.is_under_way() && !self.cut_off.is_cancelled() && !std::thread::panicking() => {
                self.drains.clone().try_acquire_owned().ok()
            }
            _ => None,
        };
        let Some(permit) = permit else {
            let account = relay.abandon();
            self.tasks.spawn_on(account, &runtime);
            return;
        };
        let cut_off = self.cut_off.clone();
        let drained = async move {
            relay.note_client_gone();
            let to_end = async { while relay.next().await.is_some() {} };
            let in_time = tokio::select! {
                ended = timeout(DRAIN_TIMEOUT, to_end) => ended.is_ok(),
                () = cut_off.cancelled() => false,
            };
            if !in_time && relay.is_unsettled() {
                relay.abandon().await;
            }
            drop(permit);
        };
        self.tasks.spawn_on(drained, &runtime);
    }
}

/// A relay for as long as its client listens; dropping it means that the client left.
pub(super) struct Attended {
    relay: Option<Box<StreamRelay>>,
    abandonment: Abandonment,
}

impl Attended {
    pub(super) fn new(relay: StreamRelay, abandonment: Abandonment) -> Self {
        Self { relay: Some(Box::new(relay)), abandonment }
    }

    /// What the client gets next.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        self.relay.as_mut()?.next().await
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.take().filter(|relay| relay.is_unsettled()) {
            self.abandonment.take_over(relay);
        }
    }
}
