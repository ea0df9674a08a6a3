//! Upstream credentials: many at once, set up in one call, tested, banned.

use std::time::Duration;

use ez_control::ban_expiry;
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, INTERNAL_TOKEN, TestApp};

impl TestApp {
    async fn api_key(&self, group_id: i64, secret: &str) -> i64 {
        let new = json!({"group_id": group_id, "api_key": secret});
        self.post(ADMIN_TOKEN, "/admin/api-keys", new).await.created()["id"].as_i64().unwrap()
    }
}

pub(crate) async fn batches_tell_each_line_and_no_secret(app: TestApp) {
    let group = app.provider_group("openai").await;
    app.api_key(group, "sk-standing").await;
    let batch = json!({"group_id": group, "secrets": "sk-one\n\nsk-standing\nsk-two\nsk-one\n", "name": "batch",
        "weight": 2, "status": "suspended", "auto_ban": false});
    let answer = app.post(ADMIN_TOKEN, "/admin/api-keys/batch", batch.clone()).await;
    assert!(!answer.text().contains("sk-"), "{}", answer.text());
    let made = answer.created();
    insta::assert_json_snapshot!("api_key_batch", made, {".created[].id" => "[id]", ".created[].group_id" => "[id]"});

    let listed = app.get(ADMIN_TOKEN, &format!("/admin/api-keys?group_id={group}&status=suspended")).await.ok();
    assert_eq!(listed["items"], made["created"]);
    let again = app.post(ADMIN_TOKEN, "/admin/api-keys/batch", batch).await.created();
    assert_eq!((again["created"].clone(), again["skipped"].as_array().unwrap().len()), (json!([]), 4));

    let bad = json!({"group_id": group, "secrets": "sk-good\nsk bad", "status": "auto_disabled"});
    let refused = app.post(ADMIN_TOKEN, "/admin/api-keys/batch", bad).await;
    assert!(!refused.text().contains("bad\""), "{}", refused.text());
    assert_eq!(refused.faults(), ["/secrets", "/status"]);
    let misplaced = json!({"group_id": group, "secrets": ["sk-one"]});
    let refused = app.post(ADMIN_TOKEN, "/admin/api-keys/batch", misplaced).await;
    assert!(!refused.text().contains("sk-one"), "{}", refused.text());
    refused.faults();
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/api-keys").await.ok()["total"], 3);
    let dump = app.dump().await;
    assert!(!dump.contains("sk-one") && !dump.contains("sk-standing"), "a secret is stored in clear");
}

pub(crate) async fn statuses_are_set_together(app: TestApp) {
    let group = app.provider_group("openai").await;
    let (first, second) = (app.api_key(group, "sk-1").await, app.api_key(group, "sk-2").await);
    let set = |ids: Value, status: &str| json!({"ids": ids, "status": status});
    let path = "/admin/api-keys/batch-status";
    let refused = app.post(ADMIN_TOKEN, path, set(json!([first, 999, second, 998]), "suspended")).await;
    assert_eq!(refused.faults(), ["/ids/1", "/ids/3"]);
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/api-keys?status=active").await.ok()["total"], 2);
    let changed = app.post(ADMIN_TOKEN, path, set(json!([second, first]), "manual_disabled")).await.ok();
    let told: Vec<_> = changed["items"].as_array().unwrap().iter().map(|key| (&key["id"], &key["status"])).collect();
    assert_eq!(told, [(&json!(first), &json!("manual_disabled")), (&json!(second), &json!("manual_disabled"))]);
    assert_eq!(app.post(ADMIN_TOKEN, path, set(json!([]), "auto_disabled")).await.faults(), ["/ids", "/status"]);
}

