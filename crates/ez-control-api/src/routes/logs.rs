//! `/admin/logs` and `/v1/logs`: accounts of calls.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use ez_contract::usage::{EndedBy, TokenUsage, UsageSource};
use ez_contract::{Protocol, ProviderType, UsageRecord};
use ez_control::Tenant;
use ez_control::logs;
use ez_store::logs::{LogFilter, LogPage};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, MasterCtx, Path, Query};
use crate::listing::{StretchResponse, decode_log_cursor, encode_log_cursor, stretch_limit};
use crate::problem::ApiError;
use crate::timestamp::Timestamp;
use crate::words;

/// Which log records to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogListQuery {
    /// The `next_cursor` of the stretch before.
    cursor: Option<String>,
    /// Records in a stretch.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u64>,
    /// Only those of this master.
    master_id: Option<i64>,
    /// Only those of this child key.
    key_id: Option<i64>,
    /// Only those whose last attempt went to this provider group.
    group_id: Option<i64>,
    /// Only those whose last attempt used this API key.
    api_key_id: Option<i64>,
    /// Only those of this public model.
    model: Option<String>,
    /// Only those with this HTTP status, or this class of them.
    #[param(value_type = Option<String>, example = "4xx")]
    status: Option<StatusRange>,
    /// Only those with this text in their error, in any case of letters.
    #[param(min_length = 1, max_length = 200)]
    error: Option<String>,
    /// Only those of this request.
    request_id: Option<String>,
    /// Only those that arrived at this time or later.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    since: Option<Timestamp>,
    /// Only those that arrived before this time.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    until: Option<Timestamp>,
}

/// Which of its log records a master lists.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OwnLogListQuery {
    /// The `next_cursor` of the stretch before.
    cursor: Option<String>,
    /// Records in a stretch.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u64>,
    /// Only those of this child key.
    key_id: Option<i64>,
    /// Only those of this public model.
    model: Option<String>,
    /// Only those with this HTTP status, or this class of them.
    #[param(value_type = Option<String>, example = "4xx")]
    status: Option<StatusRange>,
    /// Only those with this text in their error, in any case of letters.
    #[param(min_length = 1, max_length = 200)]
    error: Option<String>,
    /// Only those of this request.
    request_id: Option<String>,
    /// Only those that arrived at this time or later.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    since: Option<Timestamp>,
    /// Only those that arrived before this time.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    until: Option<Timestamp>,
}

/// A status such as `429`, or a class of them such as `4xx`.
#[derive(Debug)]
struct StatusRange(RangeInclusive<u16>);

/// The account of one call, as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Log)]
pub(crate) struct LogResponse {
    /// Made by the gateway.
    id: String,
    /// The `x-request-id` that the client saw.
    request_id: String,
    /// When the call arrived.
    created_at: DateTime<Utc>,
    /// The master.
    master_id: i64,
    /// The child key.
    key_id: i64,
    /// Provider group of the last attempt.
    group_id: Option<i64>,
    /// API key of the last attempt.
    api_key_id: Option<i64>,
    /// Type of the last attempt's provider group.
    #[schema(value_type = Option<words::ProviderType>)]
    provider_type: Option<ProviderType>,
    /// The account itself.
    #[serde(flatten)]
    call: CallResponse,
}

/// The account of one call, as its master sees it: without the upstream's ids.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OwnLog)]
pub(crate) struct OwnLogResponse {
    /// Made by the gateway.
    id: String,
    /// The `x-request-id` that the client saw.
    request_id: String,
    /// When the call arrived.
    created_at: DateTime<Utc>,
    /// The child key.
    key_id: i64,
    /// The account itself.
    #[serde(flatten)]
    call: CallResponse,
}

/// What happened in a call.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Call)]
pub(crate) struct CallResponse {
    /// Resolved namespace; empty where the call was refused before that.
    namespace: String,
    /// Public model; empty where the call was refused before that.
    model: String,
    /// Model asked of the upstream.
    upstream_model: Option<String>,
    /// The client's protocol.
    #[schema(value_type = words::Protocol)]
    protocol: Protocol,
    /// HTTP status that the client saw; 499 when it left before one was sent.
    status: u16,
    /// What went wrong, if anything did.
    error: Option<String>,
    /// Whether the client asked for a stream.
    stream: bool,
    /// Who ended the call.
    #[schema(value_type = words::EndedBy)]
    ended_by: EndedBy,
    /// Upstream attempts made.
    attempts: u32,
    /// Arrival to the last byte, milliseconds.
    latency_ms: u64,
    /// Arrival to the first byte of the answer's body, milliseconds.
    first_byte_ms: Option<u64>,
    /// All input tokens, cached ones included; `null` where unknown, like the other counts.
    input_tokens: Option<u64>,
    /// All output tokens, reasoning included.
    output_tokens: Option<u64>,
    /// Input tokens read from the vendor's prompt cache.
    cache_read_tokens: Option<u64>,
    /// Input tokens written to the vendor's prompt cache.
    cache_write_tokens: Option<u64>,
    /// Output tokens that were reasoning.
    reasoning_tokens: Option<u64>,
    /// How the counts came about.
    #[schema(value_type = words::UsageSource)]
    usage_source: UsageSource,
    /// US dollars, an exact decimal; `null` where no price is known.
    cost: Option<String>,
    /// The price list of `cost`.
    price_version: Option<String>,
    /// The client's address.
    client_ip: Option<String>,
    /// Size of the request body, bytes.
    request_bytes: u64,
    /// Size of the answer's body, bytes.
    response_bytes: u64,
}

