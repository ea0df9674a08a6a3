//! Reads from a request only what routing needs, and remembers where it stands for splicing.

use std::ops::Range;

use bytes::Bytes;
use ez_contract::Protocol;

use crate::api::Api;
use crate::estimate::{BYTES_PER_TOKEN, TOKENS_PER_BLOB};
use crate::form::{self, FormError};
use crate::json::json_string;
use crate::reference::{self, Reference};
use crate::scan::{self, AmbiguousKey, Member, Scan, ScanError};

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
    /// The `model` value, unescaped; the path's where that names the model.
    pub model: String,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Whether the client asked for the usage chunk of a stream.
    pub wants_usage: bool,
    /// The most output that the client asked for, tokens.
    pub max_output_tokens: Option<u64>,
    /// How many answers the client asked for, 1 to 128.
    pub choices: u64,
    /// The response that this one goes on from (Responses): only the upstream that made it knows it.
    pub previous_response_id: Option<String>,
    /// The field that names what the vendor keeps for its account: a file, a store, a conversation, a cache.
    pub kept_by_vendor: Option<&'static str>,
    model_at: ModelPlaces,
    /// What to splice so that the upstream reports usage; `None` where it does already or nothing streams.
    usage_splice: Option<(Range<usize>, &'static str)>,
    /// Bytes of the body that are no encoded data.
    text_bytes: u64,
    /// Images, sounds and documents inside the body.
    blobs: u64,
}

/// Where a request names its model.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ModelPlaces {
    /// A JSON string.
    Json(Range<usize>),
    /// The content of a form's part.
    Form(Range<usize>),
    /// The path, and JSON strings that repeat it, each behind a prefix such as `models/`.
    Path(Vec<(Range<usize>, String)>),
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
    /// Not a form.
    #[error(transparent)]
    Form(#[from] FormError),
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
    /// A field asks for what the gateway does not serve.
    #[error("`{field}` is not served here: {remedy}")]
    Unserved {
        /// The field.
        field: &'static str,
        /// What to send.
        remedy: &'static str,
    },
}

impl InspectError {
    /// The field at fault, where one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Json(_) | Self::Form(_) => None,
            Self::Ambiguous(AmbiguousKey(field)) => Some(field),
            Self::Missing { field, .. } | Self::WrongType { field, .. } | Self::Unserved { field, .. } => Some(field),
        }
    }
}

/// No vendor's model name is near this; a bound keeps names out of logs and records that are none.
const MAX_MODEL_BYTES: usize = 256;
/// No vendor's response id is near this.
const MAX_RESPONSE_ID_BYTES: usize = 512;
/// More entries than any vendor embeds in one call (Gemini: 100).
const MAX_BATCH_ENTRIES: usize = 4_096;
const MAX_CHOICES: u64 = 128;

const INCLUDE_USAGE_MEMBER: &str = r#","stream_options":{"include_usage":true}"#;

const ONE_MODEL: &str =
    "leave it out, and name one model in `model`; which others stand in for it is up to its bindings";

const MODEL_MISSING: InspectError = InspectError::Missing {
    field: "model",
    remedy: "name the model to call; GET /v1/models lists what this key may use",
};
const MODEL_WRONG: InspectError = InspectError::WrongType { field: "model", expected: "a string of 1 to 256 bytes" };

impl RequestPeek {
    /// Reads a request body.
    pub fn of(form: RequestForm<'_>, body: &[u8]) -> Result<Self, InspectError> {
        let takes_forms =
            matches!(form.api, Api::ImageEdits | Api::ImageVariations | Api::Transcriptions | Api::Translations);
        match form.content_type {
            Some(content_type) if takes_forms && form::is_form(content_type) => Self::of_form(content_type, body),
            _ => Self::of_json(form, body),
        }
    }

    fn of_json(form: RequestForm<'_>, body: &[u8]) -> Result<Self, InspectError> {
        let Scan { members, blobs, may_refer } = scan::scan(body)?;
        let (model, model_at) = match form.path_model {
            Some(model) => {
                (checked_model(model.to_owned())?, ModelPlaces::Path(repeated_models(model, body, &members)?))
            }
            None => {
                let at = scan::unambiguous_value(body, &members, "model")?.ok_or(MODEL_MISSING)?;
                let model = serde_json::from_slice::<String>(&body[at.clone()]).map_err(|_| MODEL_WRONG)?;
                (checked_model(model)?, ModelPlaces::Json(at))
            }
        };
        let stream = asks_for_stream(form.api, body, &members)?;
        let can_report_usage = matches!(form.api, Api::ChatCompletions | Api::Completions);
        let (wants_usage, usage_splice) =
            if stream && can_report_usage { usage_option(body, &members)? } else { (false, None) };
        let (max_output_tokens, choices) = asked_output(form.api, body, &members);
        refuse_background(form.api, body, &members)?;
        let kept_by_vendor = match reference::find(form.api, body, &members, may_refer)? {
            Some(Reference::Model(field)) => return Err(InspectError::Unserved { field, remedy: ONE_MODEL }),
            Some(Reference::Kept(field)) => Some(field),
            None => None,
        };
        Ok(Self {
            model,
            stream,
            wants_usage,
            max_output_tokens,
            choices,
            previous_response_id: previous_response_id(form.api, body, &members)?,
            kept_by_vendor,
            model_at,
            usage_splice,
            text_bytes: (body.len() as u64).saturating_sub(blobs.bytes),
            blobs: blobs.count,
        })
    }

