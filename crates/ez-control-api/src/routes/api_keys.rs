//! `/admin/api-keys`: upstream credentials.

use chrono::{DateTime, Utc};
use ez_contract::health::{BreakerState, HealthKind, HealthState};
use ez_contract::status::ApiKeyStatus;
use ez_control::RecordTag;
use ez_control::api_keys::{self, ChangeApiKey, CreateApiKey};
use ez_store::api_keys::{ApiKey, ApiKeyFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rate;
use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{PageResponse, list_query};
use crate::patch::{Patch, present};
use crate::problem::ApiError;
use crate::secret_text::SecretText;
use crate::words;
use crate::writing::{Answer, Created, Deleted, Record};

list_query! {
    /// Which API keys to list.
    ApiKeyListQuery {
        /// Only those with this status.
        #[param(value_type = Option<words::ApiKeyStatus>)]
        status: ApiKeyStatus,
        /// Only those of this provider group.
        group_id: i64,
    }
}

/// A new API key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateApiKeyRequest {
    /// The provider group that it is for.
    group_id: i64,
    /// To tell keys apart; empty where absent.
    name: Option<String>,
    /// The vendor's secret; for `vertex` the service-account JSON as a text. Never shown again.
    #[schema(value_type = String, format = Password, write_only)]
    api_key: SecretText,
    /// Share of the calls, relative to the other keys of the group; 1 where absent, 0 is none.
    weight: Option<u32>,
    /// Calls in flight at once with it; unlimited where absent.
    #[schema(minimum = 1)]
    max_concurrency: Option<u32>,
    /// `active` where absent.
    #[schema(value_type = Option<words::ApiKeyStatus>)]
    status: Option<ApiKeyStatus>,
    /// Whether ez-api may switch it off when the vendor refuses it; true where absent.
    auto_ban: Option<bool>,
}

/// What to change about an API key. Absent fields stay, and `null` clears those that may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateApiKeyRequest {
    /// The provider group that it is for.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = i64, required = false)]
    group_id: Option<i64>,
    /// To tell keys apart.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    /// A new secret in place of the old one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, format = Password, write_only, required = false)]
    api_key: Option<SecretText>,
    /// Share of the calls, relative to the other keys of the group; 0 is none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u32, required = false)]
    weight: Option<u32>,
    /// Calls in flight at once with it; `null` is unlimited.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_concurrency: Patch<u32>,
    /// Only an active key is used.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::ApiKeyStatus, required = false)]
    status: Option<ApiKeyStatus>,
    /// Whether ez-api may switch it off when the vendor refuses it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    auto_ban: Option<bool>,
}

/// An upstream credential, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct ApiKeyResponse {
    /// Given by ez-api.
    id: i64,
    /// The provider group that it is for.
    group_id: i64,
    /// To tell keys apart; may be empty.
    name: String,
    /// Share of the calls, relative to the other keys of the group.
    weight: u32,
    /// Calls in flight at once with it; `null` is unlimited.
    max_concurrency: Option<u32>,
    /// Only an active key is used.
    #[schema(value_type = words::ApiKeyStatus)]
    status: ApiKeyStatus,
    /// Whether ez-api may switch it off when the vendor refuses it.
    auto_ban: bool,
    /// Why ez-api switched it off.
    ban_reason: Option<String>,
    /// Until when.
    ban_until: Option<DateTime<Utc>>,
    /// Calls made with it.
    total_requests: u64,
    /// Those that succeeded.
    success_requests: u64,
    /// Those that failed.
    failure_requests: u64,
    /// Part that succeeded, from 0 to 1; `null` before the first call.
    success_rate: Option<f64>,
    /// Part that failed, from 0 to 1; `null` before the first call.
    failure_rate: Option<f64>,
    /// When it was last used.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

/// An upstream credential with what gateways share of it at the moment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyWithHealth)]
pub(crate) struct ApiKeyWithHealthResponse {
    #[serde(flatten)]
    record: ApiKeyResponse,
    /// Cooldowns and breakers that have not passed yet; `null` while the shared state cannot be reached. The record's tag
    /// does not cover them.
    health: Option<Vec<HealthStateResponse>>,
}

/// A state of an API key that passes by itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HealthState)]
pub(crate) struct HealthStateResponse {
    /// What it is.
    #[schema(value_type = words::HealthKind)]
    kind: HealthKind,
    /// The upstream model that it is about; `null` is all of them.
    model: Option<String>,
    /// Of a breaker: open or half open.
    #[schema(value_type = Option<words::BreakerState>)]
    state: Option<BreakerState>,
    /// Why.
    reason: String,
    /// When it passes.
    until: DateTime<Utc>,
    /// When a gateway reported it.
    reported_at: DateTime<Utc>,
}

