//! Problems: the one shape of every error answer (RFC 9457), and the one place where errors become responses.

use std::error::Error;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use ez_control::{ControlError, FieldFault};
use ez_telemetry::RequestId;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// Media type of every error answer.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// An error on its way to the client. [`render`] turns it into the answer, once the request id is known.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    kind: ProblemKind,
    detail: String,
    faults: Vec<FaultResponse>,
    references: Vec<String>,
    retry_after: Option<Duration>,
}

/// What went wrong, as far as a program must tell cases apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// The body is no JSON.
    MalformedJson,
    /// More is asked for at once than can be answered.
    TooMuch,
    /// Nobody signed in, or with something that is not accepted.
    Unauthenticated,
    /// Signed in, but this is for others.
    Forbidden,
    /// The route or record is not there.
    NotFound,
    /// The route is there, with other methods.
    MethodNotAllowed,
    /// The change does not go with what is stored.
    Conflict,
    /// The record changed since the caller read it.
    Stale,
    /// The body is larger than the route takes.
    TooLarge,
    /// The body is not said to be JSON.
    UnsupportedMediaType,
    /// Fields or parameters have faults.
    Invalid,
    /// Limited.
    TooMany,
    /// A fault of ez-api.
    Internal,
    /// The database or the shared state cannot be reached.
    Unavailable,
    /// Still starting, or a part has failed.
    NotReady,
    /// An error status that none of the others stands for.
    Other(StatusCode),
}

/// The body of every error answer, as `application/problem+json` (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemResponse<'a> {
    /// Names the kind of problem: `urn:ez-api:problem:` and the code.
    #[schema(example = "urn:ez-api:problem:invalid")]
    r#type: String,
    /// The kind of problem in words.
    title: &'a str,
    /// The HTTP status again.
    status: u16,
    /// What happened here, and what to do about it.
    detail: &'a str,
    /// The kind of problem, for programs.
    code: &'a str,
    /// The `X-Request-ID` of this call.
    request_id: &'a str,
    /// Every fault of the request, where fields or parameters have any.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    errors: &'a [FaultResponse],
    /// What still refers to the record, where that is the conflict.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(required = false)]
    references: &'a [String],
}

/// One fault of a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Fault)]
pub(crate) struct FaultResponse {
    /// JSON pointer (RFC 6901) to the field; for a query parameter or a header `/` and its name.
    #[schema(example = "/name")]
    pub(crate) pointer: String,
    /// What is wrong with it, and what is allowed.
    pub(crate) message: String,
}

impl ProblemKind {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::MalformedJson | Self::TooMuch => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::Other(status) => status,
        }
    }

    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::MalformedJson => "malformed_json",
            Self::TooMuch => "too_much",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::Stale => "stale",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Invalid => "invalid",
            Self::TooMany => "too_many_requests",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::NotReady => "not_ready",
            Self::Other(_) => "other",
        }
    }

    /// In words. Also the description of the answer in the OpenAPI document.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::MalformedJson => "The body is not well-formed JSON",
            Self::TooMuch => "Too much at once",
            Self::Unauthenticated => "Not signed in",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "In conflict with what is stored",
            Self::Stale => "Changed since it was read",
            Self::TooLarge => "The body is too large",
            Self::UnsupportedMediaType => "The body is not JSON",
            Self::Invalid => "The request has faults",
            Self::TooMany => "Too many requests",
            Self::Internal => "Internal error",
            Self::Unavailable => "Temporarily unavailable",
            Self::NotReady => "Not ready",
            Self::Other(_) => "Request failed",
        }
    }
}

