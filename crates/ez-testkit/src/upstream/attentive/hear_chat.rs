//! Reads OpenAI Chat Completions requests as strictly as OpenAI does (facts/protocols.md, 2).

use serde_json::Value;

use super::object::{Heeded, Object, Wrong, check_name, check_strict, data_url, is_reasoning_model, require, wrong};
use super::{Heard, HeardTool};

const KEYS: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const ID_CHARS: usize = 40;

pub(super) fn hear(body: &Value, model: &str) -> Heeded<Heard> {
    let body = Object::open(body, "")?;
    // Compatible servers sample in a way more than OpenAI does.
    let further: &[&str] = if model.starts_with("gpt") { &[] } else { &["top_k"] };
    body.only(&[KEYS, further].concat())?;
    body.count("top_k")?;
    let mut heard = Heard::default();
    sampling(&body, model, &mut heard)?;
    tools(&body, &mut heard)?;
    output(&body, &mut heard)?;
    let messages = body.require_list("messages")?;
    let mut open: Vec<(&str, Option<String>)> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let message = Object::open(message, format!("messages[{index}]"))?;
        let role = message.word("role", &["system", "developer", "user", "assistant", "tool"])?;
        if role != Some("tool") {
            answered(&open)?;
        }
        match role {
            Some("system" | "developer") => {
                message.only(&["role", "content", "name"])?;
                heard.instructions.extend(contents(&message, &["text"], &mut Vec::new())?);
            }
            Some("user") => {
                message.only(&["role", "content", "name"])?;
                let texts = contents(&message, &["text", "image_url", "file", "input_audio"], &mut heard.files)?;
                heard.texts.extend(texts);
            }
            Some("assistant") => {
                (heard.texts, heard.files, heard.results) = Default::default();
                heard.has_thoughts = message.text("reasoning_content")?.is_some();
                // What compatible servers show they take back.
                require(heard.shows || !heard.has_thoughts, || {
                    format!("{}: Extra inputs are not permitted", message.at("reasoning_content"))
                })?;
                open = assistant(&message)?;
            }
            _ => tool_message(&message, &mut open)?,
        }
    }
    answered(&open)?;
    // What the model said last has been answered where its calls have been, and nothing came from it since.
    heard.results = open.into_iter().filter_map(|(_, result)| result).collect();
    Ok(heard)
}

fn sampling(body: &Object<'_>, model: &str, heard: &mut Heard) -> Heeded<()> {
    let effort = body.word("reasoning_effort", EFFORTS)?;
    let reasons = is_reasoning_model(model);
    let thinks = reasons && effort.is_some_and(|effort| effort != "none");
    if reasons {
        let why = "is not supported with this model.";
        body.without(&["max_tokens", "logit_bias", "presence_penalty", "frequency_penalty"], why)?;
        if thinks {
            body.without(&["temperature", "top_p", "logprobs", "top_logprobs"], why)?;
        }
    } else if model.starts_with("gpt") {
        body.without(&["reasoning_effort"], "is not supported with this model.")?;
    }
    heard.thinks = thinks || (!model.starts_with("gpt") && effort.is_some_and(|effort| effort != "none"));
    // OpenAI never shows thoughts here; compatible servers do.
    heard.shows = !reasons && !model.starts_with("gpt");
    body.number("temperature", 0.0, 2.0)?;
    body.number("top_p", 0.0, 1.0)?;
    body.number("presence_penalty", -2.0, 2.0)?;
    body.number("frequency_penalty", -2.0, 2.0)?;
    body.word("verbosity", &["low", "medium", "high"])?;
    body.word("service_tier", &["auto", "default", "flex", "scale", "priority", "fast"])?;
    heard.choices = body.count("n")?.unwrap_or(1);
    heard.max_tokens = body.count("max_completion_tokens")?.or(body.count("max_tokens")?);
    heard.stop = match body.get("stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        _ => body.texts("stop")?,
    };
    require(heard.stop.len() <= 4, || "'stop' is too long, expected at most 4".to_owned())?;
    if body.object("stream_options", &["include_usage", "include_obfuscation"])?.is_some() {
        let streams = body.flag("stream")? == Some(true);
        require(streams, || "The 'stream_options' parameter is only allowed when 'stream' is enabled.".to_owned())?;
    }
    metadata(body)
}

