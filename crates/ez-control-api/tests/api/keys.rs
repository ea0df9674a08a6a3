//! Limits, quotas, rotation and access of masters and child keys.

use std::time::Duration;

use ez_contract::TokenDigest;
use ez_contract::snapshot::SnapshotEntry;
use ez_control::{key_expiry, publisher};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, TestApp};

pub(crate) async fn limits_and_budgets_are_kept_exactly(app: TestApp) {
    let limits = json!({"global_qps": 10, "rpm": 600, "tpm": 100_000, "rpd": 1000, "tpd": i64::MAX,
        "max_concurrency": 8});
    let with = |base: Value| {
        let mut wish = base;
        wish.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
        wish
    };
    let wish = with(json!({"name": "acme", "monthly_budget": "0250.5"}));
    let master = app.post(ADMIN_TOKEN, "/admin/masters", wish).await.created();
    let master_key = master["master_key"].as_str().unwrap();
    let own = app.get(master_key, "/v1/self").await.ok();
    let key = app.post(master_key, "/v1/tokens", with(json!({"quota_limit": 100}))).await.created();
    for (field, value) in limits.as_object().unwrap() {
        assert_eq!((&own[field], &key[field]), (value, value), "{field}");
    }
    assert_eq!((&own["monthly_budget"], &key["quota_limit"]), (&json!("250.50"), &json!(100)));

    let master_path = format!("/admin/masters/{}", master["id"]);
    let key_path = format!("/v1/tokens/{}", key["id"]);
    for field in ["rpm", "tpm", "rpd", "tpd", "max_concurrency"] {
        assert_eq!(app.put(ADMIN_TOKEN, &master_path, json!({field: null})).await.ok()[field], json!(null));
        assert_eq!(app.put(master_key, &key_path, json!({field: null})).await.ok()[field], json!(null));
    }
    for (token, path) in [(ADMIN_TOKEN, &master_path), (master_key, &key_path)] {
        assert_eq!(app.put(token, path, json!({"global_qps": 0})).await.ok()["global_qps"], 0);
        assert_eq!(app.put(token, path, json!({"global_qps": null})).await.faults(), ["/global_qps"]);
    }

    // No digit passes through a float, be it written as a number or as a string.
    for (given, kept) in
        [("123456789012.123456", "123456789012.123456"), ("0.1", "0.10"), ("\"7\"", "7.00"), ("0", "0.00")]
    {
        let body = format!("{{\"monthly_budget\":{given}}}");
        let call = app.call(Method::PUT, &master_path).token(ADMIN_TOKEN).header("content-type", "application/json");
        assert_eq!(call.body(body).send().await.ok()["monthly_budget"], kept);
    }
    let cleared = app.put(ADMIN_TOKEN, &master_path, json!({"monthly_budget": null})).await.ok();
    assert_eq!(cleared["monthly_budget"], json!(null));
}

pub(crate) async fn numbers_out_of_range_name_the_range(app: TestApp) {
    let (id, master_key) = app.master("acme").await;
    let path = format!("/admin/masters/{id}");
    let key = app.post(&master_key, "/v1/tokens", json!({})).await.created();
    let key_path = format!("/v1/tokens/{}", key["id"]);
    let range = "a whole number from 0 to 9223372036854775807";
    for field in ["rpm", "tpm", "rpd", "tpd"] {
        for value in [json!(-1), json!(i64::MAX as u64 + 1), json!(u64::MAX), json!(1.5), json!("1")] {
            for (token, path) in [(ADMIN_TOKEN, &path), (&*master_key, &key_path)] {
                let problem =
                    app.put(token, path, json!({field: value})).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
                let fault = &problem["errors"][0];
                assert_eq!(fault["pointer"], format!("/{field}"));
                assert!(fault["message"].as_str().unwrap().contains(range), "{problem}");
            }
        }
    }
    for (field, value) in [("global_qps", json!(-1)), ("max_concurrency", json!(4_294_967_296_u64))] {
        let problem = app.put(&master_key, &key_path, json!({field: value})).await;
        let problem = problem.problem(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem["detail"].as_str().unwrap().contains("from 0 to 4294967295"), "{problem}");
    }
    for budget in [json!("-1"), json!(-0.5), json!("1e3"), json!(1e300), json!("1.2345678"), json!([1]), json!(true)] {
        assert_eq!(app.put(ADMIN_TOKEN, &path, json!({"monthly_budget": budget})).await.faults(), ["/monthly_budget"]);
    }
    let rotate = format!("{key_path}/rotate");
    for overlap in [json!(-1), json!(2_592_001)] {
        let refused = app.post(&master_key, &rotate, json!({"overlap_seconds": overlap})).await;
        let problem = refused.problem(StatusCode::UNPROCESSABLE_ENTITY);
        assert!(problem["detail"].as_str().unwrap().contains("from 0 to 2592000"), "{problem}");
    }
    // What is counted is not to be written, and what a quota is told by is one of its words.
    for field in ["quota_used", "request_count", "used_tokens", "quota_reset_at", "last_used_at"] {
        assert_eq!(app.put(&master_key, &key_path, json!({field: 1})).await.faults(), [format!("/{field}")]);
    }
    assert_eq!(app.put(&master_key, &key_path, json!({"quota_reset": "hourly"})).await.faults(), ["/quota_reset"]);
    for field in ["quota_limit", "quota_reset"] {
        assert_eq!(app.put(ADMIN_TOKEN, &path, json!({field: 1})).await.faults(), [format!("/{field}")]);
    }
}