    fn of_form(content_type: &str, body: &[u8]) -> Result<Self, InspectError> {
        let parts = form::parts(content_type, body)?;
        let (part, model) = form::text_part(body, &parts, "model")?.ok_or(MODEL_MISSING)?;
        let stream =
            match form::text_part(body, &parts, "stream")?.map(|(_, text)| text.to_ascii_lowercase()).as_deref() {
                None | Some("" | "false" | "0") => false,
                Some("true" | "1") => true,
                Some(_) => return Err(InspectError::WrongType { field: "stream", expected: "true or false" }),
            };
        let (files, texts): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.is_file);
        Ok(Self {
            model: checked_model(model.to_owned())?,
            stream,
            wants_usage: false,
            max_output_tokens: None,
            choices: 1,
            previous_response_id: None,
            kept_by_vendor: None,
            model_at: ModelPlaces::Form(part.content.clone()),
            usage_splice: None,
            text_bytes: texts.iter().map(|part| part.content.len() as u64).sum(),
            blobs: files.len() as u64,
        })
    }

    /// The body to send upstream: the client's bytes, but for the model where its upstream name differs and the forced
    /// usage option. Shares the client's buffer where nothing changes.
    pub fn upstream_body(&self, body: &Bytes, upstream_model: &str) -> Bytes {
        let mut replacements = Vec::with_capacity(2);
        if upstream_model != self.model {
            match &self.model_at {
                ModelPlaces::Json(at) => replacements.push((at.clone(), json_string(upstream_model))),
                ModelPlaces::Form(at) => replacements.push((at.clone(), upstream_model.as_bytes().to_vec())),
                ModelPlaces::Path(repeated) => replacements.extend(
                    repeated.iter().map(|(at, prefix)| (at.clone(), json_string(&format!("{prefix}{upstream_model}")))),
                ),
            }
        }
        if let Some((range, with)) = &self.usage_splice {
            replacements.push((range.clone(), with.as_bytes().to_vec()));
        }
        if replacements.is_empty() { body.clone() } else { scan::splice(body, replacements) }
    }

    /// Whether the body was read as a form, not as JSON.
    pub fn is_form(&self) -> bool {
        matches!(self.model_at, ModelPlaces::Form(_))
    }

    /// How much text the request holds, bytes: its body without images and other encoded data, but with the syntax and
    /// the names around the prompt.
    pub fn prompt_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// About how many input tokens the request has, for reserving them before the truth is known: a quarter of its text
    /// and a thousand for every image or other file. Short prompts come out high, because of the syntax around them.
    pub fn estimated_input_tokens(&self) -> u64 {
        self.text_bytes.div_ceil(BYTES_PER_TOKEN).saturating_add(self.blobs.saturating_mul(TOKENS_PER_BLOB))
    }
}

fn checked_model(model: String) -> Result<String, InspectError> {
    let is_name = !model.is_empty() && model.len() <= MAX_MODEL_BYTES;
    if is_name { Ok(model) } else { Err(MODEL_WRONG) }
}

