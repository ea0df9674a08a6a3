//! One run of a job: contained, bounded, under its lease where it has one.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_state::Lease;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::job::{Job, Ran, Sharing};
use crate::Control;
use crate::error::chain;

/// After which a run is given up. What it did not commit is undone.
const LONGEST_RUN: Duration = Duration::from_secs(10 * 60);

/// How long a run under way may take to end once the process stops.
const GRACE: Duration = Duration::from_secs(3);

/// How long others wait for a process that died with the lease.
pub(super) const LEASE: Duration = Duration::from_secs(15);

/// How often it is renewed while the job runs.
const RENEWAL: Duration = Duration::from_secs(5);

/// Of an error that is kept for people to read.
const MAX_ERROR_CHARS: usize = 500;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// It did what there was to do.
    Succeeded,
    /// It told an error, took too long, or was stopped.
    Failed,
    /// It has a fault; the process's log tells where.
    Panicked,
    /// Another process was at it.
    Skipped,
}

/// A run of a job that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRun {
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How long it took, milliseconds.
    pub duration_ms: u64,
    /// What it came to.
    pub outcome: JobOutcome,
    /// Why, where it did not succeed. Holds no secret.
    pub error: Option<String>,
    /// How many items it handled.
    pub items: u64,
    /// `EZ_NODE_ID` of the process that ran it.
    pub node_id: String,
    /// That process among others with the same name.
    pub(super) process: String,
}

/// How the work ended.
enum Ended {
    Did(Ran),
    Failed(String),
    Panicked,
}

impl JobOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Succeeded, Self::Failed, Self::Panicked, Self::Skipped];

    /// `succeeded`, `failed`, `panicked` or `skipped`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Skipped => "skipped",
        }
    }
}

/// Runs a job once. Whatever it does, this returns, soon after `stop` too.
pub(super) async fn run(control: &Control, job: &Job, stop: &CancellationToken) -> JobRun {
    let started_at = control.now();
    let begun = Instant::now();
    let stopped = async {
        stop.cancelled().await;
        sleep(GRACE).await;
    };
    let ended = tokio::select! {
        ended = timeout(LONGEST_RUN, in_turn(control, job)) => ended.unwrap_or_else(|_| {
            Ended::Failed(format!("it took longer than {} seconds and was given up", LONGEST_RUN.as_secs()))
        }),
        () = stopped => Ended::Failed("the process stopped meanwhile".to_owned()),
    };
    let (outcome, error, items) = match ended {
        Ended::Did(Ran::Items(items)) => (JobOutcome::Succeeded, None, items),
        Ended::Did(Ran::Skipped) => (JobOutcome::Skipped, Some("another control plane is at it".to_owned()), 0),
        Ended::Failed(error) => (JobOutcome::Failed, Some(error.chars().take(MAX_ERROR_CHARS).collect()), 0),
        // What a panic says was written for nobody in particular and may hold anything.
        Ended::Panicked => (JobOutcome::Panicked, Some("it panicked; the process's log tells where".to_owned()), 0),
    };
    JobRun {
        started_at,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        outcome,
        error,
        items,
        node_id: control.config().node_id.clone(),
        process: control.publishing().holder.clone(),
    }
}

async fn in_turn(control: &Control, job: &Job) -> Ended {
    let work = pin!(contained(control, job));
    if job.sharing != Sharing::Lease {
        return work.await;
    }
    let lease = match acquire(control, job).await {
        Ok(Some(lease)) => lease,
        Ok(None) => return Ended::Did(Ran::Skipped),
        Err(error) => {
            // Such a job locks in the database what it changes: twice is better than not at all.
            tracing::debug!(job = job.name, error = %chain(&error), "there is no lease to be had; running without");
            return work.await;
        }
    };
    let ended = keep(control, job, &lease, work).await;
    give_back(control, job, &lease).await;
    ended
}

async fn give_back(control: &Control, job: &Job, lease: &Lease) {
    if let Err(error) = control.state().release_lease(lease).await {
        tracing::debug!(job = job.name, error = %chain(&error), "the lease of a job could not be given back");
    }
}

/// Runs the work with its lease renewed, or gives it up where the lease was lost.
async fn keep(
    control: &Control,
    job: &Job,
    lease: &Lease,
    mut work: Pin<&mut (impl Future<Output = Ended> + Send)>,
) -> Ended {
    loop {
        tokio::select! {
            ended = &mut work => return ended,
            () = sleep(RENEWAL) => {}
        }
        match acquire(control, job).await {
            Ok(Some(held)) if held.fence == lease.fence => {}
            Ok(None) => return Ended::Failed("another control plane took over".to_owned()),
            // Granted anew: meanwhile it was nobody's, or another's.
            Ok(Some(held)) => {
                give_back(control, job, &held).await;
                return Ended::Failed("its lease was lost meanwhile".to_owned());
            }
            Err(error) => tracing::debug!(job = job.name, error = %chain(&error), "a lease could not be renewed"),
        }
    }
}

async fn acquire(control: &Control, job: &Job) -> Result<Option<Lease>, ez_state::StateError> {
    control.state().acquire_lease(&format!("job:{}", job.name), &control.publishing().holder, LEASE).await
}

async fn contained(control: &Control, job: &Job) -> Ended {
    // What a job that panics leaves behind is its transaction, which is undone.
    match AssertUnwindSafe(async { job.work(control).await }).catch_unwind().await {
        Ok(Ok(ran)) => Ended::Did(ran),
        Ok(Err(error)) => Ended::Failed(chain(&error)),
        Err(_) => Ended::Panicked,
    }
}
