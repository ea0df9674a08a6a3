//! Statistics and the dashboard.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp, usage_record};

async fn hand_in(app: &TestApp, records: Vec<Value>) {
    let report = app.post(INTERNAL_TOKEN, "/internal/logs", json!({"records": records})).await.ok();
    assert_eq!(report["rejected"], json!([]));
}

async fn stats(app: &TestApp, query: &str) -> Value {
    app.get(ADMIN_TOKEN, &format!("/admin/logs/stats?{query}")).await.ok()
}

/// Key and requests of each item.
fn counts(answer: &Value) -> Vec<(Option<String>, u64)> {
    let items = answer["items"].as_array().unwrap().iter();
    items.map(|item| (item["key"].as_str().map(str::to_owned), item["requests"].as_u64().unwrap())).collect()
}

fn of(key: &str, requests: u64) -> (Option<String>, u64) {
    (Some(key.to_owned()), requests)
}

/// The clock of the app is at midnight of 2026-01-01.
fn before(minutes: i64) -> String {
    let now: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    (now - TimeDelta::minutes(minutes)).to_rfc3339()
}

/// Five calls of two masters within the last days.
async fn some_calls(app: &TestApp) -> (i64, i64) {
    let (first, _) = app.master("first").await;
    let (second, _) = app.master("second").await;
    let group = app.provider_group("openai-main").await;
    let call = |id: &str, minutes: i64, more: Value| {
        let mut record =
            usage_record(id, json!({"master_id": first, "group_id": group, "created_at": before(minutes)}));
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    hand_in(
        app,
        vec![
            call("a", 0, json!({"cost": "0.1000000000000000000000000001"})),
            call("b", 10, json!({"cost": "0.20", "cache_read_tokens": 5, "reasoning_tokens": 7})),
            call("c", 100, json!({"model": "o3", "latency_ms": 100, "first_byte_ms": null})),
            call("d", 60 * 24 * 6, json!({"status": 429, "ended_by": "limit", "group_id": null, "attempts": 0})),
            call("e", 60 * 24 * 40, json!({"master_id": second, "key_id": 6, "input_tokens": null})),
        ],
    )
    .await;
    (first, second)
}

pub(crate) async fn calls_are_added_up_by_what_is_asked(app: TestApp) {
    let (first, second) = some_calls(&app).await;
    insta::assert_json_snapshot!("stats_by_model", stats(&app, "").await);
    ez_control::rollups::run_once(&app.control).await.unwrap();
    insta::assert_json_snapshot!("stats_by_model", stats(&app, "group_by=model").await);

    let (first, second) = (first.to_string(), second.to_string());
    let by_master = stats(&app, "group_by=master").await;
    assert_eq!(counts(&by_master), [of(&first, 4), of(&second, 1)]);
    assert_eq!((&by_master["items"][0]["name"], &by_master["items"][1]["name"]), (&json!("first"), &json!("second")));
    assert_eq!(counts(&stats(&app, "group_by=key").await), [of("5", 4), of("6", 1)]);
    let by_provider = stats(&app, "group_by=provider").await;
    assert_eq!(counts(&by_provider)[1], (None, 1), "the call that a limit refused");
    assert_eq!(by_provider["items"][0]["name"], "openai-main");
    assert_eq!(
        counts(&stats(&app, "group_by=month").await),
        [of("2025-11-01T00:00:00Z", 1), of("2025-12-01T00:00:00Z", 3), of("2026-01-01T00:00:00Z", 1)]
    );
    assert_eq!(
        counts(&stats(&app, "group_by=day&limit=2").await),
        [of("2025-12-31T00:00:00Z", 2), of("2026-01-01T00:00:00Z", 1)]
    );
    assert_eq!(
        counts(&stats(&app, "group_by=hour&since=2025-12-31T00:00:00Z").await),
        [of("2025-12-31T22:00:00Z", 1), of("2025-12-31T23:00:00Z", 1), of("2026-01-01T00:00:00Z", 1)]
    );
    assert_eq!(
        counts(&stats(&app, "group_by=minute&since=2025-12-31T22:20:00Z&until=2026-01-01T00:00:00Z").await),
        [of("2025-12-31T22:20:00Z", 1), of("2025-12-31T23:50:00Z", 1)]
    );
    let top = stats(&app, "group_by=master&limit=1").await;
    assert_eq!((counts(&top).len(), &top["truncated"]), (1, &json!(true)));
    assert_eq!(counts(&stats(&app, &format!("group_by=model&master_id={first}&model=o3")).await), [of("o3", 1)]);
    assert_eq!(counts(&stats(&app, "group_by=day&key_id=6").await), [of("2025-11-22T00:00:00Z", 1)]);
    assert_eq!(counts(&stats(&app, "group_by=model&since=2026-01-01T00:00:01Z").await), []);
}

pub(crate) async fn what_would_read_too_much_is_refused(app: TestApp) {
    let get = async |query: &str| app.get(ADMIN_TOKEN, &format!("/admin/logs/stats?{query}")).await;
    for query in [
        "group_by=minute",
        "group_by=minute&until=2026-01-01T00:00:00Z",
        "group_by=minute&since=2025-12-31T17:59:59Z",
        "group_by=minute&since=2025-12-31T00:00:00Z&until=2025-12-31T06:00:01Z",
    ] {
        let problem = get(query).await.problem(StatusCode::BAD_REQUEST);
        assert_eq!(problem["code"], "too_much", "{query}");
        assert!(problem["detail"].as_str().unwrap().contains("6 hours"), "{problem}");
    }
    get("group_by=minute&since=2025-12-31T18:00:00Z").await.ok();
    for (query, pointer) in [
        ("group_by=hour", "/since"),
        ("group_by=hour&since=2025-11-30T23:59:59Z", "/since"),
        ("group_by=master&group_id=1&model=o3", "/since"),
        ("group_by=master&api_key_id=1&since=2025-12-30T23:59:59Z", "/since"),
        ("since=2025-12-31T00:00:00Z&until=2025-12-30T00:00:00Z", "/since"),
        ("limit=0", "/limit"),
        ("limit=1001", "/limit"),
        ("group_by=planet", "/group_by"),
        ("since=soon", "/since"),
        ("colour=red", "/colour"),
    ] {
        assert_eq!(get(query).await.faults(), [pointer], "{query}");
    }
    assert_eq!(get("limit=0&since=2&until=1").await.faults(), ["/limit", "/since"]);
    get("group_by=hour&since=2025-12-01T00:00:00Z").await.ok();
    get("group_by=master&api_key_id=1&since=2025-12-31T00:00:00Z").await.ok();
    // No end that is far away or in the wrong millennium makes it slow or fail.
    get("group_by=day&since=0000-01-01T00:00:00Z&until=9999-12-31T23:59:59Z").await.ok();
}

pub(crate) async fn masters_add_their_own_calls_up(app: TestApp) {
    let (first_id, first) = app.master("first").await;
    let (second_id, second) = app.master("second").await;
    let theirs = app.post(&first, "/v1/tokens", json!({"name": "first-key"})).await.created();
    hand_in(
        &app,
        vec![
            usage_record("a", json!({"master_id": first_id, "key_id": theirs["id"], "model": "secret-model"})),
            usage_record("b", json!({"master_id": second_id, "key_id": 77, "model": "gpt-4o"})),
        ],
    )
    .await;
    let own = async |token: &str, query: &str| app.get(token, &format!("/v1/logs/stats?{query}")).await;
    for is_rolled_up in [false, true] {
        assert_eq!(counts(&own(&first, "").await.ok()), [of("secret-model", 1)], "{is_rolled_up}");
        assert_eq!(counts(&own(&second, "").await.ok()), [of("gpt-4o", 1)]);
        let by_key = own(&first, "group_by=key").await.ok();
        assert_eq!(by_key["items"][0]["name"], "first-key");
        for probing in [format!("key_id={}", theirs["id"]), "model=secret-model".to_owned()] {
            let answer = own(&second, &probing).await.ok();
            assert_eq!(answer["items"], json!([]), "{probing}");
        }
        for by in ["key", "month", "day", "hour&since=2026-01-01T00:00:00Z", "minute&since=2026-01-01T00:00:00Z"] {
            let answer = own(&second, &format!("group_by={by}")).await.ok();
            assert_eq!(counts(&answer)[0].1, 1, "{by}");
            assert!(
                !answer.to_string().contains("secret-model") && !answer.to_string().contains("first-key"),
                "{answer}"
            );
        }
        ez_control::rollups::run_once(&app.control).await.unwrap();
    }
    for refused in ["group_by=provider", "group_by=master", "master_id=1", "group_id=1", "api_key_id=1"] {
        let pointer = format!("/{}", refused.split('=').next().unwrap());
        assert_eq!(own(&second, refused).await.faults(), [pointer], "{refused}");
    }
}

pub(crate) async fn the_dashboard_tells_of_days(app: TestApp) {
    some_calls(&app).await;
    let get = async |query: &str| app.get(ADMIN_TOKEN, &format!("/admin/dashboard/summary{query}")).await;
    for is_rolled_up in [false, true] {
        insta::assert_json_snapshot!("dashboard_of_30_days", get("?period=30d").await.ok());
        for (query, since, until, total) in [
            ("", json!("2026-01-01T00:00:00Z"), json!("2026-01-02T00:00:00Z"), 1),
            ("?period=today", json!("2026-01-01T00:00:00Z"), json!("2026-01-02T00:00:00Z"), 1),
            ("?period=7d", json!("2025-12-26T00:00:00Z"), json!("2026-01-02T00:00:00Z"), 4),
            ("?period=all", json!(null), json!(null), 5),
            (
                "?since=2025-12-31T22:20:00Z&until=2026-01-01T00:00:00Z",
                json!("2025-12-31T22:20:00Z"),
                json!("2026-01-01T00:00:00Z"),
                2,
            ),
            ("?until=2025-12-01T00:00:00Z", json!(null), json!("2025-12-01T00:00:00Z"), 1),
        ] {
            let told = get(query).await.ok();
            assert_eq!(told["period"], json!({"since": since, "until": until}), "{query}");
            assert_eq!(told["requests"]["total"], total, "{query}, rolled up: {is_rolled_up}");
        }
        ez_control::rollups::run_once(&app.control).await.unwrap();
    }
    app.clock.advance(std::time::Duration::from_secs(86_400 * 30));
    let later = get("?period=7d").await.ok();
    assert_eq!((&later["requests"]["total"], &later["requests"]["success_rate"]), (&json!(0), &json!(null)));
    assert_eq!((&later["cost"], &later["latency"]["p95_ms"]), (&json!(null), &json!(null)));
    assert_eq!(get("?period=7d&since=2025-01-01T00:00:00Z").await.faults(), ["/period"]);
    assert_eq!(get("?period=1y").await.faults(), ["/period"]);
    assert_eq!(get("?since=2&until=1").await.faults(), ["/since"]);
}
