//! Each kind of record from its creation to its end.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, TestApp};

pub(crate) async fn masters_live_from_create_to_delete(app: TestApp) {
    let answer = app.post(ADMIN_TOKEN, "/admin/masters", json!({"name": "acme"})).await;
    let created = answer_with_location(answer, "/admin/masters");
    insta::assert_json_snapshot!("master_created", created,
        {".id" => "[id]", ".master_key" => "[secret]", ".prefix" => "[prefix]"});
    let path = format!("/admin/masters/{}", created["id"]);
    let key = created["master_key"].as_str().unwrap().to_owned();
    assert!(key.starts_with(created["prefix"].as_str().unwrap()), "{created}");

    let mut expected = created.clone();
    expected.as_object_mut().unwrap().remove("master_key");
    let mut shown = app.get(ADMIN_TOKEN, &path).await.ok();
    let realtime = shown.as_object_mut().unwrap().remove("realtime").unwrap();
    assert_eq!((shown, &realtime["requests"]), (expected.clone(), &json!(0)));
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/masters").await.ok()["items"], json!([expected]));

    app.clock.advance(std::time::Duration::from_secs(60));
    let changed = app.put(ADMIN_TOKEN, &path, json!({"group": "gold", "max_child_keys": 1})).await.ok();
    assert_eq!((&changed["group"], &changed["max_child_keys"]), (&json!("gold"), &json!(1)));
    assert_eq!((&changed["name"], &changed["updated_at"]), (&json!("acme"), &json!("2026-01-01T00:01:00Z")));
    app.post(ADMIN_TOKEN, "/admin/masters", json!({"name": "acme"})).await.problem(StatusCode::CONFLICT);

    let revoked = app.post(ADMIN_TOKEN, &format!("{path}/revoke-keys"), json!({})).await.ok();
    assert_eq!(revoked["epoch"], 2);
    let misplaced = app.post(ADMIN_TOKEN, &format!("{path}/rotate-key"), json!({"revoke_keys": true})).await;
    assert_eq!(misplaced.faults(), [""]);
    let rotated = app.post(ADMIN_TOKEN, &format!("{path}/rotate-key"), json!({})).await.ok();
    assert_eq!(rotated["epoch"], 2, "its child keys live on");
    app.get(&key, "/v1/self").await.problem(StatusCode::UNAUTHORIZED);
    app.get(rotated["master_key"].as_str().unwrap(), "/v1/self").await.ok();

    app.post(ADMIN_TOKEN, &format!("{path}/keys"), json!({})).await.created();
    app.post(ADMIN_TOKEN, &format!("{path}/keys"), json!({})).await.problem(StatusCode::CONFLICT);
    let refused = app.delete(ADMIN_TOKEN, &path).await.problem(StatusCode::CONFLICT);
    assert_eq!(refused["references"].as_array().unwrap().len(), 1, "{refused}");
    app.delete(ADMIN_TOKEN, &format!("{path}?cascade=true")).await.gone();
    app.get(ADMIN_TOKEN, &path).await.problem(StatusCode::NOT_FOUND);
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/keys").await.ok()["total"], 0);
}

