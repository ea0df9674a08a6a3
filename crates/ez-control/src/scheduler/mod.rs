//! The scheduler: the one owner of time in the control plane. It runs every job, each in a loop of its own, so that none
//! overlaps itself and none holds up another.

mod job;
mod run;
mod slot;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_store::RecordKind;
use ez_store::audit::{self, NewAuditEntry};
use ez_telemetry::metrics::{JOB_DURATION, JOB_RUNS};
use rand::Rng;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::chain;
use crate::{Actor, Control, ControlError, publisher};

pub use job::{FULL_RECONCILE, Job, LOG_CLEANER, Ran, SYNC_OUTBOX, jobs};
pub use run::{JobOutcome, JobRun};

use job::Sharing;
use run::LEASE;
use slot::Slot;

/// How long a failed publication waits at first; then twice that, and so on.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// How long any job waits at most after a failure, where it runs less often.
const LAST_RETRY: Duration = Duration::from_secs(5);

/// How soon to look again while another process publishes: what this one committed may not be among it.
const BUSY_RETRY: Duration = Duration::from_millis(50);

/// How long who asks for a run waits for its end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the jobs of a process. Clones share everything.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

struct Shared {
    control: Control,
    slots: Vec<Slot>,
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobStatus {
    /// Its name.
    pub name: &'static str,
    /// How often it runs.
    pub interval: Duration,
    /// Whether this process is running it.
    pub is_running: bool,
    /// Its last run, by whichever process; by this one while the shared state is down.
    pub last_run: Option<JobRun>,
    /// When this process runs it next; none where its scheduler does not run.
    pub next_run_at: Option<DateTime<Utc>>,
}

impl Scheduler {
    /// A scheduler of the product's jobs. It does nothing before [`Self::run`].
    pub fn new(control: Control) -> Self {
        Self::with_jobs(control, jobs())
    }

    /// The same with other jobs. Their intervals come from the configuration of the control plane too.
    pub fn with_jobs(control: Control, jobs: Vec<Job>) -> Self {
        let intervals = &control.config().job_intervals;
        let slot = |job: Job| {
            let interval = intervals.get(job.name).copied().unwrap_or(job.default_interval);
            Slot::new(job, interval)
        };
        let slots = jobs.into_iter().map(slot).collect();
        Self(Arc::new(Shared { control, slots }))
    }

