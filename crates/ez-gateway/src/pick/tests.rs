//! Tests of the pick: weights, tiers, health, load, sessions, waiting.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use ez_contract::Clock;
use ez_protocol::Api;
use ez_protocol::vendor_limits::LimitScope;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::config::HealthConfig;
use crate::failure::{Blame, Death};
use crate::routing::test_upstream_with;

const S: Duration = Duration::from_secs(1);
const OPEN: Duration = Duration::from_millis(40);
const QUEUE_TIMEOUT: Duration = Duration::from_millis(60);

struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }
}

fn book() -> Arc<HealthBook> {
    let (breaker_open, queue_timeout) = (OPEN, QUEUE_TIMEOUT);
    let config = HealthConfig { queue: 2, breaker_open, queue_timeout, ..HealthConfig::default() };
    Arc::new(HealthBook::new(config, Arc::new(Epoch)))
}

fn key(id: i64, weight: u32, max_concurrency: Option<u32>) -> UpstreamChoice {
    let upstream = test_upstream_with(id, |snapshot| {
        (snapshot.weight, snapshot.max_concurrency) = (Some(weight), max_concurrency);
    });
    UpstreamChoice { upstream, upstream_model: "m".to_owned(), api: Api::ChatCompletions, on_client_gone: None }
}

const LIMITED: Blame = Blame::Limited(LimitScope::Model);
const DEAD: Blame = Blame::Dead { death: Death::Refused, status: 401 };

/// Rounded up, as clients are told.
fn whole_seconds(refusal: &Refusal) -> Option<u64> {
    refusal.retry_after.map(|wait| wait.as_secs_f64().ceil() as u64)
}

/// Tiers of candidates: a weight and the credentials.
fn plan(tiers: Vec<Vec<(u64, Vec<UpstreamChoice>)>>) -> Plan {
    let candidate = |(weight, upstreams)| Choice { weight, upstreams };
    Plan { tiers: tiers.into_iter().map(|tier| tier.into_iter().map(candidate).collect()).collect() }
}

fn picker<'c>(book: &'c Arc<HealthBook>, plan: &'c Plan, preference: Preference) -> Picker<'c> {
    Picker::new(PickRules { book, plan, preference, pin: None, deadline: Instant::now() + 60 * S })
}

async fn pick(book: &Arc<HealthBook>, plan: &Plan) -> Result<Permit, Unpicked> {
    picker(book, plan, Preference::Load).next().await
}

fn id(permit: &Permit) -> i64 {
    permit.choice().upstream.snapshot.id
}

/// The ids that one call tries, in its order.
async fn order(book: &Arc<HealthBook>, plan: &Plan, preference: Preference) -> Vec<i64> {
    let mut picker = picker(book, plan, preference);
    let mut ids = Vec::new();
    while let Ok(permit) = picker.next().await {
        ids.push(id(&permit));
    }
    ids
}

/// An attempt at this key fails so.
async fn blame(book: &Arc<HealthBook>, plan: &Plan, wanted: i64, blame: Blame) {
    fail(book, plan, wanted, blame, Some(60 * S)).await;
}

async fn rest(book: &Arc<HealthBook>, plan: &Plan, wanted: i64, pause: Duration) {
    fail(book, plan, wanted, LIMITED, Some(pause)).await;
}

async fn fail(book: &Arc<HealthBook>, plan: &Plan, wanted: i64, blame: Blame, pause: Option<Duration>) {
    let rules = PickRules { book, plan, preference: Preference::Load, pin: Some(wanted), deadline: Instant::now() + S };
    Picker::new(rules).next().await.unwrap().failed(blame, pause, "req-1");
}

#[tokio::test]
async fn first_places_follow_the_weights_of_candidates_and_of_their_keys() {
    let book = book();
    let plan =
        plan(vec![vec![(1, vec![key(1, 1, None), key(2, 3, None)]), (3, vec![key(3, 1, None), key(4, 1, None)])]]);
    let mut firsts: HashMap<i64, i32> = HashMap::new();
    for _ in 0..8_000 {
        let permit = pick(&book, &plan).await.unwrap();
        *firsts.entry(id(&permit)).or_default() += 1;
    }
    for (id, expected) in [(1, 500), (2, 1_500), (3, 3_000), (4, 3_000)] {
        // Six standard deviations of the largest.
        assert!((firsts[&id] - expected).abs() < 270, "{firsts:?}");
    }
}

#[tokio::test]
async fn tiers_come_in_their_order_and_none_is_tried_twice() {
    let book = book();
    let plan =
        plan(vec![vec![(1, vec![key(1, 1, None)]), (1, vec![key(2, 1, None)])], vec![(9, vec![key(3, 9, None)])]]);
    for _ in 0..50 {
        let mut ids = order(&book, &plan, Preference::Load).await;
        assert_eq!(ids.pop(), Some(3));
        ids.sort_unstable();
        assert_eq!(ids, [1, 2]);
    }
}

