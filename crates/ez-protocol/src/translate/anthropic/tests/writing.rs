use ez_contract::Protocol;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::super::capability::Capabilities;
use super::super::super::params::Param;
use super::super::super::report::Report;
use super::super::super::request::{
    Arguments, Block, ChatRequest, Media, MediaKind, MediaSource, OutputFormat, Role, Tool, ToolCall, ToolChoice,
    ToolKind, ToolResult, Turn,
};
use super::super::super::target::Target;
use super::super::super::tool_names::ToolNames;
use super::{chat, hello, sent, text, turn};
use crate::json::{Escaped, Value};

const MODEL: &str = "claude-sonnet-4-5";

fn tool(name: &'static str, kind: ToolKind<'static>) -> Tool<'static> {
    Tool { name: Escaped::of(name), description: None, kind, strict: None, cache: None }
}

fn function(name: &'static str) -> Tool<'static> {
    tool(name, ToolKind::Function { schema: None })
}

fn call(id: &'static str, arguments: Arguments<'static>) -> Block<'static> {
    let id = Escaped::of(id);
    Block::ToolCall(ToolCall { id, name: Escaped::of("f"), arguments, signature: None, cache: None })
}

fn written(arguments: &'static str) -> Arguments<'static> {
    Arguments::Written(Escaped::of(arguments))
}

fn result(id: &'static str, content: Vec<Block<'static>>) -> Block<'static> {
    let id = Escaped::of(id);
    Block::ToolResult(ToolResult { id, name: None, content, is_error: None, is_custom: false, cache: None })
}

fn media(kind: MediaKind, source: MediaSource<'static>) -> Block<'static> {
    Block::Media(Media { kind, source, name: Some(Escaped::of("a.txt")), detail: None, cache: None })
}

fn base64(media_type: &'static str, data: &'static str) -> MediaSource<'static> {
    MediaSource::Base64 { media_type: Escaped::of(media_type), data: Escaped::of(data) }
}

fn object(text: &'static str) -> Value<'static> {
    Value::parse_object(text).expect("an object")
}

#[test]
fn instructions_stand_where_anthropic_takes_them() {
    let turns = || {
        vec![
            turn(Role::System, vec![text("a")]),
            turn(Role::Developer, vec![text("b"), text(" ")]),
            turn(Role::User, vec![text("hello")]),
            turn(Role::Developer, vec![text("c")]),
            turn(Role::Assistant, vec![text("hi")]),
            turn(Role::System, vec![text("d\n")]),
            turn(Role::User, vec![text("go on")]),
        ]
    };
    let (older, _, _) = sent(chat(turns()), MODEL).unwrap();
    assert_eq!(older["system"], json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]));
    let block = |text: &str| json!({"type": "text", "text": text});
    let expected = json!([
        {"role": "user", "content": [block("hello"), block("<system>\nc\n</system>")]},
        {"role": "assistant", "content": [block("hi")]},
        {"role": "user", "content": [block("<system>\nd\n\n</system>"), block("go on")]},
    ]);
    assert_eq!(older["messages"], expected);
    let (newer, _, _) = sent(chat(turns()), "claude-opus-4-7").unwrap();
    let roles: Vec<_> = newer["messages"].as_array().unwrap().iter().map(|message| message["role"].as_str()).collect();
    assert_eq!(roles, ["user", "system", "assistant", "system", "user"].map(Some));
}

#[test]
fn the_user_begins() {
    let begin = json!({"role": "user", "content": [{"type": "text", "text": "Begin."}]});
    for turns in [
        vec![turn(Role::System, vec![text("a")])],
        vec![turn(Role::Assistant, vec![text("hi")]), turn(Role::User, vec![text("hello")])],
        vec![turn(Role::User, vec![text("")])],
    ] {
        let (body, _, _) = sent(chat(turns), MODEL).unwrap();
        assert_eq!(body["messages"][0], begin);
    }
}

#[test]
fn answers_that_the_client_began_go_on_where_the_model_can() {
    let turns = |end: &'static str| {
        chat(vec![turn(Role::User, vec![text("hello")]), turn(Role::Assistant, vec![text("so"), text(end)])])
    };
    let (body, _, _) = sent(turns("{\"a\": \n"), MODEL).unwrap();
    assert_eq!(body["messages"][1]["content"][1]["text"], "{\"a\":");
    let refused = sent(turns("x"), "claude-opus-4-7").expect_err("no prefill");
    assert_eq!(refused.param, "messages");
    let blank = chat(vec![turn(Role::User, vec![text("hello")]), turn(Role::Assistant, vec![text(" \n")])]);
    assert_eq!(sent(blank, "claude-opus-4-7").unwrap().0["messages"].as_array().unwrap().len(), 1);
}

