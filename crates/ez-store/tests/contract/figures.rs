//! Figures of alert rules: what counts, within which window.

use chrono::TimeDelta;
use ez_contract::UsageRecord;
use ez_contract::status::KeyStatus;
use ez_contract::usage::{EndedBy, TokenUsage};
use ez_store::child_keys::{self, QuotaUse};
use ez_store::logs::figures::{self, CallCounts, LimitedCalls, MasterTraffic};
use ez_store::masters;

use crate::fixture::{Fixture, at, new_child_key};
use crate::logs::ingest;

fn record(number: usize, change: impl FnOnce(&mut UsageRecord)) -> UsageRecord {
    let mut record: UsageRecord =
        serde_json::from_str(include_str!("../../../ez-contract/goldens/usage_record.json")).unwrap();
    record.id = format!("log-{number:05}");
    (record.created_at, record.status, record.ended_by, record.error) = (at(30), 200, EndedBy::Complete, None);
    (record.master_id, record.key_id, record.api_key_id) = (1, 2, Some(3));
    (record.tokens, record.latency_ms) = (TokenUsage::default(), 0);
    change(&mut record);
    record
}

pub(crate) async fn failures_are_counted_for_those_who_are_at_fault(db: Fixture) {
    use EndedBy::{Client, Complete, Gateway, Limit, Upstream};

    // Status, end, and whether it counts for the child key as a failure, for the API key as a call, and as a failure.
    let cases = [
        (200, Complete, false, true, false),
        (200, Upstream, true, true, true),
        (502, Upstream, true, true, true),
        (529, Upstream, true, true, true),
        (429, Upstream, true, true, true),
        (400, Upstream, true, false, false),
        (404, Upstream, true, false, false),
        (422, Upstream, true, false, false),
        (499, Client, true, false, false),
        (200, Client, true, false, false),
        (503, Gateway, true, false, false),
        (400, Gateway, true, false, false),
        (429, Limit, true, false, false),
    ];
    let records = cases.iter().enumerate().map(|(number, (status, ended_by, ..))| {
        record(number, |record| {
            (record.status, record.ended_by) = (*status, *ended_by);
            record.error = (*ended_by != Complete).then(|| "it failed".to_owned());
        })
    });
    let mut records: Vec<UsageRecord> = records.collect();
    // Neither these, for their times, nor this, for want of an API key.
    for (number, second) in [(100, 9), (101, 60)] {
        records.push(record(number, |record| (record.created_at, record.status) = (at(second), 500)));
    }
    records.push(record(102, |record| (record.key_id, record.api_key_id, record.status) = (9, None, 503)));
    ingest(&db.store, &records).await.unwrap();

    let window = at(10)..at(60);
    let [of_key, calls, failures] = cases.iter().fold([0_u64; 3], |[key, calls, failures], case| {
        [key + u64::from(case.2), calls + u64::from(case.3), failures + u64::from(case.4)]
    });
    let of_key = CallCounts { id: 2, calls: 13, failures: of_key };
    let of_api_key = CallCounts { id: 3, calls, failures };
    let by_key = async |min_calls| figures::failures_by_key(&db.store, &window, min_calls).await.unwrap();
    let by_api_key = async |min_calls| figures::failures_by_api_key(&db.store, &window, min_calls).await.unwrap();
    assert_eq!(by_key(0).await, [of_key, CallCounts { id: 9, calls: 1, failures: 1 }], "most failures first");
    assert_eq!((by_key(13).await, by_key(14).await), (vec![of_key], vec![]));
    assert_eq!((by_api_key(0).await, by_api_key(5).await), (vec![of_api_key], vec![of_api_key]));
    assert_eq!(by_api_key(6).await, []);
    let later = at(60)..at(61);
    assert_eq!(figures::failures_by_key(&db.store, &later, 0).await.unwrap()[0].calls, 1, "from its start on");
    assert_eq!(figures::count(&db.store, &window).await.unwrap(), 14);
    let limited = LimitedCalls { master_id: 1, key_id: 2, calls: 1, error: Some("it failed".to_owned()) };
    assert_eq!(figures::limited_calls(&db.store, &window).await.unwrap(), [limited]);
}

pub(crate) async fn traffic_adds_up_by_master(db: Fixture) {
    let window = at(0)..at(60);
    assert_eq!(figures::traffic_by_master(&db.store, &window).await.unwrap(), []);
    assert_eq!(figures::count(&db.store, &window).await.unwrap(), 0);
    let tokens = |input, output| TokenUsage { input_tokens: input, output_tokens: output, ..TokenUsage::default() };
    let records = [
        record(0, |record| record.tokens = tokens(Some(10), Some(5))),
        record(1, |record| record.tokens = tokens(Some(7), None)),
        record(2, |record| record.tokens = tokens(None, None)),
        record(3, |record| (record.master_id, record.tokens) = (4, tokens(Some(u64::MAX), Some(u64::MAX)))),
        record(4, |record| (record.master_id, record.created_at) = (4, at(60))),
    ];
    ingest(&db.store, &records).await.unwrap();
    let found = figures::traffic_by_master(&db.store, &window).await.unwrap();
    assert_eq!(found[0], MasterTraffic { master_id: 1, calls: 3, tokens: 22 });
    assert_eq!((found[1].master_id, found[1].calls, found.len()), (4, 1, 2));
    assert!(found[1].tokens >= i64::MAX as u64, "{:?}", found[1]);
}

