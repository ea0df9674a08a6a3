//! Conversations of other protocols, written as messages.

use ez_contract::Protocol;
use proptest::prelude::*;

use super::super::capability::Capabilities;
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{
    Arguments, Block, Budget, CacheMarker, ChatRequest, Media, MediaKind, MediaSource, OutputFormat, Reasoning, Role,
    Text, Tool, ToolCall, ToolKind, ToolResult, Turn,
};
use super::super::target::Target;
use super::super::tool_names::ToolNames;
use super::{AnswerReader, read_plain, read_request, write_request};
use crate::json::{Escaped, Value};

fn text(words: &'static str) -> Block<'static> {
    Block::Text(Text::plain(Escaped::of(words)))
}

fn call(id: &'static str, arguments: Arguments<'static>) -> Block<'static> {
    Block::ToolCall(ToolCall { id: Escaped::of(id), name: Escaped::of("f"), arguments, signature: None, cache: None })
}

fn result(id: &'static str, content: Vec<Block<'static>>, is_error: Option<bool>) -> Block<'static> {
    let id = Escaped::of(id);
    Block::ToolResult(ToolResult { id, name: None, content, is_error, is_custom: false, cache: None })
}

fn media(kind: MediaKind, source: MediaSource<'static>) -> Block<'static> {
    Block::Media(Media { kind, source, name: None, detail: None, cache: None })
}

fn base64(media_type: &'static str, data: &'static str) -> MediaSource<'static> {
    MediaSource::Base64 { media_type: Escaped::of(media_type), data: Escaped::of(data) }
}

fn url(url: &'static str) -> MediaSource<'static> {
    MediaSource::Url { url: Escaped::of(url), media_type: None }
}

fn thought(words: &'static str, signature: Option<Opaque<'static>>) -> Block<'static> {
    Block::Reasoning(Reasoning { text: Escaped::of(words), signature })
}

