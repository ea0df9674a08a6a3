//! Reads the tools of a request, and which of them it wants: functions, custom tools, and the older `functions`.

use super::super::fields::{Fields, Path};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Tool, ToolChoice, ToolKind};
use super::read_content;
use crate::json::{Escaped, Kind, Value};

/// Clients that define tools so know calls as `function_call` alone: the answer is told by this mark among what it
/// repeats.
pub(super) const OLDER_CALLS: &str = "functions";

/// What the model may call, and the older `functions` where these are all. Tools that the vendor runs itself are left out
/// where others remain.
pub(super) fn tools<'a>(
    fields: &mut Fields<'a, '_>,
    report: &mut Report,
) -> Result<(Vec<Tool<'a>>, Option<Value<'a>>), Refused> {
    let path = *fields.path();
    let mut tools = Vec::new();
    let mut hosted = Vec::new();
    let list = Path::Key(&path, "tools");
    for (at, tool) in fields.array("tools")?.unwrap_or_default().into_iter().enumerate() {
        let place = Path::Index(&list, at);
        let mut tool = Fields::of(tool, place)?;
        let kind = tool.string("type")?.unwrap_or_else(|| Escaped::of("function"));
        match kind.text().as_ref() {
            "function" => tools.push(function(tool, place, report)?),
            "custom" => tools.push(custom(tool, place, report)?),
            other => hosted.push(other.to_owned()),
        }
    }
    let older = fields.take(OLDER_CALLS);
    let is_older = older.is_some() && tools.is_empty();
    let list = Path::Key(&path, OLDER_CALLS);
    if let Some(functions) = older {
        let functions = functions.elements().ok_or_else(|| fields.wrong(OLDER_CALLS, "an array"))?;
        for (at, function) in functions.into_iter().enumerate() {
            tools.push(definition(Fields::of(function, Path::Index(&list, at))?, report)?);
        }
    }
    match hosted.first() {
        Some(kind) if tools.is_empty() => {
            let reason = format!("holds `{kind}`, which only its own vendor runs: define functions instead");
            return Err(Refused::inexpressible("tools", &reason));
        }
        _ => hosted.iter().for_each(|kind| report.dropped(&format!("tools.{kind}"))),
    }
    Ok((tools, older.filter(|_| is_older)))
}

/// OpenAI's search goes by a parameter of its own.
pub(super) fn web_search(fields: &mut Fields<'_, '_>, has_tools: bool, report: &mut Report) -> Result<(), Refused> {
    if fields.take("web_search_options").is_none() {
        return Ok(());
    }
    if !has_tools {
        let reason = "asks for a search that only OpenAI runs: define a function for it, or leave it out";
        return Err(Refused::inexpressible("web_search_options", reason));
    }
    fields.dropped("web_search_options", report);
    Ok(())
}

fn function<'a>(mut tool: Fields<'a, '_>, place: Path<'_>, report: &mut Report) -> Result<Tool<'a>, Refused> {
    let cache = read_content::cache_marker(&mut tool)?;
    let function = Fields::of(tool.require("function")?, Path::Key(&place, "function"))?;
    tool.finish(report);
    let mut read = definition(function, report)?;
    read.cache = cache.or(read.cache);
    Ok(read)
}

/// What stands under `function`, and in `functions`.
fn definition<'a>(mut function: Fields<'a, '_>, report: &mut Report) -> Result<Tool<'a>, Refused> {
    let tool = Tool {
        name: function.require_string("name")?,
        description: function.string("description")?,
        kind: ToolKind::Function { schema: function.object("parameters")? },
        strict: function.bool("strict")?,
        cache: read_content::cache_marker(&mut function)?,
    };
    function.finish(report);
    Ok(tool)
}

fn custom<'a>(mut tool: Fields<'a, '_>, place: Path<'_>, report: &mut Report) -> Result<Tool<'a>, Refused> {
    let cache = read_content::cache_marker(&mut tool)?;
    let mut custom = Fields::of(tool.require("custom")?, Path::Key(&place, "custom"))?;
    tool.finish(report);
    let tool = Tool {
        name: custom.require_string("name")?,
        description: custom.string("description")?,
        kind: ToolKind::Custom { format: custom.object("format")? },
        strict: None,
        cache,
    };
    custom.finish(report);
    Ok(tool)
}

/// What the model should or must call.
pub(super) fn tool_choice<'a>(
    fields: &mut Fields<'a, '_>,
    report: &mut Report,
) -> Result<Option<ToolChoice<'a>>, Refused> {
    let path = *fields.path();
    let (newer, older) = (fields.take("tool_choice"), fields.take("function_call"));
    let (key, choice) = match (newer, older) {
        (Some(choice), _) => ("tool_choice", choice),
        (None, Some(choice)) => ("function_call", choice),
        (None, None) => return Ok(None),
    };
    if let Some(word) = choice.string() {
        return match word.text().as_ref() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            _ => Err(fields.wrong(key, "`none`, `auto`, `required` or an object")),
        };
    }
    let place = Path::Key(&path, key);
    let mut choice = Fields::of(choice, place)?;
    let read = if key == "function_call" {
        ToolChoice::Tool(choice.require_string("name")?)
    } else {
        match choice.require_string("type")?.text().as_ref() {
            kind @ ("function" | "custom") => {
                let mut named = Fields::of(choice.require(kind)?, Path::Key(&place, kind))?;
                let name = named.require_string("name")?;
                named.finish(report);
                ToolChoice::Tool(name)
            }
            "allowed_tools" => {
                let place = Path::Key(&place, "allowed_tools");
                allowed(Fields::of(choice.require("allowed_tools")?, place)?, report)?
            }
            _ => {
                let reason = "wants a tool that only its own vendor runs: name a function";
                return Err(Refused::inexpressible(key, reason));
            }
        }
    };
    choice.finish(report);
    Ok(Some(read))
}

fn allowed<'a>(mut allowed: Fields<'a, '_>, report: &mut Report) -> Result<ToolChoice<'a>, Refused> {
    let required = match allowed.string("mode")? {
        None => false,
        Some(mode) if mode.is("auto") => false,
        Some(mode) if mode.is("required") => true,
        Some(_) => return Err(allowed.wrong("mode", "`auto` or `required`")),
    };
    let tools = allowed.array("tools")?.unwrap_or_default();
    let mut names = Vec::with_capacity(tools.len());
    for tool in tools {
        match name_of(tool) {
            Some(name) => names.push(name),
            None => report.dropped(&format!("{}.tools", allowed.path().general())),
        }
    }
    if names.is_empty() {
        return Err(allowed.wrong("tools", "an array with a function or a custom tool at least"));
    }
    allowed.finish(report);
    Ok(ToolChoice::Allowed { names, required })
}

/// The name of a tool in a list of those that are allowed; `None` for tools of the vendor.
fn name_of(tool: Value<'_>) -> Option<Escaped<'_>> {
    if tool.kind() != Kind::Object {
        return None;
    }
    let named = tool.get("function").or_else(|| tool.get("custom")).unwrap_or(tool);
    named.get("name")?.string()
}
