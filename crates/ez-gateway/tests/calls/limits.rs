//! Limits: what a caller hears when one is reached, what its record says, and that nothing stays reserved.

use std::time::Duration;

use crate::support::{TestGateway, master, token, token_entry};
use ez_contract::UsageRecord;
use ez_contract::snapshot::{Limits, MasterSnapshot, ModelSnapshot, Quota, SnapshotEntry, TokenSnapshot};
use ez_contract::usage::EndedBy;
use ez_testkit::upstream::{Behaviour, Fault};
use http::StatusCode;
use http_body_util::BodyExt;

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// A gateway whose key and master were changed, and that knows of it.
async fn limited(change: impl FnOnce(&mut TokenSnapshot, &mut MasterSnapshot)) -> TestGateway {
    let gateway = TestGateway::start().await;
    let (mut token, mut master) = (token(), master());
    change(&mut token, &mut master);
    gateway.apply(vec![SnapshotEntry::Master(master), token_entry(token), priced_model()]).await;
    gateway
}

fn priced_model() -> SnapshotEntry {
    let golden = include_str!("../../../ez-contract/goldens/model.json");
    let golden: ModelSnapshot = serde_json::from_str(golden).unwrap();
    let prices = [("input", "2.5"), ("output", "10")].map(|(name, price)| (name.to_owned(), price.to_owned()));
    SnapshotEntry::Model(ModelSnapshot { name: "default.m".to_owned(), prices: prices.into(), ..golden })
}

fn server_error() -> Fault {
    Fault::Status { status: 500, retry_after: None, code: None, message: None, html: None }
}

fn refusals(records: &[UsageRecord]) -> Vec<&UsageRecord> {
    records.iter().filter(|record| record.ended_by == EndedBy::Limit).collect()
}

#[tokio::test]
async fn each_limit_refuses_with_its_reason_and_leaves_a_record() {
    type Change = fn(&mut TokenSnapshot, &mut MasterSnapshot);
    let cases: [(Change, &str, &str); 8] = [
        (|token, _| token.limits.rpm = Some(0), "rate_limit_exceeded", "`rpm`"),
        (|token, _| token.limits.rpd = Some(0), "rate_limit_exceeded", "`rpd`"),
        (|_, master| master.limits.tpm = Some(0), "rate_limit_exceeded", "`tpm`"),
        (|_, master| master.limits.tpd = Some(0), "rate_limit_exceeded", "(scope master)"),
        (|_, master| master.limits.qps = Some(0), "rate_limit_exceeded", "`qps`"),
        (|token, _| token.limits.concurrency = Some(0), "concurrency_exceeded", "(scope key)"),
        (|token, _| token.quota = Some(Quota { limit: 9, used: 9, reset_at: None }), "insufficient_quota", "9 tokens"),
        (|_, master| master.monthly_budget = Some("0.00".to_owned()), "budget_exceeded", "0.00 US dollars"),
    ];
    for (change, code, words) in cases {
        let gateway = limited(change).await;
        let answer = gateway.chat(PLAIN).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{code}: {}", answer.text());
        let error = answer.json()["error"].clone();
        assert_eq!((error["code"].as_str(), error["type"].as_str()), (Some(code), Some("rate_limit_error")));
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
        let never_resets = code == "insufficient_quota";
        assert_eq!(answer.header("retry-after").is_none(), never_resets, "{code}");
        assert!(gateway.upstream.requests().is_empty());
        let record = gateway.finish_with_one_record().await;
        assert_eq!((record.status, record.ended_by, record.attempts), (429, EndedBy::Limit, 0));
        assert!(record.error.is_some_and(|error| error.starts_with(code)) && record.cost.is_none());
    }
}

#[tokio::test]
async fn a_limit_makes_no_model_of_a_name_that_was_made_up() {
    let gateway = limited(|token, _| token.limits.rpd = Some(0)).await;
    for model in ["m", "made-up-1", "default.made-up-2"] {
        let refused = gateway.chat(PLAIN.replace("\"m\"", &format!("\"{model}\""))).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.text());
    }
    let records = gateway.finish().await;
    assert!(records.iter().all(|record| (record.status, record.ended_by, record.attempts) == (429, EndedBy::Limit, 0)));
    let named: Vec<_> = records.iter().map(|record| (record.namespace.as_str(), record.model.as_str())).collect();
    assert_eq!(named, [("default", "m"), ("", "made-up-1"), ("", "default.made-up-2")]);
}

