//! Writes an OpenAI Responses request.

use ez_contract::Protocol;

use super::super::capability::{Capabilities, ReasoningStyle, Sampling};
use super::super::effort::Ask;
use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, Budget, ChatRequest, Effort, OutputFormat, Role, Shown, SummaryLength, Turn};
use super::super::target::{Target, Written};
use super::write_input::{write_input, write_instructions};
use super::write_tools::{write_tool_choice, write_tools};
use crate::json::{Escaped, Value, Writer};

/// The least that the vendor takes for `max_output_tokens`.
const MIN_OUTPUT_TOKENS: u64 = 16;
/// The most bytes that the vendor takes for `safety_identifier` and `user`.
const MAX_USER_BYTES: usize = 64;

/// The request for an upstream. What it has no words for is reported as dropped, or refused. What stays the same through
/// a conversation stands in front, the conversation itself last.
pub(in crate::translate) fn write_request(
    mut request: ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<Written, Refused> {
    refuse(&request)?;
    if has_cache_markers(&request) {
        report.dropped(request.words().cache);
    }
    let mut outcome = Ok(());
    let mut json = Writer::with_capacity(4_096);
    json.object(|json| outcome = write_members(json, &mut request, &target, report));
    outcome?;
    request.params.drop_rest(report);
    Ok(Written { body: json.finish(), output_tool: None })
}

fn write_members(
    json: &mut Writer,
    request: &mut ChatRequest<'_>,
    target: &Target<'_>,
    report: &mut Report,
) -> Result<(), Refused> {
    let ask = request.reasoning.for_model(&target.capabilities.reasoning);
    json.key("model").string(target.model);
    if request.stream {
        json.key("stream").bool(true);
    }
    let store = request.params.take(Param::Store).and_then(Value::bool) == Some(true);
    json.key("store").bool(store);
    if target.capabilities.reasoning != ReasoningStyle::None {
        // Without it the model cannot go on from its own thoughts in the next request.
        json.key("include").raw(r#"["reasoning.encrypted_content"]"#);
    }
    if let Some(max) = request.max_output_tokens {
        json.key("max_output_tokens").count(max.max(MIN_OUTPUT_TOKENS));
    }
    write_reasoning(json, request, target, ask, report);
    write_params(json, request, target.capabilities, ask, report)?;
    write_text(json, request, target.capabilities);
    write_tools(json, &request.tools, target.names);
    write_tool_choice(json, request, target.names)?;
    // Without tools it says nothing.
    if let Some(parallel) = request.parallel_tool_calls.filter(|_| !request.tools.is_empty()) {
        json.key("parallel_tool_calls").bool(parallel);
    }
    let turns = write_instructions(json, &request.turns);
    json.key("input");
    write_input(json, turns, target, request.words().turns)
}

fn refuse(request: &ChatRequest<'_>) -> Result<(), Refused> {
    let words = request.words();
    if request.choices > 1 {
        let reason = "must be 1 for this model: its upstream gives one answer, so ask several times";
        return Err(Refused::inexpressible(words.choices, reason));
    }
    if !request.stop.is_empty() {
        let reason = "is not known to this model's upstream: leave it out";
        return Err(Refused::inexpressible(words.stop, reason));
    }
    // OpenAI's own clients never mean it so.
    let means_prefill = matches!(request.source, Protocol::AnthropicMessages | Protocol::Gemini);
    if means_prefill && request.turns.last().is_some_and(|turn| turn.role == Role::Assistant) {
        let reason = "must not end with a turn of the model: its upstream does not go on from a beginning";
        return Err(Refused::inexpressible(words.turns, reason));
    }
    if request.turns.iter().all(|turn| turn.blocks.is_empty()) {
        return Err(Refused::invalid(words.turns, format!("`{}` must not be empty", words.turns)));
    }
    Ok(())
}

fn write_reasoning(json: &mut Writer, request: &ChatRequest<'_>, target: &Target<'_>, ask: Ask, report: &mut Report) {
    let (asked, words) = (&request.reasoning, request.words());
    let effort = match ask {
        Ask::Effort(effort) => Some(effort),
        Ask::Off => Some(Effort::None),
        Ask::Tokens(tokens) => Some(Effort::of_tokens(tokens)),
        Ask::Nothing | Ask::Adaptive => None,
    };
    let cannot = target.capabilities.reasoning == ReasoningStyle::None;
    if effort.is_none() {
        // A model that cannot reason does what is asked where it is asked not to.
        if asked.effort.is_some_and(|effort| effort != Effort::None) {
            report.dropped(words.effort);
        }
        if matches!(asked.budget, Some(Budget::Tokens(_))) {
            report.dropped(words.budget);
        }
    }
    let summary = match asked.shown {
        Some(Shown::Summary(length)) => Some(length),
        // Nothing is shown unless asked for.
        Some(Shown::Omitted) | None => None,
    };
    if cannot && summary.is_some() {
        report.dropped(words.shown);
    }
    let summary = summary.filter(|_| !cannot);
    if effort.is_none() && summary.is_none() {
        return;
    }
    json.key("reasoning").object(|json| {
        if let Some(effort) = effort {
            json.key("effort").string(effort.word());
        }
        if let Some(length) = summary {
            json.key("summary").string(match length {
                SummaryLength::Auto => "auto",
                SummaryLength::Concise => "concise",
                SummaryLength::Detailed => "detailed",
            });
        }
    });
}

fn write_params(
    json: &mut Writer,
    request: &mut ChatRequest<'_>,
    capabilities: &Capabilities,
    ask: Ask,
    report: &mut Report,
) -> Result<(), Refused> {
    // Most models reason unless they are asked not to.
    let reasons = !matches!(ask, Ask::Off | Ask::Effort(Effort::None));
    let takes = |sampling: Sampling| {
        let refused_now = reasons && capabilities.rejects_while_reasoning.contains(&sampling);
        !refused_now && !capabilities.rejects.contains(&sampling)
    };
    for (sampling, key) in [(Sampling::Temperature, "temperature"), (Sampling::TopP, "top_p")] {
        if takes(sampling)
            && let Some(value) = request.params.take_number(sampling.param())?
        {
            json.key(key).value(value);
        }
    }
    if let Some(labels) = request.params.take(Param::Metadata) {
        json.key("metadata").value(labels);
    }
    write_users(json, request, report);
    if let Some(key) = request.params.take(Param::PromptCacheKey) {
        json.key("prompt_cache_key").value(key);
    }
    write_tier(json, request, report);
    Ok(())
}

/// Who the user is, under the client's own name for it where that is one of OpenAI's.
fn write_users(json: &mut Writer, request: &mut ChatRequest<'_>, report: &mut Report) {
    let mut written = [false; 2];
    while let Some(name) = request.params.name(Param::User) {
        let Some(user) = request.params.take(Param::User) else { break };
        let is_user = name == "user";
        let fits = user.string().is_some_and(|user| user.text().len() <= MAX_USER_BYTES);
        if !fits || written[usize::from(is_user)] {
            report.dropped(name);
            continue;
        }
        written[usize::from(is_user)] = true;
        json.key(if is_user { "user" } else { "safety_identifier" }).value(user);
    }
}

fn write_tier(json: &mut Writer, request: &mut ChatRequest<'_>, report: &mut Report) {
    let name = request.params.name(Param::ServiceTier).unwrap_or_default();
    let Some(tier) = request.params.take(Param::ServiceTier) else { return };
    let word = tier.string();
    match word.as_ref().map(Escaped::text).as_deref() {
        // Anthropic's word for it.
        Some("standard_only") => json.key("service_tier").string("default"),
        Some("auto" | "default" | "flex" | "scale" | "priority" | "fast") => json.key("service_tier").value(tier),
        _ => report.dropped(name),
    }
}

/// The shape and the length of the output.
fn write_text(json: &mut Writer, request: &mut ChatRequest<'_>, capabilities: &Capabilities) {
    // Models that do not reason are older than it.
    let takes_verbosity = capabilities.reasoning != ReasoningStyle::None;
    let verbosity = if takes_verbosity { request.params.take(Param::Verbosity) } else { None };
    if verbosity.is_none() && request.output == OutputFormat::Text {
        return;
    }
    json.key("text").object(|json| {
        match &request.output {
            OutputFormat::Text => {}
            OutputFormat::JsonObject => json.key("format").raw(r#"{"type":"json_object"}"#),
            OutputFormat::JsonSchema { name, description, schema, strict } => json.key("format").object(|json| {
                json.key("type").string("json_schema");
                json.key("name").escaped(name.as_ref().unwrap_or(&Escaped::of("output")));
                if let Some(description) = description {
                    json.key("description").escaped(description);
                }
                json.key("schema").value(*schema);
                if let Some(strict) = strict {
                    json.key("strict").bool(*strict);
                }
            }),
        }
        if let Some(verbosity) = verbosity {
            json.key("verbosity").value(verbosity);
        }
    });
}

fn has_cache_markers(request: &ChatRequest<'_>) -> bool {
    let in_block = |block: &Block<'_>| match block {
        Block::Text(text) => text.cache.is_some(),
        Block::Media(media) => media.cache.is_some(),
        Block::ToolCall(call) => call.cache.is_some(),
        Block::ToolResult(result) => result.cache.is_some() || result.content.iter().any(is_marked_leaf),
        Block::Reasoning(_) | Block::Refusal(_) => false,
    };
    let in_turn = |turn: &Turn<'_>| turn.blocks.iter().any(in_block);
    request.cache.is_some()
        || request.tools.iter().any(|tool| tool.cache.is_some())
        || request.turns.iter().any(in_turn)
}

/// The same for what tools answered, which holds texts and media alone.
fn is_marked_leaf(block: &Block<'_>) -> bool {
    match block {
        Block::Text(text) => text.cache.is_some(),
        Block::Media(media) => media.cache.is_some(),
        _ => false,
    }
}

#[cfg(test)]
#[path = "write_request_tests.rs"]
mod tests;
