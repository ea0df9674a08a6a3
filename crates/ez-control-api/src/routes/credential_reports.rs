//! `/internal/api-keys/report`: what gateways learned of upstream credentials.

use chrono::{DateTime, Utc};
use ez_contract::health::BreakerState;
use ez_control::credential_reports::{self, RejectedReport, ReportsTaken};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::extract::{InternalCtx, Json};
use crate::problem::ApiError;
use crate::words;

/// Reports on API keys, at most 1,000. Unknown fields are let pass: a gateway may be newer.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ReportApiKeysRequest {
    /// The reports. Each is judged by itself, so that a bad one does not hold up the others.
    #[schema(value_type = Vec<CredentialReportRequest>)]
    reports: Vec<Value>,
}

/// What a gateway learned of an API key.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document; reports are read one by one")]
pub(crate) struct CredentialReportRequest {
    /// Id of the API key.
    api_key_id: i64,
    /// A ban switches the key off; cooldowns and breaker states are shared with the other gateways.
    kind: ReportKind,
    /// When it ends: of a ban, never by itself where absent; of a cooldown, required; of a breaker, in five minutes where
    /// absent.
    until: Option<DateTime<Utc>>,
    /// Of a cooldown or a breaker: the upstream model that it is about; all where absent.
    model: Option<String>,
    /// Of a breaker: what it is now; required.
    #[schema(value_type = Option<words::BreakerState>)]
    state: Option<BreakerState>,
    /// Why.
    #[schema(required = false)]
    reason: String,
    /// What shows it.
    evidence: Option<EvidenceRequest>,
    /// When it was learned; now where absent. A ban from before the key's last change is dropped.
    observed_at: Option<DateTime<Utc>>,
}

/// What can be reported.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the words for the document")]
pub(crate) enum ReportKind {
    Ban,
    Cooldown,
    Breaker,
}

/// What a report rests on.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document")]
pub(crate) struct EvidenceRequest {
    /// Request ids of calls that showed it.
    #[schema(required = false)]
    request_ids: Vec<String>,
    /// HTTP status that the vendor answered with.
    status: Option<u16>,
}

/// What became of reports.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReportsTaken)]
pub(crate) struct ReportsTakenResponse {
    /// Reports that changed something.
    applied: u64,
    /// Reports that change nothing: the key is off already, may not be banned, or the time is over.
    ignored: u64,
    /// Reports that will never be taken.
    rejected: Vec<RejectedReportResponse>,
}

/// A report that will never be taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedReport)]
pub(crate) struct RejectedReportResponse {
    /// Its place among the reports, from 0.
    pub(super) index: usize,
    /// Why not.
    pub(super) reason: String,
}

/// Report on API keys.
///
/// Idempotent: the same reports again change nothing.
#[utoipa::path(post, path = "/internal/api-keys/report", tag = "internal", operation_id = "report_api_keys",
    request_body = ReportApiKeysRequest, security(("internal" = [])),
    responses((status = 200, description = "What became of each.", body = ReportsTakenResponse)))]
pub(crate) async fn report(
    ctx: InternalCtx,
    Json(request): Json<ReportApiKeysRequest>,
) -> Result<Json<ReportsTakenResponse>, ApiError> {
    let taken = credential_reports::take(&ctx.control, ctx.origin, request.reports).await?;
    Ok(Json(taken.into()))
}

impl From<ReportsTaken> for ReportsTakenResponse {
    fn from(taken: ReportsTaken) -> Self {
        let ReportsTaken { applied, ignored, rejected } = taken;
        let rejected =
            rejected.into_iter().map(|RejectedReport { index, reason }| RejectedReportResponse { index, reason });
        Self { applied, ignored, rejected: rejected.collect() }
    }
}
