//! What upstreams of another protocol answer now and then, and what becomes of it: for the client, for the account and for
//! the credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ez_contract::snapshot::{ProviderSnapshot, SnapshotEntry};
use ez_contract::usage::{EndedBy, UsageSource};
use ez_contract::{Protocol, UsageRecord};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::{Answer, TestGateway, binding, provider};

/// An upstream that answers every call with the same bytes.
struct OneAnswer {
    gateway: TestGateway,
    calls: Arc<AtomicUsize>,
    /// Dropped with it.
    _serving: JoinSet<()>,
}

impl OneAnswer {
    async fn start(upstream: Protocol, content_type: &'static str, body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                answer_one(stream, content_type, &body).await;
            }
        });
        let gateway = TestGateway::start_with(|config| config.health.breaker_failures = 1).await;
        let (provider_type, path) = match upstream {
            Protocol::OpenaiChat | Protocol::OpenaiResponses => ("openai", "/v1"),
            Protocol::AnthropicMessages => ("anthropic", ""),
            Protocol::Gemini => ("gemini", ""),
        };
        let provider = ProviderSnapshot {
            provider_type: provider_type.parse().unwrap(),
            protocols: vec![upstream],
            ..provider(30, &format!("http://{address}{path}"), "sk-up-30")
        };
        let bound = binding("odd", &[(30, "m")]);
        gateway.apply(vec![SnapshotEntry::Provider(provider), SnapshotEntry::Binding(bound)]).await;
        Self { gateway, calls, _serving: serving }
    }

    async fn chat(&self, stream: bool) -> Answer {
        let messages = json!([{"role": "user", "content": "hello there"}]);
        self.gateway.chat(json!({"model": "odd", "messages": messages, "stream": stream}).to_string()).await
    }

    async fn message(&self, stream: bool) -> Answer {
        let messages = json!([{"role": "user", "content": "hello there"}]);
        let body = json!({"model": "odd", "max_tokens": 9, "messages": messages, "stream": stream});
        self.gateway.call(self.gateway.request("/v1/messages", body.to_string())).await
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn records(self) -> Vec<UsageRecord> {
        self.gateway.finish().await
    }
}

/// Reads a request with its body, and answers it.
async fn answer_one(mut stream: TcpStream, content_type: &str, body: &str) {
    let mut request = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let read = stream.read(&mut piece).await.unwrap_or_default();
        request.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&request);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, sent)| {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            sent.len() >= length.unwrap_or(0)
        });
        if whole || read == 0 {
            break;
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
}

const RESPONSE: &str = r#"{"id":"resp_1","object":"response","status":"completed","output":[{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"ab","annotations":[]}]}],"usage":{"input_tokens":2,"output_tokens":3,"total_tokens":5}}"#;

const MALFORMED: &str = r#"{"candidates":[{"content":{"role":"model"},"finishReason":"MALFORMED_FUNCTION_CALL","index":0}],"usageMetadata":{"promptTokenCount":12,"candidatesTokenCount":9,"totalTokenCount":21}}"#;

#[tokio::test]
async fn what_a_model_makes_of_a_call_is_not_blamed_on_the_credential() {
    for stream in [false, true] {
        let (content_type, body) = match stream {
            false => ("application/json", MALFORMED.to_owned()),
            true => ("text/event-stream", format!("data: {MALFORMED}\r\n\r\n")),
        };
        let upstream = OneAnswer::start(Protocol::Gemini, content_type, body).await;
        for calls in 1..=2 {
            let answer = upstream.chat(stream).await;
            assert_eq!(upstream.calls(), calls, "the credential is asked again: {}", answer.text());
            assert!(
                answer.text().contains("upstream_failed") && !answer.text().contains("[DONE]"),
                "{}",
                answer.text()
            );
            assert_eq!(answer.status.as_u16(), if stream { 200 } else { 502 });
        }
        assert!(upstream.records().await.iter().all(|record| record.ended_by == EndedBy::Upstream));
    }
}

