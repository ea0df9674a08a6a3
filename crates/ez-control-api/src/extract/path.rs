//! Path parameters.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::problem::{ApiError, ProblemKind};

/// Path parameters. One that does not parse names nothing, so it is a 404 like any other id that is not there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        if parts.uri.path().contains("%00") {
            // No id holds a NUL, and not every database takes one in a comparison.
            return Err(no_record());
        }
        let parsed = axum::extract::Path::from_request_parts(parts, state).await;
        parsed.map(|axum::extract::Path(value)| Self(value)).map_err(|_| no_record())
    }
}

fn no_record() -> ApiError {
    ApiError::new(ProblemKind::NotFound, "the path names no record: an id is a whole number")
}
