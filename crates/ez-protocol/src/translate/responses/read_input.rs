//! Reads the input of a Responses request: its items made into turns.

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{
    Arguments, Block, Media, MediaKind, MediaSource, Reasoning, Role, Text, ToolCall, ToolResult, Turn,
};
use super::namespaces::{ADDITIONAL_TOOLS, flat_name};
use super::read_content::{read_content, read_output};
use super::read_tools::Tools;
use crate::json::{Escaped, Kind, Value};

/// The turns of an `input`: a string, or items. Some of these add tools.
pub(super) fn read_input<'a>(
    input: Value<'a>,
    tools: &mut Tools<'a>,
    report: &mut Report,
) -> Result<Vec<Turn<'a>>, Refused> {
    if let Some(text) = input.string() {
        return Ok(vec![Turn { role: Role::User, blocks: vec![Block::Text(Text::plain(text))] }]);
    }
    let items = input.elements().ok_or_else(|| Refused::wrong_type("input", "a string or an array of items"))?;
    let mut turns = Turns::default();
    let path = Path::Key(&Path::Root, "input");
    for (at, item) in items.into_iter().enumerate() {
        let fields = Fields::of(item, Path::Index(&path, at))?;
        if item.get("type").is_some_and(|kind| kind.is(ADDITIONAL_TOOLS)) {
            tools.read_item(item, fields, report)?;
        } else {
            turns.read(fields, report)?;
        }
    }
    Ok(turns.finish())
}

/// Items whose outcome stands in the text that follows them, and whose own fields only their vendor can use.
const STATUS_ITEMS: [&str; 3] = ["web_search_call", "file_search_call", "code_interpreter_call"];

/// Turns under way. What the model says from one answer of the user's to the next is one turn, and so are results that
/// follow each other.
#[derive(Default)]
struct Turns<'a> {
    done: Vec<Turn<'a>>,
    /// The state that belongs to the next call.
    call_state: Option<Opaque<'a>>,
}

impl<'a> Turns<'a> {
    fn read(&mut self, mut fields: Fields<'a, '_>, report: &mut Report) -> Result<(), Refused> {
        let kind = fields.string("type")?;
        let kind = kind.as_ref().map(Escaped::text);
        fields.ignore(&["status"]);
        match kind.as_deref() {
            Some("message") => self.message(&mut fields, report)?,
            Some("function_call") => self.call(&mut fields, "arguments")?,
            Some("custom_tool_call") => self.call(&mut fields, "input")?,
            Some("function_call_output") => self.result(&mut fields, false, report)?,
            Some("custom_tool_call_output") => self.result(&mut fields, true, report)?,
            Some("reasoning") => self.reasoning(&mut fields)?,
            Some("image_generation_call") => return self.image(&mut fields),
            Some(kind) if STATUS_ITEMS.contains(&kind) => return Ok(()),
            Some("item_reference") => return Err(reference(&fields)),
            Some(kind) => return Err(foreign(&fields, kind)),
            None => match fields.take("role") {
                Some(role) => self.message_of(role, &mut fields, report)?,
                // A reference needs no type.
                None => return Err(reference(&fields)),
            },
        }
        fields.ignore(&["id"]);
        fields.finish(report);
        Ok(())
    }

    fn message(&mut self, fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<(), Refused> {
        let role = fields.require("role")?;
        self.message_of(role, fields, report)
    }

    fn message_of(&mut self, role: Value<'a>, fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<(), Refused> {
        let role = match role.string().as_ref().map(Escaped::text).as_deref() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            Some("developer") => Role::Developer,
            _ => return Err(fields.wrong("role", "user, assistant, system or developer")),
        };
        let blocks = read_content(role, fields, report)?;
        if blocks.is_empty() {
            return Ok(());
        }
        if role == Role::Assistant {
            self.said(blocks);
        } else {
            self.flush_state();
            self.done.push(Turn { role, blocks });
        }
        Ok(())
    }

    fn call(&mut self, fields: &mut Fields<'a, '_>, input: &str) -> Result<(), Refused> {
        let namespace = fields.string("namespace")?;
        let written = fields.require_string(input)?;
        let call = ToolCall {
            id: fields.require_string("call_id")?,
            name: flat_name(namespace.as_ref(), fields.require_string("name")?),
            arguments: if input == "input" { Arguments::Free(written) } else { Arguments::Written(written) },
            signature: self.call_state.take(),
            cache: None,
        };
        self.said(vec![Block::ToolCall(call)]);
        Ok(())
    }

