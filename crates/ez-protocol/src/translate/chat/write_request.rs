//! Writes a OpenAI Chat Completions request.

use super::super::capability::{ReasoningStyle, TokenCap};
use super::super::effort::Ask;
use super::super::params::{Param, Params};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, Budget, CacheMarker, ChatRequest, Effort, OutputFormat, Role};
use super::super::target::{Target, Written};
use super::super::words::Words;
use super::{plan_messages, write_messages, write_tools};
use crate::json::{Escaped, Value, Writer};

/// The most stop sequences that OpenAI takes.
const MAX_STOPS: usize = 4;
/// The most characters that OpenAI takes for who the user is.
const MAX_USER: usize = 64;
/// The same for other vendors' servers (OpenRouter, Zhipu, Doubao). Claude Code's are longer than both.
const MAX_USER_ELSEWHERE: usize = 128;

/// The request for an upstream. What it has no words for is reported as dropped, or refused.
pub(in crate::translate) fn write_request(
    mut request: ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<Written, Refused> {
    let words = request.words();
    refuse(&request, target, words)?;
    if has_cache_markers(&request) {
        report.dropped(words.cache);
    }
    let asked = request.reasoning.for_model(&target.capabilities.reasoning);
    report_reasoning(&request, asked, words, report);
    let mut params = std::mem::take(&mut request.params);
    let mut plain = sampling(&mut params, target, asked)?;
    plain.extend(extras(&mut params, target));
    params.drop_rest(report);
    let tools = write_tools::plan(&mut request, target, report);
    let messages = plan_messages::plan(&request.turns, target, words, report)?;

    let mut json = Writer::with_capacity(1_024);
    json.object(|json| {
        json.key("model").string(target.model);
        json.key("messages").array(|json| write_messages::write(json, &messages, target));
        write_tools::write(json, &request, &tools, target);
        write_output(json, &request.output);
        if let Some(tokens) = request.max_output_tokens {
            let key = match target.capabilities.token_cap {
                TokenCap::MaxTokens => "max_tokens",
                TokenCap::MaxCompletionTokens => "max_completion_tokens",
            };
            json.key(key).count(tokens);
        }
        write_reasoning(json, asked);
        for (key, value) in plain {
            json.key(key).raw(&value);
        }
        if !request.stop.is_empty() {
            json.key("stop").array(|json| request.stop.iter().for_each(|stop| json.escaped(stop)));
        }
        if request.choices > 1 {
            json.key("n").count(request.choices.into());
        }
        if request.stream {
            json.key("stream").bool(true);
            // What the client sees of it is decided where its answer is written.
            json.key("stream_options").object(|json| json.key("include_usage").bool(true));
        }
    });
    Ok(Written { body: json.finish(), output_tool: None })
}

fn refuse(request: &ChatRequest<'_>, target: Target<'_>, words: Words) -> Result<(), Refused> {
    if request.stop.len() > MAX_STOPS {
        let reason = "holds more than 4 entries, which is all that this model's vendor takes: send fewer";
        return Err(Refused::inexpressible(words.stop, reason));
    }
    let is_prefilled = request.turns.last().is_some_and(|turn| turn.role == Role::Assistant);
    if is_prefilled && !target.capabilities.prefill {
        let reason = "ends with a turn of the assistant, and this model does not go on from one: end with the user's";
        return Err(Refused::inexpressible(words.turns, reason));
    }
    Ok(())
}

fn has_cache_markers(request: &ChatRequest<'_>) -> bool {
    let cache = |block: &Block<'_>| -> Option<CacheMarker> {
        match block {
            Block::Text(text) => text.cache,
            Block::Media(media) => media.cache,
            Block::ToolCall(call) => call.cache,
            Block::ToolResult(result) => result.cache,
            Block::Reasoning(_) | Block::Refusal(_) => None,
        }
    };
    let inner = |block: &Block<'_>| match block {
        Block::ToolResult(result) => result.content.iter().any(|block| cache(block).is_some()),
        _ => false,
    };
    request.cache.is_some()
        || request.tools.iter().any(|tool| tool.cache.is_some())
        || request.turns.iter().flat_map(|turn| &turn.blocks).any(|block| cache(block).is_some() || inner(block))
}

/// Tells what was asked of reasoning and cannot be said.
fn report_reasoning(request: &ChatRequest<'_>, asked: Ask, words: Words, report: &mut Report) {
    let reasoning = &request.reasoning;
    if reasoning.shown.is_some() {
        report.dropped(words.shown);
    }
    // A model that cannot be asked does not reason, or as it sees fit.
    let is_met = |effort: Option<Effort>, budget: Option<Budget>| {
        asked != Ask::Nothing
            || matches!(effort, None | Some(Effort::None))
                && matches!(budget, None | Some(Budget::Off | Budget::Adaptive))
    };
    if !is_met(reasoning.effort, None) {
        report.dropped(words.effort);
    }
    if !is_met(None, reasoning.budget) {
        report.dropped(words.budget);
    }
}