pub(crate) async fn quotas_say_when_they_start_anew(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    // The clock stands at 2026-01-01, a Thursday.
    for (reset, next) in [
        ("none", json!(null)),
        ("daily", json!("2026-01-02T00:00:00Z")),
        ("weekly", json!("2026-01-05T00:00:00Z")),
        ("monthly", json!("2026-02-01T00:00:00Z")),
    ] {
        let key = app.post(&master_key, "/v1/tokens", json!({"quota_limit": 9, "quota_reset": reset})).await.created();
        assert_eq!((&key["quota_reset"], &key["quota_reset_at"]), (&json!(reset), &next));
    }
    let key = app.post(&master_key, "/v1/tokens", json!({"quota_limit": 0})).await.created();
    assert_eq!(key["status"], "exhausted");
    let path = format!("/v1/tokens/{}", key["id"]);
    assert_eq!(app.put(&master_key, &path, json!({"status": "active"})).await.faults(), ["/status"]);
    assert_eq!(app.put(&master_key, &path, json!({"quota_limit": null})).await.ok()["status"], "active");
}

pub(crate) async fn a_rotated_key_works_under_both_tokens_for_a_while(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    let issued = app.post(&master_key, "/v1/tokens", json!({"name": "app"})).await.created();
    let by_master = format!("/v1/tokens/{}/rotate", issued["id"]);
    let by_admin = format!("/admin/keys/{}/rotate", issued["id"]);

    let rotated = app.call(Method::POST, &by_master).token(&master_key).send().await.ok();
    assert_eq!((&rotated["id"], &rotated["name"]), (&issued["id"], &json!("app")));
    assert_eq!(rotated["previous_expires_at"], "2026-01-01T01:00:00Z", "an hour where nothing is said");
    assert_ne!(rotated["token"], issued["token"]);
    assert_eq!(published(&app, &[&issued, &rotated]).await, [Some(Some(1_767_229_200)), Some(None)]);
    let shown = app.get(&master_key, &format!("/v1/tokens/{}", issued["id"])).await.ok();
    assert_eq!((shown.get("token"), &shown["previous_expires_at"]), (None, &rotated["previous_expires_at"]));

    app.clock.advance(Duration::from_secs(3600));
    key_expiry::run_once(&app.control).await.unwrap();
    assert_eq!(published(&app, &[&issued, &rotated]).await, [None, Some(None)]);

    let again = app.post(ADMIN_TOKEN, &by_admin, json!({"overlap_seconds": 60})).await.ok();
    let last = app.post(ADMIN_TOKEN, &by_admin, json!({"overlap_seconds": 0})).await.ok();
    assert_eq!(last["previous_expires_at"], json!(null));
    assert_eq!(published(&app, &[&rotated, &again, &last]).await, [None, None, Some(None)]);

    app.post(&master_key, &by_master, json!({"overlap": 1})).await.faults();
    let undeclared = app.call(Method::POST, &by_master).token(&master_key).body("{\"overlap_seconds\":1}");
    undeclared.send().await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    app.post(ADMIN_TOKEN, &format!("/admin/masters/{}/revoke-keys", issued["master_id"]), json!({})).await.ok();
    let refused = app.post(&master_key, &by_master, json!({})).await.problem(StatusCode::CONFLICT);
    assert!(refused["detail"].as_str().unwrap().contains("issue a new one"), "{refused}");
}

