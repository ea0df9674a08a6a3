//! The system's clock.

use chrono::{DateTime, Utc};
use ez_contract::Clock;

/// Tells the system's time.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where the product reads the clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
