//! The limiter alone, with a clock moved by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::snapshot::{Limits, MasterSnapshot, Quota, Spend, TokenSnapshot};
use ez_contract::usage::EndedBy;
use http::HeaderMap;

use super::limiter::Limiter;
use super::{Charge, Demand, Limited, Reservation};
use crate::authn::Caller;

mod shared;

const START: &str = "2026-11-23T13:00:00Z";

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn caller(change: impl FnOnce(&mut TokenSnapshot, &mut MasterSnapshot)) -> Caller {
    let token = include_str!("../../../ez-contract/goldens/token.json");
    let master = include_str!("../../../ez-contract/goldens/master.json");
    let mut token: TokenSnapshot = serde_json::from_str(token).unwrap();
    let mut master: MasterSnapshot = serde_json::from_str(master).unwrap();
    (token.limits, token.quota) = (Limits::default(), None);
    (master.limits, master.monthly_budget) = (Limits::default(), None);
    change(&mut token, &mut master);
    Caller { token: Arc::new(token), master: Arc::new(master) }
}

fn demand(now: DateTime<Utc>, tokens: u64) -> Demand {
    Demand { tokens, nanos: 0, now }
}

fn used(tokens: u64) -> Charge {
    Charge { tokens: Some(tokens), ledger_tokens: tokens, nanos: 0 }
}

async fn take(limiter: &Limiter, caller: &Caller, now: DateTime<Utc>) -> Result<Option<Reservation>, Box<Limited>> {
    limiter.reserve(caller, demand(now, 100)).await
}

