//! Writes the conversation of a Gemini request.

use ez_contract::Protocol;

use super::super::conversation::merged;
use super::super::report::Report;
use super::super::request::{Block, ChatRequest, Reasoning, Role, Text, ToolCall, ToolResult, Turn};
use super::super::target::Target;
use super::NO_SIGNATURE;
use super::write_part::{write_arguments, write_media};
use crate::json::{Escaped, Writer};

/// What the user says where the conversation begins with the model, or says nothing: Gemini wants the user first.
const FIRST_WORDS: &str = ".";

/// A conversation as Gemini wants it.
pub(super) struct Arranged<'a> {
    /// The texts that stand in front of it.
    pub(super) instructions: Vec<Escaped<'a>>,
    /// User and model in turn, the user first.
    pub(super) turns: Vec<Turn<'a>>,
}

/// Reports what is said inside a conversation and has no place in Gemini's.
pub(super) fn report_losses(request: &ChatRequest<'_>, report: &mut Report) {
    let words = request.words();
    let mut has_marker = request.cache.is_some() || request.tools.iter().any(|tool| tool.cache.is_some());
    let mut look = |block: &Block<'_>| match block {
        Block::Text(text) => has_marker |= text.cache.is_some(),
        Block::ToolCall(call) => has_marker |= call.cache.is_some(),
        Block::ToolResult(result) => has_marker |= result.cache.is_some(),
        Block::Media(media) => {
            has_marker |= media.cache.is_some();
            if media.detail.as_ref().is_some_and(|detail| !detail.is("auto")) {
                report.dropped(&format!("{}.detail", words.turns));
            }
            if media.name.is_some() {
                report.dropped(&format!("{}.filename", words.turns));
            }
        }
        Block::Reasoning(_) | Block::Refusal(_) => {}
    };
    for block in request.turns.iter().flat_map(|turn| &turn.blocks) {
        look(block);
        if let Block::ToolResult(result) = block {
            result.content.iter().for_each(&mut look);
        }
    }
    if has_marker {
        report.dropped(words.cache);
    }
}

/// Puts a conversation into Gemini's order: instructions in front, later ones as words of the user where they stand,
/// and nothing that it refuses: empty texts, reasoning of other vendors.
pub(super) fn arranged(turns: Vec<Turn<'_>>) -> Arranged<'_> {
    let mut instructions = Vec::new();
    let mut arranged: Vec<Turn<'_>> = Vec::with_capacity(turns.len() + 1);
    for mut turn in turns {
        turn.blocks.retain(is_written);
        if turn.blocks.is_empty() {
            continue;
        }
        if !turn.role.is_instruction() {
            arranged.push(turn);
        } else if arranged.is_empty() {
            instructions.extend(turn.blocks.into_iter().filter_map(text_of));
        } else {
            let words = marked(turn.blocks.into_iter().filter_map(text_of));
            arranged.push(Turn { role: Role::User, blocks: vec![Block::Text(Text::plain(words))] });
        }
    }
    if arranged.first().is_none_or(|first| first.role != Role::User) {
        let blocks = vec![Block::Text(Text::plain(Escaped::of(FIRST_WORDS)))];
        arranged.insert(0, Turn { role: Role::User, blocks });
    }
    Arranged { instructions, turns: merged(arranged) }
}

fn is_written(block: &Block<'_>) -> bool {
    match block {
        Block::Text(text) => !text.text.is_empty(),
        Block::Refusal(text) => !text.is_empty(),
        Block::Reasoning(reasoning) => own_signature(reasoning).is_some(),
        Block::Media(_) | Block::ToolCall(_) | Block::ToolResult(_) => true,
    }
}

fn own_signature<'r, 'a>(reasoning: &'r Reasoning<'a>) -> Option<&'r Escaped<'a>> {
    let signature = reasoning.signature.as_ref().filter(|signature| signature.issuer == Protocol::Gemini)?;
    Some(&signature.data)
}

fn text_of(block: Block<'_>) -> Option<Escaped<'_>> {
    match block {
        Block::Text(text) => Some(text.text),
        _ => None,
    }
}

/// Instructions among the user's words, told apart from them.
fn marked<'a>(texts: impl Iterator<Item = Escaped<'a>>) -> Escaped<'static> {
    let mut words = Escaped::of("<system>").into_owned();
    for text in texts {
        words.push(&Escaped::of("\n"));
        words.push(&text);
    }
    words.push(&Escaped::of("\n</system>"));
    words
}

