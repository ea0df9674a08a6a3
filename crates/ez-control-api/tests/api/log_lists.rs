//! Lists of log records, and their deletion.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{ADMIN_TOKEN, Answer, INTERNAL_TOKEN, TestApp, usage_record};

async fn hand_in(app: &TestApp, records: &[Value]) {
    let report = app.post(INTERNAL_TOKEN, "/internal/logs", json!({ "records": records })).await.ok();
    assert_eq!(report["accepted"], records.len(), "{report}");
}

async fn found(app: &TestApp, token: &str, path: &str) -> Vec<String> {
    ids(&app.get(token, path).await.ok())
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn log_records_are_found_by_whatever_they_have(app: TestApp) {
    hand_in(
        &app,
        &[
            usage_record("plain", json!({})),
            usage_record("full", json!({"status": 503, "error": "Upstream: disk 100% full", "group_id": 8})),
            usage_record("slow", json!({"status": 504, "error": "upstream_timeout", "api_key_id": 43, "key_id": 6})),
            usage_record("left", json!({"status": 499, "master_id": 3, "key_id": 9, "request_id": "req-9"})),
            usage_record("early", json!({"created_at": "2025-12-31T23:59:59Z", "model": "o3"})),
        ],
    )
    .await;
    for (query, expected) in [
        ("master_id=3", &["left"][..]),
        ("key_id=6", &["slow"]),
        ("group_id=8", &["full"]),
        ("api_key_id=43", &["slow"]),
        ("model=o3", &["early"]),
        ("status=503", &["full"]),
        ("status=4xx", &["left"]),
        ("status=5xx", &["slow", "full"]),
        ("status=5xx&api_key_id=43", &["slow"]),
        ("error=UPSTREAM", &["slow", "full"]),
        ("error=100%25", &["full"]),
        ("error=%25", &["full"]),
        ("error=_", &["slow"]),
        ("error=%5C", &[]),
        ("error=disk&status=504", &[]),
        ("request_id=req-9", &["left"]),
        ("request_id=req-9&master_id=2", &[]),
        ("until=2026-01-01T00:00:00Z", &["early"]),
        ("since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:00Z", &[]),
        ("since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z&model=o3", &["early"]),
        ("since=1900-01-01T00:00:00Z", &["slow", "plain", "left", "full", "early"]),
    ] {
        assert_eq!(found(&app, ADMIN_TOKEN, &format!("/admin/logs?{query}")).await, expected, "{query}");
    }
}

/// A cursor as this list would make it, for whatever place.
fn cursor(sum: &str, place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{sum}{place}"))
}

pub(crate) async fn hostile_lists_are_answered_or_refused_by_field(app: TestApp) {
    let (_, master) = app.master("acme").await;
    let records: Vec<Value> = (0..4).map(|n| usage_record(&format!("log-{n}"), json!({}))).collect();
    hand_in(&app, &records).await;
    let page = app.get(ADMIN_TOKEN, "/admin/logs?limit=2").await.ok();
    let whole = page["next_cursor"].as_str().unwrap();
    app.post(ADMIN_TOKEN, "/admin/namespaces", json!({"name": "one"})).await.created();
    app.post(ADMIN_TOKEN, "/admin/namespaces", json!({"name": "two"})).await.created();
    let of_audit = app.get(ADMIN_TOKEN, "/admin/audit?limit=1").await.ok()["next_cursor"].as_str().unwrap().to_owned();

    let (half, doubled) = (&whole[..whole.len() - 2], format!("{whole}{whole}"));
    let (padded, unsummed) = (format!("{whole}=="), cursor("", "log:1767225600000000:log-1"));
    let (missummed, nul) = (cursor("00000000", "log:1767225600000000:log-1"), cursor("00000000", "log:1:\0"));
    let long = "x".repeat(201);
    for (query, field) in [
        (format!("cursor={half}"), "/cursor"),
        (format!("cursor={doubled}"), "/cursor"),
        (format!("cursor={padded}"), "/cursor"),
        (format!("cursor={of_audit}"), "/cursor"),
        (format!("cursor={unsummed}"), "/cursor"),
        (format!("cursor={missummed}"), "/cursor"),
        (format!("cursor={nul}"), "/cursor"),
        ("cursor=".to_owned(), "/cursor"),
        ("cursor=%F0%9F%98%80".to_owned(), "/cursor"),
        (format!("cursor={}", "A".repeat(8_000)), "/cursor"),
        ("limit=0".to_owned(), "/limit"),
        ("limit=201".to_owned(), "/limit"),
        ("limit=-1".to_owned(), "/limit"),
        ("limit=99999999999999999999".to_owned(), "/limit"),
        ("error=".to_owned(), "/error"),
        (format!("error={long}"), "/error"),
        ("error=%00".to_owned(), "/error"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z".to_owned(), "/until"),
        ("since=-99999999999999".to_owned(), "/since"),
        ("until=soon".to_owned(), "/until"),
        ("status=6xx".to_owned(), "/status"),
        ("status=4xx5xx".to_owned(), "/status"),
        ("key_id=9223372036854775808".to_owned(), "/key_id"),
        ("key_id=1&key_id=2".to_owned(), "/key_id"),
        ("sort=model".to_owned(), "/sort"),
    ] {
        for (token, path) in [(ADMIN_TOKEN, "/admin/logs"), (&*master, "/v1/logs")] {
            let answer = app.get(token, &format!("{path}?{query}")).await;
            let shown: String = query.chars().take(60).collect();
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}?{shown}");
            assert_eq!(answer.faults(), [field], "{path}?{shown}");
        }
    }
    // What can be asked for and finds nothing.
    let wild = "%25".repeat(200);
    for query in [
        format!("error={wild}"),
        format!("model={}", "x".repeat(5_000)),
        "request_id=%27%3B%20DROP%20TABLE%20logs%3B--".to_owned(),
        "key_id=-9223372036854775808".to_owned(),
        "since=9999-01-01T00:00:00Z".to_owned(),
    ] {
        let page = app.get(ADMIN_TOKEN, &format!("/admin/logs?{query}")).await.ok();
        assert_eq!(page, json!({"items": [], "next_cursor": null}), "{query}");
    }
    assert_eq!(found(&app, ADMIN_TOKEN, &format!("/admin/logs?cursor={whole}")).await, ["log-1", "log-0"]);
}

pub(crate) async fn masters_find_their_own_log_records_alone(app: TestApp) {
    let (first_id, first) = app.master("first").await;
    let (second_id, second) = app.master("second").await;
    let fails = json!({"status": 500, "error": "secret of the first"});
    let of = |id: &str, master_id: i64, key_id: i64| {
        let mut record = usage_record(id, fails.clone());
        (record["master_id"], record["key_id"]) = (json!(master_id), json!(key_id));
        record
    };
    hand_in(&app, &[of("theirs", first_id, 11), of("own", second_id, 12)]).await;
    for query in ["", "status=5xx", "error=secret", "request_id=req-1", "model=gpt-4o", "since=0"] {
        assert_eq!(found(&app, &first, &format!("/v1/logs?{query}")).await, ["theirs"], "{query}");
        assert_eq!(found(&app, &second, &format!("/v1/logs?{query}")).await, ["own"], "{query}");
    }
    for query in ["key_id=11", "key_id=11&status=5xx", "key_id=11&request_id=req-1", "key_id=999"] {
        let page = app.get(&second, &format!("/v1/logs?{query}")).await.ok();
        assert_eq!(page, json!({"items": [], "next_cursor": null}), "{query}");
    }
    assert_eq!(found(&app, &second, "/v1/logs?key_id=12").await, ["own"]);
    // The cursor of another list leads nowhere but into the own one.
    let page = app.get(ADMIN_TOKEN, "/admin/logs?limit=1").await.ok();
    assert_eq!(ids(&page), ["theirs"]);
    let next = page["next_cursor"].as_str().unwrap();
    assert_eq!(found(&app, &first, &format!("/v1/logs?cursor={next}")).await, [""; 0]);
    for field in ["master_id=1", "group_id=7", "api_key_id=42"] {
        app.get(&second, &format!("/v1/logs?{field}")).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
}

pub(crate) async fn old_log_records_are_deleted_in_the_background(app: TestApp) {
    let at = |day: u32| format!("2025-12-{day}T12:00:00Z");
    let records: Vec<Value> =
        (26..31).map(|day| usage_record(&format!("of-{day}"), json!({"created_at": at(day)}))).collect();
    hand_in(&app, &records).await;
    let delete = async |query: &str| -> Answer { app.delete(ADMIN_TOKEN, &format!("/admin/logs{query}")).await };
    for (query, field) in [
        ("", "/before"),
        ("?before=yesterday", "/before"),
        ("?before=2999-01-01T00:00:00Z", "/before"),
        ("?before=0&until=1", "/until"),
    ] {
        assert_eq!(delete(query).await.faults(), [field], "{query}");
    }
    let dry = delete("?before=2025-12-28T12:00:00Z&dry_run=true").await;
    assert_eq!(dry.header("x-dry-run"), "true");
    let told = json!({"before": "2025-12-28T12:00:00Z", "records": 2, "has_more": false});
    assert_eq!(dry.ok(), told);
    assert_eq!(delete("?before=2025-12-28T12:00:00Z").await.ok(), told);
    // An earlier time takes nothing back.
    assert_eq!(delete("?before=2025-12-27T00:00:00Z").await.ok()["records"], 1);
    let audited = app.get(ADMIN_TOKEN, "/admin/audit?limit=2").await.ok();
    let entry = &audited["items"][1];
    assert_eq!((&entry["action"], &entry["record_kind"], &entry["after"]), (&json!("delete"), &json!("log"), &told));

    app.sql("DELETE FROM log_batches").await;
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    running.spawn(app.scheduler.clone().run(stop.clone()));
    until_listed(&app, &["of-30", "of-29", "of-28"]).await;
    // A running scheduler is told at once.
    delete("?before=2025-12-30T12:00:00Z").await.ok();
    until_listed(&app, &["of-30"]).await;
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}

async fn until_listed(app: &TestApp, expected: &[&str]) {
    let waiting = async {
        while found(app, ADMIN_TOKEN, "/admin/logs").await != expected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("they go");
}
