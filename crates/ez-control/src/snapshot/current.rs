//! Reading the records that a snapshot is made of, as they stand now: entry by entry, or all of it.

use std::collections::{BTreeMap, HashMap};

use ez_contract::model_ref::binding_key;
use ez_contract::models::ModelsOrigin;
use ez_contract::snapshot::{BindingSnapshot, SnapshotChange, SnapshotEntry, SnapshotKey};
use ez_store::bindings::Binding;
use ez_store::namespaces::Namespace;
use ez_store::{
    Readable, Store, StoreError, api_keys, bindings, child_keys, masters, namespaces, provider_groups, usage,
};

use super::known::KnownModels;
use super::{
    Supply, compile_binding, master_snapshot, model_snapshot, provider_snapshot, token_digests, token_snapshot,
};
use crate::error::chain;
use crate::{Control, features};

/// The whole snapshot as it should stand, by key.
pub(crate) type Image = BTreeMap<SnapshotKey, SnapshotEntry>;

/// What could be read of the whole snapshot.
pub(crate) struct Reading {
    pub(crate) image: Image,
    /// The catalogue that its models are made with.
    pub(crate) models: ModelsOrigin,
    /// Records that are missing in it because they cannot be read.
    pub(crate) unreadable: usize,
}

/// Reads what should stand under single keys. What many entries share is read once, so a reader is for one batch.
pub(crate) struct Reader<'a> {
    control: &'a Control,
    store: &'a Store,
    supplies: BTreeMap<i64, Supply>,
    namespaces: HashMap<String, Option<Namespace>>,
    /// Bindings by `namespace.public_model` that were read together.
    bindings: HashMap<String, Vec<Binding>>,
    known: Option<KnownModels>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(control: &'a Control) -> Self {
        Self {
            control,
            store: control.store(),
            supplies: BTreeMap::new(),
            namespaces: HashMap::new(),
            bindings: HashMap::new(),
            known: None,
        }
    }

    /// Gives the bindings of whole models, in place of those given before: what changes are asked for next need not be
    /// read one by one.
    pub(crate) fn give_bindings(&mut self, bindings: Vec<Binding>) {
        self.bindings.clear();
        for binding in bindings {
            let key = binding_key(&binding.namespace, &binding.public_model);
            self.bindings.entry(key).or_default().push(binding);
        }
    }

    /// Reads which catalogue counts, though no model may be asked for.
    pub(crate) async fn read_catalogue(&mut self) -> Result<(), StoreError> {
        self.known().await?;
        Ok(())
    }

    /// The catalogue that models were made with; none where none was asked for yet.
    pub(crate) fn models_origin(&self) -> Option<&ModelsOrigin> {
        self.known.as_ref().map(KnownModels::origin)
    }

    /// What should stand under a key.
    pub(crate) async fn change(&mut self, key: &SnapshotKey) -> Result<SnapshotChange, StoreError> {
        let entry = match key {
            SnapshotKey::Provider(id) => self.provider(*id).await?,
            SnapshotKey::Binding(name) => self.binding(name).await?.map(SnapshotEntry::Binding),
            SnapshotKey::Master(id) => match masters::get(self.store, *id).await? {
                Some(master) => {
                    let spend = usage::spend_of(self.store, *id).await?;
                    Some(SnapshotEntry::Master(master_snapshot(&master, spend)))
                }
                None => None,
            },
            SnapshotKey::Token(digest) => {
                let found = child_keys::get_by_digest(self.store, digest).await?;
                let counts = found.filter(|key| token_digests(key).contains(digest));
                counts.map(|key| SnapshotEntry::Token(*digest, token_snapshot(&key, digest)))
            }
            SnapshotKey::Model(name) => self.model(name).await?,
            SnapshotKey::Feature(flag) => {
                let features = features::standing(self.store).await?;
                features.0.get(flag).map(|value| SnapshotEntry::Feature(flag.clone(), *value))
            }
        };
        Ok(entry.map_or_else(|| SnapshotChange::Remove(key.clone()), SnapshotChange::Put))
    }

    async fn provider(&mut self, id: i64) -> Result<Option<SnapshotEntry>, StoreError> {
        let Some(api_key) = api_keys::get(self.store, id).await? else { return Ok(None) };
        self.read_supply(api_key.group_id).await?;
        let supply = self.supplies.get(&api_key.group_id);
        Ok(supply.map(|supply| SnapshotEntry::Provider(provider_snapshot(&supply.group, &api_key))))
    }

    async fn binding(&mut self, name: &str) -> Result<Option<BindingSnapshot>, StoreError> {
        // Namespaces hold no dot.
        let Some((namespace, public_model)) = name.split_once('.') else { return Ok(None) };
        if !self.bindings.contains_key(name) {
            let read = bindings::list_by_model(self.store, namespace, public_model).await?;
            self.bindings.insert(name.to_owned(), read);
        }
        let bindings = self.bindings.get(name).cloned().unwrap_or_default();
        for binding in &bindings {
            self.read_supply(binding.group_id).await?;
        }
        if !self.namespaces.contains_key(namespace) {
            let found = namespaces::get_by_name(self.store, namespace).await?;
            self.namespaces.insert(namespace.to_owned(), found);
        }
        let Some(Some(namespace)) = self.namespaces.get(namespace) else { return Ok(None) };
        let compiled = compile_binding(namespace, public_model, &bindings, &self.supplies);
        Ok(Some(compiled).filter(|_| !bindings.is_empty()))
    }

    async fn model(&mut self, name: &str) -> Result<Option<SnapshotEntry>, StoreError> {
        let Some(binding) = self.binding(name).await? else { return Ok(None) };
        let known = self.known().await?;
        let compiled = model_snapshot(&binding, |upstream| known.find(upstream, &binding.public_model));
        Ok(compiled.map(SnapshotEntry::Model))
    }

    /// What is known of models: read once, so that all of a batch are made with the same.
    async fn known(&mut self) -> Result<&KnownModels, StoreError> {
        Ok(match &mut self.known {
            Some(known) => known,
            // A model that cannot be read is told of by the full comparison.
            unread => unread.insert(KnownModels::read(self.control).await?.0),
        })
    }

    async fn read_supply(&mut self, group_id: i64) -> Result<(), StoreError> {
        if !self.supplies.contains_key(&group_id)
            && let Some(group) = provider_groups::get(self.store, group_id).await?
        {
            let api_keys = api_keys::list_by_group(self.store, group_id).await?;
            self.supplies.insert(group_id, Supply { group, api_keys });
        }
        Ok(())
    }
}

