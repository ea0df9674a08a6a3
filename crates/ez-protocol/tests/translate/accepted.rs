//! What vendors are known to refuse is not sent to them, whatever usual clients send.

use ez_contract::Protocol::{self, AnthropicMessages as A, Gemini as G, OpenaiChat as C, OpenaiResponses as R};
use serde_json::{Value, json};

use crate::corpus::translate;

/// The body that is sent, and what is told as dropped.
fn sent(from: Protocol, to: Protocol, model: &str, body: &Value) -> (Value, Vec<String>) {
    let translated = translate(from, to, model, body.to_string().as_bytes()).unwrap();
    (serde_json::from_slice(&translated.body).unwrap(), translated.dropped)
}

fn chat(more: Value) -> Value {
    with(json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}), more)
}

fn with(mut body: Value, more: Value) -> Value {
    let (Value::Object(body_members), Value::Object(more)) = (&mut body, more) else { panic!("objects") };
    body_members.extend(more);
    body
}

#[test]
fn long_user_ids_are_left_out() {
    let claude_code = format!("user_{}_account__session_{}", "0123456789abcdef".repeat(4), "0".repeat(36));
    let body = json!({"model": "m", "max_tokens": 9, "metadata": {"user_id": claude_code},
        "messages": [{"role": "user", "content": "hi"}]});
    let (openai, dropped) = sent(A, C, "gpt-5.4", &body);
    assert_eq!((openai.get("user"), dropped), (None, vec!["metadata.user_id".to_owned()]));
    let (compatible, _) = sent(A, C, "glm-4.6", &body);
    assert_eq!(compatible["user"], claude_code.as_str());
    let longer = with(body, json!({"metadata": {"user_id": "x".repeat(129)}}));
    assert_eq!(sent(A, C, "glm-4.6", &longer).0.get("user"), None);
}

#[test]
fn thoughts_go_back_without_a_made_up_id() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [
            {"type": "redacted_thinking", "data": "ez1.re.gAAAA"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "1"}]}]});
    let (sent, _) = sent(A, R, "gpt-5.4", &body);
    assert_eq!(sent["input"][1], json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}));
}

#[test]
fn models_are_asked_for_what_they_know() {
    let cases = [
        (G, "gemini-2.5-flash", json!({"presence_penalty": 0, "frequency_penalty": 0}), "/generationConfig", None),
        (G, "gemini-3-flash", json!({"presence_penalty": 0.5}), "/generationConfig", None),
        (
            G,
            "gemini-3.1-pro-preview",
            json!({"reasoning_effort": "none"}),
            "/generationConfig/thinkingConfig/thinkingLevel",
            Some(json!("LOW")),
        ),
        (A, "claude-sonnet-4-5", json!({"temperature": 0.5, "top_p": 0.9}), "/top_p", None),
        (A, "claude-sonnet-4-5", json!({"temperature": 0.5, "top_p": 0.9}), "/temperature", Some(json!(0.5))),
        (A, "claude-opus-4-1", json!({"top_p": 0.9}), "/top_p", Some(json!(0.9))),
        (R, "gpt-5-codex", json!({"reasoning_effort": "minimal"}), "/reasoning/effort", Some(json!("low"))),
        (R, "gpt-5.1-codex", json!({"reasoning_effort": "none"}), "/reasoning/effort", Some(json!("low"))),
        (R, "gpt-5.1-codex-max", json!({"reasoning_effort": "xhigh"}), "/reasoning/effort", Some(json!("xhigh"))),
        (R, "gpt-5-pro", json!({"reasoning_effort": "low"}), "/reasoning/effort", Some(json!("high"))),
    ];
    for (to, model, asked, pointer, expected) in cases {
        let (body, _) = sent(C, to, model, &chat(asked.clone()));
        assert_eq!(body.pointer(pointer), expected.as_ref(), "{model} {asked}");
    }
}

