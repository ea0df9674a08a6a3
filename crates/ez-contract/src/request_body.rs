//! The request body of a call as it is kept beside its usage record, while the flag `log_request_body_enabled` is on.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::status::words;

/// The flag that bodies are kept while it is on.
pub const KEEPS_REQUEST_BODIES: &str = "log_request_body_enabled";

/// The most that is ever kept of a body, bytes, whatever a process is told.
pub const MAX_KEPT_BYTES: usize = 1 << 20;

/// What a [`RequestBody`] takes at most as JSON, bytes: a text is at most twice as long there, and what stands around it.
pub const MAX_JSON_BYTES: usize = 2 * MAX_KEPT_BYTES + 256;

words! {
    /// How a body is written in a text.
    BodyEncoding {
        /// As it is.
        Text = "text",
        /// Base64 with padding, of a body that is no text.
        Base64 = "base64",
    }
}

/// A request body as the client sent it, whole or its beginning: the field `request_body` beside those of a usage record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestBody {
    /// The body in its encoding.
    pub content: String,
    /// How it is written.
    pub encoding: BodyEncoding,
    /// Size of the whole body, bytes.
    pub bytes: u64,
    /// Whether only its beginning is here.
    #[serde(rename = "truncated")]
    pub is_cut: bool,
}

impl RequestBody {
    /// What is kept of a body: at most its first `max_bytes`, and of a text no part of a character.
    pub fn of(body: &[u8], max_bytes: usize) -> Self {
        let kept = &body[..body.len().min(max_bytes).min(MAX_KEPT_BYTES)];
        let (content, encoding) = match as_text(kept, kept.len() < body.len()) {
            Some(text) => (text.to_owned(), BodyEncoding::Text),
            None => (STANDARD.encode(kept), BodyEncoding::Base64),
        };
        Self { content, encoding, bytes: body.len() as u64, is_cut: kept.len() < body.len() }
    }

    /// The same, with at most the first `max_bytes` of the body.
    #[must_use]
    pub fn cut_to(mut self, max_bytes: usize) -> Self {
        let end = match self.encoding {
            BodyEncoding::Text => self.content.floor_char_boundary(max_bytes),
            // Four characters for three bytes, apart from the padding.
            BodyEncoding::Base64 if self.content.trim_end_matches('=').len() * 3 / 4 > max_bytes => {
                self.content.floor_char_boundary(max_bytes / 3 * 4)
            }
            BodyEncoding::Base64 => self.content.len(),
        };
        self.is_cut |= end < self.content.len();
        self.content.truncate(end);
        self
    }
}

/// Shows no content: what people ask of a model is theirs.
impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content: _, encoding, bytes, is_cut } = self;
        f.debug_struct("RequestBody")
            .field("encoding", encoding)
            .field("bytes", bytes)
            .field("is_cut", is_cut)
            .finish_non_exhaustive()
    }
}

/// The bytes as a text that no encoding makes more than twice as long, without a character that was cut in two.
fn as_text(bytes: &[u8], is_cut: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) if is_cut && e.error_len().is_none() => std::str::from_utf8(bytes.get(..e.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let is_plain = |byte: u8| byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r');
    text.bytes().all(is_plain).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(content: &str, encoding: BodyEncoding, bytes: u64, is_cut: bool) -> RequestBody {
        RequestBody { content: content.to_owned(), encoding, bytes, is_cut }
    }

    #[test]
    fn a_body_is_kept_as_it_came_up_to_a_bound() {
        use BodyEncoding::{Base64, Text};
        let cases: &[(&[u8], usize, &str, BodyEncoding, bool)] = &[
            (b"{\"a\":\t1}\r\n", 64, "{\"a\":\t1}\r\n", Text, false),
            (b"", 64, "", Text, false),
            (b"", 0, "", Text, false),
            (b"abc", 3, "abc", Text, false),
            (b"abc", 2, "ab", Text, true),
            (b"abc", 0, "", Text, true),
            ("zü".as_bytes(), 3, "zü", Text, false),
            // In the middle of a character.
            ("zü".as_bytes(), 2, "z", Text, true),
            ("\u{1f600}".as_bytes(), 3, "", Text, true),
            // The same bytes as the whole of it are no text.
            (&"zü".as_bytes()[..2], 64, "esM=", Base64, false),
            (b"\xff\xfe", 64, "//4=", Base64, false),
            (b"\xff\xfe", 1, "/w==", Base64, true),
            // Text that would be six times as long in JSON, and that a database may not take.
            (b"a\0b", 64, "YQBi", Base64, false),
        ];
        for (given, max_bytes, content, encoding, is_cut) in cases {
            let kept = RequestBody::of(given, *max_bytes);
            assert_eq!(kept, body(content, *encoding, given.len() as u64, *is_cut), "{given:?}: {:?}", kept.content);
            assert!(serde_json::to_string(&kept.content).unwrap().len() <= 2 * max_bytes.min(&given.len()) + 6);
        }
    }

    #[test]
    fn a_kept_body_can_be_cut_again() {
        let text = || RequestBody::of("zaü".as_bytes(), 64);
        assert_eq!(text().cut_to(4), text());
        assert_eq!(text().cut_to(3), body("za", BodyEncoding::Text, 4, true));
        assert_eq!(text().cut_to(0), body("", BodyEncoding::Text, 4, true));
        let bytes = || RequestBody::of(&[0xff; 7], 64);
        assert_eq!(bytes().cut_to(7), bytes());
        assert_eq!(bytes().cut_to(6), body("////////", BodyEncoding::Base64, 7, true));
        assert_eq!(bytes().cut_to(5), body("////", BodyEncoding::Base64, 7, true));
        // Whoever hands it in may have written anything.
        assert_eq!(body("ü", BodyEncoding::Base64, 1, false).cut_to(0), body("", BodyEncoding::Base64, 1, true));
        assert_eq!(body("aüüü", BodyEncoding::Base64, 1, false).cut_to(0), body("", BodyEncoding::Base64, 1, true));
    }

    #[test]
    fn what_is_kept_has_a_bound_as_json() {
        for body in [vec![b'"'; MAX_KEPT_BYTES + 1], vec![0; MAX_KEPT_BYTES + 1], vec![b'\n'; 2 * MAX_KEPT_BYTES]] {
            let kept = RequestBody::of(&body, usize::MAX);
            assert!(kept.is_cut && serde_json::to_vec(&kept).unwrap().len() <= MAX_JSON_BYTES);
        }
    }

    #[test]
    fn what_is_shown_for_a_developer_holds_no_content() {
        let shown = format!("{:?}", RequestBody::of(b"canary", 64));
        assert!(!shown.contains("canary") && shown.contains("bytes: 6"), "{shown}");
    }
}
