//! The counts: one row for each API key that was asked since the last flush, however long the control plane is away.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use ez_contract::clock::Clock;
use ez_contract::flush::ApiKeyDelta;

const SHARDS: usize = 16;

/// What came of attempts since it was last taken out. Locks are held for an addition, and never across an await.
pub(crate) struct AttemptCounts {
    clock: Arc<dyn Clock>,
    shards: Vec<Mutex<HashMap<i64, Count>>>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    successes: u64,
    failures: u64,
    last_used_at: DateTime<Utc>,
}

/// An attempt, counted when it is dropped: as a failure where one was noted, else as a success, as then nothing can be held
/// against its credential. So are attempts whose client left, or asked for what it may not have.
#[derive(Debug)]
pub(crate) struct CountedAttempt {
    counts: Arc<AttemptCounts>,
    api_key_id: i64,
    begun_at: DateTime<Utc>,
    has_failed: bool,
}

impl AttemptCounts {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, shards: (0..SHARDS).map(|_| Mutex::default()).collect() })
    }

    /// Begins an attempt.
    pub(crate) fn begin(self: &Arc<Self>, api_key_id: i64) -> CountedAttempt {
        CountedAttempt { counts: self.clone(), api_key_id, begun_at: self.clock.now(), has_failed: false }
    }

    /// Takes out the counts of at most `limit` API keys.
    pub(super) fn take(&self, limit: usize) -> Vec<ApiKeyDelta> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut counts = lock(shard);
            if taken.len() + counts.len() <= limit {
                taken.extend(counts.drain().map(|(id, count)| delta(id, count)));
                continue;
            }
            let ids: Vec<i64> = counts.keys().copied().take(limit - taken.len()).collect();
            taken.extend(ids.into_iter().filter_map(|id| Some(delta(id, counts.remove(&id)?))));
            break;
        }
        taken
    }

    fn add(&self, api_key_id: i64, attempt: Count) {
        let shard = usize::try_from(api_key_id.unsigned_abs()).unwrap_or_default() % SHARDS;
        let Some(shard) = self.shards.get(shard) else { return };
        match lock(shard).entry(api_key_id) {
            Entry::Vacant(row) => drop(row.insert(attempt)),
            Entry::Occupied(mut row) => {
                let count = row.get_mut();
                count.successes += attempt.successes;
                count.failures += attempt.failures;
                count.last_used_at = count.last_used_at.max(attempt.last_used_at);
            }
        }
    }
}

impl CountedAttempt {
    /// Notes that the attempt failed by its credential's or its upstream's fault.
    pub(crate) fn failed(&mut self) {
        self.has_failed = true;
    }
}

impl Drop for CountedAttempt {
    fn drop(&mut self) {
        let (successes, failures) = if self.has_failed { (0, 1) } else { (1, 0) };
        self.counts.add(self.api_key_id, Count { successes, failures, last_used_at: self.begun_at });
    }
}

impl fmt::Debug for AttemptCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptCounts").finish_non_exhaustive()
    }
}

fn delta(api_key_id: i64, Count { successes, failures, last_used_at }: Count) -> ApiKeyDelta {
    ApiKeyDelta { api_key_id, requests: successes + failures, successes, failures, last_used_at }
}

fn lock(shard: &Mutex<HashMap<i64, Count>>) -> MutexGuard<'_, HashMap<i64, Count>> {
    // A map is whole whoever panicked beside it.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    /// Each look at it is a second later.
    struct Ticking(AtomicI64);

    impl Clock for Ticking {
        fn now(&self) -> DateTime<Utc> {
            DateTime::from_timestamp(self.0.fetch_add(1, Ordering::SeqCst), 0).unwrap()
        }
    }

    fn counts() -> Arc<AttemptCounts> {
        AttemptCounts::new(Arc::new(Ticking(AtomicI64::new(0))))
    }

    #[test]
    fn attempts_count_once_as_they_end() {
        let counts = counts();
        let (first, mut second, third) = (counts.begin(7), counts.begin(7), counts.begin(-9));
        assert!(counts.take(10).is_empty(), "none has ended");
        second.failed();
        second.failed();
        drop(second);
        drop(first);
        let delta = |api_key_id, successes, failures, second| ApiKeyDelta {
            api_key_id,
            requests: successes + failures,
            successes,
            failures,
            last_used_at: DateTime::from_timestamp(second, 0).unwrap(),
        };
        assert_eq!(counts.take(10), [delta(7, 1, 1, 1)], "the second began last");
        assert!(counts.take(10).is_empty());
        drop(third);
        assert_eq!(counts.take(10), [delta(-9, 1, 0, 2)]);
    }

    #[test]
    fn no_more_are_taken_than_asked_for_and_none_is_left() {
        let counts = counts();
        for id in 0..100 {
            (0..=id).for_each(|_| drop(counts.begin(id)));
        }
        let mut taken = BTreeMap::new();
        loop {
            let deltas = counts.take(7);
            if deltas.is_empty() {
                break;
            }
            assert!(deltas.len() <= 7, "{}", deltas.len());
            taken.extend(deltas.into_iter().map(|delta| (delta.api_key_id, delta.requests)));
        }
        assert_eq!(Vec::from_iter(taken), (0..100).map(|id| (id, id as u64 + 1)).collect::<Vec<_>>());
    }

    #[test]
    fn what_many_threads_count_is_all_there() {
        let counts = counts();
        let mut successes = 0;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let counts = &counts;
                scope.spawn(move || {
                    for attempt in 0..1_000 {
                        let mut counted = counts.begin(attempt % 3);
                        if thread == 0 {
                            counted.failed();
                        }
                    }
                });
            }
            for _ in 0..50 {
                successes += counts.take(2).iter().map(|delta| delta.successes).sum::<u64>();
            }
        });
        successes += counts.take(10).iter().map(|delta| delta.successes).sum::<u64>();
        assert_eq!(successes, 3_000);
    }
}
