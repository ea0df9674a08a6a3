//! Entries to publish, made from the contract's golden files.

use std::collections::BTreeMap;

use chrono::Utc;
use ez_contract::TokenDigest;
use ez_contract::snapshot::{
    BindingSnapshot, MasterSnapshot, ModelSnapshot, ProviderSnapshot, SnapshotChange, SnapshotEntry, SnapshotKey,
    TokenSnapshot,
};
use ez_state::{Publication, Scope, SharedState};

pub(crate) const PROVIDER: &str = include_str!("../../../ez-contract/goldens/provider.json");
pub(crate) const PROVIDER_FULL: &str = include_str!("../../../ez-contract/goldens/provider_full.json");
pub(crate) const BINDING: &str = include_str!("../../../ez-contract/goldens/binding.json");
pub(crate) const MODEL: &str = include_str!("../../../ez-contract/goldens/model.json");
pub(crate) const MODELS_META: &str = include_str!("../../../ez-contract/goldens/models_meta.json");
pub(crate) const TOKEN: &str = include_str!("../../../ez-contract/goldens/token.json");
pub(crate) const TOKEN_BARE: &str = include_str!("../../../ez-contract/goldens/token_bare.json");
pub(crate) const MASTER: &str = include_str!("../../../ez-contract/goldens/master.json");
pub(crate) const EVENT: &str = include_str!("../../../ez-contract/goldens/config_event.json");

/// The goldens as entries, in the order of their keys.
pub(crate) fn goldens() -> Vec<SnapshotEntry> {
    vec![
        SnapshotEntry::Provider(serde_json::from_str(PROVIDER).unwrap()),
        SnapshotEntry::Provider(serde_json::from_str(PROVIDER_FULL).unwrap()),
        SnapshotEntry::Binding(serde_json::from_str(BINDING).unwrap()),
        SnapshotEntry::Model(serde_json::from_str(MODEL).unwrap()),
        SnapshotEntry::Token(TokenDigest::of("bare"), serde_json::from_str(TOKEN_BARE).unwrap()),
        SnapshotEntry::Token(TokenDigest::of("abc"), serde_json::from_str(TOKEN).unwrap()),
        SnapshotEntry::Master(serde_json::from_str(MASTER).unwrap()),
        feature("log_request_body_enabled", true),
    ]
}

pub(crate) fn provider(id: i64, weight: u32) -> SnapshotEntry {
    let golden: ProviderSnapshot = serde_json::from_str(PROVIDER).unwrap();
    SnapshotEntry::Provider(ProviderSnapshot { id, weight: Some(weight), ..golden })
}

pub(crate) fn binding(public_model: &str, updated_at: i64) -> SnapshotEntry {
    let golden: BindingSnapshot = serde_json::from_str(BINDING).unwrap();
    SnapshotEntry::Binding(BindingSnapshot { public_model: public_model.to_owned(), updated_at, ..golden })
}

pub(crate) fn model(name: &str, context_window: u64) -> SnapshotEntry {
    let golden: ModelSnapshot = serde_json::from_str(MODEL).unwrap();
    SnapshotEntry::Model(ModelSnapshot { name: name.to_owned(), context_window, ..golden })
}

pub(crate) fn token(clear: &str, id: i64) -> SnapshotEntry {
    let golden: TokenSnapshot = serde_json::from_str(TOKEN).unwrap();
    SnapshotEntry::Token(TokenDigest::of(clear), TokenSnapshot { id, ..golden })
}

pub(crate) fn master(id: i64, epoch: i64) -> SnapshotEntry {
    let golden: MasterSnapshot = serde_json::from_str(MASTER).unwrap();
    SnapshotEntry::Master(MasterSnapshot { id, epoch, ..golden })
}

pub(crate) fn feature(flag: &str, value: bool) -> SnapshotEntry {
    SnapshotEntry::Feature(flag.to_owned(), value)
}

/// Publishes entries as changes.
pub(crate) async fn publish(state: &SharedState, entries: impl IntoIterator<Item = SnapshotEntry>) -> u64 {
    publish_scoped(state, Scope::Changes, entries.into_iter().map(SnapshotChange::Put).collect()).await
}

/// Publishes entries as the whole snapshot.
pub(crate) async fn publish_everything(state: &SharedState, entries: impl IntoIterator<Item = SnapshotEntry>) -> u64 {
    publish_scoped(state, Scope::Everything, entries.into_iter().map(SnapshotChange::Put).collect()).await
}

pub(crate) async fn publish_scoped(state: &SharedState, scope: Scope, changes: Vec<SnapshotChange>) -> u64 {
    state.publish("cp-1", Utc::now(), Publication { changes, scope, base: None }).await.unwrap()
}

/// Entries by key, as a reader would keep them.
pub(crate) type Held = BTreeMap<SnapshotKey, SnapshotEntry>;

pub(crate) fn held(entries: impl IntoIterator<Item = SnapshotEntry>) -> Held {
    entries.into_iter().map(|entry| (entry.key(), entry)).collect()
}

pub(crate) fn apply(held: &mut Held, changes: Vec<SnapshotChange>) {
    for change in changes {
        match change {
            SnapshotChange::Put(entry) => held.insert(entry.key(), entry),
            SnapshotChange::Remove(key) => held.remove(&key),
        };
    }
}
