use ez_contract::Protocol;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::super::call::{self, Call};
use super::super::super::capability::Capabilities;
use super::super::super::refused::Refused;
use super::super::super::report::Report;
use super::super::super::request::{Block, Budget, ReasoningRequest, Shown, SummaryLength};
use super::super::read_request;
use super::{corpus, file};
use crate::api::Api;
use crate::json::Value;

/// What a request becomes for an upstream of the same protocol, and what was dropped.
fn again(body: &str) -> Result<(Json, Vec<String>), Refused> {
    let parsed: Json = serde_json::from_str(body).expect("JSON");
    let model = parsed["model"].as_str().expect("a model").to_owned();
    let call = Call {
        client: Api::Messages,
        upstream: Api::Messages,
        model: &model,
        upstream_model: &model,
        capabilities: Capabilities::of(Protocol::AnthropicMessages, &model),
        stream: parsed["stream"] == true,
        is_vertex: false,
        is_array: false,
        seed: "s",
        created_at: 0,
    };
    let translated = call::request(call, body.as_bytes())?;
    Ok((serde_json::from_slice(&translated.body).expect("JSON"), translated.dropped))
}

/// The request with texts as blocks everywhere, which is how they are written.
fn with_blocks(mut request: Json) -> Json {
    let blocks = |content: &mut Json| {
        if let Some(text) = content.as_str() {
            *content = json!([{"type": "text", "text": text}]);
        }
    };
    if let Some(system) = request.get_mut("system") {
        blocks(system);
    }
    for message in request["messages"].as_array_mut().expect("messages") {
        blocks(&mut message["content"]);
        for block in message["content"].as_array_mut().expect("blocks") {
            if let Some(content) = block.get_mut("content") {
                blocks(content);
            }
        }
    }
    request
}

#[test]
fn what_is_dropped_and_refused_is_told() {
    let dropped = [
        ("document_text", "messages.content.citations messages.content.context"),
        ("search_result", "messages.content.citations"),
        ("tools_tuned", "tools.eager_input_streaming tools.defer_loading tools.input_examples"),
        ("thinking_adaptive_summarized", "output_config.task_budget"),
        ("unknown_fields", "messages.clear_at speed context_management diagnostics betas new_knob"),
        ("hosted_beside_others", "tools.web_search tools.bash"),
        ("agent_claude_code_first", "context_management"),
        ("agent_claude_code_result", "context_management"),
        ("agent_claude_code_system_turn", "tools.defer_loading context_management"),
    ];
    let refused = [
        ("hosted_alone", "tools"),
        ("hosted_history", "messages[1].content[0]"),
        ("container", "container"),
        ("mcp_servers", "mcp_servers"),
        ("file_id", "messages[0].content[0].source"),
    ];
    for (name, body) in corpus("requests") {
        let mut report = Report::default();
        let read = read_request(Value::parse_object(&body).expect("an object"), &mut report);
        let expected = refused.iter().find(|(known, _)| *known == name).map(|(_, param)| *param);
        assert_eq!(read.as_ref().err().map(|refused| refused.param.as_str()), expected, "{name}");
        let expected = dropped.iter().find(|(known, _)| *known == name).map_or("", |(_, fields)| *fields);
        if read.is_ok() {
            assert_eq!(report.names().join(" "), expected, "{name}");
        }
    }
}

#[test]
fn what_is_read_is_written_again() {
    // What is told of these in other tests.
    let others = [
        "document_text",
        "gemini_signature_history",
        "image_mislabelled",
        "openai_reasoning_history",
        "parallel_calls",
        "search_result",
        "structured_output_beta",
        "tool_error_without_words",
        "tools_tuned",
        "unknown_fields",
        "thinking_adaptive_summarized",
        "hosted_beside_others",
        "sampling",
        "tool_choice_none",
        "unicode_numbers",
        "agent_claude_code_first",
        "agent_claude_code_result",
        "agent_claude_code_system_turn",
    ];
    for (name, body) in corpus("requests").into_iter().filter(|(name, _)| !others.contains(&name.as_str())) {
        let Ok((written, dropped)) = again(&body) else { continue };
        assert_eq!(written, with_blocks(serde_json::from_str(&body).expect("JSON")), "{name}");
        assert!(dropped.is_empty(), "{name}: {dropped:?}");
    }
}

