//! The simulated upstream as its clients see it, and the load generator against it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "upstream/attentive.rs"]
mod attentive;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ez_testkit::load::{self, LoadOptions};
use ez_testkit::upstream::{Behaviour, Fault, Rule, SimUpstream, input_tokens, parse_duration};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer as far as it came.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
    /// Whether the body ended as HTTP says it should.
    whole: bool,
}

/// One SSE event: its name if it has one, its data.
type SseEvent = (Option<String>, String);

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const STREAM_GENERATE: &str = "/v1beta/models/gem-1:streamGenerateContent?alt=sse";

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn events(&self) -> Vec<SseEvent> {
        sse(&self.body, "\n")
    }

    /// The data of the events, `[DONE]` aside.
    fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        let data = events.iter().map(|(_, data)| data).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))).collect()
    }
}

async fn call(upstream: &SimUpstream, method: Method, path: &str, body: &str) -> Answer {
    try_call(upstream, method, path, &[("authorization", "Bearer sk-a")], body).await.expect("no answer")
}

async fn post(upstream: &SimUpstream, path: &str, body: &Value) -> Answer {
    let headers = [("authorization", "Bearer sk-a"), ("anthropic-version", "2023-06-01")];
    try_call(upstream, Method::POST, path, &headers, &body.to_string()).await.expect("no answer")
}

async fn try_call(
    upstream: &SimUpstream,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, hyper_util::client::legacy::Error> {
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    send(&client, upstream, method, path, headers, body).await
}

async fn send(
    client: &Client<HttpConnector, Full<Bytes>>,
    upstream: &SimUpstream,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Answer, hyper_util::client::legacy::Error> {
    let mut request = Request::builder().method(method).uri(format!("{}{path}", upstream.base_url()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let response = client.request(request).await?;
    let (parts, mut incoming) = response.into_parts();
    let mut bytes = Vec::new();
    let whole = loop {
        match incoming.frame().await {
            Some(Ok(frame)) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8_lossy(&bytes).into_owned(),
        whole,
    })
}

/// Parses SSE strictly: every event is `event:` at most once, one `data:`, an empty line, with the given line ends.
fn sse(text: &str, line_end: &str) -> Vec<SseEvent> {
    let separator = line_end.repeat(2);
    let events = text.strip_suffix(&separator).unwrap_or_else(|| panic!("unfinished event: {text:?}"));
    let parse = |event: &str| {
        let mut lines: Vec<&str> = event.split(line_end).collect();
        let data = lines.pop().and_then(|line| line.strip_prefix("data: ")).expect("an event without data");
        assert!(!data.contains(['\r', '\n']), "{data:?}");
        let name = lines.pop().map(|line| line.strip_prefix("event: ").expect("neither name nor data").to_owned());
        assert!(lines.is_empty(), "{event:?}");
        (name, data.to_owned())
    };
    events.split(separator.as_str()).map(parse).collect()
}

fn chat(stream: bool) -> Value {
    json!({"model": "m-1", "stream": stream, "messages": [{"role": "user", "content": "eight by"}]})
}

fn messages(stream: bool) -> Value {
    json!({"model": "m-1", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "eight by"}]})
}

fn responses(stream: bool) -> Value {
    json!({"model": "m-1", "stream": stream, "input": "eight by"})
}

fn generate() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "eight by"}]}]})
}

fn counted() -> Behaviour {
    Behaviour {
        tokens: 5,
        token_text: "a\"b ".to_owned(),
        cached_tokens: 1,
        reasoning_tokens: 2,
        ..Behaviour::default()
    }
}

fn parameters() -> Value {
    json!({"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"type": "string", "enum": ["c", "f"]},
    }})
}

fn arguments() -> Value {
    json!({"city": "Paris", "days": 3, "unit": "c"})
}

#[test]
fn input_tokens_are_a_quarter_of_the_text() {
    let check = |body: Value, expected: u64| assert_eq!(input_tokens(body.to_string().as_bytes()), expected, "{body}");
    check(chat(false), 2);
    check(messages(false), 2);
    check(responses(false), 2);
    check(generate(), 2);
    check(json!({"model": "long name of a model", "input": [[1, 2, 3], [4]]}), 4);
    check(json!({"input": "nine bytes"[..9]}), 3);
    check(
        json!({"messages": [], "tools": [{"function": {"name": "f", "description": "long", "parameters": parameters()}}]}),
        1,
    );
    check(
        json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "four"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        ]}]}),
        1,
    );
    assert_eq!(input_tokens(b"{"), 0);
}

#[test]
fn behaviour_is_read_from_json() {
    let text =
        r#"{"tokens":3,"first_byte_delay_ms":20,"tokens_per_second":50,"fault":{"kind":"reset","after_bytes":7}}"#;
    let behaviour: Behaviour = serde_json::from_str(text).unwrap();
    assert_eq!(behaviour.first_byte_delay, Duration::from_millis(20));
    assert_eq!(behaviour.fault, Some(Fault::Reset { after_bytes: Some(7) }));
    let again: Behaviour = serde_json::from_str(&serde_json::to_string(&behaviour).unwrap()).unwrap();
    assert_eq!(again, behaviour);
    assert!(serde_json::from_str::<Behaviour>(r#"{"token":3}"#).is_err(), "a misspelt field");
    for fault in [r#"{"kind":"close"}"#, r#"{"kind":"status","status":429}"#, r#"{"kind":"truncate"}"#] {
        serde_json::from_str::<Fault>(fault).unwrap();
    }
    assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
    assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
    assert!(parse_duration("3 parsecs").is_err());
    assert!(parse_duration("-1s").is_err());
}

#[tokio::test]
async fn chat_plain() {
    let upstream = SimUpstream::start(counted()).await.unwrap();
    let answer = post(&upstream, CHAT, &chat(false)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers["x-request-id"].to_str().unwrap().starts_with("req_"));
    assert!(answer.headers.contains_key("openai-processing-ms"));
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "m-1");
    assert_eq!(body["choices"][0]["message"]["content"], "a\"b a\"b a\"b ");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    let usage = &body["usage"];
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]),
        (&json!(2), &json!(5), &json!(7))
    );
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 1);
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 2);
}

