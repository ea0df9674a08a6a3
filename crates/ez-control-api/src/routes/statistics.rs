//! `/admin/logs/stats` and `/v1/logs/stats`: what calls add up to.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use ez_control::Tenant;
use ez_control::statistics::{self, Asked, NamedStatistics};
use ez_store::statistics::{Figures, Grouping, Item, ItemKey, StatisticsFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rate;
use crate::extract::{AdminCtx, Json, MasterCtx, Query};
use crate::problem::ApiError;
use crate::timestamp::Timestamp;

/// What calls are added up by. Times are UTC; `provider` is the provider group of the last attempt.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum GroupBy {
    #[default]
    Model,
    Master,
    Key,
    Provider,
    Month,
    Day,
    Hour,
    Minute,
}

/// What a master's own calls are added up by. Times are UTC.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OwnGroupBy {
    #[default]
    Model,
    Key,
    Month,
    Day,
    Hour,
    Minute,
}

/// Which calls to add up, and by what.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatisticsQuery {
    /// What calls are added up by. `minute` is for ranges up to 6 hours, `hour` for ranges up to 31 days.
    #[serde(default)]
    #[param(inline, required = false, default = "model")]
    group_by: GroupBy,
    /// Only calls that arrived at this time or later.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    since: Option<Timestamp>,
    /// Only calls that arrived before this time.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    until: Option<Timestamp>,
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
    /// Items at most: those of most requests, or the latest where they are stretches of time. Without it 100, or as many
    /// stretches of time as there are.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// Which of its calls a master adds up, and by what.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OwnStatisticsQuery {
    /// What calls are added up by. `minute` is for ranges up to 6 hours, `hour` for ranges up to 31 days.
    #[serde(default)]
    #[param(inline, required = false, default = "model")]
    group_by: OwnGroupBy,
    /// Only calls that arrived at this time or later.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    since: Option<Timestamp>,
    /// Only calls that arrived before this time.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    until: Option<Timestamp>,
    /// Only those of this child key.
    key_id: Option<i64>,
    /// Only those of this public model.
    model: Option<String>,
    /// Items at most: those of most requests, or the latest where they are stretches of time. Without it 100, or as many
    /// stretches of time as there are.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
}

/// What calls add up to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Statistics)]
pub(crate) struct StatisticsResponse {
    /// What is covered.
    period: PeriodResponse,
    /// Those of most requests first; stretches of time earliest first. What has no calls has no item.
    items: Vec<StatisticsItemResponse>,
    /// Whether there are more items than these.
    truncated: bool,
}

/// What is covered: the stretch of time that was asked for. An end of it within an hour (or a day, where hours are not kept)
/// whose log records are gone is moved to take that hour in whole, and what is older than all that is kept is left out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Period)]
pub(crate) struct PeriodResponse {
    /// Calls that arrived at this time or later; `null` has no beginning.
    pub(super) since: Option<DateTime<Utc>>,
    /// Calls that arrived before this time; `null` has no end.
    pub(super) until: Option<DateTime<Utc>>,
}

/// What calls with something in common add up to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatisticsItem)]
pub(crate) struct StatisticsItemResponse {
    /// What they have in common: the model (empty for calls that were refused because no such model exists), the id, or the
    /// beginning of the stretch of time. `null` for calls that reached no provider.
    key: Option<String>,
    /// The name of the record with that id, where it still exists and has one.
    name: Option<String>,
    /// All calls.
    requests: u64,
    /// Those that did not fail.
    successes: u64,
    /// Those with a status of 400 or more, or an end other than the proper one.
    failures: u64,
    /// Successes of all, from 0 to 1.
    success_rate: Option<f64>,
    /// Those that a limit refused.
    limited: u64,
    /// Input tokens, cached ones included. What is not known counts nothing, here as below.
    input_tokens: u64,
    /// Output tokens, reasoning included.
    output_tokens: u64,
    /// Input tokens read from vendors' prompt caches.
    cache_read_tokens: u64,
    /// Input tokens written to vendors' prompt caches.
    cache_write_tokens: u64,
    /// Output tokens that were reasoning.
    reasoning_tokens: u64,
    /// US dollars, an exact decimal: of the calls whose cost is known. `null` where it is of none.
    cost: Option<String>,
    /// Calls whose cost is not known, refused ones among them.
    unpriced_requests: u64,
    /// Arrival to the last byte, milliseconds, on average.
    latency_avg_ms: Option<f64>,
    /// The same at the 50th percentile, off by at most 2 %; `null` by key or API key, and where more than one of master, model
    /// and provider group are asked for together. What is answered from log records alone always has it.
    latency_p50_ms: Option<f64>,
    /// At the 95th.
    latency_p95_ms: Option<f64>,
    /// At the 99th.
    latency_p99_ms: Option<f64>,
    /// Arrival to the first byte of the answer's body, milliseconds, on average.
    first_byte_avg_ms: Option<f64>,
}

