//! Leasing: fetches slices of shared counters in the background, many in one round trip, gives unused ones back, and
//! says when each gateway is on its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::Clock;
use ez_state::{Lessee, LimitAsk, LimitGrant, SharedState, StateError};
use ez_telemetry::metrics::{LIMIT_ALONE_CALLS, LIMIT_LEASES, LIMITS_ALONE};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::limiter::{Limiter, Subjects};
use super::subject::{Mode, Subject};
use crate::usage_log::UsageLog;

/// A call waits so long for a slice before it takes this gateway for being on its own.
pub(super) const LEASE_WAIT: Duration = Duration::from_millis(200);

/// How often subjects are looked through: for leases that nobody uses, and for those that must be told again.
const SWEEP: Duration = Duration::from_secs(1);

/// How often this gateway says that it is there, and for how long that holds.
const JOIN_INTERVAL: Duration = Duration::from_secs(2);
const JOIN_TTL: Duration = Duration::from_secs(10);

/// How often it is told at most that calls were judged without the shared counters.
const TELL_ALONE: Duration = Duration::from_secs(60);

/// Subjects of one round trip.
const MAX_SUBJECTS: usize = 128;

/// What a round trip for slices comes to, as metrics name it.
const LEASED: &str = "leased";
const FAILED: &str = "failed";

/// What calls need of the background: where it stands, and its ear.
pub(crate) struct Leasing {
    state: SharedState,
    instance: String,
    queue: mpsc::UnboundedSender<Arc<Subject>>,
    is_alone: AtomicBool,
    gateways: AtomicU64,
    /// Calls judged without the shared counters.
    alone_calls: AtomicU64,
    #[cfg(test)]
    round_trips: AtomicU64,
}

/// What calls have asked for. Each subject is in it once at most, which bounds it.
pub(super) struct LeaseQueue(mpsc::UnboundedReceiver<Arc<Subject>>);

impl Leasing {
    /// Leases from `state`; the queue is for [`keep_leased`].
    pub(super) fn new(state: SharedState) -> (Arc<Self>, LeaseQueue) {
        let (queue, asked) = mpsc::unbounded_channel();
        let leasing = Self {
            state,
            instance: Uuid::now_v7().to_string(),
            queue,
            is_alone: AtomicBool::new(false),
            gateways: AtomicU64::new(1),
            alone_calls: AtomicU64::new(0),
            #[cfg(test)]
            round_trips: AtomicU64::new(0),
        };
        (Arc::new(leasing), LeaseQueue(asked))
    }

    /// How calls find out what is left.
    pub(super) fn mode(&self) -> Mode {
        if self.is_alone.load(Ordering::Relaxed) { self.alone() } else { Mode::Leased }
    }

    /// As if the shared counter could not be asked.
    pub(super) fn alone(&self) -> Mode {
        Mode::Alone { gateways: self.gateways.load(Ordering::Relaxed) }
    }

    /// Notes that a call is judged without the shared counters.
    pub(super) fn note_alone(&self) {
        self.alone_calls.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(LIMIT_ALONE_CALLS).increment(1);
    }

    /// Has the background look at a subject.
    pub(super) fn queue(&self, subject: &Arc<Subject>) {
        if !subject.is_queued.swap(true, Ordering::AcqRel) {
            // Once the background has ended, nobody leases any more.
            let _ = self.queue.send(subject.clone());
        }
    }

    fn set_alone(&self, is_alone: bool) {
        if self.is_alone.swap(is_alone, Ordering::Relaxed) == is_alone {
            return;
        }
        metrics::gauge!(LIMITS_ALONE).set(if is_alone { 1.0 } else { 0.0 });
        let gateways = self.gateways.load(Ordering::Relaxed);
        if is_alone {
            tracing::warn!(gateways, "limits cannot be shared with other gateways: each allows its equal part");
        } else {
            tracing::info!(gateways, "limits are shared with other gateways again");
        }
    }

    fn lessee(&self) -> Lessee {
        Lessee { instance: self.instance.clone(), gateways: self.gateways.load(Ordering::Relaxed) }
    }