#[test]
fn no_more_cache_markers_are_sent_than_anthropic_takes() {
    let marked = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    let texts: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().map(marked).collect();
    let body = json!({"model": "m", "messages": [{"role": "user", "content": texts}]});
    let (four, dropped) = sent(C, A, "claude-opus-4-8", &body);
    let marks = |body: &Value| body.to_string().matches("cache_control").count();
    assert_eq!((marks(&four), dropped), (4, vec!["cache_control".to_owned()]));
    assert_eq!(four["messages"][0]["content"][0].get("cache_control"), None);
    let automatic = with(body, json!({"cache_control": {"type": "ephemeral"}}));
    assert_eq!(marks(&sent(C, A, "claude-opus-4-8", &automatic).0), 4);
}

#[test]
fn ids_of_calls_are_used_once() {
    let call = json!({"role": "assistant", "tool_calls": [
        {"id": "call_0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    let result = |text: &str| json!({"role": "tool", "tool_call_id": "call_0", "content": text});
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "hi"}, call, result("1"), call, result("2")]});
    let (sent, _) = sent(C, A, "claude-opus-4-8", &body);
    let id = |turn: usize, key: &str| sent["messages"][turn]["content"][0][key].as_str().unwrap().to_owned();
    assert_eq!((id(1, "id"), id(2, "tool_use_id")), ("call_0".to_owned(), "call_0".to_owned()));
    assert_eq!((id(3, "id"), id(4, "tool_use_id")), ("call_0_use_2".to_owned(), "call_0_use_2".to_owned()));
}

#[test]
fn functions_say_that_they_take_an_object_with_properties() {
    let cases = [
        (json!({}), json!({"type": "object", "properties": {}})),
        (json!({"type": "object"}), json!({"type": "object", "properties": {}})),
        (json!({"properties": {"a": {}}}), json!({"type": "object", "properties": {"a": {}}})),
        (json!({"description": "x"}), json!({"type": "object", "description": "x", "properties": {}})),
        (json!({"$ref": "#/$defs/a", "$defs": {}}), json!({"$ref": "#/$defs/a", "$defs": {}})),
    ];
    for (schema, expected) in cases {
        let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"name": "f", "input_schema": schema}]});
        assert_eq!(sent(A, C, "gpt-5.4", &body).0["tools"][0]["function"]["parameters"], expected);
        assert_eq!(sent(A, R, "gpt-5.4", &body).0["tools"][0]["parameters"], expected);
    }
}

#[test]
fn output_schemas_are_closed_and_told_in_words_what_the_grammar_does_not_know() {
    let asked = |schema: Value| {
        let body =
            chat(json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}));
        sent(C, A, "claude-opus-4-8", &body).0
    };
    let schema = json!({"type": "object", "properties": {
        "age": {"type": "integer", "minimum": 0, "description": "years"},
        "at": {"type": "string", "format": "date"},
        "kin": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/kin"}}},
        "required": ["age"],
        "$defs": {"kin": {"type": "object", "properties": {"minimum": {"type": "string"}}}}});
    let expected = json!({"type": "object", "properties": {
        "age": {"type": "integer", "description": "years\n\n{minimum: 0}"},
        "at": {"type": "string", "format": "date"},
        "kin": {"type": "array", "items": {"$ref": "#/$defs/kin"}, "description": "{minItems: 2}"}},
        "required": ["age"],
        "$defs": {"kin": {"type": "object", "properties": {"minimum": {"type": "string"}},
            "additionalProperties": false}},
        "additionalProperties": false});
    assert_eq!(asked(schema)["output_config"]["format"]["schema"], expected);
    // Closed these would mean something else: they are asked for with a tool.
    let open = [json!({"type": "object"}), json!({"type": "object", "additionalProperties": {"type": "string"}})];
    for schema in open {
        let body = asked(schema.clone());
        assert_eq!((body.get("output_config"), &body["tools"][0]["input_schema"]), (None, &schema));
    }
}
