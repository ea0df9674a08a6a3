//! `DELETE /admin/logs`: log records that an administrator wants gone before their time.

use axum::extract::State;
use chrono::{DateTime, Utc};
use ez_control::log_cleaner::{self, LogDeletion};
use ez_control::scheduler::{LOG_CLEANER, Scheduler};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, NoBody, Query};
use crate::problem::ApiError;
use crate::timestamp::Timestamp;
use crate::writing::{Answer, Record};

/// Which log records to delete.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteLogsQuery {
    /// Those that arrived before this time, which must have passed.
    #[param(value_type = String, required = true, example = "2026-01-31T12:00:00Z")]
    before: Option<Timestamp>,
}

/// A deletion of log records.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogDeletion)]
pub(crate) struct LogDeletionResponse {
    /// Records that arrived before this time go.
    before: DateTime<Utc>,
    /// How many these are, counted up to 10,000.
    records: u64,
    /// Whether there are more than that.
    has_more: bool,
}

/// Delete old log records.
///
/// The job `log-cleaner` is told and takes them in the background, without holding up ingestion; its list of runs tells when
/// it is done. Records of that time that still arrive go too, and those of the last hour with a run after that hour. Statistics
/// keep what was rolled up.
#[utoipa::path(delete, path = "/admin/logs", tag = "logs", operation_id = "delete_logs", params(DeleteLogsQuery),
    security(("admin" = [])),
    responses((status = 200, description = "They are going.", body = LogDeletionResponse)))]
pub(crate) async fn delete(
    ctx: AdminCtx,
    Query(query): Query<DeleteLogsQuery>,
    State(scheduler): State<Scheduler>,
    NoBody: NoBody,
) -> Result<Record<LogDeletionResponse>, ApiError> {
    let before = query.before.ok_or_else(|| ApiError::invalid_at("/before", "is missing: say up to when"))?;
    let write = ctx.write().await?;
    let deletion = log_cleaner::delete_before(&write, before.into()).await?;
    let answer = write.finish(Record::untagged(deletion.into())).await?;
    if !ctx.is_dry_run() {
        scheduler.want(LOG_CLEANER);
    }
    Ok(answer)
}

impl Answer for LogDeletionResponse {}

impl From<LogDeletion> for LogDeletionResponse {
    fn from(deletion: LogDeletion) -> Self {
        let LogDeletion { before, records, has_more } = deletion;
        Self { before, records, has_more }
    }
}
