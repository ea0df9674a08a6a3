//! Redis away: calls go on, changes wait, and everything converges by itself when it is back.

use std::time::Duration;

use ez_testkit::redis_server::RedisServer;
use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::json;

use crate::logs::{PLAIN, wait_for_logs};
use crate::options;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_dies_and_comes_back_empty_scaled() {
    redis_dies_and_comes_back_empty(Backends::Scaled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_dies_and_comes_back_empty_apart() {
    redis_dies_and_comes_back_empty(Backends::Apart).await;
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
