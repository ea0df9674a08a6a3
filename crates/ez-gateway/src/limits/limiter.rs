//! The limiter: finds what is counted of a caller, and reserves a call's part of every limit or of none.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, MutexGuard, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use ez_telemetry::metrics::{LIMIT_REFUSALS, LIMIT_WAITS};
use tokio::time::{Instant, timeout_at};

use super::demand::Demand;
use super::leasing::{LEASE_WAIT, Leasing};
use super::limit::Scope;
use super::refused::{Limited, refused};
use super::reservation::{Held, RateHeaders, Reservation, Share, Shares};
use super::rules::{Rule, Rules};
use super::subject::{Cell, Fit, Mode, Subject, cell_of};
use crate::authn::Caller;

/// Maps that subjects are spread over, so that calls of different keys rarely meet at one lock.
const SHARDS: usize = 64;

/// Counts what keys and masters use of their limits.
pub(crate) struct Limiter {
    subjects: Subjects,
    leasing: Option<Arc<Leasing>>,
}

/// All keys and masters that are counted.
pub(super) struct Subjects {
    shards: [RwLock<Shard>; SHARDS],
}

type Shard = HashMap<(Scope, i64), Arc<Subject>>;

/// What became of an attempt to reserve.
#[expect(clippy::large_enum_variant, reason = "nearly every call reserves, and a box would be one more allocation")]
enum Taken {
    Reserved(Reservation),
    Refused(Box<Limited>),
    /// What is leased does not tell; this subject must lease more.
    Unknown(Arc<Subject>),
}

/// A subject with the rules that apply to the call.
struct Side {
    subject: Arc<Subject>,
    rules: Rules,
}

/// A side in hand: nobody else changes its cells.
struct Locked<'s> {
    side: &'s Side,
    cells: MutexGuard<'s, Vec<Cell>>,
    shares: Shares,
}

/// What is leased does not tell whether a call fits.
struct Unknown;

impl Limiter {
    /// A limiter that counts alone, or leases from a counter that others share.
    pub(crate) fn new(leasing: Option<Arc<Leasing>>) -> Self {
        Self { subjects: Subjects::new(), leasing }
    }

    /// Reserves a call's part of every limit of its key and master, or refuses and reserves nothing. `None` where there is
    /// no limit. Waits only where what is leased is used up, and then for [`LEASE_WAIT`] at most.
    pub(crate) async fn reserve(&self, caller: &Caller, demand: Demand) -> Result<Option<Reservation>, Box<Limited>> {
        let sides = [
            self.side(Scope::Key, caller.token.id, Rules::of_token(&caller.token, &demand, demand.now)),
            self.side(Scope::Master, caller.master.id, Rules::of_master(&caller.master, &demand, demand.now)),
        ];
        if sides.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mode = self.leasing.as_ref().map_or(Mode::Exact, |leasing| leasing.mode());
        match self.take(&sides, mode, demand.now) {
            Taken::Reserved(reservation) => Ok(Some(reservation)),
            Taken::Refused(limited) => Err(limited),
            // Boxed, so that calls that need not wait have no room for it.
            Taken::Unknown(_) => Box::pin(self.wait_and_take(sides, demand.now)).await.map(Some),
        }
    }

    /// Waits for more to be leased; where that takes too long, as if the shared counter could not be asked.
    async fn wait_and_take(&self, sides: [Option<Side>; 2], now: DateTime<Utc>) -> Result<Reservation, Box<Limited>> {
        metrics::counter!(LIMIT_WAITS).increment(1);
        let wait_until = Instant::now() + LEASE_WAIT;
        loop {
            let leasing = self.leasing.as_ref();
            let is_late = Instant::now() >= wait_until;
            let mode = match leasing {
                Some(leasing) if is_late => leasing.alone(),
                Some(leasing) => leasing.mode(),
                None => Mode::Exact,
            };
            let short = match self.take(&sides, mode, now) {
                Taken::Reserved(reservation) => return Ok(reservation),
                Taken::Refused(limited) => return Err(limited),
                Taken::Unknown(short) => short,
            };
            let mut changed = pin!(short.changed.notified());
            changed.as_mut().enable();
            if let Some(leasing) = leasing {
                leasing.queue(&short);
            }
            // Whether told or not: the next round looks for itself.
            let _ = timeout_at(wait_until, changed).await;
        }
    }

    fn take(&self, sides: &[Option<Side>; 2], mode: Mode, now: DateTime<Utc>) -> Taken {
        let now_ms = now.timestamp_millis();
        if let Some(leasing) = self.leasing.as_ref().filter(|_| matches!(mode, Mode::Alone { .. })) {
            leasing.note_alone();
        }
        // The key always before the master, so that two calls never wait for each other.
        let mut locked = sides.each_ref().map(|side| side.as_ref().map(Locked::new));
        let mut refusal = None;
        for locked in locked.iter_mut().flatten() {
            match locked.fit(mode, now_ms) {
                Ok(None) => {}
                Ok(Some((rule, left))) => {
                    refusal.get_or_insert((locked.side.subject.scope, rule, left));
                }
                Err(Unknown) if refusal.is_none() => return Taken::Unknown(locked.side.subject.clone()),
                Err(Unknown) => {}
            }
        }
        let mut rate = RateHeaders::default();
        for locked in locked.iter_mut().flatten() {
            if refusal.is_none() {
                locked.take(now_ms);
            }
            locked.note(&mut rate, mode, now);
        }
        let held = locked.map(|locked| locked.map(|locked| self.unlock(locked, mode, now_ms)));
        if let Some((scope, rule, left)) = refusal {
            metrics::counter!(LIMIT_REFUSALS, "limit" => rule.limit.as_str(), "scope" => scope.as_str()).increment(1);
            let refusal = refused(scope, &rule, left, now);
            return Taken::Refused(Box::new(Limited { refusal, rate }));
        }
        Taken::Reserved(Reservation::new(held, rate, self.leasing.clone()))
    }

