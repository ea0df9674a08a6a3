//! Latencies as a histogram: bins that are narrow enough for percentiles, and few enough to keep for ever.
//!
//! Below 64 ms each millisecond has a bin; above, each doubling is cut into 32. The middle of a bin is off by at most one
//! part in 64 of any latency in it.

/// The highest bin: 2^46 ms and more.
const LAST: i64 = 1343;

/// Latencies below this have a bin each.
const EXACT: u64 = 64;

/// Bins of one doubling.
const BINS: u64 = EXACT / 2;

/// The bin that a latency counts in.
pub(crate) fn bin_of(latency_ms: u64) -> i64 {
    if latency_ms < EXACT {
        return latency_ms as i64;
    }
    // How often the latency is halved to be one of 32 to 63.
    let halvings = u64::from(latency_ms.ilog2()) - u64::from(BINS.ilog2());
    std::cmp::min((BINS * halvings + (latency_ms >> halvings)) as i64, LAST)
}

/// The latency in the middle of a bin, milliseconds.
pub(crate) fn middle_of(bin: i64) -> f64 {
    let bin = u64::try_from(bin).unwrap_or_default();
    if bin < EXACT {
        return bin as f64;
    }
    let halvings = bin / BINS - 1;
    let width = (1_u64 << halvings) as f64;
    (bin - BINS * halvings) as f64 * width + (width - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_follow_each_other_and_miss_by_a_64th_at_most() {
        let mut last = 0;
        for latency in (0..70_000).chain((70_000..5_000_000).step_by(997)) {
            let bin = bin_of(latency);
            assert!(bin >= last && (latency > 70_000 || bin <= last + 1), "{latency} ms are in bin {bin} after {last}");
            last = bin;
            let off = (middle_of(bin) - latency as f64).abs();
            assert!(off <= latency as f64 / 64.0, "{latency} ms are told as {}", middle_of(bin));
        }
        assert_eq!((bin_of(63), bin_of(64), bin_of(127), bin_of(128)), (63, 64, 95, 96));
    }

    #[test]
    fn senseless_latencies_are_in_the_last_bin() {
        assert_eq!(bin_of((1 << 46) - 1), LAST);
        assert_eq!(bin_of(u64::MAX), LAST);
    }
}