#[tokio::test]
async fn a_client_that_asked_for_a_stream_gets_one_from_a_server_that_does_not_stream() {
    let upstream = OneAnswer::start(Protocol::OpenaiResponses, "application/json", RESPONSE.to_owned()).await;
    let answer = upstream.message(true).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream"), "{}", answer.text());
    assert!(
        answer.text().contains(r#""text":"ab""#) && answer.text().contains("event: message_stop"),
        "{}",
        answer.text()
    );
    let record = upstream.records().await.remove(0);
    assert_eq!((record.ended_by, record.tokens.output_tokens), (EndedBy::Complete, Some(3)));
}

#[tokio::test]
async fn chunks_in_an_array_are_an_answer_as_well() {
    let chunk = |text: &str, end: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}}{end}}}],"usageMetadata":{{"promptTokenCount":2,"candidatesTokenCount":3,"totalTokenCount":5}}}}"#
        )
    };
    let body = format!("[{},\r\n{}\r\n]", chunk("a", ""), chunk("b", r#","finishReason":"STOP""#));
    let upstream = OneAnswer::start(Protocol::Gemini, "application/json", body).await;
    let answer = upstream.chat(true).await.text();
    let text: String = answer.lines().filter_map(|line| line.split_once(r#""content":""#)?.1.get(..1)).collect();
    assert_eq!((text.replace('"', ""), answer.matches("[DONE]").count()), ("ab".to_owned(), 1), "{answer}");
    let record = upstream.records().await.remove(0);
    assert_eq!((record.ended_by, record.usage_source), (EndedBy::Complete, UsageSource::Exact));
    assert_eq!(record.tokens.output_tokens, Some(3));
}

/// A chat stream of these chunks.
fn chunks(chunks: &[Value]) -> String {
    chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect()
}

#[tokio::test]
async fn what_an_upstream_does_not_tell_is_estimated_by_its_own_text() {
    let delta = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "one two three"}}]});
    let end = json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let body = chunks(&[delta, end]) + "data: [DONE]\n\n";
    let upstream = OneAnswer::start(Protocol::OpenaiChat, "text/event-stream", body).await;
    let answer = upstream.message(true).await.text();
    assert!(answer.contains("one two three") && answer.matches("event: message_stop").count() == 1, "{answer}");
    let record = upstream.records().await.remove(0);
    assert_eq!((record.ended_by, record.usage_source), (EndedBy::Complete, UsageSource::Estimated));
    assert!(record.tokens.input_tokens > Some(0) && record.tokens.output_tokens > Some(0), "{:?}", record.tokens);
    assert_eq!(record.response_bytes, answer.len() as u64, "what the client got is counted");
}

#[tokio::test]
async fn a_plain_answer_without_usage_is_estimated_by_its_own_text() {
    let body = json!({"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "content": "one two three"},
        "finish_reason": "stop"}]});
    let upstream = OneAnswer::start(Protocol::OpenaiChat, "application/json", body.to_string()).await;
    let answer = upstream.message(false).await;
    assert_eq!(answer.json()["content"][0]["text"], "one two three", "{}", answer.text());
    let record = upstream.records().await.remove(0);
    assert_eq!((record.ended_by, record.usage_source), (EndedBy::Complete, UsageSource::Estimated));
    assert!(record.tokens.input_tokens > Some(0) && record.tokens.output_tokens > Some(0), "{:?}", record.tokens);
    assert_eq!(record.response_bytes, answer.body.len() as u64);
}

#[tokio::test]
async fn a_chunk_that_cannot_be_read_is_no_part_of_a_good_end() {
    let delta = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "one"}}]});
    let usage = json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}});
    let body = chunks(&[delta])
        + "data: {\"choices\":[{\"delta\":{\"content\":\"t\n\n"
        + &chunks(&[usage])
        + "data: [DONE]\n\n";
    let upstream = OneAnswer::start(Protocol::OpenaiChat, "text/event-stream", body).await;
    let answer = upstream.message(true).await.text();
    assert!(answer.contains("one") && answer.contains("event: error") && !answer.contains("message_stop"), "{answer}");
    let record = upstream.records().await.remove(0);
    assert_eq!(record.ended_by, EndedBy::Upstream);
    assert_eq!((record.tokens.input_tokens, record.tokens.output_tokens), (Some(7), Some(5)), "it is paid for");
}
