//! Reads OpenAI Responses requests as strictly as OpenAI does (facts/protocols.md, 2).

use serde_json::Value;

use super::hear_chat::{function, metadata, output_schema};
use super::object::{Heeded, Object, check_name, data_url, is_reasoning_model, require, wrong};
use super::signature::{is_mark, is_signed};
use super::{Heard, HeardTool, VENDOR_RESPONSES};

const KEYS: &[&str] = &[
    "background",
    "context_management",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const ENCRYPTED: &str = "reasoning.encrypted_content";
const CALL_ID_CHARS: usize = 64;

/// A call of the conversation and what its tool answered.
struct Called<'v> {
    id: &'v str,
    result: Option<String>,
    /// Whether what the model thought stands before it.
    has_thoughts: bool,
}

pub(super) fn hear(body: &Value, model: &str) -> Heeded<Heard> {
    let body = Object::of(body, "", KEYS)?;
    let mut heard = Heard::default();
    heard.instructions.extend(body.text("instructions")?.map(str::to_owned));
    sampling(&body, model, &mut heard)?;
    tools(&body, &mut heard)?;
    output(&body, &mut heard)?;
    if let Some(Value::String(text)) = body.get("input") {
        heard.texts.push(text.clone());
        return Ok(heard);
    }
    let mut called: Vec<Called<'_>> = Vec::new();
    let (mut follows_thoughts, mut waits) = (false, false);
    for (index, item) in body.require_list("input")?.iter().enumerate() {
        let item = Object::open(item, format!("input[{index}]"))?;
        let kind = item.text("type")?.unwrap_or("message");
        let from_model = matches!(kind, "reasoning" | "function_call" | "custom_tool_call")
            || item.text("role")? == Some("assistant");
        require(!follows_thoughts || from_model, || {
            format!("Item of type 'reasoning' was provided without its required following item: {}", item.path)
        })?;
        if from_model && !waits {
            (heard.texts, heard.files) = Default::default();
            called.retain(|called| called.result.is_none());
        }
        waits = from_model;
        match kind {
            "message" => message(&item, &mut heard)?,
            "reasoning" => reasoning(&item)?,
            "function_call" | "custom_tool_call" => {
                let has_thoughts = follows_thoughts || called.last().is_some_and(|last| last.has_thoughts);
                called.push(Called { id: call(&item, kind)?, result: None, has_thoughts });
            }
            "function_call_output" | "custom_tool_call_output" => result(&item, &mut called)?,
            other => return wrong(format!("Invalid value: '{other}' of {}", item.at("type"))),
        }
        follows_thoughts = kind == "reasoning";
    }
    if let Some(open) = called.iter().find(|called| called.result.is_none()) {
        return wrong(format!("No tool output found for function call {}.", open.id));
    }
    heard.has_thoughts = called.iter().any(|called| called.has_thoughts);
    heard.results = called.into_iter().filter_map(|called| called.result).collect();
    Ok(heard)
}

fn sampling(body: &Object<'_>, model: &str, heard: &mut Heard) -> Heeded<()> {
    let reasoning = body.object("reasoning", &["effort", "summary", "generate_summary", "context"])?;
    if let Some(reasoning) = &reasoning {
        let effort = reasoning.word("effort", EFFORTS)?;
        heard.thinks = effort.is_some_and(|effort| effort != "none");
        heard.shows = reasoning.word("summary", &["auto", "concise", "detailed"])?.is_some();
    }
    if is_reasoning_model(model) {
        if heard.thinks {
            body.without(&["temperature", "top_p"], "is not supported with this model.")?;
        }
    } else {
        require(reasoning.is_none(), || "Unsupported parameter: 'reasoning' with this model.".to_owned())?;
    }
    let include = body.texts("include")?;
    heard.hides = include.iter().any(|included| included == ENCRYPTED);
    require(include.iter().all(|included| included.contains('.')), || format!("include: unknown: {include:?}"))?;
    body.number("temperature", 0.0, 2.0)?;
    body.number("top_p", 0.0, 1.0)?;
    body.word("service_tier", &["auto", "default", "flex", "scale", "priority", "fast"])?;
    body.word("truncation", &["auto", "disabled"])?;
    body.object("stream_options", &["include_obfuscation"])?;
    heard.max_tokens = body.count("max_output_tokens")?;
    require(heard.max_tokens.is_none_or(|most| most >= 16), || "max_output_tokens: at least 16".to_owned())?;
    metadata(body)
}

