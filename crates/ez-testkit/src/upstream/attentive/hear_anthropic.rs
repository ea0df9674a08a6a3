//! Reads Anthropic Messages requests as strictly as Anthropic does (facts/protocols.md, 2).

use serde_json::Value;

use super::object::{Heeded, Object, base64_bytes, check_name, require, seen, wrong};
use super::signature::{is_mark, is_signed};
use super::{Heard, HeardTool, VENDOR_ANTHROPIC};

const KEYS: &[&str] = &[
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];
const TOOL_KEYS: &[&str] = &[
    "allowed_callers",
    "cache_control",
    "defer_loading",
    "description",
    "eager_input_streaming",
    "input_examples",
    "input_schema",
    "name",
    "strict",
    "type",
];
const CACHE_MARKERS: usize = 4;
/// Families that think for a number of tokens, take sampling parameters and a turn of their own to go on from.
const OLDER: &[&str] = &["-3-", "-4-0", "-4-1", "-4-5"];

/// What is known of the request before its messages are read.
struct Rules {
    is_older: bool,
    /// Whether it thinks by a budget, which wants the thoughts of open calls back.
    has_budget: bool,
    has_tools: bool,
}

pub(super) fn hear(body: &Value, model: &str) -> Heeded<Heard> {
    let markers = body.to_string().matches(r#""cache_control":{"#).count();
    require(markers <= CACHE_MARKERS, || {
        format!("A maximum of 4 blocks with cache_control may be provided. Found {markers}.")
    })?;
    let body = Object::of(body, "", KEYS)?;
    let mut heard = Heard::default();
    let is_older = OLDER.iter().any(|family| model.contains(family));
    sampling(&body, is_older, &mut heard)?;
    tools(&body, &mut heard)?;
    let has_budget = thinking(&body, is_older, &mut heard)?;
    output(&body, model, &mut heard)?;
    if body.has("system") {
        heard.instructions = texts(&body, "system", &["text"], &mut Vec::new())?;
    }
    let rules = Rules { is_older, has_budget, has_tools: body.has("tools") };
    conversation(&body, &rules, &mut heard)?;
    Ok(heard)
}

fn sampling(body: &Object<'_>, is_older: bool, heard: &mut Heard) -> Heeded<()> {
    heard.max_tokens = body.count("max_tokens")?;
    require(heard.max_tokens.is_some_and(|most| most > 0), || "max_tokens: Field required".to_owned())?;
    body.number("temperature", 0.0, 1.0)?;
    body.number("top_p", 0.0, 1.0)?;
    body.count("top_k")?;
    if !is_older {
        let gone = ["temperature", "top_p", "top_k"].into_iter().find(|key| body.has(key));
        require(gone.is_none(), || format!("`{}` is deprecated for this model.", gone.unwrap_or_default()))?;
    }
    heard.stop = body.texts("stop_sequences")?;
    let has_words = heard.stop.iter().all(|stop| !stop.trim().is_empty());
    require(has_words, || "stop_sequences: each stop sequence must contain non-whitespace".to_owned())?;
    body.object("metadata", &["user_id"])?;
    body.word("service_tier", &["auto", "standard_only"])?;
    cache_control(body)
}

fn tools(body: &Object<'_>, heard: &mut Heard) -> Heeded<()> {
    for (index, tool) in body.list("tools")?.map(Vec::as_slice).unwrap_or_default().iter().enumerate() {
        let tool = Object::open(tool, format!("tools.{index}"))?;
        cache_control(&tool)?;
        if tool.text("type")?.is_some_and(|kind| kind != "custom") {
            continue;
        }
        tool.only(TOOL_KEYS)?;
        let name = tool.require_text("name")?;
        check_name(name, 128, "", &tool.at("name"))?;
        let is_first = heard.tools.iter().all(|other| other.name != name);
        require(is_first, || "tools: Tool names must be unique.".to_owned())?;
        let schema = tool.get("input_schema").cloned().unwrap_or_default();
        require(schema["type"] == "object", || format!("{}.type: Input should be 'object'", tool.at("input_schema")))?;
        tool.text("description")?;
        heard.tools.push(HeardTool { name: name.to_owned(), schema, is_custom: false });
    }
    let keys = &["type", "name", "disable_parallel_tool_use"];
    let Some(choice) = body.object("tool_choice", keys)? else { return Ok(()) };
    require(body.has("tools"), || "tool_choice may only be specified while providing tools.".to_owned())?;
    let kind = choice.word("type", &["auto", "any", "tool", "none"])?;
    heard.forbids_tools = kind == Some("none");
    heard.forced_tool = choice.text("name")?.map(str::to_owned);
    require((kind == Some("tool")) == choice.has("name"), || format!("{}: with 'tool' alone", choice.at("name")))?;
    if kind == Some("none") {
        choice.only(&["type"])?;
    }
    heard.one_call = choice.flag("disable_parallel_tool_use")? == Some(true);
    Ok(())
}

/// Tells whether it thinks by a budget.
fn thinking(body: &Object<'_>, is_older: bool, heard: &mut Heard) -> Heeded<bool> {
    let Some(thinking) = body.object("thinking", &["type", "budget_tokens", "display"])? else { return Ok(false) };
    let kind = thinking.word("type", &["enabled", "adaptive", "disabled"])?.unwrap_or_default();
    let display = thinking.word("display", &["summarized", "omitted"])?;
    heard.thinks = kind != "disabled";
    // The newest models keep their thoughts to themselves unless asked.
    heard.shows = display.map_or(is_older, |display| display == "summarized");
    let is_forced = body.get("tool_choice").is_some_and(|choice| choice["type"] == "any" || choice["type"] == "tool");
    require(!(heard.thinks && is_forced), || {
        "Thinking may not be enabled when tool_choice forces tool use.".to_owned()
    })?;
    if kind != "enabled" {
        thinking.without(&["budget_tokens"], "is for thinking that is enabled.")?;
        require(!is_older || kind == "disabled", || "adaptive thinking is not supported on this model".to_owned())?;
        return Ok(false);
    }
    require(is_older, || "\"thinking.type.enabled\" is not supported for this model. Use adaptive.".to_owned())?;
    let budget = thinking.count("budget_tokens")?.unwrap_or_default();
    require(budget >= 1_024, || {
        "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024".to_owned()
    })?;
    let fits = heard.max_tokens.is_some_and(|most| budget < most);
    require(fits, || "`max_tokens` must be greater than `thinking.budget_tokens`.".to_owned())?;
    let temperature = body.number("temperature", 0.0, 1.0)?;
    let is_plain = temperature.is_none_or(|temperature| temperature >= 1.0) && !body.has("top_k");
    require(is_plain, || "`temperature` may only be set to 1 when thinking is enabled.".to_owned())?;
    Ok(true)
}

fn output(body: &Object<'_>, model: &str, heard: &mut Heard) -> Heeded<()> {
    let Some(config) = body.object("output_config", &["effort", "format", "task_budget"])? else { return Ok(()) };
    config.word("effort", &["low", "medium", "high", "xhigh", "max"])?;
    if let Some(format) = config.object("format", &["type", "schema"])? {
        format.word("type", &["json_schema"])?;
        require(!model.contains("-3-"), || "output_config.format is not supported for this model.".to_owned())?;
        heard.schema = format.get("schema").cloned();
        require(heard.schema.is_some(), || format!("{}: Field required", format.at("schema")))?;
    }
    Ok(())
}

fn conversation(body: &Object<'_>, rules: &Rules, heard: &mut Heard) -> Heeded<()> {
    let messages = body.require_list("messages")?;
    let first = messages.first().map(|first| &first["role"]);
    require(first.is_some_and(|role| role == "user"), || {
        "messages: first message must use the \"user\" role".to_owned()
    })?;
    let last_own = messages.iter().rposition(|message| message["role"] == "assistant");
    let mut open: Vec<String> = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let message = Object::of(message, format!("messages.{index}"), &["role", "content"])?;
        let is_last = index + 1 == messages.len();
        match message.word("role", &["user", "assistant", "system"])? {
            Some("user") => user(&message, &mut open, rules, heard)?,
            Some("assistant") => {
                answered(&open)?;
                require(!is_last || rules.is_older, || {
                    "This model does not support assistant message prefill. The conversation must end with a user message.".to_owned()
                })?;
                let mut turn = Heard::default();
                open = assistant(&message, rules, rules.has_budget && last_own == Some(index), &mut turn)?;
                heard.has_thoughts = turn.has_thoughts && !open.is_empty();
                (heard.texts, heard.files, heard.results) = Default::default();
            }
            Some(_) => {
                require(!rules.is_older, || format!("{}: this model takes no system messages", message.path))?;
                heard.instructions.extend(texts(&message, "content", &["text"], &mut Vec::new())?);
            }
            None => return wrong(format!("{}: Field required", message.at("role"))),
        }
    }
    answered(&open)
}

