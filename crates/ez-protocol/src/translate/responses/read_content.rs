//! Reads the content of a Responses message, and what a tool answered.

use super::super::fields::{Fields, Path};
use super::super::media;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, Media, MediaKind, MediaSource, Role, Text};
use crate::json::{Escaped, Value};

/// The `content` of a message.
pub(super) fn read_content<'a>(
    role: Role,
    fields: &mut Fields<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Block<'a>>, Refused> {
    read_parts(Some(role), "content", fields, report)
}

/// The `output` of a call.
pub(super) fn read_output<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Vec<Block<'a>>, Refused> {
    read_parts(None, "output", fields, report)
}

/// A string or parts. `role` is whose message it is, `None` for what a tool answered.
fn read_parts<'a>(
    role: Option<Role>,
    key: &str,
    fields: &mut Fields<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Block<'a>>, Refused> {
    let content = fields.require(key)?;
    if let Some(text) = content.string() {
        return Ok(vec![Block::Text(Text::plain(text))]);
    }
    let parts = content.elements().ok_or_else(|| fields.wrong(key, "a string or an array of parts"))?;
    let path = Path::Key(fields.path(), key);
    let read = |(at, part): (usize, Value<'a>)| read_part(role, Fields::of(part, Path::Index(&path, at))?, report);
    parts.into_iter().enumerate().map(read).collect()
}

fn read_part<'a>(role: Option<Role>, mut fields: Fields<'a, '_>, report: &mut Report) -> Result<Block<'a>, Refused> {
    let kind = fields.require_string("type")?;
    let kind = kind.text();
    let may_hold_files = matches!(role, Some(Role::User) | None);
    let block = match kind.as_ref() {
        "input_text" | "output_text" | "text" => {
            // Where its words are from, and how sure the model was of them, is nothing that a model is told.
            fields.ignore(&["annotations", "logprobs"]);
            Block::Text(Text::plain(fields.require_string("text")?))
        }
        "refusal" if role == Some(Role::Assistant) => Block::Refusal(fields.require_string("refusal")?),
        "input_image" | "input_file" | "input_audio" if !may_hold_files => {
            let reason = "stands in a message that may hold text alone: send it as the user's";
            return Err(Refused::inexpressible(fields.path().exact(), reason));
        }
        "input_image" => Block::Media(read_image(&mut fields)?),
        "input_file" => Block::Media(read_file(&mut fields)?),
        "input_audio" => Block::Media(read_audio(&mut fields, report)?),
        _ => return Err(fields.wrong("type", "input_text, output_text, refusal, input_image or input_file")),
    };
    fields.finish(report);
    Ok(block)
}

fn read_image<'a>(fields: &mut Fields<'a, '_>) -> Result<Media<'a>, Refused> {
    refuse_file_id(fields)?;
    let url = fields.require_string("image_url")?;
    let source = media::of_url(MediaKind::Image, url);
    let detail = fields.string("detail")?;
    Ok(Media { kind: MediaKind::Image, source, name: None, detail, cache: None })
}

fn read_file<'a>(fields: &mut Fields<'a, '_>) -> Result<Media<'a>, Refused> {
    refuse_file_id(fields)?;
    let (data, url) = (fields.string("file_data")?, fields.string("file_url")?);
    let source = match (data, url) {
        (Some(data), _) if is_data_url(&data) => media::of_url(MediaKind::Document, data),
        (Some(data), _) => media::of_base64(MediaKind::Document, None, data),
        (None, Some(url)) => media::of_url(MediaKind::Document, url),
        (None, None) => return Err(Refused::missing(fields.place("file_data"))),
    };
    let kind = kind_of(&source);
    Ok(Media { kind, source, name: fields.string("filename")?, detail: fields.string("detail")?, cache: None })
}

fn read_audio<'a>(fields: &mut Fields<'a, '_>, report: &mut Report) -> Result<Media<'a>, Refused> {
    let path = *fields.path();
    let audio = fields.require("input_audio")?;
    let mut inner = Fields::of(audio, Path::Key(&path, "input_audio"))?;
    let format = inner.require_string("format")?;
    let media_type = format!("audio/{}", format.text());
    let source = media::of_base64(MediaKind::Audio, Some(&media_type), inner.require_string("data")?);
    inner.finish(report);
    Ok(Media { kind: MediaKind::Audio, source, name: None, detail: None, cache: None })
}

fn is_data_url(text: &Escaped<'_>) -> bool {
    text.as_str().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// What a file is: by its type where that is told, else a document.
fn kind_of(source: &MediaSource<'_>) -> MediaKind {
    match source {
        MediaSource::Base64 { media_type, .. } => media::kind_of(&media_type.text()).unwrap_or(MediaKind::Document),
        MediaSource::Text(_) | MediaSource::Url { .. } => MediaKind::Document,
    }
}

fn refuse_file_id(fields: &mut Fields<'_, '_>) -> Result<(), Refused> {
    if fields.take("file_id").is_some() {
        let reason = "is a file that only its vendor has: send its content (`file_data`, `image_url`)";
        return Err(Refused::inexpressible(fields.place("file_id"), reason));
    }
    Ok(())
}
