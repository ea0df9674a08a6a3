//! Reads the `generationConfig` of a Gemini request.

use super::super::fields::{Fields, Path};
use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Budget, ChatRequest, Effort, OutputFormat, ReasoningRequest, Shown, SummaryLength};
use crate::json::{Escaped, Kind, Value};

/// The parameters that are one value each: their field, and what the client calls it.
const PARAMS: [(Param, &str, &str); 7] = [
    (Param::Temperature, "temperature", "generationConfig.temperature"),
    (Param::TopP, "topP", "generationConfig.topP"),
    (Param::TopK, "topK", "generationConfig.topK"),
    (Param::Seed, "seed", "generationConfig.seed"),
    (Param::PresencePenalty, "presencePenalty", "generationConfig.presencePenalty"),
    (Param::FrequencyPenalty, "frequencyPenalty", "generationConfig.frequencyPenalty"),
    (Param::MediaResolution, "mediaResolution", "generationConfig.mediaResolution"),
];

/// Reads what the output should be like.
pub(super) fn read_config<'a>(
    config: Value<'a>,
    request: &mut ChatRequest<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    let mut fields = Fields::of_proto(config, Path::Key(&Path::Root, "generationConfig"))?;
    request.max_output_tokens = fields.count("maxOutputTokens")?;
    for stop in fields.array("stopSequences")?.unwrap_or_default() {
        request.stop.push(stop.string().ok_or_else(|| fields.wrong("stopSequences", "an array of strings"))?);
    }
    if let Some(count) = fields.count("candidateCount")? {
        let count = u32::try_from(count).map_err(|_| fields.wrong("candidateCount", "a small number"))?;
        request.choices = count.max(1);
    }
    for (param, key, name) in PARAMS {
        request.params.give(param, name, fields.take(key));
    }
    request.output = read_output(&mut fields)?;
    if let Some(thinking) = fields.take("thinkingConfig") {
        request.reasoning = read_thinking(thinking, &Path::Key(&Path::Root, "generationConfig"), report)?;
    }
    refuse_other_output(&mut fields)?;
    fields.finish(report);
    Ok(())
}

fn read_output<'a>(fields: &mut Fields<'a, '_>) -> Result<OutputFormat<'a>, Refused> {
    let media_type = fields.string("responseMimeType")?.map(Escaped::into_text).unwrap_or_default();
    let (as_openapi, as_json) = (fields.object("responseSchema")?, fields.object("responseJsonSchema")?);
    let schema = as_json.or(as_openapi);
    match (media_type.as_ref(), schema) {
        ("" | "text/plain", None) => Ok(OutputFormat::Text),
        ("application/json", None) => Ok(OutputFormat::JsonObject),
        ("" | "application/json", Some(schema)) => {
            Ok(OutputFormat::JsonSchema { name: None, description: None, schema, strict: None })
        }
        ("text/plain", Some(_)) => {
            let message = "`generationConfig.responseMimeType` must be application/json beside a schema";
            Err(Refused::invalid(fields.place("responseMimeType"), message.to_owned()))
        }
        _ => {
            let reason = "is none that the upstream of this model can answer with: send application/json or text/plain";
            Err(Refused::inexpressible(fields.place("responseMimeType"), reason))
        }
    }
}

fn read_thinking(config: Value<'_>, path: &Path<'_>, report: &mut Report) -> Result<ReasoningRequest, Refused> {
    let mut fields = Fields::of_proto(config, Path::Key(path, "thinkingConfig"))?;
    let mut reasoning = ReasoningRequest::default();
    if let Some(budget) = fields.take("thinkingBudget") {
        reasoning.budget = Some(match (budget.as_str(), budget.count()) {
            ("-1", _) => Budget::Adaptive,
            (_, Some(0)) => Budget::Off,
            (_, Some(tokens)) => Budget::Tokens(tokens),
            (_, None) => return Err(fields.wrong("thinkingBudget", "-1, 0 or a number of tokens")),
        });
    }
    if let Some(level) = fields.string("thinkingLevel")? {
        let level = level.text().to_ascii_lowercase();
        reasoning.effort = match level.as_str() {
            "" | "thinking_level_unspecified" => None,
            word => {
                let effort = Effort::read(word).filter(|effort| *effort != Effort::None);
                Some(effort.ok_or_else(|| fields.wrong("thinkingLevel", "MINIMAL, LOW, MEDIUM or HIGH"))?)
            }
        };
    }
    reasoning.shown = fields.bool("includeThoughts")?.map(|is_shown| match is_shown {
        true => Shown::Summary(SummaryLength::Auto),
        false => Shown::Omitted,
    });
    fields.finish(report);
    Ok(reasoning)
}

/// What changes the answer into something that only Google makes.
fn refuse_other_output(fields: &mut Fields<'_, '_>) -> Result<(), Refused> {
    let refused =
        |fields: &Fields<'_, '_>, key: &str, reason: &str| Err(Refused::inexpressible(fields.place(key), reason));
    for modality in fields.array("responseModalities")?.unwrap_or_default() {
        let word = modality.string().ok_or_else(|| fields.wrong("responseModalities", "an array of strings"))?;
        if !matches!(word.text().to_ascii_uppercase().as_str(), "TEXT" | "MODALITY_UNSPECIFIED") {
            return refused(fields, "responseModalities", "asks for more than text, which the upstream cannot make");
        }
    }
    let wants_logprobs = fields.bool("responseLogprobs")?.unwrap_or(false);
    if wants_logprobs || fields.count("logprobs")?.is_some_and(|count| count > 0) {
        return refused(fields, "responseLogprobs", "cannot be asked of the upstream: leave it and `logprobs` out");
    }
    for key in ["speechConfig", "responseFormat"] {
        if fields.take(key).is_some_and(|value| !is_empty(value)) {
            return refused(fields, key, "has no counterpart at the upstream: leave it out");
        }
    }
    Ok(())
}

fn is_empty(value: Value<'_>) -> bool {
    matches!(value.kind(), Kind::Object | Kind::Array) && value.as_str().len() == 2
}