#[tokio::test]
async fn of_two_draws_the_less_loaded_takes_the_call() {
    let book = book();
    let plan = plan(vec![vec![(1, vec![key(1, 1, None), key(2, 3, None)])]]);
    let mut held = Vec::new();
    for _ in 0..400 {
        held.push(pick(&book, &plan).await.unwrap());
    }
    let on_light = held.iter().filter(|permit| id(permit) == 1).count();
    // By chance alone 100 with a deviation of 9; two draws keep it much closer.
    assert!((92..=108).contains(&on_light), "{on_light}");
}

#[test]
fn load_counts_in_proportion_to_the_share() {
    let (light, heavy) = (key(1, 1, None), key(2, 3, None));
    let contenders =
        [Contender { choice: &light, share: 1.0, load: 2 }, Contender { choice: &heavy, share: 3.0, load: 3 }];
    let draws = |numbers: [f64; 2]| {
        let mut numbers = numbers.into_iter();
        prefer(&contenders, Preference::Load, || numbers.next().unwrap())
    };
    assert_eq!(draws([0.0, 0.1]), Some(0), "both draws the same");
    assert_eq!(draws([0.0, 0.9]), Some(1), "three on a share of three are less than two on one");
    assert_eq!(draws([0.9, 0.0]), Some(1));
    assert_eq!(draws([1.0, 1.0]), Some(1), "the end of the scale");
    assert_eq!(prefer(&contenders[..0], Preference::Load, || 0.0), None);
}

#[tokio::test]
async fn an_unhealthy_key_is_never_picked_while_a_healthy_one_is_left() {
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..200 {
        let book = book();
        let keys: Vec<_> = (1..=6).map(|id| key(id, random.random_range(1..5), None)).collect();
        let (first, second) = keys.split_at(3);
        let plan = plan(vec![vec![(1, first.to_vec()), (2, second.to_vec())]]);
        let mut healthy = Vec::new();
        for id in 1..=6 {
            match random.random_range(0..4) {
                0 => blame(&book, &plan, id, LIMITED).await,
                1 => blame(&book, &plan, id, DEAD).await,
                2 => {
                    for _ in 0..5 {
                        blame(&book, &plan, id, Blame::Failed).await;
                    }
                }
                _ => healthy.push(id),
            }
        }
        for preference in [Preference::Load, Preference::Session(random.random())] {
            let mut ids = order(&book, &plan, preference).await;
            ids.sort_unstable();
            assert_eq!(ids, healthy, "those, each once, and no other");
        }
    }
}

#[tokio::test]
async fn when_all_are_resting_the_smallest_wait_is_told() {
    let book = book();
    let three = || plan(vec![vec![(1, vec![key(1, 1, None), key(2, 1, None)])], vec![(1, vec![key(3, 1, None)])]]);
    let plan = three();
    for (id, seconds) in [(1, 20), (2, 7), (3, 40)] {
        rest(&book, &plan, id, seconds * S).await;
    }
    let mut limited = picker(&book, &plan, Preference::Load);
    let unpicked = limited.next().await.unwrap_err();
    assert_eq!(unpicked, Unpicked::NoneLeft);
    let refusal = limited.refusal(Some(unpicked), None);
    assert_eq!((refusal.fault.status, refusal.fault.code), (429, "upstream_rate_limited"));
    assert_eq!(whole_seconds(&refusal), Some(7));
    let last = Refusal::internal("x", "x").with_retry_after(S);
    assert_eq!(whole_seconds(&limited.refusal(None, Some(last))), Some(7), "smallest over the candidates");

    let (book, plan) = (self::book(), three());
    rest(&book, &plan, 1, 20 * S).await;
    blame(&book, &plan, 2, DEAD).await;
    rest(&book, &plan, 3, 12 * S).await;
    let refusal = picker(&book, &plan, Preference::Load).refusal(Some(Unpicked::NoneLeft), None);
    assert_eq!((refusal.fault.status, refusal.fault.code), (503, "no_healthy_upstream"));
    assert_eq!(whole_seconds(&refusal), Some(12));
}

#[tokio::test]
async fn a_limit_of_the_account_rests_all_models() {
    let book = book();
    let own = key(1, 1, None);
    let other = UpstreamChoice { upstream_model: "other".to_owned(), ..own.clone() };
    let (own, other) = (plan(vec![vec![(1, vec![own])]]), plan(vec![vec![(1, vec![other])]]));
    rest(&book, &own, 1, 60 * S).await;
    assert!(pick(&book, &own).await.is_err() && pick(&book, &other).await.is_ok());
    fail(&book, &other, 1, Blame::Limited(LimitScope::Account), Some(9 * S)).await;
    let refusal = picker(&book, &other, Preference::Load).refusal(Some(Unpicked::NoneLeft), None);
    assert_eq!((refusal.fault.status, whole_seconds(&refusal)), (429, Some(9)));
}

