//! `/admin/api-keys/batch` and `/admin/api-keys/batch-status`: many upstream credentials at once.

use ez_contract::status::ApiKeyStatus;
use ez_control::api_key_batches::{self, CreateApiKeys, CreatedApiKeys, SkippedLine};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::api_keys::ApiKeyResponse;
use crate::extract::{AdminCtx, Json};
use crate::problem::ApiError;
use crate::secret_text::SecretText;
use crate::words;
use crate::writing::{Answer, Created, Record};

/// New API keys of one provider group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApiKeysRequest {
    /// The provider group that they are for.
    group_id: i64,
    /// The vendor's secrets, one a line, at most 1,000. Blank lines are dropped. Never shown again.
    #[schema(value_type = String, format = Password, write_only)]
    secrets: SecretText,
    /// To tell them apart from others, the same for each; empty where absent.
    name: Option<String>,
    /// Share of the calls, relative to the other keys of the group; 1 where absent, 0 is none.
    weight: Option<u32>,
    /// Calls in flight at once with each; unlimited where absent.
    #[schema(minimum = 1)]
    max_concurrency: Option<u32>,
    /// `active` where absent.
    #[schema(value_type = Option<words::ApiKeyStatus>)]
    status: Option<ApiKeyStatus>,
    /// Whether ez-api may switch them off when the vendor refuses them; true where absent.
    auto_ban: Option<bool>,
}

/// What became of a batch of secrets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyBatch)]
pub(crate) struct CreatedApiKeysResponse {
    /// The new API keys, in the order of their lines.
    created: Vec<ApiKeyResponse>,
    /// Lines that made none.
    skipped: Vec<SkippedLineResponse>,
}

/// A line that made no API key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SkippedLine)]
pub(crate) struct SkippedLineResponse {
    /// Its number, from 1, blank lines included.
    line: usize,
    /// Why not.
    reason: String,
}

/// A status for several API keys.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetStatusRequest {
    /// Their ids, 1 to 1,000.
    #[schema(example = json!([1]), min_items = 1, max_items = 1000)]
    ids: Vec<i64>,
    /// Activating ends a ban. Only ez-api itself sets `auto_disabled`.
    #[schema(value_type = words::ApiKeyStatus)]
    status: ApiKeyStatus,
}

/// API keys, changed together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedApiKeys)]
pub(crate) struct ChangedApiKeysResponse {
    /// By id.
    items: Vec<ApiKeyResponse>,
}

/// Create many API keys.
///
/// All or none. A line whose secret the provider group has already, or that stands twice, is skipped and told by its
/// number. Secrets are encrypted at once and never shown again.
#[utoipa::path(post, path = "/admin/api-keys/batch", tag = "api-keys", operation_id = "create_api_keys",
    request_body = CreateApiKeysRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = CreatedApiKeysResponse)))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateApiKeysRequest>,
) -> Result<Created<CreatedApiKeysResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let created = api_key_batches::create(&write, request.into()).await?;
    write.create("/admin/api-keys", Record::untagged(created.into())).await
}

/// Set the status of many API keys.
///
/// All or none: an id that does not exist is a fault.
#[utoipa::path(post, path = "/admin/api-keys/batch-status", tag = "api-keys", operation_id = "set_api_key_statuses",
    request_body = SetStatusRequest, security(("admin" = [])),
    responses((status = 200, description = "Changed.", body = ChangedApiKeysResponse)))]
pub(crate) async fn set_status(
    ctx: AdminCtx,
    Json(request): Json<SetStatusRequest>,
) -> Result<Record<ChangedApiKeysResponse>, ApiError> {
    let write = ctx.write().await?;
    let changed = api_key_batches::set_status(&write, &request.ids, request.status).await?;
    let items = changed.into_iter().map(ApiKeyResponse::from).collect();
    write.finish(Record::untagged(ChangedApiKeysResponse { items })).await
}

impl From<CreateApiKeysRequest> for CreateApiKeys {
    fn from(request: CreateApiKeysRequest) -> Self {
        let CreateApiKeysRequest { group_id, secrets, name, weight, max_concurrency, status, auto_ban } = request;
        Self { group_id, secrets: secrets.0, name, weight, max_concurrency, status, auto_ban }
    }
}

impl Answer for CreatedApiKeysResponse {}
impl Answer for ChangedApiKeysResponse {}

impl From<CreatedApiKeys> for CreatedApiKeysResponse {
    fn from(batch: CreatedApiKeys) -> Self {
        let skipped =
            batch.skipped.into_iter().map(|SkippedLine { line, reason }| SkippedLineResponse { line, reason });
        Self { created: batch.created.into_iter().map(ApiKeyResponse::from).collect(), skipped: skipped.collect() }
    }
}
