//! `/admin/providers`: a provider group, its first API key and bindings in one go.

use ez_contract::Protocol;
use ez_control::presets::{self, CreateCustom, CreatePreset, CreateProvider, Provider, Vendor};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api_keys::ApiKeyResponse;
use super::bindings::BindingResponse;
use super::provider_groups::ProviderGroupResponse;
use crate::extract::{AdminCtx, Json};
use crate::problem::ApiError;
use crate::secret_text::SecretText;
use crate::words;
use crate::writing::{Answer, Created, Record};

/// A vendor that a name and a secret are enough for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PresetType {
    Openai,
    Anthropic,
    Gemini,
}

/// A vendor to set up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreatePresetRequest {
    /// Whose API it is.
    r#type: PresetType,
    /// Name of the provider group; unique.
    #[schema(example = "openai-second")]
    name: String,
    /// The vendor's secret. Never shown again.
    #[schema(value_type = String, format = Password, write_only)]
    secret: SecretText,
    /// Model ids as the vendor calls them; its usual ones where absent.
    models: Option<Vec<String>>,
    /// Whether each model is bound under its own name; false where absent.
    #[serde(default)]
    #[schema(default = false, required = false)]
    create_bindings: bool,
    /// The namespace that they are bound in; `default` where absent.
    namespace: Option<String>,
}

/// A server that speaks OpenAI's protocols.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateCustomRequest {
    /// Name of the provider group; unique.
    #[schema(example = "own-vllm")]
    name: String,
    /// What an OpenAI SDK takes as base URL.
    #[schema(example = "https://llm.example.com/v1")]
    base_url: String,
    /// The server's secret. Never shown again.
    #[schema(value_type = String, format = Password, write_only)]
    secret: SecretText,
    /// Model ids as the server calls them, one at least.
    #[schema(example = json!(["qwen3-32b"]), min_items = 1)]
    models: Vec<String>,
    /// Wire protocols that the server speaks, best first; `openai-chat` where absent.
    #[schema(value_type = Option<Vec<words::Protocol>>)]
    protocols: Option<Vec<Protocol>>,
    /// Whether each model is bound under its own name; false where absent.
    #[serde(default)]
    #[schema(default = false, required = false)]
    create_bindings: bool,
    /// The namespace that they are bound in; `default` where absent.
    namespace: Option<String>,
}

/// All records of a provider that was set up.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Provider)]
pub(crate) struct ProviderResponse {
    /// The provider group.
    provider_group: ProviderGroupResponse,
    /// Its API key.
    api_key: ApiKeyResponse,
    /// A binding for each of its models, where that was asked for.
    bindings: Vec<BindingResponse>,
}

/// Set up a vendor.
///
/// Makes a provider group, its API key and, on request, a binding for each model: all or none.
#[utoipa::path(post, path = "/admin/providers/preset", tag = "providers", operation_id = "create_preset_provider",
    request_body = CreatePresetRequest, security(("admin" = [])),
    responses((status = 201, description = "Set up.", body = ProviderResponse)))]
pub(crate) async fn create_preset(
    ctx: AdminCtx,
    Json(request): Json<CreatePresetRequest>,
) -> Result<Created<ProviderResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let provider = presets::create_preset(&write, request.into()).await?;
    write.create("/admin/provider-groups", Record::untagged(provider.into())).await
}

/// Set up a server that speaks OpenAI's protocols.
///
/// Makes a provider group of the type `compatible`, its API key and, on request, a binding for each model: all or none.
#[utoipa::path(post, path = "/admin/providers/custom", tag = "providers", operation_id = "create_custom_provider",
    request_body = CreateCustomRequest, security(("admin" = [])),
    responses((status = 201, description = "Set up.", body = ProviderResponse)))]
pub(crate) async fn create_custom(
    ctx: AdminCtx,
    Json(request): Json<CreateCustomRequest>,
) -> Result<Created<ProviderResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let provider = presets::create_custom(&write, request.into()).await?;
    write.create("/admin/provider-groups", Record::untagged(provider.into())).await
}

impl From<PresetType> for Vendor {
    fn from(preset: PresetType) -> Self {
        match preset {
            PresetType::Openai => Self::Openai,
            PresetType::Anthropic => Self::Anthropic,
            PresetType::Gemini => Self::Gemini,
        }
    }
}

impl From<CreatePresetRequest> for CreatePreset {
    fn from(request: CreatePresetRequest) -> Self {
        let CreatePresetRequest { r#type, name, secret, models, create_bindings, namespace } = request;
        let provider = CreateProvider { name, secret: secret.0, create_bindings, namespace };
        Self { vendor: r#type.into(), provider, models }
    }
}

impl From<CreateCustomRequest> for CreateCustom {
    fn from(request: CreateCustomRequest) -> Self {
        let CreateCustomRequest { name, base_url, secret, models, protocols, create_bindings, namespace } = request;
        let provider = CreateProvider { name, secret: secret.0, create_bindings, namespace };
        Self { base_url, protocols, provider, models }
    }
}

impl Answer for ProviderResponse {}

impl From<Provider> for ProviderResponse {
    fn from(provider: Provider) -> Self {
        Self {
            provider_group: provider.group.into(),
            api_key: provider.api_key.into(),
            bindings: provider.bindings.into_iter().map(BindingResponse::from).collect(),
        }
    }
}
