//! Attempts by API key: what came of each reaches the control plane once, whatever becomes of the line to it.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Duration;

use ez_contract::UsageRecord;
use ez_contract::flush::ApiKeyFlush;
use ez_gateway::config::HealthConfig;
use ez_testkit::upstream::{Behaviour, Fault, Rule};
use http::StatusCode;

use crate::support::{RecordingLink, TestGateway};

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
/// Served by key 1 alone.
const ALONE: &str = r#"{"model":"alias","messages":[]}"#;
const ALONE_STREAM: &str = r#"{"model":"alias","stream":true,"messages":[]}"#;

/// Successes and failures by API key, each batch counted once as the control plane does.
fn counted(link: &RecordingLink) -> BTreeMap<i64, (u64, u64)> {
    let flushes = link.flushes.lock().unwrap();
    let batches: HashMap<&str, &ApiKeyFlush> =
        flushes.iter().rev().map(|flush| (flush.batch_id.as_str(), flush)).collect();
    let mut counted = BTreeMap::new();
    for delta in batches.values().flat_map(|flush| &flush.deltas) {
        assert_eq!(delta.requests, delta.successes + delta.failures);
        let (successes, failures): &mut (u64, u64) = counted.entry(delta.api_key_id).or_default();
        *successes += delta.successes;
        *failures += delta.failures;
    }
    counted
}

/// Ends the gateway; what was counted, and its records.
async fn end(gateway: TestGateway) -> (BTreeMap<i64, (u64, u64)>, Vec<UsageRecord>) {
    let link = gateway.records.clone();
    let records = gateway.finish().await;
    (counted(&link), records)
}

/// A gateway whose breakers stay closed.
async fn patient() -> TestGateway {
    TestGateway::start_with(|config| {
        config.health = HealthConfig { breaker_failures: 1_000, ..HealthConfig::default() };
    })
    .await
}

fn failing(status: u16) -> Behaviour {
    Behaviour::failing(Fault::Status { status, retry_after: None, code: None, message: None, html: None })
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn each_attempt_counts_for_its_key_also_where_another_serves_the_call() {
    let gateway = patient().await;
    gateway.upstream.rule(Rule::any(failing(503)).credential("sk-up-1"));
    for _ in 0..40 {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    }
    let asked = |key: &str| {
        let requests = gateway.upstream.requests();
        requests.iter().filter(|request| request.credential.as_deref() == Some(key)).count() as u64
    };
    let (first, second) = (asked("sk-up-1"), asked("sk-up-2"));
    assert!(first > 0 && second == 40, "{first}, {second}");
    let (counted, records) = end(gateway).await;
    assert_eq!(counted, BTreeMap::from([(1, (0, first)), (2, (second, 0))]));
    let attempts: u64 = records.iter().map(|record| u64::from(record.attempts)).sum();
    assert_eq!(attempts, first + second);
}

#[tokio::test]
async fn what_the_caller_is_at_fault_for_is_no_failure_of_the_key() {
    let cases = [
        (failing(400), ALONE, (1, 0)),
        (failing(404), ALONE, (1, 0)),
        (failing(401), ALONE, (0, 1)),
        (failing(429), ALONE, (0, 1)),
        (failing(500), ALONE, (0, 1)),
        (Behaviour::default(), ALONE_STREAM, (1, 0)),
        (Behaviour::failing(Fault::Reset { after_bytes: None }), ALONE, (0, 1)),
        // In the middle of a stream that had begun well.
        (Behaviour::failing(Fault::Truncate { after_events: Some(3), after_bytes: None }), ALONE_STREAM, (0, 1)),
    ];
    for (behaviour, body, expected) in cases {
        let gateway = patient().await;
        let case = format!("{behaviour:?}");
        gateway.upstream.set(behaviour);
        gateway.chat(body).await;
        assert_eq!(end(gateway).await.0, BTreeMap::from([(1, expected)]), "{case}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_says_nothing_against_the_key() {
    let gateway = patient().await;
    gateway.upstream.set(Behaviour::failing(Fault::Stall { after_bytes: 0 }));
    tokio::select! {
        response = gateway.send(gateway.request("/v1/chat/completions", ALONE)) => panic!("{response:?}"),
        () = eventually("the upstream is asked", || gateway.upstream.request_count() > 0) => {}
    }
    eventually("it is counted", || !gateway.records.flushes.lock().unwrap().is_empty()).await;
    assert_eq!(end(gateway).await.0, BTreeMap::from([(1, (1, 0))]));
}

#[tokio::test]
async fn a_flush_whose_answer_is_lost_comes_again_under_its_name_and_counts_once() {
    let gateway = patient().await;
    gateway.records.set_losing_answers(true);
    gateway.chat(ALONE).await;
    eventually("it is flushed", || !gateway.records.flushes.lock().unwrap().is_empty()).await;
    for _ in 0..5 {
        gateway.chat(ALONE).await;
    }
    eventually("it is flushed again", || gateway.records.flushes.lock().unwrap().len() > 1).await;
    let (first, again) = {
        let flushes = gateway.records.flushes.lock().unwrap();
        (flushes[0].clone(), flushes[1].clone())
    };
    assert_eq!(first, again, "with what it held, though more was counted");
    gateway.records.set_losing_answers(false);
    assert_eq!(end(gateway).await.0, BTreeMap::from([(1, (6, 0))]));
}

#[tokio::test]
async fn what_is_counted_while_the_control_plane_is_away_reaches_it_later() {
    let gateway = patient().await;
    gateway.records.set_away(true);
    for _ in 0..10 {
        gateway.chat(ALONE).await;
    }
    assert!(gateway.records.flushes.lock().unwrap().is_empty());
    gateway.records.set_away(false);
    assert_eq!(end(gateway).await.0, BTreeMap::from([(1, (10, 0))]));
}
