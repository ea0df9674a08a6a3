//! Every client API: what reaches the upstream, the bytes that come back, and the account of it.

use bytes::Bytes;
use ez_contract::UsageRecord;
use ez_contract::snapshot::{ProviderSnapshot, SnapshotEntry};
use ez_contract::usage::{EndedBy, UsageSource};
use ez_testkit::upstream::{Behaviour, Fault};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::{Answer, TestGateway, binding, provider};

/// A provider of a type with the simulated upstream behind it, and models bound to it: `NAME` under that name, and
/// `NAME-alias` as `up-model`.
pub(crate) fn bound(gateway: &TestGateway, id: i64, provider_type: &str, name: &str) -> Vec<SnapshotEntry> {
    let base_url = match provider_type {
        "openai" | "compatible" => gateway.upstream.openai_base_url(),
        _ => gateway.upstream.base_url(),
    };
    let upstream = ProviderSnapshot {
        provider_type: provider_type.parse().unwrap(),
        ..provider(id, &base_url, &format!("sk-up-{id}"))
    };
    vec![
        SnapshotEntry::Provider(upstream),
        SnapshotEntry::Binding(binding(name, &[(id, name)])),
        SnapshotEntry::Binding(binding(&format!("{name}-alias"), &[(id, "up-model")])),
    ]
}

/// A gateway with the models `m` (OpenAI), `claude` (Anthropic), `gemini` and `ranker`, and `-alias` of each.
pub(crate) async fn with_every_vendor() -> TestGateway {
    let gateway = TestGateway::start().await;
    let vendors =
        [(10, "openai", "m"), (11, "anthropic", "claude"), (12, "gemini", "gemini"), (13, "compatible", "ranker")];
    let entries = vendors.iter().flat_map(|(id, provider_type, name)| bound(&gateway, *id, provider_type, name));
    gateway.apply(entries.collect()).await;
    gateway
}

struct Case {
    path: &'static str,
    body: &'static str,
    upstream_path: &'static str,
    /// Where the answer names the model; empty where it does not.
    model_at: &'static str,
    source: UsageSource,
}

const fn case(path: &'static str, body: &'static str, upstream_path: &'static str) -> Case {
    Case { path, body, upstream_path, model_at: "/model", source: UsageSource::Exact }
}

