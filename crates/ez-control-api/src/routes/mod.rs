//! The routes, one file per resource: what goes in and out, the handlers, and their documentation.

pub(crate) mod access;
pub(crate) mod alert_reports;
pub(crate) mod alert_thresholds;
pub(crate) mod alerts;
pub(crate) mod api_key_batches;
pub(crate) mod api_key_stats;
pub(crate) mod api_keys;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod bindings;
pub(crate) mod catalogue;
pub(crate) mod credential_reports;
pub(crate) mod dashboard;
pub(crate) mod docs;
pub(crate) mod features;
pub(crate) mod flushes;
pub(crate) mod internal;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod log_bodies;
pub(crate) mod log_deletion;
pub(crate) mod logs;
pub(crate) mod masters;
pub(crate) mod models;
pub(crate) mod namespaces;
pub(crate) mod provider_groups;
pub(crate) mod providers;
pub(crate) mod public;
pub(crate) mod realtime;
pub(crate) mod resolve;
pub(crate) mod rotation;
pub(crate) mod statistics;
pub(crate) mod sync;
pub(crate) mod test_call;
pub(crate) mod tokens;
pub(crate) mod webhooks;

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

/// A part of calls, from 0 to 1; none where there were no calls.
pub(crate) fn rate(part: u64, total: u64) -> Option<f64> {
    (total > 0).then(|| part as f64 / total as f64)
}