fn request(turns: Vec<(Role, Vec<Block<'static>>)>) -> ChatRequest<'static> {
    let mut request = ChatRequest::new(Protocol::AnthropicMessages);
    request.turns = turns.into_iter().map(|(role, blocks)| Turn { role, blocks }).collect();
    request
}

fn written(request: ChatRequest<'_>, model: &str) -> Result<(serde_json::Value, Vec<String>), Refused> {
    let mut report = Report::default();
    let names = ToolNames::of(&request, Protocol::OpenaiChat)?;
    let capabilities = Capabilities::of(Protocol::OpenaiChat, model);
    let written = write_request(request, Target { model, capabilities, names: &names }, &mut report)?;
    Ok((serde_json::from_str(&written.body).unwrap(), report.names().to_vec()))
}

/// Compares the messages that are written for the last turns of a conversation with the user.
fn check(model: &str, turns: Vec<(Role, Vec<Block<'static>>)>, expected: &str) {
    let mut all = turns;
    all.push((Role::User, vec![text("end")]));
    let (body, _) = written(request(all), model).unwrap();
    let mut messages = body["messages"].as_array().unwrap().clone();
    messages.pop();
    let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
    assert_eq!(serde_json::Value::from(messages), expected, "{model}");
}

#[test]
fn one_step_is_one_message() {
    use Role::{Assistant, User};
    let item = |block| (Assistant, vec![block]);
    check(
        "gpt-4o",
        vec![
            item(thought("t", None)),
            item(text("a")),
            item(call("1", Arguments::Written(Escaped::of("{\"x\":1}")))),
            item(call("2", Arguments::Object(Value::EMPTY_OBJECT))),
            (User, vec![result("1", vec![text("r")], None), result("2", vec![], Some(true))]),
            item(text("b")),
            item(text("c")),
        ],
        r#"[{"role":"assistant","content":"a","tool_calls":[
              {"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
              {"id":"2","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"1","content":"r"},
            {"role":"tool","tool_call_id":"2","content":"Error"},
            {"role":"assistant","content":"b"},
            {"role":"assistant","content":"c"}]"#,
    );
}

#[test]
fn results_keep_their_errors_and_files() {
    let picture = || media(MediaKind::Image, base64("image/png", "AAAA"));
    check(
        "gpt-4o",
        vec![
            (
                Role::Assistant,
                vec![call("1", Arguments::Written(Escaped::EMPTY)), call("2", Arguments::Written(Escaped::of("{")))],
            ),
            (
                Role::User,
                vec![
                    result("1", vec![picture()], Some(false)),
                    result("2", vec![text("Error: no"), text("x")], Some(true)),
                ],
            ),
        ],
        r#"[{"role":"assistant","content":null,"tool_calls":[
              {"id":"1","type":"function","function":{"name":"f","arguments":"{}"}},
              {"id":"2","type":"function","function":{"name":"f","arguments":"{"}}]},
            {"role":"tool","tool_call_id":"1","content":"The output is in the next message of the user."},
            {"role":"tool","tool_call_id":"2","content":[{"type":"text","text":"Error: no"},{"type":"text","text":"x"}]},
            {"role":"user","content":[{"type":"text","text":"Output of the tool call 1:"},
              {"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]"#,
    );
    check(
        "qwen3",
        vec![
            (Role::Assistant, vec![Block::Refusal(Escaped::of("no")), call("1", Arguments::Free(Escaped::of("a\"b")))]),
            (Role::User, vec![result("1", vec![text("bad")], Some(true))]),
        ],
        r#"[{"role":"assistant","content":"no","tool_calls":[
              {"id":"1","type":"function","function":{"name":"f","arguments":"{\"input\":\"a\\\"b\"}"}}]},
            {"role":"tool","tool_call_id":"1","content":"Error: bad"}]"#,
    );
}

#[test]
fn files_are_written_where_there_is_a_place() {
    let document = |source, name: &'static str| {
        let name = Some(Escaped::of(name));
        Block::Media(Media { kind: MediaKind::Document, source, name, detail: None, cache: None })
    };
    check(
        "gpt-4o",
        vec![(
            Role::User,
            vec![
                media(MediaKind::Image, url("https://e.org/a.png")),
                media(MediaKind::Document, base64("application/pdf", "JVBERi0=")),
                document(base64("text/csv", "YSxi"), "t.csv"),
                document(MediaSource::Text(Escaped::of("words")), ""),
                media(MediaKind::Audio, base64("audio/mpeg", "SUQz")),
            ],
        )],
        r#"[{"role":"user","content":[
              {"type":"image_url","image_url":{"url":"https://e.org/a.png"}},
              {"type":"file","file":{"filename":"document.pdf","file_data":"data:application/pdf;base64,JVBERi0="}},
              {"type":"text","text":"t.csv\n\na,b"},
              {"type":"text","text":"words"},
              {"type":"input_audio","input_audio":{"data":"SUQz","format":"mp3"}}]}]"#,
    );
    let refused = [
        (MediaKind::Video, base64("video/mp4", "AAAA")),
        (MediaKind::Document, url("https://e.org/a.pdf")),
        (MediaKind::Audio, url("https://e.org/a.wav")),
        (MediaKind::Audio, base64("audio/ogg", "AAAA")),
    ];
    for (kind, source) in refused {
        let turns = vec![(Role::User, vec![media(kind, source.clone())])];
        let fault = written(request(turns), "gpt-4o").unwrap_err();
        assert_eq!((fault.param.as_str(), fault.code), ("messages", "untranslatable_parameter"), "{kind:?} {source:?}");
    }
    let own = vec![(Role::Assistant, vec![media(MediaKind::Image, base64("image/png", "AAAA"))])];
    assert!(written(request(own), "gpt-4o").is_err());
}

