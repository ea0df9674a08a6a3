//! `/admin/jobs`: what the scheduler runs.

use axum::extract::State;
use chrono::{DateTime, Utc};
use ez_control::scheduler::{JobOutcome, JobRun, JobStatus, Scheduler};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, NoBody, Path};
use crate::problem::ApiError;
use crate::words;

/// Every job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobList)]
pub(crate) struct JobListResponse {
    /// The jobs, in the order of the scheduler's table.
    items: Vec<JobResponse>,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobResponse {
    /// Its name.
    #[schema(example = "full-reconcile")]
    name: &'static str,
    /// Time from the start of a run to the next one, milliseconds (`EZ_JOB_<NAME>_INTERVAL`).
    interval_ms: u64,
    /// Whether the control plane that answers is running it.
    running: bool,
    /// When the control plane that answers runs it next; `null` while it starts or stops.
    next_run_at: Option<DateTime<Utc>>,
    /// The last run that ended, by whichever control plane; `null` before the first.
    last_run: Option<JobRunResponse>,
}

/// A run of a job that ended.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobRun)]
pub(crate) struct JobRunResponse {
    /// When it began.
    started_at: DateTime<Utc>,
    /// How long it took, milliseconds.
    duration_ms: u64,
    /// What it came to. `skipped`: another control plane was at it.
    #[schema(value_type = words::JobOutcome)]
    outcome: JobOutcome,
    /// Why, where it did not succeed.
    error: Option<String>,
    /// How many items it handled.
    items: u64,
    /// The control plane that ran it.
    node_id: String,
}

/// List the jobs.
#[utoipa::path(get, path = "/admin/jobs", tag = "jobs", operation_id = "list_jobs",
    security(("admin" = [])),
    responses((status = 200, description = "Every job, with what it did last.", body = JobListResponse)))]
pub(crate) async fn list(_: AdminCtx, State(scheduler): State<Scheduler>) -> Json<JobListResponse> {
    let items = scheduler.list().await.into_iter().map(JobResponse::from).collect();
    Json(JobListResponse { items })
}

/// Run a job now.
///
/// Waits for the end of the run, for half a minute at most: `last_run` tells its outcome. 409 while the job is running
/// already, on whichever control plane.
#[utoipa::path(post, path = "/admin/jobs/{name}/run", tag = "jobs", operation_id = "run_job",
    params(("name" = String, Path, description = "Name of the job.")), security(("admin" = [])),
    responses((status = 200, description = "It ran; `last_run` tells how.", body = JobResponse),
        (status = 202, description = "It still runs; the list tells its outcome later.", body = JobResponse)))]
pub(crate) async fn run(
    ctx: AdminCtx,
    Path(name): Path<String>,
    State(scheduler): State<Scheduler>,
    NoBody: NoBody,
) -> Result<(StatusCode, Json<JobResponse>), ApiError> {
    let job = scheduler.run_now(&name, &ctx.actor()).await?;
    let status = if job.is_running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(job.into())))
}

impl From<JobStatus> for JobResponse {
    fn from(job: JobStatus) -> Self {
        Self {
            name: job.name,
            interval_ms: u64::try_from(job.interval.as_millis()).unwrap_or(u64::MAX),
            running: job.is_running,
            next_run_at: job.next_run_at,
            last_run: job.last_run.map(JobRunResponse::from),
        }
    }
}

impl From<JobRun> for JobRunResponse {
    fn from(run: JobRun) -> Self {
        Self {
            started_at: run.started_at,
            duration_ms: run.duration_ms,
            outcome: run.outcome,
            error: run.error,
            items: run.items,
            node_id: run.node_id,
        }
    }
}
