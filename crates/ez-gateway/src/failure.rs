//! Failures of upstreams: what a status or an error object means, and what the client hears of it.

use std::time::Duration;

use chrono::DateTime;
use ez_protocol::answer::VendorError;
use ez_protocol::error::{Fault, FaultKind};
use ez_protocol::redact::redact;
use ez_protocol::translate::UnreadableAnswer;
use ez_protocol::vendor_limits::{LimitScope, read_limit};
use http::StatusCode;

use crate::refusal::{Refusal, UPSTREAM_UNAVAILABLE};
use crate::upstream::{TokenError, UrlError};

/// What a failed attempt says of the credential that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The vendor asks for a pause, of the model or of the whole account. How long is the `Retry-After` of the refusal.
    Limited(LimitScope),
    /// The vendor refuses it for this call, and may take it for another: for the model, the region or the address, or
    /// because of what the call asks for.
    Denied,
    /// This very call is too much for it.
    Unfit,
    /// The vendor refuses it for whatever it is asked.
    Dead {
        /// Why.
        death: Death,
        /// HTTP status that the vendor answered with.
        status: u16,
    },
    /// It does not work: cannot be reached, too slow, broken, or failing.
    Failed,
}

impl Blame {
    /// The same of a call that was signed in with a token: the credential that the token was issued for may be alive.
    pub(crate) fn of_token(self) -> Self {
        match self {
            Self::Dead { death: Death::Refused, .. } => Self::Failed,
            other => other,
        }
    }
}

/// Why a credential is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Wrong, revoked or expired.
    Refused,
    /// Good, but its account has no money or quota left.
    Unpaid,
}

/// The code of answers that went wrong by the model's doing.
pub(crate) const UPSTREAM_FAILED: &str = "upstream_failed";

/// A pause where the vendor names none.
pub(crate) const USUAL_PAUSE: Duration = Duration::from_secs(1);

/// Whole sentences by which vendors tell in a status 400 that the credential is at fault. Nothing less is compared, as
/// a vendor's sentence may quote the client's words.
const REFUSED_SENTENCES: &[&str] = &[
    "API key not valid. Please pass a valid API key.",
    "API key expired. Please renew the API key.",
    "This organization has been disabled.",
];
const UNPAID_SENTENCES: &[&str] = &[
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
];

/// What an error answer says of the credential; `None` where the client is at fault. `scope` is what the vendor limits,
/// if it does. Vendors' words: facts/protocols.md, sections 6 and 7.
pub(crate) fn blame_of(status: u16, error: Option<&VendorError>, scope: LimitScope) -> Option<Blame> {
    let names = |words: &[&str]| error.is_some_and(|error| named(error, words));
    let message = error.map(|error| error.message.as_str()).unwrap_or_default();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let dead = |death| Some(Blame::Dead { death, status });
    // More tokens were asked for than the account can pay: another call may be served.
    if status == 402 && says(&["fewer max_tokens"]) {
        return None;
    }
    let is_unpaid = status == 402 || scope == LimitScope::Funds || names(&["insufficient_user_quota"]);
    if (is_unpaid && matches!(status, 401..=403 | 429)) || (status == 400 && UNPAID_SENTENCES.contains(&message)) {
        return dead(Death::Unpaid);
    }
    let is_denied = names(&["permission", "scope", "region", "country", "ip_not", "access_denied"])
        || says(&["scope", "region", "country", "IP address"]);
    match status {
        400 if names(&["API_KEY_INVALID"]) || REFUSED_SENTENCES.contains(&message) => dead(Death::Refused),
        // A page without an error may be of some proxy on the way.
        401 if is_denied || error.is_none() => Some(Blame::Denied),
        401 => dead(Death::Refused),
        403 if names(&["moderation", "content_policy", "content_filter"]) || says(&["moderation", "flagged"]) => None,
        403 if names(&["invalid_api_key", "authentication", "account_deactivated"])
            || says(&["reported as leaked", "has been suspended", "has been deactivated"]) =>
        {
            dead(Death::Refused)
        }
        403 => Some(Blame::Denied),
        // More tokens in one call than the account has in a minute; others are served meanwhile.
        429 if message.starts_with("Request too large for") => Some(Blame::Unfit),
        429 => Some(Blame::Limited(scope)),
        408 | 500.. => Some(Blame::Failed),
        _ => None,
    }
}

/// Whether the code, the kind or the reason of an error holds one of these words.
fn named(error: &VendorError, words: &[&str]) -> bool {
    let names = [error.code.as_deref(), error.kind.as_deref(), error.reason.as_deref()];
    names.into_iter().flatten().any(|name| words.iter().any(|word| name.contains(word)))
}