/// Add calls up.
///
/// Counts, sums and costs are exact, and current at once. Filters and `group_by` that are not added up together are answered
/// from the log records of at most 24 hours; 422 tells so.
#[utoipa::path(get, path = "/admin/logs/stats", tag = "logs", operation_id = "get_log_stats", params(StatisticsQuery),
    security(("admin" = [])),
    responses((status = 200, description = "What the calls add up to.", body = StatisticsResponse)))]
pub(crate) async fn get(
    ctx: AdminCtx,
    Query(query): Query<StatisticsQuery>,
) -> Result<Json<StatisticsResponse>, ApiError> {
    let asked = Asked {
        by: query.group_by.into(),
        filter: StatisticsFilter {
            master_id: query.master_id,
            key_id: query.key_id,
            group_id: query.group_id,
            api_key_id: query.api_key_id,
            model: query.model,
        },
        since: query.since.map(Into::into),
        until: query.until.map(Into::into),
        limit: query.limit,
    };
    Ok(Json(statistics::statistics(&ctx.control, Tenant::Any, asked).await?.into()))
}

/// Add own calls up.
///
/// Counts, sums and costs are exact, and current at once.
#[utoipa::path(get, path = "/v1/logs/stats", tag = "self", operation_id = "get_own_log_stats",
    params(OwnStatisticsQuery), security(("master" = [])),
    responses((status = 200, description = "What the calls add up to.", body = StatisticsResponse)))]
pub(crate) async fn get_own(
    ctx: MasterCtx,
    Query(query): Query<OwnStatisticsQuery>,
) -> Result<Json<StatisticsResponse>, ApiError> {
    let filter = StatisticsFilter { key_id: query.key_id, model: query.model, ..StatisticsFilter::default() };
    let asked = Asked {
        by: query.group_by.into(),
        filter,
        since: query.since.map(Into::into),
        until: query.until.map(Into::into),
        limit: query.limit,
    };
    Ok(Json(statistics::statistics(&ctx.control, ctx.tenant(), asked).await?.into()))
}

impl From<GroupBy> for Grouping {
    fn from(by: GroupBy) -> Self {
        match by {
            GroupBy::Model => Self::Model,
            GroupBy::Master => Self::Master,
            GroupBy::Key => Self::Key,
            GroupBy::Provider => Self::Provider,
            GroupBy::Month => Self::Month,
            GroupBy::Day => Self::Day,
            GroupBy::Hour => Self::Hour,
            GroupBy::Minute => Self::Minute,
        }
    }
}

impl From<OwnGroupBy> for Grouping {
    fn from(by: OwnGroupBy) -> Self {
        match by {
            OwnGroupBy::Model => Self::Model,
            OwnGroupBy::Key => Self::Key,
            OwnGroupBy::Month => Self::Month,
            OwnGroupBy::Day => Self::Day,
            OwnGroupBy::Hour => Self::Hour,
            OwnGroupBy::Minute => Self::Minute,
        }
    }
}

impl From<NamedStatistics> for StatisticsResponse {
    fn from(NamedStatistics { statistics, names }: NamedStatistics) -> Self {
        Self {
            period: PeriodResponse { since: statistics.since, until: statistics.until },
            items: statistics.items.into_iter().map(|item| item_response(item, &names)).collect(),
            truncated: statistics.is_truncated,
        }
    }
}

fn item_response(Item { key, figures }: Item, names: &BTreeMap<i64, String>) -> StatisticsItemResponse {
    let name = key.id().and_then(|id| names.get(&id)).cloned();
    let successes = figures.successes();
    let Figures { requests, latency, .. } = figures;
    StatisticsItemResponse {
        key: key_text(key),
        name,
        requests,
        successes,
        failures: figures.failures,
        success_rate: rate(successes, requests),
        limited: figures.limited,
        input_tokens: figures.input_tokens,
        output_tokens: figures.output_tokens,
        cache_read_tokens: figures.cache_read_tokens,
        cache_write_tokens: figures.cache_write_tokens,
        reasoning_tokens: figures.reasoning_tokens,
        cost: figures.cost,
        unpriced_requests: figures.unpriced,
        latency_avg_ms: figures.latency_avg_ms,
        latency_p50_ms: latency.map(|latency| latency.p50_ms),
        latency_p95_ms: latency.map(|latency| latency.p95_ms),
        latency_p99_ms: latency.map(|latency| latency.p99_ms),
        first_byte_avg_ms: figures.first_byte_avg_ms,
    }
}

fn key_text(key: ItemKey) -> Option<String> {
    match key {
        ItemKey::None => None,
        ItemKey::Id(id) => Some(id.to_string()),
        ItemKey::Model(model) => Some(model),
        ItemKey::At(at) => Some(at.to_rfc3339_opts(SecondsFormat::Secs, true)),
    }
}
