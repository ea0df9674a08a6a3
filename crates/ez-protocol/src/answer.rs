//! Plain answers: the usage that they report, the model that they name, and the error that they are.

use bytes::Bytes;
use ez_contract::Protocol;
use ez_contract::usage::TokenUsage;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::json::json_string;
use crate::scan::{self, Member};
use crate::usage::{AnthropicUsage, GeminiUsage, OpenAiUsage, count, input_only};

/// An error as a vendor tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VendorError {
    /// Human-readable.
    pub message: String,
    /// `type` of the error; Google's `status` (`RESOURCE_EXHAUSTED`).
    pub kind: Option<String>,
    /// `code` of the error, as text.
    pub code: Option<String>,
    /// The HTTP status that the error itself names, where it names one from 400 to 599.
    pub status: Option<u16>,
    /// A finer reason: Google's `ErrorInfo.reason` (`API_KEY_INVALID`) or the id of the quota that was hit, Azure's
    /// `innererror.code`.
    pub reason: Option<String>,
}

impl VendorError {
    /// Whether the prompt is longer than the model takes, in the words of any vendor (facts/protocols.md, section 6).
    pub fn is_context_overflow(&self) -> bool {
        const SAYINGS: [&str; 6] = [
            "maximum context length",
            "prompt is too long",
            "exceeds the maximum number of tokens",
            "exceed context limit",
            "exceeds the context window",
            "input token count exceeds",
        ];
        self.code.as_deref() == Some("context_length_exceeded")
            || SAYINGS.iter().any(|said| self.message.contains(said))
    }
}

/// What the gateway needs of a plain answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlainAnswer {
    /// Token counts, where the answer reports them.
    pub tokens: Option<TokenUsage>,
    /// The answer with its `model` replaced, where that was asked for and it has one.
    pub renamed: Option<Bytes>,
}

/// Whether an answer with this content type passes as it comes, because it is no JSON: speech, and transcriptions as
/// text or subtitles. There is nothing to read from it.
pub fn is_opaque(api: Api, content_type: Option<&str>) -> bool {
    let essence =
        content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim().to_ascii_lowercase();
    let is_read = essence.ends_with("json") || essence == "text/event-stream";
    matches!(api, Api::Speech | Api::Transcriptions | Api::Translations) && !is_read
}

/// Reads a plain answer and, where `model` is given, puts that in place of the answer's own. `None` when the body is no
/// answer of this API. Counts of tokens that a client asks for (`count_tokens`) are no usage.
pub fn read_answer(api: Api, body: &[u8], model: Option<&str>) -> Option<PlainAnswer> {
    let members = match scan::members(body) {
        Ok(members) => members,
        // Some reranking servers answer with a bare array.
        Err(scan::ScanError::NotAnObject) if api == Api::Rerank => return Some(PlainAnswer::default()),
        Err(_) => return None,
    };
    let renamed = model.and_then(|model| {
        let at = scan::value_of(body, &members, model_key(api.protocol()))?;
        Some(scan::splice(body, vec![(at, json_string(model))]))
    });
    Some(PlainAnswer { tokens: reported_usage(api, body, &members), renamed })
}

/// The error that a body in this protocol is, where it is one. Some vendors send an answer beside it. What a server that
/// claims a protocol makes of its errors differs, so every known shape is read for each.
pub fn vendor_error(_protocol: Protocol, body: &[u8]) -> Option<VendorError> {
    crate::vendor_error::vendor_error(body)
}

/// Where an answer in this protocol names its model.
pub(crate) const fn model_key(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Gemini => "modelVersion",
        Protocol::OpenaiChat | Protocol::OpenaiResponses | Protocol::AnthropicMessages => "model",
    }
}

fn reported_usage(api: Api, body: &[u8], members: &[Member]) -> Option<TokenUsage> {
    let openai = || read::<OpenAiUsage>(body, members, "usage");
    match api {
        Api::ChatCompletions
        | Api::Completions
        | Api::ImageGenerations
        | Api::ImageEdits
        | Api::ImageVariations
        | Api::Speech
        | Api::Transcriptions
        | Api::Translations
        | Api::Responses => openai()?.into_tokens(),
        Api::Embeddings => openai()?.into_input_only(),
        Api::Rerank => openai().and_then(OpenAiUsage::into_input_only).or_else(|| {
            let meta = read::<CohereMeta>(body, members, "meta")?;
            let told = |counts: Option<CohereCounts>| counts.and_then(|counts| counts.input_tokens);
            input_only(told(meta.tokens).or(told(meta.billed_units)))
        }),
        Api::Messages => read::<AnthropicUsage>(body, members, "usage")?.tokens(),
        Api::GenerateContent | Api::StreamGenerateContent => {
            read::<GeminiUsage>(body, members, "usageMetadata")?.tokens()
        }
        Api::EmbedContent | Api::BatchEmbedContents => {
            read::<GeminiUsage>(body, members, "usageMetadata")?.into_input_only()
        }
        Api::Moderations | Api::ResponsesInputTokens | Api::MessagesCountTokens | Api::CountTokens => None,
    }
}

/// `meta` of Cohere's answers. What was billed may be less than what was counted; search units are no tokens.
#[derive(Deserialize)]
struct CohereMeta {
    tokens: Option<CohereCounts>,
    billed_units: Option<CohereCounts>,
}

#[derive(Deserialize)]
struct CohereCounts {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
}

