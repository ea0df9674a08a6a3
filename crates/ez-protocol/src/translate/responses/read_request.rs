//! Reads an OpenAI Responses request.

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{
    Block, ChatRequest, Effort, OutputFormat, ReasoningRequest, Role, Shown, SummaryLength, Text, Turn,
};
use super::read_input::read_input;
use super::read_tools::{Tools, read_tool_choice};
use crate::json::Value;

/// What a response repeats of its request, as far as the client wrote it; [`super::response`] knows the defaults. `store`
/// is not among them: nothing is stored.
const ECHOED: [&str; 14] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
];

/// The intermediate form of a request. What nobody can use is reported as dropped; what is wrong is refused.
pub(in crate::translate) fn read_request<'a>(body: Value<'a>, report: &mut Report) -> Result<ChatRequest<'a>, Refused> {
    let mut fields = Fields::of(body, Path::Root)?;
    let mut request = ChatRequest::new(Protocol::OpenaiResponses);
    request.echo = echo(body);
    // The gateway reads these two.
    fields.ignore(&["model", "stream"]);
    refuse_state(&mut fields)?;
    if let Some(instructions) = fields.string("instructions")?.filter(|text| !text.is_empty()) {
        let blocks = vec![Block::Text(Text::plain(instructions))];
        request.turns.push(Turn { role: Role::System, blocks });
    }
    let (mut tools, mut added) = (Tools::default(), Tools::default());
    request.turns.extend(read_input(fields.require("input")?, &mut added, report)?);
    tools.read(&mut fields, report)?;
    tools.add(added);
    request.echo.extend(tools.additional());
    request.tool_choice = read_tool_choice(&mut fields, report)?;
    request.tools = tools.finish(request.tool_choice.as_ref())?;
    request.parallel_tool_calls = fields.bool("parallel_tool_calls")?;
    request.max_output_tokens = fields.count("max_output_tokens")?;
    request.reasoning = read_reasoning(&mut fields, report)?;
    read_text(&mut fields, &mut request, report)?;
    read_params(&mut fields, &mut request, report)?;
    read_include(&mut fields, report)?;
    fields.finish(report);
    Ok(request)
}

fn echo(body: Value<'_>) -> Vec<(&'static str, Value<'_>)> {
    let members = body.members().unwrap_or_default();
    let key_of = |name: &str| ECHOED.iter().copied().find(|key| *key == name);
    members
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, value)| Some((key_of(&name.text())?, value)))
        .collect()
}

/// What needs the vendor to remember something.
fn refuse_state(fields: &mut Fields<'_, '_>) -> Result<(), Refused> {
    for key in ["previous_response_id", "conversation", "prompt"] {
        if fields.take(key).is_some() {
            let reason =
                "is kept by the vendor, and only an upstream that speaks Responses has it: send the whole input";
            return Err(Refused::inexpressible(key, reason));
        }
    }
    if fields.bool("background")? == Some(true) {
        let reason = "must be false: only an upstream that speaks Responses answers in the background";
        return Err(Refused::inexpressible("background", reason));
    }
    if fields.count("top_logprobs")?.is_some_and(|count| count > 0) {
        return Err(Refused::inexpressible("top_logprobs", "is not known to this model's upstream: leave it out"));
    }
    Ok(())
}

fn read_reasoning(fields: &mut Fields<'_, '_>, report: &mut Report) -> Result<ReasoningRequest, Refused> {
    let mut asked = ReasoningRequest::default();
    let Some(value) = fields.object("reasoning")? else { return Ok(asked) };
    let path = *fields.path();
    let mut inner = Fields::of(value, Path::Key(&path, "reasoning"))?;
    if let Some(word) = inner.string("effort")? {
        let expected = "none, minimal, low, medium, high, xhigh or max";
        asked.effort = Some(Effort::read(&word.text()).ok_or_else(|| inner.wrong("effort", expected))?);
    }
    // The older name of the same.
    let older = inner.string("generate_summary")?;
    if let Some(word) = inner.string("summary")?.or(older) {
        asked.shown = Some(match word.text().as_ref() {
            "auto" => Shown::Summary(SummaryLength::Auto),
            "concise" => Shown::Summary(SummaryLength::Concise),
            "detailed" => Shown::Summary(SummaryLength::Detailed),
            "none" => Shown::Omitted,
            _ => return Err(inner.wrong("summary", "auto, concise or detailed")),
        });
    }
    inner.finish(report);
    Ok(asked)
}

