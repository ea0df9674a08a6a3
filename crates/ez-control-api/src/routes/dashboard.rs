//! `/admin/dashboard/summary`: what calls add up to, at a glance.

use ez_contract::status::ApiKeyStatus;
use ez_control::statistics::{self, Dashboard, DashboardPeriod, Standing};
use ez_store::statistics::{Figures, Item, ItemKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rate;
use super::statistics::PeriodResponse;
use crate::extract::{AdminCtx, Json, Query};
use crate::problem::{ApiError, FaultResponse};
use crate::timestamp::Timestamp;

/// Days of UTC, the last of which is today; or all time.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
enum Period {
    #[serde(rename = "today")]
    Today,
    #[serde(rename = "7d")]
    SevenDays,
    #[serde(rename = "30d")]
    ThirtyDays,
    #[serde(rename = "all")]
    All,
}

/// Of what stretch of time the dashboard is.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DashboardQuery {
    /// Whole UTC days that end with today, or all time. Without it and without `since` and `until`, today.
    #[param(inline)]
    period: Option<Period>,
    /// Instead of a period: calls that arrived at this time or later.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    since: Option<Timestamp>,
    /// Instead of a period: calls that arrived before this time.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    until: Option<Timestamp>,
}

/// What calls add up to, and what there is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dashboard)]
pub(crate) struct DashboardResponse {
    /// What is covered.
    period: PeriodResponse,
    /// Calls.
    requests: RequestCountsResponse,
    /// What they used.
    tokens: TokenSumsResponse,
    /// US dollars, an exact decimal: of the calls whose cost is known. `null` where it is of none.
    cost: Option<String>,
    /// How long they took.
    latency: LatencyResponse,
    /// Masters.
    masters: StandingResponse,
    /// Child keys.
    keys: StandingResponse,
    /// API keys.
    provider_keys: ProviderKeysResponse,
    /// The ten models of most calls.
    top_models: Vec<TopModelResponse>,
}

/// Calls by how they ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RequestCounts)]
pub(crate) struct RequestCountsResponse {
    /// All calls.
    total: u64,
    /// Those that did not fail.
    success: u64,
    /// Those with a status of 400 or more, or an end other than the proper one.
    failed: u64,
    /// Successes of all, from 0 to 1.
    success_rate: Option<f64>,
}

/// Tokens of calls. What is not known counts nothing.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TokenSums)]
pub(crate) struct TokenSumsResponse {
    /// Input, cached input included.
    input: u64,
    /// Output, reasoning included.
    output: u64,
    /// Input read from vendors' prompt caches.
    cache_read: u64,
    /// Input written to vendors' prompt caches.
    cache_write: u64,
    /// Output that was reasoning.
    reasoning: u64,
}

/// From arrival to the last byte, milliseconds; `null` where there were no calls.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Latency)]
pub(crate) struct LatencyResponse {
    /// On average.
    avg_ms: Option<f64>,
    /// At the 50th percentile, off by at most 2 %.
    p50_ms: Option<f64>,
    /// At the 95th.
    p95_ms: Option<f64>,
    /// At the 99th.
    p99_ms: Option<f64>,
}

/// How many records of a kind there are.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Standing)]
pub(crate) struct StandingResponse {
    /// Of all states.
    total: u64,
    /// The active ones.
    active: u64,
}

/// API keys by status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderKeys)]
pub(crate) struct ProviderKeysResponse {
    /// Of all states.
    total: u64,
    /// In use.
    active: u64,
    /// Set aside.
    suspended: u64,
    /// Banned by what gateways learned of them.
    auto_disabled: u64,
    /// Switched off by an admin.
    manual_disabled: u64,
}

/// A model with many calls.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TopModel)]
pub(crate) struct TopModelResponse {
    /// The public model; empty for calls that were refused because no such model exists.
    model: String,
    /// Its calls.
    requests: u64,
    /// Those that failed.
    failures: u64,
    /// Input tokens.
    input_tokens: u64,
    /// Output tokens.
    output_tokens: u64,
    /// US dollars, an exact decimal: of the calls whose cost is known. `null` where it is of none.
    cost: Option<String>,
}