fn read<T: DeserializeOwned>(body: &[u8], members: &[Member], key: &str) -> Option<T> {
    let at = scan::value_of(body, members, key)?;
    serde_json::from_slice::<Option<T>>(&body[at]).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> TokenUsage {
        TokenUsage { input_tokens: Some(input), output_tokens: Some(output), ..TokenUsage::default() }
    }

    #[test]
    fn usage_is_read_where_each_api_reports_it() {
        let cases = [
            (Api::ChatCompletions, r#"{"usage":{"prompt_tokens":3,"completion_tokens":5}}"#, Some(usage(3, 5))),
            (Api::ChatCompletions, r#"{"usage":null}"#, None),
            (Api::ChatCompletions, r#"{"usage":"none"}"#, None),
            (Api::Completions, r#"{"usage":{"prompt_tokens":3,"completion_tokens":5}}"#, Some(usage(3, 5))),
            (Api::Embeddings, r#"{"usage":{"prompt_tokens":3,"total_tokens":3}}"#, Some(usage(3, 0))),
            (Api::Embeddings, r#"{"usage":{"total_tokens":3}}"#, Some(usage(3, 0))),
            (Api::Embeddings, r#"{"data":[]}"#, None),
            (Api::Rerank, r#"{"results":[],"usage":{"total_tokens":7}}"#, Some(usage(7, 0))),
            (Api::Rerank, r#"{"data":[],"usage":{"prompt_tokens":7}}"#, Some(usage(7, 0))),
            (
                Api::Rerank,
                r#"{"results":[],"meta":{"billed_units":{"search_units":1},"tokens":{"input_tokens":9,"output_tokens":0}}}"#,
                Some(usage(9, 0)),
            ),
            (Api::Rerank, r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#, None),
            (Api::Rerank, r#"[{"index":0,"score":0.1}]"#, None),
            (
                Api::ImageGenerations,
                r#"{"usage":{"input_tokens":3,"output_tokens":5,"total_tokens":8}}"#,
                Some(usage(3, 5)),
            ),
            (
                Api::Transcriptions,
                r#"{"text":"x","usage":{"type":"tokens","input_tokens":3,"output_tokens":5}}"#,
                Some(usage(3, 5)),
            ),
            (Api::Transcriptions, r#"{"text":"x","usage":{"type":"duration","seconds":3}}"#, None),
            (Api::Moderations, r#"{"results":[],"usage":{"prompt_tokens":3}}"#, None),
            (Api::Responses, r#"{"error":null,"usage":{"input_tokens":3,"output_tokens":5}}"#, Some(usage(3, 5))),
            (
                Api::Messages,
                r#"{"usage":{"input_tokens":3,"output_tokens":5,"service_tier":"standard"}}"#,
                Some(usage(3, 5)),
            ),
            (Api::MessagesCountTokens, r#"{"input_tokens":3}"#, None),
            (
                Api::GenerateContent,
                r#"{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":5,"totalTokenCount":8}}"#,
                Some(usage(3, 5)),
            ),
            (
                Api::GenerateContent,
                r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":3,"totalTokenCount":3}}"#,
                Some(usage(3, 0)),
            ),
            (Api::CountTokens, r#"{"totalTokens":3}"#, None),
            (Api::EmbedContent, r#"{"embedding":{"values":[]}}"#, None),
            (Api::BatchEmbedContents, r#"{"usageMetadata":{"promptTokenCount":3}}"#, Some(usage(3, 0))),
        ];
        for (api, body, expected) in cases {
            let answer = read_answer(api, body.as_bytes(), None).unwrap_or_else(|| panic!("{body} is an answer"));
            assert_eq!(answer.tokens, expected, "{api:?} {body}");
            assert_eq!(answer.renamed, None);
        }
        assert_eq!(read_answer(Api::ChatCompletions, b"<html>", None), None);
        assert_eq!(read_answer(Api::ChatCompletions, b"[]", None), None);
    }

    #[test]
    fn the_model_is_renamed_where_each_protocol_names_it() {
        let renamed = |api, body: &str| {
            let answer = read_answer(api, body.as_bytes(), Some("public")).unwrap();
            answer.renamed.map(|body| String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(
            renamed(Api::Messages, r#"{"id":1, "model" : "up","n":1.0}"#).as_deref(),
            Some(r#"{"id":1, "model" : "public","n":1.0}"#)
        );
        assert_eq!(
            renamed(Api::GenerateContent, r#"{"model":"x","modelVersion":"up"}"#).as_deref(),
            Some(r#"{"model":"x","modelVersion":"public"}"#)
        );
        assert_eq!(renamed(Api::Embeddings, r#"{"data":[{"model":"up"}]}"#), None);
    }

    #[test]
    fn a_prompt_that_is_too_long_is_known_whoever_says_so() {
        let says = |message: &str| VendorError { message: message.to_owned(), ..VendorError::default() };
        for message in [
            "This model's maximum context length is 128000 tokens. However, you requested 130000 tokens",
            "prompt is too long: 210000 tokens > 200000 maximum",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
        ] {
            assert!(says(message).is_context_overflow(), "{message}");
        }
        let code = VendorError { code: Some("context_length_exceeded".to_owned()), ..VendorError::default() };
        assert!(code.is_context_overflow() && !says("max_tokens is too large").is_context_overflow());
    }

    #[test]
    fn only_speech_and_transcripts_may_be_opaque() {
        assert!(is_opaque(Api::Speech, Some("audio/mpeg")));
        assert!(is_opaque(Api::Transcriptions, Some("text/plain; charset=utf-8")));
        assert!(is_opaque(Api::Translations, None));
        assert!(!is_opaque(Api::Transcriptions, Some("application/json")));
        assert!(!is_opaque(Api::Speech, Some("Text/Event-Stream; charset=utf-8")));
        assert!(!is_opaque(Api::ChatCompletions, Some("text/html")));
    }
}