pub(crate) async fn child_keys_live_from_issue_to_delete(app: TestApp) {
    let (master_id, master_key) = app.master("acme").await;
    let by_admin = app.post(ADMIN_TOKEN, &format!("/admin/masters/{master_id}/keys"), json!({"name": "ci"})).await;
    let by_admin = answer_with_location(by_admin, "/admin/keys");
    let wish = json!({
        "name": "laptop", "scopes": ["chat:*"], "expires_at": 1_798_761_600, "allow_ips": ["10.0.0.0/8"],
        "model_limits_enabled": true, "model_limits": ["gpt-4o"],
    });
    let by_master = answer_with_location(app.post(&master_key, "/v1/tokens", wish).await, "/v1/tokens");
    for (name, created) in [("child_key_by_admin", &by_admin), ("child_key_by_master", &by_master)] {
        insta::assert_json_snapshot!(name, created,
            {".id" => "[id]", ".master_id" => "[id]", ".token" => "[secret]", ".prefix" => "[prefix]"});
    }

    let path = format!("/v1/tokens/{}", by_master["id"]);
    let mut expected = by_master.clone();
    expected.as_object_mut().unwrap().remove("token");
    assert_eq!(app.get(&master_key, &path).await.ok(), expected);
    assert_eq!(app.get(ADMIN_TOKEN, &format!("/admin/keys/{}", by_master["id"])).await.ok(), expected);
    for (token, list) in [
        (&*master_key, "/v1/tokens?search=LAP".to_owned()),
        (ADMIN_TOKEN, format!("/admin/keys?master_id={master_id}&search=lap")),
        (ADMIN_TOKEN, format!("/admin/masters/{master_id}/keys?sort=-id&limit=1")),
    ] {
        assert_eq!(app.get(token, &list).await.ok()["items"], json!([expected]), "{list}");
    }

    let changed = app.put(&master_key, &path, json!({"status": "suspended"})).await.ok();
    assert_eq!((&changed["status"], &changed["name"]), (&json!("suspended"), &json!("laptop")));
    let by_admin_path = format!("/admin/keys/{}", by_admin["id"]);
    assert_eq!(app.put(ADMIN_TOKEN, &by_admin_path, json!({"name": "CI"})).await.ok()["name"], "CI");
    app.delete(&master_key, &path).await.gone();
    app.delete(&master_key, &path).await.problem(StatusCode::NOT_FOUND);
    app.delete(ADMIN_TOKEN, &by_admin_path).await.gone();
    assert_eq!(app.get(&master_key, "/v1/tokens").await.ok()["total"], 0);

    let suspended = json!({"status": "suspended"});
    app.put(ADMIN_TOKEN, &format!("/admin/masters/{master_id}"), suspended).await.ok();
    let refused = app.post(ADMIN_TOKEN, &format!("/admin/masters/{master_id}/keys"), json!({})).await;
    refused.problem(StatusCode::CONFLICT);
}

pub(crate) async fn namespaces_live_from_create_to_delete(app: TestApp) {
    let answer = app.post(ADMIN_TOKEN, "/admin/namespaces", json!({"name": "team-a", "description": "A"})).await;
    let created = answer_with_location(answer, "/admin/namespaces");
    insta::assert_json_snapshot!("namespace", created, {".id" => "[id]"});
    let path = format!("/admin/namespaces/{}", created["id"]);
    assert_eq!(app.get(ADMIN_TOKEN, &path).await.ok(), created);
    let changed = app.put(ADMIN_TOKEN, &path, json!({"description": null, "status": "suspended"})).await.ok();
    assert_eq!((&changed["description"], &changed["status"]), (&json!(""), &json!("suspended")));
    let names = app.get(ADMIN_TOKEN, "/admin/namespaces?sort=name").await.ok();
    assert_eq!((&names["items"][0]["name"], &names["items"][1]["name"]), (&json!("default"), &json!("team-a")));

    let default = format!("/admin/namespaces/{}?cascade=true", names["items"][0]["id"]);
    app.delete(ADMIN_TOKEN, &default).await.problem(StatusCode::CONFLICT);
    let group = app.provider_group("openai").await;
    let binding = json!({"namespace": "team-a", "public_model": "gpt-4o", "group_id": group});
    app.post(ADMIN_TOKEN, "/admin/bindings", binding).await.created();
    let refused = app.delete(ADMIN_TOKEN, &path).await.problem(StatusCode::CONFLICT);
    assert_eq!(refused["references"].as_array().unwrap().len(), 1, "{refused}");
    app.delete(ADMIN_TOKEN, &format!("{path}?cascade=true")).await.gone();
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/bindings").await.ok()["total"], 0);
}

