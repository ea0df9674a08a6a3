//! Leases on limits within this process: the same rules as on Redis, over plain maps.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{KEPT_APART, Lessee, LimitAsk, LimitGrant, slice};

/// Counters are swept of those past their time when they pass this number, and then twice what was left.
const SWEEP_AT: usize = 1024;

/// All counters that gateways lease from, and who these are.
#[derive(Default)]
pub(crate) struct LimitTables {
    counters: HashMap<String, Counter>,
    sweep_at: usize,
    lessees: HashMap<String, Instant>,
    generations: u64,
}

struct Counter {
    generation: u64,
    /// Counted before, or by gateways that are gone.
    seed: u64,
    /// By gateway, and by when it began to count.
    held: HashMap<(String, u64), Held>,
    ends_at: Instant,
}

struct Held {
    used: u64,
    granted: u64,
    alive_until: Instant,
}

impl LimitTables {
    pub(crate) fn join(&mut self, instance: &str, ttl: Duration) -> u64 {
        let now = Instant::now();
        self.lessees.insert(instance.to_owned(), now + ttl);
        self.lessees.retain(|_, ends_at| *ends_at > now);
        self.lessees.len() as u64
    }

    pub(crate) fn lease(&mut self, lessee: &Lessee, asks: &[LimitAsk]) -> Vec<LimitGrant> {
        let now = Instant::now();
        let grants = asks.iter().map(|ask| self.lease_one(lessee, ask, now)).collect();
        if self.counters.len() > self.sweep_at.max(SWEEP_AT) {
            self.counters.retain(|_, counter| counter.ends_at > now);
            self.sweep_at = self.counters.len() * 2;
        }
        grants
    }

    fn lease_one(&mut self, lessee: &Lessee, ask: &LimitAsk, now: Instant) -> LimitGrant {
        if self.counters.get(&ask.counter).is_none_or(|counter| counter.ends_at <= now) {
            self.generations += 1;
            let counter =
                Counter { generation: self.generations, seed: ask.ledger, held: HashMap::new(), ends_at: now };
            self.counters.insert(ask.counter.clone(), counter);
        }
        let Some(counter) = self.counters.get_mut(&ask.counter) else {
            return LimitGrant { generation: ask.generation, granted: ask.used, taken: ask.limit };
        };
        let is_known = counter.generation == ask.generation || ask.ledger == 0;
        let (used, mut granted) = if is_known { (ask.used, ask.granted.max(ask.used)) } else { (0, 0) };
        let (mut others, mut alive) = (0_u64, 1_u64);
        let seed = &mut counter.seed;
        counter.held.retain(|(instance, begun), held| {
            if *instance == lessee.instance && *begun == ask.begun {
                return true;
            }
            if held.alive_until > now {
                others = others.saturating_add(held.granted);
                alive += 1;
            } else if !ask.outlives {
                return false;
            } else if held.alive_until + KEPT_APART <= now {
                *seed = seed.saturating_add(held.used);
                return false;
            } else {
                others = others.saturating_add(held.used);
            }
            true
        });
        let taken = counter.seed.saturating_add(others).saturating_add(granted).max(ask.ledger);
        let extra = slice(ask.limit.saturating_sub(taken), ask.wanted, ask.limit, lessee.gateways.max(alive));
        granted += extra;
        counter
            .held
            .insert((lessee.instance.clone(), ask.begun), Held { used, granted, alive_until: now + ask.alive_for });
        counter.ends_at = now + ask.kept_for;
        LimitGrant { generation: counter.generation, granted, taken: taken.saturating_add(extra) }
    }
}