#[tokio::test]
async fn chat_stream_with_and_without_usage() {
    let upstream = SimUpstream::start(counted()).await.unwrap();
    let answer = post(&upstream, CHAT, &chat(true)).await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    assert_eq!(answer.events().last().unwrap(), &(None, "[DONE]".to_owned()));
    let chunks = answer.chunks();
    assert_eq!(chunks.len(), 1 + 3 + 1);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "a\"b a\"b a\"b ");
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "stop");
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none() && chunk["id"] == chunks[0]["id"]));

    let mut request = chat(true);
    request["stream_options"] = json!({"include_usage": true});
    let chunks = post(&upstream, CHAT, &request).await.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(others.len(), 5);
    assert!(others.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
    assert_eq!(last["choices"], json!([]));
    assert_eq!((&last["usage"]["prompt_tokens"], &last["usage"]["completion_tokens"]), (&json!(2), &json!(5)));
}

#[tokio::test]
async fn chat_calls_the_tool_unless_told_otherwise() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut request = chat(false);
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": parameters()}});
    request["tools"] = json!([tool("weather"), tool("other")]);
    let choice = post(&upstream, CHAT, &request).await.json()["choices"][0].clone();
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], Value::Null);
    let called = &choice["message"]["tool_calls"][0];
    assert_eq!(called["function"]["name"], "weather");
    let found: Value = serde_json::from_str(called["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(found, arguments());

    request["stream"] = json!(true);
    let chunks = post(&upstream, CHAT, &request).await.chunks();
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]).collect();
    assert_eq!(deltas[0]["function"]["name"], "weather");
    assert!(deltas[0]["id"].as_str().unwrap().starts_with("call_"));
    assert!(deltas[1..].iter().all(|delta| delta.get("id").is_none()), "the id comes once");
    let fragments: Vec<&str> = deltas.iter().filter_map(|delta| delta["function"]["arguments"].as_str()).collect();
    assert!(fragments.len() > 2);
    assert_eq!(serde_json::from_str::<Value>(&fragments.concat()).unwrap(), arguments());
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    request["stream"] = json!(false);
    request["tool_choice"] = json!({"type": "function", "function": {"name": "other"}});
    let body = post(&upstream, CHAT, &request).await.json();
    assert_eq!(body["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "other");
    request["tool_choice"] = json!("none");
    assert_eq!(post(&upstream, CHAT, &request).await.json()["choices"][0]["finish_reason"], "stop");
    request["tool_choice"] = json!("auto");
    request["messages"] =
        json!([{"role": "user", "content": "?"}, {"role": "tool", "tool_call_id": "c", "content": "sun"}]);
    assert_eq!(post(&upstream, CHAT, &request).await.json()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn responses_stream_in_order_and_agree_with_the_plain_answer() {
    let upstream = SimUpstream::start(counted()).await.unwrap();
    let plain = post(&upstream, RESPONSES, &responses(false)).await.json();
    assert_eq!(plain["status"], "completed");
    let usage = &plain["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"], &usage["total_tokens"]),
        (&json!(2), &json!(5), &json!(7))
    );
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 2);

    let answer = post(&upstream, RESPONSES, &responses(true)).await;
    let (names, chunks) = (answer.events(), answer.chunks());
    let names: Vec<&str> = names.iter().map(|(name, _)| name.as_deref().unwrap()).collect();
    let delta = "response.output_text.delta";
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        delta,
        delta,
        delta,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names, expected);
    for (index, (chunk, name)) in chunks.iter().zip(&names).enumerate() {
        assert_eq!((&chunk["sequence_number"], &chunk["type"]), (&json!(index), &json!(name)));
    }
    let text: String = chunks.iter().filter_map(|chunk| chunk["delta"].as_str()).collect();
    assert_eq!(chunks[7]["text"], json!(text));
    let item = &chunks[9]["item"];
    assert_eq!(chunks[4]["item_id"], item["id"]);
    let completed = &chunks[10]["response"];
    assert_eq!(&completed["output"][0], item);
    assert_eq!(completed["usage"], plain["usage"]);
    assert_eq!(completed["output"][0]["content"], plain["output"][0]["content"]);
    assert_eq!(chunks[0]["response"]["usage"], Value::Null);
}

