//! Writes the tools of a request, and which of them it wants.

use std::collections::HashSet;

use super::super::report::Report;
use super::super::request::{ChatRequest, Tool, ToolChoice, ToolKind};
use super::super::restore::CUSTOM_SCHEMA;
use super::super::target::Target;
use super::super::tool_schema;
use crate::json::{Escaped, Value, Writer};

/// Which tools are sent, and with what choice.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    choice: Option<ToolChoice<'a>>,
    parallel: Option<bool>,
}

/// A choice without tools is refused by OpenAI, and says nothing: it is left out. Servers that know no list of allowed
/// tools get only those that are allowed.
pub(super) fn plan<'a>(request: &mut ChatRequest<'a>, target: Target<'_>, report: &mut Report) -> Tools<'a> {
    let mut choice = request.tool_choice.take();
    if target.capabilities.compatible
        && let Some(ToolChoice::Allowed { names, required }) = &choice
    {
        let names: HashSet<_> = names.iter().map(Escaped::text).collect();
        request.tools.retain(|tool| names.contains(&tool.name.text()));
        choice = Some(if *required { ToolChoice::Required } else { ToolChoice::Auto });
    }
    if !request.tools.is_empty() {
        return Tools { choice, parallel: request.parallel_tool_calls };
    }
    let words = request.words();
    if choice.is_some() {
        report.dropped(words.tool_choice);
    }
    if request.parallel_tool_calls.is_some() {
        report.dropped(words.parallel_tool_calls);
    }
    Tools { choice: None, parallel: None }
}

/// Writes `tools`, `tool_choice` and `parallel_tool_calls`.
pub(super) fn write(json: &mut Writer, request: &ChatRequest<'_>, tools: &Tools<'_>, target: Target<'_>) {
    if !request.tools.is_empty() {
        json.key("tools").array(|json| request.tools.iter().for_each(|tool| write_tool(json, tool, target)));
    }
    if let Some(choice) = &tools.choice {
        json.key("tool_choice");
        write_choice(json, choice, target);
    }
    if let Some(parallel) = tools.parallel {
        json.key("parallel_tool_calls").bool(parallel);
    }
}

fn write_tool(json: &mut Writer, tool: &Tool<'_>, target: Target<'_>) {
    let head = |json: &mut Writer| {
        json.key("name").escaped(&target.names.sent(&tool.name));
        if let Some(description) = &tool.description {
            json.key("description").escaped(description);
        }
    };
    json.object(|json| match tool.kind {
        ToolKind::Custom { format } if !target.capabilities.compatible => {
            json.key("type").string("custom");
            json.key("custom").object(|json| {
                head(json);
                if let Some(format) = format {
                    write_format(json.key("format"), format);
                }
            });
        }
        ToolKind::Custom { .. } => {
            json.key("type").string("function");
            json.key("function").object(|json| {
                head(json);
                json.key("parameters").raw(CUSTOM_SCHEMA);
            });
        }
        ToolKind::Function { schema } => {
            json.key("type").string("function");
            json.key("function").object(|json| {
                head(json);
                json.key("parameters").raw(&tool_schema::of_object(schema));
                if let Some(strict) = tool.strict {
                    json.key("strict").bool(strict);
                }
            });
        }
    });
}

/// Writes a custom tool's format: Responses has the grammar flat, Chat Completions in an object of its own.
fn write_format(json: &mut Writer, format: Value<'_>) {
    let grammar = if format.get("grammar").is_none() { format.get("definition") } else { None };
    let Some(definition) = grammar else { return json.value(format) };
    json.object(|json| {
        json.key("type").string("grammar");
        json.key("grammar").object(|json| {
            json.key("definition").value(definition);
            if let Some(syntax) = format.get("syntax") {
                json.key("syntax").value(syntax);
            }
        });
    });
}

fn write_choice(json: &mut Writer, choice: &ToolChoice<'_>, target: Target<'_>) {
    match choice {
        ToolChoice::Auto => json.string("auto"),
        ToolChoice::None => json.string("none"),
        ToolChoice::Required => json.string("required"),
        ToolChoice::Tool(name) => write_named(json, name, target),
        ToolChoice::Allowed { names, required } => json.object(|json| {
            json.key("type").string("allowed_tools");
            json.key("allowed_tools").object(|json| {
                json.key("mode").string(if *required { "required" } else { "auto" });
                json.key("tools").array(|json| names.iter().for_each(|name| write_named(json, name, target)));
            });
        }),
    }
}

fn write_named(json: &mut Writer, name: &Escaped<'_>, target: Target<'_>) {
    let is_custom = target.names.is_custom(name) && !target.capabilities.compatible;
    let kind = if is_custom { "custom" } else { "function" };
    json.object(|json| {
        json.key("type").string(kind);
        json.key(kind).object(|json| json.key("name").escaped(&target.names.sent(name)));
    });
}
