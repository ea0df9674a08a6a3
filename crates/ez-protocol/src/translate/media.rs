//! Files inside a conversation: taken out of `data:` URLs and put into them, with the media type that the content has.
//! Clients write types that vendors refuse (`image/jpg`, a PNG that is called a JPEG); the first bytes of the content say
//! what it is.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::request::{MediaKind, MediaSource};
use crate::json::{Escaped, Writer};

/// Where the content of a URL is: here for `data:` URLs, else there.
pub(in crate::translate) fn of_url(kind: MediaKind, url: Escaped<'_>) -> MediaSource<'_> {
    let is_data = url.as_str().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    if !is_data {
        return MediaSource::Url { url, media_type: None };
    }
    match url.into_text() {
        Cow::Borrowed(text) => {
            let (head, content) = halves(text);
            from_data(kind, head, Cow::Borrowed(content))
        }
        Cow::Owned(text) => {
            let (head, content) = halves(&text);
            from_data(kind, head, Cow::Owned(content.to_owned()))
        }
    }
}

/// Content in base64 with the type that the client says it has.
pub(in crate::translate) fn of_base64<'a>(
    kind: MediaKind,
    media_type: Option<&str>,
    data: Escaped<'a>,
) -> MediaSource<'a> {
    let data = mended(data.into_text());
    MediaSource::Base64 { media_type: type_of(kind, media_type.unwrap_or_default(), &data), data: escaped(data) }
}

/// What a file of this type is; `None` where the type does not tell.
pub(in crate::translate) fn kind_of(media_type: &str) -> Option<MediaKind> {
    match media_type.split('/').next()? {
        "image" => Some(MediaKind::Image),
        "audio" => Some(MediaKind::Audio),
        "video" => Some(MediaKind::Video),
        "text" => Some(MediaKind::Document),
        "application" if media_type != "application/octet-stream" => Some(MediaKind::Document),
        _ => None,
    }
}

/// Writes content as a `data:` URL.
pub(in crate::translate) fn write_data_url(json: &mut Writer, media_type: &Escaped<'_>, data: &Escaped<'_>) {
    json.joined([&Escaped::of("data:"), media_type, &Escaped::of(";base64,"), data]);
}

/// What stands between the scheme and the comma, and what stands behind it.
fn halves(url: &str) -> (&str, &str) {
    let rest = url.get("data:".len()..).unwrap_or_default();
    rest.split_once(',').unwrap_or((rest, ""))
}

/// The content of a `data:` URL whose head is `image/png;base64` or its like (RFC 2397).
fn from_data<'a>(kind: MediaKind, head: &str, content: Cow<'a, str>) -> MediaSource<'a> {
    let is_mark = |word: &str| word.trim().eq_ignore_ascii_case("base64");
    let is_base64 = head.split(';').any(is_mark);
    let told = head.split(';').next().filter(|word| !is_mark(word)).unwrap_or_default();
    let data = if is_base64 { mended(content) } else { Cow::Owned(STANDARD.encode(percent_decoded(&content))) };
    // RFC 2397: without a type it is text.
    let told = if told.trim().is_empty() && !is_base64 { "text/plain" } else { told };
    MediaSource::Base64 { media_type: type_of(kind, told, &data), data: escaped(data) }
}