#[tokio::test]
async fn responses_call_a_tool() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut request = responses(true);
    request["tools"] = json!([{"type": "function", "name": "weather", "parameters": parameters()}]);
    let chunks = post(&upstream, RESPONSES, &request).await.chunks();
    assert_eq!(chunks[2]["item"]["type"], "function_call");
    let text: String = chunks.iter().filter_map(|chunk| chunk["delta"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), arguments());
    let output = &chunks.last().unwrap()["response"]["output"][0];
    assert_eq!((&output["name"], &output["arguments"]), (&json!("weather"), &json!(text)));
    request["input"] = json!([{"type": "function_call_output", "call_id": "c", "output": "sun"}]);
    request["stream"] = json!(false);
    assert_eq!(post(&upstream, RESPONSES, &request).await.json()["output"][0]["type"], "message");
}

#[tokio::test]
async fn embeddings_in_both_encodings_and_models() {
    let upstream = SimUpstream::start(Behaviour { embedding_dimensions: 3, ..Behaviour::default() }).await.unwrap();
    let body = post(&upstream, "/v1/embeddings", &json!({"model": "e", "input": ["four", "five5"]})).await.json();
    assert_eq!(body["data"][1], json!({"object": "embedding", "index": 1, "embedding": [0.0625, 0.125, 0.1875]}));
    assert_eq!(body["usage"], json!({"prompt_tokens": 3, "total_tokens": 3}));
    let request = json!({"model": "e", "input": [1, 2], "encoding_format": "base64", "dimensions": 2});
    let body = post(&upstream, "/v1/embeddings", &request).await.json();
    assert_eq!(body["data"].as_array().unwrap().len(), 1, "token numbers are one input");
    assert_eq!(body["data"][0]["embedding"], "AAAAAAAAgD0=");

    upstream.set(Behaviour { models: vec!["m-1".to_owned()], ..Behaviour::default() });
    let list = call(&upstream, Method::GET, "/v1/models", "").await.json();
    assert_eq!((&list["data"][0]["id"], &list["object"]), (&json!("m-1"), &json!("list")));
    let list = call(&upstream, Method::GET, "/v1beta/models?pageSize=5", "").await.json();
    assert_eq!(list["models"][0]["name"], "models/m-1");
    assert_eq!(post(&upstream, CHAT, &chat(false)).await.status, 200);
    let unknown = post(&upstream, CHAT, &json!({"model": "m-2", "messages": []})).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["code"]), (404, &json!("model_not_found")));
    let unknown = post(&upstream, "/v1beta/models/m-2:generateContent", &generate()).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn completions_plain_and_streamed() {
    let upstream = SimUpstream::start(counted()).await.unwrap();
    let mut request = json!({"model": "m-1", "prompt": "eight by"});
    let plain = post(&upstream, "/v1/completions", &request).await.json();
    assert_eq!((&plain["object"], &plain["usage"]["prompt_tokens"]), (&json!("text_completion"), &json!(2)));
    request["stream"] = json!(true);
    request["stream_options"] = json!({"include_usage": true});
    let chunks = post(&upstream, "/v1/completions", &request).await.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, plain["choices"][0]["text"].as_str().unwrap());
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 5);
}

#[tokio::test]
async fn a_response_is_kept_for_the_credential_that_made_it() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let made = post(&upstream, RESPONSES, &responses(false)).await.json();
    let id = made["id"].as_str().unwrap();
    let path = format!("{RESPONSES}/{id}");
    assert_eq!(call(&upstream, Method::GET, &path, "").await.json(), made);
    let other = [("authorization", "Bearer sk-b")];
    assert_eq!(try_call(&upstream, Method::GET, &path, &other, "").await.unwrap().status, 404);
    assert_eq!(call(&upstream, Method::GET, &format!("{path}/input_items"), "").await.json()["object"], "list");
    assert_eq!(call(&upstream, Method::POST, &format!("{path}/cancel"), "").await.json()["status"], "cancelled");
    assert_eq!(call(&upstream, Method::PUT, &path, "").await.status, 405);

    let mut next = responses(false);
    next["previous_response_id"] = json!(id);
    let body = next.to_string();
    let refused = try_call(&upstream, Method::POST, RESPONSES, &other, &body).await.unwrap();
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]["code"]),
        (400, &json!("previous_response_not_found"))
    );
    assert_eq!(post(&upstream, RESPONSES, &next).await.status, 200);
    assert_eq!(call(&upstream, Method::DELETE, &path, "").await.json()["deleted"], true);
    assert_eq!(call(&upstream, Method::GET, &path, "").await.status, 404);
}

