//! Alerts: their life, their list, their thresholds, and what gateways report.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp};

fn alert(fingerprint: &str) -> Value {
    json!({"type": "error_spike", "severity": "warning", "title": "calls fail", "message": "12 of\n40",
        "related_type": "key", "related_id": 12, "related_name": "support-bot",
        "metadata": {"metric": "error_percent", "value": 30.5}, "fingerprint": fingerprint})
}

async fn create(app: &TestApp, body: Value) -> Value {
    app.post(ADMIN_TOKEN, "/admin/alerts", body).await.created()
}

async fn step(app: &TestApp, alert: &Value, step: &str) -> crate::support::Answer {
    app.call(Method::POST, &format!("/admin/alerts/{}/{step}", alert["id"])).token(ADMIN_TOKEN).send().await
}

pub(crate) async fn alerts_live_from_active_to_their_end(app: TestApp) {
    let created = create(&app, alert("a")).await;
    insta::assert_json_snapshot!("alert", created, {".id" => "[id]"});
    assert_eq!(app.get(ADMIN_TOKEN, &format!("/admin/alerts/{}", created["id"])).await.ok(), created);
    let refused = app.post(ADMIN_TOKEN, "/admin/alerts", alert("a")).await.problem(StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().unwrap().contains("fingerprint"), "{refused}");

    app.clock.advance(Duration::from_secs(60));
    let acked = step(&app, &created, "ack").await.ok();
    assert_eq!((&acked["status"], &acked["acked_by"]), (&json!("acknowledged"), &json!("admin")));
    assert_eq!((&acked["acked_at"], &acked["resolved_at"]), (&json!("2026-01-01T00:01:00Z"), &json!(null)));
    app.clock.advance(Duration::from_secs(60));
    assert_eq!(step(&app, &created, "ack").await.ok(), acked, "it stays with whom it was");
    let resolved = step(&app, &created, "resolve").await.ok();
    assert_eq!((&resolved["status"], &resolved["acked_at"]), (&json!("resolved"), &acked["acked_at"]));
    assert_eq!(resolved["resolved_at"], "2026-01-01T00:02:00Z");

    let straight = create(&app, alert("b")).await;
    let dismissed = step(&app, &straight, "dismiss").await.ok();
    assert_eq!((&dismissed["status"], &dismissed["acked_by"]), (&json!("dismissed"), &json!(null)));
    for (closed, word) in [(&created, "resolved"), (&straight, "dismissed")] {
        for move_on in ["ack", "resolve", "dismiss"] {
            let refused = step(&app, closed, move_on).await.problem(StatusCode::CONFLICT);
            assert!(refused["detail"].as_str().unwrap().contains(word), "{refused}");
        }
    }
    step(&app, &json!({"id": 999_999}), "ack").await.problem(StatusCode::NOT_FOUND);
    app.get(ADMIN_TOKEN, "/admin/alerts/999999").await.problem(StatusCode::NOT_FOUND);

    let audited = app.get(ADMIN_TOKEN, "/admin/audit?limit=5").await.ok();
    let told: Vec<_> = audited["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            format!("{} {} {}", entry["action"], entry["record_kind"], entry["after"]["status"]).replace('"', "")
        })
        .collect();
    let expected = [
        "dismiss alert dismissed",
        "create alert active",
        "resolve alert resolved",
        "acknowledge alert acknowledged",
        "create alert active",
    ];
    assert_eq!(told, expected);
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok()["outbox_depth"], 0, "no gateway knows of alerts");
    let stats = app.get(ADMIN_TOKEN, "/admin/alerts/stats").await.ok();
    assert_eq!((&stats["total"], &stats["by_status"]["resolved"]), (&json!(2), &json!(1)));
}

pub(crate) async fn alerts_are_listed_by_cursor_and_counted(app: TestApp) {
    for number in 0..5 {
        app.clock.advance(Duration::from_secs(1));
        let mut body = alert(&format!("f{number}"));
        if number % 2 == 1 {
            body["severity"] = json!("critical");
            body["type"] = json!("provider_down");
            body["related_type"] = json!("api_key");
        }
        create(&app, body).await;
    }
    let closed = app.get(ADMIN_TOKEN, "/admin/alerts?fingerprint=f4").await.ok()["items"][0].clone();
    step(&app, &closed, "resolve").await.ok();
    for (query, expected) in [
        ("limit=2", &["f4", "f3", "f2", "f1", "f0"][..]),
        ("status=active&limit=1", &["f3", "f2", "f1", "f0"]),
        ("status=resolved", &["f4"]),
        ("severity=critical", &["f3", "f1"]),
        ("type=error_spike", &["f4", "f2", "f0"]),
        ("related_type=api_key&related_id=12", &["f3", "f1"]),
        ("related_type=api_key&related_id=13", &[]),
        ("fingerprint=f2", &["f2"]),
        ("since=2026-01-01T00:00:02Z&until=1767225604", &["f2", "f1"]),
    ] {
        assert_eq!(walk(&app, query).await, expected, "{query}");
    }
    for (query, pointer) in [
        ("cursor=bG9nOjE3OmE", "/cursor"),
        ("limit=201", "/limit"),
        ("status=open", "/status"),
        ("search=x", "/search"),
        ("fingerprint=%00", "/fingerprint"),
    ] {
        assert_eq!(app.get(ADMIN_TOKEN, &format!("/admin/alerts?{query}")).await.faults(), [pointer], "{query}");
    }
    let stats = app.get(ADMIN_TOKEN, "/admin/alerts/stats").await.ok();
    insta::assert_json_snapshot!("alert_stats", stats);
}

