//! Leases on limits: what gateways hold together, on every backend.

use std::time::Duration;

use ez_state::{Lessee, LimitAsk, LimitGrant, SharedState};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};

use crate::backend::Backend;

const LONG: Duration = Duration::from_secs(60);

/// A gateway as far as one counter goes.
struct Gateway {
    state: SharedState,
    lessee: Lessee,
    ask: LimitAsk,
}

impl Gateway {
    fn new(state: SharedState, number: usize, gateways: u64, limit: u64) -> Self {
        let ask = LimitAsk {
            counter: "k5:rpm:1".to_owned(),
            generation: 0,
            begun: 1,
            used: 0,
            granted: 0,
            wanted: 0,
            limit,
            ledger: 0,
            outlives: true,
            alive_for: LONG,
            kept_for: LONG,
        };
        Self { state, lessee: Lessee { instance: format!("gw-{number}"), gateways }, ask }
    }

    async fn fleet(backend: &Backend, gateways: usize, limit: u64) -> Vec<Self> {
        let mut fleet = Vec::new();
        for number in 0..gateways {
            fleet.push(Self::new(backend.another().await, number, gateways as u64, limit));
        }
        fleet
    }

    /// Tells, asks, and keeps the answer.
    async fn lease(&mut self, wanted: u64) -> LimitGrant {
        let grant = self.ask_and_forget(wanted).await;
        (self.ask.generation, self.ask.granted) = (grant.generation, grant.granted);
        grant
    }

    /// The same by a gateway that does not get the answer.
    async fn ask_and_forget(&self, wanted: u64) -> LimitGrant {
        let ask = LimitAsk { wanted, ..self.ask.clone() };
        let grants = self.state.lease_limits(&self.lessee, std::slice::from_ref(&ask)).await.unwrap();
        assert_eq!(grants.len(), 1);
        grants[0]
    }
}

fn held(fleet: &[Gateway]) -> u64 {
    fleet.iter().map(|gateway| gateway.ask.granted).sum()
}

pub(crate) async fn leases_never_pass_the_limit_whatever_is_lost(backend: Backend) {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for run in 0..20 {
        let limit = rng.random_range(1..5_000);
        let mut fleet = Gateway::fleet(&backend, 3, limit).await;
        for gateway in &mut fleet {
            gateway.ask.counter = format!("k5:rpm:{run}");
        }
        for _ in 0..60 {
            let gateway = &mut fleet[rng.random_range(0..3)];
            let unused = gateway.ask.granted - gateway.ask.used;
            match rng.random_range(0..5) {
                0 => gateway.ask.used += rng.random_range(0..=unused),
                // The answer is lost; what it granted must not be for ever.
                1 => drop(gateway.ask_and_forget(rng.random_range(0..100)).await),
                // Gives some back.
                2 => {
                    gateway.ask.granted -= rng.random_range(0..=unused);
                    gateway.lease(0).await;
                }
                _ => {
                    let grant = gateway.lease(rng.random_range(1..100)).await;
                    assert!(grant.taken <= limit, "{grant:?}");
                }
            }
            assert!(held(&fleet) <= limit, "{} of {limit}", held(&fleet));
        }
        // Nothing is stranded once all have told.
        for gateway in &mut fleet {
            gateway.lease(0).await;
        }
        let last = &mut fleet[0];
        last.lease(limit).await;
        assert_eq!(held(&fleet), limit);
    }
}

pub(crate) async fn slices_shrink_as_a_limit_nears(backend: Backend) {
    let mut fleet = Gateway::fleet(&backend, 3, 1_200).await;
    let mut slices = Vec::new();
    let mut round_trips = 0;
    loop {
        let gateway = &mut fleet[round_trips % 3];
        let before = gateway.ask.granted;
        gateway.lease(1).await;
        slices.push(gateway.ask.granted - before);
        gateway.ask.used = gateway.ask.granted;
        if slices.last() == Some(&0) {
            break;
        }
        round_trips += 1;
    }
    assert_eq!(slices[0], 200, "half of an equal share");
    assert!(slices.is_sorted_by(|one, next| one >= next), "{slices:?}");
    assert_eq!((slices.iter().sum::<u64>(), slices[slices.len() - 3]), (1_200, 6));
    assert!(round_trips * 20 < 1_200, "{round_trips} round trips for 1200 calls");
}

