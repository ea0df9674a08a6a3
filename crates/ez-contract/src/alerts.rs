//! Alerts: what deserves one, as gateways report it and as the control plane's own rules find it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::status::words;

words! {
    /// What an alert is about.
    AlertType {
        /// A master ran into its limits.
        RateLimit = "rate_limit",
        /// Many calls of a child key fail.
        ErrorSpike = "error_spike",
        /// A child key has used its quota, or nearly.
        QuotaExceeded = "quota_exceeded",
        /// An API key was switched off.
        KeyDisabled = "key_disabled",
        /// A child key's time is over.
        KeyExpired = "key_expired",
        /// Many calls of an API key fail.
        ProviderDown = "provider_down",
        /// There is more traffic than there should be.
        TrafficSpike = "traffic_spike",
        /// ez-api itself has a fault.
        System = "system",
    }
}

words! {
    /// How bad it is. A later word is worse than an earlier one.
    AlertSeverity {
        /// To be known.
        Info = "info",
        /// To be looked at.
        Warning = "warning",
        /// To be looked at now.
        Critical = "critical",
    }
}

/// Something that deserves an alert (`POST /internal/alerts/report`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertFinding {
    /// What it is about.
    #[serde(rename = "type")]
    pub alert_type: AlertType,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// One line for people.
    pub title: String,
    /// More for people: what was seen, and what to do.
    #[serde(default)]
    pub message: String,
    /// Kind of what it is about, such as `key`, `master`, `api_key` or `gateway`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related_type: Option<String>,
    /// Its id, where it has a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related_id: Option<i64>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related_name: Option<String>,
    /// Figures for programs.
    #[serde(default)]
    pub metadata: Map<String, Value>,
    /// The identity of the cause: of one fingerprint there is one open alert at most.
    pub fingerprint: String,
}