    /// Calls judged without the shared counters.
    #[cfg(test)]
    pub(super) fn alone_calls(&self) -> u64 {
        self.alone_calls.load(Ordering::Relaxed)
    }

    /// Round trips made for slices.
    #[cfg(test)]
    pub(super) fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    async fn join(&self, ttl: Duration) -> Result<(), StateError> {
        let joined = timeout(LEASE_WAIT, self.state.join_lessees(&self.instance, ttl)).await;
        let gateways = joined.map_err(|_| too_late())??;
        self.gateways.store(gateways.max(1), Ordering::Relaxed);
        Ok(())
    }

    /// One round trip for all that these subjects have to tell and to ask.
    async fn lease(&self, subjects: &[Arc<Subject>], clock: &dyn Clock) -> Result<(), StateError> {
        let asked_ms = clock.now().timestamp_millis();
        let mut asks: Vec<LimitAsk> = Vec::new();
        let mut places = Vec::new();
        for subject in subjects {
            for cell in subject.cells().iter_mut() {
                if let Some(ask) = cell.ask(|cell| subject.counter(cell), asked_ms) {
                    places.push((subject, cell.limit(), cell.period()));
                    asks.push(ask);
                }
            }
        }
        if asks.is_empty() {
            return Ok(());
        }
        #[cfg(test)]
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let leased = timeout(LEASE_WAIT, self.state.lease_limits(&self.lessee(), &asks)).await;
        let grants: Vec<LimitGrant> = leased.unwrap_or_else(|_| Err(too_late()))?;
        for (((subject, limit, period), ask), grant) in places.into_iter().zip(&asks).zip(&grants) {
            let mut cells = subject.cells();
            let cell = cells.iter_mut().find(|cell| cell.limit() == limit && cell.period() == period);
            // None: its window has passed meanwhile.
            if let Some(cell) = cell {
                cell.granted(ask, grant, asked_ms);
            }
        }
        Ok(())
    }

    async fn serve(&self, subjects: &[Arc<Subject>], clock: &dyn Clock) {
        for subject in subjects {
            subject.is_queued.store(false, Ordering::Release);
        }
        let leased = self.lease(subjects, clock).await;
        let outcome = if leased.is_ok() { LEASED } else { FAILED };
        metrics::counter!(LIMIT_LEASES, "outcome" => outcome).increment(1);
        if let Err(e) = &leased {
            tracing::debug!(error = %e, "limits not leased");
        }
        self.set_alone(leased.is_err());
        for subject in subjects {
            subject.changed.notify_waiters();
        }
    }
}

fn too_late() -> StateError {
    StateError::Unavailable(format!("no answer within {LEASE_WAIT:?}"))
}

/// What time it is, and up to when the control plane's ledger has what calls used here.
pub(crate) struct Ledger {
    pub(super) clock: Arc<dyn Clock>,
    /// `None` where nobody knows.
    pub(super) taken_until: Box<dyn Fn(DateTime<Utc>) -> Option<DateTime<Utc>> + Send + Sync>,
}

impl Ledger {
    /// The control plane's ledger has what it took of this log.
    pub(crate) fn of(usage_log: &UsageLog, clock: &Arc<dyn Clock>) -> Self {
        let usage_log = usage_log.clone();
        Self { clock: clock.clone(), taken_until: Box::new(move |now| usage_log.taken_until(now)) }
    }

    /// Looks through subjects once.
    fn sweep(&self, subjects: &Subjects, mut tell: impl FnMut(&Arc<Subject>, i64)) {
        let now = self.clock.now();
        let ledgered_ms = (self.taken_until)(now).map_or(i64::MIN, |until| until.timestamp_millis());
        let now_ms = now.timestamp_millis();
        subjects.sweep(now_ms, ledgered_ms, |subject| tell(subject, now_ms));
    }
}