pub(crate) async fn a_vendor_is_set_up_in_one_call(app: TestApp) {
    let wish = json!({"type": "anthropic", "name": "claude", "secret": "sk-upstream", "create_bindings": true,
        "models": ["claude-haiku-4-5"]});
    let send = async |wish: &Value| {
        let call = app.call(Method::POST, "/admin/providers/preset").token(ADMIN_TOKEN).json(wish);
        call.header("idempotency-key", "set-up-1").send().await
    };
    let answer = send(&wish).await;
    assert!(!answer.text().contains("sk-upstream"));
    let made = answer.created();
    let ids = {
        let names =
            [".provider_group.id", ".api_key.id", ".api_key.group_id", ".bindings[].id", ".bindings[].group_id"];
        names.map(|name| (name, "[id]"))
    };
    let mut settings = insta::Settings::clone_current();
    for (name, shown) in ids {
        settings.add_redaction(name, shown);
    }
    settings.bind(|| insta::assert_json_snapshot!("provider", made));
    let replayed = send(&wish).await;
    assert_eq!(replayed.header("idempotency-replayed"), "true");
    assert_eq!(replayed.created(), made);
    for (collection, record) in [("provider-groups", &made["provider_group"]), ("bindings", &made["bindings"][0])] {
        let path = format!("/admin/{collection}/{}", record["id"]);
        assert_eq!(&app.get(ADMIN_TOKEN, &path).await.ok(), record);
    }
    let again = app.post(ADMIN_TOKEN, "/admin/providers/preset", wish).await.problem(StatusCode::CONFLICT);
    assert!(again["detail"].as_str().unwrap().contains("same name"), "{again}");

    let least = json!({"type": "gemini", "name": "gemini", "secret": "AIza-upstream"});
    let made = app.post(ADMIN_TOKEN, "/admin/providers/preset", least).await.created();
    assert!(!made["provider_group"]["models"].as_array().unwrap().is_empty());
    assert_eq!(made["bindings"], json!([]));
    let other = json!({"type": "azure", "name": "azure", "secret": "s"});
    assert_eq!(app.post(ADMIN_TOKEN, "/admin/providers/preset", other).await.faults(), ["/type"]);

    let custom = json!({"name": "own", "base_url": "http://169.254.169.254/v1", "secret": "s s", "models": [],
        "create_bindings": true, "namespace": "nowhere"});
    let refused = app.post(ADMIN_TOKEN, "/admin/providers/custom", custom).await;
    assert_eq!(refused.faults(), ["/base_url", "/models", "/namespace", "/secret"]);
    let custom = json!({"name": "own", "base_url": "http://127.0.0.1:9/v1/", "secret": "s", "models": ["qwen3"]});
    let made = app.post(ADMIN_TOKEN, "/admin/providers/custom", custom).await.created();
    let group = &made["provider_group"];
    assert_eq!((&group["type"], &group["base_url"]), (&json!("compatible"), &json!("http://127.0.0.1:9/v1")));
}