/// List API keys.
#[utoipa::path(get, path = "/admin/api-keys", tag = "api-keys", operation_id = "list_api_keys",
    params(ApiKeyListQuery), security(("admin" = [])),
    responses((status = 200, description = "A page of API keys.", body = PageResponse<ApiKeyResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<ApiKeyListQuery>,
) -> Result<Json<PageResponse<ApiKeyResponse>>, ApiError> {
    let listing = query.listing()?;
    let filter = ApiKeyFilter { group_id: query.group_id, search: query.search(), status: query.status };
    let found = api_keys::list(&ctx.control, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Create an API key.
///
/// Its secret is encrypted at once and never shown again.
#[utoipa::path(post, path = "/admin/api-keys", tag = "api-keys", operation_id = "create_api_key",
    request_body = CreateApiKeyRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = ApiKeyResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateApiKeyRequest>,
) -> Result<Created<ApiKeyResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let api_key = api_keys::create(&write, request.into()).await?;
    write.create("/admin/api-keys", Record::of(api_key)).await
}

/// Get an API key.
#[utoipa::path(get, path = "/admin/api-keys/{id}", tag = "api-keys", operation_id = "get_api_key",
    params(("id" = i64, Path, description = "Id of the API key.")), security(("admin" = [])),
    responses((status = 200, description = "The API key.", body = ApiKeyWithHealthResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<ApiKeyWithHealthResponse>, ApiError> {
    let api_key = api_keys::get(&ctx.control, id).await?;
    let health = api_keys::health(&ctx.control, id).await;
    let health = health.map(|states| states.into_iter().map(HealthStateResponse::from).collect());
    let tag = RecordTag::of(&api_key);
    Ok(Record::tagged(&tag, ApiKeyWithHealthResponse { record: api_key.into(), health }))
}

/// Change an API key.
#[utoipa::path(put, path = "/admin/api-keys/{id}", tag = "api-keys", operation_id = "update_api_key",
    params(("id" = i64, Path, description = "Id of the API key.")), request_body = UpdateApiKeyRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = ApiKeyResponse)))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateApiKeyRequest>,
) -> Result<Record<ApiKeyResponse>, ApiError> {
    let write = ctx.write().await?;
    let api_key = api_keys::update(&write, id, request.into()).await?;
    write.finish(Record::of(api_key)).await
}

/// Delete an API key.
#[utoipa::path(delete, path = "/admin/api-keys/{id}", tag = "api-keys", operation_id = "delete_api_key",
    params(("id" = i64, Path, description = "Id of the API key.")), security(("admin" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(ctx: AdminCtx, Path(id): Path<i64>, NoBody: NoBody) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    api_keys::delete(&write, id).await?;
    write.delete().await
}

impl From<CreateApiKeyRequest> for CreateApiKey {
    fn from(request: CreateApiKeyRequest) -> Self {
        Self {
            group_id: request.group_id,
            name: request.name,
            api_key: request.api_key.0,
            weight: request.weight,
            max_concurrency: request.max_concurrency,
            status: request.status,
            auto_ban: request.auto_ban,
        }
    }
}

impl From<UpdateApiKeyRequest> for ChangeApiKey {
    fn from(request: UpdateApiKeyRequest) -> Self {
        Self {
            group_id: request.group_id,
            name: request.name.into(),
            api_key: request.api_key.map(|secret| secret.0),
            weight: request.weight,
            max_concurrency: request.max_concurrency.into(),
            status: request.status,
            auto_ban: request.auto_ban,
        }
    }
}

impl Answer for ApiKeyResponse {}

impl From<ApiKey> for ApiKeyResponse {
    fn from(key: ApiKey) -> Self {
        Self {
            success_rate: rate(key.success_requests, key.total_requests),
            failure_rate: rate(key.failure_requests, key.total_requests),
            id: key.id,
            group_id: key.group_id,
            name: key.name,
            weight: key.weight,
            max_concurrency: key.max_concurrency,
            status: key.status,
            auto_ban: key.auto_ban,
            ban_reason: key.ban_reason,
            ban_until: key.ban_until,
            total_requests: key.total_requests,
            success_requests: key.success_requests,
            failure_requests: key.failure_requests,
            last_used_at: key.last_used_at,
            created_at: key.created_at,
            updated_at: key.updated_at,
        }
    }
}

impl From<HealthState> for HealthStateResponse {
    fn from(health: HealthState) -> Self {
        let HealthState { api_key_id: _, kind, model, state, reason, until, reported_at } = health;
        Self { kind, model, state, reason, until, reported_at }
    }
}