/// List log records, newest first.
///
/// One request looks at 50,000 records at most. Where few of them match, `items` is short or empty, and `next_cursor` goes on
/// after the last that was looked at: only `null` is the end.
#[utoipa::path(get, path = "/admin/logs", tag = "logs", operation_id = "list_logs", params(LogListQuery),
    security(("admin" = [])),
    responses((status = 200, description = "A stretch of log records.", body = StretchResponse<LogResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<LogListQuery>,
) -> Result<Json<StretchResponse<LogResponse>>, ApiError> {
    let limit = stretch_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(decode_log_cursor).transpose()?;
    let filter = LogFilter {
        master_id: query.master_id,
        key_id: query.key_id,
        group_id: query.group_id,
        api_key_id: query.api_key_id,
        model: query.model,
        status: query.status.map(|range| range.0),
        error: query.error,
        request_id: query.request_id,
        since: query.since.map(Into::into),
        until: query.until.map(Into::into),
    };
    let page = logs::list(&ctx.control, Tenant::Any, filter, cursor.as_ref(), limit).await?;
    Ok(Json(stretch(page)))
}

/// Get a log record.
#[utoipa::path(get, path = "/admin/logs/{id}", tag = "logs", operation_id = "get_log",
    params(("id" = String, Path, description = "Id of the log record.")), security(("admin" = [])),
    responses((status = 200, description = "The log record.", body = LogResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<String>) -> Result<Json<LogResponse>, ApiError> {
    let record = logs::get(&ctx.control, Tenant::Any, &id).await?;
    Ok(Json(record.into()))
}

/// List own log records, newest first.
///
/// One request looks at 50,000 records at most. Where few of them match, `items` is short or empty, and `next_cursor` goes on
/// after the last that was looked at: only `null` is the end.
#[utoipa::path(get, path = "/v1/logs", tag = "self", operation_id = "list_own_logs", params(OwnLogListQuery),
    security(("master" = [])),
    responses((status = 200, description = "A stretch of log records.", body = StretchResponse<OwnLogResponse>)))]
pub(crate) async fn list_own(
    ctx: MasterCtx,
    Query(query): Query<OwnLogListQuery>,
) -> Result<Json<StretchResponse<OwnLogResponse>>, ApiError> {
    let limit = stretch_limit(query.limit)?;
    let cursor = query.cursor.as_deref().map(decode_log_cursor).transpose()?;
    let filter = LogFilter {
        key_id: query.key_id,
        model: query.model,
        status: query.status.map(|range| range.0),
        error: query.error,
        request_id: query.request_id,
        since: query.since.map(Into::into),
        until: query.until.map(Into::into),
        ..LogFilter::default()
    };
    let page = logs::list(&ctx.control, ctx.tenant(), filter, cursor.as_ref(), limit).await?;
    Ok(Json(stretch(page)))
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parse = || {
            if let Some(class) = text.strip_suffix("xx") {
                let first = class.parse::<u16>().ok().filter(|class| (1..=5).contains(class))? * 100;
                return Some(first..=first + 99);
            }
            let status = text.parse::<u16>().ok().filter(|status| (100..=599).contains(status))?;
            Some(status..=status)
        };
        let refusal = || serde::de::Error::custom(format!("`{text}` is no HTTP status: use one such as 429, or 4xx"));
        parse().map(Self).ok_or_else(refusal)
    }
}

impl From<UsageRecord> for LogResponse {
    fn from(record: UsageRecord) -> Self {
        Self {
            id: record.id.clone(),
            request_id: record.request_id.clone(),
            created_at: record.created_at,
            master_id: record.master_id,
            key_id: record.key_id,
            group_id: record.group_id,
            api_key_id: record.api_key_id,
            provider_type: record.provider_type,
            call: record.into(),
        }
    }
}

impl From<UsageRecord> for OwnLogResponse {
    fn from(record: UsageRecord) -> Self {
        Self {
            id: record.id.clone(),
            request_id: record.request_id.clone(),
            created_at: record.created_at,
            key_id: record.key_id,
            call: record.into(),
        }
    }
}

impl From<UsageRecord> for CallResponse {
    fn from(record: UsageRecord) -> Self {
        let TokenUsage { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens } =
            record.tokens;
        Self {
            namespace: record.namespace,
            model: record.model,
            upstream_model: record.upstream_model,
            protocol: record.protocol,
            status: record.status,
            error: record.error,
            stream: record.stream,
            ended_by: record.ended_by,
            attempts: record.attempts,
            latency_ms: record.latency_ms,
            first_byte_ms: record.first_byte_ms,
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_tokens,
            reasoning_tokens,
            usage_source: record.usage_source,
            cost: record.cost,
            price_version: record.price_version,
            client_ip: record.client_ip,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
        }
    }
}

fn stretch<T: From<UsageRecord>>(page: LogPage) -> StretchResponse<T> {
    StretchResponse {
        items: page.items.into_iter().map(T::from).collect(),
        next_cursor: page.next.as_ref().map(encode_log_cursor),
    }
}
