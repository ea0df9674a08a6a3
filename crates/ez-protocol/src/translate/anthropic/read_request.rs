//! Reads an Anthropic Messages request.

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{
    Budget, CacheMarker, ChatRequest, Effort, OutputFormat, ReasoningRequest, Shown, SummaryLength,
};
use super::{read_tools, read_turns};
use crate::json::{Escaped, Value};

/// The intermediate form of a request. What nobody can use is reported as dropped; what is wrong is refused.
pub(in crate::translate) fn read_request<'a>(body: Value<'a>, report: &mut Report) -> Result<ChatRequest<'a>, Refused> {
    let mut fields = Fields::of(body, Path::Root)?;
    fields.ignore(&["model"]);
    refuse_stateful(&mut fields)?;
    let mut request = ChatRequest::new(Protocol::AnthropicMessages);
    request.stream = fields.bool("stream")?.unwrap_or(false);
    request.max_output_tokens = fields.count("max_tokens")?;
    if request.max_output_tokens == Some(0) {
        return Err(Refused::inexpressible(
            "max_tokens",
            "is 0, which warms Anthropic's own cache alone: send 1 or more",
        ));
    }
    request.cache = cache_marker(&mut fields, report)?;
    request.stop = read_stop(&mut fields)?;
    request.turns = read_turns::read_turns(&mut fields, report)?;
    read_tools::read_tools(&mut fields, &mut request, report)?;
    read_params(&mut fields, &mut request, report)?;
    request.reasoning = read_thinking(&mut fields, report)?;
    read_output(&mut fields, &mut request, report)?;
    fields.finish(report);
    Ok(request)
}

/// What lives at Anthropic, or promises what no other vendor can keep.
fn refuse_stateful(fields: &mut Fields<'_, '_>) -> Result<(), Refused> {
    const REASONS: [(&str, &str); 3] = [
        ("container", "lives at Anthropic: leave it out, or use an Anthropic model"),
        ("mcp_servers", "are called by Anthropic itself: call them yourself and pass their tools in `tools`"),
        ("inference_geo", "is a promise that only Anthropic keeps: leave it out, or use an Anthropic model"),
    ];
    for (key, reason) in REASONS {
        let given = fields.take(key);
        if given.is_some_and(|value| !matches!(value.as_str(), "[]" | "{}" | "\"\"")) {
            return Err(Refused::inexpressible(key, reason));
        }
    }
    Ok(())
}

fn read_stop<'a>(fields: &mut Fields<'a, '_>) -> Result<Vec<Escaped<'a>>, Refused> {
    let given = fields.array("stop_sequences")?.unwrap_or_default();
    let read = |(at, value): (usize, Value<'a>)| {
        let wrong = || Refused::wrong_type(format!("stop_sequences[{at}]"), "a string");
        value.string().ok_or_else(wrong)
    };
    given.into_iter().enumerate().map(read).collect()
}

fn read_params<'a>(
    fields: &mut Fields<'a, '_>,
    request: &mut ChatRequest<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    request.params.give(Param::Temperature, "temperature", fields.take("temperature"));
    request.params.give(Param::TopP, "top_p", fields.take("top_p"));
    request.params.give(Param::TopK, "top_k", fields.take("top_k"));
    request.params.give(Param::ServiceTier, "service_tier", fields.take("service_tier"));
    if let Some(metadata) = fields.object("metadata")? {
        let mut metadata = Fields::of(metadata, Path::Key(fields.path(), "metadata"))?;
        request.params.give(Param::User, "metadata.user_id", metadata.take("user_id"));
        metadata.finish(report);
    }
    Ok(())
}

/// Reads `thinking`. Manual thinking shows what was thought unless the client says otherwise; for the other kinds that
/// depends on the model, so that nothing is said of it.
fn read_thinking(fields: &mut Fields<'_, '_>, report: &mut Report) -> Result<ReasoningRequest, Refused> {
    let mut reasoning = ReasoningRequest::default();
    let Some(thinking) = fields.object("thinking")? else { return Ok(reasoning) };
    let mut thinking = Fields::of(thinking, Path::Key(fields.path(), "thinking"))?;
    match thinking.require_string("type")?.text().as_ref() {
        "enabled" => {
            let tokens = thinking.count("budget_tokens")?;
            let tokens = tokens.ok_or_else(|| Refused::missing(thinking.place("budget_tokens")))?;
            reasoning.budget = Some(Budget::Tokens(tokens));
            reasoning.shown = Some(Shown::Summary(SummaryLength::Auto));
        }
        "adaptive" | "between_tools" => reasoning.budget = Some(Budget::Adaptive),
        "disabled" => reasoning.budget = Some(Budget::Off),
        _ => return Err(thinking.wrong("type", "`enabled`, `adaptive` or `disabled`")),
    }
    match thinking.string("display")?.as_ref().map(Escaped::text).as_deref() {
        None => {}
        Some("summarized") => reasoning.shown = Some(Shown::Summary(SummaryLength::Auto)),
        Some("omitted") => reasoning.shown = Some(Shown::Omitted),
        Some(_) => return Err(thinking.wrong("display", "`summarized` or `omitted`")),
    }
    thinking.finish(report);
    Ok(reasoning)
}

/// Reads `output_config`, and `output_format`, which was its `format` in the beta.
fn read_output<'a>(
    fields: &mut Fields<'a, '_>,
    request: &mut ChatRequest<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    if let Some(format) = fields.object("output_format")? {
        request.output = read_format(format, Path::Key(fields.path(), "output_format"), report)?;
    }
    let Some(config) = fields.object("output_config")? else { return Ok(()) };
    let path = Path::Key(fields.path(), "output_config");
    let mut config = Fields::of(config, path)?;
    if let Some(word) = config.string("effort")? {
        let effort = Effort::read(&word.text());
        let known = || config.wrong("effort", "`low`, `medium`, `high`, `xhigh` or `max`");
        request.reasoning.effort = Some(effort.ok_or_else(known)?);
    }
    if let Some(format) = config.object("format")? {
        request.output = read_format(format, Path::Key(&path, "format"), report)?;
    }
    config.finish(report);
    Ok(())
}

fn read_format<'a>(format: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<OutputFormat<'a>, Refused> {
    let mut format = Fields::of(format, path)?;
    if !format.require_string("type")?.is("json_schema") {
        return Err(format.wrong("type", "`json_schema`"));
    }
    let schema = format.object("schema")?.ok_or_else(|| Refused::missing(format.place("schema")))?;
    format.finish(report);
    Ok(OutputFormat::JsonSchema { name: None, description: None, schema, strict: None })
}

/// Reads the `cache_control` of whatever carries one.
pub(super) fn cache_marker(fields: &mut Fields<'_, '_>, report: &mut Report) -> Result<Option<CacheMarker>, Refused> {
    let Some(control) = fields.object("cache_control")? else { return Ok(None) };
    let mut control = Fields::of(control, Path::Key(fields.path(), "cache_control"))?;
    if !control.require_string("type")?.is("ephemeral") {
        return Err(control.wrong("type", "`ephemeral`"));
    }
    let marker = match control.string("ttl")?.as_ref().map(Escaped::text).as_deref() {
        None => CacheMarker::Default,
        Some("5m") => CacheMarker::FiveMinutes,
        Some("1h") => CacheMarker::OneHour,
        Some(_) => return Err(control.wrong("ttl", "`5m` or `1h`")),
    };
    control.finish(report);
    Ok(Some(marker))
}
