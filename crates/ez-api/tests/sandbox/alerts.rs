//! Alerts of the real binary: what calls lead to, and what gateways report.

use std::time::Duration;

use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use ez_gateway::config::UpstreamTls;
use ez_gateway::{ControlLink, HttpControlLink};
use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{on_every_backend, options, start};

on_every_backend!(real_calls_raise_what_is_to_be_seen_and_nothing_else);

/// From a call until it can be in a window that is looked at.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

async fn alerts(admin: &HttpClient) -> anyhow::Result<Vec<Value>> {
    Ok(admin.get("/admin/alerts?limit=100").await?["items"].as_array().cloned().unwrap_or_default())
}

fn fingerprints(alerts: &[Value]) -> Vec<String> {
    let mut told: Vec<String> = alerts
        .iter()
        .map(|alert| {
            let text = |name: &str| alert[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("fingerprint"), text("severity"), text("related_name"))
        })
        .collect();
    told.sort();
    told
}

async fn call(sandbox: &Sandbox, tenant: &Tenant, model: &str) -> StatusCode {
    let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let gateway = sandbox.gateway_as(&tenant.token);
    gateway.call(Method::POST, "/v1/chat/completions", body).await.unwrap().status
}

async fn real_calls_raise_what_is_to_be_seen_and_nothing_else(backends: Backends) {
    let (works, fails) = (
        SimUpstream::start(Behaviour::default()).await.unwrap(),
        SimUpstream::start(Behaviour::status(503)).await.unwrap(),
    );
    // It runs when the test says so.
    let options = options(backends).set("EZ_JOB_ALERT_DETECTOR_INTERVAL", "1h").set("EZ_MAX_ATTEMPTS", "1");
    let sandbox = Sandbox::start(options).await.unwrap();
    let admin = &sandbox.admin();
    let thresholds = json!({"error_spike_min_requests": 5, "provider_down_min_requests": 1, "quota_percent": 100});
    admin.put("/admin/alerts/thresholds", &thresholds).await.unwrap();
    let limited = TenantPlan { key: json!({"rpd": 2}), ..TenantPlan::simple("limited", &works.openai_base_url()) };
    let limited = Tenant::create(&sandbox, &limited).await.unwrap();
    let spent = TenantPlan {
        key: json!({"quota_limit": 1}),
        models: vec![("gpt-spent".to_owned(), "sim-large".to_owned())],
        ..TenantPlan::simple("spent", &works.openai_base_url())
    };
    let spent = Tenant::create(&sandbox, &spent).await.unwrap();
    let failing = TenantPlan {
        secrets: vec!["sk-down".to_owned()],
        models: vec![("gpt-down".to_owned(), "sim-large".to_owned())],
        ..TenantPlan::simple("failing", &fails.openai_base_url())
    };
    let failing = Tenant::create(&sandbox, &failing).await.unwrap();
    let api_keys = admin.get(&format!("/admin/api-keys?group_id={}", failing.group_id)).await.unwrap();
    let api_key = api_keys["items"][0]["id"].as_i64().unwrap();

    let statuses = [
        call(&sandbox, &limited, "gpt-sim").await,
        call(&sandbox, &limited, "gpt-sim").await,
        call(&sandbox, &limited, "gpt-sim").await,
        call(&sandbox, &spent, "gpt-spent").await,
        call(&sandbox, &spent, "gpt-spent").await,
    ];
    assert_eq!(statuses.map(|status| status.as_u16()), [200, 200, 429, 200, 429]);
    for _ in 0..5 {
        assert!(call(&sandbox, &failing, "gpt-down").await.is_server_error());
    }
    let (master, key, other) = (limited.master_id, failing.key_id, spent.key_id);
    let mut expected = vec![
        format!("error_spike:key:{key} critical app"),
        format!("provider_down:api_key:{api_key} critical "),
        format!("quota:key:{other} critical app"),
        format!("rate_limit:master:{master} warning limited"),
    ];
    expected.sort();
    let told = sandbox.eventually("what happened is found", FOUND_WITHIN, || async {
        admin.call(Method::POST, "/admin/jobs/alert-detector/run", "").await?;
        Ok(fingerprints(&alerts(admin).await?) == expected)
    });
    let seen = told.await;
    let listed = alerts(admin).await.unwrap();
    assert!(seen.is_ok(), "{:?} are told of {expected:?}", fingerprints(&listed));
    let limits = listed.iter().find(|alert| alert["type"] == "rate_limit").unwrap();
    let expected_limits = json!({"metric": "limited_requests", "value": 1, "threshold": 1, "window": 60,
        "keys": [limited.key_id], "limits": ["rpd"]});
    assert_eq!(limits["metadata"], expected_limits);
    // Looking again makes no other.
    admin.call(Method::POST, "/admin/jobs/alert-detector/run", "").await.unwrap();
    assert_eq!(fingerprints(&alerts(admin).await.unwrap()), expected);
}

fn reported(title: &str, fingerprint: &str) -> AlertFinding {
    AlertFinding {
        alert_type: AlertType::System,
        severity: AlertSeverity::Warning,
        title: title.to_owned(),
        message: String::new(),
        related_type: Some("gateway".to_owned()),
        related_id: None,
        related_name: Some("gateway-1".to_owned()),
        metadata: serde_json::Map::new(),
        fingerprint: fingerprint.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_reports_arrives_and_it_hears_what_was_rejected() {
    let sandbox = start(Backends::Apart).await;
    let tls = UpstreamTls::new(None).unwrap();
    let link = HttpControlLink::new(sandbox.control_url(), "sandbox-internal-token-0123456789", tls).unwrap();
    let fine = reported("a fault", "system:one:gateway:gateway-1");
    let refused = link.report_alerts(&[fine.clone(), reported("", "system:two:gateway:gateway-1")]).await;
    let refused = refused.unwrap_err().to_string();
    assert_eq!(refused, "the control plane refused: it rejected 1 of 2 alerts: alert 1: `title` must not be empty");
    link.report_alerts(&[fine]).await.unwrap();
    let listed = alerts(&sandbox.admin()).await.unwrap();
    assert_eq!(fingerprints(&listed), ["system:one:gateway:gateway-1 warning gateway-1"]);
    assert_eq!(listed[0]["occurrences"], 2);
}
