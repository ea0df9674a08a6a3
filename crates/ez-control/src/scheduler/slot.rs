//! A job's place in the scheduler: who asked for it, whether it runs, what it did last.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, oneshot};

use super::{Job, JobOutcome, JobRun, JobStatus, already_running};
use crate::ControlError;

/// A job of this process.
pub(super) struct Slot {
    pub(super) job: Job,
    pub(super) interval: Duration,
    /// Rung by who asks for a run.
    pub(super) asked: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether a loop runs the job when its time comes.
    is_open: bool,
    is_running: bool,
    /// Whether a run is wanted that has not begun.
    is_wanted: bool,
    /// Whether the run under way is one that was wanted.
    was_wanted: bool,
    /// Who waits for a run that has not begun.
    asker: Option<Asker>,
    last: Option<JobRun>,
    /// Whether the other processes were told of it. Then the shared note is as new or newer, whatever the clocks say.
    is_told: bool,
    next_at: Option<DateTime<Utc>>,
}

/// Gets the run that was asked for.
pub(super) type Asker = oneshot::Sender<JobRun>;

/// Open as long as this is held.
pub(super) struct Open<'a>(&'a Slot);

impl Slot {
    pub(super) fn new(job: Job, interval: Duration) -> Self {
        Self { job, interval, asked: Notify::new(), state: Mutex::default() }
    }

    /// Takes requests from now on.
    pub(super) fn open(&self) -> Open<'_> {
        self.state().is_open = true;
        Open(self)
    }

    /// Asks for a run; `asked` is to be rung then.
    pub(super) fn ask(&self) -> Result<oneshot::Receiver<JobRun>, ControlError> {
        let mut state = self.state();
        if !state.is_open {
            return Err(ControlError::Unavailable("the scheduler of this process does not run".into()));
        }
        if state.is_running || state.is_asked() {
            return Err(already_running(self.job.name));
        }
        let (asker, run) = oneshot::channel();
        state.asker = Some(asker);
        Ok(run)
    }

    /// Wants a run; `asked` is to be rung then.
    pub(super) fn want(&self) {
        self.state().is_wanted = true;
    }

    /// Whether someone asked for a run or wants one.
    pub(super) fn is_asked(&self) -> bool {
        let state = self.state();
        state.is_wanted || state.is_asked()
    }

    pub(super) fn set_next(&self, at: DateTime<Utc>) {
        self.state().next_at = Some(at);
    }

    /// A run begins; who asked for it, if anyone did.
    pub(super) fn begin(&self) -> Option<Asker> {
        let mut state = self.state();
        state.is_running = true;
        state.was_wanted = std::mem::take(&mut state.is_wanted);
        state.asker.take()
    }

    /// The run ended; `is_told` says whether the other processes know of it. Where another was at it, it may have begun before
    /// the run was wanted, which still is wanted then.
    pub(super) fn end(&self, run: JobRun, is_told: bool, asker: Option<Asker>) {
        let mut state = self.state();
        state.is_running = false;
        state.is_wanted |= state.was_wanted && run.outcome == JobOutcome::Skipped;
        if run.outcome != JobOutcome::Skipped || state.last.is_none() {
            state.last = Some(run.clone());
            state.is_told = is_told;
        }
        drop(state);
        if let Some(asker) = asker {
            // An error means that nobody waits any more.
            asker.send(run).ok();
        }
    }

    /// How the job stands, where `note` is what is shared of its last run.
    pub(super) fn status(&self, note: Option<&String>) -> JobStatus {
        let shared = note.and_then(|note| read_note(note));
        let state = self.state();
        let newest = match shared {
            Some(shared) if state.is_told => Some(shared),
            shared => shared.into_iter().chain(state.last.clone()).max_by_key(|run| run.started_at),
        };
        JobStatus {
            name: self.job.name,
            interval: self.interval,
            is_running: state.is_running,
            last_run: newest,
            next_run_at: state.next_at,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No locked section stops half-way, so a poisoned lock guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who gave up waiting before the run began asks for nothing any more.
    fn is_asked(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| !asker.is_closed())
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        *state = State { last: state.last.take(), is_told: state.is_told, ..State::default() };
    }
}

/// A run as some process noted it. One that does not parse was noted by another version, and is as good as none.
pub(super) fn read_note(note: &str) -> Option<JobRun> {
    serde_json::from_str(note).ok()
}
