//! Follows publications: reads what changed, builds the next snapshot, swaps it in.

use std::sync::Arc;
use std::time::Duration;

use ez_contract::can_read_contract;
use ez_contract::secret::SecretKey;
use ez_contract::snapshot::SnapshotMeta;
use ez_state::{SharedState, SnapshotDelta, StateError};
use ez_telemetry::metrics::SNAPSHOT_VERSION;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::snapshot::{RoutingSnapshot, SnapshotCell};

/// What the follower works with.
pub struct FollowerConfig {
    /// Where publications appear.
    pub state: SharedState,
    /// Decrypts upstream credentials.
    pub secret_key: Arc<SecretKey>,
    /// How often to look without having been woken: bounds the age of a snapshot whose announcement was lost.
    pub poll_interval: Duration,
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the snapshot has contract version {published}, and this build reads {own}: upgrade this gateway")]
    NewerContract { published: String, own: &'static str },
}

/// Keeps `cell` at the newest publication until `stop`; `applied` turns true with the first snapshot. Whatever fails,
/// the last good snapshot stays and the next wake-up tries again.
pub async fn follow(
    config: FollowerConfig,
    cell: Arc<SnapshotCell>,
    applied: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut publications = config.state.subscribe();
    let mut was_failing = false;
    let mut read_everything = true;
    loop {
        match catch_up(&config, &cell, read_everything).await {
            Ok(()) => {
                read_everything = false;
                was_failing = false;
                // Version 0 is from before the first publication, or after the shared state lost its data.
                if cell.load().version() > 0 {
                    applied.send_replace(true);
                }
            }
            Err(e) if was_failing => tracing::debug!(error = %e, "snapshot still not readable"),
            Err(e) => {
                was_failing = true;
                tracing::warn!(error = %e, version = cell.load().version(), "snapshot not readable; serving the last good one");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = publications.changed() => {}
            () = tokio::time::sleep(config.poll_interval) => {}
        }
    }
}

async fn catch_up(config: &FollowerConfig, cell: &SnapshotCell, read_everything: bool) -> Result<(), FollowError> {
    let current = cell.load_full();
    let delta =
        if read_everything { SnapshotDelta::TooOld } else { config.state.read_changes(current.version()).await? };
    let next = match delta {
        SnapshotDelta::UpToDate => return Ok(()),
        SnapshotDelta::Changes { meta, changes, damaged } => {
            check_contract(&meta)?;
            report_damaged(&damaged);
            current.with_changes(meta.version, changes, &config.secret_key)
        }
        SnapshotDelta::TooOld => {
            let image = config.state.read_snapshot().await?;
            check_contract(&image.meta)?;
            report_damaged(&image.damaged);
            if image.meta.version == 0 && current.version() > 0 {
                // The shared state lost its data; what is in memory serves until the publisher has written it anew.
                return Ok(());
            }
            RoutingSnapshot::from_entries(image.meta.version, image.entries, &config.secret_key)
        }
    };
    metrics::gauge!(SNAPSHOT_VERSION).set(next.version() as f64);
    tracing::debug!(version = next.version(), "snapshot applied");
    cell.store(Arc::new(next));
    Ok(())
}

fn check_contract(meta: &SnapshotMeta) -> Result<(), FollowError> {
    // Before the first publication there is no version to judge.
    if meta.version == 0 || can_read_contract(&meta.contract_version) {
        return Ok(());
    }
    Err(FollowError::NewerContract { published: meta.contract_version.clone(), own: ez_contract::CONTRACT_VERSION })
}

fn report_damaged(entries: &[String]) {
    for entry in entries {
        tracing::error!(entry, "snapshot entry is damaged and left out; a full reconcile repairs it");
    }
}
