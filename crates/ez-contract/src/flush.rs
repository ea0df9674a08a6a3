//! Flushes: counts that a gateway gathers and hands in now and then.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// API keys of one flush at most.
pub const MAX_FLUSH_DELTAS: usize = 1_000;

/// What came of the attempts made with API keys since the flush before (`POST /internal/apikey-stats/flush`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyFlush {
    /// Made by the gateway (UUIDv7), and the same as long as it does not know whether the flush was taken: each counts
    /// once.
    pub batch_id: String,
    /// One for each API key, at most [`MAX_FLUSH_DELTAS`].
    pub deltas: Vec<ApiKeyDelta>,
}

/// What came of the attempts made with one API key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyDelta {
    /// The API key.
    pub api_key_id: i64,
    /// Attempts: `successes` and `failures` together.
    pub requests: u64,
    /// Those that nothing can be held against the credential or its upstream for.
    pub successes: u64,
    /// Those that failed.
    pub failures: u64,
    /// When the last of them was made.
    pub last_used_at: DateTime<Utc>,
}
