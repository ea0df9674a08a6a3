//! The routing snapshot: everything that a call looks up, in memory and immutable.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use ez_contract::request_body::KEEPS_REQUEST_BODIES;
use ez_contract::secret::{SecretKey, SecretPlace};
use ez_contract::snapshot::{
    BindingSnapshot, MasterSnapshot, ModelSnapshot, ProviderSnapshot, SnapshotChange, SnapshotEntry, SnapshotKey,
    TokenSnapshot,
};
use ez_contract::status::ApiKeyStatus;
use ez_contract::{Protocol, TokenDigest};
use ez_protocol::Api;
use ez_protocol::translate::counterparts;
use serde::Serialize;

use super::sharded::ShardedMap;
use crate::capabilities::SaidCapabilities;
use crate::health::KeyHealth;
use crate::plan::Asked;
use crate::pricing::Prices;
use crate::upstream::{UpstreamTarget, offers, protocols_of};

/// Where the current snapshot stands; a call takes one `Arc` of it and uses nothing else.
pub type SnapshotCell = ArcSwap<RoutingSnapshot>;

/// The routing state at one version.
#[derive(Debug, Clone)]
pub struct RoutingSnapshot {
    version: u64,
    tokens: ShardedMap<TokenDigest, Arc<TokenSnapshot>>,
    masters: ShardedMap<i64, Arc<MasterSnapshot>>,
    bindings: ShardedMap<String, Arc<BindingSnapshot>>,
    upstreams: ShardedMap<i64, Arc<Upstream>>,
    models: ShardedMap<String, Arc<Model>>,
    features: HashMap<String, bool>,
    /// One of the features, which every call asks for.
    keeps_request_bodies: bool,
    /// Bindings per namespace: a namespace that no binding names is not known here.
    namespaces: HashMap<String, usize>,
}

/// One upstream credential, ready to call with.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) snapshot: ProviderSnapshot,
    /// Where and how to call; `None` where the snapshot's URL or secret cannot be used.
    pub(crate) target: Option<UpstreamTarget>,
    /// Its health, once a call asked the book for it.
    pub(crate) health: OnceLock<Arc<KeyHealth>>,
}

/// What is known of a `namespace.public_model`.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) snapshot: ModelSnapshot,
    /// What its tokens cost, where that is known.
    pub(crate) prices: Option<Prices>,
    /// What its upstream models take.
    pub(crate) capabilities: SaidCapabilities,
}

