//! Error shapes: one fault, written as each dialect writes its errors.

use bytes::Bytes;
use ez_contract::Protocol;
use serde_json::{Value, json};

/// What a client may do about a fault; each dialect has its own words for these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The request is wrong.
    InvalidRequest,
    /// The key is missing, unknown or dead.
    Authentication,
    /// The key may not do this.
    Permission,
    /// No such model or path.
    NotFound,
    /// The body is too large.
    TooLarge,
    /// A limit, here or upstream.
    RateLimit,
    /// Nothing can serve this now.
    Unavailable,
    /// The upstream did not answer in time.
    Timeout,
    /// The upstream failed.
    Upstream,
    /// ez-api failed.
    Internal,
}

/// A fault to be told to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// HTTP status.
    pub status: u16,
    /// What the client may do about it.
    pub kind: FaultKind,
    /// Stable machine-readable reason, such as `model_not_found`.
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: String,
    /// The request's field at fault.
    pub param: Option<Box<str>>,
}

/// The body of an error answer in the caller's dialect.
pub fn render(protocol: Protocol, fault: &Fault, request_id: &str) -> Bytes {
    to_bytes(&body(protocol, fault, request_id))
}

/// The event that ends a stream with an error, in the caller's dialect. `events_before` is how many events went before
/// it, which Responses numbers from 0.
pub fn render_event(protocol: Protocol, fault: &Fault, request_id: &str, events_before: u64) -> Bytes {
    let (name, body) = match protocol {
        Protocol::OpenaiChat | Protocol::Gemini => (None, body(protocol, fault, request_id)),
        Protocol::AnthropicMessages => (Some("error"), body(protocol, fault, request_id)),
        Protocol::OpenaiResponses => {
            let event = json!({
                "type": "error", "sequence_number": events_before,
                "code": fault.code, "message": fault.message, "param": fault.param,
            });
            (Some("error"), event)
        }
    };
    let name = name.map(|name| format!("event: {name}\n")).unwrap_or_default();
    Bytes::from(format!("{name}data: {body}\n\n"))
}

fn body(protocol: Protocol, fault: &Fault, request_id: &str) -> Value {
    match protocol {
        Protocol::OpenaiChat | Protocol::OpenaiResponses => json!({"error": {
            "message": fault.message,
            "type": openai_type(fault.kind),
            "param": fault.param,
            "code": fault.code,
            "request_id": request_id,
        }}),
        Protocol::AnthropicMessages => json!({
            "type": "error",
            "error": {"type": anthropic_type(fault.kind), "message": fault.message},
            "request_id": request_id,
        }),
        Protocol::Gemini => json!({"error": {
            "code": fault.status,
            "message": fault.message,
            "status": google_status(fault.kind),
            "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": fault.code.to_uppercase()},
                {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id},
            ],
        }}),
    }
}

const fn openai_type(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest | FaultKind::NotFound | FaultKind::TooLarge => "invalid_request_error",
        FaultKind::Authentication => "authentication_error",
        FaultKind::Permission => "permission_error",
        FaultKind::RateLimit => "rate_limit_error",
        FaultKind::Unavailable | FaultKind::Timeout | FaultKind::Upstream | FaultKind::Internal => "server_error",
    }
}

const fn anthropic_type(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest => "invalid_request_error",
        FaultKind::Authentication => "authentication_error",
        FaultKind::Permission => "permission_error",
        FaultKind::NotFound => "not_found_error",
        FaultKind::TooLarge => "request_too_large",
        FaultKind::RateLimit => "rate_limit_error",
        FaultKind::Unavailable => "overloaded_error",
        FaultKind::Timeout => "timeout_error",
        FaultKind::Upstream | FaultKind::Internal => "api_error",
    }
}

const fn google_status(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::InvalidRequest | FaultKind::TooLarge => "INVALID_ARGUMENT",
        FaultKind::Authentication => "UNAUTHENTICATED",
        FaultKind::Permission => "PERMISSION_DENIED",
        FaultKind::NotFound => "NOT_FOUND",
        FaultKind::RateLimit => "RESOURCE_EXHAUSTED",
        FaultKind::Unavailable => "UNAVAILABLE",
        FaultKind::Timeout => "DEADLINE_EXCEEDED",
        FaultKind::Upstream | FaultKind::Internal => "INTERNAL",
    }
}

fn to_bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Fault {
        Fault {
            status: 404,
            kind: FaultKind::NotFound,
            code: "model_not_found",
            message: "no model `x`".into(),
            param: Some("model".into()),
        }
    }

    #[test]
    fn each_dialect_has_its_own_shape() {
        let parsed = |protocol| serde_json::from_slice::<Value>(&render(protocol, &fault(), "req-1")).unwrap();
        assert_eq!(
            parsed(Protocol::OpenaiChat),
            json!({"error": {"message": "no model `x`", "type": "invalid_request_error", "param": "model",
                "code": "model_not_found", "request_id": "req-1"}})
        );
        assert_eq!(
            parsed(Protocol::AnthropicMessages),
            json!({"type": "error", "error": {"type": "not_found_error", "message": "no model `x`"},
                "request_id": "req-1"})
        );
        let gemini = parsed(Protocol::Gemini);
        assert_eq!((&gemini["error"]["code"], &gemini["error"]["status"]), (&json!(404), &json!("NOT_FOUND")));
    }

    #[test]
    fn error_events_are_valid_events_of_their_dialect() {
        for protocol in Protocol::ALL {
            let event = render_event(*protocol, &fault(), "req-1", 3);
            assert!(event.ends_with(b"\n\n"));
            let data = crate::sse::data(&event).expect("data");
            let body = serde_json::from_slice::<Value>(data.as_ref()).unwrap_or_else(|e| panic!("{protocol}: {e}"));
            let number = (*protocol == Protocol::OpenaiResponses).then(|| json!(3));
            assert_eq!(body.get("sequence_number"), number.as_ref(), "{protocol}");
        }
    }
}
