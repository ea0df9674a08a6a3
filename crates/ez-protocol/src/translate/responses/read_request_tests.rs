use proptest::prelude::*;

use super::super::super::request::{Arguments, Budget, ChatRequest, MediaSource, ToolChoice, ToolKind};
use super::*;
use crate::json::Escaped;

/// A request of the corpus.
macro_rules! corpus {
    ($name:literal) => {
        include_str!(concat!("../../../tests/translate/corpus/responses/requests/", $name, ".json"))
    };
}

fn read(body: &str) -> Result<(ChatRequest<'_>, Vec<String>), Refused> {
    let mut report = Report::default();
    let request = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut report)?;
    Ok((request, report.names().to_vec()))
}

fn block(block: &Block<'_>) -> String {
    match block {
        Block::Text(text) => text.text.text().into_owned(),
        Block::Refusal(text) => format!("refusal {}", text.text()),
        Block::Media(media) => {
            let source = match &media.source {
                MediaSource::Base64 { media_type, data } => format!("{} {}", media_type.as_str(), &data.as_str()[..8]),
                MediaSource::Url { url, .. } => url.as_str().to_owned(),
                MediaSource::Text(text) => text.text().into_owned(),
            };
            let tail = [&media.name, &media.detail].into_iter().flatten().map(|told| format!(" {}", told.as_str()));
            format!("{:?} {source}{}", media.kind, tail.collect::<String>())
        }
        Block::ToolCall(call) => {
            let arguments = match &call.arguments {
                Arguments::Written(written) => written.as_str().to_owned(),
                Arguments::Free(free) => format!("free {}", free.as_str()),
                Arguments::Object(object) => format!("{object:?}"),
            };
            let state = call.signature.as_ref().map(|state| format!(" [{}]", state.data.as_str()));
            format!("call {} {} {arguments}{}", call.id.as_str(), call.name.as_str(), state.unwrap_or_default())
        }
        Block::ToolResult(result) => {
            let content: Vec<String> = result.content.iter().map(self::block).collect();
            let kind = if result.is_custom { "custom " } else { "" };
            format!("{kind}result {} {}", result.id.as_str(), content.join("+"))
        }
        Block::Reasoning(reasoning) => {
            let state = reasoning.signature.as_ref();
            let state = state.map(|state| format!(" [{:?} {:?} {}]", state.issuer, state.kind, state.data.as_str()));
            format!("reasoning {}{}", reasoning.text.text(), state.unwrap_or_default())
        }
    }
}

fn turns(request: &ChatRequest<'_>) -> Vec<String> {
    let line = |turn: &Turn<'_>| {
        let blocks: Vec<String> = turn.blocks.iter().map(block).collect();
        format!("{:?}: {}", turn.role, blocks.join(" | "))
    };
    request.turns.iter().map(line).collect()
}

#[test]
fn conversations_are_read() {
    let cases: [(&str, &[&str]); 10] = [
        (corpus!("text"), &["User: Tell me a three sentence bedtime story about a unicorn."]),
        (
            corpus!("instructions"),
            &["System: Talk like a pirate.\nKeep it short.", "User: Are semicolons optional in JavaScript?"],
        ),
        (
            corpus!("multi_turn"),
            &[
                "Developer: Answer in French.",
                "User: knock knock.",
                "Assistant: Qui est là ?",
                "User: Orange.",
                "System: From here on, answer in English.",
                "User: Orange who?",
            ],
        ),
        (corpus!("image_base64"), &["User: Image image/png iVBORw0K | Describe it."]),
        (
            corpus!("pdf"),
            &["User: Document application/pdf JVBERi0x draconomicon.pdf | What is the first dragon in the book?"],
        ),
        (
            corpus!("parallel_calls"),
            &[
                "User: Weather in Paris and Bogotá, please.",
                concat!(
                    r#"Assistant: call call_12345xyz get_weather {\"location\":\"Paris, France\",\"n\":1.0,\"big\":12345678901234567890}"#,
                    r#" | call call_67890abc get_weather {\"location\": \"Bogot\\u00e1\"}"#
                ),
                "User: result call_67890abc 18 | result call_12345xyz 14",
                "User: In Fahrenheit.",
            ],
        ),
        (
            corpus!("result_parts"),
            &[
                "User: Take a screenshot.",
                "Assistant: call call_shot screenshot ",
                "User: result call_shot done+Image image/png iVBORw0K auto",
            ],
        ),
        (
            corpus!("custom_tool"),
            &[
                "User: Use the code_exec tool to print hello world.",
                r#"Assistant: call call_aGiFQkRWSWAIsMQ19fKqxUgb code_exec free print(\"hello world\")\n"#,
                "User: custom result call_aGiFQkRWSWAIsMQ19fKqxUgb hello world\n",
                "User: Again.",
            ],
        ),
        (
            corpus!("refusal_history"),
            &[
                "User: Do something bad.",
                "Assistant: refusal I'm sorry, I cannot do that.",
                "User: Something good then.",
            ],
        ),
        (corpus!("generated_image"), &["User: Draw a dot.", "Assistant: Image image/png iVBORw0K", "User: Larger."]),
    ];
    for (body, expected) in cases {
        let (request, dropped) = read(body).unwrap();
        assert_eq!(turns(&request), expected, "{body}");
        assert_eq!(dropped, Vec::<String>::new(), "{body}");
    }
}

