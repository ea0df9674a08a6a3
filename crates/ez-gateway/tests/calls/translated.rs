//! Calls to upstreams of another protocol: what reaches them, what comes back in the client's, and the account of it.

use std::time::Duration;

use ez_contract::Protocol;
use ez_contract::UsageRecord;
use ez_contract::snapshot::{BindingSnapshot, Candidate, ClientGone, ProviderSnapshot, SnapshotEntry};
use ez_contract::usage::{EndedBy, UsageSource};
use ez_testkit::upstream::{Behaviour, Fault, Rule};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::{Answer, TestGateway, binding, provider};

/// The upstreams of these tests: the id of the API key, its type, the one protocol that it speaks and its model.
const UPSTREAMS: [(i64, &str, Protocol, &str); 4] = [
    (20, "openai", Protocol::OpenaiChat, "gpt-4.1"),
    (21, "openai", Protocol::OpenaiResponses, "gpt-5.4"),
    (22, "anthropic", Protocol::AnthropicMessages, "claude-sonnet-4-5"),
    (23, "gemini", Protocol::Gemini, "gemini-2.5-flash"),
];

fn upstream(gateway: &TestGateway, id: i64, provider_type: &str, protocol: Protocol) -> ProviderSnapshot {
    let base_url = match provider_type {
        "openai" | "compatible" => gateway.upstream.openai_base_url(),
        _ => gateway.upstream.base_url(),
    };
    ProviderSnapshot {
        provider_type: provider_type.parse().unwrap(),
        protocols: vec![protocol],
        ..provider(id, &base_url, &format!("sk-up-{id}"))
    }
}

/// A gateway with one model per protocol of its upstream, named after it, and `tiers`: Anthropic first, then OpenAI.
async fn gateway() -> TestGateway {
    // Failures are asked for, and no upstream is to be left out for them.
    let gateway = TestGateway::start_with(|config| config.health.breaker_failures = 1_000).await;
    let mut entries = Vec::new();
    for (id, provider_type, protocol, model) in UPSTREAMS {
        entries.push(SnapshotEntry::Provider(upstream(&gateway, id, provider_type, protocol)));
        entries.push(SnapshotEntry::Binding(binding(protocol.as_str(), &[(id, model)])));
    }
    let tier = |id: i64, model: &str, priority| {
        let Candidate { upstreams, .. } = binding("tiers", &[(id, model)]).candidates.remove(0);
        Candidate { upstreams, priority, ..binding("tiers", &[]).candidates.remove(0) }
    };
    let candidates = vec![tier(22, "claude-sonnet-4-5", 1), tier(20, "gpt-4.1", 0)];
    entries.push(SnapshotEntry::Binding(BindingSnapshot { candidates, ..binding("tiers", &[]) }));
    gateway.apply(entries).await;
    gateway
}

/// Path and body of a call in a client's protocol.
fn call(client: Protocol, model: &str, stream: bool) -> (String, String) {
    let (path, body) = match client {
        Protocol::OpenaiChat => (
            "/v1/chat/completions".to_owned(),
            json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}),
        ),
        Protocol::OpenaiResponses => {
            ("/v1/responses".to_owned(), json!({"model": model, "input": "hi", "stream": stream}))
        }
        Protocol::AnthropicMessages => (
            "/v1/messages".to_owned(),
            json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], "stream": stream}),
        ),
        Protocol::Gemini => {
            let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            let body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
            (format!("/v1beta/models/{model}:{method}"), body)
        }
    };
    (path, body.to_string())
}

const fn upstream_path(upstream: Protocol, stream: bool) -> &'static str {
    match upstream {
        Protocol::OpenaiChat => "/v1/chat/completions",
        Protocol::OpenaiResponses => "/v1/responses",
        Protocol::AnthropicMessages => "/v1/messages",
        Protocol::Gemini if stream => "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        Protocol::Gemini => "/v1beta/models/gemini-2.5-flash:generateContent",
    }
}

/// Where a plain answer has its text and its output tokens.
fn text_and_output(client: Protocol, answer: &Value) -> (String, u64) {
    let (text, output) = match client {
        Protocol::OpenaiChat => ("/choices/0/message/content", "/usage/completion_tokens"),
        Protocol::OpenaiResponses => ("/output/0/content/0/text", "/usage/output_tokens"),
        Protocol::AnthropicMessages => ("/content/0/text", "/usage/output_tokens"),
        Protocol::Gemini => ("/candidates/0/content/parts/0/text", "/usageMetadata/candidatesTokenCount"),
    };
    let text = answer.pointer(text).and_then(Value::as_str).unwrap_or_else(|| panic!("{client}: no text in {answer}"));
    (text.to_owned(), answer.pointer(output).and_then(Value::as_u64).unwrap_or_default())
}

