//! Reads the conversation of a request: `system` and `messages`.

use std::collections::VecDeque;

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::opaque::OpaqueKind;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, Role, Text, Turn};
use super::read_blocks;
use crate::json::Value;

/// The conversation, the instructions at its beginning included.
pub(super) fn read_turns<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Vec<Turn<'a>>, Refused> {
    let messages = fields.require("messages")?.elements().ok_or_else(|| fields.wrong("messages", "an array"))?;
    if messages.is_empty() {
        return Err(Refused::invalid("messages", "`messages` is empty: send one message at least".to_owned()));
    }
    let mut turns = Vec::with_capacity(messages.len() + 1);
    if let Some(system) = fields.take("system") {
        let path = Path::Key(fields.path(), "system");
        turns.push(Turn { role: Role::System, blocks: read_content(system, path, Role::System, report)? });
    }
    let list = Path::Key(fields.path(), "messages");
    for (at, message) in messages.into_iter().enumerate() {
        turns.push(read_message(message, Path::Index(&list, at), report)?);
    }
    Ok(turns)
}

fn read_message<'a>(message: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<Turn<'a>, Refused> {
    let mut fields = Fields::of(message, path)?;
    let role = match fields.require_string("role")?.text().as_ref() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(fields.wrong("role", "`user`, `assistant` or `system`")),
    };
    let content = fields.require("content")?;
    let blocks = read_content(content, Path::Key(&path, "content"), role, report)?;
    fields.finish(report);
    Ok(Turn { role, blocks })
}

/// A string, or blocks.
fn read_content<'a>(
    content: Value<'a>,
    path: Path<'_>,
    role: Role,
    report: &mut Report,
) -> Result<Vec<Block<'a>>, Refused> {
    if let Some(text) = content.string() {
        return Ok(vec![Block::Text(Text::plain(text))]);
    }
    let given = content.elements();
    let given = given.ok_or_else(|| Refused::wrong_type(path.exact(), "a string or an array of blocks"))?;
    let mut blocks = Vec::with_capacity(given.len());
    for (at, block) in given.into_iter().enumerate() {
        read_blocks::read_block(block, Path::Index(&path, at), role, &mut blocks, report)?;
    }
    Ok(with_signed_calls(blocks))
}

/// Puts the signatures of Gemini's calls back to their calls: the writer of answers carries them in thinking blocks without
/// words, each right before its call.
fn with_signed_calls(blocks: Vec<Block<'_>>) -> Vec<Block<'_>> {
    let mut out = Vec::with_capacity(blocks.len());
    let mut rest = VecDeque::from(blocks);
    while let Some(block) = rest.pop_front() {
        match (block, rest.front_mut()) {
            (Block::Reasoning(reasoning), Some(Block::ToolCall(call)))
                if reasoning.text.is_empty()
                    && reasoning
                        .signature
                        .as_ref()
                        .is_some_and(|s| s.issuer == Protocol::Gemini && s.kind == OpaqueKind::Signature) =>
            {
                call.signature = reasoning.signature;
            }
            (block, _) => out.push(block),
        }
    }
    out
}
