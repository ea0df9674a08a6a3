//! Query parameters.

use axum::extract::{FromRequestParts, MatchedPath};
use http::HeaderMap;
use http::request::Parts;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::fault_of;
use crate::openapi;
use crate::problem::{ApiError, FaultResponse};

/// Query parameters. Unknown ones, doubled ones and those that do not parse are refused with 422.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Headers that would change what a write means, and that no write takes yet.
const UNSUPPORTED_ON_WRITES: [&str; 2] = ["if-match", "idempotency-key"];

/// Refuses parameters on a route that documents none, and headers that no write takes: what a caller asks for, such as
/// a dry run, is never silently ignored.
pub(crate) fn refuse_unexpected(parts: &Parts) -> Result<(), ApiError> {
    if !parts.method.is_safe() {
        refuse_unsupported_headers(&parts.headers)?;
    }
    let query = parts.uri.query().unwrap_or_default();
    let takes_parameters =
        parts.extensions.get::<MatchedPath>().is_some_and(|route| openapi::takes_query(&parts.method, route.as_str()));
    if query.is_empty() || takes_parameters {
        return Ok(());
    }
    let faults = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| FaultResponse {
        pointer: format!("/{name}"),
        message: format!("unknown parameter `{name}`: this route takes none"),
    });
    Err(ApiError::invalid(faults.collect()))
}

fn refuse_unsupported_headers(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = UNSUPPORTED_ON_WRITES.iter().filter(|name| headers.contains_key(**name));
    let faults: Vec<FaultResponse> = given
        .map(|name| FaultResponse {
            pointer: format!("/{name}"),
            message: format!("the header `{name}` is not supported yet: send the request without it"),
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(faults)) }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    refuse_nul(text)?;
    let deserializer = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let message = error.inner().to_string();
        ApiError::invalid(vec![fault_of(error.path(), &message)])
    })
}

/// No value that can be looked for holds a NUL, and not every database takes one in a comparison.
fn refuse_nul(text: &str) -> Result<(), ApiError> {
    let with_nul = form_urlencoded::parse(text.as_bytes()).filter(|(_, value)| value.contains('\0'));
    let faults: Vec<FaultResponse> = with_nul
        .map(|(name, _)| FaultResponse { pointer: format!("/{name}"), message: "must not hold a NUL".to_owned() })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(faults)) }
}
