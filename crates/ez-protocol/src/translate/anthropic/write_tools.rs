//! Writes the tools of a request, and which of them the model should or must call.

use std::collections::HashSet;

use super::super::capability::StructuredOutput;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, ChatRequest, OutputFormat, Tool, ToolChoice, ToolKind};
use super::super::restore;
use super::super::target::Target;
use super::output_schema;
use super::write_request::write_cache;
use super::write_turns::Conversation;
use crate::json::{Escaped, Value, Writer};

/// The schema of a tool that takes nothing.
const NO_INPUT: &str = r#"{"type":"object","properties":{}}"#;
/// The schema of something that may be any object.
const ANY_OBJECT: &str = r#"{"type":"object"}"#;

/// The tools of a request.
#[derive(Debug)]
pub(super) struct Tools<'r> {
    given: &'r [Tool<'r>],
    /// Those that the conversation calls, where the client defines none: Anthropic wants what was called to be defined.
    called: Vec<Escaped<'r>>,
    output: Option<OutputTool<'r>>,
    /// Whether the client's `strict` is Anthropic's.
    keeps_strict: bool,
}

/// The tool that stands in for an output schema.
#[derive(Debug)]
struct OutputTool<'r> {
    name: String,
    description: Option<&'r Escaped<'r>>,
    schema: Option<Value<'r>>,
}

impl<'r> Tools<'r> {
    pub(super) fn of(
        request: &'r ChatRequest<'r>,
        conversation: &'r Conversation<'r>,
        target: &Target<'_>,
        report: &mut Report,
    ) -> Self {
        let called = if request.tools.is_empty() { called_names(conversation) } else { Vec::new() };
        let keeps_strict = request.source == ez_contract::Protocol::AnthropicMessages;
        if !keeps_strict && request.tools.iter().any(|tool| tool.strict == Some(true)) {
            report.dropped(&format!("{}.strict", request.words().tools));
        }
        let output = output_tool(request, &called, target, report);
        Self { given: &request.tools, called, output, keeps_strict }
    }

    pub(super) fn has_output_tool(&self) -> bool {
        self.output.is_some()
    }

    pub(super) fn into_output_tool(self) -> Option<String> {
        self.output.map(|tool| tool.name)
    }

    /// Writes `tools`, where there are any.
    pub(super) fn write(&self, json: &mut Writer, target: &Target<'_>) {
        if self.given.is_empty() && self.called.is_empty() && self.output.is_none() {
            return;
        }
        json.key("tools").array(|json| {
            for tool in self.given {
                json.object(|json| self.write_tool(json, tool, target));
            }
            for name in &self.called {
                json.object(|json| {
                    json.key("name").escaped(&target.names.sent(name));
                    json.key("input_schema").raw(ANY_OBJECT);
                });
            }
            if let Some(tool) = &self.output {
                json.object(|json| {
                    json.key("name").string(&tool.name);
                    match tool.description {
                        Some(description) => json.key("description").escaped(description),
                        None => {
                            json.key("description").string("Gives the answer. Call it once, with all of the answer.")
                        }
                    }
                    write_schema(json.key("input_schema"), tool.schema, ANY_OBJECT);
                });
            }
        });
    }

    fn write_tool(&self, json: &mut Writer, tool: &Tool<'_>, target: &Target<'_>) {
        json.key("name").escaped(&target.names.sent(&tool.name));
        match tool.kind {
            ToolKind::Function { schema } => {
                if let Some(description) = &tool.description {
                    json.key("description").escaped(description);
                }
                write_schema(json.key("input_schema"), schema, NO_INPUT);
            }
            ToolKind::Custom { format } => {
                if let Some(description) = custom_description(tool.description.as_ref(), format) {
                    json.key("description").escaped(&description);
                }
                json.key("input_schema").raw(restore::CUSTOM_SCHEMA);
            }
        }
        if let Some(strict) = tool.strict.filter(|_| self.keeps_strict) {
            json.key("strict").bool(strict);
        }
        write_cache(json, tool.cache);
    }
}

/// A schema as it was written; Anthropic wants one that says that it is of an object.
fn write_schema(json: &mut Writer, schema: Option<Value<'_>>, absent: &str) {
    let Some(schema) = schema else { return json.raw(absent) };
    match schema.members() {
        Some(members) if members.is_empty() => json.raw(absent),
        Some(members) if !members.iter().any(|(key, _)| key.is("type")) => {
            let inside = schema.as_str().strip_prefix('{').unwrap_or_default();
            json.raw(&format!(r#"{{"type":"object",{inside}"#));
        }
        _ => json.value(schema),
    }
}

/// What a custom tool does, and the format of its input, which a schema cannot say.
fn custom_description<'r>(told: Option<&'r Escaped<'r>>, format: Option<Value<'_>>) -> Option<Escaped<'r>> {
    let format = format.filter(|format| !format.get("type").is_some_and(|kind| kind.is("text")));
    let Some(format) = format else { return told.map(Escaped::borrowed) };
    let mut description = told.map_or(Escaped::EMPTY, Escaped::borrowed);
    let gap = if description.is_empty() { "" } else { "\n\n" };
    description.push(&Escaped::of_owned(format!("{gap}`input` is text in this format: {}", format.as_str())));
    Some(description)
}

