//! What records add up to, as it is told.

use std::collections::BTreeMap;

use crate::logs::{CostParts, cost_text, latency_middle_of};
use crate::rollups::Sums;

/// What records add up to. Counts are of records unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// All of them.
    pub requests: u64,
    /// With a status of 400 or more, or an end other than the proper one.
    pub failures: u64,
    /// Refused by a limit.
    pub limited: u64,
    /// Of clients that asked for a stream.
    pub streams: u64,
    /// Input tokens, cached ones included. Unknown counts add nothing, here as below.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Input tokens read from vendors' prompt caches.
    pub cache_read_tokens: u64,
    /// Input tokens written to vendors' prompt caches.
    pub cache_write_tokens: u64,
    /// Output tokens that were reasoning.
    pub reasoning_tokens: u64,
    /// US dollars, an exact decimal without trailing zeros: what records of known cost add up to. None where there is none
    /// of these.
    pub cost: Option<String>,
    /// Of unknown cost.
    pub unpriced: u64,
    /// Arrival to the last byte, milliseconds, on average. None where there is no record.
    pub latency_avg_ms: Option<f64>,
    /// The same at the 50th, 95th and 99th percentile; none where no histogram is kept of what was asked, or
    /// none was wanted.
    pub latency: Option<Percentiles>,
    /// Arrival to the first byte of the answer's body, milliseconds, on average over the records that tell it.
    pub first_byte_avg_ms: Option<f64>,
}

/// Percentiles by nearest rank, milliseconds; off by at most one part in 64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentiles {
    /// The 50th.
    pub p50_ms: f64,
    /// The 95th.
    pub p95_ms: f64,
    /// The 99th.
    pub p99_ms: f64,
}

/// Records by bin of their latency.
pub(super) type Histogram = BTreeMap<i64, i64>;

impl Figures {
    pub(super) fn new(sums: &Sums, histogram: Option<&Histogram>) -> Self {
        let [
            requests,
            failures,
            limited,
            streams,
            input_tokens,
            output_tokens,
            cache_read_tokens,
            cache_write_tokens,
            reasoning_tokens,
            dollars,
            nanos,
            attos,
            rest,
            unpriced,
            latency_ms,
            first_bytes,
            first_byte_ms,
        ] = sums.0;
        let count = |sum: i64| u64::try_from(sum).unwrap_or_default();
        let average = |sum: i64, of: i64| (of > 0).then(|| sum as f64 / of as f64);
        Self {
            requests: count(requests),
            failures: count(failures),
            limited: count(limited),
            streams: count(streams),
            input_tokens: count(input_tokens),
            output_tokens: count(output_tokens),
            cache_read_tokens: count(cache_read_tokens),
            cache_write_tokens: count(cache_write_tokens),
            reasoning_tokens: count(reasoning_tokens),
            cost: (requests > unpriced).then(|| cost_text(dollars, CostParts { nanos, attos, rest })),
            unpriced: count(unpriced),
            latency_avg_ms: average(latency_ms, requests),
            latency: histogram.and_then(percentiles),
            first_byte_avg_ms: average(first_byte_ms, first_bytes),
        }
    }

    /// Those that did not fail.
    pub fn successes(&self) -> u64 {
        self.requests.saturating_sub(self.failures)
    }
}

fn percentiles(histogram: &Histogram) -> Option<Percentiles> {
    let total: i64 = histogram.values().sum();
    let at = |percent: i64| {
        // Of 100 records the 95th percentile is the 95th.
        let rank = (total.saturating_mul(percent) + 99) / 100;
        let mut seen = 0;
        let bin = histogram.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        bin.map(|(bin, _)| latency_middle_of(*bin))
    };
    (total > 0).then_some(())?;
    Some(Percentiles { p50_ms: at(50)?, p95_ms: at(95)?, p99_ms: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let told = |histogram: &[(i64, i64)]| {
            percentiles(&histogram.iter().copied().collect()).map(|told| (told.p50_ms, told.p95_ms, told.p99_ms))
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[(7, 1)]), Some((7.0, 7.0, 7.0)));
        assert_eq!(told(&[(1, 50), (2, 45), (3, 4), (4, 1)]), Some((1.0, 2.0, 3.0)));
        assert_eq!(told(&[(1, 49), (2, 51)]), Some((2.0, 2.0, 2.0)));
    }
}