/// The ends of tokens in the published snapshot; `None` for one that is not there.
async fn published(app: &TestApp, keys: &[&Value]) -> Vec<Option<Option<i64>>> {
    publisher::publish_due(&app.control).await.unwrap();
    let image = app.control.state().read_snapshot().await.unwrap();
    let ends = keys.iter().map(|key| {
        let wanted = TokenDigest::of(key["token"].as_str().unwrap());
        image.entries.iter().find_map(|entry| match entry {
            SnapshotEntry::Token(digest, token) if *digest == wanted => Some(token.expires_at),
            _ => None,
        })
    });
    ends.collect()
}

pub(crate) async fn access_is_read_and_changed_by_itself(app: TestApp) {
    for name in ["a", "b"] {
        app.post(ADMIN_TOKEN, "/admin/namespaces", json!({"name": name})).await.created();
    }
    let wish = json!({"name": "acme", "namespaces": ["a", "b"]});
    let master = app.post(ADMIN_TOKEN, "/admin/masters", wish).await.created();
    let keys = format!("/admin/masters/{}/keys", master["id"]);
    let key = app.post(ADMIN_TOKEN, &keys, json!({"name": "app"})).await.created();
    let (of_master, of_key) =
        (format!("/admin/masters/{}/access", master["id"]), format!("/admin/keys/{}/access", key["id"]));
    let access = json!({"default_namespace": "a", "namespaces": ["a", "b"]});
    assert_eq!(app.get(ADMIN_TOKEN, &of_master).await.ok(), access);
    assert_eq!(app.get(ADMIN_TOKEN, &of_key).await.ok(), access);

    let narrow = json!({"default_namespace": "b", "namespaces": ["b"]});
    let refused = app.put(ADMIN_TOKEN, &of_master, narrow.clone()).await.problem(StatusCode::CONFLICT);
    assert_eq!(refused["references"], json!([format!("child key {} (app)", key["id"])]));
    assert_eq!(app.get(ADMIN_TOKEN, &of_master).await.ok(), access);
    let mut propagating = narrow.clone();
    propagating["propagate_to_keys"] = json!(true);
    assert_eq!(app.put(ADMIN_TOKEN, &of_master, propagating).await.ok(), narrow);
    assert_eq!(app.get(ADMIN_TOKEN, &of_key).await.ok(), narrow);

    // The record itself takes the same, and what its master lacks no key can have.
    let master_path = format!("/admin/masters/{}", master["id"]);
    let moved = json!({"default_namespace": "a", "namespaces": ["a"], "propagate_to_keys": true});
    app.put(ADMIN_TOKEN, &master_path, moved).await.ok();
    let now = json!({"default_namespace": "a", "namespaces": ["a"]});
    assert_eq!(app.get(ADMIN_TOKEN, &of_key).await.ok(), now);
    assert_eq!(app.put(ADMIN_TOKEN, &of_key, json!({"namespaces": ["a", "b"]})).await.faults(), ["/namespaces/1"]);
    let faults = app.put(ADMIN_TOKEN, &of_master, json!({"namespaces": ["a", "nowhere"]})).await.faults();
    assert_eq!(faults, ["/namespaces/1"]);
    assert_eq!(app.put(ADMIN_TOKEN, &of_key, json!({"group": "x"})).await.faults(), ["/group"]);
    assert_eq!(
        app.put(ADMIN_TOKEN, &of_key, json!({"propagate_to_keys": true})).await.faults(),
        ["/propagate_to_keys"]
    );
    for path in ["/admin/masters/999999/access", "/admin/keys/999999/access"] {
        app.get(ADMIN_TOKEN, path).await.problem(StatusCode::NOT_FOUND);
        app.put(ADMIN_TOKEN, path, json!({})).await.problem(StatusCode::NOT_FOUND);
    }
}
