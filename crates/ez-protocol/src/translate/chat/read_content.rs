//! Reads the content of messages: texts and files.

use super::super::fields::{Fields, Path};
use super::super::media;
use super::super::refused::Refused;
use super::super::report::Report;
use super::super::request::{Block, CacheMarker, Media, MediaKind, MediaSource, Text};
use crate::json::{Escaped, Kind, Value};

/// The blocks of a `content`: a string, or an array of parts.
pub(super) fn blocks<'a>(
    content: Option<Value<'a>>,
    place: Path<'_>,
    report: &mut Report,
) -> Result<Vec<Block<'a>>, Refused> {
    let Some(content) = content else { return Ok(Vec::new()) };
    if let Some(text) = content.string() {
        return Ok(vec![Block::Text(Text::plain(text))]);
    }
    // Some clients send one part without its array.
    let parts = match content.kind() {
        Kind::Object => vec![content],
        _ => content.elements().ok_or_else(|| Refused::wrong_type(place.exact(), "a string or an array of parts"))?,
    };
    let mut blocks = Vec::with_capacity(parts.len());
    for (at, part) in parts.into_iter().enumerate() {
        let place = Path::Index(&place, at);
        blocks.push(match part.string() {
            Some(text) => Block::Text(Text::plain(text)),
            None => block(part, place, report)?,
        });
    }
    Ok(blocks)
}

fn block<'a>(part: Value<'a>, place: Path<'_>, report: &mut Report) -> Result<Block<'a>, Refused> {
    let mut part = Fields::of(part, place)?;
    let kind = part.require_string("type")?;
    let cache = cache_marker(&mut part)?;
    let block = match kind.text().as_ref() {
        // The second and third are Responses' words, which some clients mix in.
        "text" | "input_text" | "output_text" => {
            part.ignore(&["annotations"]);
            Block::Text(Text { text: part.require_string("text")?, cache })
        }
        "refusal" => Block::Refusal(part.require_string("refusal")?),
        "image_url" => Block::Media(Media { cache, ..image(&mut part, place, report)? }),
        "input_audio" => Block::Media(Media { cache, ..audio(&mut part, place, report)? }),
        "file" => Block::Media(Media { cache, ..file(&mut part, place, report)? }),
        "video_url" => Block::Media(Media { cache, ..video(&mut part, place, report)? }),
        _ => return Err(part.wrong("type", "`text`, `image_url`, `input_audio` or `file`")),
    };
    part.finish(report);
    Ok(block)
}

/// OpenRouter's and LiteLLM's `cache_control`, which is Anthropic's, or OpenAI's `prompt_cache_breakpoint`.
pub(super) fn cache_marker(fields: &mut Fields<'_, '_>) -> Result<Option<CacheMarker>, Refused> {
    let control = fields.object("cache_control")?;
    let breakpoint = fields.object("prompt_cache_breakpoint")?;
    let Some(marker) = control.or(breakpoint) else { return Ok(None) };
    let ttl = marker.get("ttl").and_then(Value::string);
    Ok(Some(match ttl.as_ref().map(Escaped::text).as_deref() {
        Some("5m") => CacheMarker::FiveMinutes,
        // OpenAI keeps for 30 minutes at least.
        Some("1h" | "30m" | "12h" | "24h") => CacheMarker::OneHour,
        _ => CacheMarker::Default,
    }))
}

/// What is inside of a part's own field: an object, or an address alone where clients write it so.
fn url_of<'a>(
    part: &mut Fields<'a, '_>,
    key: &str,
    place: Path<'_>,
    report: &mut Report,
) -> Result<(Escaped<'a>, Option<Escaped<'a>>), Refused> {
    let value = part.require(key)?;
    if let Some(url) = value.string() {
        return Ok((url, None));
    }
    let mut inner = Fields::of(value, Path::Key(&place, key))?;
    let found = (inner.require_string("url")?, inner.string("detail")?);
    // LiteLLM's name for the type, which the content tells as well.
    inner.ignore(&["format"]);
    inner.finish(report);
    Ok(found)
}

fn image<'a>(part: &mut Fields<'a, '_>, place: Path<'_>, report: &mut Report) -> Result<Media<'a>, Refused> {
    let (url, detail) = url_of(part, "image_url", place, report)?;
    let source = media::of_url(MediaKind::Image, url);
    // Some clients send every file so.
    let kind = match &source {
        MediaSource::Base64 { media_type, .. } => media::kind_of(&media_type.text()).unwrap_or(MediaKind::Image),
        _ => MediaKind::Image,
    };
    Ok(Media { kind, source, name: None, detail, cache: None })
}

fn video<'a>(part: &mut Fields<'a, '_>, place: Path<'_>, report: &mut Report) -> Result<Media<'a>, Refused> {
    let (url, detail) = url_of(part, "video_url", place, report)?;
    let source = media::of_url(MediaKind::Video, url);
    Ok(Media { kind: MediaKind::Video, source, name: None, detail, cache: None })
}

fn audio<'a>(part: &mut Fields<'a, '_>, place: Path<'_>, report: &mut Report) -> Result<Media<'a>, Refused> {
    let mut audio = Fields::of(part.require("input_audio")?, Path::Key(&place, "input_audio"))?;
    let data = audio.require_string("data")?;
    let format = audio.require_string("format")?;
    audio.finish(report);
    let media_type = format!("audio/{}", format.text());
    let source = media::of_base64(MediaKind::Audio, Some(&media_type), data);
    Ok(Media { kind: MediaKind::Audio, source, name: None, detail: None, cache: None })
}

fn file<'a>(part: &mut Fields<'a, '_>, place: Path<'_>, report: &mut Report) -> Result<Media<'a>, Refused> {
    let mut file = Fields::of(part.require("file")?, Path::Key(&place, "file"))?;
    if file.take("file_id").is_some() {
        let reason = "is a file that another vendor holds: send its content as `file_data`";
        return Err(Refused::inexpressible(file.place("file_id"), reason));
    }
    let data = file.require_string("file_data")?;
    let name = file.string("filename")?;
    file.ignore(&["format"]);
    file.finish(report);
    let is_url =
        data.as_str().starts_with("http") || data.as_str().get(..5).is_some_and(|s| s.eq_ignore_ascii_case("data:"));
    let source = if is_url {
        media::of_url(MediaKind::Document, data)
    } else {
        media::of_base64(MediaKind::Document, None, data)
    };
    let kind = match &source {
        MediaSource::Base64 { media_type, .. } => media::kind_of(&media_type.text()).unwrap_or(MediaKind::Document),
        _ => MediaKind::Document,
    };
    Ok(Media { kind, source, name, detail: None, cache: None })
}
