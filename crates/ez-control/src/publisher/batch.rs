//! From outbox entries to changes of the snapshot: which keys an entry touches, and what stands under them now.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use ez_contract::model_ref::binding_key;
use ez_contract::snapshot::{SnapshotChange, SnapshotKey};
use ez_store::bindings::Binding;
use ez_store::outbox::OutboxEntry;
use ez_store::{RecordKind, Store, StoreError, api_keys, bindings, child_keys, namespaces};

use crate::recorded::Recorded;
use crate::snapshot::Reader;
use crate::{Control, ControlError};

/// What a batch of outbox entries comes to.
pub(crate) struct Batch {
    /// The present state of everything that the entries touch.
    pub(crate) changes: Vec<SnapshotChange>,
    /// Entries that are all in `changes`.
    pub(crate) readable: Vec<i64>,
    /// Entries with a record that cannot be read; they must not hold up the others.
    pub(crate) unreadable: Vec<(OutboxEntry, StoreError)>,
}

impl Batch {
    /// Reads the state of what the entries name. Errors: only what concerns all of them.
    pub(crate) async fn read(control: &Control, entries: &[OutboxEntry]) -> Result<Self, ControlError> {
        let store = control.store();
        let mut reader = Reader::new(store, control.now());
        let mut changes = BTreeMap::new();
        let mut batch = Self { changes: Vec::new(), readable: Vec::new(), unreadable: Vec::new() };
        for entry in entries {
            match read_entry(store, &mut reader, entry, &mut changes).await {
                Ok(()) => batch.readable.push(entry.id),
                Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
                Err(error) => batch.unreadable.push((entry.clone(), error)),
            }
        }
        batch.changes = changes.into_values().collect();
        Ok(batch)
    }
}

/// The snapshot keys that an entry touches: those that its record stands under now, and those that it left.
pub(crate) async fn touched(store: &Store, entry: &OutboxEntry) -> Result<BTreeSet<SnapshotKey>, StoreError> {
    let id = entry.record_id;
    let mut keys: BTreeSet<SnapshotKey> = left(entry);
    match entry.kind {
        RecordKind::Master => {
            keys.insert(SnapshotKey::Master(id));
        }
        RecordKind::Key => {
            keys.extend(child_keys::get(store, id).await?.iter().flat_map(Recorded::snapshot_keys));
        }
        RecordKind::Namespace => {
            if let Some(namespace) = namespaces::get(store, id).await? {
                keys.extend(binding_keys(&bindings::list_by_namespace(store, &namespace.name).await?));
            }
        }
        RecordKind::ProviderGroup => {
            let api_keys = api_keys::list_by_group(store, id).await?;
            keys.extend(api_keys.iter().map(|api_key| SnapshotKey::Provider(api_key.id)));
            keys.extend(binding_keys(&bindings::list_by_group(store, id).await?));
        }
        RecordKind::ApiKey => {
            keys.insert(SnapshotKey::Provider(id));
            if let Some(api_key) = api_keys::get(store, id).await? {
                keys.extend(binding_keys(&bindings::list_by_group(store, api_key.group_id).await?));
            }
        }
        RecordKind::Binding => {
            keys.extend(bindings::get(store, id).await?.iter().flat_map(Recorded::snapshot_keys));
        }
        // These have no place in the snapshot, or none yet.
        RecordKind::Model
        | RecordKind::Feature
        | RecordKind::Setting
        | RecordKind::Alert
        | RecordKind::Webhook
        | RecordKind::Log
        | RecordKind::Session
        | RecordKind::Job => {}
    }
    Ok(keys)
}

async fn read_entry(
    store: &Store,
    reader: &mut Reader<'_>,
    entry: &OutboxEntry,
    changes: &mut BTreeMap<SnapshotKey, SnapshotChange>,
) -> Result<(), StoreError> {
    for key in touched(store, entry).await? {
        if let Entry::Vacant(unread) = changes.entry(key) {
            let change = reader.change(unread.key()).await?;
            unread.insert(change);
        }
    }
    Ok(())
}

/// What the writer noted of the record's former places. A note that does not parse was written by another version; the
/// next full comparison finds what it would have named.
fn left(entry: &OutboxEntry) -> BTreeSet<SnapshotKey> {
    let Some(detail) = &entry.detail else { return BTreeSet::new() };
    serde_json::from_str(detail).unwrap_or_else(|error| {
        tracing::warn!(%error, id = entry.id, "the detail of an outbox entry cannot be read");
        BTreeSet::new()
    })
}

fn binding_keys(bindings: &[Binding]) -> impl Iterator<Item = SnapshotKey> {
    bindings.iter().map(|binding| SnapshotKey::Binding(binding_key(&binding.namespace, &binding.public_model)))
}
