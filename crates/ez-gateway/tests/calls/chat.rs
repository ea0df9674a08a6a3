//! Chat completions: what passes, what is refused, how a call fails over and how its end is told.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::{self, TOKEN, TestGateway, binding, publish, token, token_entry};
use bytes::Bytes;
use ez_contract::TokenDigest;
use ez_contract::snapshot::{SnapshotChange, SnapshotEntry, SnapshotKey};
use ez_contract::status::RecordStatus;
use ez_contract::usage::{EndedBy, UsageSource};
use ez_testkit::upstream::{Behaviour, Fault, Rule};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;

const PLAIN: &str =
    r#"{ "model":"m", "messages":[{"role":"user","content":"h\u00e9 9007199254740993"}],"x_unknown":1.0 }"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// The payloads of a stream, and whether it ended with `[DONE]`.
fn events(body: &str) -> (Vec<serde_json::Value>, bool) {
    let data: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let is_done = data.last() == Some(&"[DONE]");
    let chunks =
        data.iter().filter(|data| **data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect();
    (chunks, is_done)
}

#[tokio::test]
async fn a_plain_call_passes_byte_for_byte_and_is_accounted_for() {
    let gateway = TestGateway::start().await;
    let mut request = gateway.request("/v1/chat/completions", PLAIN);
    for (name, value) in
        [("cookie", "a=b"), ("x-forwarded-for", "1.2.3.4"), ("x-api-key", "other"), ("x-request-id", "req-7")]
    {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = gateway.call(request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(answer.header("x-request-id"), Some("req-7"));
    assert_eq!(answer.header("x-ez-attempts"), Some("1"));
    assert_eq!(answer.header("x-ez-model"), Some("m"));

    let sent = gateway.upstream.requests().pop().unwrap();
    assert_eq!(sent.body, PLAIN.as_bytes());
    assert_eq!(sent.path, "/v1/chat/completions");
    assert!(sent.credential.as_deref().is_some_and(|credential| credential.starts_with("sk-up-")));
    assert_eq!(sent.header("accept-encoding"), Some("identity"));
    for gone in ["cookie", "x-forwarded-for", "x-api-key"] {
        assert_eq!(sent.header(gone), None, "{gone}");
    }

    let usage = answer.json()["usage"].clone();
    let body_bytes = answer.body.len() as u64;
    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.status, record.ended_by, record.usage_source), (200, EndedBy::Complete, UsageSource::Exact));
    assert_eq!(record.tokens.input_tokens, usage["prompt_tokens"].as_u64());
    assert_eq!(record.tokens.output_tokens, usage["completion_tokens"].as_u64());
    assert_eq!((record.request_id.as_str(), record.attempts, record.stream), ("req-7", 1, false));
    assert_eq!((record.namespace.as_str(), record.model.as_str()), ("default", "m"));
    assert_eq!((record.request_bytes, record.response_bytes), (PLAIN.len() as u64, body_bytes));
    assert!(record.error.is_none() && !record.is_failure());
}

#[tokio::test]
async fn a_stream_passes_without_the_usage_chunk_that_nobody_asked_for() {
    let gateway = TestGateway::start().await;
    let answer = gateway.chat(STREAM).await;
    assert!(
        answer.header("content-type").is_some_and(|value| value.starts_with("text/event-stream")),
        "{}",
        answer.text()
    );
    let (chunks, is_done) = events(&answer.text());
    assert!(is_done);
    assert!(chunks.iter().all(|chunk| chunk["choices"].as_array().is_some_and(|choices| !choices.is_empty())));

    let sent: serde_json::Value = serde_json::from_slice(&gateway.upstream.requests()[0].body).unwrap();
    assert_eq!(sent["stream_options"], json!({"include_usage": true}));

    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.status, record.ended_by, record.usage_source), (200, EndedBy::Complete, UsageSource::Exact));
    assert_eq!(record.tokens.output_tokens, Some(16));
    assert!(record.stream && record.first_byte_ms.is_some());
    assert_eq!(record.response_bytes, answer.body.len() as u64);
}

