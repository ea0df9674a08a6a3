//! Presets: a provider group, its first API key and, on request, bindings for its models, in one go.

use ez_contract::model_ref::is_namespace_name;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::selector::SelectorType;
use ez_contract::status::RecordStatus;
use ez_store::api_keys::ApiKey;
use ez_store::bindings::{self as stored_bindings, Binding, NewBinding};
use ez_store::namespaces;
use ez_store::namespaces::DEFAULT_NAMESPACE;
use ez_store::provider_groups::ProviderGroup;
use secrecy::SecretString;

use crate::api_keys::{self, CreateApiKey};
use crate::error::Faults;
use crate::provider_groups::{self, CreateProviderGroup};
use crate::{ControlError, Write};

/// Bindings that one preset creates.
const MAX_BINDINGS: usize = 500;

/// A vendor that a name and a secret are enough for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// OpenAI.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Gemini API.
    Gemini,
}

/// Models that a preset starts with, by the names that do not name a date. The first is a cheap one, as tests of API keys
/// use it. An operator changes them at the provider group.
const OPENAI_MODELS: &[&str] = &[
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-4.1",
    "gpt-4.1-mini",
    "gpt-4.1-nano",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5-nano",
    "o3",
    "o4-mini",
    "text-embedding-3-small",
    "text-embedding-3-large",
];
const ANTHROPIC_MODELS: &[&str] =
    &["claude-haiku-4-5", "claude-sonnet-4-5", "claude-opus-4-5", "claude-opus-4-1", "claude-sonnet-4-0"];
const GEMINI_MODELS: &[&str] =
    &["gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro", "gemini-3-pro-preview", "gemini-embedding-001"];

/// What a vendor is set up from.
#[derive(Debug, Clone)]
pub struct CreatePreset {
    /// Whose API it is.
    pub vendor: Vendor,
    /// The rest.
    pub provider: CreateProvider,
    /// Upstream models; the usual ones of the vendor.
    pub models: Option<Vec<String>>,
}

/// What a server that speaks OpenAI's protocols is set up from.
#[derive(Debug, Clone)]
pub struct CreateCustom {
    /// As an OpenAI SDK takes it.
    pub base_url: String,
    /// Wire protocols that it speaks, best first; OpenAI chat.
    pub protocols: Option<Vec<Protocol>>,
    /// The rest.
    pub provider: CreateProvider,
    /// Upstream models, one at least.
    pub models: Vec<String>,
}

/// What every provider is set up from.
#[derive(Debug, Clone)]
pub struct CreateProvider {
    /// Name of the provider group; unique.
    pub name: String,
    /// The secret of its first API key, in clear.
    pub secret: SecretString,
    /// Whether its models are bound, under their own names.
    pub create_bindings: bool,
    /// Where they are bound; `default`.
    pub namespace: Option<String>,
}

/// All records of a provider that was set up.
#[derive(Debug)]
pub struct Provider {
    /// The provider group.
    pub group: ProviderGroup,
    /// Its API key.
    pub api_key: ApiKey,
    /// A binding for each of its models, where that was asked for.
    pub bindings: Vec<Binding>,
}

impl Vendor {
    /// The type of its provider groups.
    pub const fn provider_type(self) -> ProviderType {
        match self {
            Self::Openai => ProviderType::Openai,
            Self::Anthropic => ProviderType::Anthropic,
            Self::Gemini => ProviderType::Gemini,
        }
    }

    /// The models that a preset starts with.
    pub const fn models(self) -> &'static [&'static str] {
        match self {
            Self::Openai => OPENAI_MODELS,
            Self::Anthropic => ANTHROPIC_MODELS,
            Self::Gemini => GEMINI_MODELS,
        }
    }
}

/// Sets up a vendor. Errors: `Invalid`; `Conflict` for a name that is taken.
pub async fn create_preset(write: &Write, new: CreatePreset) -> Result<Provider, ControlError> {
    let CreatePreset { vendor, provider, models } = new;
    let models = models.unwrap_or_else(|| vendor.models().iter().map(|model| (*model).to_owned()).collect());
    let group = CreateProviderGroup { models: Some(models), ..group_of(vendor.provider_type(), &provider.name) };
    create(write, group, provider).await
}

/// Sets up a server that speaks OpenAI's protocols. Errors: `Invalid`; `Conflict` for a name that is taken.
pub async fn create_custom(write: &Write, new: CreateCustom) -> Result<Provider, ControlError> {
    let CreateCustom { base_url, protocols, provider, models } = new;
    let group = CreateProviderGroup {
        base_url: Some(base_url),
        protocols,
        models: Some(models),
        ..group_of(ProviderType::Compatible, &provider.name)
    };
    create(write, group, provider).await
}

async fn create(write: &Write, group: CreateProviderGroup, new: CreateProvider) -> Result<Provider, ControlError> {
    let namespace = new.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    let mut faults = Faults::default();
    let group = provider_groups::draft(group, write.now(), &mut faults);
    if let Some(fault) = api_keys::secret_fault(&new.secret) {
        faults.add("/secret", fault);
    }
    if group.models.is_empty() {
        faults.add("/models", "must name at least one model that the upstream serves");
    }
    if new.create_bindings && group.models.len() > MAX_BINDINGS {
        faults.add("/models", format!("must have at most {MAX_BINDINGS} entries where they are bound"));
    }
    if !new.create_bindings && new.namespace.is_some() {
        faults.add("/namespace", "is for bindings; set create_bindings to true, or leave it out");
    } else if !(is_namespace_name(namespace) && namespaces::get_by_name(write.tx(), namespace).await?.is_some()) {
        faults.add("/namespace", format!("namespace `{namespace}` does not exist; create it first"));
    }
    faults.into_result()?;

    let group = provider_groups::insert(write, &group).await?;
    let api_key = CreateApiKey {
        group_id: group.id,
        name: None,
        api_key: new.secret.clone(),
        weight: None,
        max_concurrency: None,
        status: None,
        auto_ban: None,
    };
    let api_key = api_keys::create(write, api_key).await?;
    let bindings = if new.create_bindings { bind(write, &group, namespace).await? } else { Vec::new() };
    Ok(Provider { group, api_key, bindings })
}

async fn bind(write: &Write, group: &ProviderGroup, namespace: &str) -> Result<Vec<Binding>, ControlError> {
    let mut bindings = Vec::with_capacity(group.models.len());
    for model in &group.models {
        let new = NewBinding {
            namespace: namespace.to_owned(),
            public_model: model.clone(),
            group_id: group.id,
            weight: 1,
            priority: 0,
            selector_type: SelectorType::Exact,
            selector_value: String::new(),
            status: RecordStatus::Active,
            on_client_gone: None,
            created_at: write.now(),
        };
        bindings.push(stored_bindings::create(write.tx(), &new).await?);
    }
    let changes: Vec<(Option<&Binding>, &Binding)> = bindings.iter().map(|binding| (None, binding)).collect();
    write.record_all("create", &changes, &[]).await?;
    Ok(bindings)
}

fn group_of(provider_type: ProviderType, name: &str) -> CreateProviderGroup {
    CreateProviderGroup {
        name: name.to_owned(),
        provider_type,
        protocols: None,
        route_group: None,
        base_url: None,
        google_project: None,
        google_location: None,
        api_version: None,
        models: None,
        status: None,
    }
}
