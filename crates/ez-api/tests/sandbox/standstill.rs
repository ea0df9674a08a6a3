//! Redis, PostgreSQL, or both take connections and answer nothing (SIGSTOP) while calls go on: no call is refused that
//! would have been served, and afterwards nothing is missing.

use std::time::{Duration, Instant};

use ez_testkit::postgres_server::PostgresServer;
use ez_testkit::redis_server::RedisServer;
use ez_testkit::sandbox::{Sandbox, SandboxOptions, Tenant};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::json;

use crate::logs::PLAIN;
use crate::traffic::{Traffic, assert_accounted_once};

const GATEWAYS: usize = 2;
const CALLERS: usize = 16;

/// Traffic before and after a standstill.
const AROUND: Duration = Duration::from_secs(1);

/// From the end of a standstill until everything that waited is done.
const CONVERGENCE: Duration = Duration::from_secs(60);

/// What stands still.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Still {
    Redis,
    Postgres,
    Both,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_servers_stand_still() {
    let standstill = Duration::from_secs(10);
    tokio::join!(
        calls_go_on(Still::Redis, standstill),
        calls_go_on(Still::Postgres, standstill),
        calls_go_on(Still::Both, standstill),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_calls_go_on_while_servers_stand_still() {
    for still in [Still::Redis, Still::Postgres, Still::Both] {
        calls_go_on(still, Duration::from_secs(60)).await;
    }
}

async fn calls_go_on(still: Still, standstill: Duration) {
    let behaviour = Behaviour { tokens: 20, tokens_per_second: Some(100.0), ..Behaviour::default() };
    let upstream = SimUpstream::start(behaviour).await.unwrap();
    upstream.set_recording(false);
    let (redis, postgres) = tokio::join!(RedisServer::start(), PostgresServer::start());
    let options = SandboxOptions::apart(env!("CARGO_BIN_EXE_ez-api"), GATEWAYS);
    let options = options.set("EZ_REDIS_URL", redis.url()).set("EZ_DATABASE_URL", postgres.url());
    let sandbox = Sandbox::start(options).await.unwrap();
    let tenant = Tenant::create_with_every_protocol(&sandbox, &upstream).await.unwrap();

    let traffic = Traffic::start(&sandbox.every_gateway_as(&tenant.token), CALLERS);
    tokio::time::sleep(AROUND).await;
    if still != Still::Postgres {
        redis.pause();
    }
    if still != Still::Redis {
        postgres.pause();
    }
    let (stopped, mut before) = (Instant::now(), traffic.whole());
    while stopped.elapsed() < standstill {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = traffic.whole();
        assert!(now >= before + CALLERS, "{still:?}: {} calls in two seconds", now - before);
        before = now;
    }
    redis.resume();
    postgres.resume();
    tokio::time::sleep(AROUND).await;
    let tally = traffic.stop().await;
    assert!(tally.failed.is_empty(), "{still:?}: {} failed, first {:?}", tally.failed.len(), tally.failed.first());
    assert!(tally.cut.is_empty(), "{still:?}: {} cut, first {:?}", tally.cut.len(), tally.cut.first());

    changes_reach_every_gateway(&sandbox, &tenant).await;
    assert_accounted_once(&sandbox, &tally.whole, CONVERGENCE).await;
}

async fn changes_reach_every_gateway(sandbox: &Sandbox, tenant: &Tenant) {
    let admin = sandbox.admin();
    let path = format!("/admin/masters/{}/keys", tenant.master_id);
    let issued = admin.post(&path, &json!({"name": "issued afterwards"})).await.unwrap();
    for gateway in &sandbox.every_gateway_as(issued["token"].as_str().unwrap()) {
        let served = sandbox.eventually("later changes are followed", CONVERGENCE, || async move {
            Ok(gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await?.status.is_success())
        });
        served.await.unwrap();
    }
    let report = admin.post("/admin/sync/snapshot", &json!({})).await.unwrap();
    assert_eq!(report["repaired"], json!([]), "nothing was forgotten");
}
