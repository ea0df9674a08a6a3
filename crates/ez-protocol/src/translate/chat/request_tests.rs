//! Requests of the corpus, and what is written of them for OpenAI's models and for compatible servers.

use std::path::PathBuf;

use ez_contract::Protocol;

use super::super::capability::Capabilities;
use super::super::conversation;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::ChatRequest;
use super::super::target::Target;
use super::super::tool_names::ToolNames;
use super::{read_request, write_request};
use crate::json::Value;

/// The request and what was dropped, as written for a model; or the fault's field.
fn translated(body: &str, model: &str) -> Result<(serde_json::Value, Vec<String>), Refused> {
    let mut report = Report::default();
    let mut request = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut report)?;
    let turns = std::mem::take(&mut request.turns);
    request.turns = conversation::settle(turns, "messages")?;
    let names = ToolNames::of(&request, Protocol::OpenaiChat)?;
    let capabilities = Capabilities::of(Protocol::OpenaiChat, model);
    let written = write_request(request, Target { model, capabilities, names: &names }, &mut report)?;
    Ok((serde_json::from_str(&written.body).unwrap(), report.names().to_vec()))
}

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/translate/corpus/chat/requests");
    std::fs::read_to_string(path.join(format!("{name}.json"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn read(body: &str) -> Result<Vec<String>, Refused> {
    let mut report = Report::default();
    let _: ChatRequest<'_> = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut report)?;
    Ok(report.names().to_vec())
}

#[test]
fn every_request_of_the_corpus_is_translated_or_refused_for_a_reason() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/translate/corpus/chat/requests");
    let refused = [
        ("file-id", "messages[0].content[0].file.file_id"),
        ("hosted-tool", "web_search_options"),
        ("logprobs", "logprobs"),
        ("prefill", "messages"),
    ];
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let expected = refused.iter().find(|(refused, _)| *refused == name).map(|(_, param)| *param);
        for model in ["gpt-4o", "gpt-5.1", "qwen3", "gemini-3-pro"] {
            let param = translated(&std::fs::read_to_string(&path).unwrap(), model).err().map(|e| e.param);
            assert_eq!(param.as_deref(), expected, "{name} for {model}");
        }
    }
}

#[test]
fn nothing_is_left_out_in_silence() {
    let cases: [(&str, &str, &[&str]); 9] = [
        ("text", "gpt-4o", &[]),
        ("agent", "gpt-5.1", &[]),
        ("sampling", "gpt-4o", &["top_k", "verbosity"]),
        ("sampling", "qwen3", &["verbosity"]),
        (
            "sampling",
            "gpt-5",
            &["temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "logit_bias"],
        ),
        ("account", "gpt-4o", &["prediction"]),
        ("account", "qwen3", &["prediction", "user", "prompt_cache_key", "service_tier", "store", "metadata"]),
        ("cache-markers", "gpt-4o", &["cache_control"]),
        ("tool-choice-without-tools", "gpt-4o", &["tool_choice", "parallel_tool_calls"]),
    ];
    for (name, model, expected) in cases {
        assert_eq!(translated(&file(name), model).unwrap().1, expected, "{name} for {model}");
    }
    let read_cases: [(&str, &[&str]); 4] = [
        ("system", &["messages.name"]),
        ("hosted-and-function", &["tools.web_search_preview", "web_search_options"]),
        ("unknown-fields", &["messages.timestamp", "chat_template_kwargs", "repetition_penalty"]),
        ("functions-legacy", &[]),
    ];
    for (name, expected) in read_cases {
        assert_eq!(read(&file(name)).unwrap(), expected, "{name}");
    }
}

#[test]
fn what_is_wrong_is_refused_by_its_name() {
    let user = r#""messages":[{"role":"user","content":"x"}]"#;
    let with = |field: &str| format!("{{{user},{field}}}");
    let message = |message: &str| format!(r#"{{"messages":[{message}]}}"#);
    let cases = [
        ("{}".to_owned(), "messages"),
        (r#"{"messages":[]}"#.into(), "messages"),
        (r#"{"messages":["x"]}"#.into(), "messages[0]"),
        (message(r#"{"role":"robot","content":"x"}"#), "messages[0].role"),
        (message(r#"{"role":"user","content":5}"#), "messages[0].content"),
        (message(r#"{"role":"user","content":[{"type":"x"}]}"#), "messages[0].content[0].type"),
        (message(r#"{"role":"user","content":[{"type":"text"}]}"#), "messages[0].content[0].text"),
        (
            message(r#"{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://e.org"}}]}"#),
            "messages[0].content",
        ),
        (message(r#"{"role":"user","content":[{"type":"refusal","refusal":"no"}]}"#), "messages[0].content"),
        (message(r#"{"role":"tool","content":"x"}"#), "messages[0].tool_call_id"),
        (
            message(r#"{"role":"tool","tool_call_id":"a","content":[{"type":"refusal","refusal":"no"}]}"#),
            "messages[0].content",
        ),
        (with(r#""thinking":{"type":"enabled","display":"all"}"#), "thinking.display"),
        (message(r#"{"role":"assistant","audio":{"id":"a"}}"#), "messages[0].audio"),
        (message(r#"{"role":"assistant","tool_calls":[{"id":"a"}]}"#), "messages[0].tool_calls[0].function"),
        (with(r#""n":0"#), "n"),
        (with(r#""n":129"#), "n"),
        (with(r#""stop":[5]"#), "stop"),
        (with(r#""top_logprobs":1"#), "top_logprobs"),
        (with(r#""modalities":["text","audio"]"#), "modalities"),
        (with(r#""response_format":{"type":"xml"}"#), "response_format.type"),
        (with(r#""reasoning_effort":"hard""#), "reasoning_effort"),
        (with(r#""tools":[{"type":"mcp"}]"#), "tools"),
        (with(r#""tools":[{"type":"function","function":{"name":5}}]"#), "tools[0].function.name"),
        (with(r#""tool_choice":"some""#), "tool_choice"),
        (with(r#""tool_choice":{"type":"web_search"}"#), "tool_choice"),
        (with(r#""max_tokens":-1"#), "max_tokens"),
    ];
    for (body, param) in cases {
        assert_eq!(read(&body).unwrap_err().param, param, "{body}");
    }
    let stops = with(r#""stop":["a","b","c","d","e"]"#);
    assert_eq!(translated(&stops, "gpt-4o").unwrap_err().param, "stop");
}

/// Compares one member of what is written.
fn check(name: &str, model: &str, pointer: &str, expected: &str) {
    let (written, _) = translated(&file(name), model).unwrap();
    let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
    assert_eq!(
        written.pointer(pointer).unwrap_or(&serde_json::Value::Null),
        &expected,
        "{name} for {model}: {pointer}"
    );
}

#[test]
fn messages_are_written_for_the_model() {
    check("system", "gpt-4o", "/messages/0", r#"{"role":"system","content":"You are a pirate."}"#);
    check("system", "gpt-5", "/messages/0/role", r#""developer""#);
    check("system", "gpt-4o", "/max_completion_tokens", "200");
    check("system", "qwen3", "/max_tokens", "200");
    check("developer", "qwen3", "/messages/0/role", r#""system""#);
    check("tool-loop", "gpt-5", "/messages/2/content", "null");
    check("tool-loop", "gpt-5", "/messages/2/tool_calls/2/function/arguments", r#""{}""#);
    check("tool-loop", "gpt-5", "/messages/3/tool_call_id", r#""call_a1""#);
    check("tool-loop", "gpt-5", "/messages/3/content/1/text", r#""cloudy""#);
    check("tool-loop", "qwen3", "/messages/3/content", r#""18 °C\n\ncloudy""#);
    check("image-base64", "gpt-4o", "/messages/0/content/1/image_url/detail", r#""auto""#);
    check("pdf", "gpt-4o", "/messages/0/content/0/file/filename", r#""report.pdf""#);
    check("audio", "gpt-4o", "/messages/0/content/1/input_audio/format", r#""wav""#);
    check("functions-legacy", "gpt-4o", "/messages/1/tool_calls/0/id", r#""call_1""#);
    check("functions-legacy", "gpt-4o", "/messages/2", r#"{"role":"tool","tool_call_id":"call_1","content":"18"}"#);
    let (written, _) = translated(&file("image-base64"), "gpt-4o").unwrap();
    let url = written.pointer("/messages/0/content/1/image_url/url").and_then(|url| url.as_str()).unwrap();
    assert!(url.starts_with("data:image/jpeg;base64,/9j/"), "{url}");
}

#[test]
fn tools_are_written_for_the_model() {
    check("tools", "gpt-4o", "/parallel_tool_calls", "false");
    check("tools", "gpt-4o", "/tools/1/function/parameters", r#"{"type":"object","properties":{}}"#);
    check("tool-strict", "gpt-4o", "/tools/0/function/strict", "true");
    check("custom-tool", "gpt-5", "/tools/0/custom/format/grammar/syntax", r#""lark""#);
    check("custom-tool", "gpt-5", "/tool_choice", r#"{"type":"custom","custom":{"name":"run_code"}}"#);
    check("custom-tool", "gpt-5", "/messages/1/tool_calls/0/custom/input", r#""print(\"hi\")\n""#);
    check("custom-tool", "qwen3", "/tools/0/function/parameters/required", r#"["input"]"#);
    let wrapped = r#""{\"input\":\"print(\\\"hi\\\")\\n\"}""#;
    check("custom-tool", "qwen3", "/messages/1/tool_calls/0/function/arguments", wrapped);
    check("tool-choice-allowed", "gpt-5", "/tool_choice/allowed_tools/mode", r#""required""#);
    check("tool-choice-allowed", "qwen3", "/tool_choice", r#""required""#);
    check("tool-choice-allowed", "qwen3", "/tools/1", "null");
    check("tool-choice-allowed", "qwen3", "/tools/0/function/name", r#""get_time""#);
    check("tool-choice-without-tools", "gpt-4o", "/tool_choice", "null");
    check("structured", "gpt-4o", "/response_format/json_schema/strict", "true");
    let (written, _) = translated(&file("tool-names"), "gpt-4o").unwrap();
    let name = written.pointer("/tools/0/function/name").and_then(|name| name.as_str()).unwrap();
    assert_eq!(Some(name), written.pointer("/messages/1/tool_calls/0/function/name").and_then(|name| name.as_str()));
    assert!(name.len() <= 64);
}

#[test]
fn reasoning_is_asked_for_and_given_back_where_the_model_takes_it() {
    check("reasoning-none", "gpt-5.1", "/temperature", "0.3");
    check("reasoning-none", "gpt-5.1", "/reasoning_effort", r#""none""#);
    check("reasoning-openrouter", "gpt-5.1", "/reasoning_effort", r#""medium""#);
    check("reasoning-openrouter", "gpt-4o", "/reasoning_effort", "null");
    check("reasoning-history", "qwen3", "/messages/1/reasoning_content", r#""I need the weather.""#);
    check("reasoning-history", "gpt-5", "/messages/1/reasoning_content", "null");
    check("reasoning-details", "qwen3", "/messages/1/reasoning_details", "null");
    check("reasoning-details", "qwen3", "/messages/1/reasoning_content", r#""I need the weather.""#);
    let signature = "/messages/1/tool_calls/0/extra_content/google/thought_signature";
    check("reasoning-google", "gemini-3-pro", signature, r#""CpkCAdHtim9+/w==""#);
    check("reasoning-google", "gpt-5", signature, "null");
    check("tool-loop-text", "gemini-3-pro", signature, r#""skip_thought_signature_validator""#);
    assert_eq!(translated(&file("reasoning-thinking"), "gpt-4o").unwrap().1, ["reasoning_effort"]);
}

#[test]
fn texts_stay_as_they_were_written() {
    let mut report = Report::default();
    for name in ["unicode", "tool-strict", "tool-loop"] {
        let body = file(name);
        let mut request = read_request(Value::object_in(body.as_bytes()).unwrap(), &mut report).unwrap();
        request.turns = conversation::settle(std::mem::take(&mut request.turns), "messages").unwrap();
        let names = ToolNames::of(&request, Protocol::OpenaiChat).unwrap();
        let capabilities = Capabilities::of(Protocol::OpenaiChat, "gpt-4o");
        let target = Target { model: "gpt-4o", capabilities, names: &names };
        let written = write_request(request, target, &mut report).unwrap().body;
        for part in [
            r#""\u0041\u00e9 \ud83d\ude00 \"q\" \/ \u2028 \u0000 end""#,
            "1.0e-1",
            "12345678901234567890",
            "-9007199254740993",
            "1.50e2",
            r#"Rome\\u002c IT"#,
        ] {
            assert_eq!(body.contains(part), written.contains(part), "{name}: {part} in {written}");
        }
    }
}

#[test]
fn the_same_beginning_gives_the_same_bytes() {
    let turns = [
        r#"{"role":"system","content":"s"}"#,
        r#"{"role":"user","content":"a"}"#,
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
        r#"{"role":"tool","tool_call_id":"c","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}"#,
        r#"{"role":"assistant","content":"b"}"#,
        r#"{"role":"user","content":"c"}"#,
    ];
    let mut before = String::new();
    for until in [2, 4, 6] {
        let body = format!(r#"{{"messages":[{}]}}"#, turns[..until].join(","));
        let written = translated(&body, "gpt-4o").unwrap().0["messages"].to_string();
        assert!(written.starts_with(before.trim_end_matches(']')), "{before} in {written}");
        before = written;
    }
    assert!(before.contains("Output of the tool call c:"), "{before}");
}
