//! Errors in each vendor's own shape.

use http::Response;
use serde_json::{Value, json};

use super::body::{Event, SimBody};
use super::route::{Operation, Vendor};

/// An error to be told in a vendor's words.
#[derive(Default)]
pub(super) struct VendorError {
    pub(super) status: u16,
    /// The vendor's code; by default what goes with the status.
    pub(super) code: Option<String>,
    /// By default what goes with the status.
    pub(super) message: Option<String>,
    /// Seconds.
    pub(super) retry_after: Option<u64>,
}

impl VendorError {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: Some(message.into()), ..Self::default() }
    }

    pub(super) fn code(self, code: &str) -> Self {
        Self { code: Some(code.to_owned()), ..self }
    }

    /// What a vendor says to a request without a credential.
    pub(super) fn unauthenticated(vendor: Vendor) -> Self {
        let message = match vendor {
            Vendor::OpenAi => "You didn't provide an API key in an Authorization header using Bearer auth.",
            Vendor::Anthropic => "x-api-key header is required",
            Vendor::Gemini => "Request is missing required authentication credential.",
        };
        Self::new(401, message)
    }

    /// What a vendor says about a model that it doesn't have.
    pub(super) fn unknown_model(vendor: Vendor, model: &str) -> Self {
        match vendor {
            Vendor::OpenAi => {
                Self::new(404, format!("The model `{model}` does not exist or you do not have access to it."))
                    .code("model_not_found")
            }
            Vendor::Anthropic => Self::new(404, format!("model: {model}")),
            Vendor::Gemini => Self::new(404, format!("models/{model} is not found for API version v1beta.")),
        }
    }

    pub(super) fn response(&self, vendor: Vendor, serial: u64) -> Response<SimBody> {
        let mut body = self.json(vendor);
        if vendor == Vendor::Anthropic {
            body["request_id"] = json!(super::serve::request_id(serial));
        }
        let mut response =
            super::serve::response(vendor, serial, "application/json", SimBody::whole(body.to_string().into()));
        *response.status_mut() = self.status.try_into().expect("a fault's status isn't an HTTP status");
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        if vendor == Vendor::OpenAi && self.status == 429 {
            response.headers_mut().insert("x-ratelimit-remaining-requests", 0.into());
        }
        response
    }

    /// The error inside a stream, as its `index`-th event (from 0).
    pub(super) fn events(&self, vendor: Vendor, operation: Operation, index: usize) -> Vec<Event> {
        let error = self.json(vendor);
        let events = match operation {
            Operation::Responses => return self.responses_events(&error, index),
            Operation::Messages => vec![format!("event: error\ndata: {error}\n\n")],
            Operation::StreamGenerate { sse: true } => vec![format!("data: {error}\r\n\r\n")],
            Operation::StreamGenerate { sse: false } => {
                vec![format!("{}{error}", if index == 0 { "[" } else { ",\r\n" }), "]".to_owned()]
            }
            _ => vec![format!("data: {error}\n\n")],
        };
        events.into_iter().map(Event::plain).collect()
    }

    /// A Responses stream tells an error twice: as `error` and as the end of the response.
    fn responses_events(&self, error: &Value, index: usize) -> Vec<Event> {
        let (code, message) = (&error["error"]["code"], &error["error"]["message"]);
        let code = if code.is_null() { &error["error"]["type"] } else { code };
        let first = json!({"type": "error", "sequence_number": index, "code": code, "message": message, "param": null});
        let failed = json!({
            "type": "response.failed",
            "sequence_number": index + 1,
            "response": {
                "id": "resp_failed", "object": "response", "created_at": 0, "status": "failed",
                "error": {"code": code, "message": message}, "incomplete_details": null, "output": [], "usage": null,
            },
        });
        let first = Event::plain(format!("event: error\ndata: {first}\n\n"));
        vec![first, Event::plain(format!("event: response.failed\ndata: {failed}\n\n"))]
    }

    fn json(&self, vendor: Vendor) -> Value {
        let code = self.code.as_deref();
        let message = self.message.clone().unwrap_or_else(|| default_message(self.status).to_owned());
        match vendor {
            Vendor::OpenAi => {
                let (kind, usual_code) = openai_type_and_code(self.status, code);
                json!({"error": {"message": message, "type": kind, "param": null, "code": code.or(usual_code)}})
            }
            Vendor::Anthropic => {
                let kind = code.unwrap_or_else(|| anthropic_type(self.status));
                json!({"type": "error", "error": {"type": kind, "message": message}})
            }
            Vendor::Gemini => {
                let status = code.unwrap_or_else(|| google_status(self.status));
                let mut error = json!({"code": self.status, "message": message, "status": status});
                if let Some(seconds) = self.retry_after {
                    let delay = format!("{seconds}s");
                    error["details"] =
                        json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]);
                }
                json!({"error": error})
            }
        }
    }
}

fn openai_type_and_code(status: u16, code: Option<&str>) -> (&'static str, Option<&'static str>) {
    match (status, code) {
        (429, Some("insufficient_quota")) => ("insufficient_quota", None),
        (401, _) => ("invalid_request_error", Some("invalid_api_key")),
        (429, _) => ("requests", Some("rate_limit_exceeded")),
        (503, _) => ("server_error", Some("server_is_overloaded")),
        (500.., _) => ("server_error", None),
        _ => ("invalid_request_error", None),
    }
}

fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

fn default_message(status: u16) -> &'static str {
    match status {
        401 => "The credential is not valid.",
        402 => "The account's balance is too low.",
        403 => "The credential may not do this.",
        404 => "There is nothing here.",
        405 => "This method is not allowed here.",
        413 => "The request is too large.",
        429 => "Too many requests. Please slow down.",
        503 | 529 => "The service is overloaded. Please try again later.",
        500.. => "The server had an error while processing your request.",
        _ => "The request is not valid.",
    }
}
