//! The clock as a seam: rules ask for the time, whoever wires them decides which time it is.

use chrono::{DateTime, Utc};

/// Tells the time. The binary brings the system's clock, tests bring one that they move by hand.
pub trait Clock: Send + Sync + 'static {
    /// The time now, UTC.
    fn now(&self) -> DateTime<Utc>;
}