#[tokio::test]
async fn a_stream_that_asked_for_usage_gets_it() {
    let gateway = TestGateway::start().await;
    let body = STREAM.replacen("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"", 1);
    let (chunks, is_done) = events(&gateway.chat(body).await.text());
    let last = chunks.last().unwrap();
    assert!(is_done && last["choices"] == json!([]) && last["usage"]["completion_tokens"] == 16, "{last}");
    gateway.finish_with_one_record().await;
}

#[tokio::test]
async fn the_public_model_name_is_kept_on_both_sides() {
    let gateway = TestGateway::start().await;
    let plain = gateway.chat(PLAIN.replace("\"m\"", "\"alias\"")).await;
    assert_eq!(plain.json()["model"], "alias");
    let (chunks, _) = events(&gateway.chat(STREAM.replace("\"m\"", "\"alias\"")).await.text());
    assert!(chunks.iter().all(|chunk| chunk["model"] == "alias"));
    for request in gateway.upstream.requests() {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["model"], "up-model");
    }
    let records = gateway.finish().await;
    assert!(
        records.iter().all(|record| record.upstream_model.as_deref() == Some("up-model") && record.model == "alias")
    );
}

#[tokio::test]
async fn calls_are_shared_between_keys_by_weight() {
    let gateway = TestGateway::start().await;
    let mut heavy = support::provider(2, &gateway.upstream.openai_base_url(), "sk-up-2");
    heavy.weight = Some(3);
    publish(&gateway.state, vec![SnapshotChange::Put(SnapshotEntry::Provider(heavy))]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..200 {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    }
    let mut counts: HashMap<String, u32> = HashMap::new();
    for request in gateway.upstream.requests() {
        *counts.entry(request.credential.unwrap()).or_default() += 1;
    }
    // 150 expected; five standard deviations are 31.
    assert!((119..=181).contains(&counts["sk-up-2"]), "{counts:?}");
    assert_eq!(gateway.finish().await.len(), 200);
}

#[tokio::test]
async fn every_failure_before_the_first_byte_goes_to_the_other_key() {
    let faults = [
        Fault::Status { status: 500, retry_after: None, code: None, message: None, html: None },
        Fault::Status { status: 429, retry_after: Some(7), code: None, message: None, html: None },
        Fault::Status { status: 401, retry_after: None, code: None, message: None, html: None },
        Fault::Status { status: 503, retry_after: None, code: None, message: None, html: Some("<h1>no</h1>".into()) },
        Fault::Reset { after_bytes: None },
        Fault::Close,
        Fault::Stall { after_bytes: 0 },
        Fault::ErrorInStream { after_events: 0, status: 503, code: None, message: None },
    ];
    for fault in faults {
        for body in [PLAIN, STREAM] {
            let gateway = TestGateway::start().await;
            // Whichever key is drawn first, its first call fails.
            gateway.upstream.rule(Rule::any(Behaviour::failing(fault.clone())).times(1));
            let answer = gateway.chat(body).await;
            assert_eq!(answer.status, StatusCode::OK, "{fault:?}: {}", answer.text());
            assert_eq!(answer.header("x-ez-attempts"), Some("2"), "{fault:?}");
            let used: Vec<_> = gateway.upstream.requests().into_iter().map(|request| request.credential).collect();
            assert!(used.len() == 2 && used[0] != used[1], "{fault:?}: {used:?}");
            let record = gateway.finish_with_one_record().await;
            assert_eq!((record.attempts, record.ended_by), (2, EndedBy::Complete), "{fault:?}");
        }
    }
}

#[tokio::test]
async fn when_every_key_fails_the_client_hears_why_in_its_own_shape() {
    let cases = [
        (Behaviour::status(429), 429, "upstream_rate_limited", EndedBy::Upstream),
        (Behaviour::status(500), 502, "upstream_error", EndedBy::Upstream),
        (Behaviour::status(401), 503, "upstream_credential_refused", EndedBy::Upstream),
        (Behaviour::failing(Fault::Close), 502, "upstream_unreachable", EndedBy::Upstream),
        (Behaviour::failing(Fault::Stall { after_bytes: 0 }), 504, "upstream_timeout", EndedBy::Upstream),
    ];
    for (behaviour, status, code, ended_by) in cases {
        let gateway = TestGateway::start().await;
        gateway.upstream.set(behaviour);
        let answer = gateway.chat(PLAIN).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), error["code"].as_str()), (status, Some(code)), "{error}");
        assert_eq!(error["request_id"].as_str(), answer.header("x-request-id"));
        assert!(!answer.text().contains("sk-up"), "{error}");
        assert_eq!(answer.header("retry-after").is_some(), matches!(status, 429 | 503));
        let record = gateway.finish_with_one_record().await;
        assert_eq!((record.status, record.ended_by, record.attempts), (status, ended_by, 2));
        assert!(record.error.is_some());
    }
}

