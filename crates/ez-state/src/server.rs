//! What the server behind a state tells of itself.

use chrono::{DateTime, Utc};

/// The server's version and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// As it writes it.
    pub version: String,
    /// The time that it has.
    pub now: DateTime<Utc>,
}
