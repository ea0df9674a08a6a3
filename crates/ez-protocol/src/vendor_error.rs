//! The errors of vendors in all their shapes: OpenAI, Anthropic, Google, Azure, Bedrock, Codex, and the servers that are
//! built like one of them.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::VendorError;
use crate::scan;

/// Longest message that is kept, bytes; vendors quote whole prompts in theirs.
const MAX_MESSAGE_BYTES: usize = 4 << 10;

/// Keys of bodies that are an error without an `error` member (Azure's gateway, Bedrock, Codex, Mistral, FastAPI). A body
/// with any other key is no such error.
const BARE_ERROR_KEYS: &[&str] = &[
    "message",
    "Message",
    "msg",
    "detail",
    "statusCode",
    "status",
    "code",
    "type",
    "__type",
    "object",
    "param",
    "raw_status_code",
    "request_id",
    "requestId",
    "path",
    "timestamp",
    "title",
    "success",
];

/// The error that a whole body is, where it is one.
pub(crate) fn vendor_error(body: &[u8]) -> Option<VendorError> {
    let body = body.trim_ascii();
    if body.first() == Some(&b'[') {
        // Gemini wraps the error of a stream that never began into an array.
        let first = scan::elements(body, 1)?.into_iter().next()?;
        return error_object(&body[first]);
    }
    error_object(body).or_else(|| bare_error(body))
}

/// The error of an object with an `error` member that is one. Some vendors send an answer beside it; most answers have an
/// `error` of null.
pub(crate) fn error_object(data: &[u8]) -> Option<VendorError> {
    #[derive(Deserialize)]
    struct Carrier<'a> {
        #[serde(borrow)]
        error: Option<&'a RawValue>,
        /// Some servers tell the words beside the error.
        #[serde(borrow)]
        message: Option<&'a RawValue>,
    }
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
    KEY.find(data)?;
    let carrier = serde_json::from_slice::<Carrier<'_>>(data).ok()?;
    let mut error = read_error(carrier.error?.get())?;
    if error.message.is_empty()
        && let Some(message) = carrier.message.and_then(|message| serde_json::from_str::<String>(message.get()).ok())
    {
        error.message = bounded(message);
    }
    Some(error)
}

/// Reads the value of an `error` member. `None` for null, false, and empty texts and objects, which tell of none.
pub(crate) fn read_error(text: &str) -> Option<VendorError> {
    match serde_json::from_str::<Value>(text).ok()? {
        Value::String(message) if !message.is_empty() => {
            Some(VendorError { message: bounded(message), ..VendorError::default() })
        }
        Value::Object(fields) if !fields.is_empty() => Some(from_fields(&fields)),
        _ => None,
    }
}

/// An error whose fields stand in the body itself.
fn bare_error(body: &[u8]) -> Option<VendorError> {
    // An answer's first key nearly always tells that it is none of these.
    let first_key = body.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?;
    if !BARE_ERROR_KEYS.iter().any(|key| first_key.starts_with(key.as_bytes())) {
        return None;
    }
    let fields = serde_json::from_slice::<serde_json::Map<String, Value>>(body).ok()?;
    let tells_words = ["message", "Message", "msg", "detail"].iter().any(|key| fields.contains_key(*key));
    let is_known = fields.keys().all(|key| BARE_ERROR_KEYS.contains(&key.as_str()));
    (tells_words && is_known).then(|| from_fields(&fields))
}

fn from_fields(fields: &serde_json::Map<String, Value>) -> VendorError {
    let word = |key: &str| match fields.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(bounded(text.clone())),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let message = ["message", "Message", "msg"].iter().find_map(|key| word(key)).or_else(|| detail(fields));
    let code = word("code");
    let status_number = ["code", "statusCode", "status", "status_code", "raw_status_code"]
        .iter()
        .filter_map(|key| word(key)?.parse::<u16>().ok())
        .find(|status| (400..600).contains(status));
    // Google's `status` is a word where others have a `type`.
    let kind = word("type").or_else(|| word("__type")).or_else(|| word("status").filter(|w| w.parse::<u16>().is_err()));
    VendorError { message: message.unwrap_or_default(), kind, code, status: status_number, reason: reason(fields) }
}

/// `detail` as a text, as FastAPI's list of faults, or as an object with a message.
fn detail(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let words = |value: &Value| match value {
        Value::String(text) => Some(bounded(text.clone())),
        Value::Object(inner) => {
            ["message", "msg"].iter().find_map(|key| inner.get(*key)?.as_str()).map(|text| bounded(text.to_owned()))
        }
        _ => None,
    };
    match fields.get("detail")? {
        Value::Array(faults) => words(faults.first()?),
        other => words(other),
    }
}

