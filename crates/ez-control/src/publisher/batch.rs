//! From outbox entries to changes of the snapshot: which keys an entry touches, and what stands under them now.

use std::collections::{BTreeMap, BTreeSet, HashSet, btree_set};

use ez_contract::models::ModelsOrigin;
use ez_contract::snapshot::{SnapshotChange, SnapshotKey};
use ez_state::MAX_NAMED;
use ez_store::bindings::Binding;
use ez_store::outbox::OutboxEntry;
use ez_store::{RecordKind, Store, StoreError, api_keys, bindings, child_keys, models, namespaces, provider_groups};

use crate::recorded::Recorded;
use crate::snapshot::Reader;
use crate::write::NO_RECORD;
use crate::{Control, ControlError, features};

/// Snapshot keys that are published at once at most: as many as readers follow without reading everything again.
const MAX_CHANGES: usize = MAX_NAMED;

/// Outbox entries on their way to changes. One entry may touch more than can be published at once, and many may touch
/// the same: each key is read once, and what was read comes in parts, in the order of the entries.
pub(crate) struct Batch<'a> {
    entries: std::slice::Iter<'a, OutboxEntry>,
    touching: Touching<'a>,
    reader: Reader<'a>,
    current: Option<Current<'a>>,
    seen: HashSet<SnapshotKey>,
}

/// What can be published at once.
#[derive(Default)]
pub(crate) struct Part {
    /// The present state of what entries touch.
    pub(crate) changes: Vec<SnapshotChange>,
    /// The catalogue that the models among them were made with; none where they have nothing to do with models.
    pub(crate) models: Option<ModelsOrigin>,
    /// Entries that are done with these changes and those of the parts before.
    pub(crate) done: Vec<i64>,
    /// Entries with a record that cannot be read; they must not hold up the others.
    pub(crate) unreadable: Vec<(OutboxEntry, StoreError)>,
}

/// The entry that is being read.
struct Current<'a> {
    entry: &'a OutboxEntry,
    keys: btree_set::IntoIter<SnapshotKey>,
    failure: Option<StoreError>,
}

/// Which snapshot keys entries touch: those that a record stands under now, and those that it left. What many entries
/// share is listed for the first of them alone.
pub(crate) struct Touching<'a> {
    store: &'a Store,
    namespaces: HashSet<i64>,
    groups: HashSet<i64>,
}

/// What an entry touches.
#[derive(Default)]
pub(crate) struct Touched {
    /// The keys.
    pub(crate) keys: BTreeSet<SnapshotKey>,
    /// Whole models among them that were read already.
    bindings: Vec<Binding>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(control: &'a Control, entries: &'a [OutboxEntry]) -> Self {
        Self {
            entries: entries.iter(),
            touching: Touching::new(control.store()),
            reader: Reader::new(control),
            current: None,
            seen: HashSet::new(),
        }
    }

    /// Reads on until there is as much as can be published at once; `None` at the end. Errors: only what concerns all
    /// entries.
    pub(crate) async fn next_part(&mut self) -> Result<Option<Part>, ControlError> {
        let mut part = Part::default();
        while part.changes.len() < MAX_CHANGES {
            let Some(mut current) = self.current.take() else {
                let Some(entry) = self.entries.next() else { break };
                match self.touched(entry).await {
                    Ok(Touched { keys, bindings }) => {
                        self.reader.give_bindings(bindings);
                        self.current = Some(Current { entry, keys: keys.into_iter(), failure: None });
                    }
                    Err(error @ StoreError::Unavailable(_)) => return Err(error.into()),
                    Err(error) => part.unreadable.push((entry.clone(), error)),
                }
                continue;
            };
            match current.keys.next() {
                Some(key) => {
                    self.read(key, &mut current, &mut part).await?;
                    self.current = Some(current);
                }
                None => match current.failure {
                    None => part.done.push(current.entry.id),
                    Some(failure) => part.unreadable.push((current.entry.clone(), failure)),
                },
            }
        }
        part.models = self.reader.models_origin().cloned();
        let is_end = part.changes.is_empty() && part.done.is_empty() && part.unreadable.is_empty();
        Ok((!is_end).then_some(part))
    }

    async fn touched(&mut self, entry: &OutboxEntry) -> Result<Touched, StoreError> {
        if entry.kind == RecordKind::Model && entry.record_id == NO_RECORD {
            // Another catalogue is accounted for even where no model is made with it.
            self.reader.read_catalogue().await?;
        }
        self.touching.touched(entry).await
    }

