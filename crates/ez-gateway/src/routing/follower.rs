//! Follows publications: reads what changed, builds the next snapshot, swaps it in.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::secret::SecretKey;
use ez_contract::snapshot::SnapshotMeta;
use ez_contract::{Clock, can_read_contract};
use ez_state::{SharedState, SnapshotDelta, StateError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::saved::is_expired;
use super::snapshot::{RoutingSnapshot, SnapshotCell};
use super::state::{SnapshotSource, SnapshotState, note};

/// What the follower works with.
pub struct FollowerConfig {
    /// Where publications appear.
    pub state: SharedState,
    /// Decrypts upstream credentials.
    pub secret_key: Arc<SecretKey>,
    /// How often to look without having been woken: bounds the age of a snapshot whose announcement was lost.
    pub poll_interval: Duration,
    /// Tells when the shared state confirmed the snapshot.
    pub clock: Arc<dyn Clock>,
    /// How long a snapshot is served from that the shared state does not confirm; for ever where it is none.
    pub max_age: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the snapshot has contract version {published}, and this build reads {own}: upgrade this gateway")]
    NewerContract { published: String, own: &'static str },
}

/// Keeps `cell` at the newest publication until `stop`, and tells `state` what is served from. Whatever fails, the last
/// good snapshot stays, for as long as the configuration allows, and the next wake-up tries again. The first read is of
/// everything, also where a snapshot was loaded from disk.
pub async fn follow(
    config: FollowerConfig,
    cell: Arc<SnapshotCell>,
    state: watch::Sender<Option<SnapshotState>>,
    stop: CancellationToken,
) {
    let mut publications = config.state.subscribe();
    let mut was_failing = false;
    let mut read_everything = true;
    loop {
        // The time before it was asked, so that what was published meanwhile is not passed for known.
        let asked_at = config.clock.now();
        match catch_up(&config, &cell, read_everything).await {
            Ok(reached) => {
                // A store that lost its data is published anew, and nothing that was known before counts then.
                read_everything = reached == Reached::Nothing;
                was_failing = false;
                note_reached(reached, &cell, &state, asked_at);
            }
            Err(e) if was_failing => tracing::debug!(error = %e, "snapshot still not readable"),
            Err(e) => {
                was_failing = true;
                tracing::warn!(error = %e, version = cell.load().version(), "snapshot not readable; serving the last good one");
            }
        }
        if give_up_expired(&config, &cell, &state) {
            read_everything = true;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = publications.changed() => {}
            () = tokio::time::sleep(config.poll_interval) => {}
        }
    }
}

/// What a read of the shared state came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// What is served from is what is published.
    Newest,
    /// Nothing is published: it never was, or the shared state lost its data, and what is in memory serves until the
    /// publisher has written it anew.
    Nothing,
}

fn note_reached(
    reached: Reached,
    cell: &SnapshotCell,
    state: &watch::Sender<Option<SnapshotState>>,
    asked_at: DateTime<Utc>,
) {
    let version = cell.load().version();
    if reached == Reached::Newest && version > 0 {
        note(state, Some(SnapshotState { version, source: SnapshotSource::Live, confirmed_at: asked_at }));
    }
}

/// Stops serving from a snapshot that nobody confirmed for too long. Whether it did.
fn give_up_expired(config: &FollowerConfig, cell: &SnapshotCell, state: &watch::Sender<Option<SnapshotState>>) -> bool {
    let Some(current) = *state.borrow() else { return false };
    if !is_expired(current.confirmed_at, config.clock.now(), config.max_age) {
        return false;
    }
    tracing::error!(
        version = current.version,
        confirmed_at = %current.confirmed_at,
        "snapshot given up: the shared state confirmed it longer ago than EZ_SNAPSHOT_MAX_AGE allows; calls are refused"
    );
    cell.store(Arc::new(RoutingSnapshot::empty()));
    note(state, None);
    true
}

async fn catch_up(config: &FollowerConfig, cell: &SnapshotCell, read_everything: bool) -> Result<Reached, FollowError> {
    let current = cell.load_full();
    let delta =
        if read_everything { SnapshotDelta::TooOld } else { config.state.read_changes(current.version()).await? };
    let next = match delta {
        SnapshotDelta::UpToDate => return Ok(Reached::Newest),
        SnapshotDelta::Changes { meta, changes, damaged } => {
            check_contract(&meta)?;
            report_damaged(&damaged);
            current.with_changes(meta.version, changes, &config.secret_key)
        }
        SnapshotDelta::TooOld => {
            let image = config.state.read_snapshot().await?;
            check_contract(&image.meta)?;
            report_damaged(&image.damaged);
            if image.meta.version == 0 {
                return Ok(Reached::Nothing);
            }
            RoutingSnapshot::from_entries(image.meta.version, image.entries, &config.secret_key)
        }
    };
    tracing::debug!(version = next.version(), "snapshot applied");
    cell.store(Arc::new(next));
    Ok(Reached::Newest)
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
