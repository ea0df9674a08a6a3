//! Writes the blocks that messages consist of.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ez_contract::Protocol;

use super::super::opaque::OpaqueKind;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{
    Arguments, Block, CacheMarker, Media, MediaKind, MediaSource, Reasoning, Text, ToolCall, ToolResult,
};
use super::super::restore;
use super::super::target::Target;
use super::super::tool_names::sent_id;
use super::super::words::Words;
use super::write_request::write_cache;
use crate::json::{Escaped, Value, Writer};

/// The key that Anthropic's guide gives for input that is no JSON.
const INVALID_JSON: &str = "INVALID_JSON";
/// The types of images that Anthropic takes.
const IMAGE_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// Whether a text is white space alone, which Anthropic refuses.
pub(super) fn is_blank(text: &Escaped<'_>) -> bool {
    let written = text.as_str().trim_start();
    written.is_empty() || (written.starts_with('\\') && text.text().trim().is_empty())
}

/// The texts and media of a tool's result that Anthropic takes.
pub(super) fn fitted_content<'a>(
    content: Vec<Block<'a>>,
    words: Words,
    report: &mut Report,
) -> Result<Vec<Block<'a>>, Refused> {
    let mut out = Vec::with_capacity(content.len());
    for block in content {
        match block {
            Block::Text(text) if is_blank(&text.text) => {}
            Block::Media(media) => out.push(Block::Media(fitted(media, words, report)?)),
            other => out.push(other),
        }
    }
    Ok(out)
}

/// A file in the way that Anthropic takes it: documents that are text as text, images by their type.
pub(super) fn fitted<'a>(mut media: Media<'a>, words: Words, report: &mut Report) -> Result<Media<'a>, Refused> {
    if media.detail.as_ref().is_some_and(|detail| !detail.is("auto")) {
        report.dropped(&format!("{}.detail", words.turns));
    }
    let refused = |reason: &str| Err(Refused::inexpressible(words.turns, reason));
    match media.kind {
        MediaKind::Audio => return refused("holds audio, which Anthropic does not take: send its words"),
        MediaKind::Video => return refused("holds a video, which Anthropic does not take: send images of it"),
        MediaKind::Image | MediaKind::Document => {}
    }
    match &media.source {
        MediaSource::Text(_) => media.kind = MediaKind::Document,
        MediaSource::Url { url, media_type } => {
            let address = url.text();
            let is_web = ["https://", "http://"].iter().any(|scheme| starts_with(&address, scheme));
            let is_pdf = media_type.as_ref().is_none_or(|told| told.is("application/pdf"));
            if !is_web {
                return refused("holds a file at an address that is no web page's: send its content in base64");
            }
            if media.kind == MediaKind::Document && !is_pdf {
                return refused("holds the URL of a document that is no PDF: send its content");
            }
        }
        MediaSource::Base64 { media_type, data } => {
            let told = media_type.text();
            if IMAGE_TYPES.contains(&told.as_ref()) {
                media.kind = MediaKind::Image;
            } else if told.starts_with("image/") || media.kind == MediaKind::Image {
                return refused("holds an image that is no JPEG, PNG, GIF or WebP: send it as one of these");
            } else if told != "application/pdf" {
                let Some(text) = decoded(&data.text()) else {
                    return refused(
                        "holds a file that is neither a PDF nor text nor an image: send it as one of these",
                    );
                };
                media.source = MediaSource::Text(Escaped::of_owned(text));
            }
        }
    }
    Ok(media)
}