/// The fingerprints on all stretches.
async fn walk(app: &TestApp, query: &str) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), String::new());
    loop {
        let stretch = app.get(ADMIN_TOKEN, &format!("/admin/alerts?{query}{next}")).await.ok();
        let items = stretch["items"].as_array().unwrap();
        found.extend(items.iter().map(|item| item["fingerprint"].as_str().unwrap().to_owned()));
        let Some(cursor) = stretch["next_cursor"].as_str() else { return found };
        next = format!("&cursor={cursor}");
    }
}

pub(crate) async fn faults_of_alerts_are_told_at_their_places(app: TestApp) {
    let big: String = "x".repeat(9000);
    let wrong = json!({"type": "system", "severity": "info", "title": "", "message": "a\u{0}b", "related_type": "API key",
        "related_name": " x", "metadata": {"text": big}, "fingerprint": ""});
    let faults = app.post(ADMIN_TOKEN, "/admin/alerts", wrong).await.faults();
    assert_eq!(faults, ["/fingerprint", "/message", "/metadata", "/related_name", "/related_type", "/title"]);
    for (field, value) in [
        ("type", json!("mood")),
        ("severity", json!("bad")),
        ("metadata", json!([1])),
        ("related_id", json!("12")),
        ("status", json!("active")),
    ] {
        let mut body = alert("a");
        body[field] = value;
        assert_eq!(app.post(ADMIN_TOKEN, "/admin/alerts", body).await.faults(), [format!("/{field}")]);
    }
    let bare = json!({"type": "system", "severity": "info", "title": "look"});
    for _ in 0..2 {
        let created = create(&app, bare.clone()).await;
        assert_eq!((&created["fingerprint"], &created["metadata"]), (&json!(null), &json!({})));
        assert_eq!((&created["message"], &created["related_id"]), (&json!(""), &json!(null)));
    }
}

pub(crate) async fn thresholds_are_a_flat_object_of_whole_numbers(app: TestApp) {
    const PATH: &str = "/admin/alerts/thresholds";
    let before = app.get(ADMIN_TOKEN, PATH).await.expect(StatusCode::OK);
    let tag = before.header("etag").to_owned();
    insta::assert_json_snapshot!("alert_thresholds", before.json());
    let changed = app.put(ADMIN_TOKEN, PATH, json!({"global_qps": 0, "quota_percent": 80})).await.ok();
    let mut expected = before.json();
    expected["global_qps"] = json!(0);
    expected["quota_percent"] = json!(80);
    assert_eq!(changed, expected);
    assert_eq!(app.put(ADMIN_TOKEN, PATH, json!({"master_rpm": 9})).await.ok()["quota_percent"], 80, "it merges");
    for (name, value) in [
        ("global_qps", json!(-1)),
        ("global_qps", json!(1.5)),
        ("global_qps", json!("100")),
        ("global_qps", json!(null)),
        ("master_tpd", json!(u64::MAX)),
        ("error_spike_percent", json!(101)),
        ("qps", json!(1)),
    ] {
        assert_eq!(app.put(ADMIN_TOKEN, PATH, json!({name: value})).await.faults(), [format!("/{name}")]);
    }
    let stale = app.call(Method::PUT, PATH).token(ADMIN_TOKEN).header("if-match", &tag).json(&json!({"master_rpm": 1}));
    stale.send().await.problem(StatusCode::PRECONDITION_FAILED);
    let dry = app.put(ADMIN_TOKEN, &format!("{PATH}?dry_run=true"), json!({"master_rpm": 1})).await.ok();
    assert_eq!(dry["master_rpm"], 1);
    assert_eq!(app.get(ADMIN_TOKEN, PATH).await.ok()["master_rpm"], 9);
    let audited = app.get(ADMIN_TOKEN, "/admin/audit?limit=1").await.ok()["items"][0].clone();
    assert_eq!((&audited["record_kind"], &audited["after"]["thresholds"]["master_rpm"]), (&json!("alert"), &json!(9)));
}

pub(crate) async fn alerts_of_gateways_are_taken_one_by_one(app: TestApp) {
    let mut newer = alert("a");
    newer["from_a_newer_gateway"] = json!(true);
    let report = json!({"alerts": [
        newer,
        {"type": "system", "severity": "critical", "title": "x"},
        "no alert",
        {"type": "system", "severity": "critical", "title": "", "fingerprint": "b"},
        {"type": "system", "severity": "critical", "title": "the disk is full", "fingerprint": " Kept: as given! ".trim()},
    ], "sequence": 7});
    let taken = app.post(INTERNAL_TOKEN, "/internal/alerts/report", report.clone()).await.ok();
    insta::assert_json_snapshot!("alerts_taken", taken);
    let again = app.post(INTERNAL_TOKEN, "/internal/alerts/report", report).await.ok();
    assert_eq!((&again["raised"], &again["updated"]), (&json!(0), &json!(2)));
    let listed = app.get(ADMIN_TOKEN, "/admin/alerts?fingerprint=Kept%3A%20as%20given!").await.ok();
    let kept = &listed["items"][0];
    assert_eq!((&kept["occurrences"], &kept["severity"]), (&json!(2), &json!("critical")));
    let many = json!({"alerts": vec![alert("c"); 101]});
    assert_eq!(app.post(INTERNAL_TOKEN, "/internal/alerts/report", many).await.faults(), ["/alerts"]);
}
