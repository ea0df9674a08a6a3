//! Anthropic Messages: what each streamed event means.

use serde::Deserialize;

use crate::answer::VendorError;
use crate::event_type::event_type;
use crate::usage::AnthropicUsage;
use crate::vendor_error::error_object;

/// What an event means.
#[derive(Debug, Clone)]
pub(crate) enum AnthropicEvent {
    /// `message_stop`: the stream's proper end.
    Terminal,
    /// An error inside the stream.
    Error(VendorError),
    /// It reports usage, to be merged with what was reported before.
    Usage(AnthropicUsage),
    /// Content.
    Content,
    /// A ping, or something unknown: it passes.
    Other,
}

/// Tells what an event means. Only those that report usage are parsed.
pub(crate) fn classify(data: &[u8]) -> AnthropicEvent {
    #[derive(Deserialize)]
    struct Start {
        message: Option<Delta>,
    }
    #[derive(Deserialize)]
    struct Delta {
        usage: Option<AnthropicUsage>,
    }
    let kind = event_type(data);
    match kind.as_deref() {
        Some(b"message_stop") => AnthropicEvent::Terminal,
        Some(b"error") => AnthropicEvent::Error(error_object(data).unwrap_or_default()),
        Some(b"message_start") => {
            let usage = serde_json::from_slice::<Start>(data).ok().and_then(|start| start.message?.usage);
            // The output that it tells is a placeholder: nothing has been written yet.
            usage.map_or(AnthropicEvent::Content, |usage| AnthropicEvent::Usage(usage.without_output()))
        }
        Some(b"message_delta") => {
            let usage = serde_json::from_slice::<Delta>(data).ok().and_then(|delta| delta.usage);
            usage.map_or(AnthropicEvent::Content, AnthropicEvent::Usage)
        }
        Some(b"ping") => AnthropicEvent::Other,
        Some(_) => AnthropicEvent::Content,
        None => match error_object(data) {
            Some(error) => AnthropicEvent::Error(error),
            None => AnthropicEvent::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart() {
        let cases = [
            (r#"{"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}"#, "usage 3/-"),
            (r#"{"type":"message_start","message":{}}"#, "content"),
            (r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"\"error\""}}"#, "content"),
            (r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#, "usage -/5"),
            (r#"{"type":"message_stop"}"#, "terminal"),
            (r#"{"type":"ping"}"#, "other"),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#, "error overloaded_error busy"),
            (r#"{"error":{"type":"api_error","message":"busy"}}"#, "error api_error busy"),
            (r#"{"type":"vault_opened"}"#, "content"),
            ("[DONE]", "other"),
        ];
        for (data, expected) in cases {
            let figure = |figure: Option<u64>| figure.map_or("-".to_owned(), |figure| figure.to_string());
            let told = match classify(data.as_bytes()) {
                AnthropicEvent::Terminal => "terminal".to_owned(),
                AnthropicEvent::Error(error) => format!("error {} {}", error.kind.unwrap_or_default(), error.message),
                AnthropicEvent::Usage(usage) => {
                    let tokens = usage.tokens().unwrap_or_default();
                    format!("usage {}/{}", figure(tokens.input_tokens), figure(tokens.output_tokens))
                }
                AnthropicEvent::Content => "content".to_owned(),
                AnthropicEvent::Other => "other".to_owned(),
            };
            assert_eq!(told, expected, "{data}");
        }
    }
}