pub(crate) async fn an_api_key_is_tested_with_a_real_call(app: TestApp) {
    let vendor = SimUpstream::start(Behaviour::default()).await.unwrap();
    let group = json!({"name": "own", "type": "compatible", "models": ["m"], "base_url": vendor.openai_base_url()});
    let group = app.post(ADMIN_TOKEN, "/admin/provider-groups", group).await.created()["id"].as_i64().unwrap();
    let path = format!("/admin/api-keys/{}/test", app.api_key(group, "sk-upstream").await);
    let mut call = app.post(ADMIN_TOKEN, &path, json!({})).await.ok();
    assert!(call.as_object_mut().unwrap().remove("latency_ms").unwrap().is_u64());
    assert_eq!(call, json!({"ok": true, "status": 200, "model": "m", "message": "the upstream answered"}));
    let bare = app.call(Method::POST, &path).token(ADMIN_TOKEN).send().await.ok();
    assert_eq!(bare["ok"], true, "a body is not needed");
    let untyped = app.call(Method::POST, &path).token(ADMIN_TOKEN).body("{}").send().await;
    untyped.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let audited = app.get(ADMIN_TOKEN, "/admin/audit?limit=1").await.ok()["items"][0].clone();
    assert_eq!((&audited["action"], &audited["record_kind"]), (&json!("test"), &json!("api_key")));

    vendor.set(Behaviour::status(401));
    let call = app.post(ADMIN_TOKEN, &path, json!({"model": "other"})).await.ok();
    assert_eq!((&call["ok"], &call["status"], &call["model"]), (&json!(false), &json!(401), &json!("other")));
    assert!(call["message"].as_str().unwrap().starts_with("the upstream refuses the credential"), "{call}");

    let before = vendor.request_count();
    let dry = app.post(ADMIN_TOKEN, &format!("{path}?dry_run=true"), json!({})).await;
    assert_eq!(dry.faults(), ["/dry_run"]);
    assert_eq!(app.post(ADMIN_TOKEN, &path, json!({"model": ""})).await.faults(), ["/model"]);
    app.post(ADMIN_TOKEN, "/admin/api-keys/999/test", json!({})).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(vendor.request_count(), before, "nobody was called");
}

pub(crate) async fn reports_of_gateways_show_at_the_api_key(app: TestApp) {
    let group = app.provider_group("openai").await;
    let (banned, cooled) = (app.api_key(group, "sk-1").await, app.api_key(group, "sk-2").await);
    let tag = async |id: i64| app.get(ADMIN_TOKEN, &format!("/admin/api-keys/{id}")).await.header("etag").to_owned();
    let (tag_before, cooled_before) = (tag(banned).await, tag(cooled).await);
    let batch = json!({"reports": [
        {"api_key_id": banned, "kind": "ban", "reason": "the vendor refused it", "until": "2026-01-01T01:00:00Z",
            "evidence": {"request_ids": ["req-9"], "status": 401}},
        {"api_key_id": cooled, "kind": "cooldown", "reason": "429", "until": "2026-01-01T00:30:00Z", "model": "gpt-4o"},
        {"api_key_id": cooled, "kind": "breaker", "state": "open", "reason": "5 failures in a row"},
        {"api_key_id": 999, "kind": "ban"},
        {"api_key_id": banned},
    ], "sequence": 7});
    let taken = app.post(INTERNAL_TOKEN, "/internal/api-keys/report", batch.clone()).await.ok();
    insta::assert_json_snapshot!("reports_taken", taken);
    let again = app.post(INTERNAL_TOKEN, "/internal/api-keys/report", batch).await.ok();
    assert_eq!((&again["applied"], &again["ignored"]), (&json!(2), &json!(1)), "states are put again, bans are not");

    let key = app.get(ADMIN_TOKEN, &format!("/admin/api-keys/{banned}")).await.ok();
    insta::assert_json_snapshot!("api_key_banned", key, {".id" => "[id]", ".group_id" => "[id]"});
    let key = app.get(ADMIN_TOKEN, &format!("/admin/api-keys/{cooled}")).await.ok();
    insta::assert_json_snapshot!("api_key_health", key["health"]);
    assert_ne!(tag(banned).await, tag_before);
    assert_eq!(tag(cooled).await, cooled_before, "live figures are not in the tag");
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/api-keys?status=auto_disabled").await.ok()["total"], 1);

    app.clock.advance(Duration::from_secs(3600));
    assert_eq!(ban_expiry::run_once(&app.control).await.unwrap(), 1);
    let key = app.get(ADMIN_TOKEN, &format!("/admin/api-keys/{banned}")).await.ok();
    assert_eq!((&key["status"], &key["ban_reason"], &key["ban_until"]), (&json!("active"), &Value::Null, &Value::Null));
    let many = json!({"reports": vec![json!({}); 1001]});
    assert_eq!(app.post(INTERNAL_TOKEN, "/internal/api-keys/report", many).await.faults(), ["/reports"]);
}
