//! What a gateway can tell of the snapshot that it serves from.

use chrono::{DateTime, Utc};
use tokio::sync::watch;

/// Where the snapshot came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotSource {
    /// The shared state, since this process started.
    Live,
    /// The data directory: the shared state was not reached yet.
    Disk,
}

impl SnapshotSource {
    /// `live` or `disk`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Disk => "disk",
        }
    }
}

/// The snapshot that is served from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotState {
    /// Its version.
    pub version: u64,
    /// Where it came from.
    pub source: SnapshotSource,
    /// When the shared state last said that nothing newer is published.
    pub confirmed_at: DateTime<Utc>,
}

/// Tells of the snapshot that is served from; `None` while there is none.
pub type SnapshotWatch = watch::Receiver<Option<SnapshotState>>;

/// Notes what is served from. Watchers are woken by another version or source, not by each confirmation.
pub(super) fn note(sender: &watch::Sender<Option<SnapshotState>>, next: Option<SnapshotState>) {
    sender.send_if_modified(|state| {
        let identity = |state: &Option<SnapshotState>| state.map(|state| (state.version, state.source));
        let is_other = identity(state) != identity(&next);
        *state = next;
        is_other
    });
}