pub(crate) async fn what_a_gone_gateway_holds_comes_free(backend: Backend) {
    for (counter, outlives, free_after) in [("k5:rpd:1", true, 70), ("k5:concurrency:0", false, 100)] {
        let mut fleet = Gateway::fleet(&backend, 2, 100).await;
        for gateway in &mut fleet {
            gateway.ask.counter = counter.to_owned();
            gateway.ask.outlives = outlives;
            gateway.ask.alive_for = Duration::from_millis(400);
        }
        let gone = &mut fleet[0];
        gone.lease(100).await;
        gone.ask.used = 30;
        gone.lease(0).await;
        let other = &mut fleet[1];
        assert_eq!(other.lease(1).await, LimitGrant { granted: 0, taken: 100, ..other.lease(0).await });
        let deadline = Instant::now() + Duration::from_secs(10);
        while other.lease(100).await.granted < free_after {
            assert!(Instant::now() < deadline, "it never comes free");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(other.ask.granted, free_after, "{counter}");
    }
}

pub(crate) async fn what_the_ledger_counted_is_not_leased_again(backend: Backend) {
    let mut fleet = Gateway::fleet(&backend, 2, 1_000).await;
    for gateway in &mut fleet {
        gateway.ask.ledger = 400;
    }
    let [one, two] = &mut fleet[..] else { panic!("two") };
    assert_eq!(one.lease(500).await.taken, 900, "on top of what the ledger counted before");
    one.ask.used = 500;
    // The ledger counts these 500 by and by; they do not count twice.
    two.ask.ledger = 900;
    let grant = two.lease(1_000).await;
    assert_eq!((grant.granted, grant.taken), (100, 1_000));
    // What others did counts, too.
    one.ask.ledger = 1_200;
    let grant = one.lease(1).await;
    assert_eq!((grant.granted, grant.taken), (500, 1_200));
}

pub(crate) async fn what_was_used_beyond_a_lease_counts(backend: Backend) {
    let mut fleet = Gateway::fleet(&backend, 2, 100).await;
    fleet[0].lease(40).await;
    fleet[0].ask.used = 90;
    assert_eq!(fleet[0].lease(0).await.granted, 90);
    assert_eq!(fleet[1].lease(50).await.granted, 10);
}

pub(crate) async fn many_counters_go_in_one_round_trip(backend: Backend) {
    let gateway = Gateway::new(backend.another().await, 0, 1, 10);
    let asks: Vec<LimitAsk> = (0..50)
        .map(|n| LimitAsk { counter: format!("k{n}:rpm:1"), wanted: n, limit: 20, ..gateway.ask.clone() })
        .collect();
    let grants = gateway.state.lease_limits(&gateway.lessee, &asks).await.unwrap();
    let granted: Vec<u64> = grants.iter().map(|grant| grant.granted).collect();
    let expected: Vec<u64> = (0..50).map(|n| if n == 0 { 0 } else { n.clamp(10, 20) }).collect();
    assert_eq!(granted, expected);
    assert_eq!(gateway.state.lease_limits(&gateway.lessee, &[]).await.unwrap(), []);
}

pub(crate) async fn gateways_that_lease_are_counted(backend: Backend) {
    let (one, two) = (&backend.state, &backend.another().await);
    assert_eq!(one.join_lessees("gw-1", LONG).await.unwrap(), 1);
    assert_eq!(two.join_lessees("gw-2", Duration::from_millis(300)).await.unwrap(), 2);
    assert_eq!(one.join_lessees("gw-1", LONG).await.unwrap(), 2);
    sleep(Duration::from_millis(400)).await;
    assert_eq!(one.join_lessees("gw-1", LONG).await.unwrap(), 1);
}

/// Redis only: it comes back without its data.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_told_again_after_data_were_lost() {
    let backend = Backend::redis().await;
    let mut fleet = Gateway::fleet(&backend, 2, 1_000).await;
    fleet[0].lease(600).await;
    fleet[0].ask.used = 100;
    redis::cmd("DEL").arg(backend.key("limit:k5:rpm:1")).exec_async(&mut backend.raw().await).await.unwrap();
    assert_eq!(fleet[0].lease(0).await.granted, 600);
    assert_eq!(fleet[1].lease(1_000).await.granted, 400);

    // Where the ledger counts too, it knows best what was used before.
    for gateway in &mut fleet {
        gateway.ask = LimitAsk { counter: "k5:quota:0".to_owned(), ledger: 300, ..gateway.ask.clone() };
        (gateway.ask.used, gateway.ask.granted, gateway.ask.generation) = (0, 0, 0);
    }
    let first = fleet[0].lease(500).await;
    fleet[0].ask.used = 500;
    redis::cmd("DEL").arg(backend.key("limit:k5:quota:0")).exec_async(&mut backend.raw().await).await.unwrap();
    fleet[0].ask.ledger = 750;
    let second = fleet[0].lease(0).await;
    assert_ne!(first.generation, second.generation);
    assert_eq!((second.granted, second.taken), (0, 750));
}
