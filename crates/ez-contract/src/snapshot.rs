//! Snapshot shapes: what the control plane publishes and the gateway routes from. Field names are fixed by the
//! contract; a golden file per shape lives in `goldens/`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::capability::CapabilityFields;
use crate::digest::TokenDigest;
use crate::provider::{Protocol, ProviderType};
use crate::selector::SelectorType;
use crate::status::{ApiKeyStatus, KeyStatus, RecordStatus, words};

/// One API key with what the gateway needs to call its upstream. `id` is the API key's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSnapshot {
    /// The API key's id.
    pub id: i64,
    /// `<group name>#<id>`.
    pub name: String,
    /// The provider group's type.
    #[serde(rename = "type")]
    pub provider_type: ProviderType,
    /// The provider group's base URL; empty means the type's default.
    pub base_url: String,
    /// The secret, as an envelope (`enc:v1:…`); empty for OAuth types.
    pub api_key: String,
    /// Google Cloud project, or empty.
    pub google_project: String,
    /// Google Cloud location, or empty.
    pub google_location: String,
    /// The provider group's id.
    pub group_id: i64,
    /// The provider group's `route_group`.
    pub group: String,
    /// Upstream models.
    pub models: Vec<String>,
    /// State of the API key; a suspended provider group shows here as `suspended`.
    pub status: ApiKeyStatus,
    /// Whether a dead credential may be switched off automatically.
    pub auto_ban: bool,
    /// The API key's uuid, which the envelopes above are bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// Share of the group's calls, relative to its siblings; absent means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Calls in flight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Protocols that the upstream speaks, best first; absent means the type's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<Protocol>,
    /// Azure API version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// OAuth access token, as an envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// End of the access token, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Vendor account id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// Vendor project id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// End of a ban, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban_until: Option<i64>,
}

/// What a `namespace.public_model` can do: what all its serving candidates can do. `false` and 0 stand for what one of
/// them cannot do and for what is not known of one alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSnapshot {
    /// `namespace.public_model`.
    pub name: String,
    /// `chat`, `embedding`, `rerank` or `other`.
    pub kind: String,
    /// Tokens of input and output together; 0 where it is not known.
    pub context_window: u64,
    /// Accepts images.
    pub supports_vision: bool,
    /// Accepts tool definitions.
    pub supports_functions: bool,
    /// Accepts a forced tool choice.
    pub supports_tool_choice: bool,
    /// Fills in the middle.
    pub supports_fim: bool,
    /// Streams.
    pub supports_stream: bool,
    /// Tokens of output; 0 where it is not known.
    pub max_output_tokens: u64,
    /// US dollars per million tokens, exact decimals; keys `input`, `output`, `cache_read`, `cache_write`. The highest
    /// of the candidates; absent where that of one is not known.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, String>,
    /// What is said of what the upstream models of its serving candidates take, by their names, in the fields of
    /// [`crate::capability::FIELDS`]; absent where nothing is said, so that the gateway's own table counts. A gateway ignores
    /// what it does not understand of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capabilities: BTreeMap<String, CapabilityFields>,
}

words! {
    /// Why a candidate cannot serve.
    CandidateError {
        /// Its selector picks no model, or several.
        ConfigError = "config_error",
        /// Its provider group has no active API key.
        NoProvider = "no_provider",
    }
}

words! {
    /// What becomes of an upstream's stream when the client leaves before its end.
    ClientGone {
        /// The upstream is cut off at once; what was used is estimated where it was not told yet.
        Cancel = "cancel",
        /// The stream is read to its end, so that what was used is known exactly; the upstream goes on working meanwhile.
        Drain = "drain",
    }
}

/// One binding as the router sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The provider group's id.
    pub group_id: i64,
    /// The provider group's `route_group`.
    pub route_group: String,
    /// Share of calls within its priority tier.
    pub weight: u32,
    /// Higher is tried first.
    pub priority: i32,
    /// How the upstream model was picked.
    pub selector_type: SelectorType,
    /// The value it was picked by.
    pub selector_value: String,
    /// State of the binding and its provider group together.
    pub status: RecordStatus,
    /// Why it cannot serve; empty when it can.
    #[serde(with = "empty_is_none")]
    pub error: Option<CandidateError>,
    /// API key id to upstream model.
    pub upstreams: BTreeMap<i64, String>,
    /// What becomes of a stream whose client left; absent means as the gateway is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_client_gone: Option<ClientGone>,
}

/// All candidates of a `namespace.public_model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingSnapshot {
    /// The namespace.
    pub namespace: String,
    /// The model's public name.
    pub public_model: String,
    /// State of the namespace; a suspended one serves nothing.
    pub status: RecordStatus,
    /// When the newest of its parts changed, Unix seconds.
    pub updated_at: i64,
    /// Highest priority first, then by provider group id.
    pub candidates: Vec<Candidate>,
}

/// Limits of a key or a master; what is not set is absent and means unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Calls per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qps: Option<u32>,
    /// Calls per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpm: Option<u64>,
    /// Tokens per minute, input and output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u64>,
    /// Calls per day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpd: Option<u64>,
    /// Tokens per day, input and output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpd: Option<u64>,
    /// Calls in flight at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// A child key's token quota.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Tokens, input and output.
    pub limit: u64,
    /// Tokens used since the last reset.
    pub used: u64,
    /// Next reset, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<i64>,
}

