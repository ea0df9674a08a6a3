//! Reads the conversation of a Gemini request.

use super::super::fields::{Fields, Path};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, Role, Text, Turn};
use super::call_ids;
use super::read_parts::read_part;
use crate::json::{Kind, Value};

/// The instructions: a content, or a bare string.
pub(super) fn read_system<'a>(system: Value<'a>, report: &mut Report) -> Result<Option<Turn<'a>>, Refused> {
    let path = Path::Key(&Path::Root, "systemInstruction");
    let mut blocks = Vec::new();
    if let Some(text) = system.string() {
        blocks.push(Block::Text(Text::plain(text)));
    } else {
        let mut fields = Fields::of_proto(system, path)?;
        fields.ignore(&["role"]);
        let parts = fields.array("parts")?.unwrap_or_default();
        let list = Path::Key(&path, "parts");
        for (at, part) in parts.into_iter().enumerate() {
            let mut fields = Fields::of_proto(part, Path::Index(&list, at))?;
            let Some(text) = fields.string("text")? else {
                let reason = "is no text, and instructions are text alone: send it in `contents`";
                return Err(Refused::inexpressible(fields.path().exact(), reason));
            };
            blocks.push(Block::Text(Text::plain(text)));
            fields.finish(report);
        }
        fields.finish(report);
    }
    Ok((!blocks.is_empty()).then_some(Turn { role: Role::System, blocks }))
}

/// The contents: an array, or one alone. Those of the model that follow each other are one turn, as clients keep each
/// chunk of a stream by itself.
pub(super) fn read_contents<'a>(
    contents: Value<'a>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refused> {
    let list = Path::Key(&Path::Root, "contents");
    let contents = match contents.kind() {
        Kind::Object => vec![contents],
        _ => contents.elements().ok_or_else(|| Refused::wrong_type("contents", "an array of contents"))?,
    };
    if contents.is_empty() {
        return Err(Refused::missing("contents"));
    }
    for (at, content) in contents.into_iter().enumerate() {
        read_content(content, Path::Index(&list, at), turns, report)?;
    }
    call_ids::identify(turns)
}

fn read_content<'a>(
    content: Value<'a>,
    path: Path<'_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refused> {
    let mut fields = Fields::of_proto(content, path)?;
    let role = match fields.string("role")? {
        None => Role::User,
        Some(role) if role.is("user") || role.is("function") || role.is_empty() => Role::User,
        Some(role) if role.is("model") => Role::Assistant,
        Some(_) => return Err(fields.wrong("role", "user or model")),
    };
    let parts = fields.array("parts")?.unwrap_or_default();
    fields.finish(report);
    let goes_on = role == Role::Assistant && turns.last().is_some_and(|last| last.role == role);
    if !goes_on {
        turns.push(Turn { role, blocks: Vec::with_capacity(parts.len()) });
    }
    let Some(turn) = turns.last_mut() else { return Ok(()) };
    let list = Path::Key(&path, "parts");
    for (at, part) in parts.into_iter().enumerate() {
        read_part(part, Path::Index(&list, at), turn, report)?;
    }
    Ok(())
}