/// Code, what the record says of the end, and the seconds of `Retry-After`.
fn told(taken: Result<Option<Reservation>, Box<Limited>>) -> (&'static str, EndedBy, Option<u64>) {
    let Err(limited) = taken else { panic!("it fits") };
    let refusal = limited.refusal;
    (refusal.fault.code, refusal.ended_by(), refusal.retry_after.map(|after| after.as_secs()))
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn calls_are_counted_exactly_in_windows_of_the_calendar() {
    type Change = fn(&mut Limits);
    let cases: [(Change, &str, &str, u64); 3] = [
        (|limits| limits.qps = Some(3), "2026-11-23T13:00:00.900Z", "2026-11-23T13:00:01Z", 1),
        (|limits| limits.rpm = Some(3), "2026-11-23T13:00:48Z", "2026-11-23T13:01:00Z", 12),
        (|limits| limits.rpd = Some(3), "2026-11-23T23:00:00Z", "2026-11-24T00:00:00Z", 3600),
    ];
    for (change, now, next, retry_after) in cases {
        for of_master in [false, true] {
            let caller = caller(|token, master| change(if of_master { &mut master.limits } else { &mut token.limits }));
            let limiter = Limiter::new(None);
            for _ in 0..3 {
                take(&limiter, &caller, time(now)).await.unwrap().unwrap().settle(used(1));
            }
            let refused = take(&limiter, &caller, time(now)).await;
            let message = refused.as_ref().err().unwrap().refusal.fault.message.clone();
            assert_eq!(told(refused), ("rate_limit_exceeded", EndedBy::Limit, Some(retry_after)));
            let scope = if of_master { "(scope master)" } else { "(scope key)" };
            assert!(message.contains(scope) && message.contains(" 3 calls per "), "{message}");
            for _ in 0..3 {
                take(&limiter, &caller, time(next)).await.unwrap();
            }
            assert!(take(&limiter, &caller, time(next)).await.is_err());
        }
    }
}

#[tokio::test]
async fn a_call_from_before_the_border_does_not_begin_the_window_anew() {
    type Change = fn(&mut TokenSnapshot, &mut MasterSnapshot);
    let cases: [(Change, &str, &str); 4] = [
        (|token, _| token.limits.qps = Some(3), "2026-11-23T13:00:00.999Z", "2026-11-23T13:00:01.001Z"),
        (|token, _| token.limits.rpm = Some(3), "2026-11-23T13:00:59.999Z", "2026-11-23T13:01:00.001Z"),
        (|_, master| master.limits.tpd = Some(300), "2026-11-23T23:59:59.999Z", "2026-11-24T00:00:00.001Z"),
        (
            |_, master| {
                master.monthly_budget = Some("0.0000003".to_owned());
                master.spend = Some(Spend { month: "2026-11".to_owned(), amount: "0.0000003".to_owned() });
            },
            "2026-11-30T23:59:59.999Z",
            "2026-12-01T00:00:00.001Z",
        ),
    ];
    for (change, before, after) in cases {
        let (caller, limiter) = (caller(change), Limiter::new(None));
        let mut held = Vec::new();
        for now in [after, after, before] {
            let demand = Demand { tokens: 100, nanos: 100, now: time(now) };
            held.push(limiter.reserve(&caller, demand).await.unwrap().unwrap());
        }
        for now in [after, before, after] {
            let demand = Demand { tokens: 100, nanos: 100, now: time(now) };
            assert!(limiter.reserve(&caller, demand).await.is_err(), "{before}: three are counted at {now}");
        }
        // What is given back comes from where it was counted.
        drop(held);
    }
}

#[tokio::test]
async fn tokens_are_reserved_by_estimate_and_settled_to_the_truth() {
    let limiter = Limiter::new(None);
    let caller = caller(|token, _| token.limits.tpm = Some(250));
    let now = time(START);
    let (one, two) =
        (take(&limiter, &caller, now).await.unwrap().unwrap(), take(&limiter, &caller, now).await.unwrap());
    let refused = take(&limiter, &caller, now).await.err().unwrap();
    let message = refused.refusal.fault.message;
    assert!(message.contains("leaves 50, and this call may need 100"), "{message}");
    one.settle(used(10));
    // 110 are counted: 250 leave room for one more estimate.
    let three = take(&limiter, &caller, now).await.unwrap().unwrap();
    assert!(take(&limiter, &caller, now).await.is_err());
    // Nobody knows what these used, so that the estimates stand.
    drop(two);
    three.settle(Charge { tokens: None, ..used(0) });
    assert!(take(&limiter, &caller, now).await.is_err());

    // What went beyond the estimate after the window is held against the next.
    let later = now + Duration::from_secs(60);
    let long = take(&limiter, &caller, now + Duration::from_secs(59)).await.err();
    assert!(long.is_some());
    let long = take(&limiter, &caller, later).await.unwrap().unwrap();
    let next = later + Duration::from_secs(60);
    take(&limiter, &caller, next).await.unwrap().unwrap().settle(used(0));
    long.settle(used(300));
    assert!(limiter.reserve(&caller, demand(next, 51)).await.is_err());
    limiter.reserve(&caller, demand(next, 50)).await.unwrap();
}

#[tokio::test]
async fn an_estimate_beyond_the_whole_limit_needs_the_whole_limit() {
    let limiter = Limiter::new(None);
    let caller = caller(|token, _| token.limits.tpm = Some(60));
    let all = take(&limiter, &caller, time(START)).await.unwrap().unwrap();
    assert!(limiter.reserve(&caller, demand(time(START), 1)).await.is_err());
    all.settle(used(1));
    assert!(take(&limiter, &caller, time(START)).await.is_err(), "59 are left, and it may need more than all");
    limiter.reserve(&caller, demand(time(START), 59)).await.unwrap();
}

#[tokio::test]
async fn calls_in_flight_give_their_place_back_however_they_end() {
    let limiter = Limiter::new(None);
    let caller = caller(|token, _| token.limits.concurrency = Some(2));
    let one = take(&limiter, &caller, time(START)).await.unwrap().unwrap();
    let two = take(&limiter, &caller, time(START)).await.unwrap().unwrap();
    assert_eq!(told(take(&limiter, &caller, time(START)).await), ("concurrency_exceeded", EndedBy::Limit, Some(1)));
    one.settle(used(1));
    let three = take(&limiter, &caller, time(START)).await.unwrap();
    assert!(take(&limiter, &caller, time(START)).await.is_err());
    drop((two, three));
    take(&limiter, &caller, time(START)).await.unwrap();
}

#[tokio::test]
async fn a_refused_call_takes_nothing_of_any_limit() {
    let limiter = Limiter::new(None);
    let caller = caller(|token, master| {
        token.limits = Limits { rpm: Some(2), tpm: Some(200), concurrency: Some(9), ..Limits::default() };
        master.limits = Limits { rpd: Some(1), ..Limits::default() };
    });
    let held = take(&limiter, &caller, time(START)).await.unwrap().unwrap();
    for _ in 0..5 {
        assert_eq!(told(take(&limiter, &caller, time(START)).await).0, "rate_limit_exceeded");
    }
    let mut headers = HeaderMap::new();
    take(&limiter, &caller, time(START)).await.err().unwrap().rate.put(&mut headers);
    assert_eq!(
        header(&headers, "x-ratelimit-remaining-requests").as_deref(),
        Some("0"),
        "the master's is the tightest"
    );
    assert_eq!(header(&headers, "x-ratelimit-remaining-tokens").as_deref(), Some("100"));
    drop(held);
}

#[tokio::test]
async fn a_limit_of_zero_lets_nothing_through() {
    type Change = fn(&mut TokenSnapshot, &mut MasterSnapshot);
    let cases: [(Change, &str); 6] = [
        (|token, _| token.limits.rpm = Some(0), "rate_limit_exceeded"),
        (|token, _| token.limits.tpd = Some(0), "rate_limit_exceeded"),
        (|_, master| master.limits.concurrency = Some(0), "concurrency_exceeded"),
        (|token, _| token.quota = Some(Quota { limit: 0, used: 0, reset_at: None }), "insufficient_quota"),
        (|_, master| master.monthly_budget = Some("0.00".to_owned()), "budget_exceeded"),
        (|token, _| token.limits.qps = Some(0), "rate_limit_exceeded"),
    ];
    for (change, code) in cases {
        assert_eq!(told(take(&Limiter::new(None), &caller(change), time(START)).await).0, code);
    }
    assert!(take(&Limiter::new(None), &caller(|_, _| ()), time(START)).await.unwrap().is_none(), "nothing is limited");
}

#[tokio::test]
async fn a_quota_is_what_the_ledger_says_or_what_was_used_since_whichever_is_more() {
    let limiter = Limiter::new(None);
    let reset_at = time(START).timestamp() + 600;
    let with = |ledger, reset_at| caller(|token, _| token.quota = Some(Quota { limit: 1000, used: ledger, reset_at }));
    let at = |ledger| with(ledger, Some(reset_at));
    take(&limiter, &at(700), time(START)).await.unwrap().unwrap().settle(used(150));
    // The ledger does not know of these 150 yet; it counts them after, and then they count once.
    take(&limiter, &at(700), time(START)).await.unwrap().unwrap().settle(used(100));
    take(&limiter, &at(850), time(START)).await.unwrap().unwrap().settle(used(0));
    // 50 are left: a call is let in as long as there is anything, and reserves that.
    let last = take(&limiter, &at(850), time(START)).await.unwrap().unwrap();
    assert_eq!(told(take(&limiter, &at(850), time(START)).await), ("insufficient_quota", EndedBy::Limit, Some(600)));
    last.settle(used(80));
    assert!(take(&limiter, &at(950), time(START)).await.is_err());
    // Other gateways used the rest.
    assert!(take(&Limiter::new(None), &at(1000), time(START)).await.is_err());
    // A new period.
    take(&limiter, &with(0, Some(reset_at + 600)), time(START)).await.unwrap();
    assert_eq!(told(take(&limiter, &with(1000, None), time(START)).await).2, None, "it never resets");
}

#[tokio::test]
async fn a_budget_counts_the_cost_of_its_month() {
    let limiter = Limiter::new(None);
    let with = |month: &str, amount: &str| {
        caller(|_, master| {
            master.monthly_budget = Some("1.00".to_owned());
            master.spend = Some(Spend { month: month.to_owned(), amount: amount.to_owned() });
        })
    };
    let cost = |nanos| Charge { nanos, ..used(1) };
    let costly = |now| Demand { tokens: 1, nanos: 300_000_000, now };
    let now = time(START);
    let november = with("2026-11", "0.50");
    limiter.reserve(&november, costly(now)).await.unwrap().unwrap().settle(cost(400_000_000));
    limiter.reserve(&november, costly(now)).await.unwrap().unwrap().settle(cost(100_000_000));
    let refused = limiter.reserve(&november, costly(now)).await;
    let message = refused.as_ref().err().unwrap().refusal.fault.message.clone();
    assert!(message.contains("1.00 US dollars") && message.contains("(scope master)"), "{message}");
    let until_december = (time("2026-12-01T00:00:00Z") - now).num_seconds().unsigned_abs();
    assert_eq!(told(refused), ("budget_exceeded", EndedBy::Limit, Some(until_december)));
    // A gateway whose clock is ahead has begun the next month already.
    let at_the_turn = caller(|_, master| {
        let spend = |month: &str, amount: &str| Some(Spend { month: month.to_owned(), amount: amount.to_owned() });
        master.monthly_budget = Some("1.00".to_owned());
        (master.spend, master.spend_before) = (spend("2026-12", "0.10"), spend("2026-11", "1.00"));
    });
    let refused = Limiter::new(None).reserve(&at_the_turn, costly(now)).await;
    assert_eq!(told(refused).0, "budget_exceeded", "what was spent this month is known all the same");
    // The ledger's last month is not this month's.
    let december = time("2026-12-01T00:00:00Z");
    limiter.reserve(&with("2026-11", "9.00"), costly(december)).await.unwrap();
    assert!(Limiter::new(None).reserve(&with("2026-12", "1.00"), costly(december)).await.is_err());
}

#[tokio::test]
async fn headers_tell_of_the_tightest_limit() {
    let limiter = Limiter::new(None);
    let caller = caller(|token, master| {
        token.limits = Limits { rpm: Some(600), tpd: Some(1_000), ..Limits::default() };
        master.limits = Limits { rpd: Some(5), tpm: Some(100_000), ..Limits::default() };
    });
    let reservation = take(&limiter, &caller, time("2026-11-23T17:30:15.2Z")).await.unwrap().unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x-ratelimit-limit-requests", "77".parse().unwrap());
    reservation.rate().put(&mut headers);
    let told = ["limit", "remaining", "reset"].map(|what| {
        ["requests", "tokens"].map(|kind| header(&headers, &format!("x-ratelimit-{what}-{kind}")).unwrap())
    });
    assert_eq!(told, [["5", "1000"], ["4", "900"], ["6h29m45s", "6h29m45s"]]);
    for (seconds, text) in [(1, "1s"), (60, "1m0s"), (360, "6m0s"), (3_600, "1h0m0s"), (86_399, "23h59m59s")] {
        assert_eq!(super::reservation::duration_text(seconds), text);
    }
}

#[test]
fn many_threads_take_exactly_what_there_is() {
    let limiter = Limiter::new(None);
    let admitted = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for key in 0..8 {
            let (limiter, admitted) = (&limiter, &admitted);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let caller = caller(|token, master| {
                    token.id = key % 4;
                    master.limits.rpm = Some(1_000);
                });
                runtime.block_on(async {
                    for _ in 0..500 {
                        let taken = take(limiter, &caller, time(START)).await;
                        admitted.fetch_add(i64::from(taken.is_ok()), Ordering::Relaxed);
                    }
                });
            });
        }
    });
    assert_eq!(admitted.load(Ordering::Relaxed), 1_000);
}

