//! Fences: what a key reaches is what it was checked for, however the request is written.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::protocols::with_every_vendor;
use crate::support::{TOKEN, TestGateway};

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// Requests with one field that names something outside them: path, body, the field as the refusal names it.
fn naming_other_models() -> Vec<(&'static str, Value, &'static str)> {
    let chat = json!([{"role": "user", "content": "hi"}]);
    vec![
        ("/v1/chat/completions", json!({"model": "m", "messages": chat, "models": ["alias"]}), "models"),
        ("/v1/chat/completions", json!({"model": "m", "messages": chat, "fallbacks": ["alias"]}), "fallbacks"),
        ("/v1/completions", json!({"model": "m", "prompt": "hi", "models": ["alias"]}), "models"),
        (
            "/v1/responses",
            json!({"model": "m", "input": "hi", "tools": [{"type": "image_generation", "model": "alias"}]}),
            "tools[].model",
        ),
        (
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 9, "messages": chat, "fallbacks": [{"model": "x"}]}),
            "fallbacks",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "generationConfig": {"routingConfig": {"manualMode": {"modelName": "x"}}}}),
            "routingConfig",
        ),
    ]
}

fn naming_what_is_kept() -> Vec<(&'static str, Value, &'static str)> {
    let file = json!([{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]);
    vec![
        ("/v1/chat/completions", json!({"model": "m", "messages": file}), "file_id"),
        ("/v1/responses", json!({"model": "m", "input": "hi", "conversation": "conv_1"}), "conversation"),
        ("/v1/responses", json!({"model": "m", "prompt": {"id": "pmpt_1"}}), "prompt"),
        (
            "/v1/messages",
            json!({"model": "claude", "max_tokens": 9, "messages": [], "container": "container_1"}),
            "container",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "cachedContent": "cachedContents/1"}),
            "cachedContent",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/1"]}}]}),
            "fileSearchStoreNames",
        ),
        (
            "/v1beta/models/gemini:generateContent",
            json!({"contents": [], "tools": [{"retrieval": {"vertexAiSearch": {"datastore": "projects/p/dataStores/d"}}}]}),
            "retrieval",
        ),
    ]
}

