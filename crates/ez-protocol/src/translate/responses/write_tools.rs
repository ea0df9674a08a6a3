//! Writes the tools of a Responses request and the choice among them.

use super::super::refused::Refused;
use super::super::request::{ChatRequest, Tool, ToolChoice, ToolKind};
use super::super::tool_names::ToolNames;
use super::super::tool_schema;
use crate::json::{Escaped, Value, Writer};

/// Writes `tools`, where there are some: the vendor refuses an empty list.
pub(super) fn write_tools(json: &mut Writer, tools: &[Tool<'_>], names: &ToolNames) {
    if tools.is_empty() {
        return;
    }
    json.key("tools").array(|json| tools.iter().for_each(|tool| write_tool(json, tool, names)));
}

fn write_tool(json: &mut Writer, tool: &Tool<'_>, names: &ToolNames) {
    json.object(|json| {
        let is_custom = matches!(tool.kind, ToolKind::Custom { .. });
        json.key("type").string(if is_custom { "custom" } else { "function" });
        json.key("name").escaped(&names.sent(&tool.name));
        if let Some(description) = &tool.description {
            json.key("description").escaped(description);
        }
        match tool.kind {
            ToolKind::Function { schema } => {
                json.key("parameters").raw(&tool_schema::of_object(schema));
                // The vendor's own default is true, and refuses most schemas.
                json.key("strict").bool(tool.strict.unwrap_or(false));
            }
            ToolKind::Custom { format } => {
                if let Some(format) = format {
                    write_format(json.key("format"), format);
                }
            }
        }
    });
}

/// Writes a custom tool's format: Chat Completions has the grammar in an object of its own, Responses flat.
fn write_format(json: &mut Writer, format: Value<'_>) {
    let Some(grammar) = format.get("grammar") else { return json.value(format) };
    json.object(|json| {
        json.key("type").string("grammar");
        for key in ["definition", "syntax"] {
            if let Some(value) = grammar.get(key) {
                json.key(key).value(value);
            }
        }
    });
}

/// Writes `tool_choice`. Refused where it wants a call and there is no tool.
pub(super) fn write_tool_choice(
    json: &mut Writer,
    request: &ChatRequest<'_>,
    names: &ToolNames,
) -> Result<(), Refused> {
    let Some(choice) = &request.tool_choice else { return Ok(()) };
    if request.tools.is_empty() {
        return match choice {
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Allowed { required: false, .. } => Ok(()),
            ToolChoice::Required | ToolChoice::Tool(_) | ToolChoice::Allowed { required: true, .. } => {
                let field = request.words().tool_choice;
                let message = format!("`{field}` wants a call, and there are no tools: define them, or leave it out");
                Err(Refused::invalid(field, message))
            }
        };
    }
    json.key("tool_choice");
    match choice {
        ToolChoice::Auto => json.string("auto"),
        ToolChoice::None => json.string("none"),
        ToolChoice::Required => json.string("required"),
        ToolChoice::Tool(name) => write_named(json, name, names),
        ToolChoice::Allowed { names: allowed, required } => json.object(|json| {
            json.key("type").string("allowed_tools");
            json.key("mode").string(if *required { "required" } else { "auto" });
            json.key("tools").array(|json| allowed.iter().for_each(|name| write_named(json, name, names)));
        }),
    }
    Ok(())
}

fn write_named(json: &mut Writer, name: &Escaped<'_>, names: &ToolNames) {
    json.object(|json| {
        json.key("type").string(if names.is_custom(name) { "custom" } else { "function" });
        json.key("name").escaped(&names.sent(name));
    });
}
