//! Reads the tools of a request, and which of them the model should or must call.

use super::super::fields::{Fields, Path};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{ChatRequest, Tool, ToolChoice, ToolKind};
use super::read_request::cache_marker;
use crate::json::{Escaped, Value};

/// Reads `tools` and `tool_choice`. Tools that Anthropic runs or defines are left out where others remain.
pub(super) fn read_tools<'a>(
    fields: &mut Fields<'a, '_>,
    request: &mut ChatRequest<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    let given = fields.array("tools")?.unwrap_or_default();
    let list = Path::Key(fields.path(), "tools");
    let mut hosted = Vec::new();
    for (at, tool) in given.into_iter().enumerate() {
        match read_tool(tool, Path::Index(&list, at), report)? {
            Read::Tool(tool) => request.tools.push(tool),
            Read::Hosted(tool) => hosted.push(tool),
        }
    }
    if let Some(choice) = fields.object("tool_choice")? {
        read_choice(Fields::of(choice, Path::Key(fields.path(), "tool_choice"))?, request, report)?;
    }
    if let Some(ToolChoice::Tool(name)) = &request.tool_choice
        && hosted.iter().any(|tool| tool.name.as_ref() == Some(name))
    {
        return Err(only_hosted("tool_choice.name", &name.text()));
    }
    match hosted.first() {
        Some(tool) if request.tools.is_empty() => Err(only_hosted("tools", &tool.family)),
        _ => {
            hosted.iter().for_each(|tool| report.dropped(&format!("tools.{}", tool.family)));
            Ok(())
        }
    }
}

enum Read<'a> {
    Tool(Tool<'a>),
    Hosted(Hosted<'a>),
}

/// A tool that Anthropic runs or defines.
struct Hosted<'a> {
    name: Option<Escaped<'a>>,
    /// Its type without the version: `web_search`.
    family: String,
}

fn only_hosted(param: &str, tool: &str) -> Refused {
    let reason = format!(
        "asks for `{tool}`, a tool of Anthropic's own: define a tool with an `input_schema`, or use an Anthropic model"
    );
    Refused::inexpressible(param, &reason)
}

fn read_tool<'a>(tool: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<Read<'a>, Refused> {
    let mut fields = Fields::of(tool, path)?;
    if let Some(kind) = fields.string("type")?.filter(|kind| !kind.is("custom")) {
        let known = || fields.wrong("type", "`custom`, or left out");
        let family = hosted_family(&kind.text()).ok_or_else(known)?.to_owned();
        return Ok(Read::Hosted(Hosted { name: fields.string("name")?, family }));
    }
    let tool = Tool {
        name: fields.require_string("name")?,
        description: fields.string("description")?,
        kind: ToolKind::Function { schema: fields.object("input_schema")? },
        strict: fields.bool("strict")?,
        cache: cache_marker(&mut fields, report)?,
    };
    fields.finish(report);
    Ok(Read::Tool(tool))
}

/// The family of a tool of Anthropic's own, which types with a version name: that of `web_search_20250305` is
/// `web_search`.
fn hosted_family(kind: &str) -> Option<&str> {
    match kind.rsplit_once('_') {
        Some((family, version)) if version.len() == 8 && version.bytes().all(|b| b.is_ascii_digit()) => Some(family),
        _ => (kind == "mcp_toolset").then_some(kind),
    }
}

fn read_choice<'a>(
    mut choice: Fields<'a, '_>,
    request: &mut ChatRequest<'a>,
    report: &mut Report,
) -> Result<(), Refused> {
    request.tool_choice = Some(match choice.require_string("type")?.text().as_ref() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(choice.require_string("name")?),
        _ => return Err(choice.wrong("type", "`auto`, `any`, `tool` or `none`")),
    });
    request.parallel_tool_calls = choice.bool("disable_parallel_tool_use")?.map(|is_disabled| !is_disabled);
    choice.finish(report);
    Ok(())
}
