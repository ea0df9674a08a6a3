//! Reads the tools of a Responses request and the choice among them.

use std::collections::HashMap;

use super::super::fields::{Fields, Path};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Tool, ToolChoice, ToolKind};
use super::namespaces::{ADDITIONAL_TOOLS, flat_name};
use crate::json::{Escaped, Value};

/// The tools of a request: those that the client runs, and whether there were others.
#[derive(Default)]
pub(super) struct Tools<'a> {
    client: Vec<Tool<'a>>,
    /// The arrays that stood in the input, as they were written.
    additional: Vec<Value<'a>>,
    /// The type of the first one that the vendor runs.
    hosted: Option<Escaped<'a>>,
}

impl<'a> Tools<'a> {
    /// Reads `tools` of the request.
    pub(super) fn read(&mut self, fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<(), Refused> {
        let (parent, tools) = (*fields.path(), fields.array("tools")?.unwrap_or_default());
        let path = Path::Key(&parent, "tools");
        for (at, tool) in tools.into_iter().enumerate() {
            read_tool(self, None, Fields::of(tool, Path::Index(&path, at))?, report)?;
        }
        Ok(())
    }

    /// Reads an item of the input that adds tools. Other protocols have them in one place, so they hold for the whole
    /// conversation.
    pub(super) fn read_item(
        &mut self,
        item: Value<'a>,
        mut fields: Fields<'a, '_>,
        report: &mut Report,
    ) -> Result<(), Refused> {
        self.additional.extend(item.get("tools"));
        self.read(&mut fields, report)?;
        fields.ignore(&["type", "id", "status", "role"]);
        fields.finish(report);
        Ok(())
    }

    /// Adds the tools of the input behind those of the request, where new ones leave the prefix as it is.
    pub(super) fn add(&mut self, added: Self) {
        self.client.extend(added.client);
        self.additional.extend(added.additional);
        self.hosted = self.hosted.take().or(added.hosted);
    }

    /// What the input added, as the answer's writer needs it.
    pub(super) fn additional(&self) -> impl Iterator<Item = (&'static str, Value<'a>)> {
        self.additional.iter().map(|tools| (ADDITIONAL_TOOLS, *tools))
    }

    /// Those that can be passed on. Refused where the vendor's own were all that there was.
    pub(super) fn finish(self, choice: Option<&ToolChoice<'_>>) -> Result<Vec<Tool<'a>>, Refused> {
        match self.hosted {
            Some(kind) if self.client.is_empty() && choice != Some(&ToolChoice::None) => {
                let kind: String = kind.text().chars().take(64).collect();
                let reason =
                    format!("holds `{kind}` alone, which only an upstream that speaks Responses runs: leave it out");
                Err(Refused::inexpressible("tools", &reason))
            }
            _ if !self.additional.is_empty() => Ok(latest(self.client)),
            _ => Ok(self.client),
        }
    }
}

/// The tools without those that were told again: each stands where it stood first, as it was told last.
fn latest(tools: Vec<Tool<'_>>) -> Vec<Tool<'_>> {
    let mut places = HashMap::new();
    let mut latest: Vec<Tool<'_>> = Vec::with_capacity(tools.len());
    for tool in tools {
        let place = *places.entry(tool.name.text().into_owned()).or_insert(latest.len());
        match latest.get_mut(place) {
            Some(told) => *told = tool,
            None => latest.push(tool),
        }
    }
    latest
}

fn read_tool<'a>(
    tools: &mut Tools<'a>,
    namespace: Option<&Escaped<'a>>,
    mut fields: Fields<'a, '_>,
    report: &mut Report,
) -> Result<(), Refused> {
    let kind = fields.require_string("type")?;
    match kind.text().as_ref() {
        "function" => {
            let schema = fields.object("parameters")?;
            let tool = Tool {
                name: flat_name(namespace, fields.require_string("name")?),
                description: fields.string("description")?,
                kind: ToolKind::Function { schema },
                strict: fields.bool("strict")?,
                cache: None,
            };
            tools.client.push(tool);
        }
        "custom" => {
            // Text without a grammar is what it is anyway.
            let format = fields.object("format")?.filter(|format| !format.get("type").is_some_and(|t| t.is("text")));
            let tool = Tool {
                name: flat_name(namespace, fields.require_string("name")?),
                description: fields.string("description")?,
                kind: ToolKind::Custom { format },
                strict: None,
                cache: None,
            };
            tools.client.push(tool);
        }
        "namespace" if namespace.is_none() => {
            let name = fields.require_string("name")?;
            let inner = fields.array("tools")?.unwrap_or_default();
            let path = Path::Key(fields.path(), "tools");
            for (at, tool) in inner.into_iter().enumerate() {
                read_tool(tools, Some(&name), Fields::of(tool, Path::Index(&path, at))?, report)?;
            }
        }
        hosted => {
            report.dropped(&format!("tools.{hosted}"));
            tools.hosted.get_or_insert(kind);
            return Ok(());
        }
    }
    fields.finish(report);
    Ok(())
}

/// Reads `tool_choice`.
pub(super) fn read_tool_choice<'a>(
    fields: &mut Fields<'a, '_>,
    report: &mut Report,
) -> Result<Option<ToolChoice<'a>>, Refused> {
    let Some(choice) = fields.take("tool_choice") else { return Ok(None) };
    if let Some(word) = choice.string() {
        return match word.text().as_ref() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" => Ok(Some(ToolChoice::Required)),
            _ => Err(fields.wrong("tool_choice", "auto, none, required or an object")),
        };
    }
    let path = *fields.path();
    let mut inner = Fields::of(choice, Path::Key(&path, "tool_choice"))?;
    let kind = inner.require_string("type")?;
    let read = match kind.text().as_ref() {
        "function" | "custom" => {
            let namespace = inner.string("namespace")?;
            ToolChoice::Tool(flat_name(namespace.as_ref(), inner.require_string("name")?))
        }
        "allowed_tools" => read_allowed(&mut inner, report)?,
        hosted => return Err(hosted_choice(hosted)),
    };
    inner.finish(report);
    Ok(Some(read))
}

fn read_allowed<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<ToolChoice<'a>, Refused> {
    let required = match fields.string("mode")?.as_ref().map(Escaped::text).as_deref() {
        Some("required") => true,
        Some("auto") | None => false,
        Some(_) => return Err(fields.wrong("mode", "auto or required")),
    };
    let listed = fields.array("tools")?.unwrap_or_default();
    let mut names = Vec::with_capacity(listed.len());
    for tool in listed {
        let kind = tool.get("type").and_then(Value::string);
        match kind.as_ref().map(Escaped::text).as_deref() {
            Some("function" | "custom") => match tool.get("name").and_then(Value::string) {
                Some(name) => {
                    let namespace = tool.get("namespace").and_then(Value::string);
                    names.push(flat_name(namespace.as_ref(), name));
                }
                None => return Err(fields.wrong("tools", "tools with a `name`")),
            },
            Some(hosted) => report.dropped(&format!("tool_choice.tools.{hosted}")),
            None => return Err(fields.wrong("tools", "tools with a `type`")),
        }
    }
    if names.is_empty() {
        return Err(hosted_choice("allowed_tools"));
    }
    Ok(ToolChoice::Allowed { names, required })
}

fn hosted_choice(kind: &str) -> Refused {
    let kind: String = kind.chars().take(64).collect();
    let reason = format!("wants `{kind}`, which only an upstream that speaks Responses runs: choose a function");
    Refused::inexpressible("tool_choice", &reason)
}
