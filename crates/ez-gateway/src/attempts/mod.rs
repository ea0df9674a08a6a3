//! Attempts at upstreams by API key: counted as they end, and handed to the control plane now and then.

mod counts;
mod flusher;

pub(crate) use counts::{AttemptCounts, CountedAttempt};
pub(crate) use flusher::flush_attempts;
