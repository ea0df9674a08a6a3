//! What writes are refused for, and what they leave alone.

use http::StatusCode;
use serde_json::json;

use crate::support::{ADMIN_TOKEN, TestApp};

pub(crate) async fn faults_are_told_all_at_once_with_pointers(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    let group = app.provider_group("openai").await;
    let cases = [
        (ADMIN_TOKEN, "/admin/masters", json!({"name": "", "namespaces": ["none"]}), &["/name", "/namespaces/0"][..]),
        (
            &*master_key,
            "/v1/tokens",
            json!({"scopes": ["chat:*", "all"], "allow_ips": ["10.0.0.0/33"], "group": "gold", "namespaces": ["x"]}),
            &["/allow_ips/0", "/group", "/namespaces/0", "/scopes/1"],
        ),
        (ADMIN_TOKEN, "/admin/namespaces", json!({"name": "Team.A"}), &["/name"]),
        (ADMIN_TOKEN, "/admin/provider-groups", json!({"name": "", "type": "compatible"}), &["/base_url", "/name"]),
        (
            ADMIN_TOKEN,
            "/admin/provider-groups",
            json!({"name": "x", "type": "openai", "base_url": "http://169.254.169.254/"}),
            &["/base_url"],
        ),
        (ADMIN_TOKEN, "/admin/provider-groups", json!({"name": "x", "type": "codex"}), &["/type"]),
        (ADMIN_TOKEN, "/admin/api-keys", json!({"group_id": group, "api_key": ""}), &["/api_key"]),
        (ADMIN_TOKEN, "/admin/api-keys", json!({"group_id": 999_999, "api_key": "sk-1"}), &["/group_id"]),
        (
            ADMIN_TOKEN,
            "/admin/bindings",
            json!({"namespace": "default", "public_model": "m", "group_id": group, "selector_type": "regex",
                "selector_value": "("}),
            &["/selector_value"],
        ),
    ];
    for (token, path, body, expected) in cases {
        assert_eq!(app.post(token, path, body.clone()).await.faults(), expected, "{path} {body}");
    }
}

pub(crate) async fn absent_null_and_a_value_differ_in_a_change(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    let wish = json!({"name": "laptop", "expires_at": "2027-01-01T01:00:00+01:00"});
    let key = app.post(&master_key, "/v1/tokens", wish).await.created();
    assert_eq!(key["expires_at"], "2027-01-01T00:00:00Z");
    let path = format!("/v1/tokens/{}", key["id"]);

    let untouched = app.put(&master_key, &path, json!({})).await.ok();
    assert_eq!((&untouched["name"], &untouched["expires_at"]), (&key["name"], &key["expires_at"]));
    let cleared = app.put(&master_key, &path, json!({"name": null, "expires_at": null})).await.ok();
    assert_eq!((&cleared["name"], &cleared["expires_at"]), (&json!(""), &json!(null)));
    for field in ["status", "scopes", "default_namespace"] {
        assert_eq!(app.put(&master_key, &path, json!({field: null})).await.faults(), [format!("/{field}")]);
    }

    let wish = json!({"name": "v", "type": "vertex", "google_location": "europe-west1", "google_project": "p"});
    let group = app.post(ADMIN_TOKEN, "/admin/provider-groups", wish).await.created();
    let path = format!("/admin/provider-groups/{}", group["id"]);
    let cleared = app.put(ADMIN_TOKEN, &path, json!({"google_location": null, "protocols": null})).await.ok();
    assert_eq!((&cleared["google_location"], &cleared["protocols"]), (&json!("global"), &json!([])));
}

pub(crate) async fn what_does_not_exist_is_missing(app: TestApp) {
    for collection in ["masters", "keys", "namespaces", "provider-groups", "api-keys", "bindings"] {
        for id in ["999999", "0", "-1", "abc", "99999999999999999999", "%FF"] {
            let path = format!("/admin/{collection}/{id}");
            app.get(ADMIN_TOKEN, &path).await.problem(StatusCode::NOT_FOUND);
            app.put(ADMIN_TOKEN, &path, json!({})).await.problem(StatusCode::NOT_FOUND);
            app.delete(ADMIN_TOKEN, &path).await.problem(StatusCode::NOT_FOUND);
        }
    }
    for path in ["revoke-keys", "rotate-key", "keys"] {
        let path = format!("/admin/masters/999999/{path}");
        app.post(ADMIN_TOKEN, &path, json!({})).await.problem(StatusCode::NOT_FOUND);
    }
    app.get(ADMIN_TOKEN, "/admin/masters/999999/keys").await.problem(StatusCode::NOT_FOUND);
}

pub(crate) async fn refused_writes_leave_nothing_behind(app: TestApp) {
    app.master("acme").await;
    let audited = app.get(ADMIN_TOKEN, "/admin/audit").await.ok();
    let depth = app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok()["outbox_depth"].clone();

    app.post(ADMIN_TOKEN, "/admin/masters", json!({"name": "acme"})).await.problem(StatusCode::CONFLICT);
    app.post(ADMIN_TOKEN, "/admin/masters", json!({"name": ""})).await.faults();
    app.post(ADMIN_TOKEN, "/admin/masters?dry_run=yes", json!({"name": "other"})).await.faults();
    app.delete(ADMIN_TOKEN, "/admin/masters/999999").await.problem(StatusCode::NOT_FOUND);

    assert_eq!(app.get(ADMIN_TOKEN, "/admin/audit").await.ok(), audited);
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/sync/status").await.ok()["outbox_depth"], depth);
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/masters").await.ok()["total"], 1);
}

pub(crate) async fn a_nul_is_refused_wherever_it_comes(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    for (path, pointer) in [
        ("/admin/masters?search=a%00b", "/search"),
        ("/admin/masters?group=%00", "/group"),
        ("/admin/bindings?namespace=default%00", "/namespace"),
        ("/admin/logs?request_id=%00", "/request_id"),
        // `log:17:a\0b`
        ("/admin/logs?cursor=bG9nOjE3OmEAYg", "/cursor"),
    ] {
        assert_eq!(app.get(ADMIN_TOKEN, path).await.faults(), [pointer], "{path}");
    }
    app.get(ADMIN_TOKEN, "/admin/logs/a%00b").await.problem(StatusCode::NOT_FOUND);
    let namespaces = json!({"name": "x", "namespaces": ["a\0"]});
    assert_eq!(app.post(ADMIN_TOKEN, "/admin/masters", namespaces).await.faults(), ["/namespaces/0"]);
    let token = json!({"name": "x", "default_namespace": "a\0"});
    assert_eq!(app.post(&master_key, "/v1/tokens", token).await.faults(), ["/default_namespace"]);
    let described = json!({"name": "x", "description": "a\0"});
    assert_eq!(app.post(ADMIN_TOKEN, "/admin/namespaces", described).await.faults(), ["/description"]);
}

pub(crate) async fn times_that_cannot_be_answered_with_are_refused(app: TestApp) {
    let (_, master_key) = app.master("acme").await;
    for end in [json!(253_402_300_800_i64), json!("9999-12-31T23:30:00-01:00")] {
        let refused = app.post(&master_key, "/v1/tokens", json!({"expires_at": end})).await;
        assert_eq!(refused.faults(), ["/expires_at"]);
    }
    let last = app.post(&master_key, "/v1/tokens", json!({"expires_at": 253_402_300_799_i64})).await.created();
    assert_eq!(last["expires_at"], "9999-12-31T23:59:59Z");
}