fn answered(open: &[String]) -> Heeded<()> {
    require(open.is_empty(), || {
        format!("`tool_use` ids were found without `tool_result` blocks immediately after: {}.", open.join(", "))
    })
}

fn user(message: &Object<'_>, open: &mut Vec<String>, rules: &Rules, heard: &mut Heard) -> Heeded<()> {
    let asked = std::mem::take(open);
    let mut results: Vec<(usize, String)> = Vec::new();
    let mut others = 0;
    for (index, block) in message.get("content").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if block["type"] != "tool_result" {
            others += 1;
            continue;
        }
        let keys = &["type", "tool_use_id", "content", "is_error", "cache_control"];
        let result = Object::of(block, format!("{}.content.{index}", message.path), keys)?;
        require(others == 0, || format!("{}: `tool_result` blocks must come before other content", result.path))?;
        require(rules.has_tools, || {
            "Requests which have `tool_use` or `tool_result` blocks must define tools.".to_owned()
        })?;
        let id = result.require_text("tool_use_id")?;
        let at = asked.iter().position(|asked| asked == id).filter(|at| results.iter().all(|(other, _)| other != at));
        let Some(at) = at else {
            return wrong(format!("{}: unexpected `tool_use_id` found in `tool_result` blocks: {id}", result.path));
        };
        let mut said = String::new();
        if result.has("content") && result.get("content") != Some(&Value::Array(Vec::new())) {
            said = texts(&result, "content", &["text", "image", "document"], &mut heard.files)?.concat();
        }
        let failed = result.flag("is_error")? == Some(true);
        results.push((at, if failed { format!("[failed] {said}") } else { said }));
    }
    if results.len() < asked.len() {
        return answered(&asked);
    }
    results.sort();
    heard.results.extend(results.into_iter().map(|(_, said)| said));
    if others > 0 || message.get("content").is_none_or(|content| !content.is_array()) {
        heard.texts.extend(texts(message, "content", &["text", "image", "document", "tool_result"], &mut heard.files)?);
    }
    Ok(())
}

