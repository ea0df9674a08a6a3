//! Gauges: what of the gateway's state is sampled for `/metrics`, apart from calls, so that no call pays for it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::Clock;
use ez_telemetry::metrics::{
    SNAPSHOT_AGE, SNAPSHOT_FROM_DISK, SNAPSHOT_VERSION, USAGE_LOG_BYTES, USAGE_LOG_DEPTH, USAGE_LOG_FAILING,
    USAGE_LOG_OLDEST,
};
use metrics::{Gauge, gauge};
use tokio_util::sync::CancellationToken;

use crate::routing::{SnapshotSource, SnapshotWatch};
use crate::usage_log::UsageLog;

const INTERVAL: Duration = Duration::from_secs(1);

/// What is sampled.
pub(crate) struct Sampled {
    pub(crate) usage_log: UsageLog,
    pub(crate) snapshot: SnapshotWatch,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Samples until `stop`.
pub(crate) async fn keep_gauges(sampled: Sampled, stop: CancellationToken) {
    let gauges = Gauges::register();
    loop {
        gauges.set(&sampled);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

struct Gauges {
    depth: Gauge,
    bytes: Gauge,
    oldest_seconds: Gauge,
    is_failing: Gauge,
    snapshot_version: Gauge,
    snapshot_age_seconds: Gauge,
    snapshot_from_disk: Gauge,
}

impl Gauges {
    fn register() -> Self {
        Self {
            depth: gauge!(USAGE_LOG_DEPTH),
            bytes: gauge!(USAGE_LOG_BYTES),
            oldest_seconds: gauge!(USAGE_LOG_OLDEST),
            is_failing: gauge!(USAGE_LOG_FAILING),
            snapshot_version: gauge!(SNAPSHOT_VERSION),
            snapshot_age_seconds: gauge!(SNAPSHOT_AGE),
            snapshot_from_disk: gauge!(SNAPSHOT_FROM_DISK),
        }
    }

    fn set(&self, sampled: &Sampled) {
        let now = sampled.clock.now();
        let usage_log = sampled.usage_log.stats();
        self.depth.set(usage_log.records as f64);
        self.bytes.set(usage_log.bytes as f64);
        self.oldest_seconds.set(usage_log.oldest_at.map_or(0.0, |at| seconds_since(at, now)));
        self.is_failing.set(f64::from(u8::from(usage_log.is_failing)));
        let snapshot = *sampled.snapshot.borrow();
        let is_from_disk = snapshot.is_some_and(|state| state.source == SnapshotSource::Disk);
        self.snapshot_version.set(snapshot.map_or(0, |state| state.version) as f64);
        self.snapshot_age_seconds.set(snapshot.map_or(0.0, |state| seconds_since(state.confirmed_at, now)));
        self.snapshot_from_disk.set(f64::from(u8::from(is_from_disk)));
    }
}

fn seconds_since(at: DateTime<Utc>, now: DateTime<Utc>) -> f64 {
    now.signed_duration_since(at).to_std().map_or(0.0, |age| age.as_secs_f64())
}
