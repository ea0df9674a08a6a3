//! Counts that gateways hand in, and what API keys add up to.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp, usage_record};

const API_KEYS: &str = "/internal/apikey-stats/flush";
const KEYS: &str = "/internal/stats/flush";

async fn api_key(app: &TestApp, group_id: i64, secret: &str) -> i64 {
    let wish = json!({"group_id": group_id, "api_key": secret});
    app.post(ADMIN_TOKEN, "/admin/api-keys", wish).await.created()["id"].as_i64().unwrap()
}

fn delta(api_key_id: i64, successes: u64, failures: u64, last_used_at: &str) -> Value {
    let requests = successes + failures;
    json!({"api_key_id": api_key_id, "requests": requests, "successes": successes, "failures": failures,
        "last_used_at": last_used_at})
}

/// The counters of a record, and everything else of it.
async fn counted(app: &TestApp, path: &str) -> (Value, Value) {
    let mut record = app.get(ADMIN_TOKEN, path).await.ok();
    let fields = record.as_object_mut().unwrap();
    let counters = ["total_requests", "success_requests", "failure_requests", "success_rate", "last_used_at"];
    let counters = counters.map(|name| fields.remove(name).unwrap());
    fields.remove("failure_rate").unwrap();
    (json!(counters), record)
}

pub(crate) async fn attempts_add_to_api_keys_and_their_groups_once(app: TestApp) {
    let group = app.provider_group("openai").await;
    let keys = [api_key(&app, group, "sk-1").await, api_key(&app, group, "sk-2").await];
    let (key_path, group_path) = (format!("/admin/api-keys/{}", keys[0]), format!("/admin/provider-groups/{group}"));
    let tag = async |path: &str| app.get(ADMIN_TOKEN, path).await.header("etag").to_owned();
    let (tags, audited) = ([tag(&key_path).await, tag(&group_path).await], app.rows("audit").await);
    let (outbox, [key_before, group_before]) =
        (app.rows("outbox").await, [counted(&app, &key_path).await.1, counted(&app, &group_path).await.1]);

    // The clock of the second gateway is ahead.
    let batch = json!({"batch_id": "b-1", "from_a_newer_gateway": true, "deltas": [
        delta(keys[0], 3, 1, "2025-12-31T23:59:00Z"),
        delta(keys[1], 0, 2, "2030-01-01T00:00:00Z"),
        delta(777_777, 1, 0, "2025-12-31T23:59:00Z"),
        delta(keys[0], 2, 0, "2025-12-31T23:58:00Z"),
    ]});
    let taken = app.post(INTERNAL_TOKEN, API_KEYS, batch.clone()).await.ok();
    assert_eq!(taken, json!({"applied": 3, "unknown": [777_777], "repeated": false}));
    let again = app.post(INTERNAL_TOKEN, API_KEYS, batch).await.ok();
    assert_eq!(again, json!({"applied": 0, "unknown": [], "repeated": true}));

    let (counters, rest) = counted(&app, &key_path).await;
    assert_eq!(counters, json!([6, 5, 1, 5.0 / 6.0, "2025-12-31T23:59:00Z"]));
    assert_eq!(rest, key_before, "use is no change");
    let (counters, rest) = counted(&app, &group_path).await;
    assert_eq!(counters, json!([8, 5, 3, 0.625, "2026-01-01T00:00:00Z"]));
    assert_eq!(rest, group_before);
    assert_eq!([tag(&key_path).await, tag(&group_path).await], tags);
    assert_eq!((app.rows("audit").await, app.rows("outbox").await), (audited, outbox));

    let next = json!({"batch_id": "b-2", "deltas": [delta(keys[0], 1, 0, "2025-12-31T00:00:00Z")]});
    app.post(INTERNAL_TOKEN, API_KEYS, next).await.ok();
    assert_eq!(counted(&app, &key_path).await.0, json!([7, 6, 1, 6.0 / 7.0, "2025-12-31T23:59:00Z"]));
}

