//! The export: every record of configuration as a document that `import` reads, in an order that does not depend on ids.
//!
//! The document is built in memory: less than 2 KiB for each child key, so some 150 MiB for 100,000 of them.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use ez_contract::capability::CapabilityOverrides;
use ez_contract::models::ModelKind;
use ez_contract::secret::SecretPlace;
use ez_contract::selector::SelectorType;
use ez_contract::snapshot::ClientGone;
use ez_contract::status::{ApiKeyStatus, KeyStatus, RecordStatus};
use ez_contract::{Protocol, ProviderType, TokenDigest};
use ez_store::api_keys::{self, ApiKey};
use ez_store::bindings::{self, Binding};
use ez_store::child_keys::{self, ChildKey};
use ez_store::masters::{self, Master};
use ez_store::models::{self, Model};
use ez_store::namespaces::{self, Namespace};
use ez_store::provider_groups::{self, ProviderGroup};
use ez_store::{IssuedBy, QuotaReset, Store};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::catalogue::ModelFacts;
use crate::{Control, ControlError, catalogue, features};

/// Version of the documents that are written.
const VERSION: &str = "2.0.0";

/// Child keys that are read at once.
const PAGE: u64 = 1000;

/// What an export has in it.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Whether upstream secrets are in it, in clear.
    pub with_secrets: bool,
    /// Version of ez-api, for the document's `source`.
    pub source_version: String,
}