#[tokio::test]
async fn a_fault_of_the_client_is_told_in_the_vendors_words_and_tried_once() {
    let gateway = TestGateway::start().await;
    gateway.upstream.set(Behaviour::status(400));
    let answer = gateway.chat(PLAIN).await;
    assert_eq!((answer.status.as_u16(), gateway.upstream.request_count()), (400, 1));
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.status, record.attempts), (400, 1));
    assert!(record.is_failure());
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_never_a_made_up_success() {
    let faults = [
        Fault::Truncate { after_events: Some(5), after_bytes: None },
        Fault::Truncate { after_events: None, after_bytes: Some(700) },
        Fault::Reset { after_bytes: Some(700) },
        Fault::Stall { after_bytes: 700 },
        Fault::ErrorInStream { after_events: 4, status: 503, code: None, message: None },
    ];
    for fault in faults {
        let gateway = TestGateway::start().await;
        gateway.upstream.set(Behaviour::failing(fault.clone()));
        let answer = gateway.chat(STREAM).await;
        let text = answer.text();
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!text.contains("[DONE]"), "{fault:?}: {text}");
        assert!(text.ends_with("\n\n"), "{fault:?}: {text}");
        let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap();
        let last: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{fault:?}: {e} in {text}"));
        assert!(last["error"]["message"].is_string(), "{fault:?}: {last}");
        assert_eq!(gateway.upstream.request_count(), 1, "never tried again after the first byte");
        let record = gateway.finish_with_one_record().await;
        assert_eq!((record.status, record.ended_by), (200, EndedBy::Upstream), "{fault:?}");
        assert!(record.error.is_some() && record.is_failure());
    }
}

#[tokio::test]
async fn a_full_usage_log_refuses_calls_before_they_cost_anything() {
    let gateway = TestGateway::start_with(|config| config.usage_log.max_bytes = 1).await;
    gateway.records.set_away(true);
    // The first record still fits; from then on the log is full, and nobody takes anything out of it.
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    for body in [PLAIN, STREAM] {
        let answer = gateway.chat(body).await;
        let code = answer.json()["error"]["code"].clone();
        assert_eq!((answer.status.as_u16(), code.as_str()), (503, Some("usage_log_unavailable")));
        assert!(answer.header("retry-after").is_some());
    }
    assert_eq!(gateway.upstream.request_count(), 1, "nothing was spent on refused calls");
    gateway.records.set_away(false);
    assert_eq!(gateway.finish().await.len(), 3);
}

#[tokio::test]
async fn no_spelling_of_a_key_gets_around_the_model_that_was_checked() {
    let gateway = TestGateway::start().await;
    for body in [
        r#"{"model":"m","mod\u0065l":"dear"}"#,
        r#"{"model":"m","model":"dear"}"#,
        r#"{"model":"m","Model":"dear"}"#,
        r#"{"model":"m","str\u0065am":true}"#,
    ] {
        let answer = gateway.chat(body).await;
        let code = answer.json()["error"]["code"].clone();
        assert_eq!((answer.status.as_u16(), code.as_str()), (400, Some("ambiguous_parameter")), "{body}");
    }
    assert_eq!(gateway.upstream.request_count(), 0);
    gateway.finish().await;
}