pub(crate) async fn use_of_keys_counts_once_and_fills_quotas(app: TestApp) {
    let (master_id, _) = app.master("acme").await;
    let wish = json!({"quota_limit": 100});
    let key = app.post(ADMIN_TOKEN, &format!("/admin/masters/{master_id}/keys"), wish).await.created();
    let path = format!("/admin/keys/{}", key["id"]);
    let batch = |batch_id: &str, tokens: u64| {
        json!({"batch_id": batch_id, "deltas": [
            {"key_id": key["id"], "requests": 2, "input_tokens": tokens, "output_tokens": 9,
                "last_used_at": "2026-01-01T00:00:00Z", "spend": "0.5"},
            {"key_id": 888_888, "requests": 1, "input_tokens": 1, "output_tokens": 1,
                "last_used_at": "2026-01-01T00:00:00Z"},
        ]})
    };
    let taken = app.post(INTERNAL_TOKEN, KEYS, batch("b-1", 50)).await.ok();
    assert_eq!(taken, json!({"applied": 1, "unknown": [888_888], "repeated": false}));
    assert_eq!(app.post(INTERNAL_TOKEN, KEYS, batch("b-1", 50)).await.ok()["repeated"], true);
    // A batch of the other kind has a name of its own.
    let other = json!({"batch_id": "b-1", "deltas": []});
    assert_eq!(app.post(INTERNAL_TOKEN, API_KEYS, other).await.ok()["repeated"], false);

    let used = app.get(ADMIN_TOKEN, &path).await.ok();
    let figures = ["request_count", "used_tokens", "quota_used", "last_used_at", "status"].map(|name| &used[name]);
    assert_eq!(json!(figures), json!([2, 59, 59, "2026-01-01T00:00:00Z", "active"]));
    app.post(INTERNAL_TOKEN, KEYS, batch("b-2", 32)).await.ok();
    ez_control::usage_publication::run_once(&app.control).await.unwrap();
    let used = app.get(ADMIN_TOKEN, &path).await.ok();
    assert_eq!(json!([used["quota_used"], used["status"]]), json!([100, "exhausted"]));
}

pub(crate) async fn faults_of_a_batch_are_told_all_at_once(app: TestApp) {
    let before = app.dump().await;
    let mut wrong = delta(1, 1, 1, "2026-01-01T00:00:00Z");
    wrong["requests"] = json!(3);
    let mut huge = delta(1, u64::MAX / 2, 1, "2026-01-01T00:00:00Z");
    huge["successes"] = json!(u64::MAX);
    let right = delta(1, 1, 1, "2026-01-01T00:00:00Z");
    let asked = json!({"batch_id": "with blanks", "deltas": [wrong, right.clone(), huge]});
    let faults = app.post(INTERNAL_TOKEN, API_KEYS, asked).await.faults();
    assert_eq!(faults, ["/batch_id", "/deltas/0/requests", "/deltas/2/requests"]);
    let many = json!({"batch_id": "", "deltas": vec![right; 1_001]});
    assert_eq!(app.post(INTERNAL_TOKEN, API_KEYS, many).await.faults(), ["/batch_id", "/deltas"]);

    let used = |field: &str, value: Value| {
        let mut used = json!({"key_id": 1, "requests": 1, "input_tokens": 1, "output_tokens": 1,
            "last_used_at": "2026-01-01T00:00:00Z"});
        used[field] = value;
        used
    };
    let deltas = [
        used("requests", json!(1_000_000_001)),
        used("input_tokens", json!(u64::MAX)),
        used("output_tokens", json!(u64::MAX)),
        used("quota_tokens", json!(3)),
        used("spend", json!("-1")),
        used("spend", json!("1e3")),
        used("spend", json!("1000000000.01")),
        used("spend", json!("0.000000000000000001")),
    ];
    let faults = app.post(INTERNAL_TOKEN, KEYS, json!({"batch_id": "b", "deltas": deltas})).await.faults();
    let fields = ["0/requests", "1/input_tokens", "2/output_tokens", "3/quota_tokens", "4/spend", "5/spend", "6/spend"];
    assert_eq!(faults, fields.map(|field| format!("/deltas/{field}")));
    assert_eq!(app.dump().await, before, "nothing was taken");
}