/// The finer reason: Google's `ErrorInfo` or the quota that was hit, Azure's `innererror`.
fn reason(fields: &serde_json::Map<String, Value>) -> Option<String> {
    let inner = fields.get("innererror").and_then(|inner| inner.get("code")).and_then(Value::as_str);
    let details = fields.get("details").and_then(Value::as_array);
    let info = details.into_iter().flatten().find_map(|detail| detail.get("reason").and_then(Value::as_str));
    let quota = details.into_iter().flatten().find_map(|detail| {
        detail.get("violations")?.as_array()?.iter().find_map(|violation| violation.get("quotaId")?.as_str())
    });
    info.or(inner).or(quota).map(|reason| bounded(reason.to_owned()))
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(message: &str, kind: &str, code: &str, status: u16, reason: &str) -> VendorError {
        let some = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        VendorError {
            message: message.to_owned(),
            kind: some(kind),
            code: some(code),
            status: (status != 0).then_some(status),
            reason: some(reason),
        }
    }

    #[test]
    fn every_vendors_shape_is_read() {
        let cases = [
            // OpenAI.
            (
                r#"{"error":{"message":"no","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                error("no", "insufficient_quota", "insufficient_quota", 0, ""),
            ),
            (r#"{"error":{"message":"no","type":null,"code":null}}"#, error("no", "", "", 0, "")),
            // Anthropic.
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"req_1"}"#,
                error("busy", "overloaded_error", "", 0, ""),
            ),
            // Google.
            (
                r#"{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT","details":[
                    {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#,
                error("API key not valid", "INVALID_ARGUMENT", "400", 400, "API_KEY_INVALID"),
            ),
            (
                r#"[{"error":{"code":429,"message":"slow","status":"RESOURCE_EXHAUSTED","details":[
                    {"@type":"x/google.rpc.QuotaFailure","violations":[{"quotaId":"RequestsPerDayPerModel"}]},
                    {"@type":"x/google.rpc.RetryInfo","retryDelay":"7s"}]}}]"#,
                error("slow", "RESOURCE_EXHAUSTED", "429", 429, "RequestsPerDayPerModel"),
            ),
            // Azure.
            (r#"{"error":{"code":"429","message":"slow"}}"#, error("slow", "", "429", 429, "")),
            (r#"{"statusCode":401,"message":"no access"}"#, error("no access", "", "", 401, "")),
            (
                r#"{"error":{"code":"content_filter","message":"no","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
                error("no", "", "content_filter", 0, "ResponsibleAIPolicyViolation"),
            ),
            // Bedrock, Codex, FastAPI, Mistral.
            (
                r#"{"message":"throttled","__type":"ThrottlingException"}"#,
                error("throttled", "ThrottlingException", "", 0, ""),
            ),
            (r#"{"detail":"unsupported parameter"}"#, error("unsupported parameter", "", "", 0, "")),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, error("field required", "", "", 0, "")),
            (
                r#"{"object":"error","message":"no model","type":"invalid_model","param":null,"code":"1500"}"#,
                error("no model", "invalid_model", "1500", 0, ""),
            ),
            // Servers that say little.
            (r#"{"error":"busy"}"#, error("busy", "", "", 0, "")),
            (r#"{"error":{"code":"x"},"message":"busy"}"#, error("busy", "", "x", 0, "")),
            (r#"{"choices":[],"error":{"message":{"odd":1},"code":503}}"#, error("", "", "503", 503, "")),
        ];
        for (body, expected) in cases {
            assert_eq!(vendor_error(body.as_bytes()), Some(expected), "{body}");
        }
    }

    #[test]
    fn answers_are_no_errors() {
        let answers = [
            r#"{"id":"x","choices":[{"message":{"content":"\"error\""}}],"error":null}"#,
            r#"{"type":"message","content":[{"type":"text","text":"an error"}],"usage":{}}"#,
            r#"{"id":"r","status":"completed","error":null,"output":[]}"#,
            r#"{"candidates":[],"promptFeedback":{"blockReason":"SAFETY"}}"#,
            r#"{"message":"m","results":[]}"#,
            r#"{"status":"ok"}"#,
            r#"{"error":{}}"#,
            r#"{"error":""}"#,
            r#"{"error":false}"#,
            r#"[{"index":0,"score":0.5}]"#,
            "<html>502</html>",
            "",
        ];
        for body in answers {
            assert_eq!(vendor_error(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn long_messages_are_cut() {
        let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "\u{5b57}".repeat(10_000));
        let message = vendor_error(body.as_bytes()).unwrap().message;
        assert!(message.len() <= MAX_MESSAGE_BYTES && message.len() > MAX_MESSAGE_BYTES - 4);
    }
}
