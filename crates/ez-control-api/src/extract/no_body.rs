//! Requests without a body.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};

use super::json::read;
use crate::problem::ApiError;

/// The empty body (or `{}` or `null`, which some clients cannot help sending) of a POST or DELETE that takes none. What a caller
/// asks for in the wrong place is refused with 422, never silently ignored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let body: Bytes = read(request, state).await?;
        match body.trim_ascii() {
            b"" | b"{}" | b"null" => Ok(Self),
            _ => Err(ApiError::invalid_at("", "this route takes no body: what it takes are query parameters, if any")),
        }
    }
}
