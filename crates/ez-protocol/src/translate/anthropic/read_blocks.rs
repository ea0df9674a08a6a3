//! Reads the blocks that messages consist of.

use ez_contract::Protocol;

use super::super::fields::{Fields, Path};
use super::super::media;
use super::super::opaque::{Opaque, OpaqueKind};
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{
    Arguments, Block, CacheMarker, Media, MediaKind, MediaSource, Reasoning, Role, Text, ToolCall, ToolResult,
};
use super::read_request::cache_marker;
use crate::json::{Escaped, Value};

/// What the messages of a role may consist of.
const fn known(role: Role) -> &'static str {
    match role {
        Role::User => "`text`, `image`, `document`, `search_result` or `tool_result`",
        Role::Assistant => "`text`, `thinking`, `redacted_thinking` or `tool_use`",
        Role::System | Role::Developer => "`text`",
    }
}

/// Reads a block of a message.
pub(super) fn read_block<'a>(
    block: Value<'a>,
    path: Path<'_>,
    role: Role,
    out: &mut Vec<Block<'a>>,
    report: &mut Report,
) -> Result<(), Refused> {
    let mut fields = Fields::of(block, path)?;
    let kind = fields.require_string("type")?;
    match (kind.text().as_ref(), role) {
        ("text", _) => out.push(Block::Text(read_text(&mut fields, report)?)),
        ("image", Role::User) => out.push(read_image(&mut fields, report)?),
        ("document", Role::User) => read_document(&mut fields, out, report)?,
        ("search_result", Role::User) => out.push(read_search_result(&mut fields, report)?),
        ("tool_result", Role::User) => out.push(read_tool_result(&mut fields, report)?),
        ("tool_use", Role::Assistant) => out.push(read_tool_use(&mut fields, report)?),
        ("thinking", Role::Assistant) => {
            let text = fields.require_string("thinking")?;
            out.push(read_state(text, fields.string("signature")?, OpaqueKind::Signature));
        }
        ("redacted_thinking", Role::Assistant) => {
            out.push(read_state(Escaped::EMPTY, fields.string("data")?, OpaqueKind::Encrypted));
        }
        ("image" | "document", Role::System) => {
            return Err(Refused::inexpressible(path.exact(), "is no text: put it into a message of the user"));
        }
        ("container_upload", _) => return Err(uploaded(&fields)),
        (word, _) if is_hosted(word) => {
            let reason = "tells of a tool that Anthropic runs, which no other vendor takes back: leave the block out, or \
                          use an Anthropic model";
            return Err(Refused::inexpressible(path.exact(), reason));
        }
        _ => return Err(fields.wrong("type", known(role))),
    }
    fields.finish(report);
    Ok(())
}

/// Whether a block is about a tool that Anthropic runs.
fn is_hosted(kind: &str) -> bool {
    kind == "server_tool_use" || kind.starts_with("mcp_") || (kind != "tool_result" && kind.ends_with("_tool_result"))
}

fn uploaded(fields: &Fields<'_, '_>) -> Refused {
    let reason = "is a file that was uploaded to Anthropic: send its content in base64, or its URL";
    Refused::inexpressible(fields.path().exact(), reason)
}

fn read_text<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Text<'a>, Refused> {
    Ok(Text { text: fields.require_string("text")?, cache: cache_marker(fields, report)? })
}

fn read_state<'a>(text: Escaped<'a>, state: Option<Escaped<'a>>, kind: OpaqueKind) -> Block<'a> {
    let state = state.filter(|state| !state.is_empty());
    let signature = state.map(|state| Opaque::read(Protocol::AnthropicMessages, kind, state));
    Block::Reasoning(Reasoning { text, signature })
}

/// The fields of a block's `source`, and its type.
fn read_source<'a, 'p>(fields: &mut Fields<'a, '_>, path: Path<'p>) -> Result<(Fields<'a, 'p>, Escaped<'a>), Refused> {
    let source = fields.object("source")?.ok_or_else(|| Refused::missing(fields.place("source")))?;
    let mut source = Fields::of(source, path)?;
    let kind = source.require_string("type")?;
    Ok((source, kind))
}

fn read_image<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Block<'a>, Refused> {
    let path = *fields.path();
    let (mut source, kind) = read_source(fields, Path::Key(&path, "source"))?;
    let content = match kind.text().as_ref() {
        "base64" => read_base64(&mut source, MediaKind::Image)?,
        "url" => media::of_url(MediaKind::Image, source.require_string("url")?),
        "file" => return Err(uploaded(&source)),
        _ => return Err(source.wrong("type", "`base64` or `url`")),
    };
    source.finish(report);
    let cache = cache_marker(fields, report)?;
    Ok(Block::Media(Media { kind: MediaKind::Image, source: content, name: None, detail: None, cache }))
}

fn read_base64<'a>(source: &mut Fields<'a, '_>, kind: MediaKind) -> Result<MediaSource<'a>, Refused> {
    let media_type = source.string("media_type")?;
    let told = media_type.as_ref().map(Escaped::text);
    Ok(media::of_base64(kind, told.as_deref(), source.require_string("data")?))
}

