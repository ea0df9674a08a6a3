//! Bad input at both planes: a clear error in the right shape, with a request id, and nothing lost.

use ez_testkit::sandbox::{Backends, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::json;

use crate::logs::{PLAIN, wait_for_logs};
use crate::{on_every_backend, start};

on_every_backend!(the_gateway_refuses_clearly, the_control_plane_refuses_clearly);

async fn the_gateway_refuses_clearly(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    let cases = [
        ("{\"model\":\"gpt-sim\",".to_owned(), 400, "invalid_json"),
        (r#"{"messages":[]}"#.to_owned(), 400, "missing_required_parameter"),
        (r#"{"model":"unheard-of","messages":[]}"#.to_owned(), 404, "model_not_found"),
        (format!("{{\"model\":\"gpt-sim\",\"x\":\"{}\"}}", "a".repeat(100 << 20)), 413, "request_too_large"),
    ];
    let count = cases.len();
    for (body, status, code) in cases {
        let answer = gateway.call(Method::POST, "/v1/chat/completions", body).await.unwrap();
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), &error["code"]), (status, &json!(code)), "{error}");
        assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"));
    }
    assert_eq!(upstream.request_count(), 0);
    let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
    assert!(answer.status.is_success(), "the gateway serves on: {}", answer.text());
    wait_for_logs(&sandbox, count + 1).await;
}

async fn the_control_plane_refuses_clearly(backends: Backends) {
    let sandbox = start(backends).await;
    let admin = sandbox.admin();
    let cases = [
        ("{\"name\":", 400, None),
        (r#"{"name":"a","nmae":"b"}"#, 422, Some("/nmae")),
        (r#"{"name":5}"#, 422, Some("/name")),
        (r#"{"name":"a","namespaces":["nowhere"],"default_namespace":"nowhere"}"#, 422, Some("/namespaces/0")),
    ];
    for (body, status, pointer) in cases {
        let answer = admin.call(Method::POST, "/admin/masters", body).await.unwrap();
        let problem = answer.json();
        assert_eq!(answer.status.as_u16(), status, "{problem}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
        if let Some(pointer) = pointer {
            let pointers: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| &e["pointer"]).collect();
            assert!(pointers.iter().any(|found| **found == pointer), "{pointer} in {problem}");
        }
    }
    let answer = admin.call(Method::POST, "/admin/masters", "a".repeat(100 << 20)).await.unwrap();
    assert_eq!(answer.status.as_u16(), 413, "{}", answer.text());
    let masters = admin.get("/admin/masters").await.unwrap();
    assert_eq!(masters["total"], 0, "nothing was half done");
    let nobody = sandbox.control_as("wrong-token-wrong-token");
    assert_eq!(nobody.call(Method::GET, "/admin/masters", "").await.unwrap().status.as_u16(), 401);
}