/// A document of version 2. Client keys and master keys are in it as digests alone.
#[derive(Debug, Serialize)]
pub struct ExportDocument {
    version: &'static str,
    source: Source,
    data: Data,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Source {
    r#type: &'static str,
    version: String,
    exported_at: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct Data {
    namespaces: Vec<ExportedNamespace>,
    provider_groups: Vec<ExportedGroup>,
    masters: Vec<ExportedMaster>,
    keys: Vec<ExportedKey>,
    bindings: Vec<ExportedBinding>,
    models: Vec<ExportedModel>,
    features: BTreeMap<String, bool>,
}

#[derive(Debug, Serialize)]
struct ExportedNamespace {
    name: String,
    description: String,
    status: RecordStatus,
}

#[derive(Debug, Serialize)]
struct ExportedGroup {
    name: String,
    r#type: ProviderType,
    protocols: Vec<Protocol>,
    route_group: String,
    base_url: String,
    google_project: String,
    google_location: String,
    api_version: Option<String>,
    models: Vec<String>,
    status: RecordStatus,
    api_keys: Vec<ExportedApiKey>,
}

/// A secret that is written in clear, and shown nowhere else.
#[derive(Debug)]
struct ClearSecret(SecretString);

impl Serialize for ClearSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

#[derive(Debug, Serialize)]
struct ExportedApiKey {
    uuid: Uuid,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<ClearSecret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<ClearSecret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<ClearSecret>,
    expires_at: Option<DateTime<Utc>>,
    account_id: Option<String>,
    project_id: Option<String>,
    weight: u32,
    max_concurrency: Option<u32>,
    status: ApiKeyStatus,
    auto_ban: bool,
    ban_reason: Option<String>,
    ban_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize)]
struct ExportedMaster {
    name: String,
    group: String,
    key_digest: Option<TokenDigest>,
    /// Of a master of an older system alone, whose digest is not known yet.
    key_hash: Option<String>,
    prefix: String,
    default_namespace: String,
    namespaces: Vec<String>,
    epoch: i64,
    status: RecordStatus,
    max_child_keys: u32,
    global_qps: u32,
    rpm: Option<u64>,
    tpm: Option<u64>,
    rpd: Option<u64>,
    tpd: Option<u64>,
    max_concurrency: Option<u32>,
    monthly_budget: Option<String>,
}

#[derive(Debug, Serialize)]
struct ExportedKey {
    master_ref: String,
    name: String,
    token_digest: TokenDigest,
    prefix: String,
    previous_digest: Option<TokenDigest>,
    previous_expires_at: Option<DateTime<Utc>>,
    group: String,
    scopes: Vec<String>,
    default_namespace: String,
    namespaces: Vec<String>,
    status: KeyStatus,
    issued_at_epoch: i64,
    issued_by: IssuedBy,
    expires_at: Option<DateTime<Utc>>,
    allow_ips: Vec<String>,
    deny_ips: Vec<String>,
    model_limits_enabled: bool,
    model_limits: Vec<String>,
    quota_limit: Option<u64>,
    quota_used: u64,
    quota_reset: QuotaReset,
    quota_reset_at: Option<DateTime<Utc>>,
    global_qps: u32,
    rpm: Option<u64>,
    tpm: Option<u64>,
    rpd: Option<u64>,
    tpd: Option<u64>,
    max_concurrency: Option<u32>,
}

#[derive(Debug, Serialize)]
struct ExportedBinding {
    namespace: String,
    public_model: String,
    provider_group: String,
    weight: u32,
    priority: i32,
    selector_type: SelectorType,
    selector_value: String,
    status: RecordStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_client_gone: Option<ClientGone>,
}

#[derive(Debug, Serialize)]
struct ExportedModel {
    name: String,
    kind: ModelKind,
    context_window: u64,
    max_output_tokens: u64,
    /// Decimals as texts.
    prices: BTreeMap<&'static str, Option<String>>,
    supports_vision: bool,
    supports_functions: bool,
    supports_tool_choice: bool,
    supports_fim: bool,
    supports_stream: bool,
    #[serde(skip_serializing_if = "CapabilityOverrides::is_empty")]
    capabilities: CapabilityOverrides,
}

impl ExportDocument {
    /// How many records of each kind are in it.
    pub fn counts(&self) -> [(&'static str, usize); 8] {
        let data = &self.data;
        let api_keys = data.provider_groups.iter().map(|group| group.api_keys.len()).sum();
        [
            ("namespaces", data.namespaces.len()),
            ("provider_groups", data.provider_groups.len()),
            ("api_keys", api_keys),
            ("masters", data.masters.len()),
            ("keys", data.keys.len()),
            ("bindings", data.bindings.len()),
            ("models", data.models.len()),
            ("features", data.features.len()),
        ]
    }
}

/// Everything that is configured. Errors: `Internal` for a secret that cannot be opened; `Unavailable`.
pub async fn export(control: &Control, options: &ExportOptions) -> Result<ExportDocument, ControlError> {
    let store = control.store();
    // What refers is read before what it refers to, so that a record made meanwhile is never half there.
    let bindings = bindings::list_all(store).await?;
    let api_keys = api_keys::list_all(store).await?;
    let groups = provider_groups::list_all(store).await?;
    let keys = all_keys(store).await?;
    let masters = masters::list_all(store).await?;
    let namespaces = namespaces::list_all(store).await?;
    let models = models::list_all(store).await?;

    let group_names: HashMap<i64, String> = groups.iter().map(|group| (group.id, group.name.clone())).collect();
    let master_names: HashMap<i64, String> = masters.iter().map(|master| (master.id, master.name.clone())).collect();
    let mut warnings = Vec::new();
    if !options.with_secrets && !api_keys.is_empty() {
        warnings.push(
            "the upstream secrets are not in this document: its API keys are imported as manual_disabled".to_owned(),
        );
    }
    if catalogue::status(control).await?.renewed_at.is_some() {
        warnings
            .push("the renewed model catalogue is not in this document: renew it where this is imported".to_owned());
    }
    let data = Data {
        namespaces: sorted(namespaces.into_iter().map(ExportedNamespace::from), |namespace| namespace.name.clone()),
        provider_groups: export_groups(control, groups, api_keys, options.with_secrets)?,
        masters: sorted(masters.into_iter().map(ExportedMaster::from), |master| master.name.clone()),
        keys: sorted(keys.into_iter().filter_map(|key| ExportedKey::of(key, &master_names)), |key| {
            (key.master_ref.clone(), key.name.clone(), key.token_digest)
        }),
        bindings: sorted(
            bindings.into_iter().filter_map(|binding| ExportedBinding::of(binding, &group_names)),
            |binding| (binding.namespace.clone(), binding.public_model.clone(), binding.provider_group.clone()),
        ),
        models: sorted(models.into_iter().map(ExportedModel::from), |model| model.name.clone()),
        features: features::get(control).await?.0,
    };
    let source = Source { r#type: "ez-api", version: options.source_version.clone(), exported_at: control.now() };
    Ok(ExportDocument { version: VERSION, source, data, warnings })
}

/// Every child key, read in parts: reading a large table at once holds each row twice.
async fn all_keys(store: &Store) -> Result<Vec<ChildKey>, ControlError> {
    let (mut keys, mut last) = (Vec::new(), 0);
    loop {
        let page = child_keys::list_after(store, last, PAGE).await?;
        let Some(end) = page.last() else { return Ok(keys) };
        last = end.id;
        keys.extend(page);
    }
}

fn sorted<T, K: Ord>(values: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_by_cached_key(key);
    values
}

fn export_groups(
    control: &Control,
    groups: Vec<ProviderGroup>,
    api_keys: Vec<ApiKey>,
    with_secrets: bool,
) -> Result<Vec<ExportedGroup>, ControlError> {
    let mut of_group: HashMap<i64, Vec<ExportedApiKey>> = HashMap::new();
    for api_key in api_keys {
        let group_id = api_key.group_id;
        of_group.entry(group_id).or_default().push(export_api_key(control, api_key, with_secrets)?);
    }
    let exported = groups.into_iter().map(|group| {
        let mut api_keys = of_group.remove(&group.id).unwrap_or_default();
        api_keys.sort_by_cached_key(|api_key| (api_key.name.clone(), api_key.uuid));
        ExportedGroup {
            name: group.name,
            r#type: group.provider_type,
            protocols: group.protocols,
            route_group: group.route_group,
            base_url: group.base_url,
            google_project: group.google_project,
            google_location: group.google_location,
            api_version: group.api_version,
            models: group.models,
            status: group.status,
            api_keys,
        }
    });
    Ok(sorted(exported, |group| group.name.clone()))
}

fn export_api_key(control: &Control, key: ApiKey, with_secrets: bool) -> Result<ExportedApiKey, ControlError> {
    let open = |field: &str, envelope: Option<String>| -> Result<Option<ClearSecret>, ControlError> {
        let Some(envelope) = envelope.filter(|_| with_secrets) else { return Ok(None) };
        let clear = control.secret_key().open(&envelope, SecretPlace::api_key(key.uuid, field))?;
        Ok(Some(ClearSecret(SecretString::from(clear))))
    };
    Ok(ExportedApiKey {
        uuid: key.uuid,
        name: key.name,
        api_key: open("api_key", key.api_key)?,
        access_token: open("access_token", key.access_token)?,
        refresh_token: open("refresh_token", key.refresh_token)?,
        expires_at: key.expires_at,
        account_id: key.account_id,
        project_id: key.project_id,
        weight: key.weight,
        max_concurrency: key.max_concurrency,
        status: key.status,
        auto_ban: key.auto_ban,
        ban_reason: key.ban_reason,
        ban_until: key.ban_until,
    })
}

impl From<Namespace> for ExportedNamespace {
    fn from(namespace: Namespace) -> Self {
        Self { name: namespace.name, description: namespace.description, status: namespace.status }
    }
}

impl From<Master> for ExportedMaster {
    fn from(master: Master) -> Self {
        Self {
            name: master.name,
            group: master.group,
            key_hash: master.key_hash.filter(|_| master.key_digest.is_none()),
            key_digest: master.key_digest,
            prefix: master.prefix,
            default_namespace: master.default_namespace,
            namespaces: master.namespaces,
            epoch: master.epoch,
            status: master.status,
            max_child_keys: master.max_child_keys,
            global_qps: master.global_qps,
            rpm: master.rpm,
            tpm: master.tpm,
            rpd: master.rpd,
            tpd: master.tpd,
            max_concurrency: master.max_concurrency,
            monthly_budget: master.monthly_budget,
        }
    }
}

impl ExportedKey {
    /// None where its master was deleted meanwhile, and so was the key.
    fn of(key: ChildKey, masters: &HashMap<i64, String>) -> Option<Self> {
        Some(Self {
            master_ref: masters.get(&key.master_id)?.clone(),
            name: key.name,
            token_digest: key.token_digest,
            prefix: key.prefix,
            previous_digest: key.previous_digest,
            previous_expires_at: key.previous_expires_at,
            group: key.group,
            scopes: key.scopes,
            default_namespace: key.default_namespace,
            namespaces: key.namespaces,
            status: key.status,
            issued_at_epoch: key.issued_at_epoch,
            issued_by: key.issued_by,
            expires_at: key.expires_at,
            allow_ips: key.allow_ips,
            deny_ips: key.deny_ips,
            model_limits_enabled: key.model_limits_enabled,
            model_limits: key.model_limits,
            quota_limit: key.quota_limit,
            quota_used: key.quota_used,
            quota_reset: key.quota_reset,
            quota_reset_at: key.quota_reset_at,
            global_qps: key.global_qps,
            rpm: key.rpm,
            tpm: key.tpm,
            rpd: key.rpd,
            tpd: key.tpd,
            max_concurrency: key.max_concurrency,
        })
    }
}

impl ExportedBinding {
    fn of(binding: Binding, groups: &HashMap<i64, String>) -> Option<Self> {
        Some(Self {
            namespace: binding.namespace,
            public_model: binding.public_model,
            provider_group: groups.get(&binding.group_id)?.clone(),
            weight: binding.weight,
            priority: binding.priority,
            selector_type: binding.selector_type,
            selector_value: binding.selector_value,
            status: binding.status,
            on_client_gone: binding.on_client_gone,
        })
    }
}

impl From<Model> for ExportedModel {
    fn from(model: Model) -> Self {
        let prices = ModelFacts::from(&model).prices.named();
        Self {
            kind: model.kind,
            context_window: model.context_window,
            max_output_tokens: model.max_output_tokens,
            prices: prices.into_iter().map(|(name, price)| (name, price.map(|price| price.to_string()))).collect(),
            supports_vision: model.supports_vision,
            supports_functions: model.supports_functions,
            supports_tool_choice: model.supports_tool_choice,
            supports_fim: model.supports_fim,
            supports_stream: model.supports_stream,
            capabilities: model.capabilities,
            name: model.name,
        }
    }
}
