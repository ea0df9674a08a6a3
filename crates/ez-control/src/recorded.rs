//! How each kind of record shows in the audit, with its secrets masked, and under which keys it stands in the snapshot.

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use ez_contract::model_ref::binding_key;
use ez_contract::snapshot::SnapshotKey;
use ez_store::RecordKind;
use ez_store::api_keys::ApiKey;
use ez_store::bindings::Binding;
use ez_store::child_keys::ChildKey;
use ez_store::masters::Master;
use ez_store::models::Model;
use ez_store::namespaces::Namespace;
use ez_store::provider_groups::ProviderGroup;
use serde_json::{Map, Value as Json, json};

use crate::catalogue::ModelFacts;
use crate::child_keys::IssuedChildKey;
use crate::masters::CreatedMaster;

/// A record whose changes are audited and published.
pub trait Recorded {
    /// Its kind.
    const KIND: RecordKind;

    /// Its id.
    fn id(&self) -> i64;

    /// When it last changed.
    fn updated_at(&self) -> DateTime<Utc>;

    /// The record for the audit and for its tag: every field that is configured, no counter and no live figure. A masked
    /// secret shows a mark that changes with it.
    fn audited(&self) -> Json;

    /// The keys that are the record's own in the snapshot, for kinds of which many change at once or whose id alone does
    /// not tell.
    fn snapshot_keys(&self) -> Vec<SnapshotKey> {
        Vec::new()
    }
}

/// An answer of a rule that is about a record: the record itself, or the record and a secret that was just made.
pub trait HasRecord {
    /// Its kind.
    type Record: Recorded;

    /// The record.
    fn record(&self) -> &Self::Record;
}

impl<R: Recorded> HasRecord for R {
    type Record = R;

    fn record(&self) -> &R {
        self
    }
}

impl HasRecord for CreatedMaster {
    type Record = Master;

    fn record(&self) -> &Master {
        &self.master
    }
}

impl HasRecord for IssuedChildKey {
    type Record = ChildKey;

    fn record(&self) -> &ChildKey {
        &self.key
    }
}

impl Recorded for Master {
    const KIND: RecordKind = RecordKind::Master;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    fn audited(&self) -> Json {
        json!({
            "name": self.name, "group": self.group, "prefix": self.prefix, "status": self.status,
            "default_namespace": self.default_namespace, "namespaces": self.namespaces, "epoch": self.epoch,
            "max_child_keys": self.max_child_keys, "global_qps": self.global_qps,
            "rpm": self.rpm, "tpm": self.tpm, "rpd": self.rpd, "tpd": self.tpd,
            "max_concurrency": self.max_concurrency, "monthly_budget": self.monthly_budget,
        })
    }
}

impl Recorded for ChildKey {
    const KIND: RecordKind = RecordKind::Key;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    fn audited(&self) -> Json {
        json!({
            "master_id": self.master_id, "name": self.name, "prefix": self.prefix, "group": self.group,
            "scopes": self.scopes, "default_namespace": self.default_namespace, "namespaces": self.namespaces,
            "status": self.status, "issued_at_epoch": self.issued_at_epoch, "issued_by": self.issued_by,
            "expires_at": self.expires_at, "allow_ips": self.allow_ips, "deny_ips": self.deny_ips,
            "model_limits_enabled": self.model_limits_enabled, "model_limits": self.model_limits,
            "quota_limit": self.quota_limit, "quota_reset": self.quota_reset,
            "global_qps": self.global_qps,
            "rpm": self.rpm, "tpm": self.tpm, "rpd": self.rpd, "tpd": self.tpd,
            "max_concurrency": self.max_concurrency, "quota_reset_at": self.quota_reset_at,
            "previous_expires_at": self.previous_expires_at,
        })
    }

    fn snapshot_keys(&self) -> Vec<SnapshotKey> {
        let digests = [Some(self.token_digest), self.previous_digest];
        digests.into_iter().flatten().map(SnapshotKey::Token).collect()
    }
}

impl Recorded for Namespace {
    const KIND: RecordKind = RecordKind::Namespace;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    fn audited(&self) -> Json {
        json!({ "name": self.name, "description": self.description, "status": self.status })
    }
}

impl Recorded for ProviderGroup {
    const KIND: RecordKind = RecordKind::ProviderGroup;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    fn audited(&self) -> Json {
        json!({
            "name": self.name, "type": self.provider_type, "protocols": self.protocols,
            "route_group": self.route_group, "base_url": self.base_url, "google_project": self.google_project,
            "google_location": self.google_location, "api_version": self.api_version, "models": self.models,
            "status": self.status,
        })
    }
}

impl Recorded for ApiKey {
    const KIND: RecordKind = RecordKind::ApiKey;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    fn audited(&self) -> Json {
        json!({
            "group_id": self.group_id, "name": self.name, "api_key": masked(self.api_key.as_deref()),
            "access_token": masked(self.access_token.as_deref()),
            "refresh_token": masked(self.refresh_token.as_deref()), "expires_at": self.expires_at,
            "account_id": self.account_id, "project_id": self.project_id, "weight": self.weight,
            "max_concurrency": self.max_concurrency, "status": self.status, "auto_ban": self.auto_ban,
            "ban_reason": self.ban_reason, "ban_until": self.ban_until,
        })
    }

    fn snapshot_keys(&self) -> Vec<SnapshotKey> {
        vec![SnapshotKey::Provider(self.id)]
    }
}

impl Recorded for Binding {
    const KIND: RecordKind = RecordKind::Binding;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    fn audited(&self) -> Json {
        json!({
            "namespace": self.namespace, "public_model": self.public_model, "group_id": self.group_id,
            "weight": self.weight, "priority": self.priority, "selector_type": self.selector_type,
            "selector_value": self.selector_value, "status": self.status, "on_client_gone": self.on_client_gone,
        })
    }

    fn snapshot_keys(&self) -> Vec<SnapshotKey> {
        let key = binding_key(&self.namespace, &self.public_model);
        vec![SnapshotKey::Binding(key.clone()), SnapshotKey::Model(key)]
    }
}

impl Recorded for Model {
    const KIND: RecordKind = RecordKind::Model;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    fn audited(&self) -> Json {
        let prices: Map<String, Json> = ModelFacts::from(self)
            .prices
            .named()
            .into_iter()
            .map(|(name, price)| (name.to_owned(), price.map(|price| price.to_string()).into()))
            .collect();
        json!({
            "name": self.name, "kind": self.kind, "context_window": self.context_window,
            "max_output_tokens": self.max_output_tokens, "prices": prices,
            "supports_vision": self.supports_vision, "supports_functions": self.supports_functions,
            "supports_tool_choice": self.supports_tool_choice, "supports_fim": self.supports_fim,
            "supports_stream": self.supports_stream, "capabilities": self.capabilities,
        })
    }

    /// Not a place in the snapshot, but the name that models there ask for: the publisher finds out which those are.
    fn snapshot_keys(&self) -> Vec<SnapshotKey> {
        vec![SnapshotKey::Model(self.name.clone())]
    }
}

/// Shows that there is a secret, and whether it is the same as elsewhere. The mark is of the envelope, whose nonce is
/// random, so it tells nothing of the secret.
pub(crate) fn masked(envelope: Option<&str>) -> Option<String> {
    envelope.map(|envelope| format!("***{:.8}", TokenDigest::of(envelope).to_string()))
}