#[tokio::test]
async fn keys_of_which_nothing_is_left_to_count_are_forgotten() {
    type Change = fn(&mut Limits);
    let limiter = Limiter::new(None);
    let now = time(START);
    let key = |id, change: Change| {
        caller(|token, _| {
            token.id = id;
            change(&mut token.limits);
        })
    };
    for id in 0..100 {
        take(&limiter, &key(id, |limits| limits.rpm = Some(5)), now).await.unwrap();
    }
    take(&limiter, &key(200, |limits| limits.rpd = Some(5)), now).await.unwrap();
    let flying = take(&limiter, &key(201, |limits| limits.concurrency = Some(5)), now).await.unwrap();
    let sweep = |seconds| {
        let now_ms = (now + Duration::from_secs(seconds)).timestamp_millis();
        limiter.subjects().sweep(now_ms, now_ms, |_| ());
    };
    sweep(59);
    assert_eq!(limiter.subjects().len(), 102);
    sweep(60);
    assert_eq!(limiter.subjects().len(), 2, "a day's count and a call in flight");
    drop(flying);
    sweep(61);
    assert_eq!(limiter.subjects().len(), 1);
    sweep(24 * 3_600);
    assert_eq!(limiter.subjects().len(), 0);
}

#[tokio::test]
async fn use_that_the_ledger_lacks_is_not_forgotten() {
    const HOUR: i64 = 3_600_000;
    let limiter = Limiter::new(None);
    let at = |ledger| {
        caller(|token, master| {
            token.quota = Some(Quota { limit: 1_000, used: ledger, reset_at: None });
            master.monthly_budget = Some("0.000001".to_owned());
        })
    };
    let now = time(START);
    let start_ms = now.timestamp_millis();
    take(&limiter, &at(0), now).await.unwrap().unwrap().settle(Charge { nanos: 600, ..used(600) });
    // The control plane takes no records for a day.
    limiter.subjects().sweep(start_ms + 24 * HOUR, start_ms - 1, |_| ());
    limiter.subjects().sweep(start_ms + 24 * HOUR, i64::MIN, |_| ());
    assert_eq!(limiter.subjects().len(), 2);
    let later = now + Duration::from_secs(24 * 3_600);
    let rest = limiter.reserve(&at(0), Demand { tokens: 900, nanos: 900, now: later }).await.unwrap().unwrap();
    assert!(limiter.reserve(&at(0), demand(later, 1)).await.is_err(), "400 were left");

    // A call in flight is not settled yet, however long it takes.
    let later_ms = later.timestamp_millis();
    limiter.subjects().sweep(later_ms + 5 * HOUR, later_ms + 5 * HOUR, |_| ());
    rest.settle(Charge { nanos: 400, ..used(400) });
    limiter.subjects().sweep(later_ms + 5 * HOUR + 1_000, later_ms + 5 * HOUR + 1_000, |_| ());
    assert_eq!(limiter.subjects().len(), 2);
    assert!(take(&limiter, &at(0), later).await.is_err());

    // It has them: what is used up is used up by the ledger.
    limiter.subjects().sweep(later_ms + 7 * HOUR, later_ms + 7 * HOUR, |_| ());
    assert_eq!(limiter.subjects().len(), 0);
    assert!(take(&limiter, &at(1_000), later).await.is_err());
}