/// The data of a stream's events.
fn events(answer: &Answer) -> Vec<Value> {
    let data = |line: &str| line.strip_prefix("data: ").map(|data| serde_json::from_str(data.trim()).ok());
    answer.text().lines().filter_map(data).flatten().collect()
}

/// The text of a stream, put together.
fn streamed_text(client: Protocol, answer: &Answer) -> String {
    let place = match client {
        Protocol::OpenaiChat => "/choices/0/delta/content",
        Protocol::OpenaiResponses => "/delta",
        Protocol::AnthropicMessages => "/delta/text",
        Protocol::Gemini => "/candidates/0/content/parts/0/text",
    };
    events(answer).iter().filter_map(|event| event.pointer(place)?.as_str().map(str::to_owned)).collect()
}

/// How a stream of a protocol ends: what its last event holds.
const fn last_words(client: Protocol) -> &'static str {
    match client {
        Protocol::OpenaiChat => "data: [DONE]",
        Protocol::OpenaiResponses => "event: response.completed",
        Protocol::AnthropicMessages => "event: message_stop",
        Protocol::Gemini => "\"finishReason\":\"STOP\"",
    }
}

fn check_account(record: &UsageRecord, name: &str) {
    let told = (record.status, record.ended_by, record.usage_source, record.tokens.output_tokens);
    assert_eq!(told, (200, EndedBy::Complete, UsageSource::Exact, Some(16)), "{name}: {:?}", record.error);
    assert_eq!(record.tokens.cache_read_tokens, Some(1).filter(|_| record.tokens.input_tokens > Some(0)), "{name}");
}

fn pairs() -> impl Iterator<Item = (Protocol, Protocol)> {
    let all = || Protocol::ALL.iter().copied();
    all().flat_map(move |client| all().map(move |upstream| (client, upstream))).filter(|(a, b)| a != b)
}

#[tokio::test]
async fn every_client_reaches_every_upstream() {
    let gateway = gateway().await;
    gateway.upstream.set(Behaviour { cached_tokens: 1, reasoning_tokens: 4, ..Behaviour::default() });
    let mut calls = 0;
    for (client, upstream) in pairs() {
        for stream in [false, true] {
            let name = format!("{client} to {upstream}, stream {stream}");
            let (path, body) = call(client, upstream.as_str(), stream);
            gateway.upstream.clear_requests();
            let answer = gateway.call(gateway.request(&path, body)).await;
            assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.text());
            let sent = gateway.upstream.requests().pop().unwrap();
            assert_eq!(sent.path, upstream_path(upstream, stream), "{name}");
            assert_eq!(sent.query, if upstream == Protocol::Gemini && stream { "alt=sse" } else { "" });
            if stream {
                assert_eq!(streamed_text(client, &answer), "tok ".repeat(12), "{name}: {}", answer.text());
                assert!(answer.text().contains(last_words(client)), "{name}: {}", answer.text());
                assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{name}");
                assert!(
                    !answer.text().contains("claude-") && !answer.text().contains("gpt-"),
                    "{name}: the public name"
                );
            } else {
                let (text, output) = text_and_output(client, &answer.json());
                let shown = if client == Protocol::Gemini { 12 } else { 16 };
                assert_eq!((text, output), ("tok ".repeat(12), shown), "{name}");
                assert!(answer.header("x-ez-provider").is_some(), "{name}");
            }
            calls += 1;
        }
    }
    let records = gateway.finish().await;
    assert_eq!(records.len(), calls);
    records.iter().for_each(|record| check_account(record, &record.model));
}

#[tokio::test]
async fn failover_crosses_protocols() {
    let gateway = gateway().await;
    gateway.upstream.rule(Rule::any(Behaviour::status(529)).model("claude-sonnet-4-5"));
    for (client, stream) in [(Protocol::OpenaiChat, false), (Protocol::AnthropicMessages, true)] {
        let (path, body) = call(client, "tiers", stream);
        let answer = gateway.call(gateway.request(&path, body)).await;
        assert_eq!((answer.status, answer.header("x-ez-attempts")), (StatusCode::OK, Some("2")), "{}", answer.text());
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!(sent.path, "/v1/chat/completions", "{client}");
    }
}

