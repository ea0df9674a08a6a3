//! What the process tells of itself, what gateways tell, and publication.

use std::sync::Arc;
use std::time::Duration;

use ez_control::publisher;
use ez_control_api::{ServedSnapshot, public_router};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, METRICS_TOKEN, TestApp, usage_record};

pub(crate) async fn process_routes_tell_what_runs(app: TestApp) {
    app.clock.advance(Duration::from_secs(90));
    let get = async |path: &str| app.call(Method::GET, path).send().await;
    insta::assert_json_snapshot!("status", get("/status").await.ok());
    insta::assert_json_snapshot!("about", get("/about").await.ok());
    insta::assert_json_snapshot!("ready", get("/readyz").await.ok());

    app.readiness.set_waiting("snapshot", "no snapshot is applied yet");
    let waiting = get("/readyz").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    insta::assert_json_snapshot!("not_ready", waiting, {".request_id" => "[request id]"});
    assert_eq!(get("/status").await.ok()["status"], "starting");
    app.readiness.set_ready("snapshot");
    get("/readyz").await.ok();

    let document = get("/openapi.json").await.expect(StatusCode::OK);
    assert_eq!(document.text(), ez_control_api::openapi_json());
    assert!(document.text().ends_with("}\n"));

    let mut process = app.process.clone();
    let confirmed_at = process.clock.now();
    process.served_snapshot = Arc::new(move || Some(ServedSnapshot { version: 42, source: "disk", confirmed_at }));
    app.clock.advance(Duration::from_secs(7));
    let gateway = public_router(process);
    let ready =
        gateway.clone().oneshot(Request::get("/readyz").body(axum::body::Body::empty()).unwrap()).await.unwrap();
    let ready = axum::body::to_bytes(ready.into_body(), 1 << 10).await.unwrap();
    let ready: Value = serde_json::from_slice(&ready).unwrap();
    let snapshot = json!({"version": 42, "source": "disk", "age_seconds": 7});
    assert_eq!(ready, json!({"status": "ok", "snapshot": snapshot}));
    let ask = async |path: &str, token: &str| {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        gateway.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap().status()
    };
    assert_eq!(ask("/status", "").await, StatusCode::OK);
    assert_eq!(ask("/metrics", METRICS_TOKEN).await, StatusCode::OK);
    assert_eq!(ask("/metrics", ADMIN_TOKEN).await, StatusCode::UNAUTHORIZED);
    assert_eq!(ask("/admin/masters", ADMIN_TOKEN).await, StatusCode::NOT_FOUND);
}

pub(crate) async fn gateways_hand_in_logs_once_and_report_themselves(app: TestApp) {
    let batch = json!({"records": [
        usage_record("log-1", json!({})),
        usage_record("log-2", json!({"from_a_newer_gateway": true})),
        {"id": "log-3"},
        "no record at all",
    ], "sequence": 7});
    let report = app.post(INTERNAL_TOKEN, "/internal/logs", batch.clone()).await.ok();
    insta::assert_json_snapshot!("ingest_report", report);
    let again = app.post(INTERNAL_TOKEN, "/internal/logs", batch).await.ok();
    assert_eq!((again["accepted"].as_u64(), again["duplicates"].as_u64()), (Some(0), Some(2)));
    app.get(ADMIN_TOKEN, "/admin/logs/log-2").await.ok();

    let heartbeat = json!({"node_id": "gateway-1", "version": "1.2.3", "snapshot_version": 17, "usage_log_depth": 3,
        "seen_at": "2000-01-01T00:00:00Z"});
    app.post(INTERNAL_TOKEN, "/internal/heartbeat", heartbeat).await.gone();
    let gateways = app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok()["gateways"].clone();
    insta::assert_json_snapshot!("gateways", gateways);
}

pub(crate) async fn publication_is_told_and_can_be_repeated(app: TestApp) {
    publisher::reconcile(&app.control).await.unwrap();
    let (master_id, _) = app.master("acme").await;
    let status = app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok();
    assert!(status["outbox_depth"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["oldest_entry_age_seconds"], 0);

    publisher::publish_due(&app.control).await.unwrap();
    let status = app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok();
    insta::assert_json_snapshot!("sync_status", status, {".snapshot.version" => "[version]", 
        ".last_reconcile.version" => "[version]", ".snapshot.published_at" => "[time]", ".snapshot.age_seconds" => "[age]"});

    let entry = ez_contract::snapshot::SnapshotKey::Master(master_id);
    let loss = ez_state::Publication {
        changes: vec![ez_contract::snapshot::SnapshotChange::Remove(entry)],
        scope: ez_state::Scope::Changes,
        base: None,
    };
    app.control.state().publish("somebody", app.control.now(), loss).await.unwrap();
    let report = app.post(ADMIN_TOKEN, "/admin/sync/snapshot", Value::Null).await.ok();
    insta::assert_json_snapshot!("repair", report, {".version" => "[version]", ".repaired[].id" => "[id]"});
    let report = app.post(ADMIN_TOKEN, "/admin/sync/snapshot", Value::Null).await.ok();
    assert_eq!(report["repaired"], json!([]));
}