    /// Runs the jobs until told to stop; what is under way may end within moments, and what is still to be published is
    /// tried once more. One per process.
    pub async fn run(self, stop: CancellationToken) {
        let mut loops = JoinSet::new();
        for place in 0..self.0.slots.len() {
            let (scheduler, stop) = (self.clone(), stop.clone());
            loops.spawn(async move {
                if let Some(slot) = scheduler.0.slots.get(place) {
                    scheduler.keep_running(slot, &stop).await;
                }
            });
        }
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a job is not run any more");
            }
        }
        if self.0.slots.iter().any(|slot| slot.job.name == SYNC_OUTBOX) {
            publisher::last_round(&self.0.control).await;
        }
    }

    /// Tells how each job stands. Answers while the shared state is down.
    pub async fn list(&self) -> Vec<JobStatus> {
        let notes = self.0.control.state().list_job_notes().await.unwrap_or_else(|error| {
            tracing::debug!(error = %chain(&error), "the last runs of other processes are not known");
            std::collections::BTreeMap::new()
        });
        self.0.slots.iter().map(|slot| slot.status(notes.get(slot.job.name))).collect()
    }

    /// Runs a job now, in the scheduler's own loop, waits for its end for half a minute at most, and tells how the job
    /// stands then. That it was asked for is audited.
    ///
    /// Errors: `NotFound`; `Conflict` while it runs already, here or in another process; `Unavailable` where this
    /// process is starting or about to stop.
    pub async fn run_now(&self, name: &str, actor: &Actor) -> Result<JobStatus, ControlError> {
        let slot = self.0.slots.iter().find(|slot| slot.job.name == name);
        let slot = slot.ok_or_else(|| ControlError::not_found("job", name))?;
        let run = slot.ask()?;
        self.audit(slot.job.name, actor).await?;
        slot.asked.notify_one();
        match timeout(PATIENCE, run).await {
            Ok(Ok(run)) if run.outcome == JobOutcome::Skipped => Err(already_running(name)),
            Ok(Ok(run)) => Ok(JobStatus { last_run: Some(run), ..slot.status(None) }),
            Ok(Err(_)) => Err(ControlError::Unavailable("the scheduler stopped meanwhile".into())),
            Err(_) => Ok(slot.status(None)),
        }
    }

    /// Lets this process run a job as soon as it can, once more where it is running, and waits for nothing. Where no
    /// scheduler runs, the job runs when its time comes.
    pub fn want(&self, name: &str) {
        for slot in self.0.slots.iter().filter(|slot| slot.job.name == name) {
            slot.want();
            slot.asked.notify_one();
        }
    }

    async fn keep_running(&self, slot: &Slot, stop: &CancellationToken) {
        let _open = slot.open();
        let mut wait = self.first_wait(slot);
        let mut failures = 0;
        let mut is_first = true;
        loop {
            slot.set_next(self.0.control.now() + wait);
            tokio::select! {
                () = stop.cancelled() => return,
                () = slot.asked.notified() => {}
                () = self.committed(slot) => {}
                () = sleep(wait) => {}
            }
            // At the start each process compares for itself: it does not know what the others saw.
            if !is_first
                && !slot.is_asked()
                && let Some(rest) = self.rest_of_interval(slot).await
            {
                wait = rest;
                continue;
            }
            is_first = false;
            let begun = Instant::now();
            let asker = slot.begin();
            let run = run::run(&self.0.control, &slot.job, stop).await;
            failures = report(slot.job.name, &run, failures);
            let is_told = self.keep_note(slot, &run).await;
            wait = self.wait_after(slot, run.outcome, failures).saturating_sub(begun.elapsed());
            // Whoever asked is told when it comes next, too.
            slot.set_next(self.0.control.now() + wait);
            slot.end(run, is_told, asker);
        }
    }

    /// Publishing begins at once; the others shortly after.
    fn first_wait(&self, slot: &Slot) -> Duration {
        match slot.job.sharing {
            Sharing::EachProcess | Sharing::OwnTurn => Duration::ZERO,
            Sharing::Lease => {
                let most = self.0.control.config().job_spread.min(slot.interval);
                rand::rng().random_range(Duration::ZERO..=most)
            }
        }
    }

    /// Resolves when a commit of this process wants the job to run.
    async fn committed(&self, slot: &Slot) {
        match slot.job.sharing {
            Sharing::EachProcess => self.0.control.publishing().wake.notified().await,
            Sharing::OwnTurn | Sharing::Lease => std::future::pending().await,
        }
    }

    /// What is left of an interval in which another process has run the job; none where it is this one's turn.
    async fn rest_of_interval(&self, slot: &Slot) -> Option<Duration> {
        if slot.job.sharing == Sharing::EachProcess {
            return None;
        }
        let control = &self.0.control;
        let note = control.state().job_note(slot.job.name).await.ok()??;
        let last = slot::read_note(&note)?;
        let is_of_another = last.process != control.publishing().holder && last.outcome == JobOutcome::Succeeded;
        // A clock that is ahead must not stop the job for as long as it is.
        let age = (control.now() - last.started_at).to_std().ok().filter(|_| is_of_another)?;
        slot.interval.checked_sub(age).filter(|rest| !rest.is_zero())
    }

    /// The time from the start of a run to the next one.
    fn wait_after(&self, slot: &Slot, outcome: JobOutcome, failures: u32) -> Duration {
        let is_publishing = slot.job.sharing == Sharing::EachProcess;
        match outcome {
            JobOutcome::Succeeded => slot.interval,
            JobOutcome::Skipped if is_publishing => BUSY_RETRY,
            // It may have died with the lease.
            JobOutcome::Skipped => slot.interval.min(LEASE),
            JobOutcome::Failed | JobOutcome::Panicked if !is_publishing => slot.interval.min(LAST_RETRY),
            JobOutcome::Failed | JobOutcome::Panicked if failures <= self.0.control.config().outbox_max_retries => {
                slot.interval.min(backoff(failures))
            }
            JobOutcome::Failed | JobOutcome::Panicked => slot.interval,
        }
    }

    /// Tells all processes of a run; whether it could. One that did nothing is no news, and any note better.
    async fn keep_note(&self, slot: &Slot, run: &JobRun) -> bool {
        if run.outcome == JobOutcome::Skipped {
            return true;
        }
        let Ok(note) = serde_json::to_string(run) else { return false };
        let told = self.0.control.state().put_job_note(slot.job.name, &note).await;
        if let Err(error) = &told {
            tracing::debug!(job = slot.job.name, error = %chain(error), "other processes cannot be told of a run");
        }
        told.is_ok()
    }

    async fn audit(&self, name: &str, actor: &Actor) -> Result<(), ControlError> {
        let control = &self.0.control;
        let entry = NewAuditEntry {
            created_at: control.now(),
            actor_kind: actor.kind,
            actor_id: actor.id,
            action: "run".to_owned(),
            record_kind: RecordKind::Job,
            record_id: None,
            before: None,
            after: Some(json!({ "name": name })),
            request_id: Some(actor.origin.request_id.clone()).filter(|id| !id.is_empty()),
            client_ip: actor.origin.client_ip.map(|address| address.to_string()),
        };
        let tx = control.store().begin().await?;
        audit::append(&tx, &entry).await?;
        Ok(tx.commit().await?)
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.slots.iter().map(|slot| slot.job.name).collect();
        f.debug_struct("Scheduler").field("jobs", &names).finish_non_exhaustive()
    }
}

/// The wait after the n-th failure in a row.
pub(crate) fn backoff(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LAST_RETRY)
}

fn already_running(name: &str) -> ControlError {
    ControlError::conflict(format!("the job {name} is running already; ask again when it has ended"))
}

/// Logs and counts a run, and tells how many failed in a row. Of failures in a row the first is told, the others are
/// for the list of jobs to show.
fn report(name: &'static str, run: &JobRun, failures_before: u32) -> u32 {
    metrics::counter!(JOB_RUNS, "job" => name, "outcome" => run.outcome.as_str()).increment(1);
    metrics::gauge!(JOB_DURATION, "job" => name).set(Duration::from_millis(run.duration_ms).as_secs_f64());
    let error = run.error.as_deref().unwrap_or_default();
    match run.outcome {
        JobOutcome::Succeeded => {
            if failures_before > 0 {
                tracing::info!(job = name, failures = failures_before, "a job works again");
            }
            0
        }
        JobOutcome::Skipped => failures_before,
        JobOutcome::Panicked => {
            tracing::error!(job = name, "a job panicked");
            failures_before.saturating_add(1)
        }
        JobOutcome::Failed => {
            if failures_before == 0 {
                tracing::warn!(job = name, error, "a job failed; what is left to do is tried again");
            } else {
                tracing::debug!(job = name, error, "a job failed again");
            }
            failures_before.saturating_add(1)
        }
    }
}

#[cfg(test)]
mod tests;
