//! Changes of health states: how readers follow them.

use std::time::Duration;

use ez_contract::health::{HealthKind, HealthState};

/// Changes that are kept for readers; who falls further behind misses the oldest, whose states pass by themselves.
pub(crate) const MAX_HEALTH_CHANGES: usize = 1_000;

/// A change of a health state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthChange {
    /// It stands.
    Put {
        /// The state.
        state: HealthState,
        /// How long it still stands, by the clock that keeps it: readers need not agree on the time.
        left: Duration,
    },
    /// It was taken back before its time.
    Remove {
        /// The API key's id.
        api_key_id: i64,
        /// What it was.
        kind: HealthKind,
        /// The upstream model that it was about; `None` means all of them.
        model: Option<String>,
    },
}

/// How far a reader has followed. The default is from before everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthCursor(pub(crate) String);