fn error_of(body: &Value) -> String {
    body["error"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_reaches_the_one_model_that_it_was_checked_for() {
    let gateway = with_every_vendor().await;
    for (path, body, field) in naming_other_models() {
        let answer = gateway.call(gateway.request(path, body.to_string())).await;
        let message = error_of(&answer.json());
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {message}");
        assert!(message.contains(&format!("`{field}`")) && message.contains("one model"), "{body}: {message}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches a vendor");
    gateway.finish().await;
}

#[tokio::test]
async fn what_a_vendor_keeps_is_refused_unless_the_operator_shares_it() {
    let gateway = with_every_vendor().await;
    for (path, body, field) in naming_what_is_kept() {
        let answer = gateway.call(gateway.request(path, body.to_string())).await;
        let message = error_of(&answer.json());
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {message}");
        assert!(message.contains(&format!("`{field}`")) && message.contains("the content itself"), "{body}: {message}");
        assert!(message.contains("EZ_VENDOR_OBJECTS"), "what the operator can do: {message}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches a vendor");
    gateway.finish().await;

    let gateway = TestGateway::start_with(|config| config.passes_vendor_objects = true).await;
    let (path, body, _) = naming_what_is_kept().swap_remove(0);
    assert_eq!(gateway.call(gateway.request(path, body.to_string())).await.status, StatusCode::OK);
    assert_eq!(gateway.upstream.requests()[0].body, body.to_string().into_bytes());
    let (path, body, _) = naming_other_models().swap_remove(0);
    let answer = gateway.call(gateway.request(path, body.to_string())).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "other models stay fenced");
    gateway.finish().await;
}

/// Paths that some server on the way could read differently, or that name what no vendor has.
fn odd_paths() -> Vec<String> {
    let long = "a".repeat(10_000);
    let mut paths: Vec<String> = Vec::new();
    for id in [
        "../x",
        "..%2fx",
        "%2e%2e",
        "%2E%2E%2Fx",
        "a%00",
        "a;b",
        "a//b",
        "a%2fb",
        "a%3Fb",
        "a%23b",
        "a%0d%0ab",
        "%",
        "r\u{e9}sp",
    ] {
        let id = id.replace('\u{e9}', "%C3%A9");
        for suffix in ["", "/cancel", "/input_items", "/delete"] {
            paths.push(format!("/v1/responses/{id}{suffix}"));
        }
    }
    paths.extend(["/v1/responses/", "/v1/responses//cancel", "/v1/responses/resp_1/input_items/x"].map(str::to_owned));
    paths.extend([format!("/v1/responses/{long}"), format!("/v1/responses/{long}/cancel")]);
    for model in [
        "a/b",
        "a%2Fb",
        "..%2F..%2Fx",
        "a%3Ab",
        "a:b",
        "a;b",
        "a%00b",
        "a%5cb",
        "a%20b",
        "a%3Fkey=x",
        "%2e",
        "a//b",
        "foreign.m",
        "gemini.",
        ".gemini",
        "gemini%",
        long.as_str(),
    ] {
        for method in ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "generatecontent"] {
            paths.push(format!("/v1beta/models/{model}:{method}"));
        }
        paths.push(format!("/v1beta/tunedModels/{model}:generateContent"));
        paths.push(format!("/v1beta/publishers/google/models/{model}:generateContent"));
        paths.push(format!("/v1beta/publishers/other/models/{model}:generateContent"));
        paths.push(format!("/v1/models/{model}"));
    }
    paths.extend(
        [
            "/v1beta/cachedContents",
            "/v1beta/files",
            "/v1/files",
            "/v1/conversations",
            "/v1/vector_stores",
            "/v1/batches",
        ]
        .map(str::to_owned),
    );
    paths
}

#[tokio::test]
async fn odd_paths_are_refused_and_reach_nobody() {
    let gateway = with_every_vendor().await;
    for path in odd_paths() {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let mut request = gateway.request("/", r#"{"contents":[]}"#);
            // What is no URI at all never gets as far as a gateway.
            let Ok(uri) = format!("http://{}{path}", gateway.address).parse() else { continue };
            *request.uri_mut() = uri;
            *request.method_mut() = method.clone();
            let answer = gateway.call(request).await;
            let shown: String = path.chars().take(80).collect();
            assert!(answer.status.is_client_error(), "{method} {shown}: {} {}", answer.status, answer.text());
            assert!(answer.json().get("error").is_some(), "{method} {shown}: {}", answer.text());
        }
    }
    let asked: Vec<_> = gateway.upstream.requests().into_iter().map(|request| request.path).collect();
    assert!(asked.is_empty(), "nothing reaches a vendor: {asked:?}");
    gateway.finish().await;
}

fn get(gateway: &TestGateway, path_and_query: &str, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = gateway.request(path_and_query, CHAT);
    request.headers_mut().remove("authorization");
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn credentials_given_twice_are_one_key_and_go_no_further() {
    let gateway = with_every_vendor().await;
    let own = format!("Bearer {TOKEN}");
    let own = own.as_str();
    const PATH: &str = "/v1/chat/completions";
    let in_query = |keys: &str| format!("{PATH}?{}", keys.replace("OWN", TOKEN));
    type Case<'c> = (String, Vec<(&'static str, &'c str)>, u16);
    let cases: Vec<Case<'_>> = vec![
        (PATH.to_owned(), vec![("authorization", own), ("authorization", "Bearer sk-other")], 200),
        (PATH.to_owned(), vec![("authorization", "Bearer sk-other"), ("authorization", own)], 401),
        (PATH.to_owned(), vec![("x-api-key", TOKEN), ("x-api-key", "sk-other")], 200),
        (PATH.to_owned(), vec![("x-api-key", "sk-other"), ("x-goog-api-key", TOKEN)], 401),
        (PATH.to_owned(), vec![("authorization", own), ("x-api-key", "sk-other"), ("api-key", "sk-more")], 200),
        (in_query("key=OWN&key=sk-other"), vec![], 200),
        (in_query("key=sk-other&key=OWN"), vec![], 401),
        (in_query("k%65y=OWN&key=sk-other"), vec![], 200),
        (in_query("KEY=OWN"), vec![], 401),
        (in_query("a=1;key=OWN"), vec![], 401),
    ];
    for (path, headers, expected) in cases {
        let answer = gateway.call(get(&gateway, &path, &headers)).await;
        assert_eq!(answer.status.as_u16(), expected, "{path} {headers:?}: {}", answer.text());
    }
    for request in gateway.upstream.requests() {
        let told = format!("{} {:?}", request.path, request.headers);
        for secret in [TOKEN, "sk-other", "sk-more"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_form_names_one_model_for_every_reader() {
    let gateway = with_every_vendor().await;
    let file = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n";
    let own = "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n";
    let named = |disposition: &str, more: &str| {
        format!("--XX\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\nother\r\n")
    };
    let cases = [
        named("name=\"model\"", ""),
        named("name= \"model\"", ""),
        named("name='model'", ""),
        named("name=\"Model\"", ""),
        named("name=\"model\"; filename=\"x\"", ""),
        named("name=\"=?utf-8?B?bW9kZWw=?=\"", ""),
        named("name=\"x\"", "Content-Type: multipart/mixed; boundary=YY\r\n"),
        named("name=\"_charset_\"", ""),
        "--XX\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\n--XX\nContent-Disposition: form-data; name=\"model\"\n\nother\r\n".to_owned(),
    ];
    for twin in cases {
        for body in [format!("{own}{twin}{file}--XX--\r\n"), format!("{twin}{file}{own}--XX--\r\n")] {
            let mut request = gateway.request("/v1/audio/transcriptions", body.clone());
            request.headers_mut().insert("content-type", "multipart/form-data; boundary=XX".parse().unwrap());
            let answer = gateway.call(request).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body:?}: {}", answer.text());
        }
    }
    for content_type in
        ["multipart/form-data; boundary=XX; boundary=YY", "multipart/form-data", "multipart/mixed; boundary=XX"]
    {
        let mut request = gateway.request("/v1/audio/transcriptions", format!("{own}{file}--XX--\r\n"));
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        assert_eq!(gateway.call(request).await.status, StatusCode::BAD_REQUEST, "{content_type}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches a vendor");
    gateway.finish().await;
}