#[tokio::test]
async fn answers_tell_what_is_left_and_the_limit_holds() {
    let gateway =
        limited(|token, _| token.limits = Limits { rpd: Some(2), tpd: Some(100_000), ..Limits::default() }).await;
    let first = gateway.chat(PLAIN).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    let told = ["limit", "remaining"].map(|what| first.header(&format!("x-ratelimit-{what}-requests")).unwrap());
    assert_eq!(told, ["2", "1"]);
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("100000"));
    assert!(first.header("x-ratelimit-reset-tokens").is_some_and(|reset| reset.ends_with('s')));
    let stream = gateway.chat(STREAM).await;
    assert_eq!(stream.header("x-ratelimit-remaining-requests"), Some("0"), "streams as well");
    let refused = gateway.chat(PLAIN).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let left: u64 = refused.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    let records = gateway.finish().await;
    let used = records
        .iter()
        .map(|record| record.tokens.input_tokens.unwrap_or_default() + record.tokens.output_tokens.unwrap_or_default());
    assert_eq!(100_000 - left, used.sum::<u64>(), "estimates were settled to the truth");
    assert_eq!(refusals(&records).len(), 1);
}

#[tokio::test]
async fn a_call_that_fails_upstream_gives_its_tokens_back() {
    let gateway = limited(|token, _| token.limits.tpd = Some(100_000)).await;
    gateway.upstream.set(Behaviour { fault: Some(server_error()), ..Behaviour::default() });
    let failed = gateway.chat(PLAIN).await;
    assert!(failed.status.is_server_error(), "{}", failed.text());
    assert!(failed.header("x-ratelimit-remaining-tokens").is_some(), "headers are on failures as well");
    let unknown = gateway.chat(PLAIN.replace("\"m\"", "\"nowhere\"")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    gateway.upstream.set(Behaviour::default());
    let left: u64 = gateway.chat(PLAIN).await.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    let reserved = 100_000 - left;
    assert!(reserved < 1_100, "only this call's estimate: {reserved}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_place_among_calls_in_flight_comes_free_when_the_client_leaves() {
    let gateway = limited(|token, _| token.limits.concurrency = Some(1)).await;
    gateway.upstream.set(Behaviour { tokens: 1_000, tokens_per_second: Some(50.0), ..Behaviour::default() });
    let mut stream = gateway.send(gateway.request("/v1/chat/completions", STREAM)).await.into_body();
    stream.frame().await.unwrap().unwrap();
    let refused = gateway.chat(PLAIN).await;
    assert_eq!(refused.json()["error"]["code"], "concurrency_exceeded");
    assert_eq!(refused.header("retry-after"), Some("1"));
    gateway.upstream.set(Behaviour::default());
    drop(stream);
    let freed = async {
        while gateway.chat(PLAIN).await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed).await.expect("the place comes free");
    let records = gateway.finish().await;
    assert!(records.iter().any(|record| record.ended_by == EndedBy::Client));
}

#[tokio::test]
async fn a_quota_ends_calls_before_the_control_plane_has_counted_them() {
    let gateway = limited(|token, _| token.quota = Some(Quota { limit: 20, used: 0, reset_at: None })).await;
    let mut answered = 0;
    while gateway.chat(PLAIN).await.status == StatusCode::OK {
        answered += 1;
        assert!(answered <= 20, "each call uses a token at least");
    }
    let records = gateway.finish().await;
    let used = |records: &[UsageRecord]| -> u64 {
        let tokens = records.iter().map(|record| &record.tokens);
        tokens.map(|tokens| tokens.input_tokens.unwrap_or(0) + tokens.output_tokens.unwrap_or(0)).sum()
    };
    assert!(used(&records) >= 20 && used(&records[..records.len() - 2]) < 20, "{answered} calls, {}", used(&records));
}

#[tokio::test]
async fn calls_cost_what_their_model_is_priced_at() {
    let gateway = limited(|_, _| ()).await;
    let plain = gateway.chat(PLAIN).await;
    let cost = plain.header("x-ez-cost").unwrap().to_owned();
    gateway.chat(STREAM).await;
    let unpriced = gateway.chat(PLAIN.replace("\"m\"", "\"alias\"")).await;
    assert_eq!(unpriced.header("x-ez-cost"), None);
    let records = gateway.finish().await;
    for record in &records[..2] {
        let (input, output) = (record.tokens.input_tokens.unwrap(), record.tokens.output_tokens.unwrap());
        // $2.50 and $10.00 for a million tokens: tenths of a millionth are exact.
        let tenths = input * 25 + output * 100;
        let exact = format!("0.{tenths:07}").trim_end_matches('0').to_owned();
        assert_eq!(record.cost.as_deref(), Some(exact.as_str()));
        assert_eq!(record.price_version.as_deref().map(str::len), Some(16));
    }
    assert_eq!(records[0].cost.as_deref(), Some(cost.as_str()));
    assert_eq!((&records[2].cost, &records[2].price_version), (&None, &None));
}

#[tokio::test]
async fn a_budget_is_used_up_by_what_calls_cost() {
    let gateway = limited(|_, master| master.monthly_budget = Some("0.0002".to_owned())).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(gateway.chat(PLAIN).await);
    }
    let last = answers.last().unwrap();
    assert_eq!(last.json()["error"]["code"], "budget_exceeded", "{}", last.text());
    assert!(last.header("retry-after").is_some());
    assert_eq!(answers[0].status, StatusCode::OK);
    gateway.finish().await;
}
