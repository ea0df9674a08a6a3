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
        let parsed = axum::extract::Path::from_request_parts(parts, state).await;
        parsed
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|_| ApiError::new(ProblemKind::NotFound, "the path names no record: an id is a whole number"))
    }
}
