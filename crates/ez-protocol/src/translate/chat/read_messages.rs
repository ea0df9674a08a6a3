//! Reads the conversation of a request.

use std::collections::{HashSet, VecDeque};

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::media;
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Arguments, Block, CacheMarker, Media, MediaKind, Role, ToolCall, ToolResult, Turn};
use super::{read_content, reasoning_details};
use crate::json::{Escaped, Value};

/// The turns of a conversation, in the order of its messages.
pub(super) fn turns<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Vec<Turn<'a>>, Refused> {
    let path = *fields.path();
    let list = Path::Key(&path, "messages");
    let messages = fields.array("messages")?.ok_or_else(|| Refused::missing("messages"))?;
    if messages.is_empty() {
        return Err(Refused::wrong_type("messages", "an array with a message at least"));
    }
    let mut seen = Seen::default();
    let mut turns = Vec::with_capacity(messages.len());
    for (at, message) in messages.into_iter().enumerate() {
        let turn = turn(message, Path::Index(&list, at), &mut seen, report)?;
        // Empty messages say nothing, and most vendors refuse them.
        if !turn.blocks.is_empty() {
            turns.push(turn);
        }
    }
    Ok(turns)
}

/// The calls that were seen so far.
#[derive(Default)]
struct Seen<'a> {
    /// How many stood in `function_call`. These had no ids: each is answered by the next message of the role `function`.
    older: usize,
    /// Those of them that are open.
    open: VecDeque<String>,
    /// The ids of those to custom tools.
    custom: HashSet<Escaped<'a>>,
}

impl Seen<'_> {
    fn call(&mut self) -> Escaped<'static> {
        self.older += 1;
        let id = format!("call_{}", self.older);
        self.open.push_back(id.clone());
        Escaped::of_owned(id)
    }

    fn answer(&mut self) -> Escaped<'static> {
        Escaped::of_owned(self.open.pop_front().unwrap_or_else(|| "function_call".to_owned()))
    }
}

fn turn<'a>(
    message: Value<'a>,
    place: Path<'_>,
    seen: &mut Seen<'a>,
    report: &mut Report,
) -> Result<Turn<'a>, Refused> {
    let mut fields = Fields::of(message, place)?;
    let role = fields.require_string("role")?;
    let cache = read_content::cache_marker(&mut fields)?;
    let content = fields.take("content");
    let mut blocks = read_content::blocks(content, Path::Key(&place, "content"), report)?;
    // Clients send answers back as they got them.
    fields.ignore(&["id", "status", "index", "annotations"]);
    let word = role.text();
    let role = match word.as_ref() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" | "tool" | "function" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(fields.wrong("role", "`system`, `developer`, `user`, `assistant` or `tool`")),
    };
    check(role, &blocks, place)?;
    match word.as_ref() {
        "assistant" => blocks = assistant(&mut fields, blocks, place, seen, report)?,
        "tool" => blocks = vec![result(&mut fields, blocks, None, seen)?],
        "function" => {
            let id = seen.answer();
            blocks = vec![result(&mut fields, blocks, Some(id), seen)?];
        }
        _ => {}
    }
    if let (Some(cache), Some(last)) = (cache, blocks.last_mut()) {
        mark(last, cache);
    }
    fields.finish(report);
    Ok(Turn { role, blocks })
}

/// Whether the role may say such things.
fn check(role: Role, blocks: &[Block<'_>], place: Path<'_>) -> Result<(), Refused> {
    let is_wrong = |block: &&Block<'_>| match block {
        Block::Media(_) => role.is_instruction(),
        Block::Refusal(_) => role != Role::Assistant,
        _ => false,
    };
    match blocks.iter().find(is_wrong) {
        None => Ok(()),
        Some(Block::Refusal(_)) => Err(Refused::wrong_type(
            Path::Key(&place, "content").exact(),
            "free of refusals: only the assistant refuses",
        )),
        Some(_) => {
            let reason = "holds a file, and instructions are text: put it into a message of the user";
            Err(Refused::inexpressible(Path::Key(&place, "content").exact(), reason))
        }
    }
}

fn mark(block: &mut Block<'_>, marker: CacheMarker) {
    match block {
        Block::Text(text) => text.cache = text.cache.or(Some(marker)),
        Block::Media(media) => media.cache = media.cache.or(Some(marker)),
        Block::ToolCall(call) => call.cache = call.cache.or(Some(marker)),
        Block::ToolResult(result) => result.cache = result.cache.or(Some(marker)),
        Block::Reasoning(_) | Block::Refusal(_) => {}
    }
}

fn result<'a>(
    fields: &mut Fields<'a, '_>,
    content: Vec<Block<'a>>,
    older_id: Option<Escaped<'static>>,
    seen: &Seen<'a>,
) -> Result<Block<'a>, Refused> {
    let id = match older_id {
        Some(id) => id,
        None => fields.require_string("tool_call_id")?,
    };
    let name = fields.string("name")?;
    let is_custom = seen.custom.contains(&id);
    Ok(Block::ToolResult(ToolResult { id, name, content, is_error: None, is_custom, cache: None }))
}