fn read_text<'a>(
    fields: &mut Fields<'a, '_>,
    request: &mut ChatRequest<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    let Some(value) = fields.object("text")? else { return Ok(()) };
    let path = *fields.path();
    let mut inner = Fields::of(value, Path::Key(&path, "text"))?;
    request.params.give(Param::Verbosity, "text.verbosity", inner.take("verbosity"));
    if let Some(format) = inner.object("format")? {
        let path = *inner.path();
        request.output = read_format(Fields::of(format, Path::Key(&path, "format"))?, report)?;
    }
    inner.finish(report);
    Ok(())
}

fn read_format<'a>(mut fields: Fields<'a, '_>, report: &mut Report) -> Result<OutputFormat<'a>, Refused> {
    let kind = fields.require_string("type")?;
    let format = match kind.text().as_ref() {
        "text" => OutputFormat::Text,
        "json_object" => OutputFormat::JsonObject,
        "json_schema" => OutputFormat::JsonSchema {
            name: fields.string("name")?,
            description: fields.string("description")?,
            schema: fields.object("schema")?.ok_or_else(|| Refused::missing(fields.place("schema")))?,
            strict: fields.bool("strict")?,
        },
        _ => return Err(fields.wrong("type", "text, json_object or json_schema")),
    };
    fields.finish(report);
    Ok(format)
}

fn read_params<'a>(
    fields: &mut Fields<'a, '_>,
    request: &mut ChatRequest<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    const PARAMS: [(Param, &str); 7] = [
        (Param::Temperature, "temperature"),
        (Param::TopP, "top_p"),
        (Param::Metadata, "metadata"),
        (Param::User, "user"),
        (Param::User, "safety_identifier"),
        (Param::PromptCacheKey, "prompt_cache_key"),
        (Param::ServiceTier, "service_tier"),
    ];
    for (param, name) in PARAMS {
        request.params.give(param, name, fields.take(name));
    }
    // Nothing is stored unless asked for.
    let store = fields.take("store");
    if store.is_some_and(|store| store.bool().is_none()) {
        return Err(fields.wrong("store", "true or false"));
    }
    request.params.give(Param::Store, "store", store.filter(|store| store.bool() == Some(true)));
    // Cutting off what does not fit is the vendor's doing.
    if fields.string("truncation")?.is_some_and(|word| !word.is("disabled")) {
        fields.dropped("truncation", report);
    }
    if let Some(options) = fields.object("stream_options")? {
        let path = *fields.path();
        let mut inner = Fields::of(options, Path::Key(&path, "stream_options"))?;
        // Padding against listeners, which this server adds to nothing.
        if inner.bool("include_obfuscation")? == Some(true) {
            inner.dropped("include_obfuscation", report);
        }
        inner.finish(report);
    }
    Ok(())
}

fn read_include(fields: &mut Fields<'_, '_>, report: &mut Report) -> Result<(), Refused> {
    for value in fields.array("include")?.unwrap_or_default() {
        let word = value.string().ok_or_else(|| fields.wrong("include", "an array of strings"))?;
        match word.text().as_ref() {
            // Every answer has it where the upstream tells it.
            "reasoning.encrypted_content" => {}
            "message.output_text.logprobs" => {
                let reason = "must not hold `message.output_text.logprobs`: this model's upstream does not tell them";
                return Err(Refused::inexpressible("include", reason));
            }
            _ => fields.dropped("include", report),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "read_request_tests.rs"]
pub(super) mod tests;
