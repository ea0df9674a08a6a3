//! Three gateways on one shared counter, with a clock moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::Clock;
use ez_contract::snapshot::Quota;
use ez_state::SharedState;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{START, caller, demand, take, time, used};
use crate::authn::Caller;
use crate::limits::leasing::{Leasing, Ledger, keep_leased};
use crate::limits::limiter::Limiter;
use crate::limits::subject::Mode;
use crate::limits::{Limited, Reservation};

/// A clock moved by hand.
struct FakeClock(AtomicI64);

impl Clock for FakeClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// Gateways that share their limits through one state.
struct Fleet {
    limiters: Vec<Arc<Limiter>>,
    clock: Arc<FakeClock>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Fleet {
    async fn start(gateways: usize) -> Self {
        let state = SharedState::in_process();
        let clock = Arc::new(FakeClock(AtomicI64::new(time(START).timestamp_millis())));
        let mut fleet = Self { limiters: Vec::new(), clock, tasks: TaskTracker::new(), stop: CancellationToken::new() };
        for _ in 0..gateways {
            fleet.add(&state);
        }
        // Each has told that it is there, and heard of the others.
        for limiter in &fleet.limiters {
            let leasing = limiter.leasing().unwrap();
            until(async || leasing.alone() == Mode::Alone { gateways: gateways as u64 }).await;
        }
        fleet
    }

    fn add(&mut self, state: &SharedState) {
        let (leasing, queue) = Leasing::new(state.clone());
        let limiter = Arc::new(Limiter::new(Some(leasing)));
        // The control plane takes every record at once.
        let ledger = Ledger { clock: self.clock.clone(), taken_until: Box::new(Some) };
        self.tasks.spawn(keep_leased(limiter.clone(), Some(queue), ledger, self.stop.clone()));
        self.limiters.push(limiter);
    }

    async fn take(&self, gateway: usize, caller: &Caller, tokens: u64) -> Result<Option<Reservation>, Box<Limited>> {
        self.limiters[gateway].reserve(caller, demand(self.clock.now(), tokens)).await
    }

    fn round_trips(&self) -> u64 {
        self.limiters.iter().filter_map(|limiter| limiter.leasing()).map(|leasing| leasing.round_trips()).sum()
    }

    /// Moves the clock to the beginning of the next minute.
    fn next_minute(&self) {
        let now = self.clock.now().timestamp_millis();
        self.clock.0.store((now / 60_000 + 1) * 60_000, Ordering::SeqCst);
    }

    /// Moves the clock on.
    fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

/// Waits for what the background does.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(std::time::Instant::now() < deadline, "it does not come to that");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn three_gateways_share_a_limit_without_passing_it_and_with_few_round_trips() {
    let fleet = Fleet::start(3).await;
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let limit = rng.random_range(1_000..5_000_u64);
        let caller = caller(|token, _| (token.id, token.limits.rpm) = (seed as i64, Some(limit)));
        // Some gateways get more of the calls than others.
        let weights = [rng.random_range(0..10), rng.random_range(0..10), 10_u32];
        let before = fleet.round_trips();
        let (mut admitted, calls) = (0, limit + limit / 4);
        for _ in 0..calls {
            let draw = rng.random_range(0..weights.iter().sum());
            let gateway = usize::from(draw >= weights[0]) + usize::from(draw >= weights[0] + weights[1]);
            admitted += u64::from(fleet.take(gateway, &caller, 1).await.is_ok());
            if rng.random_range(0..50) == 0 {
                fleet.pass(Duration::from_millis(rng.random_range(0..20)));
                tokio::task::yield_now().await;
            }
        }
        let round_trips = fleet.round_trips() - before;
        assert!(admitted <= limit, "seed {seed}: {admitted} of {limit}");
        // What the quieter two hold unused goes back only after a second.
        assert!(admitted >= limit - limit / 3, "seed {seed}: {admitted} of {limit}");
        assert!(round_trips * 20 < calls, "seed {seed}: {round_trips} round trips for {calls} calls");
        fleet.next_minute();
    }
    fleet.stop.cancel();
}