pub(crate) async fn a_call_counts_in_the_window_that_it_ended_in(db: Fixture) {
    let micros = TimeDelta::microseconds;
    // When it arrived, how long it took, and the minute that it ended in.
    let cases = [
        (at(0), 0, Some(0)),
        (at(0), 59_999, Some(0)),
        (at(0), 60_000, Some(1)),
        (at(0) - micros(1), 0, None),
        (at(0) - micros(1), 1, Some(0)),
        (at(0) - micros(999), 1, Some(0)),
        (at(0) - micros(1_000), 1, Some(0)),
        (at(0) - micros(1_001), 1, None),
        (at(60) - micros(1), 0, Some(0)),
        (at(60) - micros(1), 1, Some(1)),
        (at(60) - micros(1_000), 1, Some(1)),
        (at(60) - micros(1_001), 1, Some(0)),
        (at(119), 1_001, None),
        (at(-30), 100_000, Some(1)),
        (at(-900), 900_000, Some(0)),
        // Longer than any that is looked for, and senseless.
        (at(-901), 901_000, None),
        (at(0), i64::MAX as u64, None),
    ];
    let records = cases.iter().enumerate().map(|(number, (arrived_at, latency_ms, _))| {
        record(number, |record| {
            (record.created_at, record.latency_ms) = (*arrived_at, *latency_ms);
            // One key each.
            (record.master_id, record.key_id, record.api_key_id) = (number as i64, number as i64, Some(number as i64));
            (record.status, record.ended_by) = (502, EndedBy::Upstream);
        })
    });
    ingest(&db.store, &records.collect::<Vec<_>>()).await.unwrap();
    for minute in [0, 1] {
        let window = at(minute * 60)..at(minute * 60 + 60);
        let expected: Vec<i64> =
            (0..).zip(cases).filter(|(_, case)| case.2 == Some(minute)).map(|case| case.0).collect();
        assert!(expected.len() > 3);
        let sorted = |mut ids: Vec<i64>| {
            ids.sort_unstable();
            ids
        };
        let ids = |counts: Vec<CallCounts>| sorted(counts.iter().map(|counts| counts.id).collect());
        assert_eq!(ids(figures::failures_by_key(&db.store, &window, 0).await.unwrap()), expected);
        assert_eq!(ids(figures::failures_by_api_key(&db.store, &window, 0).await.unwrap()), expected);
        let traffic = figures::traffic_by_master(&db.store, &window).await.unwrap();
        assert_eq!(sorted(traffic.iter().map(|traffic| traffic.master_id).collect()), expected);
        assert_eq!(figures::count(&db.store, &window).await.unwrap(), expected.len() as u64);
    }
}

pub(crate) async fn calls_that_limits_refused_are_counted_without_those_of_a_used_up_quota(db: Fixture) {
    let errors = [
        Some("rate_limit_exceeded: the limit `rpm` of this API key"),
        Some("budget_exceeded: the monthly budget"),
        Some("insufficient_quota: the quota of this API key"),
        Some("not insufficient_quota: at all"),
        None,
    ];
    let records = errors.iter().enumerate().map(|(number, error)| {
        record(number, |record| {
            (record.status, record.ended_by, record.error) = (429, EndedBy::Limit, error.map(str::to_owned));
        })
    });
    ingest(&db.store, &records.collect::<Vec<_>>()).await.unwrap();
    let found = figures::limited_calls(&db.store, &(at(0)..at(60))).await.unwrap();
    let error = errors[0].map(str::to_owned);
    assert_eq!(found, [LimitedCalls { master_id: 1, key_id: 2, calls: 4, error }]);
}

pub(crate) async fn quotas_that_are_used_are_found_the_fullest_first(db: Fixture) {
    let master = db.master("acme").await;
    let key = async |token: &str, limit: Option<u64>, used: u64, status| {
        let mut new = new_child_key(master.id, token);
        (new.quota_limit, new.quota_used, new.status) = (limit, used, status);
        db.commit(async |tx| child_keys::create(tx, &new).await).await.id
    };
    let near = key("near", Some(1_000), 900, KeyStatus::Active).await;
    key("below", Some(1_000), 899, KeyStatus::Active).await;
    let over = key("over", Some(10), 25, KeyStatus::Exhausted).await;
    key("without", None, 1 << 40, KeyStatus::Active).await;
    key("nothing", Some(0), 0, KeyStatus::Active).await;
    key("suspended", Some(10), 10, KeyStatus::Suspended).await;
    let huge = key("huge", Some(i64::MAX as u64), i64::MAX as u64, KeyStatus::Active).await;
    let found = child_keys::list_quota_used(&db.store, 90, 10).await.unwrap();
    let max = i64::MAX as u64;
    let expected = [
        QuotaUse { key_id: over, limit: 10, used: 25 },
        QuotaUse { key_id: huge, limit: max, used: max },
        QuotaUse { key_id: near, limit: 1_000, used: 900 },
    ];
    assert_eq!(found, expected);
    assert_eq!(child_keys::list_quota_used(&db.store, 90, 1).await.unwrap(), expected[..1]);
    assert_eq!(child_keys::list_quota_used(&db.store, 100, 10).await.unwrap(), expected[..2]);

    let names = child_keys::names(&db.store, &[near, over, 999_999]).await.unwrap();
    assert_eq!(names, [(near, "near".to_owned()), (over, "over".to_owned())].into());
    assert_eq!(masters::names(&db.store, &[master.id]).await.unwrap()[&master.id], "acme");
}
