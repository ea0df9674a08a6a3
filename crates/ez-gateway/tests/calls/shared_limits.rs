//! Limits that three gateways share through one Redis, and what becomes of them while it does not answer.

use std::time::{Duration, Instant};

use crate::support::{TestGateway, token, token_entry};
use ez_contract::snapshot::Limits;
use ez_state::SharedState;
use ez_testkit::redis_server::RedisServer;
use http::StatusCode;
use tokio::task::JoinSet;

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// Three gateways whose key may make so many calls a day.
async fn fleet(server: &RedisServer, rpd: u64) -> Vec<TestGateway> {
    let mut gateways = Vec::new();
    for _ in 0..3 {
        let state = SharedState::connect_redis(&server.url(), "ez:").await.unwrap();
        gateways.push(TestGateway::start_sharing(state, true, |_| ()).await);
    }
    let mut limited = token();
    limited.limits = Limits { rpd: Some(rpd), ..Limits::default() };
    let last = gateways.last().unwrap();
    last.apply(vec![token_entry(limited)]).await;
    for gateway in &gateways {
        gateway.caught_up().await;
    }
    gateways
}

/// How many of these calls were answered, and how many refused for their number; others fail the test.
async fn call_all(gateways: &[TestGateway], calls: usize) -> (u64, u64) {
    let mut workers = JoinSet::new();
    for worker in 0..6 {
        let requests: Vec<_> = (0..calls / 6)
            .map(|call| gateways[(worker + call) % gateways.len()].request("/v1/chat/completions", PLAIN))
            .collect();
        workers.spawn(TestGateway::statuses(requests));
    }
    let (mut answered, mut refused) = (0, 0);
    for status in workers.join_all().await.into_iter().flatten() {
        match status {
            StatusCode::OK => answered += 1,
            StatusCode::TOO_MANY_REQUESTS => refused += 1,
            other => panic!("{other}"),
        }
    }
    (answered, refused)
}

/// Times that Redis changed a hash: once for each lease of one counter.
fn hashes_changed(server: &RedisServer) -> u64 {
    let stats = server.run(&["info", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_hset:")).unwrap_or_default();
    let calls = line.split("calls=").nth(1).and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_on_one_redis_share_a_limit_with_few_round_trips() {
    let server = RedisServer::start().await;
    let gateways = fleet(&server, 1_000).await;
    let before = hashes_changed(&server);
    let (answered, refused) = call_all(&gateways, 1_200).await;
    let round_trips = hashes_changed(&server) - before;
    assert!(answered <= 1_000, "{answered}");
    // A gateway that knew of no others yet took more than its share, which goes back only after a second.
    assert!(answered >= 750, "{answered} of 1000");
    assert_eq!(answered + refused, 1_200);
    assert!(round_trips < 60, "{round_trips} round trips for 1200 calls");
    for gateway in gateways {
        gateway.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_hangs_each_gateway_allows_its_part_and_fails_no_call() {
    let server = RedisServer::start().await;
    let gateways = fleet(&server, 600).await;
    assert_eq!(call_all(&gateways, 60).await, (60, 0));
    server.pause();
    let begun = Instant::now();
    let (answered, refused) = call_all(&gateways, 1_800).await;
    // Nobody waits for longer than for one lease, and then nobody waits.
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    // What was leased before, and an equal part each.
    assert!((200..=1_200 + 3).contains(&(answered + 60)), "{answered} answered, {refused} refused");
    server.resume();
    // All of it is told now, and there is nothing left.
    let deadline = Instant::now() + Duration::from_secs(20);
    while call_all(&gateways, 6).await.0 > 0 {
        assert!(Instant::now() < deadline, "the limit holds again");
    }
    for gateway in gateways {
        gateway.finish().await;
    }
}
