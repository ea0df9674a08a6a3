use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::super::super::conversation::settle;
use super::super::super::opaque::{Opaque, OpaqueKind};
use super::super::super::request::{
    Arguments, CacheMarker, Media, MediaKind, MediaSource, Reasoning, Text, Tool, ToolCall, ToolChoice, ToolKind,
    ToolResult,
};
use super::super::super::tool_names::ToolNames;
use super::super::read_request::read_request;
use super::super::read_request::tests::json as any_json;
use super::*;

macro_rules! corpus {
    ($name:literal) => {
        include_str!(concat!("../../../tests/translate/corpus/responses/requests/", $name, ".json"))
    };
}

fn write_for(model: &str, request: ChatRequest<'_>) -> Result<(String, Vec<String>), Refused> {
    let mut report = Report::default();
    let names = ToolNames::of(&request, Protocol::OpenaiResponses)?;
    let capabilities = Capabilities::of(Protocol::OpenaiResponses, model);
    let written = write_request(request, Target { model, capabilities, names: &names }, &mut report)?;
    Ok((written.body, report.names().to_vec()))
}

/// Reads a request of a Responses client and writes it for a Responses upstream.
fn rewritten(model: &str, body: &str) -> Json {
    let mut report = Report::default();
    let mut request = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut report).unwrap();
    request.turns = settle(std::mem::take(&mut request.turns), "input").unwrap();
    serde_json::from_str(&write_for(model, request).unwrap().0).unwrap()
}

fn user(blocks: Vec<Block<'static>>) -> Turn<'static> {
    Turn { role: Role::User, blocks }
}

fn text(text: &'static str) -> Block<'static> {
    Block::Text(Text::plain(Escaped::of(text)))
}

fn asking(source: Protocol, turns: Vec<Turn<'static>>) -> ChatRequest<'static> {
    ChatRequest { turns, ..ChatRequest::new(source) }
}

fn input(turns: Vec<Turn<'static>>) -> Json {
    let (body, dropped) = write_for("gpt-5.1", asking(Protocol::AnthropicMessages, turns)).unwrap();
    assert_eq!(dropped, Vec::<String>::new());
    let body: Json = serde_json::from_str(&body).unwrap();
    body["input"].clone()
}

fn call(id: &'static str, arguments: Arguments<'static>) -> Block<'static> {
    let call = ToolCall { id: Escaped::of(id), name: Escaped::of("f"), arguments, signature: None, cache: None };
    Block::ToolCall(call)
}

fn result(content: Vec<Block<'static>>, is_error: Option<bool>) -> Block<'static> {
    let (id, name) = (Escaped::of("c"), None);
    Block::ToolResult(ToolResult { id, name, content, is_error, is_custom: false, cache: None })
}

fn image() -> Media<'static> {
    let source = MediaSource::Base64 { media_type: Escaped::of("image/png"), data: Escaped::of("AAAA") };
    Media { kind: MediaKind::Image, source, name: None, detail: None, cache: None }
}

#[test]
fn a_request_is_written_in_one_order() {
    let body = corpus!("reasoning_history");
    let mut report = Report::default();
    let request = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut report).unwrap();
    let (written, dropped) = write_for("gpt-5.1-codex", ChatRequest { stream: true, ..request }).unwrap();
    let expected = concat!(
        r#"{"model":"gpt-5.1-codex","stream":true,"store":false,"include":["reasoning.encrypted_content"],"#,
        r#""reasoning":{"effort":"medium","summary":"auto"},"#,
        r#""prompt_cache_key":"019a1b2c-0000-7000-8000-000000000000","text":{"verbosity":"low"},"#,
        r#""tools":[{"type":"function","name":"shell","description":"Runs a command.","parameters":{"type": "object", "#,
        r#""properties": {"command": {"type": "array", "items": {"type": "string"}}}, "required": ["command"], "#,
        r#""additionalProperties": false},"strict":false}],"tool_choice":"auto","parallel_tool_calls":false,"#,
        r#""instructions":"You are a coding agent.","#,
        r#""input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"List the files."}]},"#,
        r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"**Listing files**\n\nI'll use ls."#,
        r#"\n\n**Going on**"}],"encrypted_content":"gAAAAABo9b7Kx-_=="},"#,
        r#"{"type":"function_call","call_id":"call_ls","name":"shell","arguments":"{\"command\":[\"ls\"]}"},"#,
        r#"{"type":"function_call_output","call_id":"call_ls","#,
        r#""output":"{\"output\":\"a\\nb\\n\",\"metadata\":{\"exit_code\":0}}"},"#,
        r#"{"type":"reasoning","summary":[],"encrypted_content":"gAAAAABo9b7M"},"#,
        r#"{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","#,
        r#""text":"There are `a` and `b`.","annotations":[]}]},"#,
        r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"Thanks. Delete b."}]}]}"#,
    );
    assert_eq!((written.as_str(), dropped), (expected, Vec::new()));
}