/// Tell what calls add up to.
///
/// Counts, sums and costs are exact, and current at once.
#[utoipa::path(get, path = "/admin/dashboard/summary", tag = "dashboard", operation_id = "get_dashboard_summary",
    params(DashboardQuery), security(("admin" = [])),
    responses((status = 200, description = "The dashboard.", body = DashboardResponse)))]
pub(crate) async fn summary(
    ctx: AdminCtx,
    Query(query): Query<DashboardQuery>,
) -> Result<Json<DashboardResponse>, ApiError> {
    let dashboard = statistics::dashboard(&ctx.control, query.period()?).await?;
    Ok(Json(dashboard.into()))
}

impl DashboardQuery {
    fn period(self) -> Result<DashboardPeriod, ApiError> {
        match (self.period, self.since, self.until) {
            (None | Some(Period::Today), None, None) => Ok(DashboardPeriod::Today),
            (Some(Period::SevenDays), None, None) => Ok(DashboardPeriod::Days(7)),
            (Some(Period::ThirtyDays), None, None) => Ok(DashboardPeriod::Days(30)),
            (Some(Period::All), None, None) => Ok(DashboardPeriod::ALL),
            (None, since, until) => {
                Ok(DashboardPeriod::Between { since: since.map(Into::into), until: until.map(Into::into) })
            }
            (Some(_), ..) => Err(ApiError::invalid(vec![FaultResponse {
                pointer: "/period".to_owned(),
                message: "give a period, or since and until, and not both".to_owned(),
            }])),
        }
    }
}

impl From<Dashboard> for DashboardResponse {
    fn from(dashboard: Dashboard) -> Self {
        let Dashboard { since, until, figures, top_models, masters, keys, provider_keys } = dashboard;
        let successes = figures.successes();
        let with_status = |status: ApiKeyStatus| provider_keys.get(&status).copied().unwrap_or_default();
        Self {
            period: PeriodResponse { since, until },
            requests: RequestCountsResponse {
                total: figures.requests,
                success: successes,
                failed: figures.failures,
                success_rate: rate(successes, figures.requests),
            },
            tokens: TokenSumsResponse {
                input: figures.input_tokens,
                output: figures.output_tokens,
                cache_read: figures.cache_read_tokens,
                cache_write: figures.cache_write_tokens,
                reasoning: figures.reasoning_tokens,
            },
            latency: LatencyResponse::from(&figures),
            cost: figures.cost,
            masters: masters.into(),
            keys: keys.into(),
            provider_keys: ProviderKeysResponse {
                total: provider_keys.values().sum(),
                active: with_status(ApiKeyStatus::Active),
                suspended: with_status(ApiKeyStatus::Suspended),
                auto_disabled: with_status(ApiKeyStatus::AutoDisabled),
                manual_disabled: with_status(ApiKeyStatus::ManualDisabled),
            },
            top_models: top_models.into_iter().map(TopModelResponse::from).collect(),
        }
    }
}

impl From<&Figures> for LatencyResponse {
    fn from(figures: &Figures) -> Self {
        let Figures { latency, latency_avg_ms, .. } = figures;
        Self {
            avg_ms: *latency_avg_ms,
            p50_ms: latency.map(|latency| latency.p50_ms),
            p95_ms: latency.map(|latency| latency.p95_ms),
            p99_ms: latency.map(|latency| latency.p99_ms),
        }
    }
}

impl From<Standing> for StandingResponse {
    fn from(Standing { total, active }: Standing) -> Self {
        Self { total, active }
    }
}

impl From<Item> for TopModelResponse {
    fn from(Item { key, figures }: Item) -> Self {
        let model = match key {
            ItemKey::Model(model) => model,
            _ => String::new(),
        };
        Self {
            model,
            requests: figures.requests,
            failures: figures.failures,
            input_tokens: figures.input_tokens,
            output_tokens: figures.output_tokens,
            cost: figures.cost,
        }
    }
}