/// Where a Gemini body repeats the model of its path. It must be the same one, because some vendors go by the body.
fn repeated_models(
    path_model: &str,
    body: &[u8],
    members: &[Member],
) -> Result<Vec<(Range<usize>, String)>, InspectError> {
    let mut places = Vec::new();
    let mut add = |object: Range<usize>, members: &[Member]| -> Result<(), InspectError> {
        let text = &body[object.clone()];
        let Some(at) = scan::unambiguous_value(text, members, "model")? else { return Ok(()) };
        let named = serde_json::from_slice::<String>(&text[at.clone()]).map_err(|_| MODEL_WRONG)?;
        let prefix = match named.strip_suffix(path_model) {
            Some(prefix) if prefix.is_empty() || prefix.ends_with("models/") => prefix.to_owned(),
            _ => return Err(InspectError::WrongType { field: "model", expected: "the model that the path names" }),
        };
        places.push((object.start + at.start..object.start + at.end, prefix));
        Ok(())
    };
    add(0..body.len(), members)?;
    let mut add_entry = |entry: Range<usize>| match scan::members(&body[entry.clone()]) {
        Ok(members) => add(entry, &members),
        // It names nothing, and is the vendor's to refuse.
        Err(ScanError::NotAnObject) => Ok(()),
        Err(e) => Err(e.into()),
    };
    for key in ["generateContentRequest", "generate_content_request"] {
        let Some(request) = scan::unambiguous_value(body, members, key)? else { continue };
        add_entry(request)?;
    }
    if let Some(requests) = scan::unambiguous_value(body, members, "requests")? {
        // Google takes a single entry for a list of one.
        let single = || std::iter::once(0..requests.len()).collect();
        let entries = scan::elements(&body[requests.clone()], MAX_BATCH_ENTRIES + 1).unwrap_or_else(single);
        if entries.len() > MAX_BATCH_ENTRIES {
            return Err(InspectError::WrongType { field: "requests", expected: "a list of at most 4096 entries" });
        }
        for entry in entries {
            add_entry(requests.start + entry.start..requests.start + entry.end)?;
        }
    }
    Ok(places)
}

fn asks_for_stream(api: Api, body: &[u8], members: &[Member]) -> Result<bool, InspectError> {
    match api {
        Api::StreamGenerateContent => return Ok(true),
        Api::GenerateContent | Api::CountTokens | Api::EmbedContent | Api::BatchEmbedContents => return Ok(false),
        Api::Speech => {
            let format = scan::value_of(body, members, "stream_format").map(|at| &body[at]);
            return Ok(format == Some(b"\"sse\""));
        }
        _ => {}
    }
    match scan::unambiguous_value(body, members, "stream")?.map(|value| &body[value]) {
        None | Some(b"null" | b"false") => Ok(false),
        Some(b"true") => Ok(true),
        Some(_) => Err(InspectError::WrongType { field: "stream", expected: "true or false" }),
    }
}

/// The most output tokens and the number of answers that a request asks for. What is no number is the vendor's to refuse.
fn asked_output(api: Api, body: &[u8], members: &[Member]) -> (Option<u64>, u64) {
    let number = |text: &[u8], members: &[Member], keys: &[&str]| {
        let read =
            |key: &&str| std::str::from_utf8(&text[scan::value_of(text, members, key)?]).ok()?.parse::<u64>().ok();
        keys.iter().filter_map(read).max()
    };
    let (most, choices) = match api.protocol() {
        Protocol::Gemini => {
            let config =
                ["generationConfig", "generation_config"].iter().find_map(|key| scan::value_of(body, members, key));
            let text = config.map(|at| &body[at]).unwrap_or_default();
            let members = scan::members(text).unwrap_or_default();
            (
                number(text, &members, &["maxOutputTokens", "max_output_tokens"]),
                number(text, &members, &["candidateCount", "candidate_count"]),
            )
        }
        Protocol::OpenaiResponses => (number(body, members, &["max_output_tokens"]), None),
        Protocol::AnthropicMessages => (number(body, members, &["max_tokens"]), None),
        Protocol::OpenaiChat => {
            (number(body, members, &["max_completion_tokens", "max_tokens"]), number(body, members, &["n"]))
        }
    };
    (most, choices.unwrap_or(1).clamp(1, MAX_CHOICES))
}

fn previous_response_id(api: Api, body: &[u8], members: &[Member]) -> Result<Option<String>, InspectError> {
    if !matches!(api, Api::Responses | Api::ResponsesInputTokens) {
        return Ok(None);
    }
    let Some(at) = scan::unambiguous_value(body, members, "previous_response_id")? else { return Ok(None) };
    let id = serde_json::from_slice::<Option<String>>(&body[at]).ok();
    id.filter(|id| id.as_ref().is_none_or(|id| !id.is_empty() && id.len() <= MAX_RESPONSE_ID_BYTES))
        .ok_or(InspectError::WrongType { field: "previous_response_id", expected: "the id of a response, or null" })
}