#[test]
fn blocks_are_put_into_the_order_and_shape_that_every_vendor_takes() {
    let content = |name: &str, message: usize| {
        let (written, _) = again(&file("requests", name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        written["messages"][message]["content"].clone()
    };
    let results = content("parallel_calls", 2);
    let ids: Vec<_> = results.as_array().unwrap().iter().map(|block| block["tool_use_id"].as_str()).collect();
    assert_eq!(ids, [Some("toolu_01A"), Some("toolu_01B"), Some("toolu_01C"), None], "in the order of the calls");
    assert_eq!(
        results[1],
        json!({"type": "tool_result", "tool_use_id": "toolu_01B", "cache_control": {"type": "ephemeral"}})
    );
    let documents = content("document_text", 0);
    assert_eq!(documents[0]["title"], "Colours");
    let source = json!({"type": "text", "media_type": "text/plain", "data": "First part.\nSecond part."});
    assert_eq!(documents[1], json!({"type": "document", "source": source}));
    let found = json!({"type": "text", "text": "Guide\nhttps://example.com/guide\n\nPress the button.\nWait."});
    assert_eq!(content("search_result", 0)[0], found);
    assert_eq!(content("image_mislabelled", 0)[0]["source"]["media_type"], "image/png");
    let error = json!({"type": "tool_result", "tool_use_id": "toolu_01E", "content": "Error", "is_error": true});
    assert_eq!(content("tool_error_without_words", 2)[0], error);
    assert_eq!(content("gemini_signature_history", 1).as_array().unwrap().len(), 1, "the thoughts are another's");
    assert_eq!(content("openai_reasoning_history", 1).as_array().unwrap().len(), 1, "the thoughts are another's");
}

#[test]
fn numbers_and_escapes_stay_as_they_were_written() {
    let body = file("requests", "unicode_numbers");
    let value = Value::parse_object(&body).unwrap();
    let call = Call {
        client: Api::Messages,
        upstream: Api::Messages,
        model: "m",
        upstream_model: "claude-sonnet-4-5",
        capabilities: Capabilities::of(Protocol::AnthropicMessages, "claude-sonnet-4-5"),
        stream: false,
        is_vertex: false,
        is_array: false,
        seed: "s",
        created_at: 0,
    };
    let written = call::request(call, value.as_str().as_bytes()).unwrap().body;
    let written = std::str::from_utf8(&written).unwrap();
    for kept in [
        r#""max_tokens":1000,"#,
        r#""temperature":0.50,"#,
        r#""text":"caf\u00e9 \ud83d\ude00 \/ \"q\" \u0000""#,
        r#""input":{"z": 1.0, "a": 12345678901234567890, "e": 1E-7, "s": "\u00fc\/\ud83d\ude00"}"#,
        r#""input_schema":{"properties":{"z":{"type":"number","minimum":0.10},"a":{"type":"integer","maximum":1e30}},"type":"object","x-b":null}"#,
    ] {
        assert!(written.contains(kept), "{kept} in {written}");
    }
}

#[test]
fn state_of_others_is_kept_with_what_it_belongs_to() {
    let blocks = |name: &str| {
        let body = file("requests", name);
        let read = read_request(Value::parse_object(&body).unwrap(), &mut Report::default()).unwrap();
        let shown = |block: &Block<'_>| match block {
            Block::Reasoning(reasoning) => format!(
                "thought {} {:?}",
                reasoning.text.text(),
                reasoning.signature.as_ref().map(|s| (s.issuer, s.kind, s.data.text().into_owned()))
            ),
            Block::ToolCall(call) => format!("call {:?}", call.signature.as_ref().map(|s| s.data.text().into_owned())),
            _ => "other".to_owned(),
        };
        read.turns[1].blocks.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(blocks("gemini_signature_history"), ["thought Look it up. None", r#"call Some("CvcBAVSoXO5yTw==")"#]);
    assert_eq!(
        blocks("openai_reasoning_history"),
        [
            r#"thought **Looking** it up Some((OpenaiResponses, Encrypted, "gAAAAABo_encrypted-content=="))"#,
            "call None"
        ]
    );
}

#[test]
fn wishes_for_thinking_are_read() {
    let read = |thinking: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}],{thinking}}}"#);
        read_request(Value::parse_object(&body).unwrap(), &mut Report::default()).map(|request| request.reasoning)
    };
    let summary = Some(Shown::Summary(SummaryLength::Auto));
    let wish = |budget, shown| ReasoningRequest { effort: None, budget, shown };
    let cases = [
        (r#""thinking":null"#, wish(None, None)),
        (r#""thinking":{"type":"disabled"}"#, wish(Some(Budget::Off), None)),
        (r#""thinking":{"type":"adaptive"}"#, wish(Some(Budget::Adaptive), None)),
        (r#""thinking":{"type":"enabled","budget_tokens":2000}"#, wish(Some(Budget::Tokens(2_000)), summary)),
        (
            r#""thinking":{"type":"enabled","budget_tokens":2000,"display":"omitted"}"#,
            wish(Some(Budget::Tokens(2_000)), Some(Shown::Omitted)),
        ),
    ];
    for (thinking, expected) in cases {
        assert_eq!(read(thinking).unwrap(), expected, "{thinking}");
    }
    for wrong in [
        r#""thinking":{"type":"enabled"}"#,
        r#""thinking":{"type":"on"}"#,
        r#""thinking":{"type":"adaptive","display":"all"}"#,
        r#""output_config":{"effort":"hard"}"#,
        r#""output_config":{"format":{"type":"json_schema"}}"#,
        r#""thinking":5"#,
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn faults_are_found_at_their_place() {
    let cases = [
        ("{}", "messages"),
        (r#"{"messages":[]}"#, "messages"),
        (r#"{"messages":[{"role":"user"}]}"#, "messages[0].content"),
        (r#"{"messages":[{"role":"tool","content":"x"}]}"#, "messages[0].role"),
        (r#"{"messages":[{"role":"user","content":[{"type":"texts"}]}]}"#, "messages[0].content[0].type"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"thinking","thinking":""}]}]}"#,
            "messages[0].content[0].type",
        ),
        (r#"{"messages":[{"role":"user","content":[{"type":"text"}]}]}"#, "messages[0].content[0].text"),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"image","source":{"type":"web"}}]}]}"#,
            "messages[0].content[0].source.type",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"tool_reference"}]}]}]}"#,
            "messages[0].content[0].content[0].type",
        ),
        (
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral","ttl":"2h"}}]}]}"#,
            "messages[0].content[0].cache_control.ttl",
        ),
        (r#"{"messages":[{"role":"user","content":"x"}],"system":[{"type":"image"}]}"#, "system[0]"),
        (r#"{"messages":[{"role":"user","content":"x"}],"max_tokens":0}"#, "max_tokens"),
        (r#"{"messages":[{"role":"user","content":"x"}],"stop_sequences":["a",1]}"#, "stop_sequences[1]"),
        (r#"{"messages":[{"role":"user","content":"x"}],"tools":[{"input_schema":{}}]}"#, "tools[0].name"),
        (
            r#"{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#,
            "tools[0].type",
        ),
        (r#"{"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"some"}}"#, "tool_choice.type"),
        (
            r#"{"messages":[{"role":"user","content":"x"}],"tools":[{"name":"f"},{"type":"web_search_20250305","name":"web_search"}],"tool_choice":{"type":"tool","name":"web_search"}}"#,
            "tool_choice.name",
        ),
        (r#"{"messages":[{"role":"user","content":"x"}],"inference_geo":"eu"}"#, "inference_geo"),
    ];
    for (body, param) in cases {
        let refused = read_request(Value::parse_object(body).unwrap(), &mut Report::default()).expect_err(body);
        assert_eq!(refused.param, param, "{body}: {refused}");
    }
}

/// Any JSON that is made of this protocol's words.
fn any_json() -> impl Strategy<Value = Json> {
    let word = prop::sample::select(vec![
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
        "user",
        "assistant",
        "system",
        "base64",
        "url",
        "content",
        "ephemeral",
        "enabled",
        "adaptive",
        "auto",
        "tool",
        "ez1.gs.x",
        "",
        "a",
    ]);
    let key = prop::sample::select(vec![
        "type",
        "role",
        "content",
        "text",
        "source",
        "data",
        "url",
        "media_type",
        "tool_use_id",
        "id",
        "name",
        "input",
        "thinking",
        "signature",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "max_tokens",
        "cache_control",
        "output_config",
        "format",
        "schema",
        "stop_sequences",
        "message",
        "delta",
        "content_block",
        "index",
        "usage",
        "stop_reason",
        "partial_json",
    ]);
    let leaf =
        prop_oneof![word.prop_map(Json::from), any::<i32>().prop_map(Json::from), Just(Json::Null), Just(json!(true))];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_request_is_read_or_refused(messages in any_json(), rest in any_json()) {
        let mut body = json!({"model": "claude-opus-4-7", "messages": messages});
        if let Some(rest) = rest.as_object() {
            body.as_object_mut().unwrap().extend(rest.clone());
            body["model"] = json!("claude-opus-4-7");
        }
        if let Ok((written, _)) = again(&body.to_string()) {
            prop_assert!(written["messages"].as_array().is_some_and(|messages| !messages.is_empty()));
        }
    }
}