/// What stands under a key.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'s> {
    Token(&'s TokenSnapshot),
    Master(&'s MasterSnapshot),
    Binding(&'s BindingSnapshot),
    Provider(&'s ProviderSnapshot),
    Model(&'s ModelSnapshot),
    Feature(bool),
}

impl Upstream {
    /// Whether calls may go there at all.
    pub(crate) fn is_usable(&self) -> bool {
        self.snapshot.status == ApiKeyStatus::Active && self.target.is_some()
    }

    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.snapshot.weight.unwrap_or(1))
    }

    /// Whether it speaks a protocol that a call can be made in, as it came or translated.
    pub(crate) fn speaks(&self, asked: Asked) -> bool {
        let protocols = protocols_of(&self.snapshot);
        protocols.contains(&asked.api.protocol())
            || protocols.iter().any(|protocol| !counterparts(asked.api, asked.stream, *protocol).is_empty())
    }

    /// The endpoint that a call is made at: the client's own where it has that, so that nothing need be translated, else
    /// the first counterpart in its best protocol.
    pub(crate) fn endpoint_for(&self, asked: Asked) -> Option<Api> {
        let protocols = protocols_of(&self.snapshot);
        let offers = |api: &Api| offers(self.snapshot.provider_type, *api);
        let own = Some(asked.api).filter(|api| protocols.contains(&api.protocol()) && offers(api));
        own.or_else(|| {
            let of_protocol =
                |protocol: &Protocol| counterparts(asked.api, asked.stream, *protocol).iter().find(|api| offers(api));
            protocols.iter().filter(|protocol| **protocol != asked.api.protocol()).find_map(of_protocol).copied()
        })
    }
}

impl RoutingSnapshot {
    /// A snapshot without anything in it, from before the first publication.
    pub fn empty() -> Self {
        Self {
            version: 0,
            tokens: ShardedMap::new(),
            masters: ShardedMap::new(),
            bindings: ShardedMap::new(),
            upstreams: ShardedMap::new(),
            models: ShardedMap::new(),
            features: HashMap::new(),
            keeps_request_bodies: false,
            namespaces: HashMap::new(),
        }
    }

    /// A snapshot of these entries.
    pub fn from_entries(version: u64, entries: Vec<SnapshotEntry>, secret_key: &SecretKey) -> Self {
        let mut snapshot = Self { version, ..Self::empty() };
        for entry in entries {
            snapshot.put(entry, secret_key);
        }
        snapshot
    }

    /// This snapshot with some entries changed.
    pub fn with_changes(&self, version: u64, changes: Vec<SnapshotChange>, secret_key: &SecretKey) -> Self {
        let mut next = Self { version, ..self.clone() };
        for change in changes {
            match change {
                SnapshotChange::Put(entry) => next.put(entry, secret_key),
                SnapshotChange::Remove(key) => next.remove(&key),
            }
        }
        next
    }

    /// The version that was published.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn token(&self, digest: &TokenDigest) -> Option<&Arc<TokenSnapshot>> {
        self.tokens.get(digest)
    }

    pub(crate) fn master(&self, id: i64) -> Option<&Arc<MasterSnapshot>> {
        self.masters.get(&id)
    }

    pub(crate) fn binding(&self, key: &str) -> Option<&Arc<BindingSnapshot>> {
        self.bindings.get(key)
    }

    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Arc<BindingSnapshot>> {
        self.bindings.values()
    }

    pub(crate) fn upstream(&self, api_key_id: i64) -> Option<&Arc<Upstream>> {
        self.upstreams.get(&api_key_id)
    }

    /// What is known of a model, by `namespace.public_model`.
    pub(crate) fn model(&self, key: &str) -> Option<&Arc<Model>> {
        self.models.get(key)
    }

    /// Whether the request bodies of calls are kept with their usage records.
    pub(crate) fn keeps_request_bodies(&self) -> bool {
        self.keeps_request_bodies
    }

    pub(crate) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains_key(name)
    }

    /// Every entry with its key, as it was published: secrets are still sealed.
    pub(super) fn contents(&self) -> impl Iterator<Item = (SnapshotKey, Content<'_>)> {
        let tokens = self.tokens.iter().map(|(digest, token)| (SnapshotKey::Token(*digest), Content::Token(token)));
        let masters = self.masters.iter().map(|(id, master)| (SnapshotKey::Master(*id), Content::Master(master)));
        let bindings =
            self.bindings.iter().map(|(key, binding)| (SnapshotKey::Binding(key.clone()), Content::Binding(binding)));
        let providers = self
            .upstreams
            .iter()
            .map(|(id, upstream)| (SnapshotKey::Provider(*id), Content::Provider(&upstream.snapshot)));
        let models =
            self.models.iter().map(|(name, model)| (SnapshotKey::Model(name.clone()), Content::Model(&model.snapshot)));
        let features =
            self.features.iter().map(|(name, is_on)| (SnapshotKey::Feature(name.clone()), Content::Feature(*is_on)));
        tokens.chain(masters).chain(bindings).chain(providers).chain(models).chain(features)
    }

    fn put(&mut self, entry: SnapshotEntry, secret_key: &SecretKey) {
        let key = entry.key();
        match (entry, key) {
            (SnapshotEntry::Token(digest, token), _) => {
                self.tokens.insert(digest, Arc::new(token));
            }
            (SnapshotEntry::Master(master), _) => {
                self.masters.insert(master.id, Arc::new(master));
            }
            (SnapshotEntry::Binding(binding), SnapshotKey::Binding(key)) => {
                let namespace = binding.namespace.clone();
                if self.bindings.insert(key, Arc::new(binding)).is_none() {
                    *self.namespaces.entry(namespace).or_default() += 1;
                }
            }
            (SnapshotEntry::Provider(provider), _) => {
                let previous = self.upstreams.get(&provider.id);
                let upstream = open_upstream(provider, secret_key, previous.map(Arc::as_ref));
                self.upstreams.insert(upstream.snapshot.id, Arc::new(upstream));
            }
            (SnapshotEntry::Model(model), _) => {
                let (prices, capabilities) = (Prices::of(&model), SaidCapabilities::of(&model));
                self.models.insert(model.name.clone(), Arc::new(Model { snapshot: model, prices, capabilities }));
            }
            (SnapshotEntry::Feature(name, is_on), _) => {
                if name == KEEPS_REQUEST_BODIES {
                    self.keeps_request_bodies = is_on;
                }
                self.features.insert(name, is_on);
            }
            // Its key is that of a binding.
            (SnapshotEntry::Binding(_), _) => {}
        }
    }

    fn remove(&mut self, key: &SnapshotKey) {
        match key {
            SnapshotKey::Token(digest) => drop(self.tokens.remove(digest)),
            SnapshotKey::Master(id) => drop(self.masters.remove(id)),
            SnapshotKey::Provider(id) => drop(self.upstreams.remove(id)),
            SnapshotKey::Binding(key) => {
                let Some(binding) = self.bindings.remove(key.as_str()) else { return };
                if let Some(count) = self.namespaces.get_mut(&binding.namespace) {
                    *count -= 1;
                    if *count == 0 {
                        self.namespaces.remove(&binding.namespace);
                    }
                }
            }
            SnapshotKey::Model(name) => drop(self.models.remove(name.as_str())),
            SnapshotKey::Feature(name) => {
                self.keeps_request_bodies &= name != KEEPS_REQUEST_BODIES;
                self.features.remove(name);
            }
        }
    }
}