#[tokio::test]
async fn what_one_upstream_has_no_words_for_another_may_have() {
    let gateway = gateway().await;
    let body =
        |model: &str| json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "n": 2}).to_string();
    let answer = gateway.chat(body("tiers")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(gateway.upstream.request_count(), 1, "nothing was sent to the one that cannot");
    let refused = gateway.chat(body("anthropic-messages")).await;
    let error = &refused.json()["error"];
    assert_eq!(
        (refused.status.as_u16(), &error["param"], &error["code"]),
        (400, &json!("n"), &json!("untranslatable_parameter"))
    );
    assert_eq!(gateway.upstream.request_count(), 1);
    // It says nothing of the credential.
    let (path, body) = call(Protocol::OpenaiChat, "anthropic-messages", false);
    assert_eq!(gateway.call(gateway.request(&path, body)).await.status, StatusCode::OK);
    let (link, asked) = (gateway.records.clone(), gateway.upstream.request_count());
    let records = gateway.finish().await;
    let refused = records.iter().find(|record| record.status == 400).unwrap();
    assert_eq!((refused.ended_by, refused.tokens.output_tokens.unwrap_or(0)), (EndedBy::Gateway, 0));
    // What was never sent is no attempt, of the call as of the API key.
    assert_eq!((refused.attempts, refused.api_key_id), (0, None));
    assert_eq!(records.iter().map(|record| u64::from(record.attempts)).sum::<u64>(), asked);
    let flushes = link.flushes.lock().unwrap();
    assert_eq!(flushes.iter().flat_map(|flush| &flush.deltas).map(|delta| delta.requests).sum::<u64>(), asked);
}

#[tokio::test]
async fn what_is_left_out_is_told() {
    let gateway = gateway().await;
    let body = json!({"model": "anthropic-messages", "messages": [{"role": "user", "content": "hi"}],
        "logit_bias": {"1": 2}, "seed": 7, "odd_one": true, "temperature": 0.5});
    let answer = gateway.chat(body.to_string()).await;
    let dropped: Vec<_> = answer.header("x-ez-dropped-params").unwrap_or_default().split(", ").collect();
    for name in ["logit_bias", "seed", "odd_one"] {
        assert!(dropped.contains(&name), "{name} of {dropped:?}");
    }
    assert_eq!(dropped.len(), 3, "{dropped:?}");
    let sent: Value = serde_json::from_slice(&gateway.upstream.requests().pop().unwrap().body).unwrap();
    assert_eq!((&sent["temperature"], sent.get("seed")), (&json!(0.5), None));
    let (path, body) = call(Protocol::OpenaiChat, "openai-chat", false);
    let native = gateway.call(gateway.request(&path, body)).await;
    assert_eq!(native.header("x-ez-dropped-params"), None);
}

