//! Failures of upstreams: what a status or an error object means, and what the client hears of it.

use std::time::Duration;

use ez_protocol::answer::VendorError;
use ez_protocol::error::FaultKind;
use ez_protocol::redact::redact;
use http::StatusCode;

use crate::refusal::{Refusal, UPSTREAM_UNAVAILABLE};
use crate::upstream::TokenError;

/// Whether a status means that the credential is at fault, not the call: 402 is an empty account.
pub(crate) fn is_credentials_fault(status: u16) -> bool {
    matches!(status, 401..=403)
}

/// The status that an error object inside a 200 stands for.
pub(crate) fn status_of(error: &VendorError) -> u16 {
    if let Some(status) =
        error.code.as_deref().and_then(|code| code.parse().ok()).filter(|status| (400..600).contains(status))
    {
        return status;
    }
    let mentions = |needles: &[&str]| {
        let words = [error.code.as_deref(), error.kind.as_deref()];
        words.into_iter().flatten().any(|word| needles.iter().any(|needle| word.contains(needle)))
    };
    if mentions(&["api_key", "authentication", "permission", "billing"]) {
        401
    } else if mentions(&["rate_limit", "quota"]) {
        429
    } else if mentions(&["overloaded", "unavailable"]) {
        503
    } else if mentions(&["invalid_request", "context_length", "content_policy", "content_filter", "unsupported"]) {
        400
    } else {
        502
    }
}

/// The client's own fault, in the gateway's shape.
pub(crate) fn client_fault(status: StatusCode, message: &str) -> Refusal {
    let kind = match status {
        StatusCode::NOT_FOUND => FaultKind::NotFound,
        StatusCode::PAYLOAD_TOO_LARGE => FaultKind::TooLarge,
        _ => FaultKind::InvalidRequest,
    };
    Refusal::upstream(status, kind, "upstream_refused_request", message)
}

pub(crate) fn vendor_failure(status: u16, error: Option<&VendorError>) -> Refusal {
    let message = error.map(|error| error.message.as_str()).filter(|message| !message.is_empty());
    let said = message.map(|message| format!(": {}", redact(message))).unwrap_or_default();
    let http_status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    match status {
        429 => {
            let text = format!("the upstream is limiting calls{said}");
            Refusal::upstream(http_status, FaultKind::RateLimit, "upstream_rate_limited", text)
                .with_retry_after(Duration::from_secs(1))
        }
        408 | 504 => timed_out(&format!("the upstream timed out{said}")),
        503 | 529 => {
            let text = format!("the upstream is overloaded{said}");
            Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, UPSTREAM_UNAVAILABLE, text)
                .with_retry_after(Duration::from_secs(1))
        }
        _ => {
            let text = format!("the upstream failed with status {status}{said}");
            Refusal::upstream(StatusCode::BAD_GATEWAY, FaultKind::Upstream, "upstream_error", text)
        }
    }
}

/// The vendor's words are left out: they quote parts of the credential.
pub(crate) fn credential_refused() -> Refusal {
    let message = "the upstream refused this gateway's credential: an operator must renew it";
    Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, "upstream_credential_refused", message)
        .with_retry_after(Duration::from_secs(30))
}

pub(crate) fn unreachable_upstream(detail: String) -> Refusal {
    let message = "the upstream cannot be reached";
    Refusal::upstream(StatusCode::BAD_GATEWAY, FaultKind::Upstream, "upstream_unreachable", message).with_detail(detail)
}

/// A call that could not even sign in.
pub(crate) fn sign_in_failed(e: &TokenError) -> Refusal {
    match e {
        TokenError::Refused(_) => credential_refused().with_detail(e.to_string()),
        TokenError::Unavailable(_) => unreachable_upstream(e.to_string()),
    }
}

pub(crate) fn timed_out(message: &str) -> Refusal {
    Refusal::upstream(StatusCode::GATEWAY_TIMEOUT, FaultKind::Timeout, "upstream_timeout", message)
}

pub(crate) fn broken(message: &str) -> Refusal {
    Refusal::upstream(StatusCode::BAD_GATEWAY, FaultKind::Upstream, "upstream_broken_answer", message)
}

/// An error with its causes, for the process log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_inside_a_success_get_the_status_that_they_mean() {
        let error = |code: Option<&str>, kind: Option<&str>| VendorError {
            message: String::new(),
            code: code.map(str::to_owned),
            kind: kind.map(str::to_owned),
            ..VendorError::default()
        };
        assert_eq!(status_of(&error(Some("429"), None)), 429);
        assert_eq!(status_of(&error(Some("rate_limit_exceeded"), None)), 429);
        assert_eq!(status_of(&error(None, Some("insufficient_quota"))), 429);
        assert_eq!(status_of(&error(Some("server_is_overloaded"), None)), 503);
        assert_eq!(status_of(&error(Some("9"), Some("server_error"))), 502);
        assert_eq!(status_of(&error(Some("invalid_api_key"), Some("invalid_request_error"))), 401);
        assert_eq!(status_of(&error(Some("context_length_exceeded"), Some("invalid_request_error"))), 400);
    }
}