#[tokio::test]
async fn scores_pictures_and_sounds() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let request = json!({"model": "m-1", "query": "eight by", "documents": ["a", "b", "c"], "top_n": 2});
    let ranked = post(&upstream, "/v1/rerank", &request).await.json();
    let indexes: Vec<&Value> = ranked["results"].as_array().unwrap().iter().map(|result| &result["index"]).collect();
    assert_eq!((indexes, &ranked["usage"]["total_tokens"]), (vec![&json!(0), &json!(1)], &json!(3)));
    let moderated = post(&upstream, "/v1/moderations", &json!({"model": "m-1", "input": "x"})).await.json();
    assert_eq!(moderated["results"][0]["flagged"], false);
    let painted = post(&upstream, "/v1/images/generations", &json!({"model": "m-1", "prompt": "x"})).await.json();
    assert!(painted["data"][0]["b64_json"].as_str().unwrap().starts_with("iVBOR"));
    let spoken = post(&upstream, "/v1/audio/speech", &json!({"model": "m-1", "input": "x", "voice": "v"})).await;
    assert_eq!((&spoken.headers["content-type"], spoken.status.as_u16()), (&"audio/mpeg".parse().unwrap(), 200));

    let form = |format: &str| {
        let part = |name: &str, value: &str| {
            format!("--cut\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        [&part("file", "sound"), &part("model", "m-1"), &part("response_format", format), "--cut--\r\n"].concat()
    };
    let headers = [("authorization", "Bearer sk-a"), ("content-type", "multipart/form-data; boundary=cut")];
    let path = "/v1/audio/transcriptions";
    let heard = try_call(&upstream, Method::POST, path, &headers, &form("json")).await.unwrap();
    assert!(heard.json()["text"].as_str().unwrap().starts_with("tok tok "));
    let heard = try_call(&upstream, Method::POST, path, &headers, &form("text")).await.unwrap();
    assert!(heard.body.starts_with("tok tok ") && heard.body.ends_with('\n'), "{}", heard.body);
    assert_eq!(post(&upstream, path, &json!({"model": "m-1"})).await.status, 400);
}

#[tokio::test]
async fn gemini_embeds_one_and_many() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let one = json!({"content": {"parts": [{"text": "x"}]}, "outputDimensionality": 3});
    let answer = post(&upstream, "/v1beta/models/gem-1:embedContent", &one).await.json();
    assert_eq!(answer["embedding"]["values"].as_array().unwrap().len(), 3);
    let many = json!({"requests": [one, {"content": {"parts": [{"text": "y"}]}}]});
    let answer = post(&upstream, "/v1beta/models/gem-1:batchEmbedContents", &many).await.json();
    let sizes: Vec<usize> =
        answer["embeddings"].as_array().unwrap().iter().map(|one| one["values"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [3, 8]);
}

#[tokio::test]
async fn answers_carry_the_headers_asked_for() {
    let headers = [("anthropic-organization-id".to_owned(), "org-1".to_owned())].into();
    let answering = Behaviour { headers, ..Behaviour::default() };
    let failing = Behaviour { fault: Behaviour::status(429).fault, ..answering.clone() };
    for (behaviour, status) in [(answering, 200), (failing, 429)] {
        let upstream = SimUpstream::start(behaviour).await.unwrap();
        let answer = post(&upstream, MESSAGES, &messages(true)).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["anthropic-organization-id"], "org-1");
    }
}

#[tokio::test]
async fn messages_stream_in_order_and_agree_with_the_plain_answer() {
    let upstream = SimUpstream::start(counted()).await.unwrap();
    let answer = post(&upstream, MESSAGES, &messages(false)).await;
    assert!(answer.headers.contains_key("request-id"));
    let plain = answer.json();
    assert_eq!(plain["content"], json!([{"type": "text", "text": "a\"b a\"b a\"b "}]));
    assert_eq!(plain["stop_reason"], "end_turn");
    let usage = &plain["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cache_read_input_tokens"], &usage["output_tokens"]),
        (&json!(1), &json!(1), &json!(5))
    );

    let answer = post(&upstream, MESSAGES, &messages(true)).await;
    let (events, chunks) = (answer.events(), answer.chunks());
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_deref().unwrap()).collect();
    let delta = "content_block_delta";
    let expected = [
        "message_start",
        "content_block_start",
        "ping",
        delta,
        delta,
        delta,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
    assert!(chunks.iter().zip(&names).all(|(chunk, name)| chunk["type"] == *name));
    let start = &chunks[0]["message"];
    assert_eq!((&start["model"], &start["content"], &start["stop_reason"]), (&json!("m-1"), &json!([]), &Value::Null));
    assert_eq!((&start["usage"]["input_tokens"], &start["usage"]["output_tokens"]), (&json!(1), &json!(1)));
    let text: String = chunks.iter().filter_map(|chunk| chunk["delta"]["text"].as_str()).collect();
    assert_eq!(text, plain["content"][0]["text"].as_str().unwrap());
    assert_eq!(chunks[7]["usage"]["output_tokens"], 5);

    let counted =
        post(&upstream, "/v1/messages/count_tokens", &json!({"model": "m-1", "messages": [{"content": "eight by"}]}))
            .await;
    assert_eq!(counted.json(), json!({"input_tokens": 2}));
}

#[tokio::test]
async fn messages_call_a_tool_and_insist_on_their_fields() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut request = messages(true);
    request["tools"] = json!([{"name": "weather", "input_schema": parameters()}]);
    let chunks = post(&upstream, MESSAGES, &request).await.chunks();
    assert_eq!(chunks[1]["content_block"]["name"], "weather");
    let text: String = chunks.iter().filter_map(|chunk| chunk["delta"]["partial_json"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), arguments());
    assert_eq!(chunks[chunks.len() - 2]["delta"]["stop_reason"], "tool_use");
    request["stream"] = json!(false);
    let plain = post(&upstream, MESSAGES, &request).await.json();
    assert_eq!((&plain["content"][0]["input"], &plain["stop_reason"]), (&arguments(), &json!("tool_use")));
    request["messages"] =
        json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "sun"}]}]);
    assert_eq!(post(&upstream, MESSAGES, &request).await.json()["stop_reason"], "end_turn");

    let without_version = call(&upstream, Method::POST, MESSAGES, &messages(false).to_string()).await;
    assert_eq!(without_version.status, 400);
    assert_eq!(without_version.json()["error"]["type"], "invalid_request_error");
    let without_limit = post(&upstream, MESSAGES, &json!({"model": "m", "messages": []})).await;
    assert_eq!(without_limit.status, 400);
}