/// The names of the tools that the conversation calls, each once.
fn called_names<'r>(conversation: &'r Conversation<'r>) -> Vec<Escaped<'r>> {
    let mut seen = HashSet::new();
    let calls = conversation.turns().iter().flat_map(|turn| &turn.blocks).filter_map(|block| match block {
        Block::ToolCall(call) => Some(&call.name),
        _ => None,
    });
    calls.filter(|name| seen.insert(name.as_str())).map(Escaped::borrowed).collect()
}

fn output_tool<'r>(
    request: &'r ChatRequest<'r>,
    called: &[Escaped<'_>],
    target: &Target<'_>,
    report: &mut Report,
) -> Option<OutputTool<'r>> {
    let words = request.words();
    let is_native = target.capabilities.structured_output == StructuredOutput::Native;
    let (description, schema) = match &request.output {
        OutputFormat::Text => return None,
        OutputFormat::JsonObject => (None, None),
        OutputFormat::JsonSchema { description, schema, .. } if is_native && !output_schema::is_open(*schema) => {
            if description.is_some() {
                report.dropped(&format!("{}.description", words.output));
            }
            return None;
        }
        OutputFormat::JsonSchema { description, schema, strict, .. } => {
            if *strict == Some(true) {
                report.dropped(&format!("{}.strict", words.output));
            }
            (description.as_ref(), Some(*schema))
        }
    };
    let names = request.tools.iter().map(|tool| &tool.name).chain(called);
    let taken: HashSet<String> = names.map(|name| target.names.sent(name).text().into_owned()).collect();
    let mut name = "respond".to_owned();
    while taken.contains(&name) {
        name.push('_');
    }
    Some(OutputTool { name, description, schema })
}

/// Which tool the model should or must call.
#[derive(Debug)]
pub(super) struct Choice {
    kind: Option<Kind>,
    is_single: bool,
}

#[derive(Debug)]
enum Kind {
    Auto,
    Any,
    None,
    /// This one, by the name that is sent.
    Tool(String),
}

impl Choice {
    pub(super) fn of(
        request: &ChatRequest<'_>,
        tools: &Tools<'_>,
        target: &Target<'_>,
        report: &mut Report,
    ) -> Result<Self, Refused> {
        let words = request.words();
        if tools.given.is_empty() && forces(request.tool_choice.as_ref()) {
            let message = format!("`{}` asks for a tool, and there is none: send `{}`", words.tool_choice, words.tools);
            return Err(Refused::invalid(words.tool_choice, message));
        }
        let mut kind = match &request.tool_choice {
            None => None,
            Some(ToolChoice::Auto) => Some(Kind::Auto),
            Some(ToolChoice::None) => Some(Kind::None),
            Some(ToolChoice::Required) => Some(Kind::Any),
            Some(ToolChoice::Tool(name)) => Some(Kind::Tool(target.names.sent(name).text().into_owned())),
            Some(ToolChoice::Allowed { names, required: true }) if names.len() == 1 => {
                names.first().map(|name| Kind::Tool(target.names.sent(name).text().into_owned()))
            }
            Some(ToolChoice::Allowed { required, .. }) => {
                // All tools stay, so that what the vendor cached stays good.
                report.dropped(words.tool_choice);
                Some(if *required { Kind::Any } else { Kind::Auto })
            }
        };
        match &tools.output {
            // The answer is a call, of this tool or, where the model may, of another one.
            Some(output) => {
                let others = !tools.given.is_empty() && !matches!(kind, Some(Kind::None));
                match kind {
                    Some(Kind::Tool(_)) => {}
                    _ if others => kind = Some(Kind::Any),
                    _ => kind = Some(Kind::Tool(output.name.clone())),
                }
            }
            None if tools.given.is_empty() && tools.called.is_empty() => kind = None,
            // What is defined for the conversation's sake is not to be called.
            None if tools.given.is_empty() => kind = Some(Kind::None),
            None => {}
        }
        let is_asked = !tools.given.is_empty() && request.parallel_tool_calls == Some(false);
        // One answer is wanted, not several beside each other.
        let is_answer =
            matches!((&kind, &tools.output), (Some(Kind::Tool(name)), Some(output)) if *name == output.name);
        Ok(Self { kind, is_single: is_asked || is_answer })
    }

    /// Whether the model must call something.
    pub(super) fn is_forced(&self) -> bool {
        matches!(self.kind, Some(Kind::Any | Kind::Tool(_)))
    }

    /// Writes `tool_choice`, where it says more than nothing.
    pub(super) fn write(&self, json: &mut Writer) {
        let (kind, name) = match &self.kind {
            None | Some(Kind::Auto) if !self.is_single => return,
            None | Some(Kind::Auto) => ("auto", None),
            Some(Kind::Any) => ("any", None),
            Some(Kind::None) => ("none", None),
            Some(Kind::Tool(name)) => ("tool", Some(name)),
        };
        json.key("tool_choice").object(|json| {
            json.key("type").string(kind);
            if let Some(name) = name {
                json.key("name").string(name);
            }
            if self.is_single && kind != "none" {
                json.key("disable_parallel_tool_use").bool(true);
            }
        });
    }
}

/// Whether a choice cannot be made without tools.
fn forces(choice: Option<&ToolChoice<'_>>) -> bool {
    matches!(choice, Some(ToolChoice::Required | ToolChoice::Tool(_) | ToolChoice::Allowed { required: true, .. }))
}
