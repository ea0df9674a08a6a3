//! The account of a call: in the database, shown to the admin and to its master, and to nobody else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, Rule, SimUpstream};
use http::Method;
use serde_json::{Value, json};

use crate::{on_every_backend, start};

on_every_backend!(a_call_is_accounted_for, a_revoked_key_stops_at_once, secrets_stay_secret);

pub(crate) const PLAIN: &str = r#"{"model":"gpt-sim","messages":[{"role":"user","content":"hi"}]}"#;
pub(crate) const STREAM: &str = r#"{"model":"gpt-sim","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// Every log record that `client` may see, read page by page.
pub(crate) async fn all_logs(client: &HttpClient, path: &str) -> Vec<Value> {
    let mut records = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("{path}?limit=200{cursor}")).await.unwrap();
        records.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return records,
        }
    }
}

/// Waits until exactly `count` records are there.
pub(crate) async fn wait_for_logs(sandbox: &Sandbox, count: usize) -> Vec<Value> {
    let admin = sandbox.admin();
    let admin = &admin;
    let arrived = sandbox.eventually("the usage records arrive", Duration::from_secs(20), || async move {
        Ok(all_logs(admin, "/admin/logs").await.len() >= count)
    });
    arrived.await.unwrap();
    let records = all_logs(admin, "/admin/logs").await;
    assert_eq!(records.len(), count);
    records
}

async fn a_call_is_accounted_for(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);

    upstream.rule(Rule::any(Behaviour::status(503)).times(1));
    let plain = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
    assert!(plain.status.is_success(), "{}", plain.text());
    let stream = gateway.call(Method::POST, "/v1/chat/completions", STREAM).await.unwrap();
    assert!(stream.text().ends_with("data: [DONE]\n\n"));

    let records = wait_for_logs(&sandbox, 2).await;
    let of = |answer: &ez_testkit::http_client::Answer| {
        let id = answer.header("x-request-id").unwrap();
        records.iter().find(|record| record["request_id"] == id).unwrap().clone()
    };
    let (plain_record, stream_record) = (of(&plain), of(&stream));
    let usage = plain.json()["usage"].clone();
    for (field, expected) in [
        ("master_id", json!(tenant.master_id)),
        ("key_id", json!(tenant.key_id)),
        ("group_id", json!(tenant.group_id)),
        ("namespace", json!("default")),
        ("model", json!("gpt-sim")),
        ("upstream_model", json!("sim-large")),
        ("protocol", json!("openai-chat")),
        ("status", json!(200)),
        ("stream", json!(false)),
        ("attempts", json!(2)),
        ("ended_by", json!("complete")),
        ("usage_source", json!("exact")),
        ("input_tokens", usage["prompt_tokens"].clone()),
        ("output_tokens", usage["completion_tokens"].clone()),
        ("cost", Value::Null),
    ] {
        assert_eq!(plain_record[field], expected, "{field} of {plain_record}");
    }
    assert_eq!((&stream_record["stream"], &stream_record["output_tokens"]), (&json!(true), &json!(16)));

    let admin = &sandbox.admin();
    let seen = sandbox.eventually("the gateway is seen with its snapshot", Duration::from_secs(15), || async move {
        let status = admin.get("/admin/sync/status").await?;
        Ok(status["gateways"][0]["snapshot_version"].as_u64().is_some_and(|version| version > 0))
    });
    seen.await.unwrap();

    let own = all_logs(&sandbox.control_as(&tenant.master_key), "/v1/logs").await;
    assert_eq!(own.len(), 2);
    let other = sandbox.admin().post("/admin/masters", &json!({"name": "other"})).await.unwrap();
    let other = sandbox.control_as(other["master_key"].as_str().unwrap());
    assert!(all_logs(&other, "/v1/logs").await.is_empty(), "a master sees its own records only");
}

