//! Request bodies: kept and shown while the flag is on, and at no other time.

use std::time::Duration;

use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use serde_json::json;

use crate::logs::{PLAIN, wait_for_logs};
use crate::{on_every_backend, start};

on_every_backend!(bodies_are_kept_while_the_flag_is_on);

/// How long a flag takes to reach everybody.
const CONVERGENCE: Duration = Duration::from_secs(20);

async fn bodies_are_kept_while_the_flag_is_on(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut sandbox = start(backends).await;
    let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
    let off = call(&sandbox, &tenant).await;
    assert_eq!(status_of_body(&sandbox, &off).await, StatusCode::NOT_FOUND);

    switch(&sandbox, true).await;
    let kept = &call_until(&sandbox, &tenant, StatusCode::OK).await;
    let body = sandbox.admin().get(&format!("/admin/logs/{kept}/body")).await.unwrap();
    assert_eq!(body["content"], PLAIN, "{body}");
    let facts = [&body["log_id"], &body["encoding"], &body["bytes"], &body["truncated"]];
    assert_eq!(facts, [&json!(kept), &json!("text"), &json!(PLAIN.len()), &json!(false)]);
    let master = sandbox.control_as(&tenant.master_key);
    let refused = master.call(Method::GET, &format!("/admin/logs/{kept}/body"), "").await.unwrap();
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "not even the master whose call it was");

    switch(&sandbox, false).await;
    call_until(&sandbox, &tenant, StatusCode::NOT_FOUND).await;
    sandbox.terminate().await.unwrap();
    assert!(sandbox.wait().await.unwrap().success());
    sandbox.restart().await.unwrap();
    assert_eq!(status_of_body(&sandbox, kept).await, StatusCode::OK, "what was kept stays");
}

async fn switch(sandbox: &Sandbox, is_on: bool) {
    sandbox.admin().put("/admin/features", &json!({"log_request_body_enabled": is_on})).await.unwrap();
}

/// Makes calls until the newest one's body is answered for with this status; the id of that call's log record.
async fn call_until(sandbox: &Sandbox, tenant: &Tenant, status: StatusCode) -> String {
    let found = &std::sync::Mutex::new(String::new());
    let converged = sandbox.eventually("the flag has reached everybody", CONVERGENCE, || async move {
        let id = call(sandbox, tenant).await;
        let answered = status_of_body(sandbox, &id).await;
        *found.lock().unwrap() = id;
        Ok(answered == status)
    });
    converged.await.unwrap();
    found.lock().unwrap().clone()
}

/// Makes a call, and waits for its log record; the record's id.
async fn call(sandbox: &Sandbox, tenant: &Tenant) -> String {
    let gateway = sandbox.gateway_as(&tenant.token);
    let before = sandbox.admin().get("/admin/logs?limit=200").await.unwrap()["items"].as_array().unwrap().len();
    let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
    assert!(answer.status.is_success(), "{}", answer.text());
    let records = wait_for_logs(sandbox, before + 1).await;
    let request_id = answer.header("x-request-id").unwrap();
    let record = records.iter().find(|record| record["request_id"] == request_id).unwrap();
    record["id"].as_str().unwrap().to_owned()
}

async fn status_of_body(sandbox: &Sandbox, log_id: &str) -> StatusCode {
    sandbox.admin().call(Method::GET, &format!("/admin/logs/{log_id}/body"), "").await.unwrap().status
}
