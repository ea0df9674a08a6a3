//! Writes the `generationConfig` of a Gemini request.

use super::super::capability::{ReasoningStyle, Sampling, SchemaStyle};
use super::super::effort::Ask;
use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Budget, ChatRequest, OutputFormat, Shown, SummaryLength};
use super::super::target::Target;
use super::openapi::openapi;
use crate::json::{Value, Writer};

/// The sampling parameters in Gemini's order and words.
const SAMPLING: [(Sampling, &str); 6] = [
    (Sampling::Temperature, "temperature"),
    (Sampling::TopP, "topP"),
    (Sampling::TopK, "topK"),
    (Sampling::Seed, "seed"),
    (Sampling::PresencePenalty, "presencePenalty"),
    (Sampling::FrequencyPenalty, "frequencyPenalty"),
];

/// Writes what the output should be like, where anything is said of it.
pub(super) fn write_config(
    json: &mut Writer,
    request: &mut ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<(), Refused> {
    let ask = request.reasoning.for_model(&target.capabilities.reasoning);
    let mut config = Writer::default();
    let mut written = Ok(());
    config.object(|json| {
        write_caps(json, request);
        written = write_sampling(json, request, target, ask);
        if written.is_ok() {
            written = write_output(json, request, target, report);
        }
        write_thinking(json, request, target, ask, report);
        if let Some(resolution) = request.params.take(Param::MediaResolution) {
            json.key("mediaResolution").value(resolution);
        }
    });
    written?;
    let config = config.finish();
    if config != "{}" {
        json.key("generationConfig").raw(&config);
    }
    Ok(())
}

fn write_caps(json: &mut Writer, request: &ChatRequest<'_>) {
    if request.choices > 1 {
        json.key("candidateCount").count(u64::from(request.choices));
    }
    if let Some(max) = request.max_output_tokens {
        json.key("maxOutputTokens").count(max);
    }
    if !request.stop.is_empty() {
        json.key("stopSequences").array(|json| request.stop.iter().for_each(|stop| json.escaped(stop)));
    }
}

fn write_sampling(
    json: &mut Writer,
    request: &mut ChatRequest<'_>,
    target: Target<'_>,
    ask: Ask,
) -> Result<(), Refused> {
    let capabilities = target.capabilities;
    let is_reasoning = !matches!(ask, Ask::Nothing | Ask::Off);
    for (sampling, key) in SAMPLING {
        let is_refused = capabilities.rejects.contains(&sampling)
            || (is_reasoning && capabilities.rejects_while_reasoning.contains(&sampling));
        // What is not taken is reported.
        if is_refused || (sampling == Sampling::Seed && !has_small_seed(request)) {
            continue;
        }
        if let Some(value) = request.params.take_number(sampling.param())? {
            json.key(key).value(value);
        }
    }
    Ok(())
}

/// Whether the seed is one of 32 bits; Gemini refuses larger ones.
fn has_small_seed(request: &ChatRequest<'_>) -> bool {
    request.params.get(Param::Seed).is_some_and(|seed| seed.as_str().parse::<i32>().is_ok())
}

fn write_output(
    json: &mut Writer,
    request: &ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<(), Refused> {
    match &request.output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => json.key("responseMimeType").string("application/json"),
        OutputFormat::JsonSchema { description, schema, .. } => {
            if description.is_some() {
                report.dropped(&format!("{}.description", request.words().output));
            }
            json.key("responseMimeType").string("application/json");
            write_schema(json, *schema, target)
                .map_err(|reason| Refused::inexpressible(request.words().output, reason))?;
        }
    }
    Ok(())
}

fn write_schema(json: &mut Writer, schema: Value<'_>, target: Target<'_>) -> Result<(), &'static str> {
    match target.capabilities.schema {
        SchemaStyle::JsonSchema => json.key("responseJsonSchema").value(schema),
        SchemaStyle::Openapi => json.key("responseSchema").raw(&openapi(schema)?.json),
    }
    Ok(())
}

fn write_thinking(json: &mut Writer, request: &ChatRequest<'_>, target: Target<'_>, ask: Ask, report: &mut Report) {
    let (reasoning, words) = (&request.reasoning, request.words());
    if ask == Ask::Nothing {
        if reasoning.effort.is_some() {
            report.dropped(words.effort);
        }
        // As the model sees fit is what it does anyway.
        if reasoning.budget.is_some_and(|budget| budget != Budget::Adaptive) {
            report.dropped(words.budget);
        }
    }
    let can_show = target.capabilities.reasoning != ReasoningStyle::None;
    let shows = match reasoning.shown {
        None | Some(Shown::Omitted) => false,
        Some(Shown::Summary(length)) => {
            if !can_show || length != SummaryLength::Auto {
                report.dropped(words.shown);
            }
            can_show
        }
    };
    if ask == Ask::Nothing && !shows {
        return;
    }
    json.key("thinkingConfig").object(|json| {
        match ask {
            Ask::Nothing => {}
            Ask::Off => json.key("thinkingBudget").count(0),
            Ask::Adaptive => json.key("thinkingBudget").raw("-1"),
            Ask::Tokens(tokens) => json.key("thinkingBudget").count(tokens),
            Ask::Effort(effort) => json.key("thinkingLevel").string(&effort.word().to_ascii_uppercase()),
        }
        if shows {
            json.key("includeThoughts").bool(true);
        }
    });
}
