//! Writes a Gemini generateContent request. The URL names the model and whether the answer is streamed; the body does
//! not.

use ez_contract::Protocol;

use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{ChatRequest, OutputFormat};
use super::super::target::{Target, Written};
use super::write_config::write_config;
use super::write_tools::{write_tool_config, write_tools};
use super::write_turns::{arranged, report_losses, write_contents, write_system};
use crate::json::Writer;

/// The most stop sequences that Gemini takes.
const MAX_STOP_SEQUENCES: usize = 5;
/// The most candidates that Gemini makes.
const MAX_CANDIDATES: u32 = 8;

/// The request for an upstream. What it has no words for is reported as dropped, or refused.
pub(in crate::translate) fn write_request(
    mut request: ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<Written, Refused> {
    require_expressible(&request, target)?;
    report_losses(&request, report);
    let arranged = arranged(std::mem::take(&mut request.turns));
    let mut json = Writer::with_capacity(8 << 10);
    let mut written = Ok(());
    json.object(|json| {
        write_system(json, &arranged.instructions);
        write_contents(json.key("contents"), &arranged.turns, target);
        written = write_parameters(json, &mut request, target, report);
    });
    written?;
    request.params.drop_rest(report);
    Ok(Written { body: json.finish(), output_tool: None })
}

/// What would change the answer where it were left out.
fn require_expressible(request: &ChatRequest<'_>, target: Target<'_>) -> Result<(), Refused> {
    let words = request.words();
    if request.stop.len() > MAX_STOP_SEQUENCES {
        return Err(Refused::inexpressible(
            words.stop,
            "has more than 5 sequences, and this model takes no more: send fewer",
        ));
    }
    if request.choices > MAX_CANDIDATES {
        return Err(Refused::inexpressible(
            words.choices,
            "is more than the 8 answers that this model makes: send less",
        ));
    }
    let has_tools = !request.tools.is_empty();
    if has_tools && request.output != OutputFormat::Text && !target.capabilities.tools_beside_schema {
        let reason = "cannot stand beside `tools` with this model: leave one of them out, or ask a newer model";
        return Err(Refused::inexpressible(words.output, reason));
    }
    Ok(())
}

fn write_parameters(
    json: &mut Writer,
    request: &mut ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<(), Refused> {
    write_tools(json, request, target, report)?;
    write_tool_config(json, request, target, report);
    if let Some(settings) = request.params.take(Param::SafetySettings) {
        json.key("safetySettings").value(settings);
    }
    write_config(json, request, target, report)?;
    // Labels are Vertex's, and its own clients know that.
    if request.source == Protocol::Gemini
        && let Some(labels) = request.params.take(Param::Metadata)
    {
        json.key("labels").value(labels);
    }
    write_tier(json, request);
    Ok(())
}

/// The tiers that both sides have; others stay to be reported.
fn write_tier(json: &mut Writer, request: &mut ChatRequest<'_>) {
    let Some(told) = request.params.get(Param::ServiceTier).and_then(|value| value.string()) else { return };
    let tier = match told.text().to_ascii_lowercase().as_str() {
        "flex" => "flex",
        "priority" => "priority",
        "default" | "standard" | "standard_only" => "standard",
        _ => return,
    };
    request.params.take(Param::ServiceTier);
    json.key("serviceTier").string(tier);
}

#[cfg(test)]
mod tests;