fn starts_with(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

/// The text that base64 stands for, where it is one.
fn decoded(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

/// About how many bytes the texts of a block have.
pub(super) fn bytes(block: &Block<'_>) -> usize {
    match block {
        Block::Text(text) => text.text.as_str().len(),
        Block::Refusal(text) => text.as_str().len(),
        Block::Media(media) => match &media.source {
            MediaSource::Base64 { data, .. } => data.as_str().len(),
            MediaSource::Text(text) => text.as_str().len(),
            MediaSource::Url { url, .. } => url.as_str().len(),
        },
        Block::ToolCall(call) => match &call.arguments {
            Arguments::Written(text) | Arguments::Free(text) => text.as_str().len(),
            Arguments::Object(value) => value.as_str().len(),
        },
        Block::ToolResult(result) => result.content.iter().map(|block| bytes(block) + 32).sum(),
        Block::Reasoning(reasoning) => {
            reasoning.text.as_str().len() + reasoning.signature.as_ref().map_or(0, |state| state.data.as_str().len())
        }
    }
}

/// Writes the members of a block.
pub(super) fn write_block(json: &mut Writer, block: &Block<'_>, target: &Target<'_>) {
    match block {
        Block::Text(Text { text, cache }) => write_text(json, text, *cache),
        Block::Refusal(text) => write_text(json, text, None),
        Block::Media(media) => write_media(json, media),
        Block::ToolCall(call) => write_call(json, call, target),
        Block::ToolResult(result) => write_result(json, result, target),
        Block::Reasoning(reasoning) => write_reasoning(json, reasoning),
    }
}

pub(super) fn write_text(json: &mut Writer, text: &Escaped<'_>, cache: Option<CacheMarker>) {
    json.key("type").string("text");
    json.key("text").escaped(text);
    write_cache(json, cache);
}

fn write_media(json: &mut Writer, media: &Media<'_>) {
    let is_image = media.kind == MediaKind::Image;
    json.key("type").string(if is_image { "image" } else { "document" });
    json.key("source").object(|json| match &media.source {
        MediaSource::Base64 { media_type, data } => {
            json.key("type").string("base64");
            json.key("media_type").escaped(media_type);
            json.key("data").escaped(data);
        }
        MediaSource::Text(text) => {
            json.key("type").string("text");
            json.key("media_type").string("text/plain");
            json.key("data").escaped(text);
        }
        MediaSource::Url { url, .. } => {
            json.key("type").string("url");
            json.key("url").escaped(url);
        }
    });
    if let Some(name) = media.name.as_ref().filter(|name| !is_image && !name.is_empty()) {
        json.key("title").escaped(name);
    }
    write_cache(json, media.cache);
}

fn write_call(json: &mut Writer, call: &ToolCall<'_>, target: &Target<'_>) {
    json.key("type").string("tool_use");
    json.key("id").escaped(&sent_id(&call.id, Protocol::AnthropicMessages));
    json.key("name").escaped(&target.names.sent(&call.name));
    json.key("input");
    match &call.arguments {
        Arguments::Object(input) => json.value(*input),
        Arguments::Free(input) => json.raw(&restore::wrapped_input(input)),
        Arguments::Written(text) => write_input(json, text),
    }
    write_cache(json, call.cache);
}

/// Writes arguments that are a JSON text as the object that they are; what is none is kept in one.
pub(super) fn write_input(json: &mut Writer, written: &Escaped<'_>) {
    let text: Cow<'_, str> = written.text();
    if text.trim().is_empty() {
        return json.raw("{}");
    }
    match Value::parse_object(&text) {
        Some(object) => json.value(object),
        None => json.object(|json| json.key(INVALID_JSON).escaped(written)),
    }
}

fn write_result(json: &mut Writer, result: &ToolResult<'_>, target: &Target<'_>) {
    let is_error = result.is_error == Some(true);
    json.key("type").string("tool_result");
    json.key("tool_use_id").escaped(&sent_id(&result.id, Protocol::AnthropicMessages));
    if !result.content.is_empty() {
        json.key("content").array(|json| {
            result.content.iter().for_each(|block| json.object(|json| write_block(json, block, target)));
        });
    } else if is_error {
        // An error without words is refused.
        json.key("content").string("Error");
    }
    if is_error {
        json.key("is_error").bool(true);
    }
    write_cache(json, result.cache);
}

/// Writes reasoning that Anthropic issued.
fn write_reasoning(json: &mut Writer, reasoning: &Reasoning<'_>) {
    match &reasoning.signature {
        Some(state) if state.kind == OpaqueKind::Encrypted => {
            json.key("type").string("redacted_thinking");
            json.key("data").escaped(&state.data);
        }
        signature => {
            json.key("type").string("thinking");
            json.key("thinking").escaped(&reasoning.text);
            json.key("signature").escaped(signature.as_ref().map_or(&Escaped::EMPTY, |state| &state.data));
        }
    }
}
