//! OpenAI Chat Completions answers: usage, model name, and what each streamed event means.

use bytes::Bytes;
use ez_contract::usage::TokenUsage;
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::{PlainAnswer, VendorError};
use crate::inspect::json_string;
use crate::{scan, sse};

/// What an event of a chat stream means to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChatEvent {
    /// `[DONE]`: the stream's proper end.
    Done,
    /// An error object inside the stream.
    Error(VendorError),
    /// A chunk that carries usage. `usage_only` where it holds no choices: the chunk that `include_usage` adds.
    Usage {
        /// Token counts so far; the last report stands.
        tokens: TokenUsage,
        /// Whether the chunk exists for the usage alone.
        usage_only: bool,
    },
    /// A chunk with content.
    Content,
    /// A comment, a keep-alive, or something unknown: it passes.
    Other,
}

/// Tells what an event means. Looks for a few words in the bytes and parses only events that hold them.
pub(crate) fn classify(event: &[u8]) -> ChatEvent {
    let Some(data) = sse::data(event) else { return ChatEvent::Other };
    let data = data.as_ref().trim_ascii();
    if data == b"[DONE]" {
        return ChatEvent::Done;
    }
    if memmem::find(data, b"\"error\"").is_some()
        && let Some(error) = vendor_error(data)
    {
        return ChatEvent::Error(error);
    }
    if !reports_usage(data) {
        return if data.first() == Some(&b'{') { ChatEvent::Content } else { ChatEvent::Other };
    }
    match serde_json::from_slice::<UsageCarrier<'_>>(data) {
        Ok(UsageCarrier { usage: Some(usage), choices }) => {
            let usage_only = choices.is_some_and(|choices| is_empty_array(choices.get()));
            usage.into_tokens().map_or(ChatEvent::Content, |tokens| ChatEvent::Usage { tokens, usage_only })
        }
        _ => ChatEvent::Content,
    }
}

/// The event with its `model` replaced; the same bytes where it carries none or came in several data lines.
pub(crate) fn rename_model(event: &Bytes, model: &str) -> Bytes {
    let Some(sse::Data::One(data)) = sse::data(event) else { return event.clone() };
    let Ok(members) = scan::members(data) else { return event.clone() };
    let Some(at) = scan::value_of(data, &members, "model") else { return event.clone() };
    // `data` is a slice of `event`, so their distance is its offset.
    let offset = data.as_ptr() as usize - event.as_ptr() as usize;
    scan::splice(event, vec![(offset + at.start..offset + at.end, json_string(model))])
}

/// What stands behind the last blank line when a stream ends: some servers leave that line out after their last event,
/// which is then completed here. `None` where the event itself was cut off; half an event must not be passed on.
pub(crate) fn whole_tail(tail: &[u8]) -> Option<Bytes> {
    let data = sse::data(tail)?;
    let data = data.as_ref().trim_ascii();
    let is_whole = data == b"[DONE]" || scan::members(data).is_ok();
    is_whole.then(|| Bytes::from([tail.trim_ascii_end(), b"\n\n"].concat()))
}

/// Reads a plain answer and, where `model` is given, puts that in place of the answer's own. `None` when the body is
/// no JSON object: not an answer of this protocol.
pub(crate) fn read_plain(body: &[u8], model: Option<&str>) -> Option<PlainAnswer> {
    let members = scan::members(body).ok()?;
    let tokens = scan::value_of(body, &members, "usage")
        .and_then(|at| serde_json::from_slice::<Option<Usage>>(&body[at]).ok().flatten())
        .and_then(Usage::into_tokens);
    let renamed = model.and_then(|model| {
        let at = scan::value_of(body, &members, "model")?;
        Some(scan::splice(body, vec![(at, json_string(model))]))
    });
    Some(PlainAnswer { tokens, renamed })
}

/// The error of a body or an event's data: a top-level `error` that is not null. Some vendors send choices beside it.
pub(crate) fn vendor_error(body: &[u8]) -> Option<VendorError> {
    #[derive(Deserialize)]
    struct Carrier<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Fields {
        #[serde(default)]
        message: Option<String>,
        #[serde(default, rename = "type")]
        kind: Option<String>,
        #[serde(default)]
        code: Option<serde_json::Value>,
    }
    let carrier = serde_json::from_slice::<Carrier<'_>>(body).ok()?;
    let error = carrier.error?.get();
    if error == "null" {
        return None;
    }
    if let Ok(message) = serde_json::from_str::<String>(error) {
        return Some(VendorError { message, ..VendorError::default() });
    }
    let fields = serde_json::from_str::<Fields>(error).ok()?;
    let code = fields.code.and_then(|code| match code {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
    });
    Some(VendorError { message: fields.message.unwrap_or_default(), kind: fields.kind, code })
}

#[derive(Deserialize)]
struct UsageCarrier<'a> {
    usage: Option<Usage>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
}

/// `usage` of a chat answer. Prompt tokens include cached ones, completion tokens include reasoning.
#[derive(Deserialize)]
struct Usage {
    #[serde(default, deserialize_with = "count")]
    prompt_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek's spelling of cached input.
    #[serde(default, deserialize_with = "count")]
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    #[serde(default, deserialize_with = "count")]
    reasoning_tokens: Option<u64>,
}