#[test]
fn arguments_become_objects() {
    let cases = [
        (written(""), json!({})),
        (written(" "), json!({})),
        (written("{\"a\": 1.50}"), json!({"a": 1.5})),
        (written("{\"a\": "), json!({"INVALID_JSON": "{\"a\": "})),
        (written("[1]"), json!({"INVALID_JSON": "[1]"})),
        (Arguments::Object(object(r#"{"a":{}}"#)), json!({"a": {}})),
        (Arguments::Free(Escaped::of("*** \"Patch\"\n")), json!({"input": "*** \"Patch\"\n"})),
    ];
    for (arguments, expected) in cases {
        let mut request = hello();
        request.tools = vec![function("f")];
        request.turns.push(turn(Role::Assistant, vec![call("call.1", arguments.clone())]));
        request.turns.push(turn(Role::User, vec![result("call.1", vec![text("ok"), text("")])]));
        let (body, _, _) = sent(request, MODEL).unwrap();
        let used = &body["messages"][1]["content"][0];
        assert_eq!(used["input"], expected, "{arguments:?}");
        let id = used["id"].as_str().unwrap();
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{id}");
        let answer = &body["messages"][2]["content"][0];
        assert_eq!(
            (answer["tool_use_id"].as_str(), &answer["content"]),
            (Some(id), &json!([{"type": "text", "text": "ok"}]))
        );
    }
}

#[test]
fn files_are_sent_as_what_they_are_or_refused() {
    let content = |block: Block<'static>| {
        sent(chat(vec![turn(Role::User, vec![block])]), MODEL)
            .map(|(body, _, _)| body["messages"][0]["content"][0].clone())
    };
    let url = |url: &'static str| MediaSource::Url { url: Escaped::of(url), media_type: None };
    let taken = [
        (media(MediaKind::Image, base64("image/png", "AAAA")), "image", "base64"),
        (media(MediaKind::Document, base64("image/png", "AAAA")), "image", "base64"),
        (media(MediaKind::Document, base64("application/pdf", "JVBERi0=")), "document", "base64"),
        (media(MediaKind::Document, base64("text/csv", "YSxi")), "document", "text"),
        (media(MediaKind::Document, base64("application/json", "e30=")), "document", "text"),
        (media(MediaKind::Document, MediaSource::Text(Escaped::of("a"))), "document", "text"),
        (media(MediaKind::Image, url("https://example.com/a")), "image", "url"),
        (media(MediaKind::Document, url("HTTPS://example.com/a")), "document", "url"),
    ];
    for (block, kind, source) in taken {
        let written = content(block.clone()).unwrap_or_else(|e| panic!("{block:?}: {e}"));
        assert_eq!((&written["type"], &written["source"]["type"]), (&json!(kind), &json!(source)), "{block:?}");
        assert_eq!(written.get("title").is_some(), kind == "document", "{block:?}");
    }
    let text = content(media(MediaKind::Document, base64("text/csv", "YSxi"))).unwrap();
    assert_eq!(text["source"], json!({"type": "text", "media_type": "text/plain", "data": "a,b"}));
    for block in [
        media(MediaKind::Audio, base64("audio/wav", "AAAA")),
        media(MediaKind::Video, url("https://example.com/a.mp4")),
        media(MediaKind::Image, url("gs://bucket/a.png")),
        media(MediaKind::Image, base64("image/tiff", "AAAA")),
        media(MediaKind::Document, base64("application/zip", "//79/A==")),
    ] {
        assert_eq!(content(block.clone()).expect_err("refused").param, "messages", "{block:?}");
    }
    let image = || media(MediaKind::Image, base64("image/png", "AAAA"));
    for role in [Role::System, Role::Assistant] {
        let turns = vec![turn(Role::User, vec![super::text("x")]), turn(role, vec![image()])];
        assert!(sent(chat(turns), MODEL).is_err(), "{role:?}");
    }
}

#[test]
fn tools_have_the_schemas_that_anthropic_wants() {
    let schema = |schema: Option<&'static str>| {
        let mut request = hello();
        request.tools = vec![tool("f", ToolKind::Function { schema: schema.map(object) })];
        sent(request, MODEL).unwrap().0["tools"][0]["input_schema"].to_string()
    };
    let nothing = r#"{"type":"object","properties":{}}"#;
    assert_eq!((schema(None).len(), schema(Some("{}")).len()), (nothing.len(), nothing.len()));
    assert_eq!(schema(Some(r#"{"properties":{"a":{}}}"#)), r#"{"properties":{"a":{}},"type":"object"}"#);
    assert_eq!(schema(Some(r#"{"type":["object"]}"#)), r#"{"type":["object"]}"#);

    let mut request = hello();
    let grammar = object(r#"{"type":"grammar","syntax":"lark"}"#);
    request.tools = vec![tool("patch", ToolKind::Custom { format: Some(grammar) }), function("f")];
    request.tools[0].description = Some(Escaped::of("Patches."));
    request.tools[1].strict = Some(true);
    let (body, _, dropped) = sent(request, MODEL).unwrap();
    let patch = &body["tools"][0];
    assert_eq!(patch["input_schema"]["required"], json!(["input"]));
    let told = "Patches.\n\n`input` is text in this format: {\"type\":\"grammar\",\"syntax\":\"lark\"}";
    assert_eq!((patch["description"].as_str(), dropped), (Some(told), vec!["tools.strict".to_owned()]));
}

#[test]
fn choices_are_told_in_anthropics_words() {
    let names = |names: &[&'static str]| names.iter().map(|name| Escaped::of(name)).collect::<Vec<_>>();
    let allowed = |known: &[&'static str], required| ToolChoice::Allowed { names: names(known), required };
    let cases = [
        (None, None, Json::Null, ""),
        (Some(ToolChoice::Auto), Some(true), Json::Null, ""),
        (None, Some(false), json!({"type": "auto", "disable_parallel_tool_use": true}), ""),
        (Some(ToolChoice::None), Some(false), json!({"type": "none"}), ""),
        (Some(ToolChoice::Required), None, json!({"type": "any"}), ""),
        (
            Some(ToolChoice::Tool(Escaped::of("g"))),
            Some(false),
            json!({"type": "tool", "name": "g", "disable_parallel_tool_use": true}),
            "",
        ),
        (Some(allowed(&["g"], true)), None, json!({"type": "tool", "name": "g"}), ""),
        (Some(allowed(&["f", "g"], true)), None, json!({"type": "any"}), "tool_choice"),
        (Some(allowed(&["g"], false)), None, Json::Null, "tool_choice"),
    ];
    for (choice, parallel, expected, lost) in cases {
        let mut request = hello();
        request.tools = vec![function("f"), function("g")];
        (request.tool_choice, request.parallel_tool_calls) = (choice.clone(), parallel);
        let (body, _, dropped) = sent(request, MODEL).unwrap();
        assert_eq!((&body["tool_choice"], dropped.join(" ").as_str()), (&expected, lost), "{choice:?}");
    }
    for choice in [ToolChoice::Required, ToolChoice::Tool(Escaped::of("f")), allowed(&["f"], true)] {
        let request = ChatRequest { tool_choice: Some(choice), ..hello() };
        assert_eq!(sent(request, MODEL).expect_err("no tools").param, "tool_choice");
    }
    for choice in [ToolChoice::Auto, ToolChoice::None, allowed(&["f"], false)] {
        let request = ChatRequest { tool_choice: Some(choice), parallel_tool_calls: Some(false), ..hello() };
        assert_eq!(sent(request, MODEL).unwrap().0.get("tool_choice"), None);
    }
}

#[test]
fn what_was_called_is_defined_and_not_called_again() {
    let mut request = hello();
    request.turns.push(turn(Role::Assistant, vec![call("a", written("")), call("b", written(""))]));
    request.turns.push(turn(Role::User, vec![result("a", vec![]), result("b", vec![])]));
    let (body, _, _) = sent(request, MODEL).unwrap();
    assert_eq!(body["tools"], json!([{"name": "f", "input_schema": {"type": "object"}}]));
    assert_eq!(body["tool_choice"], json!({"type": "none"}));
}

#[test]
fn output_is_held_to_a_schema() {
    let schema = object(r#"{"type":"object","properties":{"b":{},"a":{}}}"#);
    let output = || OutputFormat::JsonSchema {
        name: Some(Escaped::of("record")),
        description: Some(Escaped::of("A record.")),
        schema,
        strict: Some(true),
    };
    let (body, tool, dropped) = sent(ChatRequest { output: output(), ..hello() }, MODEL).unwrap();
    assert_eq!(body["output_config"]["format"]["type"], "json_schema");
    assert_eq!((tool, body.get("tools"), dropped), (None, None, vec!["response_format.description".to_owned()]));

    let old = "claude-3-5-haiku-20241022";
    let (body, tool, dropped) = sent(ChatRequest { output: output(), ..hello() }, old).unwrap();
    assert_eq!(tool.as_deref(), Some("respond"));
    assert_eq!(body["tools"][0]["description"], "A record.");
    let choice = json!({"type": "tool", "name": "respond", "disable_parallel_tool_use": true});
    assert_eq!(body["tool_choice"], choice);
    assert_eq!(dropped, ["response_format.strict"]);

    let mut request = ChatRequest { output: OutputFormat::JsonObject, ..hello() };
    request.tools = vec![function("respond"), function("f")];
    let (body, tool, _) = sent(request, MODEL).unwrap();
    assert_eq!((tool.as_deref(), &body["tool_choice"]), (Some("respond_"), &json!({"type": "any"})));
    assert_eq!(body["tools"][2]["input_schema"], json!({"type": "object"}));
}

#[test]
fn what_anthropic_cannot_do_is_refused_or_dropped() {
    let refused = [
        (ChatRequest { choices: 2, ..hello() }, "n"),
        (ChatRequest { stop: vec![Escaped::of("\n")], ..hello() }, "stop"),
        (ChatRequest { stop: vec![Escaped::EMPTY], ..hello() }, "stop"),
        (ChatRequest { max_output_tokens: Some(0), ..hello() }, "max_completion_tokens"),
    ];
    for (request, param) in refused {
        assert_eq!(sent(request, MODEL).expect_err(param).param, param);
    }
    let given = object(r#"{"seed":1,"user":"u_1","safety":"u_2","tier":"flex","long":"x"}"#);
    let mut request = hello();
    request.params.give(Param::Seed, "seed", given.get("seed"));
    request.params.give(Param::User, "user", given.get("user"));
    request.params.give(Param::User, "safety_identifier", given.get("safety"));
    request.params.give(Param::ServiceTier, "service_tier", given.get("tier"));
    let (body, _, dropped) = sent(request, MODEL).unwrap();
    assert_eq!(dropped, ["seed", "safety_identifier", "service_tier"]);
    assert_eq!((&body["metadata"], body.get("service_tier")), (&json!({"user_id": "u_1"}), None));
    for (tier, expected) in [(r#"{"t":"auto"}"#, "auto"), (r#"{"t":"default"}"#, "standard_only")] {
        let mut request = hello();
        request.params.give(Param::ServiceTier, "service_tier", object(tier).get("t"));
        assert_eq!(sent(request, MODEL).unwrap().0["service_tier"], expected);
    }
}

#[test]
fn what_the_model_said_otherwise_is_said_in_words() {
    let refusal = Block::Refusal(Escaped::of("No."));
    let mut request = hello();
    request.turns.push(turn(Role::Assistant, vec![refusal]));
    request.turns.push(turn(Role::User, vec![text("Why?")]));
    let (body, _, _) = sent(request, MODEL).unwrap();
    assert_eq!(body["messages"][1]["content"], json!([{"type": "text", "text": "No."}]));
}

/// Turns of a conversation that may go on anyhow.
fn conversations() -> impl Strategy<Value = Vec<(Role, String)>> {
    let role = prop::sample::select(vec![Role::System, Role::Developer, Role::User, Role::Assistant]);
    prop::collection::vec((role, "[a-z \"]{0,6}"), 1..8)
}

proptest! {
    /// The vendor's cache goes by prefixes: what was sent once stays as it was when the conversation goes on.
    #[test]
    fn a_conversation_that_goes_on_begins_with_the_same_bytes(said in conversations(), model in 0..2_usize) {
        let model = [MODEL, "claude-opus-4-7"][model];
        let written = |said: &[(Role, String)]| {
            let turns = said.iter().map(|(role, words)| Turn { role: *role, blocks: vec![text(words)] }).collect();
            sent_bytes(chat(turns), model)
        };
        let said = [said, vec![(Role::User, "now".to_owned())]].concat();
        let more = [said.clone(), vec![(Role::Assistant, "yes".to_owned()), (Role::User, "and".to_owned())]].concat();
        let (before, after) = (written(&said), written(&more));
        let prefix = before.strip_suffix("]}").expect("the conversation comes last");
        prop_assert!(after.starts_with(prefix), "{before}\n{after}");
    }
}

fn sent_bytes(request: ChatRequest<'_>, model: &str) -> String {
    let capabilities = Capabilities::of(Protocol::AnthropicMessages, model);
    let names = ToolNames::default();
    let target = Target { model, capabilities, names: &names };
    super::super::write_request(request, target, &mut Report::default()).expect("a request").body
}