fn tools(body: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    heard.one_call = body.flag("parallel_tool_calls")? == Some(false);
    for (index, tool) in body.list("tools")?.map(Vec::as_slice).unwrap_or_default().iter().enumerate() {
        let tool = Object::open(tool, format!("tools[{index}]"))?;
        match tool.text("type")? {
            Some("function") => {
                tool.only(&["type", "name", "description", "parameters", "strict", "defer_loading", "output_schema"])?;
                // `null` is a value here, absence is none.
                for key in ["parameters", "strict"] {
                    require(tool.is_given(key), || format!("Missing required parameter: '{}'.", tool.at(key)))?;
                }
                heard.tools.push(function(&tool, "function")?);
            }
            Some("custom") => {
                tool.only(&["type", "name", "description", "format"])?;
                heard.tools.push(function(&tool, "custom")?);
            }
            Some(hosted) => {
                let name = hosted.to_owned();
                require(!name.is_empty(), || tool.at("type"))?;
            }
            None => return wrong(format!("Missing required parameter: '{}'.", tool.at("type"))),
        }
    }
    choice(body, heard)
}

fn choice(body: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    let Some(choice) = body.get("tool_choice") else { return Ok(()) };
    let has_tools = body.list("tools")?.is_some_and(|tools| !tools.is_empty());
    if choice.is_string() {
        let word = body.word("tool_choice", &["none", "auto", "required"])?;
        heard.forbids_tools = word == Some("none");
        return require(has_tools || word != Some("required"), || "Tool choice 'required' needs 'tools'.".to_owned());
    }
    require(has_tools, || "Tool choices other than 'auto' and 'none' need 'tools'.".to_owned())?;
    let choice = body.require_object("tool_choice", &["type", "name", "mode", "tools"])?;
    let kind = choice.word("type", &["function", "custom", "allowed_tools"])?;
    heard.forced_tool = choice.text("name")?.map(str::to_owned);
    let names = |tool: &HeardTool| heard.forced_tool.as_ref() == Some(&tool.name);
    let is_known = kind == Some("allowed_tools") || heard.tools.iter().any(names);
    require(is_known, || format!("Tool choice {:?} not found in 'tools' parameter.", heard.forced_tool))
}

fn output(body: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    let Some(text) = body.object("text", &["format", "verbosity"])? else { return Ok(()) };
    text.word("verbosity", &["low", "medium", "high"])?;
    let keys = &["type", "name", "description", "schema", "strict"];
    let Some(format) = text.object("format", keys)? else { return Ok(()) };
    match format.word("type", &["text", "json_object", "json_schema"])? {
        Some("json_schema") => heard.schema = Some(output_schema(&format)?),
        Some("json_object") => heard.is_json = true,
        _ => {}
    }
    Ok(())
}

fn message(item: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    item.only(&["type", "role", "content", "id", "status", "phase"])?;
    check_id(item, "msg_")?;
    let role = item.word("role", &["system", "developer", "user", "assistant"])?;
    let kinds: &[&str] = match role {
        Some("assistant") => &["output_text", "refusal"],
        Some("user") => &["input_text", "input_image", "input_file"],
        Some(_) => &["input_text"],
        None => return wrong(format!("Missing required parameter: '{}'.", item.at("role"))),
    };
    let mut files = Vec::new();
    let texts = contents(item, "content", kinds, &mut files)?;
    match role {
        Some("user") => {
            heard.texts.extend(texts);
            heard.files.extend(files);
        }
        Some("assistant") => {}
        _ => heard.instructions.extend(texts),
    }
    Ok(())
}

