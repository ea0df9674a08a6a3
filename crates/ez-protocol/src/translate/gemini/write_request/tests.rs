use serde_json::{Value as Json, json};

use super::super::corpus::{rewritten, written};
use super::*;
use crate::json::{Escaped, Value};
use crate::translate::opaque::{Opaque, OpaqueKind};
use crate::translate::request::{
    Arguments, Block, Budget, CacheMarker, Effort, Media, MediaKind, MediaSource, Reasoning, ReasoningRequest, Role,
    Shown, SummaryLength, Text, Tool, ToolCall, ToolChoice, ToolKind, ToolResult, Turn,
};

const NEW: &str = "gemini-3-flash";
const OLD: &str = "gemini-2.0-flash";

fn say(role: Role, text: &'static str) -> Turn<'static> {
    Turn { role, blocks: vec![Block::Text(Text::plain(Escaped::of(text)))] }
}

fn call(arguments: Arguments<'static>, signature: Option<Opaque<'static>>) -> Block<'static> {
    Block::ToolCall(ToolCall { id: Escaped::of("c"), name: Escaped::of("f"), arguments, signature, cache: None })
}

fn result(content: Vec<Block<'static>>, is_error: Option<bool>) -> Block<'static> {
    let (id, name) = (Escaped::of("c"), Some(Escaped::of("f")));
    Block::ToolResult(ToolResult { id, name, content, is_error, is_custom: false, cache: None })
}

fn tool(kind: ToolKind<'static>) -> Tool<'static> {
    Tool { name: Escaped::of("f"), description: None, kind, strict: None, cache: None }
}

fn request(turns: Vec<Turn<'static>>) -> ChatRequest<'static> {
    ChatRequest { turns, ..ChatRequest::new(Protocol::OpenaiChat) }
}

/// The body for a model, and what was dropped.
fn sent(request: ChatRequest<'_>, model: &str) -> Result<(Json, Vec<String>), Refused> {
    let mut report = Report::default();
    let body = written(request, model, &mut report)?;
    Ok((serde_json::from_str(&body).unwrap(), report.names().to_vec()))
}

fn contents(turns: Vec<Turn<'static>>, model: &str) -> Json {
    sent(request(turns), model).unwrap().0["contents"].clone()
}

#[test]
fn instructions_stand_in_front_or_among_the_users_words() {
    let turns = vec![
        say(Role::System, "s"),
        say(Role::Developer, "d"),
        say(Role::System, ""),
        say(Role::User, "a"),
        say(Role::System, "later"),
        say(Role::Assistant, "b"),
    ];
    let (body, dropped) = sent(request(turns), NEW).unwrap();
    let expected = json!({
        "systemInstruction": {"parts": [{"text": "s"}, {"text": "d"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "a"}, {"text": "<system>\nlater\n</system>"}]},
            {"role": "model", "parts": [{"text": "b"}]},
        ],
    });
    assert_eq!((body, dropped), (expected, Vec::new()));
}

#[test]
fn the_user_speaks_first() {
    let first = json!({"role": "user", "parts": [{"text": "."}]});
    assert_eq!(contents(vec![say(Role::System, "s")], NEW), json!([first]));
    let model = json!({"role": "model", "parts": [{"text": "b"}]});
    assert_eq!(contents(vec![say(Role::User, ""), say(Role::Assistant, "b")], NEW), json!([first, model]));
}

#[test]
fn calls_and_results_are_written() {
    let own = Opaque { issuer: Protocol::Gemini, kind: OpaqueKind::Signature, data: Escaped::of("AAAA") };
    let other = Opaque { issuer: Protocol::AnthropicMessages, ..own.clone() };
    let image = Media {
        kind: MediaKind::Image,
        source: MediaSource::Base64 { media_type: Escaped::of("image/png"), data: Escaped::of("AA==") },
        name: None,
        detail: None,
        cache: None,
    };
    let written = |text: &'static str| Arguments::Written(Escaped::of(text));
    let text = |text: &'static str| Block::Text(Text::plain(Escaped::of(text)));
    let turns = vec![
        say(Role::User, "a"),
        Turn {
            role: Role::Assistant,
            blocks: vec![
                Block::Reasoning(Reasoning { text: Escaped::of("t"), signature: Some(other.clone()) }),
                call(written(""), Some(other)),
                call(written(r#"{"x":1.0}"#), None),
                call(written("{x"), Some(own)),
            ],
        },
        Turn {
            role: Role::User,
            blocks: vec![result(vec![text("1"), Block::Media(image), text("2")], None), result(vec![], Some(true))],
        },
        say(Role::User, "b"),
    ];
    let expected = |mark: Option<&str>| {
        let mut first = json!({"functionCall": {"name": "f", "args": {}}});
        if let Some(mark) = mark {
            first["thoughtSignature"] = mark.into();
        }
        json!([
            {"role": "user", "parts": [{"text": "a"}]},
            {"role": "model", "parts": [
                first,
                {"functionCall": {"name": "f", "args": {"x": 1.0}}},
                {"functionCall": {"name": "f", "args": {"INVALID_JSON": "{x"}}, "thoughtSignature": "AAAA"},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "f", "response": {"output": "1\n2"}}},
                {"functionResponse": {"name": "f", "response": {"error": ""}}},
                {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                {"text": "b"},
            ]},
        ])
    };
    assert_eq!(contents(turns.clone(), NEW), expected(Some("skip_thought_signature_validator")));
    assert_eq!(contents(turns, OLD), expected(None));
}

#[test]
fn own_reasoning_goes_back() {
    let own = |text: &'static str| {
        let data = Escaped::of("AAAA");
        let signature = Some(Opaque { issuer: Protocol::Gemini, kind: OpaqueKind::Signature, data });
        Block::Reasoning(Reasoning { text: Escaped::of(text), signature })
    };
    let unsigned = Block::Reasoning(Reasoning { text: Escaped::of("x"), signature: None });
    let turns = vec![say(Role::User, "a"), Turn { role: Role::Assistant, blocks: vec![unsigned, own("t"), own("")] }];
    let expected =
        json!([{"text": "t", "thought": true, "thoughtSignature": "AAAA"}, {"text": "", "thoughtSignature": "AAAA"}]);
    assert_eq!(contents(turns, NEW)[1]["parts"], expected);
}

#[test]
fn files_are_told_apart_by_their_source() {
    let media = |source| {
        Block::Media(Media {
            kind: MediaKind::Document,
            source,
            name: Some(Escaped::of("n")),
            detail: None,
            cache: Some(CacheMarker::Default),
        })
    };
    let url = |url: &'static str| MediaSource::Url { url: Escaped::of(url), media_type: None };
    let blocks = vec![
        media(MediaSource::Text(Escaped::of("hé"))),
        media(url("https://x.test/a.PDF?x")),
        media(url("https://x.test/a")),
    ];
    let (body, dropped) = sent(request(vec![Turn { role: Role::User, blocks }]), NEW).unwrap();
    let expected = json!([
        {"inlineData": {"mimeType": "text/plain", "data": "aMOp"}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": "https://x.test/a.PDF?x"}},
        {"fileData": {"fileUri": "https://x.test/a"}},
    ]);
    assert_eq!(body["contents"][0]["parts"], expected);
    assert_eq!(dropped, ["messages.filename", "cache_control"]);
}

#[test]
fn tools_are_written_in_the_models_kind_of_schema() {
    let schema = Value::parse_object(
        r#"{"type":"object","properties":{"a":{"type":["string","null"]}},"additionalProperties":false}"#,
    );
    let function = tool(ToolKind::Function { schema });
    let custom = Tool { name: Escaped::of("sh"), strict: Some(true), ..tool(ToolKind::Custom { format: schema }) };
    let with_tools =
        |tools: &[Tool<'static>]| ChatRequest { tools: tools.to_vec(), ..request(vec![say(Role::User, "a")]) };
    let (body, dropped) = sent(with_tools(&[function.clone(), custom]), NEW).unwrap();
    let expected = json!([{"functionDeclarations": [
        {"name": "f", "parametersJsonSchema": {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "additionalProperties": false}},
        {"name": "sh", "parametersJsonSchema": {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}},
    ]}]);
    assert_eq!((&body["tools"], dropped), (&expected, vec!["tools.strict".to_owned(), "tools.format".to_owned()]));
    let empty = Tool { name: Escaped::of("e"), ..tool(ToolKind::Function { schema: Some(Value::EMPTY_OBJECT) }) };
    let (body, _) = sent(with_tools(&[function, empty]), OLD).unwrap();
    let expected = json!([{"functionDeclarations": [
        {"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": true}}}},
        {"name": "e"},
    ]}]);
    assert_eq!(body["tools"], expected);
    let lost = tool(ToolKind::Function { schema: Value::parse_object(r##"{"$ref":"#/x"}"##) });
    let refused = sent(with_tools(&[lost]), OLD).expect_err("refused");
    assert!(refused.param == "tools" && refused.message.contains("`f`"), "{refused}");
}

#[test]
fn choices_are_written() {
    let name = || Escaped::of("f");
    let cases = [
        (ToolChoice::Auto, json!({"mode": "AUTO"}), None),
        (ToolChoice::None, json!({"mode": "NONE"}), None),
        (ToolChoice::Required, json!({"mode": "ANY"}), None),
        (ToolChoice::Tool(name()), json!({"mode": "ANY", "allowedFunctionNames": ["f"]}), None),
        (
            ToolChoice::Allowed { names: vec![name()], required: true },
            json!({"mode": "ANY", "allowedFunctionNames": ["f"]}),
            None,
        ),
        (ToolChoice::Allowed { names: vec![name()], required: false }, json!({"mode": "AUTO"}), Some("tool_choice")),
    ];
    for (choice, expected, dropped) in cases {
        let mut request = request(vec![say(Role::User, "a")]);
        request.tool_choice = Some(choice);
        assert_eq!(sent(request.clone(), NEW).unwrap().0.get("toolConfig"), None, "nothing to choose among");
        request.tools = vec![tool(ToolKind::Function { schema: None })];
        let (body, names) = sent(request, NEW).unwrap();
        assert_eq!(
            (&body["toolConfig"]["functionCallingConfig"], names.first().map(String::as_str)),
            (&expected, dropped)
        );
    }
}

#[test]
fn reasoning_is_asked_for_as_the_model_can() {
    let effort = |effort| ReasoningRequest { effort: Some(effort), ..ReasoningRequest::default() };
    let budget = |budget| ReasoningRequest { budget: Some(budget), ..ReasoningRequest::default() };
    let shown = |length| ReasoningRequest { shown: Some(Shown::Summary(length)), ..effort(Effort::Low) };
    let cases = [
        (effort(Effort::High), NEW, json!({"thinkingLevel": "HIGH"}), None),
        (effort(Effort::None), NEW, json!({"thinkingLevel": "MINIMAL"}), None),
        (effort(Effort::Low), "gemini-2.5-flash", json!({"thinkingBudget": 1024}), None),
        (budget(Budget::Off), "gemini-2.5-flash", json!({"thinkingBudget": 0}), None),
        (budget(Budget::Off), "gemini-2.5-pro", json!({"thinkingBudget": 128}), None),
        (budget(Budget::Adaptive), "gemini-2.5-pro", json!({"thinkingBudget": -1}), None),
        (budget(Budget::Adaptive), NEW, Json::Null, None),
        (effort(Effort::High), OLD, Json::Null, Some("reasoning_effort")),
        (shown(SummaryLength::Auto), NEW, json!({"thinkingLevel": "LOW", "includeThoughts": true}), None),
        (
            shown(SummaryLength::Detailed),
            NEW,
            json!({"thinkingLevel": "LOW", "includeThoughts": true}),
            Some("reasoning_effort"),
        ),
    ];
    for (reasoning, model, expected, dropped) in cases {
        let request = ChatRequest { reasoning, ..request(vec![say(Role::User, "a")]) };
        let (body, names) = sent(request, model).unwrap();
        let told = (&body["generationConfig"]["thinkingConfig"], names.first().map(String::as_str));
        assert_eq!(told, (&expected, dropped), "{reasoning:?} {model}");
    }
}

#[test]
fn parameters_are_written_or_reported() {
    let mut request = request(vec![say(Role::User, "a")]);
    let value = |text: &'static str| Value::parse_object(text).and_then(|object| object.get("v"));
    for (param, name, text) in [
        (Param::Temperature, "temperature", r#"{"v":0.70}"#),
        (Param::Seed, "seed", r#"{"v":9007199254740993}"#),
        (Param::FrequencyPenalty, "frequency_penalty", r#"{"v":-1}"#),
        (Param::LogitBias, "logit_bias", r#"{"v":{}}"#),
        (Param::ServiceTier, "service_tier", r#"{"v":"default"}"#),
        (Param::Metadata, "metadata", r#"{"v":{"a":"b"}}"#),
    ] {
        request.params.give(param, name, value(text));
    }
    request.max_output_tokens = Some(9);
    request.stop = vec![Escaped::of("x")];
    request.choices = 2;
    request.parallel_tool_calls = Some(false);
    let mut report = Report::default();
    let body = written(request, NEW, &mut report).unwrap();
    let config = r#""generationConfig":{"candidateCount":2,"maxOutputTokens":9,"stopSequences":["x"],"temperature":0.70},"serviceTier":"standard"}"#;
    assert!(body.ends_with(config), "{body}");
    assert_eq!(report.names(), ["parallel_tool_calls", "seed", "frequency_penalty", "logit_bias", "metadata"]);
}

#[test]
fn what_would_change_the_answer_is_refused() {
    let base = || request(vec![say(Role::User, "a")]);
    let object = OutputFormat::JsonObject;
    let tools = vec![tool(ToolKind::Function { schema: None })];
    let cases = [
        (ChatRequest { stop: vec![Escaped::of("x"); 6], ..base() }, NEW, Some("stop")),
        (ChatRequest { choices: 9, ..base() }, NEW, Some("n")),
        (
            ChatRequest { output: object.clone(), tools: tools.clone(), ..base() },
            "gemini-2.5-pro",
            Some("response_format"),
        ),
        (ChatRequest { output: object, tools, ..base() }, NEW, None),
    ];
    for (request, model, expected) in cases {
        let refused = sent(request, model).err().map(|refused| refused.param);
        assert_eq!(refused.as_deref(), expected);
    }
    let mut wrong = base();
    wrong.params.give(Param::TopP, "top_p", Value::parse_object(r#"{"v":"x"}"#).and_then(|object| object.get("v")));
    assert_eq!(sent(wrong, NEW).expect_err("refused").param, "top_p");
}

#[test]
fn texts_and_numbers_stay_as_they_were_written() {
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"caf\u00e9 \ud83d\ude00 \/"}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{"a": 1.0,"b":12345678901234567890}}}]},{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"output":"\u00e9"}}}]}],"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"z":1.50,"a":"\u0041"}}]}]}"#;
    let (written, _) = rewritten(body, OLD.replace("2.0", "2.5").as_str()).unwrap();
    assert_eq!(written, body);
}
