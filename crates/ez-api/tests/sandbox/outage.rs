//! Redis away, emptied or edited by hand: calls go on, changes wait, and everything converges by itself.

use std::time::Duration;

use ez_testkit::redis_server::RedisServer;
use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::json;

use crate::logs::{PLAIN, wait_for_logs};
use crate::options;

/// Within which what is published is as it should be again.
const CONVERGENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_dies_and_comes_back_empty_scaled() {
    redis_dies_and_comes_back_empty(Backends::Scaled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_dies_and_comes_back_empty_apart() {
    redis_dies_and_comes_back_empty(Backends::Apart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stops_and_goes_on_with_its_data_apart() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let redis = RedisServer::start().await;
    let sandbox = Sandbox::start(options(Backends::Apart).set("EZ_REDIS_URL", redis.url())).await.unwrap();
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = &sandbox.gateway_as(&tenant.token);
    let admin = &sandbox.admin();

    // It takes connections and answers nothing.
    redis.pause();
    let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
    assert!(answer.status.is_success(), "calls go on: {}", answer.text());
    let path = format!("/admin/masters/{}", tenant.master_id);
    admin.put(&path, &json!({"status": "suspended"})).await.unwrap();
    let failed = sandbox.eventually("publishing was tried", CONVERGENCE, || async move {
        let jobs = admin.get("/admin/jobs").await?;
        let outbox = jobs["items"].as_array().unwrap().iter().find(|job| job["name"] == "sync-outbox").unwrap();
        Ok(outbox["last_run"]["outcome"] == "failed")
    });
    failed.await.unwrap();
    redis.resume();
    let refused = sandbox.eventually("the change is published", CONVERGENCE, || async move {
        Ok(gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await?.status.is_client_error())
    });
    refused.await.unwrap();
    let report = admin.post("/admin/sync/snapshot", &json!({})).await.unwrap();
    assert_eq!(report["repaired"], json!([]), "nothing was forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_flushed_scaled() {
    redis_is_flushed(Backends::Scaled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_flushed_apart() {
    redis_is_flushed(Backends::Apart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_edited_by_hand_are_repaired_and_reported_scaled() {
    keys_that_were_edited_by_hand_are_repaired_and_reported(Backends::Scaled, "all").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_were_edited_by_hand_are_repaired_and_reported_apart() {
    keys_that_were_edited_by_hand_are_repaired_and_reported(Backends::Apart, "control").await;
}

async fn redis_dies_and_comes_back_empty(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut redis = RedisServer::start().await;
    // The shared server of the test run serves other tests; this one has its own to kill.
    let options = options(backends).set("EZ_REDIS_URL", redis.url()).set("EZ_JOB_FULL_RECONCILE_INTERVAL", "1s");
    let sandbox = Sandbox::start(options).await.unwrap();
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);

    redis.kill();
    for _ in 0..5 {
        let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
        assert!(answer.status.is_success(), "calls go on without Redis: {}", answer.text());
    }
    let admin = sandbox.admin();
    let path = format!("/admin/masters/{}/keys", tenant.master_id);
    let issued = admin.post(&path, &json!({"name": "issued while Redis was away"})).await.unwrap();
    wait_for_logs(&sandbox, 5).await;

    redis.restart().await;
    let newcomer = sandbox.gateway_as(issued["token"].as_str().unwrap());
    for (client, what) in [(&newcomer, "the change is published"), (&gateway, "what was there before is there again")] {
        let served = sandbox.eventually(what, Duration::from_secs(15), || async move {
            Ok(client.call(Method::POST, "/v1/chat/completions", PLAIN).await?.status.is_success())
        });
        served.await.unwrap();
    }
}

async fn redis_is_flushed(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let redis = RedisServer::start().await;
    // A full comparison is far away: the publisher notices by itself.
    let sandbox = Sandbox::start(options(backends).set("EZ_REDIS_URL", redis.url())).await.unwrap();
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    let admin = &sandbox.admin();
    let version = async || admin.get("/admin/sync/status").await.unwrap()["snapshot"]["version"].as_u64().unwrap();
    let before = version().await;

    redis.run(&["FLUSHALL"]);
    let published = sandbox.eventually("everything is published anew", CONVERGENCE, || async {
        let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await?;
        assert!(answer.status.is_success(), "calls go on meanwhile: {}", answer.text());
        Ok(version().await > before)
    });
    published.await.unwrap();
    let path = format!("/admin/masters/{}/keys", tenant.master_id);
    let issued = admin.post(&path, &json!({"name": "issued after the flush"})).await.unwrap();
    let newcomer = &sandbox.gateway_as(issued["token"].as_str().unwrap());
    let served = sandbox.eventually("later changes are followed", CONVERGENCE, || async move {
        Ok(newcomer.call(Method::POST, "/v1/chat/completions", PLAIN).await?.status.is_success())
    });
    served.await.unwrap();
    let report = admin.post("/admin/sync/snapshot", &json!({})).await.unwrap();
    assert_eq!(report["repaired"], json!([]), "nothing was forgotten");
}

async fn keys_that_were_edited_by_hand_are_repaired_and_reported(backends: Backends, control: &str) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let redis = RedisServer::start().await;
    let options = options(backends).set("EZ_REDIS_URL", redis.url()).set("EZ_JOB_FULL_RECONCILE_INTERVAL", "2s");
    let sandbox = Sandbox::start(options).await.unwrap();
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let admin = &sandbox.admin();
    let prefix = &sandbox.redis().unwrap().prefix;
    let (master, providers) =
        (format!("{prefix}auth:master:{}", tenant.master_id), format!("{prefix}config:providers"));
    let edited = redis.run(&["HKEYS", &providers]).lines().next().unwrap().to_owned();
    let content = redis.run(&["HGET", &providers, &edited]);
    // All at once, so that one comparison meets both.
    let edit = "redis.call('DEL', KEYS[1]) redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])";
    redis.run(&["EVAL", edit, "2", &master, &providers, &edited, &content.replace("127.0.0.1", "192.0.2.1")]);

    let expected = json!([
        {"kind": "provider", "id": edited, "drift": "differs"},
        {"kind": "master", "id": tenant.master_id.to_string(), "drift": "missing"},
    ]);
    let reported = sandbox.eventually("the drift is reported", CONVERGENCE, || async {
        let status = admin.get("/admin/sync/status").await?;
        let report = &status["last_reconcile"];
        Ok(report["repaired"] == expected && report["repairs"] == 2 && report["rebuilt"] == false)
    });
    reported.await.unwrap();
    assert_eq!(redis.run(&["HGET", &providers, &edited]), content);
    assert_eq!(redis.run(&["EXISTS", &master]), "1");
    let metrics = admin.call(Method::GET, "/metrics", "").await.unwrap().text();
    for drift in ["differs", "missing"] {
        let line = format!("ez_snapshot_repairs_total{{drift=\"{drift}\"}} 1");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let log = sandbox.log(control).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("differed from the database")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("WARN") && told[0].contains(&format!("differs provider {edited}")), "{told:?}");
}
