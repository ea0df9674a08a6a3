use proptest::prelude::*;

use super::super::super::request::{
    Arguments, Block, Budget, Effort, MediaSource, OutputFormat, Role, Shown, ToolKind,
};
use super::*;
use crate::translate::gemini::with_json_schemas;

/// What is read of a body: the request as text, and what was dropped.
fn read(body: &str) -> Result<(String, Vec<String>), Refused> {
    let mut report = Report::default();
    let request = read_request(Value::parse_object(body).unwrap(), &mut report)?;
    Ok((shown(&request), report.names().to_vec()))
}

fn with<T>(body: &str, look: impl FnOnce(&ChatRequest<'_>) -> T) -> T {
    let request = read_request(Value::parse_object(body).unwrap(), &mut Report::default()).unwrap();
    look(&request)
}

/// The conversation in short.
fn shown(request: &ChatRequest<'_>) -> String {
    let turns: Vec<_> = request
        .turns
        .iter()
        .map(|turn| {
            let blocks: Vec<_> = turn.blocks.iter().map(block).collect();
            format!("{:?}[{}]", turn.role, blocks.join(" | "))
        })
        .collect();
    turns.join(" ")
}

fn block(of: &Block<'_>) -> String {
    match of {
        Block::Text(text) => text.text.text().into_owned(),
        Block::Media(media) => match &media.source {
            MediaSource::Base64 { media_type, data } => {
                format!("{:?}:{}:{}", media.kind, media_type.text(), data.text())
            }
            MediaSource::Url { url, .. } => format!("{:?}:{}", media.kind, url.text()),
            MediaSource::Text(text) => text.text().into_owned(),
        },
        Block::ToolCall(call) => {
            let Arguments::Object(args) = call.arguments else { panic!("{call:?}") };
            let signature = call.signature.as_ref().map(|signature| format!(" signed {}", signature.data.text()));
            format!("{}={}{}{}", call.id.text(), call.name.text(), args.as_str(), signature.unwrap_or_default())
        }
        Block::ToolResult(result) => {
            let content: Vec<_> = result.content.iter().map(block).collect();
            let error = if result.is_error == Some(true) { "error " } else { "" };
            format!("{}->{error}{}", result.id.text(), content.join("+"))
        }
        Block::Reasoning(reasoning) => {
            let signature = reasoning.signature.as_ref().map(|signature| signature.data.text().into_owned());
            format!("({}){}", reasoning.text.text(), signature.unwrap_or_default())
        }
        Block::Refusal(text) => text.text().into_owned(),
    }
}

fn check(body: &str, expected: &str) {
    assert_eq!(read(body), Ok((expected.to_owned(), Vec::new())), "{body}");
}

fn refused(body: &str) -> (String, &'static str) {
    let refused = read(body).expect_err(body);
    (refused.param, refused.code)
}

#[test]
fn conversations_are_read() {
    check(r#"{"contents":{"parts":[{"text":"a"}]}}"#, "User[a]");
    check(
        r#"{"system_instruction":{"parts":[{"text":"s"},{"text":"t"}]},"contents":[{"role":"user","parts":[{"text":"a"},{"text":"b"}]}]}"#,
        "System[s | t] User[a | b]",
    );
    check(r#"{"systemInstruction":"s","contents":[{"parts":[]}]}"#, "System[s] User[]");
    check(
        r#"{"contents":[{"role":"model","parts":[{"text":"a"},{"text":""},{"text":"b"}]},{"role":"model","parts":[{"text":"c"}]}]}"#,
        "Assistant[abc]",
    );
    check(
        r#"{"contents":[{"parts":[{"inline_data":{"mime_type":"image/jpg","data":"_9j_"}},{"fileData":{"fileUri":"https://x.test/a.mp3"}},{"fileData":{"fileUri":"https://youtu.be/x"}}]}]}"#,
        "User[Image:image/jpeg:/9j/ | Audio:https://x.test/a.mp3 | Video:https://youtu.be/x]",
    );
}

#[test]
fn thoughts_are_put_together_up_to_their_signature() {
    check(
        r#"{"contents":[{"role":"model","parts":[{"text":"a","thought":true}]},{"role":"model","parts":[{"text":"b","thought":true,"thoughtSignature":"AAAA"},{"text":"c","thought":true},{"text":"d"},{"text":"","thoughtSignature":"-_8"}]}]}"#,
        "Assistant[(ab)AAAA | (c) | d | ()+/8=]",
    );
    check(
        r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f"},"thought_signature":"AAAA"},{"functionCall":{"name":"f","args":{"x":1.0}},"thoughtSignature":"skip_thought_signature_validator"}]}]}"#,
        "Assistant[call_1=f{} signed AAAA | call_2=f{\"x\":1.0}]",
    );
}

#[test]
fn results_find_their_calls() {
    let call = |id: &str, name: &str| format!(r#"{{"functionCall":{{"id":"{id}","name":"{name}"}}}}"#);
    let result = |id: &str, name: &str, response: &str| {
        format!(r#"{{"functionResponse":{{"id":"{id}","name":"{name}","response":{response}}}}}"#)
    };
    let body = |calls: &[String], results: &[String]| {
        format!(
            r#"{{"contents":[{{"role":"model","parts":[{}]}},{{"parts":[{}]}}]}}"#,
            calls.join(","),
            results.join(",")
        )
    };
    // By name in order, where there are no ids.
    check(
        &body(
            &[call("", "f"), call("", "g"), call("", "f")],
            &[
                result("", "f", r#"{"output":"1"}"#),
                result("", "f", r#"{"error":"2"}"#),
                result("", "g", r#"{"a": 1}"#),
            ],
        ),
        "Assistant[call_1=f{} | call_2=g{} | call_3=f{}] User[call_1->1 | call_3->error 2 | call_2->{\"a\": 1}]",
    );
    // By id where there are.
    check(
        &body(&[call("a", "f"), call("b", "f")], &[result("b", "f", "{}"), result("a", "f", r#"{"result":"x"}"#)]),
        "Assistant[a=f{} | b=f{}] User[b->{} | a->x]",
    );
    // Ids on one side alone, and ids that look like made ones.
    check(
        &body(&[call("call_1", "f"), call("", "f")], &[result("", "f", "{}"), result("z", "f", r#"{"output":1}"#)]),
        "Assistant[call_1=f{} | call_2=f{}] User[call_1->{} | call_2->{\"output\":1}]",
    );
    let orphan = body(&[call("a", "f")], &[result("a", "f", "{}"), result("a", "f", "{}")]);
    assert_eq!(refused(&orphan), ("contents".to_owned(), "invalid_request"));
}

#[test]
fn tools_are_read_in_both_kinds_of_schema() {
    let body = r#"{"contents":[{"parts":[{"text":"a"}]}],"tools":[{"function_declarations":[{"name":"f","parameters":{"type":"OBJECT","nullable":true}}]},{"functionDeclarations":[{"name":"g","description":"d","parameters_json_schema":{"type":"object","x":1.0}},{"name":"h"}]}]}"#;
    let body = with_json_schemas(Value::parse_object(body).unwrap()).unwrap();
    let schemas = with(&body, |request| {
        let schema = |tool: &super::super::super::request::Tool<'_>| match tool.kind {
            ToolKind::Function { schema } => {
                (tool.name.text().into_owned(), schema.map(|schema| schema.as_str().to_owned()))
            }
            ToolKind::Custom { .. } => panic!("custom"),
        };
        request.tools.iter().map(schema).collect::<Vec<_>>()
    });
    let expected =
        [("f", Some(r#"{"type":["object","null"]}"#)), ("g", Some(r#"{"type":"object","x":1.0}"#)), ("h", None)];
    assert_eq!(schemas, expected.map(|(name, schema)| (name.to_owned(), schema.map(str::to_owned))));
}

#[test]
fn choices_are_read() {
    let check = |config: &str, expected: Option<ToolChoice<'_>>, dropped: &[&str]| {
        let body = format!(
            r#"{{"contents":[{{}}],"tools":[{{"functionDeclarations":[{{"name":"f"}},{{"name":"g"}}]}}],"toolConfig":{{"functionCallingConfig":{config}}}}}"#
        );
        let mut report = Report::default();
        let request = read_request(Value::parse_object(&body).unwrap(), &mut report).unwrap();
        assert_eq!((request.tool_choice, report.names()), (expected, dropped.map_owned().as_slice()), "{config}");
    };
    let name = crate::json::Escaped::of;
    check(r#"{"mode":"AUTO"}"#, Some(ToolChoice::Auto), &[]);
    check(r#"{"mode":"none"}"#, Some(ToolChoice::None), &[]);
    check(r#"{"mode":"ANY"}"#, Some(ToolChoice::Required), &[]);
    check(r#"{"mode":"ANY","allowedFunctionNames":["f"]}"#, Some(ToolChoice::Tool(name("f"))), &[]);
    let some = |required| ToolChoice::Allowed { names: vec![name("f"), name("g")], required };
    check(r#"{"mode":"any","allowed_function_names":["f","g"]}"#, Some(some(true)), &[]);
    let mode = "toolConfig.functionCallingConfig.mode";
    check(r#"{"mode":"VALIDATED","allowedFunctionNames":["f","g"]}"#, Some(some(false)), &[mode]);
    assert_eq!(
        refused(r#"{"contents":[{}],"toolConfig":{"functionCallingConfig":{"mode":"ANY"}}}"#),
        (mode.to_owned(), "invalid_request")
    );
}

trait Owned {
    fn map_owned(&self) -> Vec<String>;
}

impl Owned for [&str] {
    fn map_owned(&self) -> Vec<String> {
        self.iter().map(|name| (*name).to_owned()).collect()
    }
}

#[test]
fn configurations_are_read() {
    let config = |config: &str| format!(r#"{{"contents":[{{}}],"generationConfig":{config}}}"#);
    let reasoning = |text: &str| with(&config(&format!(r#"{{"thinkingConfig":{text}}}"#)), |request| request.reasoning);
    assert_eq!(reasoning(r#"{"thinkingBudget":0}"#).budget, Some(Budget::Off));
    assert_eq!(reasoning(r#"{"thinking_budget":-1}"#).budget, Some(Budget::Adaptive));
    assert_eq!(reasoning(r#"{"thinkingBudget":1024}"#).budget, Some(Budget::Tokens(1024)));
    let level = reasoning(r#"{"thinkingLevel":"HIGH","includeThoughts":false}"#);
    assert_eq!((level.effort, level.shown), (Some(Effort::High), Some(Shown::Omitted)));
    let output = |text: &str| with(&config(text), |request| matches!(request.output, OutputFormat::JsonSchema { .. }));
    assert!(output(r#"{"responseSchema":{"type":"string"},"responseMimeType":"application/json"}"#));
    assert!(output(r#"{"response_json_schema":{}}"#) && !output(r#"{"responseMimeType":"application/json"}"#));
    with(&config(r#"{"candidateCount":3,"stopSequences":["a"],"max_output_tokens":7,"topK":1}"#), |request| {
        assert_eq!((request.choices, request.stop.len(), request.max_output_tokens), (3, 1, Some(7)));
        assert_eq!(request.params.name(Param::TopK), Some("generationConfig.topK"));
    });
}

#[test]
fn what_cannot_be_passed_on_is_refused() {
    let cases = [
        (r#"{}"#, "contents", "missing_required_parameter"),
        (r#"{"contents":[]}"#, "contents", "missing_required_parameter"),
        (r#"{"contents":"a"}"#, "contents", "invalid_type"),
        (r#"{"contents":[{"role":"assistant"}]}"#, "contents[0].role", "invalid_type"),
        (
            r#"{"contents":[{"parts":[{"functionCall":{"name":"f"}}]}]}"#,
            "contents[0].parts[0].functionCall",
            "invalid_request",
        ),
        (
            r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":[]}}]}]}"#,
            "contents[0].parts[0].functionCall.args",
            "invalid_type",
        ),
        (
            r#"{"contents":[{"parts":[{"fileData":{"fileUri":"gs://b/c"}}]}]}"#,
            "contents[0].parts[0].fileData.fileUri",
            "untranslatable_parameter",
        ),
        (
            r#"{"contents":[{"parts":[{"codeExecutionResult":{}}]}]}"#,
            "contents[0].parts[0].codeExecutionResult",
            "untranslatable_parameter",
        ),
        (
            r#"{"contents":[{}],"systemInstruction":{"parts":[{"inlineData":{}}]}}"#,
            "systemInstruction.parts[0]",
            "untranslatable_parameter",
        ),
        (r#"{"contents":[{}],"tools":[{"google_search":{}}]}"#, "tools[0].googleSearch", "untranslatable_parameter"),
        (r#"{"contents":[{}],"tools":[{"newer_search":{}}]}"#, "tools[0].newerSearch", "untranslatable_parameter"),
        (r#"{"contents":[{}],"cachedContent":"c"}"#, "cachedContent", "untranslatable_parameter"),
        (
            r#"{"contents":[{}],"generationConfig":{"responseModalities":["AUDIO"]}}"#,
            "generationConfig.responseModalities",
            "untranslatable_parameter",
        ),
        (
            r#"{"contents":[{}],"generationConfig":{"responseMimeType":"text/x.enum"}}"#,
            "generationConfig.responseMimeType",
            "untranslatable_parameter",
        ),
        (
            r#"{"contents":[{}],"generationConfig":{"logprobs":2}}"#,
            "generationConfig.responseLogprobs",
            "untranslatable_parameter",
        ),
        (
            r#"{"contents":[{}],"generationConfig":{"speechConfig":{"a":1}}}"#,
            "generationConfig.speechConfig",
            "untranslatable_parameter",
        ),
        (
            r#"{"contents":[{}],"generationConfig":{"thinkingConfig":{"thinkingLevel":"NONE"}}}"#,
            "generationConfig.thinkingConfig.thinkingLevel",
            "invalid_type",
        ),
    ];
    for (body, param, code) in cases {
        assert_eq!(refused(body), (param.to_owned(), code), "{body}");
    }
}

#[test]
fn what_nobody_can_use_is_reported() {
    let body = r#"{"model":"m","contents":[{"parts":[{"text":"a","videoMetadata":{"fps":1}}],"x":1}],"tools":[{"googleSearch":{}},{"functionDeclarations":[{"name":"f","behavior":"BLOCKING"}]}],"generationConfig":{"audio_timestamp":true}}"#;
    let (_, dropped) = read(body).unwrap();
    let expected = [
        "contents.x",
        "contents.parts.videoMetadata",
        "tools.googleSearch",
        "tools.functionDeclarations.behavior",
        "generationConfig.audioTimestamp",
    ];
    assert_eq!(dropped, expected);
}

#[test]
fn roles_without_a_word_are_the_user() {
    with(r#"{"contents":[{"role":"function","parts":[]},{"role":"","parts":[]}]}"#, |request| {
        assert!(request.turns.iter().all(|turn| turn.role == Role::User));
    });
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(contents in anything(), tools in anything(), config in anything()) {
        let body = serde_json::json!({ "contents": contents, "tools": tools, "generationConfig": config, "toolConfig": tools });
        let body = body.to_string();
        let schemas = with_json_schemas(Value::parse_object(&body).unwrap());
        let body = schemas.as_deref().unwrap_or(&body);
        if let Err(refused) = read_request(Value::parse_object(body).unwrap(), &mut Report::default()) {
            prop_assert!(!refused.param.is_empty() && refused.message.contains('`'), "{refused}");
        }
    }
}

/// Values of the words that requests are made of, in any places.
fn anything() -> impl Strategy<Value = serde_json::Value> {
    let word = proptest::sample::select(vec!["user", "model", "f", "AUTO", "https://x.test/a", "", "AAAA"]);
    let leaf = prop_oneof![
        word.prop_map(serde_json::Value::from),
        Just(serde_json::json!(null)),
        Just(true.into()),
        Just(0.into()),
        Just(serde_json::json!({})),
    ];
    let keys = proptest::sample::select(vec![
        "role",
        "parts",
        "text",
        "functionCall",
        "functionResponse",
        "name",
        "args",
        "response",
        "id",
        "inlineData",
        "mimeType",
        "data",
        "fileData",
        "fileUri",
        "thought",
        "thoughtSignature",
        "functionDeclarations",
        "parameters",
        "thinkingConfig",
        "stopSequences",
        "responseSchema",
        "functionCallingConfig",
        "mode",
    ]);
    leaf.prop_recursive(5, 64, 4, move |inner| {
        let key = keys.clone().prop_map(str::to_owned);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::hash_map(key, inner, 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}