/// What an error within an answer says of the credential, where there are no headers to ask.
pub(crate) fn blame_within(error: &VendorError) -> Option<Blame> {
    // Nothing in it is dated, so the time does not matter.
    let limit = read_limit(|_| None, &[], Some(error), DateTime::UNIX_EPOCH);
    blame_of(status_of(error), Some(error), limit.scope)
}

/// The status that an error object inside a 200 stands for.
pub(crate) fn status_of(error: &VendorError) -> u16 {
    if let Some(status) =
        error.code.as_deref().and_then(|code| code.parse().ok()).filter(|status| (400..600).contains(status))
    {
        return status;
    }
    let mentions = |words: &[&str]| named(error, words);
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

/// The client's own fault in the vendor's words, for clients that do not read the vendor's shape of it. That a prompt is
/// too long is told by one code whoever says it, as agents go by it.
pub(crate) fn told_fault(status: StatusCode, error: &VendorError) -> Refusal {
    let mut refusal = client_fault(status, &redact(&error.message));
    if error.is_context_overflow() {
        refusal.fault.code = "context_length_exceeded";
    }
    refusal
}

/// An error that ended a stream, for clients that do not read the vendor's shape of it.
pub(crate) fn told_end(error: &VendorError) -> Fault {
    let status = status_of(error);
    let refusal = match (blame_within(error), StatusCode::from_u16(status)) {
        (None, Ok(status)) => told_fault(status, error),
        (blame, _) => vendor_failure(status, Some(error), blame.unwrap_or(Blame::Failed), None),
    };
    refusal.fault
}

/// A failure that another credential may not have.
pub(crate) fn vendor_failure(
    status: u16,
    error: Option<&VendorError>,
    blame: Blame,
    pause: Option<Duration>,
) -> Refusal {
    let pause = pause.unwrap_or(USUAL_PAUSE);
    if matches!(blame, Blame::Dead { .. } | Blame::Denied) {
        return credential_refused().blaming(blame);
    }
    let message = error.map(|error| error.message.as_str()).filter(|message| !message.is_empty());
    let said = message.map(|message| format!(": {}", redact(message))).unwrap_or_default();
    let http_status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    match status {
        429 => {
            let text = format!("the upstream is limiting calls{said}");
            Refusal::upstream(http_status, FaultKind::RateLimit, "upstream_rate_limited", text)
                .with_retry_after(pause)
                .blaming(blame)
        }
        408 | 504 => timed_out(&format!("the upstream timed out{said}")),
        503 | 529 => {
            let text = format!("the upstream is overloaded{said}");
            Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, UPSTREAM_UNAVAILABLE, text)
                .with_retry_after(pause)
                .blaming(blame)
        }
        _ => {
            let text = format!("the upstream failed with status {status}{said}");
            Refusal::upstream(StatusCode::BAD_GATEWAY, FaultKind::Upstream, "upstream_error", text).blaming(blame)
        }
    }
}

/// The vendor's words are left out: they quote parts of the credential.
fn credential_refused() -> Refusal {
    let message = "the upstream refused this gateway's credential: an operator must renew it";
    Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, "upstream_credential_refused", message)
        .with_retry_after(Duration::from_secs(30))
}

pub(crate) fn unreachable_upstream(detail: String) -> Refusal {
    let message = "the upstream cannot be reached";
    Refusal::upstream(StatusCode::BAD_GATEWAY, FaultKind::Upstream, "upstream_unreachable", message)
        .with_detail(detail)
        .blaming(Blame::Failed)
}

/// A model of a binding that no URL can name. It says nothing of the credential, so nothing is blamed on it.
pub(crate) fn without_url(e: &UrlError) -> Refusal {
    let message = "the upstream model's name cannot be called: an operator must mend the binding";
    Refusal::upstream(StatusCode::SERVICE_UNAVAILABLE, FaultKind::Unavailable, "config_error", message)
        .with_detail(e.to_string())
        .with_retry_after(Duration::from_secs(30))
}

/// A call that could not even sign in.
pub(crate) fn sign_in_failed(e: &TokenError) -> Refusal {
    match e {
        TokenError::Refused(_) => {
            let blame = Blame::Dead { death: Death::Refused, status: 401 };
            credential_refused().with_detail(e.to_string()).blaming(blame)
        }
        TokenError::Unavailable(_) => unreachable_upstream(e.to_string()),
    }
}