/// What the model said: thoughts, words, pictures and calls, in this order.
fn assistant<'a>(
    fields: &mut Fields<'a, '_>,
    content: Vec<Block<'a>>,
    place: Path<'_>,
    seen: &mut Seen<'a>,
    report: &mut Report,
) -> Result<Vec<Block<'a>>, Refused> {
    if fields.take("audio").is_some() {
        let reason = "is a sound that another vendor holds: send what was said as text";
        return Err(Refused::inexpressible(fields.place("audio"), reason));
    }
    let mut calls = calls(fields, place, seen, report)?;
    let mut blocks = reasoning_details::of_client(fields.take("reasoning_details"), &mut calls);
    let thinking = reasoning_details::of_thinking_blocks(fields.take("thinking_blocks"));
    let (newer, other) = (fields.take("reasoning_content"), fields.take("reasoning"));
    if blocks.is_empty() {
        blocks = thinking;
    }
    if blocks.is_empty() {
        let text = newer.or(other).and_then(Value::string).filter(|text| !text.is_empty());
        blocks.extend(text.map(reasoning_details::unsigned));
    }
    blocks.extend(content.into_iter().filter(|block| !matches!(block, Block::Text(text) if text.text.is_empty())));
    let refusal = fields.string("refusal")?.filter(|refusal| !refusal.is_empty());
    blocks.extend(refusal.map(Block::Refusal));
    blocks.extend(images(fields)?);
    blocks.extend(calls.into_iter().map(Block::ToolCall));
    Ok(blocks)
}

/// Pictures that the model drew, as OpenRouter passes them.
fn images<'a>(fields: &mut Fields<'a, '_>) -> Result<Vec<Block<'a>>, Refused> {
    let mut images = Vec::new();
    for image in fields.array("images")?.unwrap_or_default() {
        let url = image.get("image_url").and_then(|inner| inner.get("url")?.string());
        let url = url.ok_or_else(|| fields.wrong("images", "an array of parts with `image_url`"))?;
        let source = media::of_url(MediaKind::Image, url);
        images.push(Block::Media(Media { kind: MediaKind::Image, source, name: None, detail: None, cache: None }));
    }
    Ok(images)
}

fn calls<'a>(
    fields: &mut Fields<'a, '_>,
    place: Path<'_>,
    seen: &mut Seen<'a>,
    report: &mut Report,
) -> Result<Vec<ToolCall<'a>>, Refused> {
    let list = Path::Key(&place, "tool_calls");
    let mut calls = Vec::new();
    for (at, value) in fields.array("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        let call = call(value, Path::Index(&list, at), report)?;
        if matches!(call.arguments, Arguments::Free(_)) {
            seen.custom.insert(call.id.clone());
        }
        calls.push(call);
    }
    if let Some(value) = fields.take("function_call") {
        let mut function = Fields::of(value, Path::Key(&place, "function_call"))?;
        calls.push(ToolCall {
            id: seen.call(),
            name: function.require_string("name")?,
            arguments: Arguments::Written(function.string("arguments")?.unwrap_or(Escaped::EMPTY)),
            signature: None,
            cache: None,
        });
        function.finish(report);
    }
    Ok(calls)
}

fn call<'a>(value: Value<'a>, place: Path<'_>, report: &mut Report) -> Result<ToolCall<'a>, Refused> {
    let mut fields = Fields::of(value, place)?;
    fields.ignore(&["index"]);
    let id = fields.require_string("id")?;
    let cache = read_content::cache_marker(&mut fields)?;
    let signature = fields.take("extra_content").and_then(reasoning_details::call_signature);
    let is_custom = fields.string("type")?.is_some_and(|kind| kind.is("custom"));
    let key = if is_custom { "custom" } else { "function" };
    let mut called = Fields::of(fields.require(key)?, Path::Key(&place, key))?;
    let name = called.require_string("name")?;
    let arguments = if is_custom {
        Arguments::Free(called.string("input")?.unwrap_or(Escaped::EMPTY))
    } else {
        match called.take("arguments") {
            None => Arguments::Written(Escaped::EMPTY),
            Some(value) => match (value.string(), value.members()) {
                (Some(text), _) => Arguments::Written(text),
                // Some servers' answers hold the object itself, and come back so.
                (None, Some(_)) => Arguments::Object(value),
                (None, None) => return Err(called.wrong("arguments", "a string")),
            },
        }
    };
    called.finish(report);
    fields.finish(report);
    let signature = signature.map(|data| Opaque::read(Protocol::Gemini, OpaqueKind::Signature, data));
    Ok(ToolCall { id, name, arguments, signature, cache })
}
