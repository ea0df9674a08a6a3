//! The routes, one file per resource: what goes in and out, the handlers, and their documentation.

pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod bindings;
pub(crate) mod internal;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod masters;
pub(crate) mod namespaces;
pub(crate) mod provider_groups;
pub(crate) mod public;
pub(crate) mod sync;
pub(crate) mod tokens;

use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use crate::extract::Json;

/// The answer to a POST that created a record: 201, where the record is from now on, and the record.
pub(crate) struct Created<T> {
    /// Path of the collection, without a slash at its end.
    collection: &'static str,
    id: i64,
    record: T,
}

/// What a deletion does about records that refer to the one that goes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteQuery {
    /// Whether what refers to the record goes with it. Else such a record is kept, and the answer is 409 with the list.
    #[serde(default)]
    #[param(default = false, required = false)]
    cascade: bool,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.record)).into_response();
        if let Ok(location) = HeaderValue::try_from(format!("{}/{}", self.collection, self.id)) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}
