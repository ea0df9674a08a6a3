//! The life cycle: what tells a process to stop, and in which order it does.

use std::time::Duration;

use anyhow::Context;
use ez_gateway::GatewayStops;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bound on shipping the last usage records and publishing the last changes.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that runs, in the order in which it ends.
#[derive(Debug, Default)]
pub(crate) struct LifeCycle {
    /// Ends listeners; what they serve may finish.
    pub(crate) stop: CancellationToken,
    /// Ends the gateway's background work.
    pub(crate) gateway: GatewayStops,
    /// Ends publisher and follower.
    pub(crate) background: CancellationToken,
    /// The gateway's listener.
    pub(crate) calls: TaskTracker,
    /// The gateway's background work.
    pub(crate) settling: TaskTracker,
    /// The control listener, while calls drain still open for health checks.
    pub(crate) control: TaskTracker,
    /// Ends the control listener.
    pub(crate) control_stop: CancellationToken,
    /// Publisher, follower, readiness.
    pub(crate) others: TaskTracker,
}

impl LifeCycle {
    /// Returns when the process is told to stop. A second signal cuts short the draining.
    pub(crate) async fn wait_for_signal(&self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining; again to stop at once"),
        }
        let cut_off = self.gateway.cut_off.clone();
        self.others.spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = cut_off.cancelled() => return,
            }
            tracing::warn!("second signal: calls in flight are cut off");
            cut_off.cancel();
        });
        Ok(())
    }

    /// Ends everything: calls first, then their records, then the control listener, then the rest.
    pub(crate) async fn shut_down(&self) {
        self.stop.cancel();
        self.calls.close();
        self.calls.wait().await;
        self.gateway.cut_off.cancel();
        self.gateway.shipping.cancel();
        end(&self.settling, "usage records not shipped stay on disk for the next start").await;
        self.control_stop.cancel();
        end(&self.control, "control requests still running are dropped").await;
        self.background.cancel();
        end(&self.others, "changes not published stay in the outbox for the next start").await;
    }
}

async fn end(tasks: &TaskTracker, otherwise: &str) {
    tasks.close();
    if tokio::time::timeout(FLUSH_TIMEOUT, tasks.wait()).await.is_err() {
        tracing::warn!(seconds = FLUSH_TIMEOUT.as_secs(), "not ended in time: {otherwise}");
    }
}
