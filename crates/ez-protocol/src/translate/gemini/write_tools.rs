//! Writes the tools of a Gemini request, and what is said of their use.

use super::super::capability::SchemaStyle;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{ChatRequest, Tool, ToolChoice, ToolKind};
use super::super::restore::CUSTOM_SCHEMA;
use super::super::target::Target;
use super::openapi::openapi;
use crate::json::{Escaped, Value, Writer};

/// Writes the functions that the model may call; an empty list would be refused.
pub(super) fn write_tools(
    json: &mut Writer,
    request: &ChatRequest<'_>,
    target: Target<'_>,
    report: &mut Report,
) -> Result<(), Refused> {
    let words = request.words();
    if request.parallel_tool_calls == Some(false) {
        report.dropped(words.parallel_tool_calls);
    }
    if request.tools.is_empty() {
        return Ok(());
    }
    let mut written = Ok(());
    json.key("tools").array(|json| {
        json.object(|json| {
            json.key("functionDeclarations").array(|json| {
                written = request.tools.iter().try_for_each(|tool| {
                    report_losses(tool, words.tools, report);
                    write_function(json, tool, target).map_err(|reason| {
                        let reason = format!("has a function `{}` whose schema {reason}", tool.name.text());
                        Refused::inexpressible(words.tools, &reason)
                    })
                });
            });
        });
    });
    written
}

fn report_losses(tool: &Tool<'_>, tools: &str, report: &mut Report) {
    if tool.strict == Some(true) {
        report.dropped(&format!("{tools}.strict"));
    }
    if matches!(tool.kind, ToolKind::Custom { format: Some(_) }) {
        report.dropped(&format!("{tools}.format"));
    }
}

fn write_function(json: &mut Writer, tool: &Tool<'_>, target: Target<'_>) -> Result<(), &'static str> {
    let mut written = Ok(());
    json.object(|json| {
        json.key("name").escaped(&target.names.sent(&tool.name));
        if let Some(description) = tool.description.as_ref().filter(|description| !description.is_empty()) {
            json.key("description").escaped(description);
        }
        let schema = match tool.kind {
            ToolKind::Function { schema } => schema,
            ToolKind::Custom { .. } => Value::parse_object(CUSTOM_SCHEMA),
        };
        if let Some(schema) = schema {
            written = write_schema(json, schema, target);
        }
    });
    written
}

fn write_schema(json: &mut Writer, schema: Value<'_>, target: Target<'_>) -> Result<(), &'static str> {
    match target.capabilities.schema {
        SchemaStyle::JsonSchema => json.key("parametersJsonSchema").value(schema),
        SchemaStyle::Openapi => {
            let made = openapi(schema)?;
            if !made.is_empty_object {
                json.key("parameters").raw(&made.json);
            }
        }
    }
    Ok(())
}

/// Writes what the model should or must call, where there is something to call.
pub(super) fn write_tool_config(json: &mut Writer, request: &ChatRequest<'_>, target: Target<'_>, report: &mut Report) {
    let Some(choice) = request.tool_choice.as_ref().filter(|_| !request.tools.is_empty()) else { return };
    let (mode, names): (&str, &[Escaped<'_>]) = match choice {
        ToolChoice::Auto => ("AUTO", &[]),
        ToolChoice::None => ("NONE", &[]),
        ToolChoice::Required => ("ANY", &[]),
        ToolChoice::Tool(name) => ("ANY", std::slice::from_ref(name)),
        ToolChoice::Allowed { names, required: true } => ("ANY", names),
        ToolChoice::Allowed { required: false, .. } => {
            // Names stand beside ANY alone.
            report.dropped(request.words().tool_choice);
            ("AUTO", &[])
        }
    };
    json.key("toolConfig").object(|json| {
        json.key("functionCallingConfig").object(|json| {
            json.key("mode").string(mode);
            if !names.is_empty() {
                json.key("allowedFunctionNames")
                    .array(|json| names.iter().for_each(|name| json.escaped(&target.names.sent(name))));
            }
        });
    });
}
