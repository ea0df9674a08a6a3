//! Three gateways on one Redis and one control plane: what is changed for one is changed for all, within a second.

use std::time::{Duration, Instant};

use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::logs::PLAIN;

const GATEWAYS: usize = 3;

/// The promise: from the answer to the administrator until no gateway acts on the old state.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

/// What may pass until a new key is served.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_stops_on_every_gateway_within_a_second() {
    revoke_again_and_again(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_revocations_on_every_gateway() {
    revoke_again_and_again(100).await;
}

#[expect(clippy::print_stdout, reason = "the figure is what is asked for")]
async fn revoke_again_and_again(rounds: u32) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let options = SandboxOptions::apart(env!("CARGO_BIN_EXE_ez-api"), GATEWAYS);
    let sandbox = Sandbox::start(options).await.unwrap();
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        slowest = slowest.max(revoke_in_every_way(&sandbox, &tenant).await);
    }
    println!("the slowest gateway followed {slowest:?} after the administrator had the answer");
}

/// Each way to stop a key, on keys of their own; tells how long the slowest gateway took.
async fn revoke_in_every_way(sandbox: &Sandbox, tenant: &Tenant) -> Duration {
    let admin = sandbox.admin();
    let master = format!("/admin/masters/{}", tenant.master_id);
    let issue = async || admin.post(&format!("{master}/keys"), &json!({"name": "app"})).await.unwrap();
    let path_of = |key: &Value| format!("/admin/keys/{}", key["id"]);
    let (deleted, suspended, limited, orphaned) = (issue().await, issue().await, issue().await, issue().await);
    let suspend = json!({"status": "suspended"});
    let changes = [
        (Method::DELETE, path_of(&deleted), Value::Null, &deleted, StatusCode::UNAUTHORIZED),
        (Method::PUT, path_of(&suspended), suspend.clone(), &suspended, StatusCode::UNAUTHORIZED),
        (Method::PUT, path_of(&limited), json!({"rpd": 1}), &limited, StatusCode::TOO_MANY_REQUESTS),
        (Method::PUT, master.clone(), suspend, &orphaned, StatusCode::UNAUTHORIZED),
    ];
    let mut slowest = Duration::ZERO;
    for (method, path, change, key, expected) in changes {
        let gateways = sandbox.every_gateway_as(key["token"].as_str().unwrap());
        for gateway in &gateways {
            wait_for(gateway, StatusCode::OK, SERVED_WITHIN).await;
        }
        let change = if change.is_null() { String::new() } else { change.to_string() };
        let answer = admin.call(method, &path, change).await.unwrap();
        let answered = Instant::now();
        assert!(answer.status.is_success(), "{}", answer.text());
        let mut waiting = JoinSet::new();
        for gateway in gateways {
            waiting.spawn(async move {
                wait_for(&gateway, expected, REVOKED_WITHIN).await;
                answered.elapsed()
            });
        }
        slowest = waiting.join_all().await.into_iter().fold(slowest, Duration::max);
    }
    admin.put(&master, &json!({"status": "active"})).await.unwrap();
    slowest
}

/// Calls until the answer has this status.
async fn wait_for(gateway: &HttpClient, status: StatusCode, within: Duration) {
    let give_up = Instant::now() + within;
    loop {
        let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
        if answer.status == status {
            return;
        }
        assert!(Instant::now() < give_up, "{} answers {} after {within:?}", gateway.base_url(), answer.status);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