#[tokio::test]
async fn a_quota_that_was_reset_is_not_begun_anew_by_a_call_with_an_older_snapshot() {
    let limiter = Limiter::new(None);
    let reset_at = time(START).timestamp() + 600;
    let at = |ledger, reset_at| {
        caller(|token, _| token.quota = Some(Quota { limit: 1_000, used: ledger, reset_at: Some(reset_at) }))
    };
    let (old, new) = (at(950, reset_at), at(0, reset_at + 86_400));
    let after = time(START) + Duration::from_secs(601);
    // The reset is the ledger's: until it is published, the old period goes on.
    take(&limiter, &old, after).await.unwrap().unwrap().settle(used(50));
    assert!(take(&limiter, &old, after).await.is_err());
    limiter.reserve(&new, demand(after, 700)).await.unwrap().unwrap().settle(used(700));
    // One with the snapshot from before counts where the others are.
    take(&limiter, &old, after).await.unwrap().unwrap().settle(used(100));
    let rest = limiter.reserve(&new, demand(after, 900)).await.unwrap().unwrap();
    assert!(limiter.reserve(&new, demand(after, 1)).await.is_err(), "200 were left");
    drop(rest);
    // An operator who makes the period shorter is heard at once.
    let shorter = at(10, reset_at + 3_600);
    assert!(take(&limiter, &shorter, after).await.is_ok());
}