/// Labels, in either of OpenAI's protocols.
pub(super) fn metadata(body: &Object<'_>) -> Heeded<()> {
    let Some(labels) = body.get("metadata") else { return Ok(()) };
    let are_strings =
        labels.as_object().is_some_and(|labels| labels.len() <= 16 && labels.values().all(Value::is_string));
    require(are_strings, || "Invalid 'metadata': at most 16 strings are expected".to_owned())
}

fn tools(body: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    if !body.has("tools") {
        return body.without(&["tool_choice", "parallel_tool_calls"], "is only allowed when 'tools' are specified.");
    }
    heard.one_call = body.flag("parallel_tool_calls")? == Some(false);
    for (index, tool) in body.require_list("tools")?.iter().enumerate() {
        let tool = Object::of(tool, format!("tools[{index}]"), &["type", "function", "custom"])?;
        let kind = tool.word("type", &["function", "custom"])?.unwrap_or_default();
        let keys: &[&str] = match kind {
            "function" => &["name", "description", "parameters", "strict"],
            _ => &["name", "description", "format"],
        };
        let tool = tool.require_object(kind, keys)?;
        heard.tools.push(function(&tool, kind)?);
    }
    match body.get("tool_choice") {
        None => Ok(()),
        Some(Value::String(_)) => {
            heard.forbids_tools = body.word("tool_choice", &["none", "auto", "required"])? == Some("none");
            Ok(())
        }
        Some(_) => {
            let choice = body.require_object("tool_choice", &["type", "function", "custom", "allowed_tools"])?;
            let kind = choice.word("type", &["function", "custom", "allowed_tools"])?.unwrap_or_default();
            let choice = choice.require_object(kind, &["name", "mode", "tools"])?;
            heard.forced_tool = choice.text("name")?.map(str::to_owned);
            Ok(())
        }
    }
}

/// A tool of either of OpenAI's protocols.
pub(super) fn function(tool: &Object<'_>, kind: &str) -> Heeded<HeardTool> {
    let name = tool.require_text("name")?;
    check_name(name, 64, "", &tool.at("name"))?;
    tool.text("description")?;
    let schema = tool.get("parameters").cloned().unwrap_or_default();
    let is_object = schema.is_null() || schema["type"] == "object";
    require(is_object, || format!("Invalid schema for function '{name}': schema must be of type \"object\""))?;
    if tool.flag("strict")? == Some(true) {
        check_strict(&schema, &tool.at("parameters"))?;
    }
    Ok(HeardTool { name: name.to_owned(), schema, is_custom: kind == "custom" })
}

fn output(body: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    let Some(format) = body.object("response_format", &["type", "json_schema"])? else { return Ok(()) };
    match format.word("type", &["text", "json_object", "json_schema"])? {
        Some("json_schema") => {
            let format = format.require_object("json_schema", &["name", "description", "schema", "strict"])?;
            heard.schema = Some(output_schema(&format)?);
        }
        Some("json_object") => {
            let says_json = body.get("messages").is_some_and(|said| said.to_string().to_lowercase().contains("json"));
            require(says_json, || "'messages' must contain the word 'json' in some form".to_owned())?;
            heard.is_json = true;
        }
        _ => {}
    }
    Ok(())
}

/// The schema of an output format in either of OpenAI's protocols.
pub(super) fn output_schema(format: &Object<'_>) -> Heeded<Value> {
    check_name(format.require_text("name")?, 64, "", &format.at("name"))?;
    let schema = format.get("schema").cloned().ok_or_else(|| Wrong(format!("{}: Field required", format.path)))?;
    if format.flag("strict")? == Some(true) {
        check_strict(&schema, &format.at("schema"))?;
    }
    Ok(schema)
}

