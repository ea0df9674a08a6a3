//! Health of credentials: what each answer does to the key that it came with, whom later calls go to, and what other
//! gateways and the control plane hear of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ez_contract::health::{BreakerState, Finding, HealthKind};
use ez_contract::snapshot::{ProviderSnapshot, SnapshotChange, SnapshotEntry};
use ez_contract::status::ApiKeyStatus;
use ez_contract::usage::EndedBy;
use ez_gateway::config::Affinity;
use ez_state::SharedState;
use ez_testkit::redis_server::SharedRedis;
use ez_testkit::upstream::{Behaviour, Fault, Rule};
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;

use crate::support::{self, Answer, TestGateway, binding, publish};

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
/// Served by key 1 alone.
const ALONE: &str = r#"{"model":"alias","messages":[]}"#;

fn status(status: u16, code: Option<&str>, message: Option<&str>) -> Behaviour {
    let (code, message) = (code.map(str::to_owned), message.map(str::to_owned));
    Behaviour::failing(Fault::Status { status, retry_after: None, code, message, html: None })
}

fn limited(seconds: u64) -> Behaviour {
    let retry_after = Some(seconds);
    Behaviour::failing(Fault::Status { status: 429, retry_after, code: None, message: None, html: None })
}

/// What the first key gets.
fn on_first(gateway: &TestGateway, behaviour: Behaviour) {
    gateway.upstream.rule(Rule::any(behaviour).credential("sk-up-1"));
}

/// Requests per credential since the last time.
fn used(gateway: &TestGateway) -> HashMap<String, usize> {
    let mut used = HashMap::new();
    for request in gateway.upstream.requests() {
        *used.entry(request.credential.unwrap()).or_default() += 1;
    }
    gateway.upstream.clear_requests();
    used
}

