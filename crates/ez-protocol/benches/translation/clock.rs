//! Measures two things in turn, so that what else the machine does is the same for both.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long each is done in each round.
const SLICE: Duration = Duration::from_millis(20);
/// Rounds, of which the median is told.
const ROUNDS: usize = 9;

/// What one step of the first costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Nanoseconds.
    pub(crate) ns: f64,
    /// How many times as much as a step of the other, in the same round.
    pub(crate) ratio: f64,
}

/// The cost of a step of `one` beside `other`, where each does so many `steps` at once.
pub(crate) fn cost(steps: usize, mut one: impl FnMut() -> usize, mut other: impl FnMut() -> usize) -> Cost {
    let mut rounds = Vec::with_capacity(ROUNDS);
    // The first one warms caches and is not counted.
    for _ in 0..=ROUNDS {
        rounds.push((slice(&mut one), slice(&mut other)));
    }
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = rounds[1..].iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Cost { ns: median(|(one, _)| *one) / steps as f64, ratio: median(|(one, other)| one / other) }
}

/// Nanoseconds of one run.
fn slice(run: &mut impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    let mut runs = 0_u32;
    while start.elapsed() < SLICE {
        black_box(run());
        runs += 1;
    }
    start.elapsed().as_nanos() as f64 / f64::from(runs)
}
