//! Reads a Gemini generateContent request.

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::params::Param;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{ChatRequest, ToolChoice};
use super::read_config::read_config;
use super::read_tools::{read_tool_config, read_tools};
use super::read_turns::{read_contents, read_system};
use crate::json::Value;

/// The intermediate form of a request. What nobody can use is reported as dropped; what is wrong is refused. Its
/// schemas are JSON Schema already ([`super::with_json_schemas`]).
pub(in crate::translate) fn read_request<'a>(body: Value<'a>, report: &mut Report) -> Result<ChatRequest<'a>, Refused> {
    let mut fields = Fields::of_proto(body, Path::Root)?;
    let mut request = ChatRequest::new(Protocol::Gemini);
    // The URL names the model.
    fields.ignore(&["model"]);
    if fields.string("cachedContent")?.is_some_and(|name| !name.is_empty()) {
        let reason =
            "is content that Google keeps, and the upstream of this model cannot read it: send the content itself";
        return Err(Refused::inexpressible("cachedContent", reason));
    }
    if let Some(system) = fields.take("systemInstruction") {
        request.turns.extend(read_system(system, report)?);
    }
    read_contents(fields.require("contents")?, &mut request.turns, report)?;
    if let Some(tools) = fields.array("tools")? {
        request.tools = read_tools(tools, report)?;
    }
    if let Some(config) = fields.take("toolConfig") {
        request.tool_choice = read_tool_config(config, report)?;
    }
    settle_choice(&mut request)?;
    if let Some(config) = fields.take("generationConfig") {
        read_config(config, &mut request, report)?;
    }
    request.params.give(Param::SafetySettings, "safetySettings", fields.take("safetySettings"));
    request.params.give(Param::Metadata, "labels", fields.take("labels"));
    request.params.give(Param::ServiceTier, "serviceTier", fields.take("serviceTier"));
    fields.finish(report);
    Ok(request)
}

/// A choice among no tools says nothing, or cannot be met.
fn settle_choice(request: &mut ChatRequest<'_>) -> Result<(), Refused> {
    if !request.tools.is_empty() {
        return Ok(());
    }
    match request.tool_choice.take() {
        None | Some(ToolChoice::Auto | ToolChoice::None | ToolChoice::Allowed { required: false, .. }) => Ok(()),
        Some(_) => {
            let message = "`toolConfig.functionCallingConfig.mode` asks for a call, and there is no function to call: \
                           declare one in `tools`, or leave the mode out";
            Err(Refused::invalid("toolConfig.functionCallingConfig.mode", message.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests;
