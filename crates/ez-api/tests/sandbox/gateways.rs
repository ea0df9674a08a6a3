//! Three gateways on one Redis and one control plane: what is changed for one is changed for all, within a second.

use std::time::{Duration, Instant};

use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::logs::PLAIN;

const GATEWAYS: usize = 3;

/// The promise: from the answer to the administrator until no gateway acts on the old state.
const REVOKED_WITHIN: Duration = Duration::from_secs(1);

pub(crate) async fn start_three() -> Sandbox {
    Sandbox::start(SandboxOptions::apart(env!("CARGO_BIN_EXE_ez-api"), GATEWAYS)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_stops_on_every_gateway_within_a_second() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start_three().await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let master = format!("/admin/masters/{}", tenant.master_id);
    let issue = async || sandbox.admin().post(&format!("{master}/keys"), &json!({"name": "app"})).await.unwrap();
    let keys = [issue().await, issue().await, issue().await];
    let path_of = |key: &serde_json::Value| format!("/admin/keys/{}", key["id"]);
    let changes = [
        (Method::DELETE, path_of(&keys[0]), json!(null), &keys[0]),
        (Method::PUT, path_of(&keys[1]), json!({"status": "suspended"}), &keys[1]),
        (Method::PUT, master.clone(), json!({"status": "suspended"}), &keys[2]),
    ];
    let mut slowest = Duration::ZERO;
    for (method, path, change, key) in changes {
        let gateways = sandbox.every_gateway_as(key["token"].as_str().unwrap());
        for gateway in &gateways {
            wait_for(gateway, StatusCode::OK, Duration::from_secs(10)).await;
        }
        let change = if change.is_null() { String::new() } else { change.to_string() };
        let answer = sandbox.admin().call(method, &path, change).await.unwrap();
        let answered = Instant::now();
        assert!(answer.status.is_success(), "{}", answer.text());
        let mut waiting = JoinSet::new();
        for gateway in gateways {
            waiting.spawn(async move {
                wait_for(&gateway, StatusCode::UNAUTHORIZED, REVOKED_WITHIN).await;
                answered.elapsed()
            });
        }
        slowest = waiting.join_all().await.into_iter().fold(slowest, Duration::max);
    }
    println!("the slowest gateway refused {slowest:?} after the administrator had the answer");
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