/// Writes the instructions, where there are any.
pub(super) fn write_system(json: &mut Writer, instructions: &[Escaped<'_>]) {
    if instructions.is_empty() {
        return;
    }
    json.key("systemInstruction").object(|json| {
        json.key("parts").array(|json| instructions.iter().for_each(|text| write_text(json, text)));
    });
}

/// Writes the turns.
pub(super) fn write_contents(json: &mut Writer, turns: &[Turn<'_>], target: Target<'_>) {
    json.array(|json| {
        for turn in turns {
            json.object(|json| {
                json.key("role").string(if turn.role == Role::Assistant { "model" } else { "user" });
                json.key("parts").array(|json| write_parts(json, &turn.blocks, target));
            });
        }
    });
}

/// Writes the parts of a turn: what tools answered, the files of that, and then the rest.
fn write_parts(json: &mut Writer, blocks: &[Block<'_>], target: Target<'_>) {
    let results = || {
        blocks.iter().filter_map(|block| match block {
            Block::ToolResult(result) => Some(result),
            _ => None,
        })
    };
    results().for_each(|result| write_result(json, result, target));
    for block in results().flat_map(|result| &result.content) {
        if let Block::Media(media) = block {
            write_media(json, media);
        }
    }
    let mut is_first_call = true;
    for block in blocks {
        match block {
            Block::Text(text) => write_text(json, &text.text),
            Block::Refusal(text) => write_text(json, text),
            Block::Media(media) => write_media(json, media),
            Block::Reasoning(reasoning) => write_thought(json, reasoning),
            Block::ToolCall(call) => write_call(json, call, std::mem::take(&mut is_first_call), target),
            Block::ToolResult(_) => {}
        }
    }
}

fn write_text(json: &mut Writer, text: &Escaped<'_>) {
    json.object(|json| json.key("text").escaped(text));
}

/// Thoughts with their signature; without words it belongs to what was said before.
fn write_thought(json: &mut Writer, reasoning: &Reasoning<'_>) {
    let Some(signature) = own_signature(reasoning) else { return };
    json.object(|json| {
        json.key("text").escaped(&reasoning.text);
        if !reasoning.text.is_empty() {
            json.key("thought").bool(true);
        }
        json.key("thoughtSignature").escaped(signature);
    });
}

/// A call. Of several in one step the first carries the signature; where another vendor made it there is none, and
/// models that want one take a word that says so.
fn write_call(json: &mut Writer, call: &ToolCall<'_>, is_first: bool, target: Target<'_>) {
    let own = call.signature.as_ref().filter(|signature| signature.issuer == Protocol::Gemini);
    json.object(|json| {
        json.key("functionCall").object(|json| {
            json.key("name").escaped(&target.names.sent(&call.name));
            write_arguments(json.key("args"), &call.arguments);
        });
        match own {
            Some(signature) => json.key("thoughtSignature").escaped(&signature.data),
            None if is_first && target.capabilities.signs_calls => json.key("thoughtSignature").string(NO_SIGNATURE[0]),
            None => {}
        }
    });
}

fn write_result(json: &mut Writer, result: &ToolResult<'_>, target: Target<'_>) {
    let texts = result.content.iter().filter_map(|block| match block {
        Block::Text(text) => Some(&text.text),
        _ => None,
    });
    let (line_end, mut pieces) = (Escaped::of("\n"), Vec::new());
    for text in texts {
        if !pieces.is_empty() {
            pieces.push(&line_end);
        }
        pieces.push(text);
    }
    json.object(|json| {
        json.key("functionResponse").object(|json| {
            if let Some(name) = &result.name {
                json.key("name").escaped(&target.names.sent(name));
            }
            let key = if result.is_error == Some(true) { "error" } else { "output" };
            json.key("response").object(|json| json.key(key).joined(pieces));
        });
    });
}