/// What a response that is made in the background uses is told only after its call has ended, so that nobody could
/// charge for it.
fn refuse_background(api: Api, body: &[u8], members: &[Member]) -> Result<(), InspectError> {
    if api != Api::Responses {
        return Ok(());
    }
    let Some(at) = scan::unambiguous_value(body, members, "background")? else { return Ok(()) };
    match &body[at] {
        b"false" | b"null" => Ok(()),
        b"true" => Err(InspectError::Unserved {
            field: "background",
            remedy: "leave it out, and set `stream` to true for answers that take long",
        }),
        _ => Err(InspectError::WrongType { field: "background", expected: "false, or left out" }),
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

    fn gemini(api: Api, body: &[u8]) -> Result<RequestPeek, InspectError> {
        RequestPeek::of(RequestForm { api, path_model: Some("g-1"), content_type: None }, body)
    }

    fn form(api: Api, body: &[u8]) -> Result<RequestPeek, InspectError> {
        let content_type = Some("multipart/form-data; boundary=XX");
        RequestPeek::of(RequestForm { api, path_model: None, content_type }, body)
    }

    #[test]
    fn legacy_completions_are_asked_for_usage_and_other_apis_are_not() {
        let body = Bytes::from_static(br#"{"model":"m","stream":true}"#);
        for (api, is_asked) in [(Api::Completions, true), (Api::Messages, false), (Api::Responses, false)] {
            let peek = RequestPeek::of(RequestForm { api, path_model: None, content_type: None }, &body).unwrap();
            assert!(peek.stream);
            assert_eq!(peek.upstream_body(&body, "m").len() > body.len(), is_asked, "{api:?}");
        }
    }

    #[test]
    fn gemini_names_its_model_in_the_path_and_wherever_the_body_repeats_it() {
        let cases = [
            (Api::GenerateContent, r#"{"contents":[]}"#, r#"{"contents":[]}"#),
            (Api::EmbedContent, r#"{"model":"models/g-1","content":{}}"#, r#"{"model":"models/up","content":{}}"#),
            (Api::StreamGenerateContent, r#"{"model":"g-1"}"#, r#"{"model":"up"}"#),
            (
                Api::BatchEmbedContents,
                r#"{"requests":[{"model":"models/g-1"}, {"model":"publishers/x/models/g-1","content":{"model":"y"}},{}]}"#,
                r#"{"requests":[{"model":"models/up"}, {"model":"publishers/x/models/up","content":{"model":"y"}},{}]}"#,
            ),
            (
                Api::CountTokens,
                r#"{"generateContentRequest":{"model":"models/g-1","contents":[]}}"#,
                r#"{"generateContentRequest":{"model":"models/up","contents":[]}}"#,
            ),
            (
                Api::CountTokens,
                r#"{"generate_content_request":{"contents":[],"model":"models/g-1"}}"#,
                r#"{"generate_content_request":{"contents":[],"model":"models/up"}}"#,
            ),
        ];
        for (api, body, expected) in cases {
            let peek = gemini(api, body.as_bytes()).unwrap();
            assert_eq!((peek.model.as_str(), peek.stream), ("g-1", api == Api::StreamGenerateContent));
            let body = Bytes::copy_from_slice(body.as_bytes());
            assert_eq!(peek.upstream_body(&body, "up"), expected.as_bytes());
            assert_eq!(peek.upstream_body(&body, "g-1"), body);
        }
    }

    #[test]
    fn a_gemini_body_that_names_another_model_is_refused() {
        let bodies = [
            r#"{"model":"models/other"}"#,
            r#"{"model":"models/xg-1"}"#,
            r#"{"model":1}"#,
            r#"{"requests":[{"model":"models/g-1"},{"model":"other"}]}"#,
            r#"{"requests":[{"model":"models/g-1","mod\u0065l":"models/other"}]}"#,
            r#"{"requests":{"model":"other"}}"#,
            r#"{"generateContentRequest":{"model":"other"}}"#,
            r#"{"generateContentRequest":{},"GenerateContentRequest":{"model":"other"}}"#,
        ];
        for body in bodies {
            assert!(gemini(Api::CountTokens, body.as_bytes()).is_err(), "{body}");
        }
        let hidden = format!(r#"{{"requests":[{{"model":"other"{}}}]}}"#, r#","a":0"#.repeat(5_000));
        assert!(gemini(Api::BatchEmbedContents, hidden.as_bytes()).is_err());
        let many = format!(r#"{{"requests":[{}{{}}]}}"#, "{},".repeat(MAX_BATCH_ENTRIES));
        assert!(gemini(Api::BatchEmbedContents, many.as_bytes()).is_err());
    }

    #[test]
    fn a_form_is_read_and_spliced_where_it_stands() {
        let text = |file: &str, model: &str| {
            format!(
                "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n{file}\r\n\
                 --XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n\
                 --XX\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\nTrue\r\n--XX--\r\n"
            )
        };
        let body = Bytes::from(text("ID3", "m"));
        let peek = form(Api::Transcriptions, &body).unwrap();
        assert_eq!((peek.model.as_str(), peek.stream), ("m", true));
        assert_eq!(peek.upstream_body(&body, "whisper-1"), text("ID3", "whisper-1").as_bytes());
        assert_eq!(peek.upstream_body(&body, "m").as_ptr(), body.as_ptr(), "no copy");
        assert_eq!(peek.estimated_input_tokens(), 1_000 + 2);

        let unnamed = b"--XX\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n--XX--";
        assert_eq!(form(Api::ImageEdits, unnamed), Err(MODEL_MISSING));
        assert!(matches!(form(Api::ImageEdits, b"{}"), Err(InspectError::Form(_))));
        assert!(matches!(form(Api::ChatCompletions, &body), Err(InspectError::Json(_))), "chat is JSON alone");
    }

    #[test]
    fn what_is_asked_for_is_read_in_each_protocol() {
        let asked = |api, body: &str| {
            let path_model = (api == Api::GenerateContent).then_some("m");
            let peek = RequestPeek::of(RequestForm { api, path_model, content_type: None }, body.as_bytes()).unwrap();
            (peek.max_output_tokens, peek.choices)
        };
        let cases = [
            (Api::ChatCompletions, r#"{"model":"m"}"#, (None, 1)),
            (Api::ChatCompletions, r#"{"model":"m","max_tokens":5,"max_completion_tokens":9,"n":3}"#, (Some(9), 3)),
            (Api::ChatCompletions, r#"{"model":"m","max_tokens":"5","n":1000000}"#, (None, 128)),
            (Api::Responses, r#"{"model":"m","max_output_tokens":7}"#, (Some(7), 1)),
            (Api::Messages, r#"{"model":"m","max_tokens":7}"#, (Some(7), 1)),
            (Api::GenerateContent, r#"{"generationConfig":{"maxOutputTokens":7,"candidateCount":2}}"#, (Some(7), 2)),
            (Api::GenerateContent, r#"{"generation_config":{"max_output_tokens":7}}"#, (Some(7), 1)),
            (Api::ImageGenerations, r#"{"model":"m","n":4}"#, (None, 4)),
        ];
        for (api, body, expected) in cases {
            assert_eq!(asked(api, body), expected, "{api:?} {body}");
        }
    }

    #[test]
    fn a_response_tells_which_one_it_goes_on_from() {
        let previous = |text: &str| {
            let body = format!(r#"{{"model":"m","previous_response_id":{text}}}"#);
            let form = RequestForm { api: Api::Responses, path_model: None, content_type: None };
            RequestPeek::of(form, body.as_bytes()).map(|peek| peek.previous_response_id)
        };
        assert_eq!(previous(r#""resp_1""#).unwrap().as_deref(), Some("resp_1"));
        assert_eq!(previous("null"), Ok(None));
        for wrong in ["1", r#""""#, r#""a","previous_response_id":"b""#] {
            assert!(previous(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn responses_are_not_made_in_the_background() {
        let asked = |api, fields: &str| {
            let form = RequestForm { api, path_model: None, content_type: None };
            let peek = RequestPeek::of(form, format!(r#"{{"model":"m",{fields}}}"#).as_bytes());
            peek.map(|_| ()).map_err(|e| (e.field(), e.to_string()))
        };
        for harmless in [r#""background":false"#, r#""background":null"#, r#""input":{"background":true}"#] {
            assert_eq!(asked(Api::Responses, harmless), Ok(()), "{harmless}");
        }
        assert_eq!(asked(Api::ImageGenerations, r#""background":"opaque""#), Ok(()), "means something else there");
        let refused = [
            (r#""background":true"#, "is not served here: leave it out"),
            (r#""backgr\u006fund":true"#, "must be given once"),
            (r#""background":false,"background":true"#, "must be given once"),
            (r#""background":1"#, "must be false"),
        ];
        for (fields, words) in refused {
            let (field, message) = asked(Api::Responses, fields).unwrap_err();
            assert_eq!(field, Some("background"), "{fields}");
            assert!(message.contains(words), "{fields}: {message}");
        }
    }

    #[test]
    fn images_do_not_count_as_text() {
        let image = "iVBORw0KGgoA".repeat(1_000);
        let body =
            format!(r#"{{"model":"m","messages":[{{"content":"{}"}},{{"content":"{image}"}}]}}"#, "word ".repeat(80));
        let peek = peek(body.as_bytes()).unwrap();
        assert!((400..500).contains(&peek.prompt_bytes()), "{}", peek.prompt_bytes());
        assert!((1_100..1_125).contains(&peek.estimated_input_tokens()), "{}", peek.estimated_input_tokens());
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