#[test]
fn reasoning_goes_with_what_it_led_to() {
    let (request, _) = read(corpus!("reasoning_history")).unwrap();
    let expected = [
        "System: You are a coding agent.",
        "User: List the files.",
        "Assistant: reasoning **Listing files**\n\nI'll use ls.\n\n**Going on** \
         [OpenaiResponses Encrypted gAAAAABo9b7Kx-_==] | call call_ls shell {\\\"command\\\":[\\\"ls\\\"]}",
        "User: result call_ls {\"output\":\"a\\nb\\n\",\"metadata\":{\"exit_code\":0}}",
        "Assistant: reasoning  [OpenaiResponses Encrypted gAAAAABo9b7M] | There are `a` and `b`.",
        "User: Thanks. Delete b.",
    ];
    assert_eq!(turns(&request), expected);
    let (request, _) = read(corpus!("reasoning_foreign")).unwrap();
    let expected = [
        "User: Weather?",
        "Assistant: reasoning I need the tool. [AnthropicMessages Signature EqQBCkYIAhgCIkD=] \
         | call toolu_01 get_weather {} [CpcBAdHtim8=]",
        "User: result toolu_01 Error: no such place",
        "Assistant: reasoning  [AnthropicMessages Encrypted EmwKAhgB] | I could not find it.",
        "User: Try again.",
    ];
    assert_eq!(turns(&request), expected);
    let alone =
        r#"{"input":[{"role":"user","content":"a"},{"type":"reasoning","summary":[],"encrypted_content":"ez1.gs.x"}]}"#;
    assert_eq!(turns(&read(alone).unwrap().0), ["User: a", "Assistant: reasoning  [Gemini Signature x]"]);
}

#[test]
fn what_says_nothing_is_no_turn() {
    let body = r#"{"instructions":"","input":[{"role":"assistant","content":[]},{"role":"user","content":[]},
        {"type":"image_generation_call","result":null},{"type":"web_search_call","id":"ws_1"},
        {"role":"user","content":""}]}"#;
    let (request, dropped) = read(body).unwrap();
    assert_eq!((turns(&request), dropped), (vec!["User: ".to_owned()], Vec::new()));
}

