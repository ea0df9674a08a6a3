//! Live figures: what the shared state hears of calls, as they arrive, run and end.

use std::time::Duration;

use ez_contract::live::{LiveFigures, LiveReport};
use ez_contract::snapshot::{MasterSnapshot, SnapshotEntry};
use ez_state::SharedState;
use ez_testkit::redis_server::RedisServer;
use ez_testkit::upstream::Behaviour;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};

use crate::support::{TestGateway, master};

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// Generous: what is told comes every half second, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the reports of all gateways are as they should be.
async fn wait_for(state: &SharedState, what: &str, is_right: impl Fn(&[LiveReport]) -> bool) -> Vec<LiveReport> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let reports = state.list_live().await.unwrap();
        if is_right(&reports) {
            return reports;
        }
        assert!(Instant::now() < give_up, "{what}: {reports:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Of the only master of the only gateway.
fn figures(reports: &[LiveReport]) -> LiveFigures {
    reports.iter().flat_map(|report| report.masters.get(&master().id)).copied().next().unwrap_or_default()
}

#[tokio::test]
async fn calls_are_told_as_they_arrive_run_and_end() {
    let gateway = TestGateway::start().await;
    let state = gateway.state.clone();
    let idle = wait_for(&state, "a gateway without calls tells that it is there", |reports| reports.len() == 1).await;
    assert_eq!((idle[0].node_id.as_str(), idle[0].masters.len()), ("test", 0));

    gateway.upstream.set(Behaviour { tokens: 2_000, tokens_per_second: Some(20.0), ..Behaviour::default() });
    let mut stream = gateway.send(gateway.request("/v1/chat/completions", STREAM)).await.into_body();
    stream.frame().await.unwrap().unwrap();
    let running = wait_for(&state, "a stream", |reports| figures(reports).in_flight_streams == 1).await;
    let running = figures(&running);
    assert_eq!((running.requests, running.recent_requests, running.in_flight, running.tokens), (1, 1, 1, 0));
    drop(stream);
    wait_for(&state, "the stream's end", |reports| figures(reports).in_flight == 0).await;

    gateway.upstream.set(Behaviour::default());
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    assert_eq!(gateway.chat(PLAIN.replace("\"m\"", "\"nowhere\"")).await.status, StatusCode::NOT_FOUND);
    wait_for(&state, "all calls", |reports| figures(reports).requests == 3).await;
    let mut stranger = gateway.request("/v1/chat/completions", PLAIN);
    stranger.headers_mut().insert("authorization", "Bearer sk-ez-nobody".parse().unwrap());
    assert_eq!(gateway.call(stranger).await.status, StatusCode::UNAUTHORIZED);

    let told = gateway.records.clone();
    let give_up = Instant::now() + PATIENCE;
    while told.taken.lock().unwrap().len() < 3 {
        assert!(Instant::now() < give_up, "records are missing");
        sleep(Duration::from_millis(20)).await;
    }
    let records = told.taken.lock().unwrap().clone();
    let used = records
        .iter()
        .map(|record| record.tokens.input_tokens.unwrap_or_default() + record.tokens.output_tokens.unwrap_or_default());
    let used: u64 = used.sum();
    assert!(used > 0);
    let expected = LiveFigures { requests: 3, recent_requests: 0, tokens: used, ..LiveFigures::default() };
    let all_told = |reports: &[LiveReport]| LiveFigures { recent_requests: 0, ..figures(reports) } == expected;
    wait_for(&state, "the records' own figures, and nothing of strangers", all_told).await;

    gateway.finish().await;
    assert_eq!(state.list_live().await.unwrap(), [], "a gateway that ended takes its figures away");
}

#[tokio::test]
async fn calls_that_a_limit_refuses_are_told() {
    let gateway = TestGateway::start().await;
    let mut limited: MasterSnapshot = master();
    limited.limits.rpd = Some(1);
    gateway.apply(vec![SnapshotEntry::Master(limited)]).await;
    let statuses = [gateway.chat(PLAIN).await.status, gateway.chat(PLAIN).await.status];
    assert_eq!(statuses, [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS]);
    let told = wait_for(&gateway.state, "both calls", |reports| figures(reports).requests == 2).await;
    assert_eq!(figures(&told).limited_requests, 1);
    gateway.finish().await;
}

#[tokio::test]
async fn gateways_tell_side_by_side() {
    let one = TestGateway::start().await;
    let two = TestGateway::start_sharing(one.state.clone(), false, |_| ()).await;
    for gateway in [&one, &one, &two] {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    }
    let of_each = |reports: &[LiveReport]| {
        let mut requests: Vec<u64> =
            reports.iter().map(|report| figures(std::slice::from_ref(report)).requests).collect();
        requests.sort_unstable();
        requests == [1, 2]
    };
    wait_for(&one.state, "two gateways of one name", of_each).await;
    two.finish().await;
    wait_for(&one.state, "the one that is left", |reports| reports.len() == 1).await;
    one.finish().await;
}

#[tokio::test]
async fn redis_that_is_away_holds_up_no_call_and_hears_of_them_later() {
    let mut server = RedisServer::start().await;
    let state = SharedState::connect_redis(&server.url(), "p:").await.unwrap();
    let gateway = TestGateway::start_sharing(state.clone(), true, |_| ()).await;
    wait_for(&state, "a gateway", |reports| reports.len() == 1).await;
    server.kill();
    for _ in 0..5 {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    }
    server.restart().await;
    let is_told = |reports: &[LiveReport]| figures(reports).requests == 5;
    wait_for(&state, "what was counted meanwhile", is_told).await;
    gateway.finish().await;
}