    async fn read(&mut self, key: SnapshotKey, current: &mut Current<'_>, part: &mut Part) -> Result<(), StoreError> {
        if self.seen.contains(&key) {
            return Ok(());
        }
        match self.reader.change(&key).await {
            Ok(change) => {
                part.changes.push(change);
                self.seen.insert(key);
            }
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            // The entry's other keys are published all the same.
            Err(error) => current.failure = Some(error),
        }
        Ok(())
    }
}

impl<'a> Touching<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, namespaces: HashSet::new(), groups: HashSet::new() }
    }

    /// What an entry touches, except what entries before it are known to touch.
    pub(crate) async fn touched(&mut self, entry: &OutboxEntry) -> Result<Touched, StoreError> {
        let (store, id) = (self.store, entry.record_id);
        let mut touched = Touched { keys: left(entry), bindings: Vec::new() };
        match entry.kind {
            RecordKind::Master => {
                touched.keys.insert(SnapshotKey::Master(id));
            }
            RecordKind::Key => {
                touched.keys.extend(child_keys::get(store, id).await?.iter().flat_map(Recorded::snapshot_keys));
            }
            RecordKind::Namespace if !self.namespaces.contains(&id) => {
                if let Some(namespace) = namespaces::get(store, id).await? {
                    touched.add_bindings(bindings::list_by_namespace(store, &namespace.name).await?);
                }
                self.namespaces.insert(id);
            }
            RecordKind::ProviderGroup => {
                let api_keys = api_keys::list_by_group(store, id).await?;
                touched.keys.extend(api_keys.iter().map(|api_key| SnapshotKey::Provider(api_key.id)));
                self.add_models_of_group(id, &mut touched).await?;
            }
            RecordKind::ApiKey if id != NO_RECORD => {
                touched.keys.insert(SnapshotKey::Provider(id));
                if let Some(api_key) = api_keys::get(store, id).await? {
                    self.add_models_of_group(api_key.group_id, &mut touched).await?;
                }
            }
            RecordKind::Binding => {
                touched.keys.extend(bindings::get(store, id).await?.iter().flat_map(Recorded::snapshot_keys));
            }
            // The catalogue: any model may have been found there.
            RecordKind::Model if id == NO_RECORD => {
                touched.add_models(bindings::list_readable(store).await?.records);
            }
            RecordKind::Model => {
                let mut names: BTreeSet<String> = std::mem::take(&mut touched.keys)
                    .into_iter()
                    .filter_map(|key| if let SnapshotKey::Model(name) = key { Some(name) } else { None })
                    .collect();
                names.extend(models::get(store, id).await?.map(|model| model.name));
                touched.add_models(self.bindings_that_ask_for(&names).await?);
            }
            RecordKind::Feature => touched.keys.extend(features::keys()),
            // The namespace was listed for an entry before, the entry stands for several API keys and names their places,
            // or such records have no place in the snapshot.
            RecordKind::Namespace
            | RecordKind::ApiKey
            | RecordKind::Setting
            | RecordKind::Alert
            | RecordKind::Webhook
            | RecordKind::Log
            | RecordKind::Session
            | RecordKind::Job => {}
        }
        Ok(touched)
    }

    /// All candidates of the public models that may look up one of these names: it is theirs, or an upstream's.
    async fn bindings_that_ask_for(&self, names: &BTreeSet<String>) -> Result<Vec<Binding>, StoreError> {
        let mut found: BTreeMap<i64, Binding> = BTreeMap::new();
        let mut groups: BTreeSet<i64> = BTreeSet::new();
        for name in names {
            let of_name = bindings::list_by_public_model(self.store, name).await?;
            found.extend(of_name.into_iter().map(|binding| (binding.id, binding)));
            groups.extend(provider_groups::list_by_model(self.store, name).await?.iter().map(|group| group.id));
        }
        for group in groups {
            let of_group = bindings::list_of_models_of_group(self.store, group).await?;
            found.extend(of_group.into_iter().map(|binding| (binding.id, binding)));
        }
        Ok(found.into_values().collect())
    }

    async fn add_models_of_group(&mut self, group_id: i64, touched: &mut Touched) -> Result<(), StoreError> {
        if !self.groups.contains(&group_id) {
            touched.add_bindings(bindings::list_of_models_of_group(self.store, group_id).await?);
            self.groups.insert(group_id);
        }
        Ok(())
    }
}

impl Touched {
    fn add_bindings(&mut self, bindings: Vec<Binding>) {
        self.keys.extend(bindings.iter().flat_map(Recorded::snapshot_keys));
        self.bindings = bindings;
    }

    /// What models can do changes, and nothing of how they are routed.
    fn add_models(&mut self, bindings: Vec<Binding>) {
        let keys = bindings.iter().flat_map(Recorded::snapshot_keys);
        self.keys.extend(keys.filter(|key| matches!(key, SnapshotKey::Model(_))));
        self.bindings = bindings;
    }
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