#[test]
fn tools_and_choices_are_read() {
    let (request, _) = read(corpus!("tools")).unwrap();
    let [weather, time] = request.tools.as_slice() else { panic!("{:?}", request.tools) };
    let ToolKind::Function { schema: Some(schema) } = weather.kind else { panic!("{weather:?}") };
    assert!(schema.as_str().contains(r#""units": {"enum": ["C", "F"], "type": ["string", "null"]}"#));
    assert_eq!((weather.strict, time.strict, time.kind), (Some(true), None, ToolKind::Function { schema: None }));
    assert_eq!((request.tool_choice, request.parallel_tool_calls), (Some(ToolChoice::Auto), Some(true)));
    let (request, _) = read(corpus!("custom_tool")).unwrap();
    let formats: Vec<bool> =
        request.tools.iter().map(|tool| matches!(tool.kind, ToolKind::Custom { format: Some(_) })).collect();
    assert_eq!(formats, [false, true]);
    let (request, dropped) = read(corpus!("namespace_tools")).unwrap();
    assert_eq!((request.tools[0].name.as_str(), dropped), ("crm__find_customer", vec!["tools.description".to_owned()]));
    assert!(turns(&request)[1].contains("call call_n1 crm__find_customer"));
    let choice = |body: &'static str| read(body).unwrap().0.tool_choice;
    assert_eq!(choice(corpus!("tool_choice_function")), Some(ToolChoice::Tool(Escaped::of("get_weather"))));
    assert_eq!(choice(corpus!("tool_choice_none")), Some(ToolChoice::None));
    assert_eq!(choice(corpus!("tool_choice_required")), Some(ToolChoice::Required));
    let allowed = ToolChoice::Allowed { names: vec![Escaped::of("get_weather")], required: true };
    assert_eq!(choice(corpus!("tool_choice_allowed")), Some(allowed));
}

#[test]
fn tools_that_the_input_adds_hold_for_all_of_it() {
    let (request, dropped) = read(corpus!("agent_codex_additional_tools")).unwrap();
    let names: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["functions__exec", "functions__wait", "clock__sleep"]);
    assert!(turns(&request).iter().any(|turn| turn.contains("call call_1 functions__exec")), "{:?}", turns(&request));
    assert_eq!(dropped, ["input.tools.description", "reasoning.context", "client_metadata"]);
    // Told again, further on: the place stays, so that the prefix does.
    let (request, _) = read(
        r#"{"tools":[{"type":"function","name":"a"}],"input":[
            {"type":"additional_tools","tools":[{"type":"function","name":"b"}]},{"role":"user","content":"hi"},
            {"type":"additional_tools","tools":[{"type":"function","name":"c"},{"type":"function","name":"a","strict":true}]}]}"#,
    )
    .unwrap();
    let tools: Vec<_> = request.tools.iter().map(|tool| (tool.name.as_str(), tool.strict)).collect();
    assert_eq!(tools, [("a", Some(true)), ("b", None), ("c", None)]);
    assert_eq!(request.turns.len(), 1);
    let (refused, hosted) = (
        r#"{"input":[{"type":"additional_tools","tools":7}]}"#,
        r#"{"input":[{"type":"additional_tools","tools":[{"type":"web_search"}]}]}"#,
    );
    assert_eq!(read(refused).unwrap_err().param, "input[0].tools");
    assert_eq!(read(hosted).unwrap_err().param, "tools");
}

