//! Routing decisions, explained over HTTP.

use http::StatusCode;
use serde_json::json;

use crate::support::{ADMIN_TOKEN, TestApp};

pub(crate) async fn a_decision_is_explained_candidate_by_candidate(app: TestApp) {
    let (main, spare) = (app.provider_group("main").await, app.provider_group("spare").await);
    for (group, priority, weight, selector) in [(main, 1, 3, "gpt-4o"), (spare, 0, 1, "gpt")] {
        let binding = json!({"namespace": "default", "public_model": "gpt", "group_id": group, "priority": priority,
            "weight": weight, "selector_type": "regex", "selector_value": format!("^{selector}$")});
        app.post(ADMIN_TOKEN, "/admin/bindings", binding).await.created();
    }
    let api_key = json!({"group_id": main, "api_key": "sk-1", "name": "first"});
    app.post(ADMIN_TOKEN, "/admin/api-keys", api_key).await.created();
    let api_key = json!({"group_id": main, "api_key": "sk-2", "status": "suspended"});
    app.post(ADMIN_TOKEN, "/admin/api-keys", api_key).await.created();
    let (_, master_key) = app.master("acme").await;
    let wish = json!({"model_limits_enabled": true, "model_limits": ["other"]});
    let key = app.post(&master_key, "/v1/tokens", wish).await.created();

    let resolved = app.get(ADMIN_TOKEN, "/admin/bindings/resolve?model=gpt").await.ok();
    insta::assert_json_snapshot!("resolution", resolved, {
        ".candidates[].binding_id" => "[id]", ".candidates[].group_id" => "[id]", ".candidates[].api_keys[].id" => "[id]",
    });
    let path = format!("/admin/bindings/resolve?model=default.gpt&key_id={}", key["id"]);
    let refused = app.get(ADMIN_TOKEN, &path).await.ok();
    insta::assert_json_snapshot!("resolution_refused", refused["verdict"]);
    assert_eq!(refused["candidates"], resolved["candidates"], "the candidates are told all the same");

    for (query, expected) in [
        ("", &["/model"][..]),
        ("?model=", &["/model"]),
        ("?model=gpt&key_id=999", &["/key_id"]),
        ("?model=gpt&namespace=nowhere", &["/namespace"]),
        ("?model=gpt&protocol=openai-chat", &["/protocol"]),
        ("?model=gpt%00", &["/model"]),
    ] {
        let answer = app.get(ADMIN_TOKEN, &format!("/admin/bindings/resolve{query}")).await;
        assert_eq!(answer.faults(), expected, "{query}");
    }
    let unbound = app.get(ADMIN_TOKEN, "/admin/bindings/resolve?model=nothing").await.ok();
    assert_eq!(unbound["verdict"]["status"], StatusCode::NOT_FOUND.as_u16());
}
