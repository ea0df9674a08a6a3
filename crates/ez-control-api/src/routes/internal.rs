//! `/internal`: what gateways tell the control plane.

use ez_contract::snapshot::GatewayHeartbeat;
use ez_control::logs::{self, IngestReport, RejectedRecord};
use ez_control::sync;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::logs::LogResponse;
use crate::extract::{InternalCtx, Json};
use crate::problem::ApiError;

/// Largest body of a batch of usage records.
pub(crate) const MAX_LOG_BODY_BYTES: usize = 32 << 20;

/// A batch of usage records. Unlike elsewhere, unknown fields are let pass: a newer gateway must be able to hand its
/// records to an older control plane.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct IngestLogsRequest {
    /// The records. Each is judged by itself, so that a bad one does not hold up the others.
    #[schema(value_type = Vec<LogResponse>)]
    records: Vec<Box<RawValue>>,
}

/// What became of a batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IngestReport)]
pub(crate) struct IngestLogsResponse {
    /// Records that were new.
    accepted: u64,
    /// Records that were there already.
    duplicates: u64,
    /// Records that will never be taken.
    rejected: Vec<RejectedResponse>,
}

/// A record that will never be taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedRecord)]
pub(crate) struct RejectedResponse {
    /// Its place in the batch, from 0.
    index: u64,
    /// Its id, 128 characters of it at most; empty where it has none.
    id: String,
    /// Why not, 200 characters at most.
    reason: String,
}

/// What a gateway tells of itself. Unknown fields are let pass, as it may be newer.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct HeartbeatRequest {
    /// Its name.
    node_id: String,
    /// Version of its build.
    version: String,
    /// The snapshot that it serves from.
    snapshot_version: u64,
    /// Usage records that it still has to hand over.
    usage_log_depth: u64,
}

/// Hand over usage records.
///
/// Idempotent by record id. A record that breaks a rule, or that the database refuses while it takes others, is rejected by
/// itself. Answered when the records are stored. Where too many of all gateways wait for that already, the answer is 503
/// with the header `Retry-After`, and nothing is taken.
#[utoipa::path(post, path = "/internal/logs", tag = "internal", operation_id = "ingest_logs",
    request_body = IngestLogsRequest, security(("internal" = [])),
    responses((status = 200, description = "What became of each.", body = IngestLogsResponse)))]
pub(crate) async fn ingest(
    ctx: InternalCtx,
    Json(request): Json<IngestLogsRequest>,
) -> Result<Json<IngestLogsResponse>, ApiError> {
    let records: Vec<&str> = request.records.iter().map(|record| record.get()).collect();
    let report = logs::ingest_json(&ctx.control, &records).await?;
    Ok(Json(report.into()))
}

/// Report as alive.
#[utoipa::path(post, path = "/internal/heartbeat", tag = "internal", operation_id = "report_gateway",
    request_body = HeartbeatRequest, security(("internal" = [])),
    responses((status = 204, description = "Noted.")))]
pub(crate) async fn heartbeat(ctx: InternalCtx, Json(request): Json<HeartbeatRequest>) -> Result<StatusCode, ApiError> {
    let HeartbeatRequest { node_id, version, snapshot_version, usage_log_depth } = request;
    let seen_at = ctx.control.now();
    sync::heartbeat(&ctx.control, GatewayHeartbeat { node_id, version, snapshot_version, usage_log_depth, seen_at })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<IngestReport> for IngestLogsResponse {
    fn from(report: IngestReport) -> Self {
        let IngestReport { accepted, duplicates, rejected } = report;
        let told = |RejectedRecord { index, id, reason }| RejectedResponse { index, id, reason };
        Self { accepted, duplicates, rejected: rejected.into_iter().map(told).collect() }
    }
}
