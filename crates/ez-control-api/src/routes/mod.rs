//! The routes, one file per resource: what goes in and out, the handlers, and their documentation.

pub(crate) mod access;
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
pub(crate) mod rotation;
pub(crate) mod sync;
pub(crate) mod tokens;

use serde::Deserialize;

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