#[test]
fn what_was_read_is_written_as_it_was() {
    let same = [
        (corpus!("custom_tool"), &["tools"][..]),
        (corpus!("json_schema"), &["text"]),
        (corpus!("tool_choice_function"), &["tools", "tool_choice", "parallel_tool_calls"]),
        (corpus!("tool_choice_allowed"), &["tool_choice"]),
        (corpus!("tool_choice_required"), &["tool_choice"]),
        (
            corpus!("user_tier_metadata"),
            &["user", "safety_identifier", "prompt_cache_key", "service_tier", "metadata", "store"],
        ),
        (corpus!("sampling"), &["temperature", "top_p", "max_output_tokens"]),
    ];
    for (body, keys) in same {
        let (read, written): (Json, Json) = (serde_json::from_str(body).unwrap(), rewritten("gpt-4.1", body));
        for key in keys {
            assert_eq!(written[key], read[key], "{key}");
        }
    }
    let written = rewritten("gpt-4.1", corpus!("tools"));
    let nothing = json!({"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}},
        "strict": false});
    assert_eq!(written["tools"][1], nothing);
    let written = rewritten("gpt-5.1", corpus!("pdf"));
    let file = json!({"type": "input_file", "filename": "draconomicon.pdf",
        "file_data": "data:application/pdf;base64,JVBERi0xLjQKJcfsj6IK"});
    assert_eq!(written["input"][0]["content"][0], file);
    let written = rewritten("gpt-5.1", corpus!("custom_tool"));
    let call = json!({"type": "custom_tool_call", "call_id": "call_aGiFQkRWSWAIsMQ19fKqxUgb", "name": "code_exec",
        "input": "print(\"hello world\")\n"});
    assert_eq!(written["input"][1], call);
    assert_eq!(written["input"][2]["type"], "custom_tool_call_output");
}

#[test]
fn grammars_are_flat() {
    let body = r#"{"model":"m","input":"hi","tools":[{"type":"custom","name":"f","format":{"type":"grammar",
        "grammar":{"syntax":"lark","definition":"start: /.+/"}}}]}"#;
    let flat = json!({"type": "grammar", "definition": "start: /.+/", "syntax": "lark"});
    assert_eq!(rewritten("gpt-5.1", body)["tools"][0]["format"], flat);
}

#[test]
fn instructions_keep_their_place() {
    let system = |role, words| Turn { role, blocks: vec![text(words), text("b")] };
    let turns = vec![
        system(Role::System, "a"),
        system(Role::Developer, "c"),
        user(vec![text("hi")]),
        Turn { role: Role::System, blocks: vec![text("later")] },
    ];
    let (body, _) = write_for("gpt-5.1", asking(Protocol::AnthropicMessages, turns)).unwrap();
    let body: Json = serde_json::from_str(&body).unwrap();
    assert_eq!(body["instructions"], "a\n\nb");
    let roles: Vec<_> = body["input"].as_array().unwrap().iter().map(|item| item["role"].clone()).collect();
    assert_eq!(roles, ["developer", "user", "developer"]);
    // Alone they are the input: the vendor wants some.
    let alone = asking(Protocol::OpenaiChat, vec![Turn { role: Role::System, blocks: vec![text("a")] }]);
    let body: Json = serde_json::from_str(&write_for("gpt-4.1", alone).unwrap().0).unwrap();
    assert_eq!((&body["instructions"], &body["input"][0]["role"]), (&Json::Null, &json!("system")));
}

#[test]
fn results_are_written() {
    let output = |content: Vec<Block<'static>>, is_error| {
        let turns = vec![
            user(vec![text("hi")]),
            Turn { role: Role::Assistant, blocks: vec![call("c", Arguments::Object(Value::EMPTY_OBJECT))] },
            user(vec![result(content, is_error), text("and")]),
        ];
        let written = input(turns);
        assert_eq!((&written[1]["arguments"], &written[3]["content"][0]["text"]), (&json!("{}"), &json!("and")));
        written[2]["output"].clone()
    };
    assert_eq!(output(vec![text("14")], None), "14");
    assert_eq!(output(vec![], None), "");
    assert_eq!(output(vec![text("no")], Some(true)), "Error: no");
    assert_eq!(output(vec![text("Error: no")], Some(true)), "Error: no");
    let url = "data:image/png;base64,AAAA";
    let parts = json!([
        {"type": "input_text", "text": "Error: "},
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "detail": "auto", "image_url": url},
    ]);
    assert_eq!(output(vec![text("a"), Block::Media(image())], Some(true)), parts);
}