/// The texts of a message; files go to `files`.
fn contents(message: &Object<'_>, kinds: &[&str], files: &mut Vec<String>) -> Heeded<Vec<String>> {
    if let Some(Value::String(text)) = message.get("content") {
        return Ok(vec![text.clone()]);
    }
    let mut texts = Vec::new();
    for (index, part) in message.require_list("content")?.iter().enumerate() {
        let part = Object::open(part, format!("{}.content[{index}]", message.path))?;
        match part.word("type", kinds)? {
            Some("text") => {
                part.only(&["type", "text"])?;
                texts.push(part.require_text("text")?.to_owned());
            }
            Some("image_url") => {
                part.only(&["type", "image_url"])?;
                let image = part.require_object("image_url", &["url", "detail"])?;
                image.word("detail", &["auto", "low", "high", "original"])?;
                files.push(data_url(image.require_text("url")?, &image.path)?);
            }
            Some("file") => {
                part.only(&["type", "file"])?;
                let file = part.require_object("file", &["file_data", "filename", "file_id"])?;
                file.require_text("filename")?;
                files.push(data_url(file.require_text("file_data")?, &file.path)?);
            }
            Some("refusal") => {
                part.only(&["type", "refusal"])?;
                part.require_text("refusal")?;
            }
            Some(other) => files.push(other.to_owned()),
            None => return wrong(format!("{}: Missing required parameter", part.at("type"))),
        }
    }
    Ok(texts)
}

/// The calls of a turn of the model, each still without a result.
fn assistant<'v>(message: &Object<'v>) -> Heeded<Vec<(&'v str, Option<String>)>> {
    message.only(&["role", "content", "name", "refusal", "tool_calls", "audio", "annotations", "reasoning_content"])?;
    if message.has("content") {
        contents(message, &["text", "refusal"], &mut Vec::new())?;
    }
    if !message.has("tool_calls") {
        require(message.has("content") || message.has("refusal"), || format!("{}: no content", message.path))?;
        return Ok(Vec::new());
    }
    let mut calls = Vec::new();
    for (index, call) in message.require_list("tool_calls")?.iter().enumerate() {
        let path = format!("{}.tool_calls[{index}]", message.path);
        let call = Object::of(call, path, &["id", "type", "function", "custom"])?;
        let kind = call.word("type", &["function", "custom"])?.unwrap_or_default();
        let (keys, input) =
            if kind == "custom" { (["name", "input"], "input") } else { (["name", "arguments"], "arguments") };
        let called = call.require_object(kind, &keys)?;
        check_name(called.require_text("name")?, 64, "", &called.at("name"))?;
        called.require_text(input)?;
        let id = call.require_text("id")?;
        require(!id.is_empty() && id.len() <= ID_CHARS, || format!("{}: string too long", call.at("id")))?;
        require(calls.iter().all(|(other, _)| *other != id), || format!("{}: Duplicate value", call.at("id")))?;
        calls.push((id, None));
    }
    Ok(calls)
}

fn tool_message(message: &Object<'_>, open: &mut [(&str, Option<String>)]) -> Heeded<()> {
    message.only(&["role", "content", "tool_call_id"])?;
    let texts = contents(message, &["text"], &mut Vec::new())?;
    let id = message.require_text("tool_call_id")?;
    let Some((_, result)) = open.iter_mut().find(|(called, result)| *called == id && result.is_none()) else {
        return wrong(format!(
            "Invalid parameter: messages with role 'tool' must be a response to a message with 'tool_calls' before it: {id}"
        ));
    };
    *result = Some(texts.concat());
    Ok(())
}

fn answered(open: &[(&str, Option<String>)]) -> Heeded<()> {
    match open.iter().find(|(_, result)| result.is_none()) {
        None => Ok(()),
        Some((id, _)) => wrong(format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. {id} has none."
        )),
    }
}