#[tokio::test]
async fn gemini_plain_sse_and_array() {
    let upstream = SimUpstream::start(counted()).await.unwrap();
    let plain = post(&upstream, "/v1beta/models/gem-1:generateContent", &generate()).await.json();
    assert_eq!(plain["candidates"][0]["content"]["parts"][0]["text"], "a\"b a\"b a\"b ");
    assert_eq!(plain["modelVersion"], "gem-1");
    let expected = json!({
        "promptTokenCount": 2, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 7,
        "cachedContentTokenCount": 1, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 2}],
    });
    assert_eq!(plain["usageMetadata"], expected);

    let answer = post(&upstream, STREAM_GENERATE, &generate()).await;
    let sse_chunks: Vec<Value> =
        sse(&answer.body, "\r\n").iter().map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
    let array = post(&upstream, "/v1beta/models/gem-1:streamGenerateContent", &generate()).await;
    assert_eq!(array.headers["content-type"], "application/json");
    for chunks in [&sse_chunks, array.json().as_array().unwrap()] {
        assert_eq!(chunks.len(), 4);
        let candidates: Vec<&Value> = chunks.iter().map(|chunk| &chunk["candidates"][0]).collect();
        let text: String =
            candidates.iter().filter_map(|found| found["content"]["parts"][0]["text"].as_str()).collect();
        assert_eq!(text, "a\"b a\"b a\"b ");
        let finished: Vec<bool> = candidates.iter().map(|found| found["finishReason"] == "STOP").collect();
        assert_eq!(finished, [false, false, false, true]);
        assert_eq!(chunks[0]["usageMetadata"]["candidatesTokenCount"], 1, "usage so far");
        assert_eq!(chunks[3]["usageMetadata"], expected);
    }
    let count = post(&upstream, "/v1beta/models/gem-1:countTokens", &generate()).await.json();
    assert_eq!(count["totalTokens"], 2);

    let mut request = generate();
    request["tools"] = json!([{"functionDeclarations": [{"name": "weather", "parameters": parameters()}]}]);
    let called = post(&upstream, "/v1beta/models/gem-1:generateContent", &request).await.json();
    let part = &called["candidates"][0]["content"]["parts"][0];
    assert_eq!(part["functionCall"], json!({"name": "weather", "args": arguments()}));
    request["toolConfig"] = json!({"functionCallingConfig": {"mode": "NONE"}});
    let text = post(&upstream, "/v1beta/models/gem-1:generateContent", &request).await.json();
    assert!(text["candidates"][0]["content"]["parts"][0]["text"].is_string());
}

#[tokio::test]
async fn refusals_have_the_vendors_shape() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    for (path, pointer, expected) in [
        (CHAT, "/error/code", "invalid_api_key"),
        (MESSAGES, "/error/type", "authentication_error"),
        (STREAM_GENERATE, "/error/status", "UNAUTHENTICATED"),
    ] {
        let answer = try_call(&upstream, Method::POST, path, &[], "{}").await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.json().pointer(pointer)), (401, Some(&json!(expected))), "{path}");
        let answer = call(&upstream, Method::POST, path, "{\"model\":").await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(call(&upstream, Method::POST, "/v1/nothing", "{}").await.status, 404);
    assert_eq!(call(&upstream, Method::GET, CHAT, "").await.status, 405);
    for header in ["x-api-key", "x-goog-api-key", "api-key"] {
        let answer =
            try_call(&upstream, Method::POST, CHAT, &[(header, "sk-h")], &chat(false).to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{header}");
    }
    let by_query = format!("{STREAM_GENERATE}&key=sk%2Dq");
    assert_eq!(try_call(&upstream, Method::POST, &by_query, &[], &generate().to_string()).await.unwrap().status, 200);
    let requests = upstream.requests();
    let found: Vec<Option<&str>> = requests.iter().rev().take(2).map(|found| found.credential.as_deref()).collect();
    assert_eq!(found, [Some("sk-q"), Some("sk-h")]);
}

#[tokio::test]
async fn status_faults_have_the_vendors_shape_and_headers() {
    let upstream = SimUpstream::start(Behaviour::failing(Fault::Status {
        status: 429,
        retry_after: Some(7),
        code: None,
        message: Some("slow down".to_owned()),
        html: None,
    }))
    .await
    .unwrap();
    let answer = post(&upstream, CHAT, &chat(true)).await;
    assert_eq!((answer.status.as_u16(), &answer.headers["retry-after"]), (429, &"7".parse().unwrap()));
    let expected =
        json!({"error": {"message": "slow down", "type": "requests", "param": null, "code": "rate_limit_exceeded"}});
    assert_eq!(answer.json(), expected);
    let body = post(&upstream, MESSAGES, &messages(false)).await.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&json!("error"), &json!("rate_limit_error")));
    assert!(body["request_id"].is_string());
    let body = post(&upstream, STREAM_GENERATE, &generate()).await.json();
    assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&json!(429), &json!("RESOURCE_EXHAUSTED")));
    assert_eq!(body["error"]["details"][0]["retryDelay"], "7s");

    upstream.set(Behaviour::failing(Fault::Status {
        status: 502,
        retry_after: None,
        code: None,
        message: None,
        html: Some("<html>".to_owned()),
    }));
    let answer = post(&upstream, CHAT, &chat(false)).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (502, "<html>"));
    assert_eq!(answer.headers["content-type"], "text/html");
    upstream.set(Behaviour::status(529));
    assert_eq!(post(&upstream, MESSAGES, &messages(true)).await.json()["error"]["type"], "overloaded_error");
}

