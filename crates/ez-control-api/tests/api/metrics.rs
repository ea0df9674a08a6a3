//! What the control plane counts of itself. Each test runs on one thread, so a recorder of that thread sees all of it.

use ez_contract::snapshot::GatewayHeartbeat;
use http::{Method, StatusCode};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::json;

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, METRICS_TOKEN, TestApp, clock_time, usage_record};

#[track_caller]
fn assert_shown(metrics: &PrometheusHandle, lines: &[&str]) {
    let text = metrics.render();
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} in {text}");
    }
}

pub(crate) async fn requests_are_counted_by_route_and_failed_sign_ins_by_door(app: TestApp) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (id, _) = app.master("acme").await;
    for wanted in [id, id, 999_999] {
        app.get(ADMIN_TOKEN, &format!("/admin/masters/{wanted}")).await;
    }
    app.get("nobody", "/admin/masters").await.problem(StatusCode::UNAUTHORIZED);
    app.get("nobody", "/internal/logs").await.problem(StatusCode::METHOD_NOT_ALLOWED);
    app.call(Method::POST, "/internal/heartbeat").token("nobody").send().await.problem(StatusCode::UNAUTHORIZED);
    app.call(Method::from_bytes(b"BREW").unwrap(), "/nowhere/at/all").send().await.problem(StatusCode::NOT_FOUND);
    assert_shown(
        &metrics,
        &[
            r#"ez_control_requests_total{route="/admin/masters",method="POST",status="2xx"} 1"#,
            r#"ez_control_requests_total{route="/admin/masters/{id}",method="GET",status="2xx"} 2"#,
            r#"ez_control_requests_total{route="/admin/masters/{id}",method="GET",status="4xx"} 1"#,
            r#"ez_control_requests_total{route="unmatched",method="other",status="4xx"} 1"#,
            r#"ez_control_request_duration_seconds_count{route="/admin/masters/{id}",method="GET"} 3"#,
            r#"ez_sign_in_failures_total{door="sign-in"} 1"#,
            r#"ez_sign_in_failures_total{door="internal"} 1"#,
        ],
    );
}

pub(crate) async fn ingestion_is_counted_by_outcome(app: TestApp) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let records = json!({"records": [usage_record("a", json!({})), usage_record("b", json!({})), {"id": "no record"}]});
    for _ in 0..2 {
        app.post(INTERNAL_TOKEN, "/internal/logs", records.clone()).await.ok();
    }
    assert_shown(
        &metrics,
        &[
            r#"ez_log_records_total{outcome="accepted"} 2"#,
            r#"ez_log_records_total{outcome="duplicate"} 2"#,
            r#"ez_log_records_total{outcome="rejected"} 2"#,
            "ez_log_batch_duration_seconds_count 2",
        ],
    );
}

pub(crate) async fn publication_is_looked_at_when_metrics_are_read(app: TestApp) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let read = async || app.get(METRICS_TOKEN, "/metrics").await.expect(StatusCode::OK);
    app.master("acme").await;
    let heartbeat = GatewayHeartbeat {
        node_id: "gw-1".to_owned(),
        version: "0.1.0".to_owned(),
        snapshot_version: 1,
        usage_log_depth: 0,
        seen_at: clock_time(&app.clock),
    };
    app.control.state().report_gateway(&heartbeat, std::time::Duration::from_secs(60)).await.unwrap();
    app.clock.advance(std::time::Duration::from_secs(7));
    read().await;
    assert_shown(
        &metrics,
        &[
            "ez_database_up 1",
            "ez_shared_state_up 1",
            "ez_outbox_depth 1",
            "ez_outbox_oldest_seconds 7",
            "ez_published_snapshot_version 0",
            "ez_gateways_seen 1",
        ],
    );

    app.post(ADMIN_TOKEN, "/admin/sync/snapshot", json!({})).await.ok();
    let version = app.control.state().meta().await.unwrap().version;
    read().await;
    assert_shown(&metrics, &[&format!("ez_published_snapshot_version {version}")]);

    app.control.store().clone().close().await.unwrap();
    read().await;
    assert_shown(&metrics, &["ez_database_up 0", "ez_shared_state_up 1", "ez_gateways_seen 1"]);
}
