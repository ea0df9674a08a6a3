//! `/internal/apikey-stats/flush` and `/internal/stats/flush`: counts that gateways gather and hand in now and then.

use chrono::{DateTime, Utc};
use ez_contract::flush::{ApiKeyDelta, ApiKeyFlush};
use ez_control::flushes::{self, FlushTaken, KeyFlush, KeyUse};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{InternalCtx, Json};
use crate::problem::ApiError;

/// What came of attempts made with API keys. Unknown fields are let pass: a gateway may be newer.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct FlushApiKeysRequest {
    /// Made by the gateway, visible ASCII characters; each counts once, and is known for 7 days.
    #[schema(min_length = 1, max_length = 128)]
    batch_id: String,
    /// One for each API key.
    #[schema(max_items = 1000)]
    deltas: Vec<ApiKeyDeltaRequest>,
}

/// What came of the attempts made with one API key.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ApiKeyDeltaRequest {
    /// Id of the API key.
    api_key_id: i64,
    /// Attempts: `successes` and `failures` together.
    #[schema(maximum = 1_000_000_000)]
    requests: u64,
    /// Those that nothing can be held against the API key or its upstream for.
    successes: u64,
    /// Those that failed.
    failures: u64,
    /// When the last of them was made.
    last_used_at: DateTime<Utc>,
}

/// Use of child keys whose calls leave no usage records. Unknown fields are let pass: a gateway may be newer.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct FlushKeysRequest {
    /// Made by the gateway, visible ASCII characters; each counts once, and is known for 7 days.
    #[schema(min_length = 1, max_length = 128)]
    batch_id: String,
    /// One for each child key.
    #[schema(max_items = 1000)]
    deltas: Vec<KeyDeltaRequest>,
}

/// What calls of one child key came to.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct KeyDeltaRequest {
    /// Id of the child key.
    key_id: i64,
    /// Calls.
    #[schema(maximum = 1_000_000_000)]
    requests: u64,
    /// Input tokens, cached ones included.
    #[schema(maximum = 1_000_000_000_000_000_u64)]
    input_tokens: u64,
    /// Output tokens, reasoning included.
    #[schema(maximum = 1_000_000_000_000_000_u64)]
    output_tokens: u64,
    /// Those of both that count against the key's quota; where absent all of them, unless it started anew after
    /// `last_used_at`.
    quota_tokens: Option<u64>,
    /// When the last of the calls arrived. Its month is the one that `spend` counts in.
    last_used_at: DateTime<Utc>,
    /// US dollars, an exact decimal; absent where not known.
    #[schema(pattern = r"^[0-9]+(\.[0-9]+)?$")]
    spend: Option<String>,
}

/// What became of a batch of counts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FlushTaken)]
pub(crate) struct FlushTakenResponse {
    /// Deltas that were counted.
    applied: u64,
    /// Ids of what does not exist, whose deltas count for nothing.
    unknown: Vec<i64>,
    /// Whether the batch was taken before, so that nothing was counted now.
    repeated: bool,
}

/// Hand in what came of attempts made with API keys.
///
/// Adds to the totals of the API keys and of their provider groups. Idempotent by `batch_id`.
#[utoipa::path(post, path = "/internal/apikey-stats/flush", tag = "internal", operation_id = "flush_api_key_statistics",
    request_body = FlushApiKeysRequest, security(("internal" = [])),
    responses((status = 200, description = "What became of the batch.", body = FlushTakenResponse)))]
pub(crate) async fn flush_api_keys(
    ctx: InternalCtx,
    Json(request): Json<FlushApiKeysRequest>,
) -> Result<Json<FlushTakenResponse>, ApiError> {
    let deltas = request.deltas.into_iter().map(Into::into).collect();
    let flush = ApiKeyFlush { batch_id: request.batch_id, deltas };
    Ok(Json(flushes::flush_api_keys(&ctx.control, &flush).await?.into()))
}

/// Hand in the use of child keys.
///
/// For gateways that hand in no usage records: `POST /internal/logs` counts the use of its records by itself, so a gateway
/// must not do both. Quotas, budgets and totals of the keys and their masters are counted alike. Idempotent by `batch_id`.
#[utoipa::path(post, path = "/internal/stats/flush", tag = "internal", operation_id = "flush_key_usage",
    request_body = FlushKeysRequest, security(("internal" = [])),
    responses((status = 200, description = "What became of the batch.", body = FlushTakenResponse)))]
pub(crate) async fn flush_keys(
    ctx: InternalCtx,
    Json(request): Json<FlushKeysRequest>,
) -> Result<Json<FlushTakenResponse>, ApiError> {
    let deltas = request.deltas.into_iter().map(Into::into).collect();
    let flush = KeyFlush { batch_id: request.batch_id, deltas };
    Ok(Json(flushes::flush_keys(&ctx.control, &flush).await?.into()))
}

impl From<ApiKeyDeltaRequest> for ApiKeyDelta {
    fn from(request: ApiKeyDeltaRequest) -> Self {
        let ApiKeyDeltaRequest { api_key_id, requests, successes, failures, last_used_at } = request;
        Self { api_key_id, requests, successes, failures, last_used_at }
    }
}

impl From<KeyDeltaRequest> for KeyUse {
    fn from(request: KeyDeltaRequest) -> Self {
        let KeyDeltaRequest { key_id, requests, input_tokens, output_tokens, quota_tokens, last_used_at, spend } =
            request;
        Self { key_id, requests, input_tokens, output_tokens, quota_tokens, last_used_at, spend }
    }
}

impl From<FlushTaken> for FlushTakenResponse {
    fn from(taken: FlushTaken) -> Self {
        let FlushTaken { applied, unknown, is_repeated } = taken;
        Self { applied, unknown, repeated: is_repeated }
    }
}
