//! `/admin/api-keys/stats/summary`: what API keys add up to.

use ez_contract::status::ApiKeyStatus;
use ez_control::{api_keys, statistics};
use ez_store::api_keys::ApiKeyTotals;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rate;
use super::statistics::PeriodResponse;
use crate::extract::{AdminCtx, Json, Query};
use crate::problem::ApiError;
use crate::timestamp::Timestamp;

/// Which API keys, and what of them.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApiKeyStatsQuery {
    /// Only those of this provider group.
    group_id: Option<i64>,
    /// Only calls that arrived at this time or later.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    since: Option<Timestamp>,
    /// Only calls that arrived before this time.
    #[param(value_type = Option<String>, example = "2026-01-31T12:00:00Z")]
    until: Option<Timestamp>,
}

/// What API keys add up to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyStats)]
pub(crate) struct ApiKeyStatsResponse {
    /// What the sums cover; `null` where no time was asked for, as then it is every attempt ever made.
    period: Option<PeriodResponse>,
    /// Calls made with them.
    total_requests: u64,
    /// Those that succeeded.
    success_requests: u64,
    /// Those that failed.
    failure_requests: u64,
    /// Part that succeeded, from 0 to 1; `null` where there were no calls.
    success_rate: Option<f64>,
    /// Part that failed, from 0 to 1; `null` where there were no calls.
    failure_rate: Option<f64>,
    /// How many API keys there are.
    api_keys: ApiKeyCountsResponse,
}

/// How many API keys there are now, by status.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKeyCounts)]
pub(crate) struct ApiKeyCountsResponse {
    /// All.
    total: u64,
    /// Those in use.
    active: u64,
    /// Those that are suspended.
    suspended: u64,
    /// Those that ez-api switched off.
    auto_disabled: u64,
    /// Those that somebody switched off.
    manual_disabled: u64,
}

/// Sum up API keys.
///
/// Without a time: every attempt ever made with the API keys that there are, as gateways counted them; a call that was tried
/// with several counts with each, and what the caller was at fault for is no failure. With `since` or `until`: calls of the
/// log, each by its last attempt and its own end, whoever is at fault.
#[utoipa::path(get, path = "/admin/api-keys/stats/summary", tag = "api-keys", operation_id = "summarise_api_keys",
    params(ApiKeyStatsQuery), security(("admin" = [])),
    responses((status = 200, description = "The sums.", body = ApiKeyStatsResponse)))]
pub(crate) async fn summary(
    ctx: AdminCtx,
    Query(query): Query<ApiKeyStatsQuery>,
) -> Result<Json<ApiKeyStatsResponse>, ApiError> {
    let ApiKeyStatsQuery { group_id, since, until } = query;
    let standing = api_keys::totals(&ctx.control, group_id).await?;
    let (period, (successes, failures)) = match (since, until) {
        (None, None) => (None, sum(standing.iter().map(|totals| (totals.successes, totals.failures)))),
        (since, until) => {
            let (since, until) = (since.map(Into::into), until.map(Into::into));
            let between = statistics::api_keys_between(&ctx.control, since, until, group_id).await?;
            let figures = between.api_keys.values();
            let counts = figures.map(|figures| (figures.requests.saturating_sub(figures.failures), figures.failures));
            (Some(PeriodResponse { since: between.since, until: between.until }), sum(counts))
        }
    };
    let total = successes.saturating_add(failures);
    Ok(Json(ApiKeyStatsResponse {
        period,
        total_requests: total,
        success_requests: successes,
        failure_requests: failures,
        success_rate: rate(successes, total),
        failure_rate: rate(failures, total),
        api_keys: standing.as_slice().into(),
    }))
}

/// Successes and failures, each added up.
fn sum(counts: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    counts.fold((0, 0), |sum, (successes, failures)| (sum.0.saturating_add(successes), sum.1.saturating_add(failures)))
}

impl From<&[ApiKeyTotals]> for ApiKeyCountsResponse {
    fn from(standing: &[ApiKeyTotals]) -> Self {
        let of = |status| standing.iter().filter(|totals| totals.status == status).map(|totals| totals.api_keys).sum();
        Self {
            total: standing.iter().map(|totals| totals.api_keys).sum(),
            active: of(ApiKeyStatus::Active),
            suspended: of(ApiKeyStatus::Suspended),
            auto_disabled: of(ApiKeyStatus::AutoDisabled),
            manual_disabled: of(ApiKeyStatus::ManualDisabled),
        }
    }
}