/// The calls of a turn of the model.
fn assistant(message: &Object<'_>, rules: &Rules, wants_thoughts: bool, heard: &mut Heard) -> Heeded<Vec<String>> {
    if message.get("content").is_some_and(Value::is_string) {
        let text = message.require_text("content")?;
        require(!text.trim().is_empty(), || format!("{}: text content must be non-empty", message.path))?;
        return Ok(Vec::new());
    }
    let mut calls: Vec<String> = Vec::new();
    let blocks = message.require_list("content")?;
    for (index, block) in blocks.iter().enumerate() {
        let block = Object::open(block, format!("{}.content.{index}", message.path))?;
        match block.word("type", &["text", "tool_use", "thinking", "redacted_thinking"])? {
            Some("text") => text(&block).map(|_| ())?,
            Some("thinking") => {
                block.only(&["type", "thinking", "signature"])?;
                let words = block.text("thinking")?.unwrap_or_default();
                let is_own = is_signed(VENDOR_ANTHROPIC, words, block.require_text("signature")?);
                require(is_own, || format!("{}: Invalid `signature` in `thinking` block", block.path))?;
                heard.has_thoughts = true;
            }
            Some("redacted_thinking") => {
                block.only(&["type", "data"])?;
                let is_own = is_mark(VENDOR_ANTHROPIC, block.require_text("data")?);
                require(is_own, || format!("{}: Invalid `data` in `redacted_thinking` block", block.path))?;
            }
            Some(_) => {
                block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
                require(rules.has_tools, || "Requests which have `tool_use` blocks must define tools.".to_owned())?;
                check_name(block.require_text("name")?, 128, "", &block.at("name"))?;
                let id = block.require_text("id")?;
                check_name(id, 64, "", &block.at("id"))?;
                let is_object = block.get("input").is_some_and(Value::is_object);
                require(is_object, || format!("{}: Input should be a valid dictionary", block.at("input")))?;
                require(!calls.iter().any(|other| other == id), || "`tool_use` ids must be unique".to_owned())?;
                calls.push(id.to_owned());
            }
            None => return wrong(format!("{}: Field required", block.at("type"))),
        }
    }
    let has_thought_first = blocks.first().is_some_and(|first| first["type"] != "text" && first["type"] != "tool_use");
    require(!wants_thoughts || calls.is_empty() || has_thought_first, || {
        format!(
            "{}: Expected `thinking` or `redacted_thinking`. When `thinking` is enabled, a final `assistant` message must start with a thinking block",
            message.path
        )
    })?;
    Ok(calls)
}