/// A limiter with its background work: in a process of its own state it counts alone, else it leases.
pub(crate) fn start(state: SharedState, ledger: Ledger, tasks: &TaskTracker, stop: CancellationToken) -> Arc<Limiter> {
    let (leasing, queue) = match state {
        // No other process can see this state.
        SharedState::InProcess(_) => (None, None),
        shared @ SharedState::Redis(_) => {
            // Shown before there is anything to tell, so that an alert sees the first.
            metrics::gauge!(LIMITS_ALONE).set(0.0);
            metrics::counter!(LIMIT_ALONE_CALLS).increment(0);
            for outcome in [LEASED, FAILED] {
                metrics::counter!(LIMIT_LEASES, "outcome" => outcome).increment(0);
            }
            let (leasing, queue) = Leasing::new(shared);
            (Some(leasing), Some(queue))
        }
    };
    let limiter = Arc::new(Limiter::new(leasing));
    tasks.spawn(keep_leased(limiter.clone(), queue, ledger, stop));
    limiter
}

/// Serves what calls ask for until `stop`, then gives back what is unused. A limiter that counts alone is only kept tidy.
pub(super) async fn keep_leased(
    limiter: Arc<Limiter>,
    queue: Option<LeaseQueue>,
    ledger: Ledger,
    stop: CancellationToken,
) {
    match (limiter.leasing(), queue) {
        (Some(leasing), Some(queue)) => {
            let work = lease_on_demand(leasing, limiter.subjects(), queue, &ledger);
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
            give_back(leasing, limiter.subjects(), &ledger).await;
        }
        _ => {
            let mut sweep = interval(SWEEP);
            sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = sweep.tick() => ledger.sweep(limiter.subjects(), |_, _| ()),
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

async fn lease_on_demand(leasing: &Leasing, subjects: &Subjects, mut queue: LeaseQueue, ledger: &Ledger) {
    let mut asked = Vec::with_capacity(MAX_SUBJECTS);
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut joined_at: Option<Instant> = None;
    let mut told = ToldAlone::default();
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => {
                if joined_at.is_none_or(|at| at.elapsed() >= JOIN_INTERVAL) {
                    let joined = leasing.join(JOIN_TTL).await;
                    joined_at = joined.is_ok().then(Instant::now);
                    leasing.set_alone(joined.is_err());
                }
                told.tell(leasing);
                let is_alone = leasing.is_alone.load(Ordering::Relaxed);
                ledger.sweep(subjects, |subject, now_ms| {
                    if is_alone {
                        return;
                    }
                    let mut is_due = false;
                    for cell in subject.cells().iter_mut() {
                        is_due |= cell.look_through(now_ms);
                    }
                    if is_due {
                        leasing.queue(subject);
                    }
                });
            }
            _ = queue.0.recv_many(&mut asked, MAX_SUBJECTS) => {
                leasing.serve(&asked, ledger.clock.as_ref()).await;
                asked.clear();
            }
        }
    }
}

/// What the log was told of calls that were judged without the shared counters.
#[derive(Default)]
struct ToldAlone {
    calls: u64,
    at: Option<Instant>,
}

impl ToldAlone {
    /// Tells of those since the last time, once in a while.
    fn tell(&mut self, leasing: &Leasing) {
        let all = leasing.alone_calls.load(Ordering::Relaxed);
        if all == self.calls || self.at.is_some_and(|at| at.elapsed() < TELL_ALONE) {
            return;
        }
        let (calls, gateways) = (all - self.calls, leasing.gateways.load(Ordering::Relaxed));
        tracing::warn!(calls, gateways, "calls were judged by this gateway's own part of limits: Redis was too slow");
        *self = Self { calls: all, at: Some(Instant::now()) };
    }
}

/// Tells of the use up to now and gives the rest back, so that others have it without waiting.
async fn give_back(leasing: &Leasing, subjects: &Subjects, ledger: &Ledger) {
    let mut all = Vec::new();
    ledger.sweep(subjects, |subject, _| {
        let mut cells = subject.cells();
        cells.iter_mut().for_each(super::subject::Cell::give_back);
        if !cells.is_empty() {
            all.push(subject.clone());
        }
    });
    for subjects in all.chunks(MAX_SUBJECTS) {
        if let Err(e) = leasing.lease(subjects, ledger.clock.as_ref()).await {
            tracing::debug!(error = %e, "leased limits not given back; they end by themselves");
            return;
        }
    }
    // It is not there any more.
    if let Err(e) = leasing.join(Duration::ZERO).await {
        tracing::debug!(error = %e, "the end of this gateway is not told to those that share limits");
    }
}