pub(crate) async fn api_keys_are_summed_up_ever_and_over_a_time(app: TestApp) {
    let path = "/admin/api-keys/stats/summary";
    let empty = app.get(ADMIN_TOKEN, path).await.ok();
    assert_eq!((&empty["total_requests"], &empty["success_rate"]), (&json!(0), &Value::Null));

    let groups = [app.provider_group("one").await, app.provider_group("two").await];
    let keys = [api_key(&app, groups[0], "sk-1").await, api_key(&app, groups[1], "sk-2").await];
    app.put(ADMIN_TOKEN, &format!("/admin/api-keys/{}", keys[1]), json!({"status": "suspended"})).await.ok();
    let at = "2026-01-01T00:00:00Z";
    let batch = json!({"batch_id": "b-1", "deltas": [delta(keys[0], 6, 2, at), delta(keys[1], 1, 1, at)]});
    app.post(INTERNAL_TOKEN, API_KEYS, batch).await.ok();
    insta::assert_json_snapshot!("api_key_stats", app.get(ADMIN_TOKEN, path).await.ok());
    let of_first = app.get(ADMIN_TOKEN, &format!("{path}?group_id={}", groups[0])).await.ok();
    assert_eq!(json!([of_first["total_requests"], of_first["api_keys"]["total"]]), json!([8, 1]));

    let of = |id: &str, at: &str, key: usize, overrides: Value| {
        let mut record = usage_record(id, json!({"created_at": at, "group_id": groups[key], "api_key_id": keys[key]}));
        for (field, value) in overrides.as_object().unwrap() {
            record[field] = value.clone();
        }
        record
    };
    let records = json!({"records": [
        of("l-1", "2025-12-01T00:00:00Z", 0, json!({})),
        of("l-2", "2025-12-02T00:00:00Z", 0, json!({"status": 400})),
        of("l-3", "2025-12-02T00:00:01Z", 1, json!({"ended_by": "upstream"})),
        of("l-4", "2025-12-03T00:00:00Z", 1, json!({})),
        of("l-5", "2025-12-02T00:00:00Z", 0, json!({"api_key_id": null, "status": 429})),
    ]});
    app.post(INTERNAL_TOKEN, "/internal/logs", records).await.ok();
    for (query, expected) in [
        ("since=2025-12-01T00:00:00Z", [4, 2, 2]),
        ("since=2025-12-02T00:00:00Z", [3, 1, 2]),
        ("since=2025-12-02T00:00:00Z&until=2025-12-03T00:00:00Z", [2, 0, 2]),
        ("until=2025-12-02T00:00:00Z", [1, 1, 0]),
        ("since=2026-06-01T00:00:00Z", [0, 0, 0]),
        (&*format!("since=2025-12-01T00:00:00Z&group_id={}", groups[0]), [2, 1, 1]),
    ] {
        let summed = app.get(ADMIN_TOKEN, &format!("{path}?{query}")).await.ok();
        let figures = ["total_requests", "success_requests", "failure_requests"].map(|name| summed[name].clone());
        assert_eq!(json!(figures), json!(expected), "{query}");
        assert!(summed["api_keys"]["total"].as_u64() >= Some(1), "{query}");
        let end = |name: &str| query.split('&').find_map(|term| term.strip_prefix(name)?.strip_prefix('='));
        assert_eq!(summed["period"], json!({"since": end("since"), "until": end("until")}), "{query}");
    }
    let backwards = format!("{path}?since=2025-12-02T00:00:00Z&until=2025-12-01T00:00:00Z");
    app.get(ADMIN_TOKEN, &backwards).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
}
