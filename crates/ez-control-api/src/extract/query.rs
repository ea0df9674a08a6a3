//! Query parameters.

use axum::extract::{FromRequestParts, MatchedPath};
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

/// Refuses parameters on a route that documents none: what a caller asks for, such as a dry run, is never silently
/// ignored.
pub(crate) fn refuse_unexpected(parts: &Parts) -> Result<(), ApiError> {
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

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let deserializer = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let message = error.inner().to_string();
        ApiError::invalid(vec![fault_of(error.path(), &message)])
    })
}