#[tokio::test]
async fn what_is_scarce_goes_to_whoever_asks() {
    let fleet = Fleet::start(3).await;
    let caller = caller(|token, _| token.limits.rpm = Some(7));
    let mut admitted = 0;
    for call in 0..30 {
        admitted += u64::from(fleet.take(call % 3, &caller, 1).await.is_ok());
    }
    assert_eq!(admitted, 7, "slices of one, none of them left lying");
    fleet.stop.cancel();
}

#[tokio::test]
async fn tokens_pass_a_shared_limit_only_by_what_estimates_missed() {
    let fleet = Fleet::start(3).await;
    for seed in 0..40 {
        let mut rng = StdRng::seed_from_u64(seed);
        let limit = rng.random_range(10_000..100_000_u64);
        let caller = caller(|token, _| (token.id, token.limits.tpm) = (seed as i64, Some(limit)));
        let (mut spent, mut missed) = (0_u64, 0_u64);
        let mut flying = Vec::new();
        for _ in 0..600 {
            let estimate = rng.random_range(1..2_000);
            if let Ok(Some(reservation)) = fleet.take(rng.random_range(0..3), &caller, estimate).await {
                flying.push((reservation, estimate));
            }
            while flying.len() > 20 {
                let (reservation, estimate) = flying.swap_remove(rng.random_range(0..flying.len()));
                let truth = rng.random_range(0..3_000);
                spent += truth;
                missed += truth.saturating_sub(estimate);
                reservation.settle(used(truth));
            }
        }
        for (reservation, estimate) in flying {
            spent += estimate;
            drop(reservation);
        }
        assert!(spent <= limit + missed, "seed {seed}: {spent} of {limit}, {missed} missed by estimates");
    }
    fleet.stop.cancel();
}

#[tokio::test]
async fn calls_in_flight_are_shared_and_freed_across_gateways() {
    let fleet = Fleet::start(3).await;
    let caller = caller(|token, _| token.limits.concurrency = Some(4));
    let mut flying = Vec::new();
    for call in 0..12 {
        flying.extend(fleet.take(call % 3, &caller, 1).await.ok().flatten());
    }
    assert_eq!(flying.len(), 4);
    drop(flying);
    // All of them at one gateway now.
    let mut flying = Vec::new();
    until(async || {
        fleet.pass(Duration::from_millis(300));
        flying.extend(fleet.take(0, &caller, 1).await.ok().flatten());
        flying.len() == 4
    })
    .await;
    assert!(fleet.take(1, &caller, 1).await.is_err());
    fleet.stop.cancel();
}

#[tokio::test]
async fn unused_slices_go_back_so_that_another_gateway_can_use_the_whole_limit() {
    let fleet = Fleet::start(3).await;
    let caller = caller(|token, _| token.limits.rpd = Some(1_200));
    fleet.take(0, &caller, 1).await.unwrap();
    fleet.take(1, &caller, 1).await.unwrap();
    let mut admitted = 2;
    until(async || {
        fleet.pass(Duration::from_millis(300));
        while fleet.take(2, &caller, 1).await.is_ok() {
            admitted += 1;
        }
        admitted >= 1_200
    })
    .await;
    assert_eq!(admitted, 1_200);
    assert!(fleet.take(0, &caller, 1).await.is_err());
    fleet.stop.cancel();
}

#[tokio::test]
async fn a_shared_quota_holds_between_two_counts_of_the_ledger() {
    let fleet = Fleet::start(3).await;
    let at = |ledger| caller(|token, _| token.quota = Some(Quota { limit: 10_000, used: ledger, reset_at: None }));
    let mut spent = 4_000;
    for call in 0..200 {
        // The ledger is behind, as it is published now and then.
        let ledger = if call < 100 { 4_000 } else { spent.min(6_000) };
        if let Ok(Some(reservation)) = fleet.take(call % 3, &at(ledger), 100).await {
            reservation.settle(used(100));
            spent += 100;
        }
    }
    // Each gateway lets a last call in while anything is left.
    assert!((9_700..=10_300).contains(&spent), "{spent}");
    fleet.stop.cancel();
}

