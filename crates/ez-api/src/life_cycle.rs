//! The life cycle: what tells a process to stop, and in which order it does.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use ez_gateway::{GatewayStops, GatewayTasks};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bound on shipping the last usage records, forcing them to the disk, and publishing the last changes.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// The number of the signal of a file that grew beyond the limit, on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Everything that runs, in the order in which it ends.
#[derive(Debug, Default)]
pub(crate) struct LifeCycle {
    /// Ends listeners; what they serve may finish.
    pub(crate) stop: CancellationToken,
    /// Ends the gateway's background work.
    pub(crate) gateway: GatewayStops,
    /// Ends scheduler, ingestion and follower.
    pub(crate) background: CancellationToken,
    /// The gateway's listener.
    pub(crate) calls: TaskTracker,
    /// The gateway's background work.
    pub(crate) work: GatewayTasks,
    /// The control listener, while calls drain still open for health checks.
    pub(crate) control: TaskTracker,
    /// Ends the control listener.
    pub(crate) control_stop: CancellationToken,
    /// Scheduler, ingestion, follower, readiness.
    pub(crate) others: TaskTracker,
}

/// What tells the process to stop. Watched from before anyone is told that it runs.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Only watched: where files may not grow, writes are to fail as on a full disk, and not to end the process.
    _file_size: Signal,
}

impl Signals {
    /// Starts watching.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ)).context("SIGXFSZ cannot be watched")?,
        })
    }

    /// Waits for the next one and tells its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl LifeCycle {
    /// Runs until the process is told to stop, then ends everything. A second signal ends what would take long.
    pub(crate) async fn run_to_end(&self, mut signals: Signals, before_draining: impl FnOnce()) {
        let signal = signals.next().await;
        tracing::info!(signal, "draining; a second signal cuts it short");
        before_draining();
        tokio::select! {
            () = self.shut_down() => {}
            () = async {
                let signal = signals.next().await;
                tracing::warn!(signal, "second signal: calls in flight are cut off");
                self.gateway.cut_off.cancel();
                signals.next().await;
                tracing::warn!("third signal: records and changes not flushed stay on disk for the next start");
            } => {}
        }
    }

    /// Ends everything: calls first, then their records, then the control listener, then the rest.
    async fn shut_down(&self) {
        self.stop.cancel();
        self.calls.close();
        self.calls.wait().await;
        self.gateway.cut_off.cancel();
        end(&self.work.settling, "calls that were cut off just now may leave no usage record").await;
        self.gateway.shipping.cancel();
        end(&self.work.shipping, "usage records not shipped stay on disk for the next start").await;
        self.control_stop.cancel();
        end(&self.control, "control requests still running are dropped").await;
        self.background.cancel();
        end(
            &self.others,
            "changes not published stay in the outbox for the next start, records not stored with their gateways",
        )
        .await;
    }
}

async fn end(tasks: &TaskTracker, otherwise: &str) {
    tasks.close();
    if tokio::time::timeout(FLUSH_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!(seconds = FLUSH_TIMEOUT.as_secs(), "not ended in time: {otherwise}");
    }
}

/// Waits for the threads of the usage log, which end once nobody can append. One that hangs in its disk must not keep the
/// process from ending.
pub(crate) async fn join(threads: Vec<JoinHandle<()>>, patience: Duration) {
    let joined = tokio::task::spawn_blocking(|| threads.into_iter().map(JoinHandle::join).all(|ended| ended.is_ok()));
    match tokio::time::timeout(patience, joined).await {
        Ok(Ok(true)) => {}
        Ok(_) => tracing::error!("a thread of the usage log panicked"),
        Err(_) => tracing::error!(
            seconds = patience.as_secs(),
            "usage log not closed in time: its last records are lost if this machine loses power now"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_disk_that_hangs_does_not_keep_the_process_from_ending() {
        let (release, hangs) = mpsc::channel::<()>();
        let hanging = std::thread::Builder::new().spawn(move || hangs.recv().unwrap()).unwrap();
        join(vec![hanging], Duration::from_millis(20)).await;
        // It still hangs.
        release.send(()).unwrap();
    }
}