#[tokio::test]
async fn rules_match_by_credential_and_model_and_run_out() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    upstream.rule(Rule::any(Behaviour::status(500)).credential("sk-a").times(2));
    upstream.rule(Rule::any(Behaviour::status(503)).model("m-1"));
    let status = async |key: &str, model: &str| {
        let body = json!({"model": model, "messages": []}).to_string();
        let headers = [("authorization", format!("Bearer {key}"))];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        try_call(&upstream, Method::POST, CHAT, &headers, &body).await.unwrap().status.as_u16()
    };
    assert_eq!(status("sk-b", "m-2").await, 200);
    assert_eq!(status("sk-a", "m-2").await, 500);
    assert_eq!(status("sk-b", "m-1").await, 503);
    assert_eq!(status("sk-a", "m-1").await, 500);
    assert_eq!(status("sk-a", "m-1").await, 503, "the first rule has run out");
    upstream.clear_rules();
    assert_eq!(status("sk-a", "m-1").await, 200);
    assert_eq!(upstream.request_count(), 6);
}

#[tokio::test]
async fn requests_are_recorded_unless_switched_off() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    post(
        &upstream,
        "/openai/deployments/d/chat/completions?api-version=1",
        &json!({"messages": [{"role": "user", "content": "x"}]}),
    )
    .await;
    let recorded = upstream.requests().pop().unwrap();
    assert_eq!(
        (recorded.path.as_str(), recorded.query.as_str()),
        ("/openai/deployments/d/chat/completions", "api-version=1")
    );
    assert_eq!(recorded.credential.as_deref(), Some("sk-a"));
    assert_eq!(recorded.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(recorded.json()["messages"][0]["content"], "x");
    upstream.set_recording(false);
    post(&upstream, CHAT, &chat(false)).await;
    assert_eq!((upstream.requests().len(), upstream.request_count()), (1, 2));
}

#[tokio::test]
async fn a_stalled_stream_sends_its_bytes_and_then_nothing() {
    let fault = Fault::Stall { after_bytes: 40 };
    let upstream = SimUpstream::start(Behaviour::failing(fault)).await.unwrap();
    for body in [chat(true), chat(false)] {
        let (head, body) = read_raw(&upstream, &body, Duration::from_millis(150)).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body.map_err(|error| error.kind()).unwrap_err(), ErrorKind::TimedOut);
    }
    let before = Instant::now();
    while upstream.aborted_count() < 2 {
        assert!(before.elapsed() < Duration::from_secs(5), "the client's leaving goes unnoticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn resets_are_tcp_resets() {
    let upstream = SimUpstream::start(Behaviour::failing(Fault::Reset { after_bytes: None })).await.unwrap();
    let (head, end) = read_raw(&upstream, &chat(true), Duration::from_secs(5)).await;
    assert_eq!((head.as_str(), end.unwrap_err().kind()), ("", ErrorKind::ConnectionReset));
    upstream.set(Behaviour::failing(Fault::Reset { after_bytes: Some(40) }));
    let (head, end) = read_raw(&upstream, &chat(true), Duration::from_secs(5)).await;
    assert!(head.contains("\r\n\r\n28\r\ndata: {\"id\":\"chatcmpl-"), "{head}");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    upstream.set(Behaviour::failing(Fault::Close));
    let (head, end) = read_raw(&upstream, &chat(true), Duration::from_secs(5)).await;
    assert_eq!(head, "");
    end.expect("a close isn't a reset");
    assert_eq!(upstream.aborted_count(), 0, "the upstream left, not the client");
}

#[tokio::test]
async fn truncated_answers_end_cleanly() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let truncate = |after_events, after_bytes| Behaviour::failing(Fault::Truncate { after_events, after_bytes });
    let whole = post(&upstream, CHAT, &chat(true)).await;
    upstream.set(truncate(None, None));
    let answer = post(&upstream, CHAT, &chat(true)).await;
    assert!(answer.whole);
    assert_eq!(answer.events().len(), whole.events().len() - 1);
    assert!(!answer.body.contains("[DONE]"));
    let answer = post(&upstream, MESSAGES, &messages(true)).await;
    assert_eq!(answer.events().last().unwrap().0.as_deref(), Some("message_delta"));
    let answer = post(&upstream, CHAT, &chat(false)).await;
    assert!(answer.whole && serde_json::from_str::<Value>(&answer.body).is_err());
    upstream.set(truncate(Some(3), None));
    assert_eq!(post(&upstream, RESPONSES, &responses(true)).await.events().len(), 3);
    upstream.set(truncate(None, Some(25)));
    for request in [chat(true), chat(false)] {
        let answer = post(&upstream, CHAT, &request).await;
        assert!(answer.whole);
        assert_eq!(answer.body.len(), 25);
    }
}