/// Reads everything. What refers is read before what it refers to, so that a record made meanwhile is never half there.
/// A record that cannot be read is left out: one damaged row must not keep all the others from being served.
pub(crate) async fn read_image(control: &Control) -> Result<Reading, StoreError> {
    let store = control.store();
    let mut unreadable = 0;
    let bindings = kept(bindings::list_readable(store).await?, &mut unreadable);
    let api_keys = kept(api_keys::list_readable(store).await?, &mut unreadable);
    let groups = kept(provider_groups::list_readable(store).await?, &mut unreadable);
    let namespaces = kept(namespaces::list_readable(store).await?, &mut unreadable);
    let child_keys = kept(child_keys::list_readable(store).await?, &mut unreadable);
    let masters = kept(masters::list_readable(store).await?, &mut unreadable);
    let mut spend = usage::list_spend(store).await?;
    let (known, faults) = KnownModels::read(control).await?;
    kept(Readable { records: Vec::<()>::new(), faults }, &mut unreadable);
    let features = kept(features::readable(store).await?, &mut unreadable);

    let mut supplies: BTreeMap<i64, Supply> =
        groups.into_iter().map(|group| (group.id, Supply { group, api_keys: Vec::new() })).collect();
    for api_key in api_keys {
        if let Some(supply) = supplies.get_mut(&api_key.group_id) {
            supply.api_keys.push(api_key);
        }
    }
    let mut by_model: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for binding in bindings {
        by_model.entry(binding_key(&binding.namespace, &binding.public_model)).or_default().push(binding);
    }
    let namespaces: HashMap<&str, &Namespace> =
        namespaces.iter().map(|namespace| (namespace.name.as_str(), namespace)).collect();

    let providers = supplies.values().flat_map(|supply| {
        supply.api_keys.iter().map(|api_key| SnapshotEntry::Provider(provider_snapshot(&supply.group, api_key)))
    });
    let bindings = by_model.values().filter_map(|bindings| {
        let first = bindings.first()?;
        let namespace = namespaces.get(first.namespace.as_str())?;
        Some(compile_binding(namespace, &first.public_model, bindings, &supplies))
    });
    let bindings = bindings.flat_map(|binding| {
        let model = model_snapshot(&binding, |upstream| known.find(upstream, &binding.public_model));
        let model = model.map(SnapshotEntry::Model);
        model.into_iter().chain([SnapshotEntry::Binding(binding)])
    });
    let tokens = child_keys.iter().flat_map(|key| {
        token_digests(key).into_iter().map(|digest| SnapshotEntry::Token(digest, token_snapshot(key, &digest)))
    });
    let masters = masters.iter().map(|master| {
        let spend = spend.remove(&master.id).unwrap_or_default();
        SnapshotEntry::Master(master_snapshot(master, spend))
    });
    let features = features.into_iter().map(|(flag, value)| SnapshotEntry::Feature(flag, value));
    let entries = providers.chain(bindings).chain(tokens).chain(masters).chain(features);
    let image = entries.map(|entry| (entry.key(), entry)).collect();
    Ok(Reading { image, models: known.origin().clone(), unreadable })
}

/// The records that can be read. Tells of the others, and counts them.
fn kept<T>(readable: Readable<T>, unreadable: &mut usize) -> Vec<T> {
    for fault in &readable.faults {
        let (table, id) = match fault {
            StoreError::Corrupt { table, id, .. } => (*table, id.as_str()),
            _ => ("?", "?"),
        };
        tracing::error!(error = %chain(fault), table, id, "a record cannot be read and is left out of the snapshot");
    }
    *unreadable += readable.faults.len();
    readable.records
}