#[tokio::test]
async fn errors_are_told_in_the_clients_protocol() {
    let gateway = gateway().await;
    let fault = Fault::Status {
        status: 400,
        retry_after: None,
        code: None,
        message: Some("prompt is too long: 210000 tokens > 200000 maximum".to_owned()),
        html: None,
    };
    gateway.upstream.set(Behaviour::failing(fault));
    for (client, upstream) in pairs() {
        let (path, body) = call(client, upstream.as_str(), false);
        let answer = gateway.call(gateway.request(&path, body)).await;
        let error = answer.json()["error"].clone();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{client} to {upstream}");
        assert!(error["message"].as_str().unwrap().contains("prompt is too long"), "{error}");
        match client {
            Protocol::OpenaiChat | Protocol::OpenaiResponses => assert_eq!(error["code"], "context_length_exceeded"),
            Protocol::AnthropicMessages => assert_eq!(error["type"], "invalid_request_error"),
            Protocol::Gemini => assert_eq!(error["status"], "INVALID_ARGUMENT"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_the_clients_own_error() {
    let gateway = gateway().await;
    let faults = [
        Fault::ErrorInStream { after_events: 6, status: 529, code: None, message: None },
        Fault::Truncate { after_events: Some(6), after_bytes: None },
    ];
    for (client, upstream) in pairs() {
        for fault in &faults {
            gateway.upstream.set(Behaviour::failing(fault.clone()));
            let (path, body) = call(client, upstream.as_str(), true);
            let answer = gateway.call(gateway.request(&path, body)).await;
            let name = format!("{client} to {upstream}, {fault:?}: {}", answer.text());
            assert_eq!(answer.status, StatusCode::OK, "{name}");
            let last = events(&answer).pop().unwrap();
            match client {
                Protocol::OpenaiChat | Protocol::Gemini => assert!(last["error"].is_object(), "{name}"),
                Protocol::OpenaiResponses | Protocol::AnthropicMessages => assert_eq!(last["type"], "error", "{name}"),
            }
            assert!(!answer.text().contains(last_words(client)), "{name}");
        }
    }
    assert!(gateway.finish().await.iter().all(|record| record.ended_by == EndedBy::Upstream));
}

#[tokio::test]
async fn a_gemini_stream_may_be_an_array() {
    let gateway = gateway().await;
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let path = "/v1beta/models/anthropic-messages:streamGenerateContent";
    let answer = gateway.call(gateway.request(path, body)).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let chunks = answer.json();
    let text =
        |chunk: &Value| chunk.pointer("/candidates/0/content/parts/0/text").and_then(Value::as_str).map(str::to_owned);
    assert_eq!(chunks.as_array().unwrap().iter().filter_map(text).collect::<String>(), "tok ".repeat(16));
    gateway.upstream.set(Behaviour::failing(Fault::Truncate { after_events: Some(6), after_bytes: None }));
    let broken = gateway.call(gateway.request(path, body)).await.json();
    assert!(broken.as_array().unwrap().last().unwrap()["error"].is_object(), "{broken}");
}

#[tokio::test]
async fn usage_is_streamed_to_those_who_asked_alone() {
    let gateway = gateway().await;
    let (path, body) = call(Protocol::OpenaiChat, "anthropic-messages", true);
    let answer = gateway.call(gateway.request(&path, body.clone())).await;
    assert!(events(&answer).iter().all(|event| event["usage"].is_null()), "{}", answer.text());
    let asked = body.replace(r#""stream":true"#, r#""stream":true,"stream_options":{"include_usage":true}"#);
    let answer = gateway.call(gateway.request(&path, asked)).await;
    let last = events(&answer).pop().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(16)));
}

#[tokio::test]
async fn tokens_are_counted_where_an_upstream_can_and_estimated_where_none_can() {
    let gateway = gateway().await;
    let requests = [
        (
            "/v1/messages/count_tokens".to_owned(),
            r#"{"model":"MODEL","system":"be brief","messages":[{"role":"user","content":"hello there"}]}"#,
            "/input_tokens",
        ),
        ("/v1/responses/input_tokens".to_owned(), r#"{"model":"MODEL","input":"hello there"}"#, "/input_tokens"),
        (
            "/v1beta/models/MODEL:countTokens".to_owned(),
            r#"{"contents":[{"role":"user","parts":[{"text":"hello there"}]}]}"#,
            "/totalTokens",
        ),
    ];
    for (path, body, place) in &requests {
        for (model, counts) in [("anthropic-messages", true), ("gemini", true), ("openai-chat", false)] {
            gateway.upstream.clear_requests();
            let answer =
                gateway.call(gateway.request(&path.replace("MODEL", model), body.replace("MODEL", model))).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} of {model}: {}", answer.text());
            assert!(
                answer.json().pointer(place).unwrap().as_u64().is_some_and(|tokens| tokens > 0),
                "{}",
                answer.text()
            );
            assert_eq!(answer.header("x-ez-estimated"), (!counts).then_some("true"), "{path} of {model}");
            let sent = gateway.upstream.requests().pop().map(|sent| sent.path);
            let expected = match model {
                "anthropic-messages" => Some("/v1/messages/count_tokens".to_owned()),
                "gemini" => Some("/v1beta/models/gemini-2.5-flash:countTokens".to_owned()),
                _ => None,
            };
            assert_eq!(sent, expected, "{path} of {model}");
        }
    }
    let records = gateway.finish().await;
    assert!(records.iter().all(|record| record.tokens.input_tokens == Some(0)), "counting is free");
}

#[tokio::test]
async fn embeddings_go_to_either_vendor() {
    let gateway = gateway().await;
    let body = r#"{"model":"gemini","input":["a","b"],"encoding_format":"float"}"#;
    let answer = gateway.call(gateway.request("/v1/embeddings", body)).await.json();
    assert_eq!(answer["data"].as_array().map(Vec::len), Some(2), "{answer}");
    assert_eq!(answer["data"][1]["embedding"].as_array().map(Vec::len), Some(8), "{answer}");
    let sent = gateway.upstream.requests().pop().unwrap();
    assert_eq!(sent.path, "/v1beta/models/gemini-2.5-flash:batchEmbedContents");
    let body = r#"{"content":{"parts":[{"text":"a"}]}}"#;
    let answer = gateway.call(gateway.request("/v1beta/models/openai-chat:embedContent", body)).await.json();
    assert_eq!(answer["embedding"]["values"].as_array().map(Vec::len), Some(8), "{answer}");
    assert_eq!(gateway.upstream.requests().pop().unwrap().path, "/v1/embeddings");
}

#[tokio::test]
async fn reranking_is_asked_as_the_model_wants_it() {
    let gateway = gateway().await;
    let ranker = upstream(&gateway, 24, "compatible", Protocol::OpenaiChat);
    let bound = binding("ranker", &[(24, "rerank-2.5")]);
    gateway.apply(vec![SnapshotEntry::Provider(ranker), SnapshotEntry::Binding(bound)]).await;
    let body = r#"{"model":"ranker","query":"q","documents":["a","b"],"top_n":1}"#;
    let answer = gateway.call(gateway.request("/v1/rerank", body)).await.json();
    assert!(answer["results"].as_array().is_some_and(|results| !results.is_empty()), "{answer}");
    assert_eq!(answer["model"], "ranker");
    let sent: Value = serde_json::from_slice(&gateway.upstream.requests().pop().unwrap().body).unwrap();
    assert_eq!((&sent["top_k"], sent.get("top_n"), &sent["model"]), (&json!(1), None, &json!("rerank-2.5")));
}

#[tokio::test]
async fn a_translated_response_is_kept_by_nobody() {
    let gateway = gateway().await;
    let (path, body) = call(Protocol::OpenaiResponses, "anthropic-messages", false);
    let answer = gateway.call(gateway.request(&path, body)).await.json();
    assert_eq!(answer["store"], json!(false), "{answer}");
    let id = answer["id"].as_str().unwrap();
    let mut request = gateway.request(&format!("/v1/responses/{id}"), "");
    *request.method_mut() = http::Method::GET;
    assert_eq!(gateway.call(request).await.status, StatusCode::NOT_FOUND);
    let body = json!({"model": "anthropic-messages", "input": "go on", "previous_response_id": id}).to_string();
    let refused = gateway.call(gateway.request("/v1/responses", body)).await;
    assert_eq!(refused.json()["error"]["param"], "previous_response_id", "{}", refused.text());
    assert!(refused.status.is_client_error());
}

#[tokio::test]
async fn state_of_another_vendor_does_not_reach_one_that_did_not_make_it() {
    let gateway = gateway().await;
    let thinking = |signature: &str| json!({"type": "thinking", "thinking": "t", "signature": signature});
    let body = |signature: &str| {
        json!({"model": "anthropic-messages", "max_tokens": 50, "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [thinking(signature), {"type": "text", "text": "b"}]},
            {"role": "user", "content": "c"}]})
        .to_string()
    };
    for (signature, is_sent) in [("ez1.gs.c2ln", false), ("c2ln", true)] {
        let answer = gateway.call(gateway.request("/v1/messages", body(signature))).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let sent: Value = serde_json::from_slice(&gateway.upstream.requests().pop().unwrap().body).unwrap();
        let blocks = sent["messages"][1]["content"].as_array().unwrap();
        assert_eq!(blocks.iter().any(|block| block["type"] == "thinking"), is_sent, "{sent}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_charged_what_the_upstream_tells() {
    let gateway = TestGateway::start_with(|config| config.on_client_gone = ClientGone::Drain).await;
    for (id, provider_type, protocol, model) in UPSTREAMS {
        let provider = SnapshotEntry::Provider(upstream(&gateway, id, provider_type, protocol));
        gateway.apply(vec![provider, SnapshotEntry::Binding(binding(protocol.as_str(), &[(id, model)]))]).await;
    }
    gateway.upstream.set(Behaviour { tokens: 12, tokens_per_second: Some(100.0), ..Behaviour::default() });
    let mut calls = 0;
    for (client, upstream) in pairs() {
        let (path, body) = call(client, upstream.as_str(), true);
        let mut response = gateway.send(gateway.request(&path, body)).await;
        assert!(response.body_mut().frame().await.unwrap().unwrap().is_data(), "{client} to {upstream}");
        calls += 1;
    }
    while gateway.records.taken.lock().unwrap().len() < calls {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for record in gateway.finish().await {
        let told = (record.ended_by, record.usage_source, record.tokens.output_tokens);
        assert_eq!(told, (EndedBy::Client, UsageSource::Exact, Some(12)), "{record:?}");
        assert!(record.response_bytes < 4_000, "what nobody got is not counted: {record:?}");
    }
}