/// The texts of a list of blocks, or a text alone; files go to `files`.
fn texts(of: &Object<'_>, key: &str, kinds: &[&str], files: &mut Vec<String>) -> Heeded<Vec<String>> {
    if let Some(Value::String(text)) = of.get(key) {
        require(!text.trim().is_empty(), || format!("{}: text content must be non-empty", of.at(key)))?;
        return Ok(vec![text.clone()]);
    }
    let mut found = Vec::new();
    for (index, block) in of.require_list(key)?.iter().enumerate() {
        let block = Object::open(block, format!("{}.{index}", of.at(key)))?;
        match block.word("type", kinds)? {
            Some("text") => found.push(text(&block)?),
            Some(kind @ ("image" | "document")) => files.push(file(&block, kind)?),
            Some(_) => {}
            None => return wrong(format!("{}: Field required", block.at("type"))),
        }
    }
    Ok(found)
}

fn text(block: &Object<'_>) -> Heeded<String> {
    block.only(&["type", "text", "cache_control", "citations"])?;
    cache_control(block)?;
    let text = block.require_text("text")?;
    require(!text.is_empty(), || "messages: text content blocks must be non-empty".to_owned())?;
    require(!text.trim().is_empty(), || "messages: text content blocks must contain non-whitespace text".to_owned())?;
    Ok(text.to_owned())
}

fn file(block: &Object<'_>, kind: &str) -> Heeded<String> {
    block.only(&["type", "source", "cache_control", "title", "context", "citations"])?;
    let source = block.require_object("source", &["type", "media_type", "data", "url"])?;
    let media_type = source.text("media_type")?;
    match source.word("type", &["base64", "url", "text"])? {
        Some("base64") => {
            let known: &[&str] = if kind == "image" {
                &["image/jpeg", "image/png", "image/gif", "image/webp"]
            } else {
                &["application/pdf"]
            };
            source.word("media_type", known)?;
            let bytes = base64_bytes(source.require_text("data")?, &source.path)?;
            Ok(seen(media_type.unwrap_or_default(), bytes))
        }
        Some("url") => {
            source.only(&["type", "url"])?;
            Ok(source.require_text("url")?.to_owned())
        }
        _ => Ok(seen(media_type.unwrap_or_default(), source.require_text("data")?.len())),
    }
}

fn cache_control(of: &Object<'_>) -> Heeded<()> {
    let Some(marker) = of.object("cache_control", &["type", "ttl"])? else { return Ok(()) };
    marker.word("type", &["ephemeral"])?;
    marker.word("ttl", &["5m", "1h"]).map(|_| ())
}
