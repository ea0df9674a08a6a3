//! The attentive model: it answers by what it is told, and refuses what its vendor refuses.

use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{CHAT, MESSAGES, RESPONSES, post};

const GENERATE: &str = "/v1beta/models/gemini-3-flash:generateContent";

/// A body with a change merged into it.
fn with(mut body: Value, change: &Value) -> Value {
    for (key, value) in change.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn chat() -> Value {
    json!({"model": "gpt-5.4", "messages": [{"role": "user", "content": "hi"}]})
}

fn responses() -> Value {
    json!({"model": "gpt-5.4", "input": [{"role": "user", "content": "hi"}]})
}

fn messages() -> Value {
    json!({"model": "claude-opus-4-8", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"}]})
}

fn gemini() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})
}

#[tokio::test]
async fn what_vendors_refuse_is_refused() {
    let upstream = SimUpstream::start(Behaviour::attentive()).await.unwrap();
    let hi = json!({"role": "user", "content": "hi"});
    let call = json!({"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]});
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let unsigned = json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]});
    let answered = json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]});
    let thought = json!({"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "eg=="}]});
    let called = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let cases = [
        (CHAT, with(chat(), &json!({"top_k": 1})), "top_k: Extra inputs"),
        (CHAT, with(chat(), &json!({"max_tokens": 9})), "'max_tokens' is not supported"),
        (CHAT, with(chat(), &json!({"tool_choice": "auto"})), "'tools' are specified"),
        (
            CHAT,
            with(chat(), &json!({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]})),
            "must be a response to",
        ),
        (RESPONSES, with(responses(), &json!({"stop": "x"})), "stop: Extra inputs"),
        (RESPONSES, with(responses(), &json!({"input": [called]})), "No tool output found"),
        (RESPONSES, with(responses(), &json!({"tools": [{"type": "function", "name": "f"}]})), "tools[0].parameters"),
        (
            RESPONSES,
            with(
                responses(),
                &json!({"input": [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "eg=="}]}),
            ),
            "could not be verified",
        ),
        (MESSAGES, with(messages(), &json!({"temperature": 1})), "deprecated"),
        (MESSAGES, with(messages(), &json!({"messages": [hi, {"role": "assistant", "content": "I"}]})), "prefill"),
        (MESSAGES, with(messages(), &json!({"messages": [hi, call, hi], "tools": tools})), "`tool_use` ids were found"),
        (MESSAGES, with(messages(), &json!({"messages": [hi, thought, hi]})), "Invalid `signature`"),
        (MESSAGES, with(messages(), &json!({"messages": [{"role": "user", "content": " "}]})), "non-empty"),
        (GENERATE, with(gemini(), &json!({"foo": 1})), "foo: Extra inputs"),
        (GENERATE, with(gemini(), &json!({"contents": [{"role": "user", "parts": [{"text": ""}]}]})), "not be empty"),
        (
            GENERATE,
            with(gemini(), &json!({"contents": [gemini()["contents"][0], unsigned, answered]})),
            "thought_signature",
        ),
        (GENERATE, with(gemini(), &json!({"contents": [gemini()["contents"][0], unsigned]})), "thought_signature"),
    ];
    for (path, body, reason) in cases {
        let answer = post(&upstream, path, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {}", answer.body);
        assert!(answer.body.contains(reason), "{body}: {}", answer.body);
    }
    for (path, body) in [(CHAT, chat()), (RESPONSES, responses()), (MESSAGES, messages()), (GENERATE, gemini())] {
        let answer = post(&upstream, path, &body).await;
        assert!(answer.status.is_success() && answer.body.contains(r#"you say \"hi\"."#), "{}", answer.body);
    }
}