impl Usage {
    /// The counts; `None` where neither input nor output is told, which is as good as no report.
    fn into_tokens(self) -> Option<TokenUsage> {
        let prompt = self.prompt_tokens_details;
        let tokens = TokenUsage {
            input_tokens: self.prompt_tokens,
            output_tokens: self.completion_tokens,
            cache_read_tokens: prompt.as_ref().and_then(|d| d.cached_tokens).or(self.prompt_cache_hit_tokens),
            cache_write_tokens: prompt.and_then(|d| d.cache_write_tokens),
            reasoning_tokens: self.completion_tokens_details.and_then(|d| d.reasoning_tokens),
        };
        (tokens.input_tokens.is_some() || tokens.output_tokens.is_some()).then_some(tokens)
    }
}

/// A count, or `None` where a server sends something that is none: one odd figure must not void the others.
fn count<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0).map(|n| n as u64)))
}

/// Whether the bytes hold a `"usage"` that is not null. With `include_usage` every chunk carries `"usage":null`, so
/// that case must not cost a parse.
fn reports_usage(data: &[u8]) -> bool {
    const KEY: &[u8] = b"\"usage\"";
    memmem::find_iter(data, KEY).any(|at| {
        let after_key = data[at + KEY.len()..].trim_ascii_start();
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

    #[test]
    fn events_are_told_apart() {
        let cases: [(&[u8], ChatEvent); 11] = [
            (b"data: [DONE]\n\n", ChatEvent::Done),
            (b"data:[DONE]\r\n\r\n", ChatEvent::Done),
            (b": OPENROUTER PROCESSING\n\n", ChatEvent::Other),
            (b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n", ChatEvent::Content),
            (b"data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\"\"}}]}\n\n", ChatEvent::Content),
            (b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"error\":null}\n\n", ChatEvent::Content),
            (
                b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n",
                ChatEvent::Usage { tokens: tokens(3, 5), usage_only: true },
            ),
            (
                b"data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\" : {\"prompt_tokens\":3,\"completion_tokens\":5}}\n\n",
                ChatEvent::Usage { tokens: tokens(3, 5), usage_only: false },
            ),
            (
                b"data: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\",\"code\":503}}\n\n",
                ChatEvent::Error(VendorError {
                    message: "busy".into(),
                    kind: Some("server_error".into()),
                    code: Some("503".into()),
                }),
            ),
            (
                b"data: {\"choices\":[{\"finish_reason\":\"error\"}],\"error\":{\"message\":\"busy\"}}\n\n",
                ChatEvent::Error(VendorError { message: "busy".into(), ..VendorError::default() }),
            ),
            (
                b"data: {\"error\":\"busy\"}\n\n",
                ChatEvent::Error(VendorError { message: "busy".into(), ..VendorError::default() }),
            ),
        ];
        for (event, expected) in cases {
            assert_eq!(classify(event), expected, "{}", String::from_utf8_lossy(event));
        }
    }

    #[test]
    fn every_bucket_of_usage_is_read() {
        let body = br#"{"model":"m","usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,
            "prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":10},
            "completion_tokens_details":{"reasoning_tokens":7}}}"#;
        let expected = TokenUsage {
            input_tokens: Some(100),
            output_tokens: Some(20),
            cache_read_tokens: Some(60),
            cache_write_tokens: Some(10),
            reasoning_tokens: Some(7),
        };
        assert_eq!(read_plain(body, None).unwrap().tokens, Some(expected));
        assert_eq!(read_plain(br#"{"usage":null}"#, None).unwrap().tokens, None);
        assert_eq!(read_plain(br#"{"usage":{}}"#, None).unwrap().tokens, None);
        let odd =
            read_plain(br#"{"usage":{"prompt_tokens":3.0,"completion_tokens":-1}}"#, None).unwrap().tokens.unwrap();
        assert_eq!((odd.input_tokens, odd.output_tokens), (Some(3), None));
        assert_eq!(read_plain(b"<html>", None), None);
    }

    #[test]
    fn a_tail_is_completed_or_dropped() {
        assert_eq!(whole_tail(b"data: [DONE]"), Some(Bytes::from_static(b"data: [DONE]\n\n")));
        assert_eq!(whole_tail(b"data: {\"a\":1}\n"), Some(Bytes::from_static(b"data: {\"a\":1}\n\n")));
        for cut in [&b"data: {\"a\":"[..], b"data: [DO", b"dat", b": ping"] {
            assert_eq!(whole_tail(cut), None);
        }
    }

    #[test]
    fn only_the_model_is_renamed() {
        let event =
            Bytes::from_static(b"data: {\"id\":\"x\", \"model\":\"up-1\",\"choices\":[{\"model\":\"up-1\"}]}\r\n\r\n");
        let renamed = rename_model(&event, "public");
        assert_eq!(
            renamed,
            &b"data: {\"id\":\"x\", \"model\":\"public\",\"choices\":[{\"model\":\"up-1\"}]}\r\n\r\n"[..]
        );
        let comment = Bytes::from_static(b": ping\n\n");
        assert_eq!(rename_model(&comment, "public"), comment);
        let plain = read_plain(br#"{"model":"up-1","n":1.0}"#, Some("public")).unwrap();
        assert_eq!(plain.renamed.unwrap(), &br#"{"model":"public","n":1.0}"#[..]);
    }
}