#[tokio::test]
async fn what_a_call_uses_counts_in_the_period_that_it_arrived_in() {
    let limiter = Limiter::new(None);
    let reset_at = time(START).timestamp() + 600;
    let at = |ledger, reset_at| {
        caller(|token, _| token.quota = Some(Quota { limit: 1_000, used: ledger, reset_at: Some(reset_at) }))
    };
    let (old, new) = (at(100, reset_at), at(0, reset_at + 86_400));
    let (before, after) = (time(START) + Duration::from_secs(599), time(START) + Duration::from_secs(600));
    let of_the_old = take(&limiter, &old, before).await.unwrap().unwrap();
    let of_the_new = take(&limiter, &old, after).await.unwrap().unwrap();
    limiter.reserve(&new, demand(after, 10)).await.unwrap().unwrap().settle(used(10));
    of_the_old.settle(used(500));
    of_the_new.settle(used(300));
    // 10 and 300 are used of the new period.
    limiter.reserve(&new, demand(after, 689)).await.unwrap().unwrap().settle(used(689));
    let last = limiter.reserve(&new, demand(after, 1)).await.expect("1 is left");
    assert!(limiter.reserve(&new, demand(after, 1)).await.is_err());
    drop(last);
}

#[tokio::test]
async fn months_keep_apart_whatever_month_the_ledger_tells_of() {
    let with = |month: &str, amount: &str| {
        caller(|_, master| {
            master.monthly_budget = Some("1.00".to_owned());
            master.spend = Some(Spend { month: month.to_owned(), amount: amount.to_owned() });
        })
    };
    let costly = |now| Demand { tokens: 1, nanos: 300_000_000, now };
    let cost = |nanos| Charge { nanos, ..used(1) };
    let (november, december) = (time("2026-11-30T23:59:58Z"), time("2026-12-01T00:00:01Z"));

    // Another gateway's clock is ahead, so the ledger tells of its December already.
    let limiter = Limiter::new(None);
    limiter.reserve(&with("2026-11", "0.10"), costly(november)).await.unwrap().unwrap().settle(cost(50_000_000));
    assert!(limiter.reserve(&with("2026-11", "1.00"), costly(november)).await.is_err());
    let told_early = with("2026-12", "0.01");
    assert!(limiter.reserve(&told_early, costly(november)).await.is_err(), "November is used up, and stays so");
    limiter.reserve(&told_early, costly(december)).await.unwrap().unwrap().settle(cost(980_000_000));
    let rest = limiter.reserve(&told_early, costly(december)).await.unwrap().unwrap();
    assert!(limiter.reserve(&told_early, costly(december)).await.is_err(), "0.01 and 0.98 of December's 1.00");

    // This gateway's clock is ahead: its December begins at zero, and what November's calls cost in the end is not on it.
    let limiter = Limiter::new(None);
    let told_late = with("2026-11", "0.90");
    let late = limiter.reserve(&told_late, costly(november)).await.unwrap().unwrap();
    limiter.reserve(&told_late, costly(december)).await.unwrap().unwrap().settle(cost(990_000_000));
    late.settle(cost(900_000_000));
    limiter.reserve(&told_late, costly(december)).await.unwrap().unwrap().settle(cost(10_000_000));
    assert!(limiter.reserve(&told_late, costly(december)).await.is_err());
    drop(rest);
}