/// Reads a document. One that is made of texts and images becomes several: the texts between the images are put together.
fn read_document<'a>(
    fields: &mut Fields<'a, '_>,
    out: &mut Vec<Block<'a>>,
    report: &mut Report,
) -> Result<(), Refused> {
    let path = *fields.path();
    let source_path = Path::Key(&path, "source");
    let (mut source, kind) = read_source(fields, source_path)?;
    let name = fields.string("title")?.filter(|title| !title.is_empty());
    let cache = cache_marker(fields, report)?;
    let document = |source| Media { kind: MediaKind::Document, source, name: name.clone(), detail: None, cache };
    match kind.text().as_ref() {
        "base64" => out.push(Block::Media(document(read_base64(&mut source, MediaKind::Document)?))),
        "url" => out.push(Block::Media(document(media::of_url(MediaKind::Document, source.require_string("url")?)))),
        "text" => {
            source.ignore(&["media_type"]);
            out.push(Block::Media(document(MediaSource::Text(source.require_string("data")?))));
        }
        "content" => {
            let content = source.require("content")?;
            let blocks = read_parts(content, Path::Key(&source_path, "content"), report)?;
            for block in joined(blocks) {
                out.push(match block {
                    Block::Text(text) => Block::Media(document(MediaSource::Text(text.text))),
                    other => other,
                });
            }
        }
        "file" => return Err(uploaded(&source)),
        _ => return Err(source.wrong("type", "`base64`, `text`, `content` or `url`")),
    }
    drop_citations(fields, report);
    source.finish(report);
    Ok(())
}

/// Texts that follow each other are one, a line apart.
fn joined(blocks: Vec<Block<'_>>) -> Vec<Block<'_>> {
    let mut out: Vec<Block<'_>> = Vec::with_capacity(blocks.len());
    for block in blocks {
        match (out.last_mut(), block) {
            (Some(Block::Text(before)), Block::Text(text)) => {
                before.text.push(&Escaped::of("\n"));
                before.text.push(&text.text);
            }
            (_, block) => out.push(block),
        }
    }
    out
}

/// Citations that are off ask for nothing.
fn drop_citations(fields: &mut Fields<'_, '_>, report: &mut Report) {
    let asked = fields.take("citations").and_then(|citations| citations.get("enabled")?.bool());
    if asked == Some(true) {
        fields.dropped("citations", report);
    }
}

/// A search result is what the model is to answer from, so that it is passed as text: its title, where it was found, and
/// its words.
fn read_search_result<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Block<'a>, Refused> {
    let path = *fields.path();
    let mut text = fields.require_string("title")?;
    text.push(&Escaped::of("\n"));
    text.push(&fields.require_string("source")?);
    text.push(&Escaped::of("\n"));
    let content = fields.require("content")?;
    for block in read_parts(content, Path::Key(&path, "content"), report)? {
        let Block::Text(part) = block else {
            return Err(fields.wrong("content", "an array of texts"));
        };
        text.push(&Escaped::of("\n"));
        text.push(&part.text);
    }
    drop_citations(fields, report);
    Ok(Block::Text(Text { text, cache: cache_marker(fields, report)? }))
}

fn read_tool_use<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Block<'a>, Refused> {
    // Who called: the model itself, since tools that call others run at Anthropic and are refused.
    fields.ignore(&["caller"]);
    Ok(Block::ToolCall(ToolCall {
        id: fields.require_string("id")?,
        name: fields.require_string("name")?,
        arguments: Arguments::Object(fields.object("input")?.unwrap_or(Value::EMPTY_OBJECT)),
        signature: None,
        cache: cache_marker(fields, report)?,
    }))
}

fn read_tool_result<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Block<'a>, Refused> {
    let path = *fields.path();
    let id = fields.require_string("tool_use_id")?;
    let content = match fields.take("content") {
        Some(content) => read_parts(content, Path::Key(&path, "content"), report)?,
        None => Vec::new(),
    };
    let is_error = fields.bool("is_error")?;
    let cache: Option<CacheMarker> = cache_marker(fields, report)?;
    Ok(Block::ToolResult(ToolResult { id, name: None, content, is_error, is_custom: false, cache }))
}

/// Texts and media inside a block: a string, or blocks.
fn read_parts<'a>(content: Value<'a>, path: Path<'_>, report: &mut Report) -> Result<Vec<Block<'a>>, Refused> {
    if let Some(text) = content.string() {
        return Ok(vec![Block::Text(Text::plain(text))]);
    }
    let parts =
        content.elements().ok_or_else(|| Refused::wrong_type(path.exact(), "a string or an array of blocks"))?;
    let mut out = Vec::with_capacity(parts.len());
    for (at, part) in parts.into_iter().enumerate() {
        let mut fields = Fields::of(part, Path::Index(&path, at))?;
        match fields.require_string("type")?.text().as_ref() {
            "text" => out.push(Block::Text(read_text(&mut fields, report)?)),
            "image" => out.push(read_image(&mut fields, report)?),
            "document" => read_document(&mut fields, &mut out, report)?,
            "search_result" => out.push(read_search_result(&mut fields, report)?),
            _ => return Err(fields.wrong("type", "`text`, `image`, `document` or `search_result`")),
        }
        fields.finish(report);
    }
    Ok(out)
}