#[test]
fn settings_are_read() {
    let (request, dropped) = read(corpus!("reasoning")).unwrap();
    let expected = ReasoningRequest {
        effort: Some(Effort::High),
        budget: None::<Budget>,
        shown: Some(Shown::Summary(SummaryLength::Detailed)),
    };
    assert_eq!((request.reasoning, request.max_output_tokens), (expected, Some(25_000)));
    assert_eq!(dropped, Vec::<String>::new());
    let (request, _) = read(corpus!("json_schema")).unwrap();
    let OutputFormat::JsonSchema { name, description, strict, .. } = &request.output else { panic!() };
    assert_eq!((name, description.is_some(), strict), (&Some(Escaped::of("math_response")), true, &Some(true)));
    assert_eq!(read(corpus!("json_object")).unwrap().0.output, OutputFormat::JsonObject);
    let (request, _) = read(corpus!("user_tier_metadata")).unwrap();
    let mut params = request.params;
    let names: Vec<_> = [Param::User, Param::PromptCacheKey, Param::ServiceTier, Param::Metadata, Param::Store]
        .into_iter()
        .map(|param| params.take(param).unwrap().as_str())
        .collect();
    assert_eq!(names, ["\"user-123\"", "\"k1\"", "\"flex\"", r#"{"run":"7","team":"b"}"#, "true"]);
    assert_eq!(params.name(Param::User), Some("safety_identifier"));
    let (request, _) = read(corpus!("sampling")).unwrap();
    assert_eq!(request.params.get(Param::TopP).unwrap().as_str(), "9e-1");
    let echoed: Vec<_> = request.echo.iter().map(|(key, value)| format!("{key}={}", value.as_str())).collect();
    assert_eq!(echoed, ["temperature=0.70", "top_p=9e-1", "max_output_tokens=256", "truncation=\"disabled\""]);
}

#[test]
fn what_nobody_can_use_is_reported() {
    let cases: [(&str, &[&str]); 3] = [
        (
            corpus!("odd_fields"),
            &[
                "truncation",
                "include",
                "max_tool_calls",
                "client_metadata",
                "context_management",
                "prompt_cache_retention",
            ],
        ),
        (corpus!("hosted_beside"), &["tools.web_search"]),
        (
            r#"{"input":[{"role":"user","phase":"x","content":[{"type":"input_text","text":"a","prompt_cache_breakpoint":{"mode":"explicit"}}]}],
                "reasoning":{"mode":"pro"},"text":{"x":1},"stream_options":{"include_obfuscation":true},
                "tools":[{"type":"function","name":"f","parameters":{},"strict":false,"defer_loading":true}]}"#,
            &[
                "input.content.prompt_cache_breakpoint",
                "input.phase",
                "tools.defer_loading",
                "reasoning.mode",
                "text.x",
                "stream_options.include_obfuscation",
            ],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(read(body).unwrap().1, expected, "{body}");
    }
}

#[test]
fn what_changes_the_answer_is_refused() {
    let cases = [
        (corpus!("stateful"), "previous_response_id"),
        (corpus!("background"), "background"),
        (corpus!("item_reference"), "input[0]"),
        (corpus!("computer_history"), "input[0]"),
        (corpus!("file_id"), "input[0].content[0].file_id"),
        (corpus!("hosted_alone"), "tools"),
        (r#"{"model":"m"}"#, "input"),
        (r#"{"input":7}"#, "input"),
        (r#"{"input":[7]}"#, "input[0]"),
        (r#"{"input":[{"id":"msg_1"}]}"#, "input[0]"),
        (r#"{"input":"a","conversation":"conv_1"}"#, "conversation"),
        (r#"{"input":"a","prompt":{"id":"pmpt_1"}}"#, "prompt"),
        (r#"{"input":"a","top_logprobs":2}"#, "top_logprobs"),
        (r#"{"input":"a","include":["message.output_text.logprobs"]}"#, "include"),
        (r#"{"input":"a","tool_choice":{"type":"web_search_preview"}}"#, "tool_choice"),
        (r#"{"input":"a","tool_choice":{"type":"allowed_tools","tools":[{"type":"mcp"}]}}"#, "tool_choice"),
        (r#"{"input":"a","reasoning":{"effort":"hard"}}"#, "reasoning.effort"),
        (r#"{"input":"a","text":{"format":{"type":"xml"}}}"#, "text.format.type"),
        (r#"{"input":"a","text":{"format":{"type":"json_schema"}}}"#, "text.format.schema"),
        (r#"{"input":"a","store":"yes"}"#, "store"),
        (r#"{"input":[{"role":"tool","content":"a"}]}"#, "input[0].role"),
        (r#"{"input":[{"role":"system","content":[{"type":"input_image","image_url":"u"}]}]}"#, "input[0].content[0]"),
        (r#"{"input":[{"role":"user","content":[{"type":"input_video"}]}]}"#, "input[0].content[0].type"),
        (r#"{"input":[{"type":"function_call","name":"f","arguments":"{}"}]}"#, "input[0].call_id"),
        (r#"{"input":"a","tools":[{"type":"function"}]}"#, "tools[0].name"),
        (r#"{"input":"a","tools":[{"type":"function","function":{"name":"f"}}]}"#, "tools[0].name"),
    ];
    for (body, param) in cases {
        let refused = read(body).map(|(request, _)| turns(&request)).expect_err(body);
        assert_eq!(refused.param, param, "{body}: {refused}");
        assert!(refused.message.contains(&format!("`{param}`")) && refused.message.len() < 300, "{refused}");
    }
}

/// JSON that looks like a request here and there.
pub(in super::super) fn json() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "null",
        "true",
        "7",
        "-1.5e3",
        "\"\"",
        "\"message\"",
        "\"user\"",
        "\"assistant\"",
        "\"function_call\"",
        "\"f\"",
        "\"reasoning\"",
        "\"input_text\"",
        "\"data:;base64,%\"",
        "\"ez1.gs.x\"",
        "[]",
        "{}",
        "\"function\"",
        "\"function_call_output\"",
        "\"namespace\"",
        "\"\\ud83d\"",
        "\"input_image\"",
        "\"json_schema\"",
    ]);
    let key = proptest::sample::select(vec![
        "input",
        "type",
        "role",
        "content",
        "text",
        "tools",
        "name",
        "call_id",
        "arguments",
        "output",
        "summary",
        "encrypted_content",
        "tool_choice",
        "reasoning",
        "effort",
        "image_url",
        "include",
        "instructions",
        "store",
        "parameters",
        "format",
        "schema",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(5, 48, 6, move |inner| {
        let array = proptest::collection::vec(inner.clone(), 0..5).prop_map(|all| format!("[{}]", all.join(",")));
        let object = proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![array, object]
    })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(input in json(), tools in json(), other in json()) {
        let body = format!(r#"{{"input":{input},"tools":{tools},"reasoning":{other},"text":{other},"tool_choice":{other}}}"#);
        if let Err(refused) = read(&body) {
            prop_assert!(!refused.message.is_empty() && !refused.param.is_empty());
        }
    }
}