#[tokio::test]
async fn a_session_keeps_to_its_key_and_moves_only_when_that_goes() {
    let book = book();
    let plan = plan(vec![
        vec![(1, vec![key(1, 1, None), key(2, 3, None)]), (1, vec![key(3, 1, None)])],
        vec![(1, vec![key(4, 1, None)])],
    ]);
    let sessions: Vec<_> =
        (0..1_000).map(|number| Preference::Session(session_hash(1, format!("s{number}").as_bytes()))).collect();
    let mut firsts: HashMap<i64, i32> = HashMap::new();
    let mut orders = Vec::new();
    for session in &sessions {
        let ids = order(&book, &plan, *session).await;
        assert_eq!(ids, order(&book, &plan, *session).await, "always the same");
        assert_eq!(ids.last(), Some(&4), "the first tier first");
        *firsts.entry(ids[0]).or_default() += 1;
        orders.push(ids);
    }
    for (id, expected) in [(1, 125), (2, 375), (3, 500)] {
        assert!((firsts[&id] - expected).abs() < 80, "{firsts:?}");
    }
    blame(&book, &plan, 2, LIMITED).await;
    for (session, before) in sessions.iter().zip(orders) {
        let without: Vec<i64> = before.into_iter().filter(|id| *id != 2).collect();
        assert_eq!(order(&book, &plan, *session).await, without, "only those of the key that went have moved");
    }
}

#[test]
fn sessions_are_told_by_what_is_enabled() {
    let headers: HeaderMap =
        [(http::HeaderName::from_static(SESSION_HEADER), "a".parse().unwrap())].into_iter().collect();
    let none = HeaderMap::new();
    let of = |affinity, headers, prefix, master_id| Preference::with(affinity, headers, || prefix, master_id);
    assert_eq!(of(Affinity::Off, &headers, Some(7), 1), Preference::Load);
    assert_eq!(of(Affinity::Header, &none, Some(7), 1), Preference::Load);
    assert_eq!(of(Affinity::Prefix, &none, None, 1), Preference::Load);
    let named = of(Affinity::Header, &headers, None, 1);
    assert_eq!(named, Preference::Session(session_hash(1, b"a")));
    assert_eq!(named, of(Affinity::Prefix, &headers, Some(7), 1), "a name goes before the prefix");
    let by_prefix = of(Affinity::Prefix, &none, Some(7), 1);
    assert!(
        by_prefix == of(Affinity::Prefix, &none, Some(7), 1) && by_prefix != of(Affinity::Prefix, &none, Some(8), 1)
    );
    assert_ne!(by_prefix, of(Affinity::Prefix, &none, Some(7), 2), "sessions of one master are not another's");
    // Every gateway of a fleet must agree, also while it is being upgraded.
    assert_eq!(session_hash(1, b"a"), SESSION_OF_MASTER_1_A);
}

const SESSION_OF_MASTER_1_A: u64 = 13_048_148_227_524_177_663;

#[tokio::test]
async fn where_all_are_at_their_concurrency_calls_wait_in_turn() {
    let book = book();
    let plan = plan(vec![vec![(1, vec![key(1, 1, Some(1))])], vec![(1, vec![key(2, 1, Some(1))])]]);
    let first = pick(&book, &plan).await.unwrap();
    let second = pick(&book, &plan).await.unwrap();
    assert_eq!((id(&first), id(&second)), (1, 2), "a lower tier before waiting");

    let mut third = Box::pin(pick(&book, &plan));
    let mut fourth = Box::pin(pick(&book, &plan));
    assert!((&mut third).now_or_never().is_none());
    assert!((&mut fourth).now_or_never().is_none());
    assert_eq!(pick(&book, &plan).await.unwrap_err(), Unpicked::Busy, "the queue is bounded");
    drop(first);
    assert_eq!(id(&third.await.unwrap()), 1);
    assert_eq!(id(&fourth.await.unwrap()), 1);

    let _first = pick(&book, &plan).await.unwrap();
    let begun = Instant::now();
    let mut late = picker(&book, &plan, Preference::Load);
    assert_eq!(late.next().await.unwrap_err(), Unpicked::Busy);
    assert!(begun.elapsed() >= QUEUE_TIMEOUT, "it waits, but not for ever");
    let refusal = late.refusal(Some(Unpicked::Busy), None);
    assert_eq!((refusal.fault.status, refusal.fault.code, refusal.retry_after), (503, "upstream_busy", Some(S)));
}