pub(crate) async fn the_routing_records_live_from_create_to_delete(app: TestApp) {
    let wish =
        json!({"name": "openai", "type": "openai", "models": ["gpt-4o"], "base_url": "http://127.0.0.1:9/v1/v1"});
    let group =
        answer_with_location(app.post(ADMIN_TOKEN, "/admin/provider-groups", wish).await, "/admin/provider-groups");
    insta::assert_json_snapshot!("provider_group", group, {".id" => "[id]"});
    let wish = json!({"group_id": group["id"], "name": "main", "api_key": "sk-upstream-1"});
    let api_key = answer_with_location(app.post(ADMIN_TOKEN, "/admin/api-keys", wish).await, "/admin/api-keys");
    insta::assert_json_snapshot!("api_key", api_key, {".id" => "[id]", ".group_id" => "[id]"});
    let wish = json!({"namespace": "default", "public_model": "gpt", "group_id": group["id"],
        "selector_type": "regex", "selector_value": "^gpt-4o$", "weight": 3, "priority": -1, "on_client_gone": "drain"});
    let binding = answer_with_location(app.post(ADMIN_TOKEN, "/admin/bindings", wish).await, "/admin/bindings");
    insta::assert_json_snapshot!("binding", binding, {".id" => "[id]", ".group_id" => "[id]"});

    for (collection, record) in [("provider-groups", &group), ("api-keys", &api_key), ("bindings", &binding)] {
        let path = format!("/admin/{collection}/{}", record["id"]);
        let mut expected = record.clone();
        if collection == "api-keys" {
            expected["health"] = json!([]);
        }
        assert_eq!(app.get(ADMIN_TOKEN, &path).await.ok(), expected, "{path}");
        assert_eq!(app.get(ADMIN_TOKEN, &format!("/admin/{collection}")).await.ok()["items"], json!([record]));
        let changed = app.put(ADMIN_TOKEN, &path, json!({"status": "suspended"})).await.ok();
        assert_eq!(changed["status"], "suspended", "{path}");
    }

    let api_key_path = format!("/admin/api-keys/{}", api_key["id"]);
    let rotated = app.put(ADMIN_TOKEN, &api_key_path, json!({"api_key": "sk-upstream-2", "weight": 0})).await.ok();
    assert_eq!(rotated["weight"], 0);
    let group_path = format!("/admin/provider-groups/{}", group["id"]);
    let refused = app.delete(ADMIN_TOKEN, &group_path).await.problem(StatusCode::CONFLICT);
    assert_eq!(refused["references"].as_array().unwrap().len(), 2, "{refused}");
    app.delete(ADMIN_TOKEN, &format!("/admin/bindings/{}", binding["id"])).await.gone();
    app.delete(ADMIN_TOKEN, &api_key_path).await.gone();
    app.delete(ADMIN_TOKEN, &group_path).await.gone();
    for collection in ["provider-groups", "api-keys", "bindings"] {
        assert_eq!(app.get(ADMIN_TOKEN, &format!("/admin/{collection}")).await.ok()["total"], 0);
    }
}

pub(crate) async fn secrets_are_shown_once_or_never(app: TestApp) {
    let (master_id, master_key) = app.master("acme").await;
    let issued = app.post(&master_key, "/v1/tokens", json!({})).await.created();
    let token = issued["token"].as_str().unwrap();
    let group = app.provider_group("openai").await;
    let upstream = "sk-upstream-secret";
    let answer = app.post(ADMIN_TOKEN, "/admin/api-keys", json!({"group_id": group, "api_key": upstream})).await;
    assert!(!answer.expect(StatusCode::CREATED).text().contains(upstream));
    let misplaced = json!({"group_id": group, "api_key": 4711_4712});
    let refused = app.post(ADMIN_TOKEN, "/admin/api-keys", misplaced).await.expect(StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!refused.text().contains("47114712"), "{}", refused.text());

    for path in ["/admin/masters", "/admin/keys", "/admin/api-keys", "/admin/audit", "/admin/sync/status", "/v1/self"] {
        let caller = if path == "/v1/self" { &*master_key } else { ADMIN_TOKEN };
        let answer = app.call(Method::GET, path).token(caller).send().await.expect(StatusCode::OK);
        assert_eq!(answer.header("cache-control"), "no-store");
        for secret in [&*master_key, token, upstream, ADMIN_TOKEN, "enc:v1:", "$argon2"] {
            assert!(!answer.text().contains(secret), "{path} shows a secret");
        }
    }
    let kept = app.get(ADMIN_TOKEN, &format!("/admin/masters/{master_id}")).await.ok();
    assert!(kept.get("master_key").is_none());
}

/// The record of a 201, whose Location must be its path.
#[track_caller]
fn answer_with_location(answer: crate::support::Answer, collection: &str) -> Value {
    let location = answer.header("location").to_owned();
    let record = answer.created();
    assert_eq!(location, format!("{collection}/{}", record["id"]));
    record
}
