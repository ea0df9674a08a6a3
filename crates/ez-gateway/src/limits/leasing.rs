//! Leasing: fetches slices of shared counters in the background, many in one round trip, gives unused ones back, and
//! says when each gateway is on its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ez_contract::Clock;
use ez_state::{Lessee, LimitAsk, LimitGrant, SharedState, StateError};
use ez_telemetry::metrics::{LIMIT_LEASES, LIMITS_ALONE};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::limiter::{Limiter, Subjects};
use super::subject::{Mode, Subject};

/// A call waits so long for a slice before it takes this gateway for being on its own.
pub(super) const LEASE_WAIT: Duration = Duration::from_millis(200);

/// How often subjects are looked through: for leases that nobody uses, and for those that must be told again.
const SWEEP: Duration = Duration::from_secs(1);

/// How often this gateway says that it is there, and for how long that holds.
const JOIN_INTERVAL: Duration = Duration::from_secs(2);
const JOIN_TTL: Duration = Duration::from_secs(10);

/// Subjects of one round trip.
const MAX_SUBJECTS: usize = 128;

/// What calls need of the background: where it stands, and its ear.
pub(crate) struct Leasing {
    state: SharedState,
    instance: String,
    queue: mpsc::UnboundedSender<Arc<Subject>>,
    is_alone: AtomicBool,
    gateways: AtomicU64,
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
        let outcome = if leased.is_ok() { "leased" } else { "failed" };
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

/// A limiter with its background work: in a process of its own state it counts alone, else it leases.
pub(crate) fn start(
    state: SharedState,
    clock: Arc<dyn Clock>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Arc<Limiter> {
    let (leasing, queue) = match state {
        // No other process can see this state.
        SharedState::InProcess(_) => (None, None),
        shared @ SharedState::Redis(_) => {
            let (leasing, queue) = Leasing::new(shared);
            (Some(leasing), Some(queue))
        }
    };
    let limiter = Arc::new(Limiter::new(leasing));
    tasks.spawn(keep_leased(limiter.clone(), queue, clock, stop));
    limiter
}

/// Serves what calls ask for until `stop`, then gives back what is unused. A limiter that counts alone is only kept tidy.
pub(super) async fn keep_leased(
    limiter: Arc<Limiter>,
    queue: Option<LeaseQueue>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    match (limiter.leasing(), queue) {
        (Some(leasing), Some(queue)) => {
            let work = lease_on_demand(leasing, limiter.subjects(), queue, clock.as_ref());
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
            give_back(leasing, limiter.subjects(), clock.as_ref()).await;
        }
        _ => {
            let mut sweep = interval(SWEEP);
            sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = sweep.tick() => limiter.subjects().sweep(clock.now().timestamp_millis(), |_| ()),
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

async fn lease_on_demand(leasing: &Leasing, subjects: &Subjects, mut queue: LeaseQueue, clock: &dyn Clock) {
    let mut asked = Vec::with_capacity(MAX_SUBJECTS);
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut joined_at: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            _ = sweep.tick() => {
                if joined_at.is_none_or(|at| at.elapsed() >= JOIN_INTERVAL) {
                    let joined = leasing.join(JOIN_TTL).await;
                    joined_at = joined.is_ok().then(Instant::now);
                    leasing.set_alone(joined.is_err());
                }
                if !leasing.is_alone.load(Ordering::Relaxed) {
                    let now_ms = clock.now().timestamp_millis();
                    subjects.sweep(now_ms, |subject| {
                        let mut is_due = false;
                        for cell in subject.cells().iter_mut() {
                            is_due |= cell.look_through(now_ms);
                        }
                        if is_due {
                            leasing.queue(subject);
                        }
                    });
                }
            }
            _ = queue.0.recv_many(&mut asked, MAX_SUBJECTS) => {
                leasing.serve(&asked, clock).await;
                asked.clear();
            }
        }
    }
}

/// Tells of the use up to now and gives the rest back, so that others have it without waiting.
async fn give_back(leasing: &Leasing, subjects: &Subjects, clock: &dyn Clock) {
    let now_ms = clock.now().timestamp_millis();
    let mut all = Vec::new();
    subjects.sweep(now_ms, |subject| {
        let mut cells = subject.cells();
        cells.iter_mut().for_each(super::subject::Cell::give_back);
        if !cells.is_empty() {
            all.push(subject.clone());
        }
    });
    for subjects in all.chunks(MAX_SUBJECTS) {
        if let Err(e) = leasing.lease(subjects, clock).await {
            tracing::debug!(error = %e, "leased limits not given back; they end by themselves");
            return;
        }
    }
    // It is not there any more.
    if let Err(e) = leasing.join(Duration::ZERO).await {
        tracing::debug!(error = %e, "the end of this gateway is not told to those that share limits");
    }
}
