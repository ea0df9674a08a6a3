//! Measured times and their exact percentiles.

use std::time::Duration;

use serde::Serialize;

/// Samples kept by one connection. The rest is counted by its owner but not kept.
const SAMPLES_MAX: usize = 2_000_000;

/// A distribution of times, in microseconds with fractions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// Samples it is made of.
    pub samples: usize,
    /// Smallest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

/// Times in nanoseconds.
#[derive(Default)]
pub(super) struct Samples {
    nanos: Vec<u64>,
}

impl Samples {
    pub(super) fn push(&mut self, time: Duration) {
        if self.nanos.len() < SAMPLES_MAX {
            self.nanos.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn merge(&mut self, mut other: Self) {
        self.nanos.append(&mut other.nanos);
    }

    /// `None` without samples.
    pub(super) fn distribution(mut self) -> Option<Distribution> {
        self.nanos.sort_unstable();
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let (min, max) = (*self.nanos.first()?, *self.nanos.last()?);
        let count = self.nanos.len();
        // Nearest rank: the smallest sample that at least this share of the samples doesn't exceed.
        let percentile = |share: f64| {
            let rank = (share * count as f64).ceil() as usize;
            micros(self.nanos[rank.clamp(1, count) - 1])
        };
        let sum: f64 = self.nanos.iter().map(|nanos| *nanos as f64).sum();
        Some(Distribution {
            samples: count,
            min: micros(min),
            mean: sum / count as f64 / 1e3,
            p50: percentile(0.5),
            p90: percentile(0.9),
            p99: percentile(0.99),
            p999: percentile(0.999),
            max: micros(max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_of_the_nearest_rank() {
        let mut samples = Samples::default();
        for micros in (1..=1_000).rev() {
            samples.push(Duration::from_micros(micros));
        }
        let found = samples.distribution().expect("there are samples");
        assert_eq!((found.min, found.max, found.mean), (1.0, 1_000.0, 500.5));
        assert_eq!((found.p50, found.p90, found.p99, found.p999), (500.0, 900.0, 990.0, 999.0));
    }

    #[test]
    fn no_samples_have_no_distribution() {
        assert_eq!(Samples::default().distribution(), None);
    }
}