pub(crate) fn timed_out(message: &str) -> Refusal {
    Refusal::upstream(StatusCode::GATEWAY_TIMEOUT, FaultKind::Timeout, "upstream_timeout", message)
        .blaming(Blame::Failed)
}

pub(crate) fn broken(message: &str) -> Refusal {
    Refusal::upstream(StatusCode::BAD_GATEWAY, FaultKind::Upstream, "upstream_broken_answer", message)
        .blaming(Blame::Failed)
}

/// An answer that cannot be made the client's. Where the model made it so, the credential is not at fault.
pub(crate) fn unreadable(answer: UnreadableAnswer) -> Refusal {
    let refusal = broken(&answer.to_string());
    match answer {
        UnreadableAnswer::Unknown => refusal,
        UnreadableAnswer::Failed => {
            let fault = Fault { code: UPSTREAM_FAILED, ..refusal.fault };
            Refusal { blame: None, fault, ..refusal }
        }
    }
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

    #[test]
    fn each_answer_is_blamed_on_whom_it_should_be() {
        const MODEL: Option<Blame> = Some(Blame::Limited(LimitScope::Model));
        let error = |kind: &str, code: &str, message: &str| {
            let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let (kind, code) = (text(kind), text(code));
            Some(VendorError { message: message.to_owned(), kind, code, ..VendorError::default() })
        };
        let refused = |status| Some(Blame::Dead { death: Death::Refused, status });
        let unpaid = |status| Some(Blame::Dead { death: Death::Unpaid, status });
        let cases = [
            (401, error("invalid_request_error", "invalid_api_key", "Incorrect API key provided"), refused(401)),
            (401, error("authentication_error", "", "invalid x-api-key"), refused(401)),
            (401, error("", "UNAUTHENTICATED", "Request had invalid authentication credentials."), refused(401)),
            (401, None, Some(Blame::Denied)),
            (401, error("", "ip_not_authorized", "not from here"), Some(Blame::Denied)),
            (401, error("", "", "Missing scopes: model.request"), Some(Blame::Denied)),
            (400, error("", "INVALID_ARGUMENT", REFUSED_SENTENCES[0]), refused(400)),
            (400, error("", "API_KEY_INVALID", ""), refused(400)),
            (400, error("invalid_request_error", "", UNPAID_SENTENCES[0]), unpaid(400)),
            (
                400,
                error("", "", "API key not valid. Please pass a valid API key.: Extra inputs are not permitted"),
                None,
            ),
            (400, error("invalid_request_error", "", "billing is no parameter"), None),
            (402, error("billing_error", "", ""), unpaid(402)),
            (402, None, unpaid(402)),
            (402, error("", "402", "This request requires more credits, or fewer max_tokens."), None),
            (403, error("permission_error", "", "may not use this model"), Some(Blame::Denied)),
            (403, error("", "unsupported_country_region_territory", ""), Some(Blame::Denied)),
            (403, error("", "PERMISSION_DENIED", "Your API key was reported as leaked."), refused(403)),
            (403, error("", "403", "requires moderation and your input was flagged"), None),
            (403, None, Some(Blame::Denied)),
            (403, error("", "insufficient_user_quota", ""), unpaid(403)),
            (429, error("requests", "rate_limit_exceeded", ""), MODEL),
            (429, error("insufficient_quota", "insufficient_quota", ""), unpaid(429)),
            (429, None, MODEL),
            (
                429,
                error("tokens", "rate_limit_exceeded", "Request too large for m in organization o"),
                Some(Blame::Unfit),
            ),
            (408, None, Some(Blame::Failed)),
            (500, None, Some(Blame::Failed)),
            (529, error("overloaded_error", "", ""), Some(Blame::Failed)),
            (400, error("invalid_request_error", "context_length_exceeded", ""), None),
            (404, error("", "model_not_found", ""), None),
            (413, None, None),
            (422, error("", "", "unprocessable"), None),
        ];
        for (status, error, expected) in cases {
            let limit = read_limit(|_| None, &[], error.as_ref(), DateTime::UNIX_EPOCH);
            assert_eq!(blame_of(status, error.as_ref(), limit.scope), expected, "{status} {error:?}");
        }
        assert_eq!(refused(401).map(Blame::of_token), Some(Blame::Failed));
        assert_eq!(unpaid(402).map(Blame::of_token), unpaid(402));
        let account = blame_of(429, None, LimitScope::Account);
        assert_eq!(account, Some(Blame::Limited(LimitScope::Account)));
    }
}