#[tokio::test]
async fn errors_inside_streams_end_them() {
    let fault =
        |after_events| Fault::ErrorInStream { after_events, status: 529, code: None, message: Some("busy".to_owned()) };
    let upstream = SimUpstream::start(Behaviour::failing(fault(0))).await.unwrap();
    let chunks = post(&upstream, CHAT, &chat(true)).await.chunks();
    assert_eq!((chunks.len(), &chunks[0]["error"]["message"]), (1, &json!("busy")));
    let answer = post(&upstream, MESSAGES, &messages(true)).await;
    assert_eq!((answer.status.as_u16(), answer.events()[0].0.as_deref()), (200, Some("error")));
    assert_eq!(answer.chunks()[0]["error"]["type"], "overloaded_error");
    let array = post(&upstream, "/v1/models/g:streamGenerateContent", &generate()).await.json();
    assert_eq!(array[0]["error"]["message"], "busy");

    upstream.set(Behaviour::failing(fault(3)));
    let chunks = post(&upstream, CHAT, &chat(true)).await.chunks();
    assert_eq!((chunks.len(), &chunks[3]["error"]["message"]), (4, &json!("busy")));
    let answer = post(&upstream, RESPONSES, &responses(true)).await;
    let names: Vec<Option<String>> = answer.events().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[3..], [Some("error".to_owned()), Some("response.failed".to_owned())]);
    assert_eq!(answer.chunks()[4]["sequence_number"], 4);
    let array = post(&upstream, "/v1/models/g:streamGenerateContent", &generate()).await.json();
    assert_eq!((array.as_array().unwrap().len(), &array[3]["error"]["message"]), (4, &json!("busy")));
    assert_eq!(post(&upstream, CHAT, &chat(false)).await.status, 529, "a plain request gets a plain error");
}

#[tokio::test]
async fn delays_and_pace_take_their_time() {
    let paced = Behaviour {
        tokens: 6,
        tokens_per_second: Some(50.0),
        first_byte_delay: Duration::from_millis(50),
        ..Behaviour::default()
    };
    let upstream = SimUpstream::start(paced).await.unwrap();
    for (request, at_least) in [(chat(true), 150), (chat(false), 170)] {
        let started = Instant::now();
        post(&upstream, CHAT, &request).await;
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(at_least), "{took:?}");
    }
    let delay = Duration::from_millis(120);
    upstream.set(Behaviour::failing(Fault::SlowHeaders { delay }));
    let (head, end) = read_raw(&upstream, &chat(false), Duration::from_millis(60)).await;
    assert_eq!((head.as_str(), end.unwrap_err().kind()), ("HTTP/1.1 200 OK\r\n", ErrorKind::TimedOut));
    let started = Instant::now();
    assert_eq!(post(&upstream, CHAT, &chat(false)).await.json()["object"], "chat.completion");
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn answers_are_padded_to_size() {
    let upstream = SimUpstream::start(Behaviour { answer_bytes: Some(4_096), ..Behaviour::default() }).await.unwrap();
    let generate_path = "/v1beta/models/g:generateContent";
    let cases =
        [(CHAT, chat(false)), (RESPONSES, responses(false)), (MESSAGES, messages(false)), (generate_path, generate())];
    for (path, request) in cases {
        let answer = post(&upstream, path, &request).await;
        answer.json();
        assert_eq!((answer.body.len(), &answer.headers["content-length"]), (4_096, &"4096".parse().unwrap()), "{path}");
    }
}

#[tokio::test]
async fn http2_without_negotiation_serves_many_and_resets_one() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    upstream.rule(Rule::any(Behaviour::failing(Fault::Reset { after_bytes: Some(30) })).model("broken"));
    let mut builder = Client::builder(TokioExecutor::new());
    let client: Client<HttpConnector, Full<Bytes>> = builder.http2_only(true).build_http();
    let headers = [("authorization", "Bearer sk-a")];
    let request =
        async |body: Value| send(&client, &upstream, Method::POST, CHAT, &headers, &body.to_string()).await.unwrap();
    assert_eq!(request(chat(true)).await.events().last().unwrap().1, "[DONE]");
    let mut broken = chat(true);
    broken["model"] = json!("broken");
    let answer = request(broken).await;
    assert_eq!((answer.whole, answer.body.len()), (false, 30));
    assert!(request(chat(false)).await.whole);
    assert_eq!(upstream.connection_count(), 1, "the connection outlives the reset of a stream");
}

#[tokio::test]
async fn a_dropped_upstream_is_gone() {
    let upstream = SimUpstream::start(Behaviour::failing(Fault::Stall { after_bytes: 0 })).await.unwrap();
    let address = upstream.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&raw_request(&chat(true))).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    drop(upstream);
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("still open");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn it_is_steered_over_http() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let steer = async |method: Method, path: &str, body: Value| call(&upstream, method, path, &body.to_string()).await;
    assert_eq!(steer(Method::PUT, "/_sim/behaviour", json!({"tokens": 2})).await.status, 200);
    assert_eq!(steer(Method::PUT, "/_sim/behaviour", json!({"tokenz": 2})).await.status, 400);
    let rule = json!({"credential": "sk-a", "times": 1, "behaviour": {"fault": {"kind": "status", "status": 402}}});
    assert_eq!(steer(Method::POST, "/_sim/rules", rule.clone()).await.status, 200);
    assert_eq!(post(&upstream, CHAT, &chat(false)).await.status, 402);
    assert_eq!(post(&upstream, CHAT, &chat(false)).await.json()["usage"]["completion_tokens"], 2);
    steer(Method::POST, "/_sim/rules", rule).await;
    assert_eq!(steer(Method::DELETE, "/_sim/rules", Value::Null).await.status, 200);
    assert_eq!(post(&upstream, CHAT, &chat(false)).await.status, 200);
    let requests = steer(Method::GET, "/_sim/requests", Value::Null).await.json();
    assert_eq!((requests.as_array().unwrap().len(), &requests[0]["credential"]), (3, &json!("sk-a")));
    assert_eq!(steer(Method::GET, "/_sim/stats", Value::Null).await.json()["requests"], 3);
}

