//! Models, their catalogue, and runtime flags.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, TestApp};

const CATALOGUE: &str = "/admin/models/catalogue";

pub(crate) async fn models_live_from_create_to_delete(app: TestApp) {
    let wish = json!({"name": "house-llm", "kind": "", "context_window": 32_000, "prices": {"input": "0.250"},
        "supports_functions": true, "capabilities": {"rejects": ["seed"], "reasoning": {"style": "none"}}});
    let created = app.post(ADMIN_TOKEN, "/admin/models", wish.clone()).await.created();
    insta::assert_json_snapshot!("model", created, {".id" => "[id]"});
    app.post(ADMIN_TOKEN, "/admin/models", wish).await.problem(StatusCode::CONFLICT);
    let path = format!("/admin/models/{}", created["id"]);
    assert_eq!(app.get(ADMIN_TOKEN, &path).await.ok(), created);

    let change = json!({"kind": "video", "prices": {"input": null, "output": "1.5"}, "supports_functions": false});
    let changed = app.put(ADMIN_TOKEN, &path, change).await.ok();
    assert_eq!((&changed["kind"], &changed["context_window"]), (&json!("other"), &json!(32_000)));
    let prices = json!({"input": null, "output": "1.5", "cache_read": null, "cache_write": null});
    assert_eq!((&changed["prices"], &changed["supports_functions"]), (&prices, &json!(false)));
    assert_eq!(changed["capabilities"], created["capabilities"]);
    let said = json!({"capabilities": {"prefill": true}});
    assert_eq!(app.put(ADMIN_TOKEN, &path, said.clone()).await.ok()["capabilities"], said["capabilities"]);
    assert_eq!(app.put(ADMIN_TOKEN, &path, json!({"capabilities": {}})).await.ok()["capabilities"], json!({}));

    let known = app.post(ADMIN_TOKEN, "/admin/models", json!({"name": "gpt-4o"})).await.created();
    assert_eq!((&known["prices"]["output"], &known["supports_vision"]), (&json!("10"), &json!(true)));
    for (query, names) in [
        ("?search=LLM", json!(["house-llm"])),
        ("?kind=chat", json!(["gpt-4o"])),
        ("?sort=-name", json!(["house-llm", "gpt-4o"])),
        ("?kind=rerank", json!([])),
    ] {
        let page = app.get(ADMIN_TOKEN, &format!("/admin/models{query}")).await.ok();
        let found: Vec<&Value> = page["items"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
        assert_eq!(json!(found), names, "{query}");
    }
    assert_eq!(app.get(ADMIN_TOKEN, "/admin/models?kind=video").await.faults(), ["/kind"]);
    for field in ["name", "capabilities"] {
        assert_eq!(app.put(ADMIN_TOKEN, &path, json!({field: null})).await.faults(), [format!("/{field}")]);
    }
    app.delete(ADMIN_TOKEN, &path).await.gone();
    app.get(ADMIN_TOKEN, &path).await.problem(StatusCode::NOT_FOUND);
}

pub(crate) async fn prices_are_taken_by_their_text(app: TestApp) {
    // A float has no such number.
    for price in ["\"0.100000000000000001\"", "0.100000000000000001"] {
        let body = format!(r#"{{"name":"m","prices":{{"input":{price}}}}}"#);
        let call = app.call(Method::POST, "/admin/models?dry_run=true").token(ADMIN_TOKEN);
        let created = call.header("content-type", "application/json").body(body).send().await.created();
        assert_eq!(created["prices"]["input"], "0.100000000000000001", "{price}");
    }
    let wrong = json!({"name": "", "context_window": 100_000_001, "prices": {"input": -1, "output": "1,5"}});
    let answer = app.post(ADMIN_TOKEN, "/admin/models", wrong).await;
    assert_eq!(answer.faults(), ["/context_window", "/name", "/prices/input", "/prices/output"]);
    let none = app.post(ADMIN_TOKEN, "/admin/models", json!({"name": "m", "prices": null})).await;
    let problem = none.problem(StatusCode::UNPROCESSABLE_ENTITY);
    let told = json!([{"pointer": "/prices", "message": "invalid type: null, expected an object of prices"}]);
    assert_eq!(problem["errors"], told);
    // What a decimal has no room for is refused, not rounded to nothing.
    let tiny = json!({"name": "m", "prices": {"input": "0.0000000000000000000000000000012e20"}});
    assert_eq!(app.post(ADMIN_TOKEN, "/admin/models", tiny).await.faults(), ["/prices/input"]);
    for (prices, pointer) in [(json!({"input": true}), "/prices/input"), (json!({"in": "1"}), "/prices/in")] {
        let answer = app.post(ADMIN_TOKEN, "/admin/models", json!({"name": "m", "prices": prices})).await;
        assert_eq!(answer.faults(), [pointer]);
    }
}

pub(crate) async fn faults_of_what_a_model_takes_are_told_at_their_places(app: TestApp) {
    let said =
        json!({"reasoning": {"style": "budget", "min_budget": 1.5}, "rejects": ["seed", "heat"], "telepathy": 1});
    let faults = [
        "/capabilities/reasoning/max_budget",
        "/capabilities/reasoning/min_budget",
        "/capabilities/rejects/1",
        "/capabilities/telepathy",
    ];
    let new = json!({"name": "m", "capabilities": said});
    assert_eq!(app.post(ADMIN_TOKEN, "/admin/models", new).await.faults(), faults);
    let created = app.post(ADMIN_TOKEN, "/admin/models", json!({"name": "m", "capabilities": null})).await.created();
    assert_eq!(created["capabilities"], json!({}));
    let path = format!("/admin/models/{}", created["id"]);
    assert_eq!(app.put(ADMIN_TOKEN, &path, json!({"capabilities": said})).await.faults(), faults);
    let list = app.put(ADMIN_TOKEN, &path, json!({"capabilities": ["seed"]})).await;
    assert_eq!(list.faults(), ["/capabilities"]);
}

pub(crate) async fn the_catalogue_is_listed_renewed_and_reset(app: TestApp) {
    let bundled = app.get(ADMIN_TOKEN, CATALOGUE).await.ok();
    assert_eq!((&bundled["source"], &bundled["bundled"]), (&json!("litellm"), &json!(true)));
    let page = app.get(ADMIN_TOKEN, &format!("{CATALOGUE}/models?search=GPT-4o&kind=chat&limit=2&page=2")).await.ok();
    assert_eq!((&page["page"], page["items"].as_array().unwrap().len()), (&json!(2), 2));
    assert!(page["total"].as_u64().unwrap() > 4, "{page}");
    for (query, pointer) in [("limit=201", "/limit"), ("kind=video", "/kind"), ("sort=name", "/sort")] {
        assert_eq!(app.get(ADMIN_TOKEN, &format!("{CATALOGUE}/models?{query}")).await.faults(), [pointer]);
    }

    let ours = json!({"source": "ours", "version": "2026-11", "license": "none", "models": [
        {"name": "house-llm", "context_window": 32_000, "input": "0.25", "output": 1.5, "supports": ["stream"],
         "capabilities": {"token_cap": "max_completion_tokens"}}]});
    let renewed = app.post(ADMIN_TOKEN, CATALOGUE, ours).await.ok();
    insta::assert_json_snapshot!("catalogue_renewed", renewed);
    assert_eq!(app.get(ADMIN_TOKEN, CATALOGUE).await.ok(), renewed);
    let page = app.get(ADMIN_TOKEN, &format!("{CATALOGUE}/models")).await.ok();
    insta::assert_json_snapshot!("catalogue_models", page);
    let entry = &app.get(ADMIN_TOKEN, "/admin/audit?limit=1").await.ok()["items"][0];
    assert_eq!((&entry["action"], &entry["record_id"]), (&json!("renew"), &Value::Null));

    app.delete(ADMIN_TOKEN, CATALOGUE).await.gone();
    app.delete(ADMIN_TOKEN, CATALOGUE).await.gone();
    assert_eq!(app.get(ADMIN_TOKEN, CATALOGUE).await.ok(), bundled);
}

pub(crate) async fn faults_of_a_catalogue_are_told_at_their_places(app: TestApp) {
    let broken =
        json!({"source": "", "version": "1", "models": [{"name": "m", "input": "x"}, {"name": "m", "sup": []}]});
    assert_eq!(app.post(ADMIN_TOKEN, CATALOGUE, broken).await.faults(), ["/models/0/input", "/models/1", "/source"]);
    assert_eq!(app.post(ADMIN_TOKEN, CATALOGUE, json!({})).await.faults(), [""]);
    for url in ["http://127.0.0.1:9/models.json", "http://169.254.169.254/", "file:///etc/passwd", ""] {
        assert_eq!(app.post(ADMIN_TOKEN, CATALOGUE, json!({"url": url})).await.faults(), ["/url"], "{url}");
    }
    // Larger than other bodies may be, and not without bound.
    let of_size = |bytes: usize| {
        let name = json!({"source": "s", "version": "1", "models": [{"name": "x".repeat(bytes)}]});
        app.post(ADMIN_TOKEN, CATALOGUE, name)
    };
    assert_eq!(of_size(3 << 20).await.faults(), ["/models/0/name"]);
    of_size(4 << 20).await.problem(StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(app.get(ADMIN_TOKEN, CATALOGUE).await.ok()["bundled"], true);
}

pub(crate) async fn features_are_a_flat_object(app: TestApp) {
    let path = "/admin/features";
    let off = json!({"log_request_body_enabled": false, "oauth_providers_acknowledged": false});
    let first = app.get(ADMIN_TOKEN, path).await.expect(StatusCode::OK);
    assert_eq!(first.json(), off);
    let on = json!({"log_request_body_enabled": true, "oauth_providers_acknowledged": false});
    let changed = app.put(ADMIN_TOKEN, path, json!({"log_request_body_enabled": true})).await.expect(StatusCode::OK);
    assert_eq!(changed.json(), on);
    assert_ne!(changed.header("etag"), first.header("etag"));
    assert_eq!(app.get(ADMIN_TOKEN, path).await.ok(), on);

    let wrong = json!({"log_request_body_enabled": "no", "oauth_providers_acknowledged": null, "nonsense": true});
    let expected = ["/log_request_body_enabled", "/nonsense", "/oauth_providers_acknowledged"];
    assert_eq!(app.put(ADMIN_TOKEN, path, wrong).await.faults(), expected);
    assert_eq!(app.put(ADMIN_TOKEN, path, json!([])).await.faults(), [""]);
    let stale = app.call(Method::PUT, path).token(ADMIN_TOKEN).header("if-match", first.header("etag"));
    let problem = stale.json(&off).send().await.problem(StatusCode::PRECONDITION_FAILED);
    assert!(problem["detail"].as_str().unwrap().starts_with("the set of feature flags has changed"), "{problem}");
    assert_eq!(app.get(ADMIN_TOKEN, path).await.ok(), on);
}
