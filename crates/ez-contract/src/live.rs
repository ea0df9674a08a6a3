//! Live figures: what gateways tell of the last minute, master by master (`stats:live`).

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// What `requests`, `tokens` and `limited_requests` look back on, seconds.
pub const LIVE_WINDOW_SECONDS: u64 = 60;
/// What `recent_requests` looks back on, seconds: calls per second are its average.
pub const LIVE_RATE_SECONDS: u64 = 10;
/// Masters that a report names at most.
pub const MAX_LIVE_MASTERS: usize = 10_000;

/// `stats:live`: what one run of a gateway tells of its last minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveReport {
    /// `EZ_NODE_ID`.
    pub node_id: String,
    /// By the master's id; those of which there is nothing to tell are left out.
    pub masters: BTreeMap<i64, LiveFigures>,
    /// Of all masters beyond the [`MAX_LIVE_MASTERS`] with the most requests.
    #[serde(default, skip_serializing_if = "LiveFigures::is_zero")]
    pub others: LiveFigures,
}

/// Figures that add up over gateways and masters. Those that are 0 are not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFigures {
    /// Calls that arrived within [`LIVE_WINDOW_SECONDS`], refused ones included.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests: u64,
    /// Of these, those of the last [`LIVE_RATE_SECONDS`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recent_requests: u64,
    /// Input and output tokens of calls that ended within [`LIVE_WINDOW_SECONDS`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tokens: u64,
    /// Calls that a limit refused within [`LIVE_WINDOW_SECONDS`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub limited_requests: u64,
    /// Calls that have arrived and not ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_flight: u64,
    /// Of these, those that asked for a stream.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub in_flight_streams: u64,
}

impl LiveFigures {
    /// Whether there is nothing to tell.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for LiveFigures {
    fn add_assign(&mut self, other: Self) {
        let Self { requests, recent_requests, tokens, limited_requests, in_flight, in_flight_streams } = other;
        for (sum, figure) in [
            (&mut self.requests, requests),
            (&mut self.recent_requests, recent_requests),
            (&mut self.tokens, tokens),
            (&mut self.limited_requests, limited_requests),
            (&mut self.in_flight, in_flight),
            (&mut self.in_flight_streams, in_flight_streams),
        ] {
            *sum = sum.saturating_add(figure);
        }
    }
}

fn is_zero(figure: &u64) -> bool {
    *figure == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_add_up_and_never_overflow() {
        let report: LiveReport = serde_json::from_str(include_str!("../goldens/live_report.json")).unwrap();
        let mut sum = LiveFigures::default();
        assert!(sum.is_zero());
        for figures in report.masters.values().chain([&report.others]) {
            sum += *figures;
        }
        assert_eq!((sum.requests, sum.recent_requests, sum.tokens), (137, 21, 8_100));
        assert_eq!((sum.limited_requests, sum.in_flight, sum.in_flight_streams), (3, 5, 2));
        sum += LiveFigures { tokens: u64::MAX, ..LiveFigures::default() };
        assert_eq!(sum.tokens, u64::MAX);
    }
}