#[tokio::test]
async fn load_counts_and_measures() {
    let upstream =
        SimUpstream::start(Behaviour { tokens: 10, timestamps: true, ..Behaviour::default() }).await.unwrap();
    upstream.rule(Rule::any(Behaviour::status(500)).times(3));
    let options = |stream: bool| LoadOptions {
        url: format!("{}/chat/completions", upstream.openai_base_url()),
        bearer: Some("sk-load".to_owned()),
        headers: HeaderMap::new(),
        body: Some(chat(stream).to_string().into()),
        connections: 4,
        requests: Some(50),
        duration: None,
        rate: None,
        request_timeout: Duration::from_secs(5),
        warm_up_requests: 0,
        stream,
        expected_tail: stream.then(|| "data: [DONE]".to_owned()),
        cpu_of: vec![std::process::id()],
    };
    let report = load::run(options(false)).await.unwrap();
    assert_eq!((report.requests, report.errors), (50, 3));
    assert_eq!(report.statuses, [(200, 47), (500, 3)].into());
    assert_eq!((report.latency_us.unwrap().samples, report.first_error), (47, None));
    assert!(report.processes[0].peak_rss_kib > 0);
    assert_eq!((upstream.connection_count(), upstream.requests()[0].credential.as_deref()), (4, Some("sk-load")));

    let report = load::run(options(true)).await.unwrap();
    assert_eq!((report.requests, report.errors, report.chunks), (50, 0, 500));
    let delay = report.chunk_delay_us.unwrap();
    assert_eq!(delay.samples, 500);
    assert!(delay.max < 5e6, "{delay:?}");
    assert_eq!(report.first_byte_us.unwrap().samples, 50);

    upstream.set(Behaviour::failing(Fault::Truncate { after_events: None, after_bytes: None }));
    let report = load::run(options(true)).await.unwrap();
    assert_eq!(report.errors, 50, "answers without their tail");
    assert!(report.first_error.unwrap().contains("ended with"));
    upstream.set(Behaviour::default());
    let timed = LoadOptions { requests: None, duration: Some(Duration::from_millis(200)), ..options(false) };
    let report = load::run(timed).await.unwrap();
    assert!(report.requests > 0 && report.seconds < 5.0, "{report:?}");

    let paced =
        LoadOptions { requests: None, duration: Some(Duration::from_millis(500)), rate: Some(100.0), ..options(false) };
    let report = load::run(paced).await.unwrap();
    assert!((1..=50).contains(&report.requests), "no more than are due: {report:?}");
}

#[tokio::test]
async fn load_stays_on_this_host_and_within_bounds() {
    let options = |url: &str| LoadOptions {
        url: url.to_owned(),
        bearer: None,
        headers: HeaderMap::new(),
        body: None,
        connections: 1,
        requests: Some(1),
        duration: None,
        rate: None,
        request_timeout: Duration::from_secs(1),
        warm_up_requests: 0,
        stream: false,
        expected_tail: None,
        cpu_of: Vec::new(),
    };
    for url in
        ["http://10.0.0.1/", "http://localhost:80/", "https://127.0.0.1/", "http://127.0.0.2/", "http://[::2]/", "/x"]
    {
        assert!(load::run(options(url)).await.is_err(), "{url}");
    }
    let url = "http://127.0.0.1:1/";
    assert!(load::run(LoadOptions { connections: 0, ..options(url) }).await.is_err());
    assert!(load::run(LoadOptions { requests: Some(u64::MAX), ..options(url) }).await.is_err());
    assert!(load::run(LoadOptions { duration: Some(Duration::from_secs(601)), ..options(url) }).await.is_err());
    assert!(load::run(LoadOptions { rate: Some(0.0), ..options(url) }).await.is_err());
    assert!(load::run(LoadOptions { rate: Some(f64::NAN), ..options(url) }).await.is_err());
    let report = load::run(options("http://[::1]:1/")).await.unwrap();
    assert_eq!((report.requests, report.errors), (1, 1), "nobody listens there");
}

fn raw_request(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer sk-a\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What comes over the socket until it ends, fails or is silent for `patience`; the error says which.
async fn read_raw(upstream: &SimUpstream, body: &Value, patience: Duration) -> (String, std::io::Result<()>) {
    let mut stream = TcpStream::connect(upstream.address()).await.unwrap();
    stream.write_all(&raw_request(body)).await.unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 4_096];
    let end = loop {
        match tokio::time::timeout(patience, stream.read(&mut buffer)).await {
            Ok(Ok(0)) => break Ok(()),
            Ok(Ok(count)) => received.extend_from_slice(&buffer[..count]),
            Ok(Err(error)) => break Err(error),
            Err(_) => break Err(ErrorKind::TimedOut.into()),
        }
    };
    (String::from_utf8(received).unwrap(), end)
}
