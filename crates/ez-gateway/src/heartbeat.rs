//! Heartbeats: tells the control plane how this gateway is, so that operators see which one lags behind.

use std::sync::Arc;
use std::time::Duration;

use ez_contract::Clock;
use ez_contract::snapshot::GatewayHeartbeat;
use tokio_util::sync::CancellationToken;

use crate::control_link::ControlLink;
use crate::routing::SnapshotCell;
use crate::usage_log::UsageLog;

/// Well within the time after which the control plane forgets a gateway.
const INTERVAL: Duration = Duration::from_secs(5);

/// What a heartbeat is made of.
pub(crate) struct Heart {
    pub(crate) node_id: String,
    pub(crate) version: String,
    pub(crate) snapshot: Arc<SnapshotCell>,
    pub(crate) usage_log: UsageLog,
    pub(crate) control_link: Arc<dyn ControlLink>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Beats until `stop`.
pub(crate) async fn beat(heart: Heart, stop: CancellationToken) {
    let mut was_failing = false;
    loop {
        let heartbeat = heart.now();
        let told = tokio::select! {
            told = heart.control_link.heartbeat(&heartbeat) => told,
            () = stop.cancelled() => return,
        };
        if let Err(e) = &told
            && !was_failing
        {
            tracing::warn!(error = %e, "the control plane does not hear this gateway's heartbeats");
        }
        was_failing = told.is_err();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

impl Heart {
    fn now(&self) -> GatewayHeartbeat {
        GatewayHeartbeat {
            node_id: self.node_id.clone(),
            version: self.version.clone(),
            snapshot_version: self.snapshot.load().version(),
            usage_log_depth: self.usage_log.depth(),
            seen_at: self.clock.now(),
        }
    }
}
