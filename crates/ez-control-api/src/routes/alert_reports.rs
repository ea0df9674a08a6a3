//! `/internal/alerts/report`: alerts that gateways see.

use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_control::alerts::{self, AlertsTaken, RejectedAlert};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::credential_reports::RejectedReportResponse;
use crate::extract::{InternalCtx, Json};
use crate::problem::ApiError;
use crate::words;

/// Alerts of a gateway. Unknown fields are let pass, as it may be newer.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ReportAlertsRequest {
    /// The alerts. Each is judged by itself, so that a bad one does not hold up the others.
    #[schema(value_type = Vec<AlertReportRequest>, max_items = 100)]
    alerts: Vec<Value>,
}

/// An alert that a gateway saw.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape for the document; alerts are read one by one")]
pub(crate) struct AlertReportRequest {
    /// What it is about.
    #[schema(value_type = words::AlertType)]
    r#type: AlertType,
    /// How bad it is.
    #[schema(value_type = words::AlertSeverity)]
    severity: AlertSeverity,
    /// One line for people.
    title: String,
    /// More for people.
    #[schema(required = false)]
    message: String,
    /// Kind of what it is about: a word such as `key`, `master` or `gateway`.
    related_type: Option<String>,
    /// Its id, where it has a number.
    related_id: Option<i64>,
    /// Its name.
    related_name: Option<String>,
    /// Figures for programs.
    #[schema(value_type = Object, required = false)]
    metadata: Value,
    /// The identity of its cause, which is kept as it is given.
    fingerprint: String,
}

/// What became of the alerts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertsTaken)]
pub(crate) struct AlertsTakenResponse {
    /// Those that made an alert.
    raised: u64,
    /// Those whose alert is open, and was brought up to date.
    updated: u64,
    /// Those whose alert was closed, and whose cause was seen within five minutes.
    suppressed: u64,
    /// Those that will never be taken.
    rejected: Vec<RejectedReportResponse>,
}

/// Report alerts.
///
/// Of one fingerprint one alert is open at most, whoever sees its cause: again and again is the same as once, but for the
/// count of sightings.
#[utoipa::path(post, path = "/internal/alerts/report", tag = "internal", operation_id = "report_alerts",
    request_body = ReportAlertsRequest, security(("internal" = [])),
    responses((status = 200, description = "What became of each.", body = AlertsTakenResponse)))]
pub(crate) async fn report(
    ctx: InternalCtx,
    Json(request): Json<ReportAlertsRequest>,
) -> Result<Json<AlertsTakenResponse>, ApiError> {
    let taken = alerts::take(&ctx.control, ctx.origin, request.alerts).await?;
    Ok(Json(taken.into()))
}

impl From<AlertsTaken> for AlertsTakenResponse {
    fn from(taken: AlertsTaken) -> Self {
        let AlertsTaken { raised, updated, suppressed, rejected } = taken;
        let told = |RejectedAlert { index, reason }| RejectedReportResponse { index, reason };
        Self { raised, updated, suppressed, rejected: rejected.into_iter().map(told).collect() }
    }
}
