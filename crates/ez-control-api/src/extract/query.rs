//! Query parameters.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::fault_of;
use super::wishes::taken;
use crate::conventions::DRY_RUN;
use crate::problem::{ApiError, FaultResponse};

/// Query parameters. Unknown ones, doubled ones and those that do not parse are refused with 422.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parse(parts.uri.query().unwrap_or_default(), taken(parts).dry_run).map(Self)
    }
}

fn parse<T: DeserializeOwned>(text: &str, takes_dry_run: bool) -> Result<T, ApiError> {
    refuse_nul(text)?;
    // Whoever signs in is asked for a dry run there, once for all routes.
    let own = form_urlencoded::parse(text.as_bytes()).filter(|(name, _)| !(takes_dry_run && name == DRY_RUN));
    let own = form_urlencoded::Serializer::new(String::new()).extend_pairs(own).finish();
    let deserializer = serde_urlencoded::Deserializer::new(form_urlencoded::parse(own.as_bytes()));
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