fn write_reasoning(json: &mut Writer, asked: Ask) {
    let thinking = |json: &mut Writer, kind: &str, tokens: Option<u64>| {
        json.key("thinking").object(|json| {
            json.key("type").string(kind);
            if let Some(tokens) = tokens {
                json.key("budget_tokens").count(tokens);
            }
        });
    };
    match asked {
        Ask::Nothing => {}
        Ask::Effort(effort) => json.key("reasoning_effort").string(effort.word()),
        // Servers that the catalogue says such things of take Anthropic's field.
        Ask::Off => thinking(json, "disabled", None),
        Ask::Adaptive => thinking(json, "enabled", None),
        Ask::Tokens(tokens) => thinking(json, "enabled", Some(tokens)),
    }
}

/// A member whose value is a JSON text.
type Member<'a> = (&'static str, std::borrow::Cow<'a, str>);

/// The sampling parameters that the model takes.
fn sampling<'a>(params: &mut Params<'a>, target: Target<'_>, asked: Ask) -> Result<Vec<Member<'a>>, Refused> {
    const SAMPLING: [(Param, &str); 7] = [
        (Param::Temperature, "temperature"),
        (Param::TopP, "top_p"),
        (Param::TopK, "top_k"),
        (Param::Seed, "seed"),
        (Param::PresencePenalty, "presence_penalty"),
        (Param::FrequencyPenalty, "frequency_penalty"),
        (Param::LogitBias, "logit_bias"),
    ];
    let capabilities = target.capabilities;
    // What a model does that is not asked is its vendor's affair, so it counts as reasoning.
    let reasons =
        capabilities.reasoning != ReasoningStyle::None && asked != Ask::Effort(Effort::None) && asked != Ask::Off;
    let has_temperature = params.get(Param::Temperature).is_some();
    let is_rejected = |param: Param| {
        let is_in = |list: &[super::super::capability::Sampling]| list.iter().any(|sampling| sampling.param() == param);
        is_in(&capabilities.rejects)
            || (reasons && is_in(&capabilities.rejects_while_reasoning))
            || (param == Param::TopK && !capabilities.compatible)
            || (param == Param::TopP && has_temperature && capabilities.excludes_top_p_beside_temperature)
    };
    let mut members = Vec::new();
    for (param, key) in SAMPLING {
        if is_rejected(param) {
            continue;
        }
        let value = if param == Param::LogitBias { params.take(param) } else { params.take_number(param)? };
        members.extend(value.map(|value| (key, value.as_str().into())));
    }
    Ok(members)
}

/// The parameters of OpenAI's own. Other vendors' servers refuse what they do not know, so they get `user` alone.
fn extras<'a>(params: &mut Params<'a>, target: Target<'_>) -> Vec<Member<'a>> {
    let is_openai = !target.capabilities.compatible;
    let mut members: Vec<Member<'a>> = Vec::new();
    while let Some(name) = params.name(Param::User) {
        let key = if name == "safety_identifier" && is_openai { "safety_identifier" } else { "user" };
        let longest = if is_openai { MAX_USER } else { MAX_USER_ELSEWHERE };
        let user = params.get(Param::User).and_then(Value::string);
        let fits = user.is_some_and(|user| user.text().chars().count() <= longest);
        if !fits || members.iter().any(|(taken, _)| *taken == key) {
            break;
        }
        members.extend(params.take(Param::User).map(|value| (key, value.as_str().into())));
    }
    if !is_openai {
        return members;
    }
    if matches!(target.capabilities.reasoning, ReasoningStyle::Effort { .. }) {
        members.extend(params.take(Param::Verbosity).map(|value| ("verbosity", value.as_str().into())));
    }
    members.extend(params.take(Param::PromptCacheKey).map(|value| ("prompt_cache_key", value.as_str().into())));
    if let Some(tier) = params.get(Param::ServiceTier).and_then(tier) {
        params.take(Param::ServiceTier);
        members.push(("service_tier", format!("\"{tier}\"").into()));
    }
    // OpenAI takes labels of what it keeps, and of nothing else.
    let is_kept = params.get(Param::Store).and_then(Value::bool) == Some(true);
    members.extend(params.take(Param::Store).map(|value| ("store", value.as_str().into())));
    if is_kept {
        members.extend(params.take(Param::Metadata).map(|value| ("metadata", value.as_str().into())));
    }
    members
}

/// OpenAI's word for a tier.
fn tier(value: Value<'_>) -> Option<&'static str> {
    const TIERS: [&str; 6] = ["auto", "default", "flex", "scale", "priority", "fast"];
    let word = value.string()?;
    if word.is("standard_only") || word.is("standard") {
        return Some("default");
    }
    TIERS.into_iter().find(|tier| word.is(tier))
}

fn write_output(json: &mut Writer, output: &OutputFormat<'_>) {
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => {
            json.key("response_format").object(|json| json.key("type").string("json_object"));
        }
        OutputFormat::JsonSchema { name, description, schema, strict } => {
            json.key("response_format").object(|json| {
                json.key("type").string("json_schema");
                json.key("json_schema").object(|json| {
                    json.key("name").string(&schema_name(name.as_ref()));
                    if let Some(description) = description {
                        json.key("description").escaped(description);
                    }
                    json.key("schema").value(*schema);
                    if let Some(strict) = strict {
                        json.key("strict").bool(*strict);
                    }
                });
            });
        }
    }
}

/// OpenAI wants a name, of up to 64 letters, digits, `_` and `-`.
fn schema_name(name: Option<&Escaped<'_>>) -> String {
    let told = name.map(Escaped::text).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let name: String = told.chars().take(64).map(plain).collect();
    if name.is_empty() { "output".to_owned() } else { name }
}