    /// Lets go of a side; has more leased for it where that runs low.
    fn unlock(&self, mut locked: Locked<'_>, mode: Mode, now_ms: i64) -> Held {
        let mut is_low = false;
        if mode == Mode::Leased {
            for cell in locked.cells.iter_mut() {
                is_low |= cell.runs_low(now_ms);
            }
        }
        let held = Held { subject: locked.side.subject.clone(), shares: locked.shares };
        drop(locked);
        if let Some(leasing) = self.leasing.as_ref().filter(|_| is_low) {
            leasing.queue(&held.subject);
        }
        held
    }

    fn side(&self, scope: Scope, id: i64, rules: Rules) -> Option<Side> {
        (!rules.is_empty()).then(|| Side { subject: self.subjects.get(scope, id), rules })
    }

    pub(super) fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    pub(super) fn leasing(&self) -> Option<&Arc<Leasing>> {
        self.leasing.as_ref()
    }
}

impl<'s> Locked<'s> {
    fn new(side: &'s Side) -> Self {
        Self { side, cells: side.subject.cells(), shares: Shares::default() }
    }

    /// Finds what the call needs of each limit, or the first that it does not fit into and what that has left.
    fn fit(&mut self, mode: Mode, now_ms: i64) -> Result<Option<(Rule, u64)>, Unknown> {
        let mut refused = None;
        let mut is_unknown = false;
        for (rule, share) in self.side.rules.iter().zip(self.shares.iter_mut()) {
            let cell = cell_of(&mut self.cells, rule, now_ms);
            match cell.fit(rule, mode, now_ms) {
                Fit::Yes(amount) => {
                    let (limit, period) = (rule.limit, cell.period());
                    let is_late = period == rule.period && rule.has_ended(now_ms);
                    *share = Some(Share { limit, period, amount, is_late });
                }
                Fit::No { left } => refused = refused.or(Some((*rule, left))),
                // The others are looked at all the same, so that all that is lacking is leased at once.
                Fit::Unknown => is_unknown = true,
            }
        }
        if is_unknown && refused.is_none() { Err(Unknown) } else { Ok(refused) }
    }

    fn take(&mut self, now_ms: i64) {
        for share in self.shares.iter().flatten() {
            if let Some(cell) = self.cells.iter_mut().find(|cell| cell.limit() == share.limit) {
                cell.take(share.amount, now_ms);
            }
        }
    }

    fn note(&mut self, rate: &mut RateHeaders, mode: Mode, now: DateTime<Utc>) {
        let now_ms = now.timestamp_millis();
        for rule in self.side.rules.iter() {
            let remaining = cell_of(&mut self.cells, rule, now_ms).remaining(mode, now_ms);
            rate.note(rule, remaining, now);
        }
    }
}

impl Subjects {
    fn new() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()) }
    }

    fn get(&self, scope: Scope, id: i64) -> Arc<Subject> {
        let shard = &self.shards[usize::try_from(id.unsigned_abs() % SHARDS as u64).unwrap_or_default()];
        // A map is whole whoever panicked beside it.
        if let Some(subject) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&(scope, id)) {
            return subject.clone();
        }
        let mut subjects = shard.write().unwrap_or_else(PoisonError::into_inner);
        subjects.entry((scope, id)).or_insert_with(|| Arc::new(Subject::new(scope, id))).clone()
    }

    /// Forgets those of which nothing is left to count, and tells the others. `ledgered_ms` is the time up to which the
    /// control plane has this gateway's records.
    pub(super) fn sweep(&self, now_ms: i64, ledgered_ms: i64, mut tell: impl FnMut(&Arc<Subject>)) {
        for shard in &self.shards {
            let is_stale = |subject: &Arc<Subject>| {
                let mut cells = subject.cells();
                // A call that has it in hand counts in it yet.
                if Arc::strong_count(subject) > 1 {
                    cells.iter_mut().for_each(|cell| cell.note_in_use(now_ms));
                    return false;
                }
                cells.iter().all(|cell| cell.is_forgettable(now_ms, ledgered_ms))
            };
            let mut has_stale = false;
            for subject in shard.read().unwrap_or_else(PoisonError::into_inner).values() {
                has_stale |= is_stale(subject);
                tell(subject);
            }
            if has_stale {
                shard.write().unwrap_or_else(PoisonError::into_inner).retain(|_, subject| !is_stale(subject));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap().len()).sum()
    }
}