fn on(used: &HashMap<String, usize>, key: u8) -> usize {
    used.get(&format!("sk-up-{key}")).copied().unwrap_or_default()
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

/// Calls until the first key was met.
async fn meet_first(gateway: &TestGateway) {
    for _ in 0..100 {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
        if on(&used(gateway), 1) > 0 {
            return;
        }
    }
    panic!("the first key is never drawn");
}

async fn twenty_calls(gateway: &TestGateway) -> HashMap<String, usize> {
    used(gateway);
    for _ in 0..20 {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    }
    used(gateway)
}

/// Waits until something holds.
async fn until(within: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn publish_provider(gateway: &TestGateway, id: i64, change: impl FnOnce(&mut ProviderSnapshot)) {
    let mut provider = support::provider(id, &gateway.upstream.openai_base_url(), &format!("sk-up-{id}"));
    change(&mut provider);
    publish(&gateway.state, vec![SnapshotChange::Put(SnapshotEntry::Provider(provider))]).await;
}

/// Publishes a marker model behind all that was published, and waits until calls see it.
async fn applied(gateway: &TestGateway, marker: &str) {
    publish(&gateway.state, vec![SnapshotChange::Put(SnapshotEntry::Binding(binding(marker, &[])))]).await;
    let body = format!(r#"{{"model":"{marker}"}}"#);
    until(Duration::from_secs(2), "the snapshot is applied", async || {
        gateway.chat(body.clone()).await.status != StatusCode::NOT_FOUND
    })
    .await;
}

#[tokio::test]
async fn one_unambiguous_answer_bans_a_key_and_is_reported_with_its_evidence() {
    let cases = [
        (status(401, None, None), 401, false),
        (status(403, None, Some("Your API key was reported as leaked. Please use another API key.")), 403, false),
        (status(400, None, Some("API key not valid. Please pass a valid API key.")), 400, false),
        (status(402, None, None), 402, true),
        (status(429, Some("insufficient_quota"), None), 429, true),
    ];
    for (behaviour, vendor_status, ends) in cases {
        let gateway = TestGateway::start().await;
        on_first(&gateway, behaviour);
        meet_first(&gateway).await;
        let after = twenty_calls(&gateway).await;
        assert_eq!((on(&after, 1), on(&after, 2)), (0, 20), "{vendor_status}");
        until(Duration::from_secs(1), "the ban is reported", async || {
            !gateway.records.reports.lock().unwrap().is_empty()
        })
        .await;
        let reports = gateway.records.reports.lock().unwrap().clone();
        assert_eq!(reports.len(), 1, "{reports:?}");
        assert_eq!((reports[0].api_key_id, reports[0].evidence.status), (1, Some(vendor_status)));
        let Finding::Ban { until } = reports[0].finding else { panic!("{reports:?}") };
        assert_eq!(until.is_some(), ends, "{vendor_status}");
        let banned = &reports[0].evidence.request_ids;
        assert!(!reports[0].reason.is_empty() && reports[0].observed_at.is_some());
        let (banned, records) = (banned.clone(), gateway.finish().await);
        assert!(records.iter().any(|record| banned == [record.request_id.clone()]), "{banned:?}");
    }
}

#[tokio::test]
async fn a_key_without_auto_ban_is_never_banned() {
    let gateway = TestGateway::start_with(|config| config.health.breaker_open = Duration::from_secs(60)).await;
    publish_provider(&gateway, 1, |provider| provider.auto_ban = false).await;
    applied(&gateway, "one").await;
    on_first(&gateway, Behaviour::status(401));
    for attempt in 1..=5 {
        assert_eq!(code(&gateway.chat(ALONE).await), (503, "upstream_credential_refused".into()), "{attempt}");
    }
    assert_eq!(code(&gateway.chat(ALONE).await), (503, "no_healthy_upstream".into()), "its breaker opened");
    assert!(gateway.records.reports.lock().unwrap().is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn a_ban_lasts_until_the_key_is_published_anew() {
    let gateway = TestGateway::start().await;
    on_first(&gateway, Behaviour::status(401));
    meet_first(&gateway).await;
    let answer = gateway.chat(ALONE).await;
    assert_eq!((code(&answer), answer.header("retry-after")), ((503, "no_healthy_upstream".into()), Some("30")));
    // The control plane takes over, and an operator activates the key again.
    publish_provider(&gateway, 1, |provider| provider.status = ApiKeyStatus::AutoDisabled).await;
    applied(&gateway, "one").await;
    assert_eq!(on(&twenty_calls(&gateway).await, 1), 0);
    gateway.upstream.clear_rules();
    publish_provider(&gateway, 1, |_| ()).await;
    applied(&gateway, "two").await;
    until(Duration::from_secs(2), "it is used again", async || gateway.chat(ALONE).await.status == StatusCode::OK)
        .await;
    assert!(on(&twenty_calls(&gateway).await, 1) > 0);
    gateway.finish().await;
}

#[tokio::test]
async fn a_limit_rests_that_key_for_that_model_alone() {
    let gateway = TestGateway::start().await;
    gateway.upstream.rule(Rule::any(limited(30)).credential("sk-up-1").model("m"));
    meet_first(&gateway).await;
    let after = twenty_calls(&gateway).await;
    assert_eq!((on(&after, 1), on(&after, 2)), (0, 20));
    assert_eq!(gateway.chat(ALONE).await.status, StatusCode::OK, "another model of the same key");
    until(Duration::from_secs(1), "the cooldown is shared", async || {
        !gateway.state.list_health(1).await.unwrap().is_empty()
    })
    .await;
    let states = gateway.state.list_health(1).await.unwrap();
    assert_eq!((states.len(), states[0].kind, states[0].model.as_deref()), (1, HealthKind::Cooldown, Some("m")));
    let lasts = (states[0].until - states[0].reported_at).num_seconds();
    assert!((29..=30).contains(&lasts), "{lasts}");
    assert!(gateway.records.reports.lock().unwrap().is_empty(), "no ban");
    gateway.finish().await;
}

#[tokio::test]
async fn a_refusal_that_may_be_of_the_call_rests_the_key_for_the_model_and_bans_nobody() {
    for behaviour in [
        status(403, None, None),
        status(403, Some("unsupported_country_region_territory"), None),
        status(401, Some("missing_scope"), None),
    ] {
        let gateway = TestGateway::start().await;
        gateway.upstream.rule(Rule::any(behaviour).credential("sk-up-1").model("m"));
        meet_first(&gateway).await;
        assert_eq!(on(&twenty_calls(&gateway).await, 1), 0);
        assert_eq!(gateway.chat(ALONE).await.status, StatusCode::OK, "another model of the same key");
        assert!(gateway.records.reports.lock().unwrap().is_empty());
        gateway.finish().await;
    }
}

#[tokio::test]
async fn what_every_key_is_refused_is_the_calls_own_fault_and_rests_none() {
    let gateway = TestGateway::start().await;
    let foreign_file = "You do not have permission to access the File x or it may not exist.";
    gateway.upstream.rule(Rule::any(status(403, None, Some(foreign_file))).times(2));
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(used(&gateway).len(), 2, "both were tried");
    assert_eq!(twenty_calls(&gateway).await.len(), 2, "both are used on");
    gateway.finish().await;
}

#[tokio::test]
async fn a_call_that_is_too_large_for_a_key_rests_it_for_nobody_else() {
    let gateway = TestGateway::start().await;
    let message = "Request too large for m in organization org-a on tokens per min (TPM): Limit 1, Requested 2.";
    gateway.upstream.rule(Rule::any(status(429, None, Some(message))).times(2));
    assert_eq!(code(&gateway.chat(PLAIN).await), (429, "upstream_rate_limited".into()));
    assert_eq!(used(&gateway).len(), 2, "both were tried");
    assert_eq!(twenty_calls(&gateway).await.len(), 2, "both are used on");
    gateway.finish().await;
}

#[tokio::test]
async fn when_all_are_resting_nothing_is_tried_and_the_smallest_wait_is_told() {
    let gateway = TestGateway::start().await;
    on_first(&gateway, limited(20));
    gateway.upstream.rule(Rule::any(limited(7)).credential("sk-up-2"));
    let first = gateway.chat(PLAIN).await;
    assert_eq!((code(&first), first.header("retry-after")), ((429, "upstream_rate_limited".into()), Some("7")));
    assert_eq!(used(&gateway).len(), 2);
    for body in [PLAIN, STREAM] {
        let answer = gateway.chat(body).await;
        assert_eq!(code(&answer), (429, "upstream_rate_limited".into()));
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((6..=7).contains(&wait), "{wait}");
    }
    assert!(used(&gateway).is_empty(), "no attempt");
    let records = gateway.finish().await;
    let ends: Vec<_> = records.iter().map(|record| (record.status, record.ended_by, record.attempts)).collect();
    let (tried, untried) = ((429, EndedBy::Upstream, 2), (429, EndedBy::Upstream, 0));
    assert_eq!(ends, [tried, untried, untried]);
}

#[tokio::test]
async fn five_failures_in_a_row_open_a_breaker_whatever_their_kind() {
    let faults = [
        Fault::Status { status: 500, retry_after: None, code: None, message: None, html: None },
        Fault::Status { status: 503, retry_after: None, code: None, message: None, html: Some("<h1>no</h1>".into()) },
        Fault::Close,
        Fault::Reset { after_bytes: Some(30) },
        Fault::Truncate { after_events: None, after_bytes: Some(30) },
        Fault::Stall { after_bytes: 0 },
        Fault::Stall { after_bytes: 30 },
    ];
    for fault in faults {
        let gateway = TestGateway::start_with(|config| {
            config.health.breaker_open = Duration::from_secs(60);
            config.first_byte_timeout = Duration::from_millis(100);
            config.idle_timeout = Duration::from_millis(100);
        })
        .await;
        on_first(&gateway, Behaviour::failing(fault.clone()));
        for _ in 0..5 {
            assert!(gateway.chat(ALONE).await.status.is_server_error(), "{fault:?}");
        }
        used(&gateway);
        let answer = gateway.chat(ALONE).await;
        assert_eq!(code(&answer), (503, "no_healthy_upstream".into()), "{fault:?}");
        assert!(answer.header("retry-after").is_some() && used(&gateway).is_empty(), "{fault:?}");
        assert_eq!(on(&twenty_calls(&gateway).await, 1), 0, "a breaker is for all models");
        until(Duration::from_secs(1), "it is shared", async || !gateway.state.list_health(1).await.unwrap().is_empty())
            .await;
        let states = gateway.state.list_health(1).await.unwrap();
        assert_eq!((states[0].kind, states[0].state), (HealthKind::Breaker, Some(BreakerState::Open)));
        gateway.finish().await;
    }
}

#[tokio::test]
async fn streams_that_break_count_and_clients_that_leave_do_not() {
    let gateway = TestGateway::start_with(|config| config.health.breaker_open = Duration::from_secs(60)).await;
    let stream = r#"{"model":"alias","stream":true,"messages":[]}"#;
    on_first(&gateway, Behaviour { tokens: 1_000, tokens_per_second: Some(50.0), ..Behaviour::default() });
    for _ in 0..8 {
        let mut response = gateway.send(gateway.request("/v1/chat/completions", stream)).await;
        assert!(response.body_mut().frame().await.unwrap().unwrap().is_data());
    }
    until(Duration::from_secs(5), "the upstream calls are cancelled", async || gateway.upstream.aborted_count() == 8)
        .await;
    gateway.upstream.clear_rules();
    on_first(&gateway, Behaviour::failing(Fault::Truncate { after_events: Some(3), after_bytes: None }));
    for _ in 0..5 {
        let answer = gateway.chat(stream).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!answer.text().contains("[DONE]"));
    }
    assert_eq!(code(&gateway.chat(stream).await), (503, "no_healthy_upstream".into()));
    gateway.finish().await;
}

#[tokio::test]
async fn faults_of_the_client_never_count() {
    let gateway = TestGateway::start().await;
    for fault in [400, 404, 413, 422] {
        on_first(&gateway, Behaviour::status(fault));
        for _ in 0..6 {
            assert_eq!(gateway.chat(ALONE).await.status.as_u16(), fault);
        }
        gateway.upstream.clear_rules();
    }
    assert_eq!(gateway.chat(ALONE).await.status, StatusCode::OK);
    assert!(gateway.state.list_health(1).await.unwrap().is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn of_fifty_calls_one_tries_a_half_open_key() {
    let gateway = TestGateway::start_with(|config| {
        config.health.breaker_open = Duration::from_millis(50);
        config.health.breaker_max = Duration::from_secs(60);
    })
    .await;
    on_first(&gateway, Behaviour::status(500));
    for _ in 0..5 {
        assert_eq!(gateway.chat(ALONE).await.status, StatusCode::BAD_GATEWAY);
    }
    gateway.upstream.clear_rules();
    let slow = || Behaviour { first_byte_delay: Duration::from_millis(300), ..Behaviour::default() };
    on_first(&gateway, slow());
    used(&gateway);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let answers = join_all((0..50).map(|_| gateway.chat(ALONE))).await;
    let served = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let refused = answers.iter().filter(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE).count();
    assert_eq!((served, refused, on(&used(&gateway), 1)), (1, 49, 1));
    let answers = join_all((0..50).map(|_| gateway.chat(ALONE))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK), "it decided for all");
    until(Duration::from_secs(1), "its closing is shared", async || {
        gateway.state.list_health(1).await.unwrap().is_empty()
    })
    .await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_cancelled_trial_is_given_back() {
    let gateway = TestGateway::start_with(|config| {
        config.health.breaker_failures = 1;
        config.health.breaker_open = Duration::from_millis(20);
    })
    .await;
    on_first(&gateway, Behaviour::status(500));
    assert_eq!(gateway.chat(ALONE).await.status, StatusCode::BAD_GATEWAY);
    gateway.upstream.clear_rules();
    on_first(&gateway, Behaviour { first_byte_delay: Duration::from_millis(600), ..Behaviour::default() });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let request = gateway.request("/v1/chat/completions", ALONE);
    let seen = gateway.upstream.request_count();
    tokio::select! {
        _ = gateway.send(request) => panic!("it is slower than this"),
        () = until(Duration::from_secs(1), "the trial is under way", async || gateway.upstream.request_count() > seen) => {}
    }
    gateway.upstream.clear_rules();
    until(Duration::from_secs(1), "the next call tries", async || gateway.chat(ALONE).await.status == StatusCode::OK)
        .await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_key_at_its_concurrency_lets_calls_wait_in_turn() {
    let gateway = TestGateway::start_with(|config| {
        config.health.queue = 3;
        config.health.queue_timeout = Duration::from_millis(400);
    })
    .await;
    publish_provider(&gateway, 1, |provider| provider.max_concurrency = Some(2)).await;
    applied(&gateway, "one").await;
    on_first(&gateway, Behaviour { first_byte_delay: Duration::from_millis(150), ..Behaviour::default() });
    let answers = join_all((0..8).map(|_| gateway.chat(ALONE))).await;
    let served = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    let busy = answers.iter().filter(|answer| code(answer).1 == "upstream_busy").count();
    assert_eq!((served, busy), (5, 3), "two at once, three wait, the others are told at once");
    let told = answers.iter().find(|answer| answer.status != StatusCode::OK).unwrap();
    assert_eq!((told.status.as_u16(), told.header("retry-after")), (503, Some("1")));

    // A stream holds its slot until its end, and a client that leaves frees it.
    gateway.upstream.clear_rules();
    on_first(&gateway, Behaviour { tokens: 1_000, tokens_per_second: Some(50.0), ..Behaviour::default() });
    let stream = r#"{"model":"alias","stream":true,"messages":[]}"#;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(gateway.send(gateway.request("/v1/chat/completions", stream)).await);
    }
    assert_eq!(code(&gateway.chat(ALONE).await), (503, "upstream_busy".into()), "the wait is bounded");
    gateway.upstream.clear_rules();
    drop(held);
    until(Duration::from_secs(2), "the slots are free", async || gateway.chat(ALONE).await.status == StatusCode::OK)
        .await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_key_at_its_concurrency_is_passed_over_while_another_has_room() {
    let gateway = TestGateway::start().await;
    publish_provider(&gateway, 1, |provider| provider.max_concurrency = Some(1)).await;
    applied(&gateway, "one").await;
    gateway.upstream.set(Behaviour { first_byte_delay: Duration::from_millis(200), ..Behaviour::default() });
    used(&gateway);
    let answers = join_all((0..20).map(|_| gateway.chat(PLAIN))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    let used = used(&gateway);
    assert!(on(&used, 1) <= 1 && on(&used, 2) >= 19, "{used:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_session_keeps_to_its_key_while_that_is_healthy() {
    let gateway = TestGateway::start_with(|config| config.health.affinity = Affinity::Header).await;
    let call = async |session: &str| {
        let mut request = gateway.request("/v1/chat/completions", PLAIN);
        request.headers_mut().insert("x-ez-session", session.parse().unwrap());
        let answer = gateway.call(request).await;
        assert_eq!(answer.status, StatusCode::OK);
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!(sent.header("x-ez-session"), None, "it stays here");
        sent.credential.unwrap()
    };
    let mut homes: HashMap<String, String> = HashMap::new();
    for session in 0..20 {
        let session = format!("s{session}");
        let home = call(&session).await;
        for _ in 0..5 {
            assert_eq!(call(&session).await, home);
        }
        homes.insert(session, home);
    }
    assert!(homes.values().any(|key| key == "sk-up-1") && homes.values().any(|key| key == "sk-up-2"), "{homes:?}");
    on_first(&gateway, limited(30));
    for session in homes.keys() {
        assert_eq!(call(session).await, "sk-up-2", "where its own is not healthy");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_conversation_keeps_to_its_key_over_its_turns() {
    let gateway = TestGateway::start_with(|config| config.health.affinity = Affinity::Prefix).await;
    let turn = |who: &str, said: usize| {
        let mut messages = vec![json!({"role": "system", "content": "be brief"})];
        messages.push(json!({"role": "user", "content": format!("I am {who}")}));
        for number in 0..said {
            messages.push(json!({"role": "assistant", "content": format!("answer {number} to {who}")}));
            messages.push(json!({"role": "user", "content": format!("question {number}")}));
        }
        json!({"model": "m", "messages": messages}).to_string()
    };
    let call = async |who: &str, said: usize| {
        let answer = gateway.chat(turn(who, said)).await;
        assert_eq!(answer.status, StatusCode::OK);
        gateway.upstream.requests().pop().unwrap().credential.unwrap()
    };
    // One conversation of each key.
    let mut of_key: HashMap<String, String> = HashMap::new();
    for number in 0..100 {
        let who = format!("number {number}");
        of_key.entry(call(&who, 0).await).or_insert(who);
        if of_key.len() == 2 {
            break;
        }
    }
    let (mine, others) = (&of_key["sk-up-1"], &of_key["sk-up-2"]);
    for said in 1..10 {
        assert_eq!((call(mine, said).await.as_str(), call(others, said).await.as_str()), ("sk-up-1", "sk-up-2"));
    }

    // Its key fails this call: another serves it, and the ones after while the key rests; then it is at home again.
    gateway.upstream.rule(Rule::any(limited(1)).credential("sk-up-1").times(1));
    gateway.upstream.clear_requests();
    assert_eq!(call(mine, 10).await, "sk-up-2");
    assert_eq!(on(&used(&gateway), 1), 1, "its own was asked first");
    assert_eq!((call(mine, 11).await.as_str(), call(others, 11).await.as_str()), ("sk-up-2", "sk-up-2"));
    assert_eq!(on(&used(&gateway), 1), 0, "and is not asked again meanwhile");
    until(Duration::from_secs(4), "it comes home", async || call(mine, 12).await == "sk-up-1").await;
    gateway.finish().await;
}

/// Two gateways on one Redis: what each learns steers the other within a second.
#[tokio::test]
async fn gateways_share_what_they_learn_within_a_second() {
    let redis = SharedRedis::for_this_test();
    let connect = async || SharedState::connect_redis(&redis.url, &redis.prefix).await.unwrap();
    let fast = |config: &mut ez_gateway::GatewayConfig| {
        config.health.breaker_open = Duration::from_secs(30);
        config.health.breaker_failures = 2;
    };
    let one = TestGateway::start_sharing(connect().await, true, fast).await;
    let two = TestGateway::start_sharing(connect().await, false, fast).await;
    assert_eq!(two.chat(ALONE).await.status, StatusCode::OK);
    let steers = async |what: &str, body: &str, wanted: &str| {
        until(Duration::from_secs(1), what, async || code(&two.chat(body.to_owned()).await).1 == wanted).await;
    };

    // The vendor fails for the first gateway alone: the other has it from there, or not at all.
    let failing = |behaviour, times| one.upstream.rule(Rule::any(behaviour).credential("sk-up-1").times(times));
    failing(limited(2), 1);
    assert_eq!(one.chat(ALONE).await.status, StatusCode::TOO_MANY_REQUESTS);
    steers("a cooldown", ALONE, "upstream_rate_limited").await;
    for gateway in [&one, &two] {
        until(Duration::from_secs(4), "it passes", async || gateway.chat(ALONE).await.status == StatusCode::OK).await;
    }

    failing(Behaviour::status(500), 2);
    for _ in 0..2 {
        assert_eq!(one.chat(ALONE).await.status, StatusCode::BAD_GATEWAY);
    }
    steers("a breaker", ALONE, "no_healthy_upstream").await;
    one.state.remove_health(1, HealthKind::Breaker, None).await.unwrap();
    for gateway in [&one, &two] {
        until(Duration::from_secs(1), "it closes", async || gateway.chat(ALONE).await.status == StatusCode::OK).await;
    }

    // The control plane is away, so that the ban does not come with a snapshot.
    one.records.set_away(true);
    failing(Behaviour::status(401), 1);
    assert_eq!(code(&one.chat(ALONE).await), (503, "upstream_credential_refused".into()));
    steers("a ban", ALONE, "upstream_rate_limited").await;
    // An operator activates the key: it is published anew, and both use it again.
    publish_provider(&one, 1, |_| ()).await;
    for gateway in [&one, &two] {
        until(Duration::from_secs(3), "it is used", async || gateway.chat(ALONE).await.status == StatusCode::OK).await;
    }
    one.records.set_away(false);
    one.finish().await;
    two.finish().await;
}
