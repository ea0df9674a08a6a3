//! Reads a OpenAI Chat Completions request, and what compatible clients add to it (`thinking`, `reasoning`, `top_k`,
//! `cache_control`).

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::params::{Param, Params};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Budget, ChatRequest, Effort, OutputFormat, ReasoningRequest, Shown, SummaryLength};
use super::{read_content, read_messages, read_tools};
use crate::json::{Escaped, Kind, Value};

/// The most answers that a request may ask for.
const MAX_CHOICES: u64 = 128;

/// Parameters that are one value each.
const PARAMS: [(Param, &str); 15] = [
    (Param::Temperature, "temperature"),
    (Param::TopP, "top_p"),
    (Param::TopK, "top_k"),
    (Param::Seed, "seed"),
    (Param::PresencePenalty, "presence_penalty"),
    (Param::FrequencyPenalty, "frequency_penalty"),
    (Param::LogitBias, "logit_bias"),
    (Param::Verbosity, "verbosity"),
    (Param::User, "safety_identifier"),
    (Param::User, "user"),
    (Param::PromptCacheKey, "prompt_cache_key"),
    (Param::ServiceTier, "service_tier"),
    (Param::Store, "store"),
    (Param::Metadata, "metadata"),
    (Param::SafetySettings, "safety_settings"),
];

/// The intermediate form of a request. What nobody can use is reported as dropped; what is wrong is refused.
pub(in crate::translate) fn read_request<'a>(body: Value<'a>, report: &mut Report) -> Result<ChatRequest<'a>, Refused> {
    let mut fields = Fields::of(body, Path::Root)?;
    let mut request = ChatRequest::new(Protocol::OpenaiChat);
    fields.ignore(&["model"]);
    request.stream = fields.bool("stream")?.unwrap_or(false);
    request.wants_usage = wants_usage(&mut fields, report)?;
    request.turns = read_messages::turns(&mut fields, report)?;
    let (tools, older) = read_tools::tools(&mut fields, report)?;
    request.tools = tools;
    request.echo.extend(older.map(|functions| (read_tools::OLDER_CALLS, functions)));
    request.tool_choice = read_tools::tool_choice(&mut fields, report)?;
    request.parallel_tool_calls = fields.bool("parallel_tool_calls")?;
    let (newer, older) = (fields.count("max_completion_tokens")?, fields.count("max_tokens")?);
    request.max_output_tokens = newer.or(older);
    request.stop = stop(&mut fields)?;
    request.choices = choices(&mut fields)?;
    request.output = output(&mut fields, report)?;
    request.reasoning = reasoning(&mut fields, report)?;
    request.cache = read_content::cache_marker(&mut fields)?;
    request.params = params(&mut fields);
    refuse_other_outputs(&mut fields, report)?;
    read_tools::web_search(&mut fields, !request.tools.is_empty(), report)?;
    fields.finish(report);
    Ok(request)
}

fn params<'a>(fields: &mut Fields<'a, '_>) -> Params<'a> {
    let mut params = Params::default();
    for (param, name) in PARAMS {
        params.give(param, name, fields.take(name));
    }
    params
}

fn wants_usage(fields: &mut Fields<'_, '_>, report: &mut Report) -> Result<bool, Refused> {
    let Some(options) = fields.object("stream_options")? else { return Ok(false) };
    let path = *fields.path();
    let mut options = Fields::of(options, Path::Key(&path, "stream_options"))?;
    // Obfuscation is about the client's own connection.
    options.ignore(&["include_obfuscation"]);
    let wants_usage = options.bool("include_usage")?.unwrap_or(false);
    options.finish(report);
    Ok(wants_usage)
}

fn stop<'a>(fields: &mut Fields<'a, '_>) -> Result<Vec<Escaped<'a>>, Refused> {
    let Some(value) = fields.take("stop") else { return Ok(Vec::new()) };
    let all = match value.kind() {
        Kind::String => vec![value],
        _ => value.elements().ok_or_else(|| fields.wrong("stop", "a string or an array of strings"))?,
    };
    let string = |value: Value<'a>| value.string().ok_or_else(|| fields.wrong("stop", "an array of strings"));
    let mut all = all.into_iter().map(string).collect::<Result<Vec<_>, _>>()?;
    all.retain(|stop| !stop.is_empty());
    Ok(all)
}

fn choices(fields: &mut Fields<'_, '_>) -> Result<u32, Refused> {
    match fields.count("n")?.unwrap_or(1) {
        n @ 1..=MAX_CHOICES => Ok(u32::try_from(n).unwrap_or(1)),
        _ => Err(fields.wrong("n", "from 1 to 128")),
    }
}