impl ApiError {
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), faults: Vec::new(), references: Vec::new(), retry_after: None }
    }

    /// Fields of the body, or query parameters, have faults.
    pub(crate) fn invalid(faults: Vec<FaultResponse>) -> Self {
        let detail = match faults.as_slice() {
            [only] => only.message.clone(),
            all => format!("the request has {} faults: see errors", all.len()),
        };
        Self { faults, ..Self::new(ProblemKind::Invalid, detail) }
    }

    /// One field of the body, or one query parameter, has a fault.
    pub(crate) fn invalid_at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FaultResponse { pointer: pointer.into(), message: message.into() }])
    }

    /// When to try again.
    pub(crate) fn with_retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    pub(crate) fn with_faults(self, faults: Vec<FaultResponse>) -> Self {
        Self { faults, ..self }
    }

    /// A fault of ez-api: the log knows more under the request id, the client must not.
    pub(crate) fn internal() -> Self {
        Self::new(ProblemKind::Internal, "ez-api failed here: its log tells why under this request id")
    }

    /// Of an answer that some other layer made, such as the router's own 404.
    fn from_foreign(response: &Response) -> Self {
        match response.status() {
            StatusCode::NOT_FOUND => {
                Self::new(ProblemKind::NotFound, "there is no such route: see /openapi.json for those that exist")
            }
            StatusCode::METHOD_NOT_ALLOWED => Self::new(
                ProblemKind::MethodNotAllowed,
                "this route does not take that method: the header `Allow` lists those that it takes",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(ProblemKind::TooLarge, "send a smaller body"),
            status => Self::new(
                ProblemKind::Other(status),
                status.canonical_reason().unwrap_or("the request failed").to_lowercase(),
            ),
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let detail = error.to_string();
        match error {
            ControlError::NotFound { .. } => Self::new(ProblemKind::NotFound, detail),
            ControlError::Invalid(faults) => {
                let faults =
                    faults.into_iter().map(|FieldFault { pointer, message }| FaultResponse { pointer, message });
                Self::invalid(faults.collect())
            }
            ControlError::TooMuch { .. } => Self::new(ProblemKind::TooMuch, detail),
            ControlError::Conflict { references, .. } => {
                Self { references, ..Self::new(ProblemKind::Conflict, detail) }
            }
            ControlError::Stale { .. } => Self::new(ProblemKind::Stale, detail),
            ControlError::Forbidden { .. } => Self::new(ProblemKind::Forbidden, detail),
            ControlError::Unauthenticated { .. } => Self::new(ProblemKind::Unauthenticated, detail),
            ControlError::TooMany { retry_after } => {
                Self { retry_after: Some(retry_after), ..Self::new(ProblemKind::TooMany, detail) }
            }
            ControlError::Overloaded { retry_after } | ControlError::Busy { retry_after, .. } => {
                Self { retry_after: Some(retry_after), ..Self::new(ProblemKind::Unavailable, detail) }
            }
            ControlError::Unavailable(source) => {
                tracing::warn!(error = %chain(source.as_ref()), "a request met an outage");
                Self::new(ProblemKind::Unavailable, detail)
            }
            ControlError::Internal(source) => {
                tracing::error!(error = %chain(source.as_ref()), "a request failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        if self.kind == ProblemKind::Unauthenticated {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"ez-api\""));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that comes back a second early is refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every error answer its body: that of the [`ApiError`] behind it, or one made from the bare status where a
/// layer that knows nothing of problems answered.
pub(crate) fn render(response: Response, request_id: &RequestId) -> Response {
    if !response.status().is_client_error() && !response.status().is_server_error() {
        return response;
    }
    let error = response.extensions().get::<ApiError>().cloned().unwrap_or_else(|| ApiError::from_foreign(&response));
    let status = response.status();
    let body = ProblemResponse {
        r#type: format!("urn:ez-api:problem:{}", error.kind.code()),
        title: error.kind.title(),
        status: status.as_u16(),
        detail: &error.detail,
        code: error.kind.code(),
        request_id: request_id.as_str(),
        errors: &error.faults,
        references: &error.references,
    };
    let bytes = serde_json::to_vec(&body).unwrap_or_default();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    Response::from_parts(parts, Body::from(bytes))
}

/// An error with all that caused it, on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_now_is_told_when_to_come_again() {
        for (retry_after, seconds) in [(Duration::from_millis(1), "1"), (Duration::from_millis(2_001), "3")] {
            let busy = ControlError::Busy { message: "not now".to_owned(), retry_after };
            for error in [ControlError::Overloaded { retry_after }, busy] {
                let refused = ApiError::from(error).into_response();
                assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(refused.headers()[RETRY_AFTER], seconds);
            }
        }
    }
}
