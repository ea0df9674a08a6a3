//! Health of upstream credentials: what a gateway reports of them, and what gateways share of it (`health:*`).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::status::words;

words! {
    /// A temporary state of an upstream credential.
    HealthKind {
        /// Not to be used until a time, as its vendor asked for a pause.
        Cooldown = "cooldown",
        /// A circuit breaker that repeated failures opened.
        Breaker = "breaker",
    }
}

words! {
    /// State of a circuit breaker.
    BreakerState {
        /// Calls go through; nothing is kept of it.
        Closed = "closed",
        /// No calls.
        Open = "open",
        /// A few calls, to see whether it works again.
        HalfOpen = "half_open",
    }
}

/// `health:*`: a state of an API key that passes by itself. One per API key, kind and model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthState {
    /// The API key's id.
    pub api_key_id: i64,
    /// What it is.
    pub kind: HealthKind,
    /// The upstream model that it is about; absent means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Of a breaker: open or half open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<BreakerState>,
    /// Why, without secrets.
    pub reason: String,
    /// When it passes.
    pub until: DateTime<Utc>,
    /// When it was reported.
    pub reported_at: DateTime<Utc>,
}

impl HealthState {
    /// What tells it from the other states of its API key: `cooldown:`, `breaker:gpt-4o`.
    pub fn field(&self) -> String {
        health_field(self.kind, self.model.as_deref())
    }
}

/// See [`HealthState::field`].
pub fn health_field(kind: HealthKind, model: Option<&str>) -> String {
    format!("{kind}:{}", model.unwrap_or_default())
}

/// What a gateway learned of an API key (`POST /internal/api-keys/report`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialReport {
    /// The API key's id.
    pub api_key_id: i64,
    /// What was learned.
    #[serde(flatten)]
    pub finding: Finding,
    /// Why, in the gateway's words and without secrets.
    #[serde(default)]
    pub reason: String,
    /// What shows it.
    #[serde(default, skip_serializing_if = "Evidence::is_empty")]
    pub evidence: Evidence,
    /// When it was learned; absent means now. A ban that is older than the API key's last change is about what it was
    /// before, and is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<DateTime<Utc>>,
}

/// What can be learned of an API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// The vendor refuses it: it is to be switched off, until a time or until an operator activates it.
    Ban {
        /// When it may be used again; absent means never by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
    },
    /// The vendor asked for a pause.
    Cooldown {
        /// The upstream model that it is about; absent means all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// When the pause ends.
        until: DateTime<Utc>,
    },
    /// A circuit breaker changed.
    Breaker {
        /// The upstream model that it is about; absent means all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// What it is now.
        state: BreakerState,
        /// When this ends by itself; absent means in five minutes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
    },
}

/// What a report rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Request ids of the calls that showed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request_ids: Vec<String>,
    /// HTTP status that the vendor answered with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl Evidence {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.request_ids.is_empty() && self.status.is_none()
    }
}