/// The texts of a message or of a tool's output; files go to `files`.
fn contents(item: &Object<'_>, key: &str, kinds: &[&str], files: &mut Vec<String>) -> Heeded<Vec<String>> {
    if let Some(Value::String(text)) = item.get(key) {
        return Ok(vec![text.clone()]);
    }
    let mut texts = Vec::new();
    for (index, part) in item.require_list(key)?.iter().enumerate() {
        let part = Object::open(part, format!("{}.{key}[{index}]", item.path))?;
        match part.word("type", kinds)? {
            Some("input_text" | "output_text") => {
                part.only(&["type", "text", "annotations", "logprobs"])?;
                texts.push(part.require_text("text")?.to_owned());
            }
            Some("input_image") => {
                part.only(&["type", "image_url", "detail"])?;
                part.word("detail", &["auto", "low", "high", "original"])?;
                files.push(data_url(part.require_text("image_url")?, &part.path)?);
            }
            Some("input_file") => {
                part.only(&["type", "file_data", "filename", "file_url", "detail"])?;
                let place = if part.has("file_url") { "file_url" } else { "file_data" };
                require(place == "file_url" || part.has("filename"), || format!("{}: required", part.at("filename")))?;
                files.push(data_url(part.require_text(place)?, &part.path)?);
            }
            Some(_) => {
                part.only(&["type", "refusal"])?;
                part.require_text("refusal")?;
            }
            None => return wrong(format!("Missing required parameter: '{}'.", part.at("type"))),
        }
    }
    Ok(texts)
}

/// What the model thought: only what this vendor encrypted can be read again, and its id, if there is one, is in there.
fn reasoning(item: &Object<'_>) -> Heeded<()> {
    item.only(&["type", "id", "summary", "content", "encrypted_content", "status"])?;
    check_id(item, "rs_")?;
    let Some(summary) = item.list("summary")? else { return wrong(format!("{}: required", item.at("summary"))) };
    for (index, part) in summary.iter().enumerate() {
        let part = Object::of(part, format!("{}.summary[{index}]", item.path), &["type", "text"])?;
        part.word("type", &["summary_text"])?;
        part.require_text("text")?;
    }
    let content = item.text("encrypted_content")?.unwrap_or_default();
    let is_own = match item.text("id")? {
        Some(id) => is_signed(VENDOR_RESPONSES, id, content),
        None => is_mark(VENDOR_RESPONSES, content),
    };
    require(is_own, || format!("The encrypted content of {} could not be verified.", item.path))
}

fn call<'v>(item: &Object<'v>, kind: &str) -> Heeded<&'v str> {
    let input = if kind == "function_call" { "arguments" } else { "input" };
    item.only(&["type", "call_id", "name", input, "id", "status"])?;
    check_id(item, if kind == "function_call" { "fc_" } else { "ctc_" })?;
    check_name(item.require_text("name")?, 64, "", &item.at("name"))?;
    item.require_text(input)?;
    let id = item.require_text("call_id")?;
    require(!id.is_empty() && id.len() <= CALL_ID_CHARS, || {
        format!("Invalid '{}': string too long. Expected a string with maximum length 64", item.at("call_id"))
    })?;
    Ok(id)
}

fn result(item: &Object<'_>, called: &mut [Called<'_>]) -> Heeded<()> {
    item.only(&["type", "call_id", "output", "id", "status"])?;
    let id = item.require_text("call_id")?;
    let texts = contents(item, "output", &["input_text", "input_image", "input_file"], &mut Vec::new())?;
    match called.iter_mut().find(|called| called.id == id && called.result.is_none()) {
        Some(called) => called.result = Some(texts.concat()),
        None => return wrong(format!("No tool call found for function call output with call_id {id}.")),
    }
    Ok(())
}

fn check_id(item: &Object<'_>, prefix: &str) -> Heeded<()> {
    let id = item.text("id")?;
    let fits = id.is_none_or(|id| id.starts_with(prefix));
    require(fits, || format!("Invalid '{}': {id:?}. Expected an ID that begins with '{prefix}'.", item.at("id")))
}
