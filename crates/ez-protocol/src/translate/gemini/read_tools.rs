//! Reads the tools of a Gemini request, and what it says of their use.

use super::super::fields::{Fields, Path, camel_case};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Tool, ToolChoice, ToolKind};
use crate::json::{Escaped, Value};

/// The functions that the model may call. Tools that Google runs are left out where there are functions, too.
pub(super) fn read_tools<'a>(tools: Vec<Value<'a>>, report: &mut Report) -> Result<Vec<Tool<'a>>, Refused> {
    let mut functions = Vec::new();
    let mut hosted = None;
    let list = Path::Key(&Path::Root, "tools");
    for (at, tool) in tools.into_iter().enumerate() {
        let path = Path::Index(&list, at);
        let mut fields = Fields::of_proto(tool, path)?;
        for (at, declaration) in fields.array("functionDeclarations")?.unwrap_or_default().into_iter().enumerate() {
            let declarations = Path::Key(&path, "functionDeclarations");
            functions.push(read_function(declaration, Path::Index(&declarations, at), report)?);
        }
        // All else are tools that Google runs, those too that are newer than this.
        for (name, value) in tool.members().unwrap_or_default() {
            let key = camel_case(&name.text());
            if key != "functionDeclarations" && !value.is_null() {
                fields.dropped(&key, report);
                hosted.get_or_insert_with(|| fields.place(&key));
            }
        }
    }
    match hosted {
        Some(place) if functions.is_empty() => {
            let reason = "is a tool that Google runs, which the upstream of this model cannot: declare functions, or leave \
                          it out";
            Err(Refused::inexpressible(place, reason))
        }
        _ => Ok(functions),
    }
}

fn read_function<'a>(declaration: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<Tool<'a>, Refused> {
    let mut fields = Fields::of_proto(declaration, path)?;
    let name = fields.require_string("name")?;
    let description = fields.string("description")?;
    let (as_openapi, as_json) = (fields.object("parameters")?, fields.object("parametersJsonSchema")?);
    if as_openapi.is_some() && as_json.is_some() {
        let message =
            format!("`{}` must not stand beside `parameters`: send one of them", fields.place("parametersJsonSchema"));
        return Err(Refused::invalid(fields.place("parametersJsonSchema"), message));
    }
    fields.finish(report);
    let kind = ToolKind::Function { schema: as_json.or(as_openapi) };
    Ok(Tool { name, description, kind, strict: None, cache: None })
}

/// What the model should or must call.
pub(super) fn read_tool_config<'a>(config: Value<'a>, report: &mut Report) -> Result<Option<ToolChoice<'a>>, Refused> {
    let path = Path::Key(&Path::Root, "toolConfig");
    let mut fields = Fields::of_proto(config, path)?;
    let calling = fields.take("functionCallingConfig");
    fields.finish(report);
    let Some(calling) = calling else { return Ok(None) };
    let mut fields = Fields::of_proto(calling, Path::Key(&path, "functionCallingConfig"))?;
    let mut names = Vec::new();
    for name in fields.array("allowedFunctionNames")?.unwrap_or_default() {
        names.push(name.string().ok_or_else(|| fields.wrong("allowedFunctionNames", "an array of strings"))?);
    }
    let mode = fields.string("mode")?.map(Escaped::into_text).unwrap_or_default().to_ascii_uppercase();
    let choice = match mode.as_str() {
        "" | "MODE_UNSPECIFIED" | "AUTO" => among(names, false),
        "VALIDATED" => {
            // Calls that are held to their schemas: others have no switch for it.
            fields.dropped("mode", report);
            among(names, false)
        }
        "ANY" => among(names, true),
        "NONE" => ToolChoice::None,
        _ => return Err(fields.wrong("mode", "AUTO, ANY, NONE or VALIDATED")),
    };
    fields.finish(report);
    Ok(Some(choice))
}

fn among(mut names: Vec<Escaped<'_>>, required: bool) -> ToolChoice<'_> {
    match (names.len(), required) {
        (0, false) => ToolChoice::Auto,
        (0, true) => ToolChoice::Required,
        (1, true) => ToolChoice::Tool(names.remove(0)),
        _ => ToolChoice::Allowed { names, required },
    }
}