fn output<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<OutputFormat<'a>, Refused> {
    let Some(format) = fields.object("response_format")? else { return Ok(OutputFormat::Text) };
    let path = *fields.path();
    let path = Path::Key(&path, "response_format");
    let mut format = Fields::of(format, path)?;
    let kind = format.require_string("type")?;
    let output = match kind.text().as_ref() {
        "text" => OutputFormat::Text,
        "json_object" => OutputFormat::JsonObject,
        "json_schema" => {
            let mut schema = Fields::of(format.require("json_schema")?, Path::Key(&path, "json_schema"))?;
            let output = OutputFormat::JsonSchema {
                name: schema.string("name")?,
                description: schema.string("description")?,
                schema: schema.object("schema")?.unwrap_or(Value::EMPTY_OBJECT),
                strict: schema.bool("strict")?,
            };
            schema.finish(report);
            output
        }
        _ => return Err(format.wrong("type", "`text`, `json_object` or `json_schema`")),
    };
    format.finish(report);
    Ok(output)
}

fn reasoning(fields: &mut Fields<'_, '_>, report: &mut Report) -> Result<ReasoningRequest, Refused> {
    let mut asked = ReasoningRequest::default();
    let path = *fields.path();
    if let Some(thinking) = fields.object("thinking")? {
        read_thinking(Fields::of(thinking, Path::Key(&path, "thinking"))?, &mut asked, report)?;
    }
    if let Some(reasoning) = fields.object("reasoning")? {
        read_reasoning(Fields::of(reasoning, Path::Key(&path, "reasoning"))?, &mut asked, report)?;
    }
    if let Some(effort) = effort(fields, "reasoning_effort")? {
        asked.effort = Some(effort);
    }
    Ok(asked)
}

/// Anthropic's field, as compatible servers and their clients have taken it over.
fn read_thinking(
    mut thinking: Fields<'_, '_>,
    asked: &mut ReasoningRequest,
    report: &mut Report,
) -> Result<(), Refused> {
    let tokens = thinking.count("budget_tokens")?;
    let kind = thinking.string("type")?;
    asked.budget = match kind.as_ref().map(Escaped::text).as_deref() {
        Some("disabled") => Some(Budget::Off),
        Some("enabled" | "adaptive" | "auto") | None => Some(tokens.map_or(Budget::Adaptive, Budget::Tokens)),
        Some(_) => return Err(thinking.wrong("type", "`enabled`, `adaptive` or `disabled`")),
    };
    asked.shown = match thinking.string("display")?.as_ref().map(Escaped::text).as_deref() {
        Some("omitted") => Some(Shown::Omitted),
        Some("summarized") => Some(Shown::Summary(SummaryLength::Auto)),
        Some(_) => return Err(thinking.wrong("display", "`summarized` or `omitted`")),
        None => None,
    };
    thinking.finish(report);
    Ok(())
}

/// OpenRouter's field.
fn read_reasoning(
    mut reasoning: Fields<'_, '_>,
    asked: &mut ReasoningRequest,
    report: &mut Report,
) -> Result<(), Refused> {
    if let Some(effort) = effort(&mut reasoning, "effort")? {
        asked.effort = Some(effort);
    }
    if let Some(tokens) = reasoning.count("max_tokens")? {
        asked.budget = Some(if tokens == 0 { Budget::Off } else { Budget::Tokens(tokens) });
    }
    match reasoning.bool("enabled")? {
        Some(false) => asked.budget = Some(Budget::Off),
        Some(true) if asked.budget.is_none() => asked.budget = Some(Budget::Adaptive),
        _ => {}
    }
    if let Some(excluded) = reasoning.bool("exclude")? {
        asked.shown = Some(if excluded { Shown::Omitted } else { Shown::Summary(SummaryLength::Auto) });
    }
    reasoning.finish(report);
    Ok(())
}

fn effort(fields: &mut Fields<'_, '_>, key: &str) -> Result<Option<Effort>, Refused> {
    let Some(word) = fields.string(key)? else { return Ok(None) };
    let effort = Effort::read(&word.text());
    let expected = "`none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`";
    effort.map(Some).ok_or_else(|| fields.wrong(key, expected))
}

/// Refuses what would give another answer than words; leaves out what only hastens it.
fn refuse_other_outputs(fields: &mut Fields<'_, '_>, report: &mut Report) -> Result<(), Refused> {
    const NO_LOGPROBS: &str = "is not told by this model's vendor: leave it out";
    if fields.bool("logprobs")? == Some(true) {
        return Err(Refused::inexpressible("logprobs", NO_LOGPROBS));
    }
    if fields.count("top_logprobs")?.is_some_and(|count| count > 0) {
        return Err(Refused::inexpressible("top_logprobs", NO_LOGPROBS));
    }
    for modality in fields.array("modalities")?.unwrap_or_default() {
        if modality.is("audio") {
            let reason = "asks for audio, which is not to be had from this model's vendor: ask for [\"text\"]";
            return Err(Refused::inexpressible("modalities", reason));
        }
        // Models that draw do so unasked.
        if !modality.is("text") {
            fields.dropped("modalities", report);
        }
    }
    for key in ["audio", "prediction"] {
        if fields.take(key).is_some() {
            fields.dropped(key, report);
        }
    }
    Ok(())
}
