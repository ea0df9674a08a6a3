//! What `/readyz` hears of the gateway: whether it has a snapshot to serve from, and whether it can account for calls.

use std::time::Duration;

use ez_control_api::Readiness;
use ez_gateway::routing::SnapshotWatch;
use ez_gateway::usage_log::UsageLog;
use tokio_util::sync::CancellationToken;

const SNAPSHOT: &str = "snapshot";
const USAGE_LOG: &str = "usage_log";
/// How often the usage log is asked.
const INTERVAL: Duration = Duration::from_millis(500);

pub(crate) fn tell_snapshot(readiness: &Readiness, watch: &SnapshotWatch) {
    if watch.borrow().is_some() {
        readiness.set_ready(SNAPSHOT);
    } else {
        readiness.set_waiting(SNAPSHOT, "no current snapshot has been applied yet");
    }
}

/// Tells until the follower ends, which it does only when the process stops.
pub(crate) async fn keep_telling_snapshot(readiness: Readiness, mut watch: SnapshotWatch) {
    while watch.changed().await.is_ok() {
        tell_snapshot(&readiness, &watch);
    }
}

/// Tells until `stop`: while calls cannot be accounted for, the gateway refuses every one of them.
pub(crate) async fn keep_telling_usage_log(readiness: Readiness, usage_log: UsageLog, stop: CancellationToken) {
    loop {
        match usage_log.check() {
            Ok(()) => readiness.set_ready(USAGE_LOG),
            Err(e) => readiness.set_waiting(USAGE_LOG, e.to_string()),
        }
        if stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_none() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use ez_gateway::config::UsageLogConfig;
    use ez_gateway::usage_log::{Disk, LocalDisk, LogFile};
    use tokio_util::task::TaskTracker;

    use super::*;

    /// Full until told otherwise.
    #[derive(Clone, Default)]
    struct FullDisk(Arc<AtomicBool>);

    impl Disk for FullDisk {
        fn create(&self, path: &Path) -> std::io::Result<Arc<dyn LogFile>> {
            if self.0.load(Ordering::Relaxed) {
                return LocalDisk.create(path);
            }
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }

    #[tokio::test]
    async fn a_gateway_that_cannot_account_for_calls_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FullDisk::default();
        let config = UsageLogConfig {
            dir: dir.path().to_owned(),
            fsync_interval: Duration::from_millis(5),
            max_bytes: 1 << 20,
            segment_bytes: 64 << 10,
            queue_capacity: 100,
            ship_batch: 100,
            ship_interval: Duration::from_millis(5),
            write_timeout: Duration::from_secs(5),
        };
        let (usage_log, _threads) = UsageLog::open_on(config, Arc::new(disk.clone())).unwrap();
        let (readiness, stop) = (Readiness::new(), CancellationToken::new());
        let telling = TaskTracker::new();
        telling.spawn(keep_telling_usage_log(readiness.clone(), usage_log, stop.clone()));
        let becomes = async |is_ready: bool| {
            while readiness.list_waiting().is_empty() != is_ready {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        becomes(false).await;
        let told = readiness.list_waiting();
        assert_eq!(told, [(USAGE_LOG, "the usage log cannot be written: it refused the last records".to_owned())]);
        disk.0.store(true, Ordering::Relaxed);
        tokio::time::timeout(Duration::from_secs(20), becomes(true)).await.expect("it is ready again");
        stop.cancel();
        telling.close();
        telling.wait().await;
    }
}