#[tokio::test]
async fn an_oversized_model_name_costs_nobody_a_record() {
    let gateway = TestGateway::start().await;
    let answer = gateway.chat(format!(r#"{{"model":"{}"}}"#, "a".repeat(200_000))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.body.len() < 1_000);
    for _ in 0..5 {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    }
    assert_eq!(gateway.finish().await.len(), 6);
}

#[tokio::test]
async fn what_vendors_say_of_the_operators_account_stays_here() {
    let message = "Rate limit reached in organization org-AbCdEf123, key sk-up-1, see https://vendor.example/x";
    let status = |status, code: Option<&str>| Fault::Status {
        status,
        retry_after: None,
        code: code.map(str::to_owned),
        message: Some(message.to_owned()),
        html: None,
    };
    let in_stream = |after_events, code: &str| Fault::ErrorInStream {
        after_events,
        status: 200,
        code: Some(code.to_owned()),
        message: Some(message.to_owned()),
    };
    let faults = [
        status(429, None),
        status(400, None),
        status(402, None),
        status(500, None),
        in_stream(0, "invalid_api_key"),
        in_stream(0, "rate_limit_exceeded"),
        in_stream(3, "server_error"),
    ];
    for fault in faults {
        let gateway = TestGateway::start().await;
        gateway.upstream.set(Behaviour::failing(fault.clone()));
        let answer = gateway.chat(STREAM).await;
        let record = gateway.finish_with_one_record().await;
        let shown = format!("{} {}", answer.text(), record.error.unwrap());
        for secret in ["org-AbC", "sk-up", "vendor.example", "127.0.0.1"] {
            assert!(!shown.contains(secret), "{fault:?}: {shown}");
        }
    }
}

#[tokio::test]
async fn faults_of_the_client_inside_a_success_are_told_once_as_what_they_are() {
    let gateway = TestGateway::start().await;
    let fault = Fault::ErrorInStream {
        after_events: 0,
        status: 400,
        code: Some("context_length_exceeded".into()),
        message: Some("too many tokens".into()),
    };
    gateway.upstream.set(Behaviour::failing(fault));
    let answer = gateway.chat(STREAM).await;
    assert_eq!((answer.status.as_u16(), gateway.upstream.request_count()), (400, 1), "{}", answer.text());
    assert!(answer.text().contains("too many tokens"));
    gateway.finish().await;
}

#[tokio::test]
async fn a_page_of_some_proxy_is_told_in_the_callers_shape() {
    let gateway = TestGateway::start().await;
    let html = Some("<html><h1>404 nginx</h1></html>".to_owned());
    let fault = Fault::Status { status: 404, retry_after: None, code: None, message: None, html };
    gateway.upstream.set(Behaviour::failing(fault));
    let answer = gateway.chat(PLAIN).await;
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status.as_u16(), error["code"].as_str()), (404, Some("upstream_refused_request")));
    gateway.finish().await;
}

#[tokio::test]
async fn a_key_without_money_is_passed_over() {
    let gateway = TestGateway::start().await;
    gateway.upstream.rule(Rule::any(Behaviour::status(402)).times(1));
    let answer = gateway.chat(PLAIN).await;
    assert_eq!((answer.status, answer.header("x-ez-attempts")), (StatusCode::OK, Some("2")));
    gateway.finish().await;
}

#[tokio::test]
async fn refusals_of_large_bodies_are_heard_whatever_their_reason() {
    let gateway = TestGateway::start().await;
    let body = Bytes::from(vec![b'a'; 8 << 20]);
    let mut unknown_key = gateway.request("/v1/chat/completions", body.clone());
    unknown_key.headers_mut().insert("authorization", "Bearer sk-nobody".parse().unwrap());
    assert_eq!(gateway.call(unknown_key).await.status, StatusCode::UNAUTHORIZED);
    let unknown_path = gateway.request("/v1/nothing", body);
    assert_eq!(gateway.call(unknown_path).await.status, StatusCode::NOT_FOUND);
    gateway.finish().await;
}