#[tokio::test]
async fn a_call_that_asks_for_a_slice_as_its_window_ends_gets_it_of_that_window() {
    let fleet = Fleet::start(2).await;
    let leasing = fleet.limiters[0].leasing().unwrap().clone();
    for length in [Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(86_400)] {
        let caller = caller(|token, _| match length.as_secs() {
            1 => token.limits.qps = Some(4),
            60 => token.limits.rpm = Some(4),
            _ => token.limits.rpd = Some(4),
        });
        let arrived = fleet.clock.now();
        fleet.pass(length);
        let before = fleet.round_trips();
        for gateway in [0, 1, 0, 1] {
            let taken = fleet.limiters[gateway].reserve(&caller, demand(arrived, 1)).await;
            assert!(taken.is_ok_and(|reservation| reservation.is_some()), "{length:?}");
        }
        assert!(fleet.limiters[1].reserve(&caller, demand(arrived, 1)).await.is_err(), "{length:?}: four are counted");
        assert_eq!((leasing.alone_calls(), fleet.round_trips() - before), (0, 3), "{length:?}");
    }
    fleet.stop.cancel();
}

#[tokio::test]
async fn what_was_used_of_a_slice_is_told_although_no_call_comes_any_more() {
    let fleet = Fleet::start(2).await;
    let caller = caller(|token, _| token.limits.rpd = Some(1));
    fleet.take(0, &caller, 1).await.unwrap();
    let granted = fleet.round_trips();
    until(async || {
        fleet.pass(Duration::from_secs(1));
        fleet.round_trips() == granted + 1
    })
    .await;
    // Now it is known, and there is nothing more to tell.
    for _ in 0..20 {
        fleet.pass(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(110)).await;
    }
    assert_eq!(fleet.round_trips(), granted + 1);
    fleet.stop.cancel();
}

#[tokio::test]
async fn a_forgotten_count_stays_counted_by_those_who_share_it() {
    let fleet = Fleet::start(2).await;
    let caller = caller(|token, _| token.quota = Some(Quota { limit: 1_000, used: 0, reset_at: None }));
    fleet.take(0, &caller, 600).await.unwrap().unwrap().settle(used(600));
    let mut later_ms = fleet.clock.now().timestamp_millis();
    until(async || {
        // Time for it to give back what is unused; then hours go by.
        fleet.pass(Duration::from_millis(100));
        later_ms += 7_200_000;
        fleet.limiters[0].subjects().sweep(later_ms, later_ms, |_| ());
        fleet.limiters[0].subjects().len() == 0
    })
    .await;
    let mut spent = 600;
    for call in 0..40 {
        if let Ok(Some(reservation)) = fleet.take(call % 2, &caller, 50).await {
            reservation.settle(used(50));
            spent += 50;
        }
    }
    // Although the ledger has not counted any of it yet; each gateway lets a last call in while anything is left.
    assert!((1_000..=1_100).contains(&spent), "{spent}");
    fleet.stop.cancel();
}

#[tokio::test]
async fn calls_that_are_judged_without_the_shared_counters_are_counted() {
    let (leasing, _unanswered) = Leasing::new(SharedState::in_process());
    let limiter = Limiter::new(Some(leasing.clone()));
    let caller = caller(|token, _| token.limits.rpm = Some(2));
    for (passes, alone_calls) in [(true, 1), (true, 2), (false, 3)] {
        assert_eq!(take(&limiter, &caller, time(START)).await.is_ok(), passes);
        assert_eq!(leasing.alone_calls(), alone_calls);
    }
}