fn escaped(text: Cow<'_, str>) -> Escaped<'_> {
    match text {
        Cow::Borrowed(text) => Escaped::of(text),
        Cow::Owned(text) => Escaped::of_owned(text),
    }
}

/// Base64 in the standard alphabet and with padding, as vendors want it; line ends, the alphabet for URLs and percent
/// signs are what clients send.
fn mended(data: Cow<'_, str>) -> Cow<'_, str> {
    let is_standard = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    if data.len().is_multiple_of(4) && data.bytes().all(is_standard) {
        return data;
    }
    let bytes = if data.contains('%') { percent_decoded(&data) } else { data.as_bytes().to_vec() };
    let standard = |byte: &u8| match byte {
        b'-' => Some('+'),
        b'_' => Some('/'),
        byte if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') => Some(char::from(*byte)),
        _ => None,
    };
    let mut mended: String = bytes.iter().filter_map(standard).collect();
    while !mended.len().is_multiple_of(4) {
        mended.push('=');
    }
    Cow::Owned(mended)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let byte = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(b'%'));
        rest = &rest[at + if byte.is_some() { 3 } else { 1 }..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The type that the content has; where that does not show, the one that was told, else the usual one.
fn type_of(kind: MediaKind, told: &str, data: &str) -> Escaped<'static> {
    if let Some(seen) = sniffed(data) {
        return Escaped::of(seen);
    }
    let told = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Escaped::of_owned(match told.as_str() {
        "image/jpg" | "image/pjpeg" => "image/jpeg".to_owned(),
        "image/x-png" => "image/png".to_owned(),
        "application/x-pdf" => "application/pdf".to_owned(),
        "audio/mp3" => "audio/mpeg".to_owned(),
        "audio/x-wav" | "audio/wave" => "audio/wav".to_owned(),
        word if kind_of(word).is_none() || word.split('/').nth(1).is_none_or(str::is_empty) => usual(kind).to_owned(),
        _ => told,
    })
}

/// What a file of this kind mostly is.
const fn usual(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image/png",
        MediaKind::Document => "application/pdf",
        MediaKind::Audio => "audio/wav",
        MediaKind::Video => "video/mp4",
    }
}

/// What the first bytes of the content show.
fn sniffed(data: &str) -> Option<&'static str> {
    /// Ends that are cut off do not matter.
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    let groups = data.len().min(16) / 4 * 4;
    let head = LENIENT.decode(data.get(..groups)?).ok()?;
    match head.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => Some("audio/wav"),
        [b'I', b'D', b'3', ..] => Some("audio/mpeg"),
        [b'%', b'P', b'D', b'F', b'-', ..] => Some("application/pdf"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Value;

    fn shown(source: &MediaSource<'_>) -> String {
        match source {
            MediaSource::Base64 { media_type, data } => format!("{} {}", media_type.as_str(), data.as_str()),
            MediaSource::Url { url, .. } => url.as_str().to_owned(),
            MediaSource::Text(text) => text.as_str().to_owned(),
        }
    }

    #[test]
    fn urls_are_content_or_addresses() {
        let cases = [
            (MediaKind::Image, "https://example.com/a.png?x=data:", "https://example.com/a.png?x=data:"),
            (MediaKind::Image, "gs://bucket/a", "gs://bucket/a"),
            (MediaKind::Image, "data:image/png;base64,iVBORw0KGgo=", "image/png iVBORw0KGgo="),
            (MediaKind::Image, "DATA:image/jpg;charset=x;BASE64,AAAA", "image/jpeg AAAA"),
            (MediaKind::Image, "data:image/png;base64,/9j/4AAQ", "image/jpeg /9j/4AAQ"),
            (MediaKind::Image, r"data:image/png;base64,\/9j\/4AAQ", "image/jpeg /9j/4AAQ"),
            (MediaKind::Image, r"data:image\/jpeg;base64,\/9j_4-AQ\n", "image/jpeg /9j/4+AQ"),
            (MediaKind::Image, "data:;base64,UklGRgAAAABXRUJQ", "image/webp UklGRgAAAABXRUJQ"),
            (MediaKind::Image, "data:image/png;base64,R0lGODlhAQAB%2BA%3D%3D", "image/gif R0lGODlhAQAB+A=="),
            (MediaKind::Image, "data:base64,AAA", "image/png AAA="),
            (MediaKind::Document, "data:application/octet-stream;base64,JVBERi0xLjQK", "application/pdf JVBERi0xLjQK"),
            (MediaKind::Document, "data:,a%20b%2", "text/plain YSBiJTI="),
            (MediaKind::Document, "data:text/csv;base64,YSxi", "text/csv YSxi"),
            (MediaKind::Audio, "data:;base64,AAA", "audio/wav AAA="),
            (MediaKind::Video, "data:video/mp4;base64,AAAA", "video/mp4 AAAA"),
            (MediaKind::Image, "data:", "text/plain "),
            (MediaKind::Image, "data:image/;base64,", "image/png "),
        ];
        for (kind, url, expected) in cases {
            let quoted = format!(r#"{{"u":"{url}"}}"#);
            let url = Value::parse_object(&quoted).and_then(|object| object.get("u")?.string()).unwrap();
            assert_eq!(shown(&of_url(kind, url)), expected, "{quoted}");
        }
    }

    #[test]
    fn types_tell_the_kind() {
        let cases = [
            ("image/png", Some(MediaKind::Image)),
            ("audio/wav", Some(MediaKind::Audio)),
            ("video/mp4", Some(MediaKind::Video)),
            ("application/pdf", Some(MediaKind::Document)),
            ("text/plain", Some(MediaKind::Document)),
            ("application/octet-stream", None),
            ("", None),
        ];
        for (media_type, expected) in cases {
            assert_eq!(kind_of(media_type), expected, "{media_type}");
        }
    }

    #[test]
    fn content_comes_back_out_of_its_url() {
        let mut json = Writer::default();
        json.object(|json| write_data_url(json.key("u"), &Escaped::of("image/png"), &Escaped::of("iVBORw0KGgo=")));
        let json = json.finish();
        assert_eq!(json, r#"{"u":"data:image/png;base64,iVBORw0KGgo="}"#);
        let url = Value::parse_object(&json).and_then(|object| object.get("u")?.string()).unwrap();
        assert_eq!(shown(&of_url(MediaKind::Image, url)), "image/png iVBORw0KGgo=");
    }

    proptest! {
        #[test]
        fn any_url_gives_base64_or_itself(url in "data:[a-z/;]{0,20}(;base64)?,\\PC{0,40}|\\PC{0,40}") {
            match of_url(MediaKind::Image, Escaped::of(&url)) {
                MediaSource::Base64 { data, media_type } => {
                    prop_assert!(data.as_str().len().is_multiple_of(4));
                    prop_assert!(media_type.as_str().contains('/'));
                }
                MediaSource::Url { url: kept, .. } => prop_assert!(kept.text() == url.as_str()),
                MediaSource::Text(_) => prop_assert!(false),
            }
        }
    }
}