/// A child key as the gateway sees it; published under its token digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSnapshot {
    /// The child key's id.
    pub id: i64,
    /// Its master.
    pub master_id: i64,
    /// A label for reports.
    pub group: String,
    /// Where a bare model name is looked up.
    pub default_namespace: String,
    /// Namespaces it may use.
    pub namespaces: Vec<String>,
    /// What it may do; empty means all.
    pub scopes: Vec<String>,
    /// Its state.
    pub status: KeyStatus,
    /// Dead when below its master's epoch.
    pub issued_at_epoch: i64,
    /// End of life, Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Addresses and ranges it may be used from; empty means any.
    pub allow_ips: Vec<String>,
    /// Addresses and ranges it may not be used from.
    pub deny_ips: Vec<String>,
    /// Whether `model_limits` applies.
    pub model_limits_enabled: bool,
    /// Public models it may call.
    pub model_limits: Vec<String>,
    /// Its limits.
    pub limits: Limits,
    /// Its token quota, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
}

/// A master as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterSnapshot {
    /// The master's id.
    pub id: i64,
    /// Its unique name.
    pub name: String,
    /// A label for reports.
    pub group: String,
    /// Its state.
    pub status: RecordStatus,
    /// Keys issued under a lower epoch are dead.
    pub epoch: i64,
    /// Default for its keys.
    pub default_namespace: String,
    /// Superset of its keys' namespaces.
    pub namespaces: Vec<String>,
    /// Its limits.
    pub limits: Limits,
    /// US dollars in a calendar month (UTC), exact decimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_budget: Option<String>,
    /// What its calls cost in the month that was counted last; absent where nothing was counted or there is no budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend: Option<Spend>,
    /// The same of the month that was counted before that: gateways' clocks turn the month at different moments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_before: Option<Spend>,
}

/// What the calls of a master cost in a calendar month (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    /// The month, such as `2026-11`.
    pub month: String,
    /// US dollars, exact decimal.
    pub amount: String,
}

/// `meta:snapshot`: which publication stands. While `pending` differs from `version` a publication is under way, and
/// a reader must not act on what it read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Contract version of the publisher.
    pub contract_version: String,
    /// Monotonic; 0 before the first publication.
    pub version: u64,
    /// The version being written.
    pub pending: u64,
    /// When `version` was completed.
    pub published_at: Option<DateTime<Utc>>,
    /// Node id of the publisher.
    pub publisher: String,
}

impl SnapshotMeta {
    /// Whether no publication is under way.
    pub fn is_settled(&self) -> bool {
        self.version == self.pending
    }
}

words! {
    /// Kind of an entry in the snapshot.
    SnapshotKind {
        /// An API key: [`ProviderSnapshot`].
        Provider = "provider",
        /// A [`BindingSnapshot`].
        Binding = "binding",
        /// A [`ModelSnapshot`].
        Model = "model",
        /// A child key: [`TokenSnapshot`].
        Token = "token",
        /// A [`MasterSnapshot`].
        Master = "master",
        /// A feature flag.
        Feature = "feature",
    }
}

/// Names one entry of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum SnapshotKey {
    /// API key id.
    Provider(i64),
    /// `namespace.public_model`.
    Binding(String),
    /// `namespace.public_model`.
    Model(String),
    /// Digest of the clear token.
    Token(TokenDigest),
    /// Master id.
    Master(i64),
    /// Flag name.
    Feature(String),
}

/// One entry of the snapshot with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotEntry {
    /// An API key.
    Provider(ProviderSnapshot),
    /// The candidates of a model.
    Binding(BindingSnapshot),
    /// What a model can do.
    Model(ModelSnapshot),
    /// A child key, under its digest.
    Token(TokenDigest, TokenSnapshot),
    /// A master.
    Master(MasterSnapshot),
    /// A feature flag and its value.
    Feature(String, bool),
}

impl SnapshotEntry {
    /// The key under which this entry is published.
    pub fn key(&self) -> SnapshotKey {
        match self {
            Self::Provider(provider) => SnapshotKey::Provider(provider.id),
            Self::Binding(binding) => {
                SnapshotKey::Binding(crate::model_ref::binding_key(&binding.namespace, &binding.public_model))
            }
            Self::Model(model) => SnapshotKey::Model(model.name.clone()),
            Self::Token(digest, _) => SnapshotKey::Token(*digest),
            Self::Master(master) => SnapshotKey::Master(master.id),
            Self::Feature(flag, _) => SnapshotKey::Feature(flag.clone()),
        }
    }
}

/// A change to the snapshot: what stands now under a key, or that nothing does any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every change puts an entry, so boxing it would only add a hop")]
pub enum SnapshotChange {
    /// The entry is new or differs.
    Put(SnapshotEntry),
    /// The entry is gone.
    Remove(SnapshotKey),
}

impl SnapshotChange {
    /// The key that changes.
    pub fn key(&self) -> SnapshotKey {
        match self {
            Self::Put(entry) => entry.key(),
            Self::Remove(key) => key.clone(),
        }
    }
}

/// `events:config`: what a publication changed. Readers fetch the named entries; the newest state wins. An event
/// that names nothing asks for a full read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEvent {
    /// The snapshot version that the publication made.
    pub version: u64,
    /// The entries that it changed.
    pub changed: Vec<SnapshotKey>,
}

/// `gateways:*`: what a gateway tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayHeartbeat {
    /// `EZ_NODE_ID`.
    pub node_id: String,
    /// Build version of the gateway.
    pub version: String,
    /// The snapshot version that it serves from.
    pub snapshot_version: u64,
    /// Usage records not yet taken by the control plane.
    pub usage_log_depth: u64,
    /// When it said so.
    pub seen_at: DateTime<Utc>,
}

/// Writes `None` as an empty string, as the contract asks.
mod empty_is_none {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::CandidateError;

    pub(super) fn serialize<S: Serializer>(error: &Option<CandidateError>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(error.map_or("", CandidateError::as_str))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CandidateError>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
    }
}