fn plain_cases() -> Vec<Case> {
    vec![
        case("/v1/completions", r#"{"model":"m", "prompt":"h\u00e9"}"#, "/v1/completions"),
        case("/v1/responses", r#"{ "model":"m","input":"hi","x":1.0}"#, "/v1/responses"),
        case("/v1/embeddings", r#"{"model":"m","input":["a","b"]}"#, "/v1/embeddings"),
        case("/v1/rerank", r#"{"model":"ranker","query":"q","documents":["a","b"]}"#, "/v1/rerank"),
        Case {
            source: UsageSource::Unknown,
            ..case("/v1/moderations", r#"{"model":"m","input":"a"}"#, "/v1/moderations")
        },
        Case {
            model_at: "",
            ..case("/v1/images/generations", r#"{"model":"m","prompt":"a"}"#, "/v1/images/generations")
        },
        case(
            "/v1/messages",
            r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
            "/v1/messages",
        ),
        case(
            "/messages",
            r#"{"model":"claude","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
            "/v1/messages",
        ),
        Case {
            model_at: "/modelVersion",
            ..case(
                "/v1beta/models/gemini:generateContent",
                r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
                "/v1beta/models/gemini:generateContent",
            )
        },
        Case {
            model_at: "/modelVersion",
            ..case(
                "/v1/models/gemini%3AgenerateContent",
                r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
                "/v1beta/models/gemini:generateContent",
            )
        },
    ]
}

fn check_account(record: &UsageRecord, case: &Case) {
    let told = (record.status, record.ended_by, record.usage_source);
    assert_eq!(told, (200, EndedBy::Complete, case.source), "{}: {:?}", case.path, record.error);
    if case.source == UsageSource::Exact {
        assert!(record.tokens.input_tokens.is_some_and(|tokens| tokens > 0), "{}: {:?}", case.path, record.tokens);
    }
    assert!(record.response_bytes > 0 && record.first_byte_ms.is_some(), "{}", case.path);
}

#[tokio::test]
async fn plain_calls_of_every_api_pass_byte_for_byte() {
    for case in plain_cases() {
        let gateway = with_every_vendor().await;
        let answer = gateway.call(gateway.request(case.path, case.body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}: {}", case.path, answer.text());
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!((sent.path.as_str(), &sent.body[..]), (case.upstream_path, case.body.as_bytes()));
        assert_eq!(sent.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-ez-attempts"), Some("1"), "{}", case.path);
        check_account(&gateway.finish_with_one_record().await, &case);
    }
}

#[tokio::test]
async fn the_public_name_stands_on_both_sides_of_every_api() {
    for case in plain_cases() {
        let gateway = with_every_vendor().await;
        let public = if case.path.contains("gemini") { "gemini" } else { case.body.split('"').nth(3).unwrap() };
        let alias = format!("{public}-alias");
        let body = case.body.replacen(&format!(r#""model":"{public}""#), &format!(r#""model":"{alias}""#), 1);
        let path = case.path.replacen("gemini", "gemini-alias", 1);
        let answer = gateway.call(gateway.request(&path, body.clone())).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!(sent.path, case.upstream_path.replacen("gemini", "up-model", 1));
        assert_eq!(sent.body, body.replacen(&alias, "up-model", 1).into_bytes(), "{path}");
        if !case.model_at.is_empty() {
            assert_eq!(answer.json().pointer(case.model_at), Some(&json!(alias)), "{path}: {}", answer.text());
        }
        assert!(!answer.text().contains("up-model"), "{path}: {}", answer.text());
        let record = gateway.finish_with_one_record().await;
        assert_eq!((record.model.as_str(), record.upstream_model.as_deref()), (alias.as_str(), Some("up-model")));
    }
}

#[tokio::test]
async fn counts_are_free_and_embeddings_of_gemini_pass() {
    let gateway = with_every_vendor().await;
    let contents = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let batch = r#"{"requests":[{"model":"models/gemini-alias","content":{"parts":[{"text":"hi"}]}}]}"#;
    for (path, body, part) in [
        ("/v1/messages/count_tokens", r#"{"model":"claude","messages":[]}"#, "/input_tokens"),
        ("/messages/count_tokens?beta=true", r#"{"model":"claude","messages":[]}"#, "/input_tokens"),
        ("/v1beta/models/gemini:countTokens", contents, "/totalTokens"),
        ("/v1beta/models/gemini:embedContent", r#"{"content":{"parts":[{"text":"hi"}]}}"#, "/embedding/values"),
        ("/v1beta/models/gemini-alias:batchEmbedContents", batch, "/embeddings/0/values"),
    ] {
        let answer = gateway.call(gateway.request(path, body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert!(answer.json().pointer(part).is_some(), "{path}: {}", answer.text());
    }
    let sent = gateway.upstream.requests();
    assert_eq!(sent[1].query, "beta=true");
    let last = sent.last().unwrap();
    assert_eq!(last.path, "/v1beta/models/up-model:batchEmbedContents");
    assert!(String::from_utf8_lossy(&last.body).contains(r#""models/up-model""#), "{:?}", last.body);
    for record in gateway.finish().await {
        let counts = record.model == "claude" || record.response_bytes < 100;
        assert!(!counts || record.tokens.output_tokens.unwrap_or(0) == 0, "{record:?}");
        assert_eq!((record.status, record.ended_by), (200, EndedBy::Complete));
    }
}

pub(crate) fn form(gateway: &TestGateway, path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--b0undary\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes(),
        );
    }
    body.extend(b"--b0undary\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\n");
    body.extend([0, 13, 10, 45, 45, 255, 0]);
    body.extend(b"\r\n--b0undary--\r\n");
    let mut request = gateway.request(path, body);
    request.headers_mut().insert("content-type", "multipart/form-data; boundary=b0undary".parse().unwrap());
    request
}

#[tokio::test]
async fn forms_pass_with_their_files_and_sound_and_text_pass_as_they_come() {
    let gateway = with_every_vendor().await;
    for path in ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits", "/v1/images/variations"] {
        let request = form(&gateway, path, &[("model", "m-alias"), ("prompt", "model")]);
        let original = http_body_util::BodyExt::collect(request.body().clone()).await.unwrap().to_bytes();
        let answer = gateway.call(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!(sent.header("content-type"), Some("multipart/form-data; boundary=b0undary"));
        let expected: Vec<u8> = {
            let at = original.windows(7).position(|window| window == b"m-alias").unwrap();
            [&original[..at], b"up-model", &original[at + 7..]].concat()
        };
        assert_eq!(sent.body, expected, "{path}");
    }
    let text =
        gateway.call(form(&gateway, "/v1/audio/transcriptions", &[("model", "m"), ("response_format", "text")])).await;
    assert_eq!((text.status, text.text()), (StatusCode::OK, format!("{}\n", "tok ".repeat(16))));

    gateway.upstream.set(Behaviour { answer_bytes: Some(300_000), ..Behaviour::default() });
    let speech = gateway.call(gateway.request("/v1/audio/speech", r#"{"model":"m","input":"hi","voice":"v"}"#)).await;
    assert_eq!((speech.status, speech.header("content-type")), (StatusCode::OK, Some("audio/mpeg")));
    assert_eq!((speech.body.len(), &speech.body[..2]), (300_000, &b"\xff\xfb"[..]));
    let missing = gateway.call(form(&gateway, "/v1/audio/transcriptions", &[])).await;
    assert_eq!((missing.status.as_u16(), &missing.json()["error"]["param"]), (400, &json!("model")));
    let records = gateway.finish().await;
    assert_eq!(records.len(), 7);
    for record in records.iter().filter(|record| record.status == 200) {
        assert_eq!(record.ended_by, EndedBy::Complete, "{record:?}");
    }
}

pub(crate) const STREAMS: &[(&str, &str, &str)] = &[
    ("/v1/chat/completions", r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#, "[DONE]"),
    ("/v1/completions", r#"{"model":"m","stream":true,"prompt":"hi"}"#, "[DONE]"),
    ("/v1/responses", r#"{"model":"m","stream":true,"input":"hi"}"#, "response.completed"),
    (
        "/v1/messages",
        r#"{"model":"claude","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
        "message_stop",
    ),
    (
        "/v1beta/models/gemini:streamGenerateContent?alt=sse",
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
        "finishReason",
    ),
    ("/v1beta/models/gemini:streamGenerateContent", r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#, "]"),
];

/// What the upstream itself says to the same request.
async fn said_by_upstream(gateway: &TestGateway, path: &str, body: &str) -> Bytes {
    let body = match path {
        "/v1/chat/completions" | "/v1/completions" => {
            body.replacen(r#""stream":true"#, r#""stream":true,"stream_options":{"include_usage":true}"#, 1)
        }
        _ => body.to_owned(),
    };
    let request = Request::post(format!("{}{path}", gateway.upstream.base_url()))
        .header("x-api-key", "sk-direct")
        .header("anthropic-version", "2023-06-01")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    gateway.call(request).await.body
}

/// The text of a stream without what differs between two answers: ids, times, and the usage chunk that was not asked for.
fn comparable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let without_usage = text.split_inclusive("\n\n").filter(|event| !event.contains(r#""choices":[],"usage""#));
    let mut kept: String = without_usage.collect();
    for mark in ["chatcmpl-", "cmpl-", "resp_", "msg_", "\"created\":", "\"created_at\":", "\"responseId\":\""] {
        let mut rest = kept.as_str();
        let mut out = String::new();
        while let Some(at) = rest.find(mark) {
            out.push_str(&rest[..at + mark.len()]);
            rest = rest[at + mark.len()..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
        }
        out.push_str(rest);
        kept = out;
    }
    kept.replace(r#""usage":null"#, "").replace(",}", "}")
}

#[tokio::test]
async fn streams_of_every_protocol_pass_byte_for_byte_and_end_properly() {
    for (path, body, terminal) in STREAMS {
        let gateway = with_every_vendor().await;
        let direct = said_by_upstream(&gateway, path, body).await;
        let answer = gateway.call(gateway.request(path, *body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        assert_eq!(comparable(&answer.body), comparable(&direct), "{path}");
        assert!(answer.text().contains(terminal), "{path}: {}", answer.text());
        let record = gateway.finish_with_one_record().await;
        let told = (record.ended_by, record.usage_source, record.tokens.output_tokens, record.stream);
        assert_eq!(told, (EndedBy::Complete, UsageSource::Exact, Some(16), true), "{path}: {record:?}");
        assert!(record.tokens.input_tokens.is_some_and(|tokens| tokens > 0), "{path}");
        assert_eq!(record.response_bytes, answer.body.len() as u64, "{path}");
    }
}

#[tokio::test]
async fn streams_name_the_public_model() {
    for (path, body, _) in STREAMS {
        let gateway = with_every_vendor().await;
        let path = path.replacen("gemini", "gemini-alias", 1);
        let body = body.replacen("\"m\"", "\"m-alias\"", 1).replacen("\"claude\"", "\"claude-alias\"", 1);
        let text = gateway.call(gateway.request(&path, body)).await.text();
        assert!(text.contains("-alias") && !text.contains("up-model"), "{path}: {text}");
        let record = gateway.finish_with_one_record().await;
        assert_eq!((record.ended_by, record.upstream_model.as_deref()), (EndedBy::Complete, Some("up-model")));
    }
}

fn error_word(answer: &Answer) -> Value {
    let json = answer.json();
    let error = json.get("error").cloned().unwrap_or_default();
    ["status", "type"].iter().map(|key| error[*key].clone()).find(Value::is_string).unwrap_or_default()
}

#[tokio::test]
async fn failures_are_told_in_the_callers_protocol() {
    for (path, body, _) in STREAMS {
        let gateway = with_every_vendor().await;
        gateway.upstream.set(Behaviour::status(503));
        let answer = gateway.call(gateway.request(path, *body)).await;
        let (status, word) = match *path {
            "/v1/messages" => (529, "overloaded_error"),
            path if path.contains("gemini") => (503, "UNAVAILABLE"),
            _ => (503, "server_error"),
        };
        assert_eq!((answer.status.as_u16(), error_word(&answer)), (status, json!(word)), "{path}: {}", answer.text());
        let vendors_name = answer.header("request-id").filter(|id| Some(*id) == answer.header("x-request-id"));
        assert_eq!(vendors_name.is_some(), *path == "/v1/messages", "Anthropic's SDKs look for the id under its name");

        // The vendor's own complaint about the request passes in its words.
        let fault = Fault::Status {
            status: 400,
            retry_after: None,
            code: None,
            message: Some("too many tokens".into()),
            html: None,
        };
        gateway.upstream.set(Behaviour::failing(fault));
        let answer = gateway.call(gateway.request(path, *body)).await;
        assert_eq!(answer.status.as_u16(), 400, "{path}");
        assert!(answer.text().contains("too many tokens"), "{path}: {}", answer.text());
        gateway.finish().await;
    }
}
