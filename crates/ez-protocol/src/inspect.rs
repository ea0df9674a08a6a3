//! Reads from a request only what routing needs, and remembers where it stands for splicing.

use std::ops::Range;

use bytes::Bytes;

use crate::api::Api;
use crate::scan::{self, AmbiguousKey, Member, ScanError};

/// What a request says outside its body.
#[derive(Debug, Clone, Copy)]
pub struct RequestForm<'a> {
    /// The endpoint.
    pub api: Api,
    /// The model, where the path names it (Gemini).
    pub path_model: Option<&'a str>,
    /// The `content-type`, which tells a form from JSON.
    pub content_type: Option<&'a str>,
}

/// What routing needs of a request, with the places to splice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPeek {
    /// The `model` value, unescaped.
    pub model: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Whether the client asked for the usage chunk of a stream.
    pub wants_usage: bool,
    model_at: Range<usize>,
    /// What to splice so that the upstream reports usage; `None` where it does already or nothing streams.
    usage_splice: Option<(Range<usize>, &'static str)>,
}

/// A request that cannot be routed. The message names the field and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Not a JSON object.
    #[error(transparent)]
    Json(#[from] ScanError),
    /// A field that different readers would take differently.
    #[error(transparent)]
    Ambiguous(#[from] AmbiguousKey),
    /// A required field is absent.
    #[error("`{field}` is missing: {remedy}")]
    Missing {
        /// The field.
        field: &'static str,
        /// What to send.
        remedy: &'static str,
    },
    /// A field has the wrong type.
    #[error("`{field}` must be {expected}")]
    WrongType {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

impl InspectError {
    /// The field at fault, where one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Json(_) => None,
            Self::Ambiguous(AmbiguousKey(field)) => Some(field),
            Self::Missing { field, .. } | Self::WrongType { field, .. } => Some(field),
        }
    }
}

/// No vendor's model name is near this; a bound keeps names out of logs and records that are none.
const MAX_MODEL_BYTES: usize = 256;

const INCLUDE_USAGE_MEMBER: &str = r#","stream_options":{"include_usage":true}"#;

impl RequestPeek {
    /// Reads a request body.
    pub fn of(form: RequestForm<'_>, body: &[u8]) -> Result<Self, InspectError> {
        let members = scan::members(body)?;
        let model_at = scan::unambiguous_value(body, &members, "model")?.ok_or(InspectError::Missing {
            field: "model",
            remedy: "name the model to call; GET /v1/models lists what this key may use",
        })?;
        let model = serde_json::from_slice::<String>(&body[model_at.clone()])
            .ok()
            .filter(|model| !model.is_empty() && model.len() <= MAX_MODEL_BYTES)
            .ok_or(InspectError::WrongType { field: "model", expected: "a string of 1 to 256 bytes" })?;
        let stream = match scan::unambiguous_value(body, &members, "stream")?.map(|value| &body[value]) {
            None | Some(b"null" | b"false") => false,
            Some(b"true") => true,
            Some(_) => return Err(InspectError::WrongType { field: "stream", expected: "true or false" }),
        };
        let (wants_usage, usage_splice) =
            if stream && form.api == Api::ChatCompletions { usage_option(body, &members)? } else { (false, None) };
        Ok(Self { model, stream, wants_usage, model_at, usage_splice })
    }

    /// The body to send upstream: the client's bytes, but for the model where its upstream name differs and the forced
    /// usage option. Shares the client's buffer where nothing changes.
    pub fn upstream_body(&self, body: &Bytes, upstream_model: &str) -> Bytes {
        let mut replacements = Vec::with_capacity(2);
        if upstream_model != self.model {
            replacements.push((self.model_at.clone(), json_string(upstream_model)));
        }
        if let Some((range, with)) = &self.usage_splice {
            replacements.push((range.clone(), with.as_bytes().to_vec()));
        }
        if replacements.is_empty() { body.clone() } else { scan::splice(body, replacements) }
    }
}

/// Whether usage was asked for, and what to splice where it was not.
#[expect(clippy::type_complexity, reason = "a range and its replacement, read once by the one caller")]
fn usage_option(body: &[u8], members: &[Member]) -> Result<(bool, Option<(Range<usize>, &'static str)>), InspectError> {
    let wrong_type = InspectError::WrongType { field: "stream_options", expected: "an object" };
    let Some(options_at) = scan::unambiguous_value(body, members, "stream_options")? else {
        // The object holds at least `model`, so a comma before the new member is right.
        let end = members.last().map_or(0, |last| last.value.end);
        return Ok((false, Some((end..end, INCLUDE_USAGE_MEMBER))));
    };
    let options = &body[options_at.clone()];
    if options == b"null" {
        return Ok((false, Some((options_at, r#"{"include_usage":true}"#))));
    }
    let option_members = scan::members(options).map_err(|_| wrong_type)?;
    let in_body = |range: Range<usize>| range.start + options_at.start..range.end + options_at.start;
    match scan::unambiguous_value(options, &option_members, "include_usage")? {
        Some(value) if &options[value.clone()] == b"true" => Ok((true, None)),
        Some(value) => Ok((false, Some((in_body(value), "true")))),
        None => {
            let (end, with) = match option_members.last() {
                Some(last) => (last.value.end, r#","include_usage":true"#),
                None => (1, r#""include_usage":true"#),
            };
            Ok((false, Some((in_body(end..end), with))))
        }
    }
}

/// A JSON string with its quotes.
pub(crate) fn json_string(text: &str) -> Vec<u8> {
    // Writing a string into memory cannot fail.
    serde_json::to_vec(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peek(body: &[u8]) -> Result<RequestPeek, InspectError> {
        RequestPeek::of(RequestForm { api: Api::ChatCompletions, path_model: None, content_type: None }, body)
    }

    fn upstream(body: &str, model: &str) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let peek = peek(&body).unwrap();
        String::from_utf8(peek.upstream_body(&body, model).to_vec()).unwrap()
    }

    #[test]
    fn a_plain_call_with_the_same_model_passes_untouched() {
        let body = Bytes::from_static(br#"{ "model":"m",  "messages":[{"content":"\u00e9"}],"x":1.0 }"#);
        let peek = peek(&body).unwrap();
        let sent = peek.upstream_body(&body, "m");
        assert_eq!(sent.as_ptr(), body.as_ptr(), "no copy");
    }

    #[test]
    fn only_the_model_changes_where_names_differ() {
        let sent = upstream(r#"{"messages":[{"model":"m"}], "model" : "m" ,"z":9007199254740993}"#, "up/\"m\"");
        assert_eq!(sent, r#"{"messages":[{"model":"m"}], "model" : "up/\"m\"" ,"z":9007199254740993}"#);
    }

    #[test]
    fn a_stream_always_asks_for_usage() {
        let cases = [
            (
                r#"{"model":"m","stream":true}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","stream":true,"stream_options":null}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","stream":true,"stream_options":{}}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","stream_options":{"include_usage": false,"a":1},"stream":true}"#,
                r#"{"model":"m","stream_options":{"include_usage": true,"a":1},"stream":true}"#,
            ),
            (
                r#"{"model":"m","stream_options":{"a":1},"stream":true}"#,
                r#"{"model":"m","stream_options":{"a":1,"include_usage":true},"stream":true}"#,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(upstream(body, "m"), expected);
            assert!(!peek(body.as_bytes()).unwrap().wants_usage);
        }
        let asked = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
        assert_eq!(upstream(asked, "m"), asked);
        assert!(peek(asked.as_bytes()).unwrap().wants_usage);
    }

    #[test]
    fn faults_name_the_field() {
        let cases = [
            (r#"{"messages":[]}"#, "`model` is missing"),
            (r#"{"model":1}"#, "`model` must be a string of 1 to 256 bytes"),
            (r#"{"model":""}"#, "`model` must be a string of 1 to 256 bytes"),
            (r#"{"model":"m","str\u0065am":true}"#, "`stream` must be given once"),
            (r#"{"model":"m","model":"n"}"#, "`model` must be given once"),
            (r#"{"model":"m","stream":"yes"}"#, "`stream` must be true or false"),
            (r#"{"model":"m","stream":true,"stream_options":1}"#, "`stream_options` must be an object"),
            (r#"{"model":"m""#, "not valid JSON"),
            ("[]", "must be a JSON object"),
        ];
        for (body, expected) in cases {
            let message = peek(body.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(expected), "{body}: {message}");
        }
    }
}