async fn a_revoked_key_stops_at_once(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let master = sandbox.control_as(&tenant.master_key);
    let own = master.post("/v1/tokens", &json!({"name": "issued by the master"})).await.unwrap();
    assert_eq!(own["issued_by"], "master");
    for (token, revoke) in [
        (own["token"].as_str().unwrap().to_owned(), (Method::DELETE, format!("/v1/tokens/{}", own["id"]))),
        (tenant.token.clone(), (Method::POST, format!("/admin/masters/{}/revoke-keys", tenant.master_id))),
    ] {
        let gateway = sandbox.gateway_as(&token);
        let gateway = &gateway;
        let is_refused = || async move {
            let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await?;
            Ok(answer.status == http::StatusCode::UNAUTHORIZED)
        };
        sandbox
            .eventually("the new key works", Duration::from_secs(5), || async move { Ok(!is_refused().await?) })
            .await
            .unwrap();
        let by = if revoke.1.starts_with("/v1") { &master } else { &sandbox.admin() };
        let answer = by.call(revoke.0, &revoke.1, "").await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
        sandbox.eventually("the key is dead", Duration::from_secs(1), is_refused).await.unwrap();
    }
}

/// A request with a text that is only to be found where request bodies are kept, and one that is no JSON.
const PROMPT: &str = r#"{"model":"gpt-sim","messages":[{"role":"user","content":"canary-prompt"}]}"#;
const BROKEN_PROMPT: &str = r#"{"model":"gpt-sim","messages":[canary-prompt]}"#;

/// A canary in every secret, looked for in everything that the process writes and stores, and one in what is asked of a
/// model, which is kept with its call and told nowhere else.
async fn secrets_stay_secret(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let options = crate::options(backends).set("EZ_LOG_LEVEL", "trace");
    let sandbox = Sandbox::start(options).await.unwrap();
    let plan = TenantPlan {
        secrets: vec!["sk-canary-upstream".to_owned()],
        ..TenantPlan::simple("acme", &upstream.openai_base_url())
    };
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    let admin = &sandbox.admin();
    admin.put("/admin/features", &json!({"log_request_body_enabled": true})).await.unwrap();
    let (gateway, sandbox, calls) = (&gateway, &sandbox, &AtomicUsize::new(0));
    let kept = sandbox.eventually("the prompt is kept", Duration::from_secs(20), || async move {
        let answer = gateway.call(Method::POST, "/v1/chat/completions", PROMPT).await?;
        assert!(answer.status.is_success());
        let broken = gateway.call(Method::POST, "/v1/chat/completions", BROKEN_PROMPT).await?;
        assert_eq!(broken.status, http::StatusCode::BAD_REQUEST);
        let records = wait_for_logs(sandbox, calls.fetch_add(2, Ordering::SeqCst) + 2).await;
        let path = format!("/admin/logs/{}/body", records[0]["id"].as_str().unwrap());
        let body = admin.call(Method::GET, &path, "").await?;
        Ok(body.status.is_success() && body.text().contains("canary-prompt"))
    });
    kept.await.unwrap();
    let mut shown = String::new();
    for path in
        ["/admin/api-keys", "/admin/masters", "/admin/keys", "/admin/audit", "/admin/logs", "/admin/sync/status"]
    {
        shown.push_str(&admin.get(path).await.unwrap().to_string());
    }
    let (mut stored, mut told) = (Vec::new(), Vec::new());
    for entry in walk(sandbox.data_dir()) {
        let bytes = std::fs::read(&entry).unwrap();
        let tells = entry.extension().is_some_and(|extension| extension == "log" || extension == "jsonl");
        told.extend(bytes.iter().filter(|_| tells));
        stored.extend(bytes);
    }
    shown.push_str(&sandbox.gateway_process().call(Method::GET, "/metrics", "").await.unwrap().text());
    let told = String::from_utf8_lossy(&told);
    assert!(told.contains("TRACE"), "the logs of every level are looked through");
    assert!(!told.contains("canary-prompt") && !shown.contains("canary-prompt"), "what was asked of a model");
    for secret in ["sk-canary-upstream", &tenant.token, &tenant.master_key, sandbox.admin_token()] {
        assert!(!shown.contains(secret), "shown by the admin API");
        let is_stored = stored.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!is_stored, "in the data directory or the log: {}…", &secret[..6]);
    }
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
