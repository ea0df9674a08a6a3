//! OpenAI's chat completions and what is built like them: legacy completions, and the streams of images, speech and
//! transcriptions. What each streamed event means, and the usage that it reports.

use std::sync::LazyLock;

use ez_contract::usage::TokenUsage;
use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::VendorError;
use crate::event_type::event_type;
use crate::usage::OpenAiUsage;
use crate::vendor_error::error_object;

/// What an event means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenAiEvent {
    /// The stream's proper end, with the usage that it reports.
    Terminal(Option<TokenUsage>),
    /// An error object inside the stream.
    Error(VendorError),
    /// A chunk that carries usage. `usage_only` where it holds no choices: the chunk that `include_usage` adds.
    Usage {
        /// Token counts so far; the last report stands.
        tokens: TokenUsage,
        /// Whether the chunk exists for the usage alone.
        usage_only: bool,
    },
    /// One of the results that were asked for is complete; the stream may end here or go on with the next one.
    Complete(Option<TokenUsage>),
    /// A chunk with content.
    Content,
    /// Something unknown: it passes.
    Other,
}

/// Tells what a chunk of a chat or legacy completion means. Looks for a few words in the bytes and parses only chunks
/// that hold them.
pub(crate) fn classify_chunk(data: &[u8]) -> OpenAiEvent {
    if data == b"[DONE]" {
        return OpenAiEvent::Terminal(None);
    }
    if let Some(error) = error_object(data) {
        return OpenAiEvent::Error(error);
    }
    if !reports_usage(data) {
        return if data.first() == Some(&b'{') { OpenAiEvent::Content } else { OpenAiEvent::Other };
    }
    #[derive(Deserialize)]
    struct UsageCarrier<'a> {
        usage: Option<OpenAiUsage>,
        #[serde(borrow)]
        choices: Option<&'a RawValue>,
    }
    match serde_json::from_slice::<UsageCarrier<'_>>(data) {
        Ok(UsageCarrier { usage: Some(usage), choices }) => {
            let usage_only = choices.is_some_and(|choices| is_empty_array(choices.get()));
            usage.into_tokens().map_or(OpenAiEvent::Content, |tokens| OpenAiEvent::Usage { tokens, usage_only })
        }
        _ => OpenAiEvent::Content,
    }
}

/// Tells what an event of an image, speech or transcription stream means: these have a `type`, and say when a result is
/// complete instead of `[DONE]`. A request for several images gets several such events.
pub(crate) fn classify_media(data: &[u8]) -> OpenAiEvent {
    if data == b"[DONE]" {
        return OpenAiEvent::Terminal(None);
    }
    if let Some(error) = error_object(data) {
        return OpenAiEvent::Error(error);
    }
    let kind = event_type(data);
    match kind.as_deref() {
        Some(b"speech.audio.done" | b"transcript.text.done") => OpenAiEvent::Terminal(reported_usage(data)),
        Some(b"image_generation.completed" | b"image_edit.completed") => OpenAiEvent::Complete(reported_usage(data)),
        _ if data.first() == Some(&b'{') => OpenAiEvent::Content,
        _ => OpenAiEvent::Other,
    }
}

fn reported_usage(data: &[u8]) -> Option<TokenUsage> {
    #[derive(Deserialize)]
    struct UsageCarrier {
        usage: Option<OpenAiUsage>,
    }
    serde_json::from_slice::<UsageCarrier>(data).ok()?.usage?.into_tokens()
}

/// Whether the bytes hold a `"usage"` that is not null. With `include_usage` every chunk carries `"usage":null`, so
/// that case must not cost a parse.
fn reports_usage(data: &[u8]) -> bool {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
    KEY.find_iter(data).any(|at| {
        let after_key = data[at + KEY.needle().len()..].trim_ascii_start();
        let value = after_key.strip_prefix(b":").map(<[u8]>::trim_ascii_start);
        value.is_some_and(|value| !value.starts_with(b"null"))
    })
}

fn is_empty_array(json: &str) -> bool {
    json.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|inner| inner.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, output: u64) -> TokenUsage {
        TokenUsage { input_tokens: Some(input), output_tokens: Some(output), ..TokenUsage::default() }
    }

    fn busy() -> VendorError {
        VendorError { message: "busy".into(), ..VendorError::default() }
    }

    #[test]
    fn chunks_are_told_apart() {
        let cases: [(&str, OpenAiEvent); 10] = [
            ("[DONE]", OpenAiEvent::Terminal(None)),
            (r#"{"choices":[{"delta":{"content":"hi"}}],"usage":null}"#, OpenAiEvent::Content),
            (r#"{"choices":[{"delta":{"content":"\"error\""}}]}"#, OpenAiEvent::Content),
            (r#"{"choices":[{"text":"a"}],"error":null}"#, OpenAiEvent::Content),
            ("PROCESSING", OpenAiEvent::Other),
            (
                r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#,
                OpenAiEvent::Usage { tokens: tokens(3, 5), usage_only: true },
            ),
            (
                r#"{"choices":[{"finish_reason":"stop"}],"usage" : {"prompt_tokens":3,"completion_tokens":5}}"#,
                OpenAiEvent::Usage { tokens: tokens(3, 5), usage_only: false },
            ),
            (
                r#"{"error":{"message":"busy","type":"server_error","code":503}}"#,
                OpenAiEvent::Error(VendorError {
                    kind: Some("server_error".into()),
                    code: Some("503".into()),
                    status: Some(503),
                    ..busy()
                }),
            ),
            (r#"{"choices":[{"finish_reason":"error"}],"error":{"message":"busy"}}"#, OpenAiEvent::Error(busy())),
            (r#"{"error":"busy"}"#, OpenAiEvent::Error(busy())),
        ];
        for (data, expected) in cases {
            assert_eq!(classify_chunk(data.as_bytes()), expected, "{data}");
        }
    }

    #[test]
    fn events_of_media_streams_are_told_apart() {
        let usage = r#""usage":{"total_tokens":8,"input_tokens":3,"output_tokens":5}"#;
        let cases = [
            (r#"{"type":"transcript.text.delta","delta":"hi"}"#.to_owned(), OpenAiEvent::Content),
            (
                format!(r#"{{"type":"transcript.text.done","text":"hi",{usage}}}"#),
                OpenAiEvent::Terminal(Some(tokens(3, 5))),
            ),
            (
                r#"{"type":"transcript.text.done","text":"hi","usage":{"type":"duration","seconds":3}}"#.to_owned(),
                OpenAiEvent::Terminal(None),
            ),
            (format!(r#"{{{usage},"type":"speech.audio.done"}}"#), OpenAiEvent::Terminal(Some(tokens(3, 5)))),
            (r#"{"type":"image_generation.partial_image","b64_json":"AA=="}"#.to_owned(), OpenAiEvent::Content),
            (
                format!(r#"{{"type":"image_generation.completed","b64_json":"AA==",{usage}}}"#),
                OpenAiEvent::Complete(Some(tokens(3, 5))),
            ),
            (r#"{"type":"image_edit.completed","b64_json":"AA=="}"#.to_owned(), OpenAiEvent::Complete(None)),
            (r#"{"type":"error","error":{"message":"busy"}}"#.to_owned(), OpenAiEvent::Error(busy())),
        ];
        for (data, expected) in cases {
            assert_eq!(classify_media(data.as_bytes()), expected, "{data}");
        }
    }
}