#[test]
fn files_are_written() {
    let document = |source, name: Option<&'static str>| {
        let name = name.map(Escaped::of);
        Block::Media(Media { kind: MediaKind::Document, source, name, detail: None, cache: None })
    };
    let data = |media_type| MediaSource::Base64 { media_type: Escaped::of(media_type), data: Escaped::of("AAAA") };
    let url = || MediaSource::Url { url: Escaped::of("https://example.com/a"), media_type: None };
    let image_there = Block::Media(Media { source: url(), detail: Some(Escaped::of("low")), ..image() });
    let blocks = vec![
        document(data("application/pdf"), None),
        document(data("text/plain"), Some("notes.txt")),
        document(url(), None),
        document(MediaSource::Text(Escaped::of("words")), Some("Title")),
        document(MediaSource::Text(Escaped::of("words")), None),
        image_there,
    ];
    let expected = json!([
        {"type": "input_file", "filename": "document.pdf", "file_data": "data:application/pdf;base64,AAAA"},
        {"type": "input_file", "filename": "notes.txt", "file_data": "data:text/plain;base64,AAAA"},
        {"type": "input_file", "file_url": "https://example.com/a"},
        {"type": "input_text", "text": "Title\n\nwords"},
        {"type": "input_text", "text": "words"},
        {"type": "input_image", "detail": "low", "image_url": "https://example.com/a"},
    ]);
    assert_eq!(input(vec![user(blocks)])[0]["content"], expected);
}

