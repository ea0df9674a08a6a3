//! All masters that called of late, each with its ring and with what it has in flight.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use ez_contract::live::{LiveFigures, MAX_LIVE_MASTERS};
use tokio::time::Instant;

use super::ring::{Ring, SLOT, Slot};

/// Maps that masters are spread over, so that calls of different masters rarely meet at one lock.
const SHARDS: usize = 64;

/// Counts what masters have of this gateway.
pub(crate) struct LiveBook {
    /// Where slots are numbered from.
    began: Instant,
    shards: [RwLock<Shard>; SHARDS],
}

type Shard = HashMap<i64, Arc<MasterLive>>;

/// What one master has.
struct MasterLive {
    began: Instant,
    in_flight: AtomicU64,
    in_flight_streams: AtomicU64,
    ring: Mutex<Ring>,
}

/// A call in flight; it has ended when this is dropped.
pub(crate) struct LiveCall {
    master: Arc<MasterLive>,
    is_stream: bool,
    is_settled: bool,
}

/// What is to be told: each master that has anything, and the rest together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) masters: BTreeMap<i64, LiveFigures>,
    pub(super) others: LiveFigures,
}

impl LiveBook {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), shards: std::array::from_fn(|_| RwLock::default()) }
    }

    /// Counts a call that arrived.
    pub(crate) fn begin(&self, master_id: i64) -> LiveCall {
        let master = self.master(master_id);
        master.in_flight.fetch_add(1, Ordering::Relaxed);
        master.count(|slot| slot.requests = slot.requests.saturating_add(1));
        LiveCall { master, is_stream: false, is_settled: false }
    }

    /// When slot `number` begins.
    pub(super) fn beginning_of(&self, number: u64) -> Instant {
        self.began + SLOT.saturating_mul(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// The slot under way.
    pub(super) fn slot_now(&self) -> u64 {
        slot_since(self.began)
    }

    /// The figures at the beginning of slot `now`. Masters of which nothing is left to tell are forgotten.
    pub(super) fn figures(&self, now: u64) -> Told {
        let mut found = Vec::new();
        for shard in &self.shards {
            let mut has_idle = false;
            for (id, master) in shard.read().unwrap_or_else(PoisonError::into_inner).iter() {
                let figures = master.figures(now);
                if figures.is_zero() {
                    has_idle |= master.is_idle(now);
                } else {
                    found.push((*id, figures));
                }
            }
            if has_idle {
                // A call that has a master in hand found it under the lock, so it shows in the count here.
                let mut masters = shard.write().unwrap_or_else(PoisonError::into_inner);
                masters.retain(|_, master| Arc::strong_count(master) > 1 || !master.is_idle(now));
            }
        }
        bounded(found)
    }

    fn master(&self, id: i64) -> Arc<MasterLive> {
        let shard = &self.shards[usize::try_from(id.unsigned_abs() % SHARDS as u64).unwrap_or_default()];
        // A map is whole whoever panicked beside it.
        if let Some(master) = shard.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return master.clone();
        }
        let mut masters = shard.write().unwrap_or_else(PoisonError::into_inner);
        masters.entry(id).or_insert_with(|| Arc::new(MasterLive::new(self.began))).clone()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap().len()).sum()
    }
}

impl LiveCall {
    /// Notes that the call asked for a stream.
    pub(crate) fn note_stream(&mut self) {
        if !self.is_stream {
            self.is_stream = true;
            self.master.in_flight_streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that a limit refused the call.
    pub(crate) fn note_limited(&self) {
        self.master.count(|slot| slot.limited_requests = slot.limited_requests.saturating_add(1));
    }

    /// Counts what the call used, once.
    pub(crate) fn settle(&mut self, tokens: u64) {
        if !self.is_settled {
            self.is_settled = true;
            self.master.count(|slot| slot.tokens = slot.tokens.saturating_add(tokens));
        }
    }
}

impl Drop for LiveCall {
    fn drop(&mut self) {
        self.master.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.is_stream {
            self.master.in_flight_streams.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl MasterLive {
    fn new(began: Instant) -> Self {
        let (in_flight, in_flight_streams) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { began, in_flight, in_flight_streams, ring: Mutex::new(Ring::new()) }
    }

    fn count(&self, add: impl FnOnce(&mut Slot)) {
        let now = slot_since(self.began);
        add(self.ring().slot(now));
    }

    fn figures(&self, now: u64) -> LiveFigures {
        LiveFigures {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            in_flight_streams: self.in_flight_streams.load(Ordering::Relaxed),
            ..self.ring().figures_before(now)
        }
    }

    fn is_idle(&self, now: u64) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.ring().is_over(now)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Numbers are whole whoever panicked beside them.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn slot_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis() / SLOT.as_millis()).unwrap_or(u64::MAX)
}

/// Those with the most requests by themselves, the rest together.
fn bounded(mut found: Vec<(i64, LiveFigures)>) -> Told {
    let mut others = LiveFigures::default();
    if found.len() > MAX_LIVE_MASTERS {
        found.sort_unstable_by_key(|(id, figures)| (std::cmp::Reverse(figures.requests), *id));
        for (_, figures) in found.drain(MAX_LIVE_MASTERS..) {
            others += figures;
        }
    }
    Told { masters: found.into_iter().collect(), others }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn one(requests: u64) -> LiveFigures {
        LiveFigures { requests, recent_requests: requests, ..LiveFigures::default() }
    }

    fn told(masters: impl IntoIterator<Item = (i64, LiveFigures)>) -> Told {
        Told { masters: masters.into_iter().collect(), others: LiveFigures::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_in_flight_until_it_is_dropped_and_settles_once() {
        let book = LiveBook::new();
        let mut call = book.begin(2);
        call.note_stream();
        call.note_stream();
        drop(book.begin(7));
        advance(SLOT).await;
        let in_flight = LiveFigures { in_flight: 1, in_flight_streams: 1, ..one(1) };
        assert_eq!(book.figures(book.slot_now()), told([(2, in_flight), (7, one(1))]));

        call.settle(30);
        call.settle(30);
        call.note_limited();
        drop(call);
        advance(SLOT).await;
        let ended = LiveFigures { tokens: 30, limited_requests: 1, ..one(1) };
        assert_eq!(book.figures(book.slot_now()), told([(2, ended), (7, one(1))]));
    }

    #[tokio::test(start_paused = true)]
    async fn masters_are_forgotten_once_nothing_is_left_to_tell() {
        let book = LiveBook::new();
        let call = book.begin(2);
        drop(book.begin(7));
        advance(Duration::from_secs(61)).await;
        let in_flight = LiveFigures { in_flight: 1, ..LiveFigures::default() };
        assert_eq!(book.figures(book.slot_now()), told([(2, in_flight)]));
        assert_eq!(book.len(), 1);
        drop(call);
        assert_eq!(book.figures(book.slot_now()), Told::default());
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn the_masters_with_the_most_requests_are_named() {
        let many = MAX_LIVE_MASTERS as i64 + 3;
        let told = bounded((1..=many).map(|id| (id, one(id as u64))).collect());
        assert_eq!(told.masters.len(), MAX_LIVE_MASTERS);
        assert_eq!(told.masters.first_key_value(), Some((&4, &one(4))));
        assert_eq!(told.others, one(1 + 2 + 3));
    }
}
