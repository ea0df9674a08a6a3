//! OpenAI Responses: what each streamed event means. The last event tells how the response ended, and its usage.

use ez_contract::usage::TokenUsage;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::VendorError;
use crate::event_type::event_type;
use crate::usage::OpenAiUsage;
use crate::vendor_error::{error_object, read_error};

/// What an event means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResponsesEvent {
    /// The response is completed, or incomplete for a reason that it tells: the stream's proper end.
    Terminal(Option<TokenUsage>),
    /// It failed; what it used up to there is charged.
    Error(VendorError, Option<TokenUsage>),
    /// `[DONE]`, which some servers add behind the last event, and which is no end of its own.
    Done,
    /// Content.
    Content,
    /// Something unknown: it passes.
    Other,
}

/// Tells what an event means. Only the last one is parsed.
pub(crate) fn classify(data: &[u8]) -> ResponsesEvent {
    if data == b"[DONE]" {
        return ResponsesEvent::Done;
    }
    let kind = event_type(data);
    match kind.as_deref() {
        Some(b"response.completed" | b"response.incomplete") => ResponsesEvent::Terminal(last_response(data).1),
        Some(b"response.failed") => {
            let (error, tokens) = last_response(data);
            ResponsesEvent::Error(error.unwrap_or_default(), tokens)
        }
        // The fields stand in the event itself; older servers nest them.
        Some(b"error") => ResponsesEvent::Error(error_object(data).unwrap_or_else(|| flat_error(data)), None),
        Some(_) => ResponsesEvent::Content,
        None => match error_object(data) {
            Some(error) => ResponsesEvent::Error(error, None),
            None => ResponsesEvent::Other,
        },
    }
}

/// The error and the usage of the response that the last event carries.
fn last_response(data: &[u8]) -> (Option<VendorError>, Option<TokenUsage>) {
    #[derive(Deserialize)]
    struct Carrier<'a> {
        #[serde(borrow)]
        response: Option<Response<'a>>,
    }
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        usage: Option<OpenAiUsage>,
    }
    let Some(response) = serde_json::from_slice::<Carrier<'_>>(data).ok().and_then(|carrier| carrier.response) else {
        return (None, None);
    };
    let error = response.error.and_then(|error| read_error(error.get()));
    (error, response.usage.and_then(OpenAiUsage::into_tokens))
}

/// The event `error` with its fields beside its `type`, which says no more than that it is one.
fn flat_error(data: &[u8]) -> VendorError {
    let error = std::str::from_utf8(data).ok().and_then(read_error).unwrap_or_default();
    VendorError { kind: None, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart() {
        let usage = r#""usage":{"input_tokens":3,"output_tokens":5,"total_tokens":8}"#;
        let tokens = TokenUsage { input_tokens: Some(3), output_tokens: Some(5), ..TokenUsage::default() };
        let busy = VendorError { message: "busy".into(), code: Some("server_error".into()), ..VendorError::default() };
        let cases = [
            (
                r#"{"type":"response.created","response":{"usage":null,"error":null}}"#.to_owned(),
                ResponsesEvent::Content,
            ),
            (
                r#"{"type":"response.output_text.delta","delta":"response.failed \"error\""}"#.to_owned(),
                ResponsesEvent::Content,
            ),
            (r#"{"type":"response.something_new"}"#.to_owned(), ResponsesEvent::Content),
            (
                format!(r#"{{"type":"response.completed","response":{{"error":null,{usage}}}}}"#),
                ResponsesEvent::Terminal(Some(tokens)),
            ),
            (
                format!(r#"{{"response":{{"status":"incomplete",{usage}}},"type":"response.incomplete"}}"#),
                ResponsesEvent::Terminal(Some(tokens)),
            ),
            (
                format!(
                    r#"{{"type":"response.failed","response":{{"error":{{"code":"server_error","message":"busy"}},{usage}}}}}"#
                ),
                ResponsesEvent::Error(busy.clone(), Some(tokens)),
            ),
            (
                r#"{"type":"error","code":"server_error","message":"busy","param":null,"sequence_number":3}"#
                    .to_owned(),
                ResponsesEvent::Error(busy.clone(), None),
            ),
            (
                r#"{"type":"error","error":{"code":"server_error","message":"busy"}}"#.to_owned(),
                ResponsesEvent::Error(busy.clone(), None),
            ),
            (r#"{"error":{"code":"server_error","message":"busy"}}"#.to_owned(), ResponsesEvent::Error(busy, None)),
            ("[DONE]".to_owned(), ResponsesEvent::Done),
            ("hello".to_owned(), ResponsesEvent::Other),
        ];
        for (data, expected) in cases {
            assert_eq!(classify(data.as_bytes()), expected, "{data}");
        }
    }
}
