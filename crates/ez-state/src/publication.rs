//! Shapes that pass between publishers, backends and readers of the snapshot, and the rules both backends share.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use ez_contract::models::{ModelsMeta, ModelsOrigin};
use ez_contract::snapshot::{ConfigEvent, SnapshotChange, SnapshotEntry, SnapshotKey, SnapshotMeta};

/// Events kept for readers that follow by deltas. Redis may keep some more, as it trims by whole nodes.
pub(crate) const MAX_EVENTS: usize = 10_000;

/// Changes of one publication that readers follow one by one; after a larger one they read everything.
pub const MAX_NAMED: usize = 512;

/// What to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The new state of entries. Where a key occurs twice, the later one stands.
    pub changes: Vec<SnapshotChange>,
    /// Whether entries that `changes` does not name stay.
    pub scope: Scope,
    /// What it was made for; none to publish onto whatever stands.
    pub base: Option<Base>,
}

/// The snapshot that a publication was made for. Where another stands by then, nothing is published. Nor are single
/// changes onto a snapshot that is not whole: they would pass for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The version that stood before the changes were read.
    pub version: u64,
    /// The newest version that the publisher knows of. A store that came back with old data has fallen behind it; what is
    /// published gets a version above it all the same.
    pub newest: u64,
}

/// How far a publication reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Entries that are not named stay as they are.
    Changes,
    /// Entries that are not named are removed: the publication is the whole snapshot.
    Everything,
}

/// The whole snapshot, as one publication left it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotImage {
    /// Which publication this is. Version 0 means that nothing was ever published, or that Redis lost its data: a
    /// reader that holds a snapshot keeps it.
    pub meta: SnapshotMeta,
    /// The entries, ordered by key.
    pub entries: Vec<SnapshotEntry>,
    /// Stored entries that do not parse and are missing from `entries`: Redis key, and field where there is one.
    pub damaged: Vec<String>,
}

/// What happened since a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotDelta {
    /// Nothing.
    UpToDate,
    /// Applying `changes` to a snapshot of the version asked about gives the snapshot of `meta.version`.
    Changes {
        /// The publication that stands now.
        meta: SnapshotMeta,
        /// Each changed entry once, in its present state, ordered by key.
        changes: Vec<SnapshotChange>,
        /// Entries that do not parse; `changes` removes them.
        damaged: Vec<String>,
    },
    /// The way from that version is not known any more (or leads backwards): read everything.
    TooOld,
}

/// The state of each named key after a publication; `None` is removed.
pub(crate) type Desired = BTreeMap<SnapshotKey, Option<SnapshotEntry>>;

/// Folds changes in their order, so that the last one of a key stands.
pub(crate) fn fold(changes: Vec<SnapshotChange>) -> Desired {
    changes
        .into_iter()
        .map(|change| match change {
            SnapshotChange::Put(entry) => (entry.key(), Some(entry)),
            SnapshotChange::Remove(key) => (key, None),
        })
        .collect()
}

/// The account of the models that have `checksum` now. Without a new origin the standing one stays, and so does the
/// time where nothing differs.
pub(crate) fn next_models_meta(
    standing: Option<ModelsMeta>,
    origin: Option<ModelsOrigin>,
    checksum: String,
    published_at: DateTime<Utc>,
) -> ModelsMeta {
    let origin = origin.or_else(|| standing.as_ref().map(ModelsMeta::origin)).unwrap_or_default();
    match standing {
        Some(standing) if standing.checksum == checksum && standing.origin() == origin => standing,
        _ => ModelsMeta::new(origin, checksum, published_at),
    }
}

/// The first version of an empty store. It comes from the clock, so that a store that lost its data cannot hand out a
/// version that some reader already holds with other content.
pub(crate) fn first_version(published_at: DateTime<Utc>) -> u64 {
    u64::try_from(published_at.timestamp_millis()).unwrap_or(0).max(1)
}

/// The event for a publication; it names nothing where a reader must read everything.
pub(crate) fn event(version: u64, changed: Option<Vec<SnapshotKey>>) -> ConfigEvent {
    let changed = changed.filter(|keys| keys.len() <= MAX_NAMED).unwrap_or_default();
    ConfigEvent { version, changed }
}

/// The keys that changed after `since` up to `version`, or `None` where `events` do not tell: there must be exactly one
/// event for each version in between, and each must name something.
pub(crate) fn changed_since<'event>(
    since: u64,
    version: u64,
    events: impl IntoIterator<Item = &'event ConfigEvent>,
) -> Option<BTreeSet<SnapshotKey>> {
    let mut changed = BTreeSet::new();
    let mut reached = since;
    for event in events {
        if reached.checked_add(1) != Some(event.version) || event.changed.is_empty() {
            return None;
        }
        reached = event.version;
        changed.extend(event.changed.iter().cloned());
    }
    (reached == version).then_some(changed)
}