    fn result(&mut self, fields: &mut Fields<'a, '_>, is_custom: bool, report: &mut Report) -> Result<(), Refused> {
        self.flush_state();
        let result = ToolResult {
            id: fields.require_string("call_id")?,
            name: None,
            content: read_output(fields, report)?,
            is_error: None,
            is_custom,
            cache: None,
        };
        let block = Block::ToolResult(result);
        match self.done.last_mut() {
            Some(turn) if matches!(turn.blocks.last(), Some(Block::ToolResult(_))) => turn.blocks.push(block),
            _ => self.done.push(Turn { role: Role::User, blocks: vec![block] }),
        }
        Ok(())
    }

    fn reasoning(&mut self, fields: &mut Fields<'a, '_>) -> Result<(), Refused> {
        self.flush_state();
        let mut text = Escaped::EMPTY;
        for key in ["content", "summary"] {
            let parts = fields.array(key)?.unwrap_or_default();
            for part in parts.into_iter().filter(|part| part.kind() == Kind::Object) {
                let Some(more) = part.get("text").and_then(Value::string) else { continue };
                join(&mut text, &more);
            }
        }
        let written = fields.string("encrypted_content")?.filter(|written| !written.is_empty());
        let signature = written.map(|written| Opaque::read(Protocol::OpenaiResponses, OpaqueKind::Encrypted, written));
        match signature {
            // This is how `write_answer` passes the state of a call.
            Some(state) if is_call_state(&state) && text.is_empty() => self.call_state = Some(state),
            signature => self.said(vec![Block::Reasoning(Reasoning { text, signature })]),
        }
        Ok(())
    }

    /// An image that the model made.
    fn image(&mut self, fields: &mut Fields<'a, '_>) -> Result<(), Refused> {
        let Some(data) = fields.string("result")?.filter(|data| !data.is_empty()) else { return Ok(()) };
        let format = fields.string("output_format")?;
        let media_type = image_type(format.as_ref());
        let source = MediaSource::Base64 { media_type, data };
        self.said(vec![Block::Media(Media { kind: MediaKind::Image, source, name: None, detail: None, cache: None })]);
        Ok(())
    }

    /// Adds to what the model says.
    fn said(&mut self, blocks: Vec<Block<'a>>) {
        self.flush_state();
        match self.done.last_mut() {
            Some(turn) if turn.role == Role::Assistant => turn.blocks.extend(blocks),
            _ => self.done.push(Turn { role: Role::Assistant, blocks }),
        }
    }

    /// State that no call followed stands alone.
    fn flush_state(&mut self) {
        if let Some(state) = self.call_state.take() {
            self.said(vec![Block::Reasoning(Reasoning { text: Escaped::EMPTY, signature: Some(state) })]);
        }
    }

    fn finish(mut self) -> Vec<Turn<'a>> {
        self.flush_state();
        self.done
    }
}

/// Puts a paragraph behind another.
pub(super) fn join(text: &mut Escaped<'_>, more: &Escaped<'_>) {
    if !text.is_empty() && !more.is_empty() {
        text.push(&Escaped::of("\n\n"));
    }
    text.push(more);
}

/// The media type of a generated image; PNG where the vendor does not say.
pub(super) fn image_type(format: Option<&Escaped<'_>>) -> Escaped<'static> {
    match format.map(Escaped::text).as_deref() {
        Some("jpeg") => Escaped::of("image/jpeg"),
        Some("webp") => Escaped::of("image/webp"),
        Some("gif") => Escaped::of("image/gif"),
        Some("svg") => Escaped::of("image/svg+xml"),
        _ => Escaped::of("image/png"),
    }
}

/// Whether it is the state of a call: Gemini signs these, and thoughts of no other vendor come without words and with a
/// signature alone.
fn is_call_state(state: &Opaque<'_>) -> bool {
    state.issuer == Protocol::Gemini && state.kind == OpaqueKind::Signature
}

fn reference(fields: &Fields<'_, '_>) -> Refused {
    let reason = "refers to an item that the vendor keeps, and only an upstream that speaks Responses has it: send the \
                  item itself";
    Refused::inexpressible(fields.path().exact(), reason)
}

fn foreign(fields: &Fields<'_, '_>, kind: &str) -> Refused {
    let reason = format!(
        "is of the type `{}`, which only an upstream that speaks Responses takes: leave it out, or use function tools",
        kind.chars().take(64).collect::<String>()
    );
    Refused::inexpressible(fields.path().exact(), &reason)
}