/// Decrypts an upstream's secret and prepares how to call it. One that cannot be used stays in the snapshot, unusable,
/// so that calls to it fail over instead of vanishing.
fn open_upstream(snapshot: ProviderSnapshot, secret_key: &SecretKey, previous: Option<&Upstream>) -> Upstream {
    let target = match open_secret(&snapshot, secret_key) {
        Ok(secret) => UpstreamTarget::new(&snapshot, &secret).map_err(|e| e.to_string()),
        Err(reason) => Err(reason),
    };
    let mut target = target
        .inspect_err(|reason| {
            tracing::error!(api_key_id = snapshot.id, name = snapshot.name, reason, "API key cannot be used")
        })
        .ok();
    let kept = previous.filter(|previous| previous.snapshot.api_key == snapshot.api_key);
    if let (Some(target), Some(kept)) = (&mut target, kept.and_then(|previous| previous.target.as_ref())) {
        target.keep_tokens_of(kept);
    }
    Upstream { snapshot, target, health: OnceLock::new() }
}

fn open_secret(snapshot: &ProviderSnapshot, secret_key: &SecretKey) -> Result<String, String> {
    let uuid = snapshot.uuid.ok_or("the snapshot carries no uuid to decrypt its secret with")?;
    secret_key.open(&snapshot.api_key, SecretPlace::api_key(uuid, "api_key")).map_err(|e| e.to_string())
}

/// An upstream as a snapshot has it, for the tests of those who choose among them.
#[cfg(test)]
pub(crate) fn test_upstream(id: i64) -> Arc<Upstream> {
    test_upstream_with(id, |_| ())
}

#[cfg(test)]
pub(crate) fn test_upstream_with(id: i64, change: impl FnOnce(&mut ProviderSnapshot)) -> Arc<Upstream> {
    let golden = include_str!("../../../ez-contract/goldens/provider.json");
    let mut snapshot: ProviderSnapshot = serde_json::from_str(golden).unwrap();
    snapshot.id = id;
    change(&mut snapshot);
    Arc::new(Upstream { snapshot, target: None, health: OnceLock::new() })
}