#[tokio::test]
async fn who_waits_gets_the_first_slot_that_comes_free_at_any_key() {
    let book = book();
    let plan = plan(vec![vec![(1, vec![key(1, 1, Some(1)), key(2, 1, Some(1))])]]);
    for freed in [2, 1, 2, 2] {
        let (one, other) = (pick(&book, &plan).await.unwrap(), pick(&book, &plan).await.unwrap());
        let (freed_one, held) = if id(&one) == freed { (one, other) } else { (other, one) };
        let mut waiting = Box::pin(pick(&book, &plan));
        assert!((&mut waiting).now_or_never().is_none());
        drop(freed_one);
        let served = waiting.now_or_never().expect("at once").unwrap();
        assert_eq!((id(&served), id(&held)), (freed, 3 - freed));
        // The place that it had at the other keeps nobody away.
        drop(held);
        assert_eq!(id(&pick(&book, &plan).await.unwrap()), 3 - freed);
    }

    // Both come free in the same moment: one slot each.
    let (one, other) = (pick(&book, &plan).await.unwrap(), pick(&book, &plan).await.unwrap());
    let (mut first, mut second) = (Box::pin(pick(&book, &plan)), Box::pin(pick(&book, &plan)));
    assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
    drop((one, other));
    let first = first.now_or_never().expect("at once").unwrap();
    let second = second.now_or_never().expect("at once").unwrap();
    assert_ne!(id(&first), id(&second));
}

#[tokio::test]
async fn who_waits_gets_a_slot_that_comes_free_in_a_lower_tier() {
    let book = book();
    let plan = plan(vec![vec![(1, vec![key(1, 1, Some(1))])], vec![(1, vec![key(2, 1, Some(1))])]]);
    let (held, other) = (pick(&book, &plan).await.unwrap(), pick(&book, &plan).await.unwrap());
    assert_eq!((id(&held), id(&other)), (1, 2));
    let mut waiting = Box::pin(pick(&book, &plan));
    assert!((&mut waiting).now_or_never().is_none());
    drop(other);
    let served = waiting.now_or_never().expect("not refused beside a free slot, nor overtaken").unwrap();
    assert_eq!(id(&served), 2);
}

#[tokio::test]
async fn who_waits_at_a_key_that_goes_bad_keeps_its_place_at_the_other() {
    let book = book();
    let plan = plan(vec![vec![(1, vec![key(1, 1, Some(1)), key(2, 1, Some(1))])]]);
    let (mut one, other) = (pick(&book, &plan).await.unwrap(), pick(&book, &plan).await.unwrap());
    let mut waiting = Box::pin(pick(&book, &plan));
    let mut later = Box::pin(pick(&book, &plan));
    assert!((&mut waiting).now_or_never().is_none() && (&mut later).now_or_never().is_none());
    one.failed(LIMITED, None, "req-1");
    drop(one);
    for _ in 0..2 {
        assert!((&mut later).now_or_never().is_none() && (&mut waiting).now_or_never().is_none());
    }
    let left = id(&other);
    drop(other);
    assert!((&mut later).now_or_never().is_none());
    assert_eq!(id(&waiting.now_or_never().expect("at once").unwrap()), left);
}

#[tokio::test]
async fn who_waits_for_a_key_that_goes_bad_is_told_at_once() {
    let book = book();
    let plan = plan(vec![vec![(1, vec![key(1, 1, Some(1))])]]);
    let mut held = pick(&book, &plan).await.unwrap();
    let mut waiting = Box::pin(pick(&book, &plan));
    assert!((&mut waiting).now_or_never().is_none());
    held.failed(LIMITED, None, "req-1");
    drop(held);
    assert_eq!(waiting.await.unwrap_err(), Unpicked::NoneLeft);
}

#[tokio::test]
async fn one_call_tries_an_open_breaker_and_its_ticket_comes_back() {
    let book = book();
    let plan = plan(vec![vec![(1, vec![key(1, 1, None)])]]);
    for _ in 0..5 {
        blame(&book, &plan, 1, Blame::Failed).await;
    }
    assert_eq!(pick(&book, &plan).await.unwrap_err(), Unpicked::NoneLeft);
    tokio::time::sleep(OPEN).await;
    let cancelled = pick(&book, &plan).await.unwrap();
    assert!(pick(&book, &plan).await.is_err(), "one at a time");
    drop(cancelled);
    let mut trial = pick(&book, &plan).await.unwrap();
    assert!(pick(&book, &plan).await.is_err());
    trial.answered();
    let mut other = pick(&book, &plan).await.unwrap();
    trial.succeeded();
    other.failed(Blame::Failed, None, "req-1");
    assert!(pick(&book, &plan).await.is_ok(), "what has worked takes five failures again");
}
