//! Model lists and paths: what a key is shown, in the shape of the client that asks, and what is not served.

use bytes::Bytes;
use ez_contract::snapshot::{ModelSnapshot, SnapshotEntry};
use ez_contract::status::RecordStatus;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Answer, TestGateway, binding, token, token_entry};

fn get(gateway: &TestGateway, path: &str, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = gateway.request(path, "");
    *request.method_mut() = Method::GET;
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

async fn names(gateway: &TestGateway, path: &str, headers: &[(&'static str, &str)]) -> Vec<String> {
    let list = gateway.call(get(gateway, path, headers)).await.json();
    let models = list.get("data").or_else(|| list.get("models")).and_then(Value::as_array).unwrap();
    models.iter().map(|model| model.get("id").unwrap_or(&model["name"]).as_str().unwrap().to_owned()).collect()
}

fn model(name: &str, kind: &str) -> SnapshotEntry {
    let golden = include_str!("../../../ez-contract/goldens/model.json");
    let golden: ModelSnapshot = serde_json::from_str(golden).unwrap();
    SnapshotEntry::Model(ModelSnapshot { name: format!("default.{name}"), kind: kind.to_owned(), ..golden })
}

const ANTHROPIC: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

async fn with_models(changes: Vec<SnapshotEntry>) -> TestGateway {
    let gateway = TestGateway::start().await;
    gateway.apply(changes).await;
    gateway
}

#[tokio::test]
async fn the_list_is_in_the_shape_that_the_callers_headers_imply() {
    let gateway = with_models(vec![model("m", "chat"), model("alias", "embedding")]).await;

    let openai = gateway.call(get(&gateway, "/v1/models", &[])).await;
    assert_eq!((openai.status, openai.header("content-type")), (StatusCode::OK, Some("application/json")));
    let openai = openai.json();
    assert_eq!((&openai["object"], &openai["data"][0]["object"]), (&json!("list"), &json!("model")));
    assert_eq!((&openai["data"][0]["id"], &openai["data"][1]["id"]), (&json!("alias"), &json!("m")));
    assert!(openai["data"][0]["created"].is_i64() && openai["data"][0]["owned_by"].is_string());

    for headers in [ANTHROPIC, &[("x-api-key", "sk-ez-test0token")]] {
        let list = gateway.call(get(&gateway, "/v1/models", headers)).await.json();
        let frame = json!({"has_more": false, "first_id": "alias", "last_id": "m"});
        for (name, value) in frame.as_object().unwrap() {
            assert_eq!(&list[name], value, "{list}");
        }
        assert_eq!((&list["data"][1]["type"], &list["data"][1]["id"]), (&json!("model"), &json!("m")));
        assert_eq!(list["data"][1]["created_at"], "2024-12-17T19:33:20Z");
    }

    for (path, headers) in [
        ("/v1beta/models", &[][..]),
        ("/v1/models", &[("x-goog-api-key", "sk-ez-test0token")]),
        ("/v1beta/models", ANTHROPIC),
    ] {
        let list = gateway.call(get(&gateway, path, headers)).await.json();
        let (alias, m) = (&list["models"][0], &list["models"][1]);
        assert_eq!((&alias["name"], &m["name"]), (&json!("models/alias"), &json!("models/m")), "{list}");
        assert_eq!((&m["inputTokenLimit"], &m["outputTokenLimit"]), (&json!(128_000), &json!(8_192)));
        let methods =
            |model: &Value, method| model["supportedGenerationMethods"].as_array().unwrap().contains(&json!(method));
        assert!(methods(m, "generateContent") && methods(alias, "embedContent") && !methods(alias, "generateContent"));
        assert_eq!(list.get("nextPageToken"), None);
    }
    assert!(gateway.finish().await.is_empty(), "lists leave no record");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let more: Vec<_> = (0..30).map(|n| SnapshotEntry::Binding(binding(&format!("z{n:02}"), &[(1, "m")]))).collect();
    let gateway = with_models(more).await;
    let all = names(&gateway, "/v1/models", &[]).await;
    assert_eq!(all.len(), 32);

    let first = gateway.call(get(&gateway, "/v1/models", ANTHROPIC)).await.json();
    assert_eq!((first["data"].as_array().unwrap().len(), &first["has_more"]), (20, &json!(true)));
    let last = first["last_id"].as_str().unwrap();
    let rest = names(&gateway, &format!("/v1/models?limit=1000&after_id={last}"), ANTHROPIC).await;
    assert_eq!(rest, all[20..]);
    let before = names(&gateway, &format!("/v1/models?limit=3&before_id={last}"), ANTHROPIC).await;
    assert_eq!(before, all[16..19]);

    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page =
            gateway.call(get(&gateway, &format!("/v1beta/models?pageSize=7&pageToken={token}"), &[])).await.json();
        let models = page["models"].as_array().unwrap();
        assert!(models.len() <= 7);
        seen.extend(models.iter().map(|model| model["name"].as_str().unwrap()["models/".len()..].to_owned()));
        let Some(next) = page.get("nextPageToken") else { break };
        token = next.as_str().unwrap().to_owned();
    }
    assert_eq!(seen, all);

    for path in ["/v1/models?limit=0", "/v1/models?limit=1001", "/v1/models?limit=x"] {
        let answer = gateway.call(get(&gateway, path, ANTHROPIC)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    }
    for path in ["/v1beta/models?pageSize=-1", "/v1beta/models?pageToken=%21"] {
        let answer = gateway.call(get(&gateway, path, &[])).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn one_model_is_shown_by_the_name_that_lists_it() {
    let mut elsewhere = binding("org/x", &[(1, "m")]);
    elsewhere.namespace = "team".into();
    let mut closed = binding("closed", &[(1, "m")]);
    closed.status = RecordStatus::Suspended;
    let mut member = token();
    member.namespaces = vec!["default".into(), "team".into()];
    let gateway = with_models(vec![
        SnapshotEntry::Binding(elsewhere),
        SnapshotEntry::Binding(closed),
        token_entry(member),
        model("m", "chat"),
    ])
    .await;
    assert_eq!(names(&gateway, "/v1/models", &[]).await, ["alias", "m", "team.org/x"]);
    for path in ["/v1/models/team.org/x", "/v1/models/team.org%2Fx"] {
        assert_eq!(gateway.call(get(&gateway, path, &[])).await.json()["id"], "team.org/x", "{path}");
    }
    let anthropic = gateway.call(get(&gateway, "/v1/models/m", ANTHROPIC)).await.json();
    assert_eq!((&anthropic["type"], &anthropic["display_name"]), (&json!("model"), &json!("m")));
    let gemini = gateway.call(get(&gateway, "/v1beta/models/m", &[])).await.json();
    assert_eq!((&gemini["name"], &gemini["inputTokenLimit"]), (&json!("models/m"), &json!(128_000)));
    for name in ["none", "closed"] {
        let answer = gateway.call(get(&gateway, &format!("/v1/models/{name}"), &[])).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_list_has_what_the_key_may_call_and_nothing_else() {
    let elsewhere = |name: &str, namespace: &str| {
        let mut binding = binding(name, &[(1, "m")]);
        binding.namespace = namespace.into();
        SnapshotEntry::Binding(binding)
    };
    let bound = |name: &str| SnapshotEntry::Binding(binding(name, &[(1, "m")]));
    let gateway = with_models(vec![
        bound("embed"),
        bound("ranker"),
        bound("painter"),
        // Its name alone would lead to the namespace `foreign`.
        bound("foreign.m"),
        elsewhere("m", "foreign"),
        model("m", "chat"),
        model("embed", "embedding"),
        model("ranker", "rerank"),
        model("painter", "image"),
    ])
    .await;
    let cases: [(&[&str], &[&str]); 6] = [
        (&["*"], &["alias", "default.foreign.m", "embed", "m", "painter", "ranker"]),
        (&[], &["alias", "default.foreign.m", "embed", "m", "painter", "ranker"]),
        (&["embeddings:*"], &["alias", "default.foreign.m", "embed"]),
        (&["chat:*"], &["alias", "default.foreign.m", "m"]),
        (&["rerank:*", "completions:*"], &["alias", "default.foreign.m", "m", "ranker"]),
        (&["audio:*"], &["alias", "default.foreign.m", "painter"]),
    ];
    for (scopes, expected) in cases {
        let mut key = token();
        key.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        gateway.apply(vec![token_entry(key)]).await;
        assert_eq!(names(&gateway, "/v1/models", &[]).await, expected, "{scopes:?}");
        assert_eq!(names(&gateway, "/v1/models", ANTHROPIC).await, expected, "{scopes:?}");
        let of_google: Vec<_> = expected.iter().map(|name| format!("models/{name}")).collect();
        assert_eq!(names(&gateway, "/v1beta/models", &[]).await, of_google, "{scopes:?}");
        for name in ["alias", "default.foreign.m", "embed", "m", "painter", "ranker"] {
            let shown = gateway.call(get(&gateway, &format!("/v1/models/{name}"), &[])).await;
            let is_listed = expected.contains(&name);
            assert_eq!(shown.status.as_u16(), if is_listed { 200 } else { 404 }, "{scopes:?} {name}");
        }
    }
    let mut key = token();
    key.model_limits_enabled = true;
    key.model_limits = vec!["ranker".into(), "none".into()];
    gateway.apply(vec![token_entry(key)]).await;
    assert_eq!(names(&gateway, "/v1/models", &[]).await, ["ranker"]);
    assert_eq!(told(&gateway.call(get(&gateway, "/v1/models/m", &[])).await), (403, json!("model_not_allowed")));
    // What is listed can be called by that name.
    gateway.apply(vec![token_entry(token())]).await;
    let chat = r#"{"model":"default.foreign.m","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(gateway.chat(chat).await.status, StatusCode::OK);
    gateway.finish().await;
}

fn told(answer: &Answer) -> (u16, Value) {
    let error = answer.json()["error"].clone();
    let word = ["code", "type", "status"].iter().map(|key| error[key].clone()).find(Value::is_string);
    (answer.status.as_u16(), word.unwrap_or_default())
}

#[tokio::test]
async fn paths_that_are_not_served_are_refused_in_the_protocol_that_they_look_like() {
    let gateway = TestGateway::start().await;
    for (path, status, word) in [
        ("/v1/nothing", 404, "unknown_path"),
        ("/v1/messages/nothing", 404, "not_found_error"),
        ("/v1beta/models/m:predict", 404, "NOT_FOUND"),
        ("/v1/chat/%2e%2e/completions", 400, "invalid_path"),
        ("//v1/chat/completions", 400, "invalid_path"),
        ("/v1beta/models/..%2F..%2Fadmin:generateContent", 400, "INVALID_ARGUMENT"),
    ] {
        assert_eq!(told(&gateway.call(gateway.request(path, "{}")).await), (status, json!(word)), "{path}");
    }
    let answer = gateway.call(get(&gateway, "/v1/chat/completions", &[])).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")));
    let answer = gateway.call(gateway.request("/v1/models", "{}")).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET")));

    let mut probe = get(&gateway, "/", &[]);
    *probe.method_mut() = Method::HEAD;
    assert_eq!(gateway.call(probe).await.status, StatusCode::OK);
    assert_eq!(gateway.upstream.request_count(), 0);
    assert!(gateway.finish().await.is_empty());
}