#[test]
fn arguments_are_strings() {
    let object = Value::parse_object(r#"{"a": 1.0, "b":"\u00e9"}"#).unwrap();
    let cases = [
        (Arguments::Written(Escaped::EMPTY), "{}"),
        (Arguments::Written(Escaped::of("{broken")), "{broken"),
        (Arguments::Object(object), r#"{"a": 1.0, "b":"\u00e9"}"#),
    ];
    for (arguments, expected) in cases {
        let turns = vec![
            user(vec![text("hi")]),
            Turn { role: Role::Assistant, blocks: vec![call("c", arguments)] },
            user(vec![result(vec![], None)]),
        ];
        assert_eq!(input(turns)[1]["arguments"], expected);
    }
}

#[test]
fn only_own_thoughts_are_sent_and_only_before_what_they_led_to() {
    let thought = |issuer, data| {
        let signature = Some(Opaque { issuer, kind: OpaqueKind::Encrypted, data: Escaped::of(data) });
        Block::Reasoning(Reasoning { text: Escaped::EMPTY, signature })
    };
    let assistant = |blocks| Turn { role: Role::Assistant, blocks };
    let turns = vec![
        user(vec![text("hi")]),
        assistant(vec![thought(Protocol::AnthropicMessages, "a"), thought(Protocol::OpenaiResponses, "own")]),
        assistant(vec![text("so")]),
        user(vec![text("go on")]),
        assistant(vec![thought(Protocol::OpenaiResponses, "cut off")]),
        user(vec![text("well?")]),
    ];
    let written = input(turns.clone());
    let items: Vec<String> = written
        .as_array()
        .unwrap()
        .iter()
        .map(|item| format!("{} {}", item["type"].as_str().unwrap(), item["encrypted_content"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(items, ["message ", "reasoning own", "message ", "message ", "message "]);
    let (body, _) = write_for("gpt-4.1", asking(Protocol::OpenaiChat, turns)).unwrap();
    assert!(!body.contains("reasoning"), "{body}");
}

#[test]
fn models_are_asked_for_what_they_take() {
    let sampled = r#"{"input":"hi","temperature":0.5,"top_p":0.9,"reasoning":{"effort":"EFFORT","summary":"auto"},
        "text":{"verbosity":"low"},"max_output_tokens":5}"#;
    let cases = [
        ("gpt-4.1", "high", "temperature top_p", vec!["reasoning.effort", "reasoning.summary", "text.verbosity"]),
        ("gpt-5", "high", "include reasoning text", vec!["temperature", "top_p"]),
        ("gpt-5.1", "high", "include reasoning text", vec!["temperature", "top_p"]),
        ("gpt-5.1", "none", "include reasoning temperature text top_p", vec![]),
    ];
    let unasked =
        read_request(Value::parse_object(r#"{"input":"hi","temperature":1}"#).unwrap(), &mut Report::default());
    assert_eq!(write_for("gpt-5.1", unasked.unwrap()).unwrap().1, ["temperature"]);
    for (model, effort, has, expected) in cases {
        let body = sampled.replace("EFFORT", effort);
        let request = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut Report::default()).unwrap();
        let (written, dropped) = write_for(model, request).unwrap();
        assert_eq!(dropped, expected, "{model}");
        let written: Json = serde_json::from_str(&written).unwrap();
        let mut keys: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
        keys.retain(|key| !["model", "store", "input", "max_output_tokens"].contains(key));
        keys.sort_unstable();
        assert_eq!(keys.join(" "), has, "{model}");
        assert_eq!(written["max_output_tokens"], 16, "the vendor takes no less");
    }
}

#[test]
fn other_protocols_words_are_mapped() {
    let mut request = asking(Protocol::AnthropicMessages, vec![user(vec![text("hi")])]);
    let params = r#"{"tier":"standard_only","user":"u","k":5,"long":"LONG"}"#.replace("LONG", &"x".repeat(65));
    let params = Value::parse_object(&params).unwrap();
    request.params.give(Param::ServiceTier, "service_tier", params.get("tier"));
    request.params.give(Param::User, "metadata.user_id", params.get("user"));
    request.params.give(Param::TopK, "top_k", params.get("k"));
    request.reasoning.budget = Some(Budget::Tokens(20_000));
    request.cache = Some(CacheMarker::Default);
    let (body, dropped) = write_for("gpt-5", request).unwrap();
    let body: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["service_tier"], &body["safety_identifier"]), (&json!("default"), &json!("u")));
    assert_eq!(body["reasoning"], json!({"effort": "high"}));
    assert_eq!(dropped, ["cache_control", "top_k"]);
    let mut request = asking(Protocol::AnthropicMessages, vec![user(vec![text("hi")])]);
    request.params.give(Param::User, "metadata.user_id", params.get("long"));
    assert_eq!(write_for("gpt-5", request).unwrap().1, ["metadata.user_id"]);
}

#[test]
fn what_the_upstream_cannot_do_is_refused() {
    let hi = || asking(Protocol::AnthropicMessages, vec![user(vec![text("hi")])]);
    let with = |change: &dyn Fn(&mut ChatRequest<'static>)| {
        let mut request = hi();
        change(&mut request);
        write_for("gpt-5.1", request).map(|(body, _)| body).expect_err("refused").param
    };
    let media = |kind| Block::Media(Media { kind, ..image() });
    assert_eq!(with(&|request| request.choices = 2), "n");
    assert_eq!(with(&|request| request.stop = vec![Escaped::of("END")]), "stop_sequences");
    assert_eq!(with(&|request| request.turns.clear()), "messages");
    assert_eq!(with(&|request| request.turns = vec![user(vec![media(MediaKind::Audio)])]), "messages");
    let prefill = Turn { role: Role::Assistant, blocks: vec![text("{")] };
    assert_eq!(with(&|request| request.turns.push(prefill.clone())), "messages");
    let pictured = Turn { role: Role::System, blocks: vec![media(MediaKind::Image)] };
    assert_eq!(with(&|request| request.turns.insert(0, pictured.clone())), "messages");
    assert_eq!(with(&|request| request.tool_choice = Some(ToolChoice::Required)), "tool_choice");
    // OpenAI's own clients do not mean a beginning to go on from.
    let turns = vec![user(vec![text("hi")]), prefill.clone()];
    assert!(write_for("gpt-5.1", asking(Protocol::OpenaiChat, turns)).is_ok());
}

#[test]
fn a_longer_conversation_begins_with_the_same_bytes() {
    let tool = Tool {
        name: Escaped::of("f"),
        description: None,
        kind: ToolKind::Function { schema: None },
        strict: None,
        cache: None,
    };
    let mut turns = vec![Turn { role: Role::System, blocks: vec![text("sys")] }, user(vec![text("hi")])];
    let mut last = String::new();
    for round in 0..4 {
        let mut request = asking(Protocol::OpenaiChat, turns.clone());
        request.tools = vec![tool.clone()];
        let (body, _) = write_for("gpt-5.1", request).unwrap();
        assert!(round == 0 || body.starts_with(last.strip_suffix("]}").unwrap()), "{body}");
        last = body;
        turns.push(Turn {
            role: Role::Assistant,
            blocks: vec![text("so"), call("c", Arguments::Object(Value::EMPTY_OBJECT))],
        });
        turns.push(user(vec![result(vec![text("14")], None)]));
    }
}

proptest! {
    #[test]
    fn what_can_be_read_is_written_or_refused(input in any_json(), tools in any_json(), other in any_json()) {
        let body = format!(r#"{{"input":[{{"role":"user","content":"a"}},{input}],"tools":{tools},"text":{other}}}"#);
        let read = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut Report::default());
        if let Ok(mut request) = read
            && let Ok(turns) = settle(std::mem::take(&mut request.turns), "input")
        {
            request.turns = turns;
            if let Ok((written, _)) = write_for("gpt-5.1", request) {
                // Halves of characters pass as they came, which strict parsers refuse.
                prop_assert!(Value::object_in(written.as_bytes()).is_ok(), "{}", written);
            }
        }
    }
}