#[tokio::test]
async fn before_the_first_snapshot_nobody_is_told_that_a_key_is_bad() {
    let gateway = TestGateway::start_before_publication().await;
    let answer = gateway.chat(PLAIN).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (503, Some("starting")));
    assert!(answer.header("retry-after").is_some());
    gateway.finish().await;
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_though_its_stream_never_pauses() {
    let gateway = TestGateway::start_with(|config| config.call_timeout = Duration::from_millis(600)).await;
    gateway.upstream.set(Behaviour { tokens: 100_000, tokens_per_second: Some(500.0), ..Behaviour::default() });
    let text = gateway.chat(STREAM).await.text();
    assert!(text.contains("call_timeout") && !text.contains("[DONE]"), "{}", &text[text.len() - 300..]);
    let record = gateway.finish_with_one_record().await;
    assert!((600..3_000).contains(&record.latency_ms), "{}", record.latency_ms);
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_upstream_and_leaves_a_record() {
    let gateway = TestGateway::start().await;
    gateway.upstream.set(Behaviour { tokens: 1_000, tokens_per_second: Some(50.0), ..Behaviour::default() });
    let mut response = gateway.send(gateway.request("/v1/chat/completions", STREAM)).await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert!(first.is_data());
    drop(response);
    let waited = tokio::time::timeout(Duration::from_secs(5), async {
        while gateway.upstream.aborted_count() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("the upstream call is cancelled");
    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.status, record.ended_by, record.usage_source), (200, EndedBy::Client, UsageSource::Estimated));
}

#[tokio::test]
async fn refusals_are_clear_carry_a_request_id_and_leave_a_record() {
    let cases = [
        (r#"{"model":"m""#.to_owned(), 400, "invalid_json"),
        ("[]".to_owned(), 400, "invalid_json"),
        (r#"{"messages":[]}"#.to_owned(), 400, "missing_required_parameter"),
        (r#"{"model":"m","stream":1}"#.to_owned(), 400, "invalid_type"),
        (r#"{"model":"none"}"#.to_owned(), 404, "model_not_found"),
        (format!(r#"{{"model":"m","x":"{}"}}"#, "a".repeat(1 << 20)), 413, "request_too_large"),
    ];
    for (body, status, code) in cases {
        let gateway = TestGateway::start().await;
        let answer = gateway.chat(body).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), error["code"].as_str()), (status, Some(code)), "{error}");
        assert!(answer.header("x-request-id").is_some());
        assert_eq!(gateway.upstream.request_count(), 0);
        let record = gateway.finish_with_one_record().await;
        assert_eq!((record.status, record.ended_by), (status, EndedBy::Gateway));
    }
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_without_being_kept() {
    let gateway = TestGateway::start().await;
    let answer = gateway.chat(Bytes::from(vec![b'a'; 100 << 20])).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json()["error"]["code"], "request_too_large");
    gateway.finish_with_one_record().await;
}

#[tokio::test]
async fn unknown_keys_are_refused_in_the_callers_protocol() {
    let gateway = TestGateway::start().await;
    let mut request = gateway.request("/v1/chat/completions", PLAIN);
    request.headers_mut().insert("authorization", "Bearer sk-nobody".parse().unwrap());
    let answer = gateway.call(request).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")));

    for (path, word) in
        [("/v1/messages", "authentication_error"), ("/v1beta/models/m:generateContent", "UNAUTHENTICATED")]
    {
        let mut request = gateway.request(path, PLAIN);
        request.headers_mut().remove("authorization");
        let answer = gateway.call(request).await;
        let error = answer.json()["error"].clone();
        let told = error["type"].as_str().or(error["status"].as_str());
        assert_eq!((answer.status.as_u16(), told), (401, Some(word)), "{error}");
    }
    assert!(gateway.finish().await.is_empty(), "an unknown key leaves no record");
}

#[tokio::test]
async fn a_revoked_key_stops_within_a_second() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    publish(&gateway.state, vec![SnapshotChange::Remove(SnapshotKey::Token(TokenDigest::of(TOKEN)))]).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(gateway.finish().await.len(), 1);
}

#[tokio::test]
async fn bindings_that_cannot_serve_tell_the_real_reason() {
    let gateway = TestGateway::start().await;
    let mut broken = binding("broken", &[]);
    broken.candidates[0].error = Some("config_error".parse().unwrap());
    let mut empty = binding("empty", &[]);
    empty.candidates[0].error = Some("no_provider".parse().unwrap());
    let mut closed = binding("closed", &[(1, "m")]);
    closed.status = RecordStatus::Suspended;
    let mut paused = binding("paused", &[(1, "m")]);
    paused.candidates[0].status = RecordStatus::Suspended;
    let changes = [broken, empty, closed, paused].map(|binding| SnapshotChange::Put(SnapshotEntry::Binding(binding)));
    publish(&gateway.state, changes.into()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (model, status, code) in [
        ("broken", 503, "config_error"),
        ("empty", 503, "no_provider"),
        ("paused", 503, "no_provider"),
        ("closed", 404, "model_not_found"),
    ] {
        let answer = gateway.chat(format!(r#"{{"model":"{model}"}}"#)).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (status, Some(code)));
        assert_eq!(answer.header("retry-after").is_some(), status == 503);
    }
    let paused = gateway.chat(r#"{"model":"paused"}"#).await;
    assert!(paused.text().contains("suspended"), "{}", paused.text());
    let mut list = gateway.request("/v1/models", "");
    *list.method_mut() = http::Method::GET;
    let listed = gateway.call(list).await.json();
    let mut names: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["alias", "m"], "what cannot be routed is not listed");
    assert_eq!(gateway.finish().await.len(), 5);
}

#[tokio::test]
async fn a_gateway_tells_how_it_is() {
    let gateway = TestGateway::start().await;
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    let heartbeats = gateway.records.heartbeats.lock().unwrap().clone();
    assert_eq!(heartbeats[0].node_id, "test");
    assert!(heartbeats[0].snapshot_version > 0);
    gateway.finish().await;
}

#[tokio::test]
async fn namespaces_and_model_limits_hold() {
    let gateway = TestGateway::start().await;
    let mut limited = token();
    limited.model_limits_enabled = true;
    limited.model_limits = vec!["m".into()];
    let mut elsewhere = binding("m", &[(1, "m")]);
    elsewhere.namespace = "other".into();
    publish(
        &gateway.state,
        vec![SnapshotChange::Put(token_entry(limited)), SnapshotChange::Put(SnapshotEntry::Binding(elsewhere))],
    )
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = gateway.chat(r#"{"model":"other.m"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (403, Some("namespace_not_allowed")));
    let answer = gateway.chat(r#"{"model":"alias"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (403, Some("model_not_allowed")));

    let mut list = gateway.request("/v1/models", "");
    *list.method_mut() = http::Method::GET;
    let models = gateway.call(list).await.json();
    assert_eq!(models["data"].as_array().unwrap().len(), 1, "{models}");
    assert_eq!(models["data"][0]["id"], "m");
    gateway.finish().await;
}

#[tokio::test]
async fn a_stop_lets_streams_end_and_cuts_off_what_runs_too_long() {
    let gateway = TestGateway::start().await;
    gateway.upstream.set(Behaviour { tokens: 10, tokens_per_second: Some(50.0), ..Behaviour::default() });
    let short = gateway.send(gateway.request("/v1/chat/completions", STREAM)).await;
    gateway.upstream.set(Behaviour { tokens: 1_000, tokens_per_second: Some(50.0), ..Behaviour::default() });
    let long = gateway.send(gateway.request("/v1/chat/completions", STREAM)).await;
    gateway.stop.cancel();
    let text = short.into_body().collect().await.unwrap().to_bytes();
    assert!(text.ends_with(b"data: [DONE]\n\n"));
    assert!(long.into_body().collect().await.is_err(), "cut off");
    let mut ends: Vec<_> = gateway.finish().await.into_iter().map(|record| record.ended_by).collect();
    ends.sort();
    assert_eq!(ends, [EndedBy::Complete, EndedBy::Gateway]);
}
