//! Writes what Gemini's requests and answers have in common: arguments of calls, and files.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::request::{Arguments, Media, MediaSource};
use super::super::restore::wrapped_input;
use super::file_types::type_of_url;
use crate::json::{Escaped, Value, Writer};

/// What arguments are called that are no object; Anthropic's advice for its own models.
const INVALID_JSON: &str = "INVALID_JSON";

/// Writes arguments as the object that Gemini wants.
pub(super) fn write_arguments(json: &mut Writer, arguments: &Arguments<'_>) {
    match arguments {
        Arguments::Object(object) => json.value(*object),
        Arguments::Free(text) => json.raw(&wrapped_input(text)),
        Arguments::Written(written) => write_written(json, written),
    }
}

/// Writes arguments that came as a text.
pub(super) fn write_written(json: &mut Writer, written: &Escaped<'_>) {
    let text = written.text();
    match Value::parse_object(&text) {
        Some(object) => json.value(object),
        None if text.trim().is_empty() => json.value(Value::EMPTY_OBJECT),
        None => json.object(|json| json.key(INVALID_JSON).escaped(written)),
    }
}

/// Writes a file as a part.
pub(super) fn write_media(json: &mut Writer, media: &Media<'_>) {
    json.object(|json| match &media.source {
        MediaSource::Base64 { media_type, data } => write_inline(json, media_type, data),
        MediaSource::Text(text) => {
            let data = STANDARD.encode(text.text().as_bytes());
            write_inline(json, &Escaped::of("text/plain"), &Escaped::of(&data));
        }
        MediaSource::Url { url, media_type } => json.key("fileData").object(|json| {
            match (media_type, type_of_url(&url.text())) {
                (Some(told), _) => json.key("mimeType").escaped(told),
                (None, Some(known)) => json.key("mimeType").string(known),
                (None, None) => {}
            }
            json.key("fileUri").escaped(url);
        }),
    });
}

/// Writes content in base64.
pub(super) fn write_inline(json: &mut Writer, media_type: &Escaped<'_>, data: &Escaped<'_>) {
    json.key("inlineData").object(|json| {
        json.key("mimeType").escaped(media_type);
        json.key("data").escaped(data);
    });
}