#[test]
fn thoughts_go_back_to_who_issued_them() {
    let own = Opaque {
        issuer: Protocol::OpenaiChat,
        kind: OpaqueKind::Signature,
        data: Escaped::of(r#"{"type":"reasoning.text","signature":"s"}"#),
    };
    let other = Opaque { issuer: Protocol::AnthropicMessages, kind: OpaqueKind::Signature, data: Escaped::of("x") };
    let arguments = || Arguments::Written(Escaped::EMPTY);
    let turns = |state: Option<Opaque<'static>>| {
        vec![
            (Role::Assistant, vec![thought("why", state), call("1", arguments())]),
            (Role::User, vec![result("1", vec![text("r")], None)]),
        ]
    };
    let rest = r#""tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","tool_call_id":"1","content":"r"}]"#;
    let details = r#""reasoning_details":[{"type":"reasoning.text","signature":"s","text":"why"}],"#;
    let message = |thoughts: &str| format!(r#"[{{"role":"assistant","content":null,{thoughts}{rest}"#);
    check("qwen3", turns(Some(own.clone())), &message(details));
    check("qwen3", turns(Some(other.clone())), &message(r#""reasoning_content":"why","#));
    check("qwen3", turns(None), &message(r#""reasoning_content":"why","#));
    check("gpt-5", turns(Some(own)), &message(""));
    // Without calls nobody wants them.
    check(
        "qwen3",
        vec![(Role::Assistant, vec![thought("why", Some(other)), text("a")])],
        r#"[{"role":"assistant","content":"a"}]"#,
    );
    check("qwen3", vec![(Role::Assistant, vec![thought("why", None)])], "[]");
}

#[test]
fn parameters_of_other_protocols_are_written_or_told() {
    let body =
        r#"{"temperature":0.70,"k":5,"user":"u","tier":"standard_only","labels":{"a":"b"},"schema":{"type":"object"}}"#;
    let body = Value::parse_object(body).unwrap();
    let make = || {
        let mut request = request(vec![
            (Role::System, vec![Block::Text(Text { text: Escaped::of("s"), cache: Some(CacheMarker::Default) })]),
            (Role::User, vec![text("q")]),
        ]);
        request.params.give(Param::Temperature, "temperature", body.get("temperature"));
        request.params.give(Param::TopK, "top_k", body.get("k"));
        request.params.give(Param::User, "metadata.user_id", body.get("user"));
        request.params.give(Param::ServiceTier, "service_tier", body.get("tier"));
        request.params.give(Param::Metadata, "labels", body.get("labels"));
        request.reasoning.budget = Some(Budget::Tokens(3_000));
        request.stop = vec![Escaped::of("\n")];
        request.stream = true;
        let schema = body.get("schema").unwrap();
        request.output =
            OutputFormat::JsonSchema { name: Some(Escaped::of("a b")), description: None, schema, strict: None };
        request
    };
    let (body, dropped) = written(make(), "gpt-4o").unwrap();
    let expected = r#"{"model":"gpt-4o","messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}],
        "response_format":{"type":"json_schema","json_schema":{"name":"a_b","schema":{"type":"object"}}},
        "temperature":0.70,"user":"u","service_tier":"default","stop":["\n"],
        "stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(body, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    assert_eq!(dropped, ["cache_control", "thinking", "top_k", "labels"]);
    let (body, dropped) = written(make(), "qwen3").unwrap();
    assert_eq!((&body["top_k"], &body["reasoning_effort"]), (&5.into(), &"medium".into()));
    assert_eq!(dropped, ["cache_control", "service_tier", "labels"]);
}

#[test]
fn servers_that_count_thoughts_are_asked_in_tokens() {
    let overrides = r#"{"reasoning":{"style":"budget","min_budget":1024,"max_budget":8000,"can_disable":true}}"#;
    let overrides = serde_json::from_str(overrides).unwrap();
    let capabilities = Capabilities::overridden(Protocol::OpenaiChat, "glm-4.6", &overrides).unwrap();
    let cases = [
        (Budget::Tokens(9_000), r#"{"type":"enabled","budget_tokens":8000}"#),
        (Budget::Adaptive, r#"{"type":"enabled"}"#),
        (Budget::Off, r#"{"type":"disabled"}"#),
    ];
    for (budget, expected) in cases {
        let mut request = request(vec![(Role::User, vec![text("q")])]);
        request.reasoning.budget = Some(budget);
        let target = Target { model: "glm-4.6", capabilities: &capabilities, names: &ToolNames::default() };
        let body = write_request(request, target, &mut Report::default()).unwrap().body;
        assert!(body.contains(&format!("\"thinking\":{expected}")), "{body}");
    }
}

#[test]
fn a_grammar_of_responses_gets_its_own_object() {
    let format = Value::parse_object(r#"{"type":"grammar","syntax":"regex","definition":"a+"}"#).unwrap();
    let mut request = request(vec![(Role::User, vec![text("q")])]);
    request.tools.push(Tool {
        name: Escaped::of("g"),
        description: None,
        kind: ToolKind::Custom { format: Some(format) },
        strict: None,
        cache: None,
    });
    let (body, _) = written(request, "gpt-5").unwrap();
    let expected = r#"{"type":"custom","custom":{"name":"g","format":{"type":"grammar","grammar":{"definition":"a+","syntax":"regex"}}}}"#;
    assert_eq!(body["tools"][0], serde_json::from_str::<serde_json::Value>(expected).unwrap());
}

/// JSON that is near to what clients and servers send.
fn json() -> impl Strategy<Value = String> {
    const KEYS: &str = "messages|role|content|type|text|tool_calls|function|custom|name|arguments|id|tools|tool_choice|\
        choices|delta|message|index|reasoning_details|reasoning|signature|data|usage|images|image_url|url|refusal|\
        finish_reason|annotations|url_citation|function_call|extra_content|google|thought_signature|stop|n|thinking";
    const WORDS: &str = "user|assistant|tool|function|text|image_url|data:,x|custom|auto|\\{\\}|\\{|stop|[a-z\"]{0,3}";
    let word = WORDS.prop_map(|word| format!("{word:?}"));
    let leaf =
        prop_oneof![word, Just("null".to_owned()), (0..3_u8).prop_map(|n| n.to_string()), Just("true".to_owned())];
    leaf.prop_recursive(6, 48, 5, |inner| {
        let member = (KEYS, inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec(member, 0..6).prop_map(|all| format!("{{{}}}", all.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(messages in proptest::collection::vec(json(), 0..4), rest in json()) {
        let body = format!(r#"{{"messages":[{}],"tools":[{rest}],"tool_choice":{rest},"stop":{rest}}}"#, messages.join(","));
        let mut report = Report::default();
        if let Ok(request) = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut report) {
            let _ = written(request, "qwen3");
        }
    }

    #[test]
    fn anything_is_an_answer_or_none(deltas in proptest::collection::vec(json(), 0..6)) {
        let mut reader = AnswerReader::default();
        let mut open = false;
        let mut has_order = true;
        let mut sink = |event: super::super::event::Event<'_>| {
            use super::super::event::Event::{Close, Delta, Note, Open};
            let fits = match event {
                Open { .. } => !std::mem::replace(&mut open, true),
                Close { .. } => std::mem::replace(&mut open, false),
                Delta { .. } | Note { .. } => open,
                _ => !open || !matches!(event, super::super::event::Event::Finish { .. }),
            };
            has_order &= fits;
        };
        for delta in &deltas {
            let chunk = format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
            reader.read(Value::object_in(chunk.as_bytes()).unwrap(), &mut sink);
        }
        reader.finish(&mut sink);
        prop_assert!(has_order && !open);
        for delta in deltas {
            let body = format!(r#"{{"choices":{delta}}}"#);
            read_plain(Value::object_in(body.as_bytes()).unwrap(), &mut |_| ());
        }
    }
}
