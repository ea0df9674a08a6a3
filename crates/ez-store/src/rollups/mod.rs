//! Roll-ups: what log records add up to, by hour, day and month, and apart by a few sets of dimensions.
//!
//! Each record is added exactly once: the batch that it arrived in stands in `log_batches` until then, and goes in the
//! transaction that adds its records. What is read meanwhile adds the records of batches that stand ([`crate::statistics`]).

mod cells;
mod facet;
mod fold;
mod measures;
mod retention;
mod write;

pub use fold::{Folded, fold};
pub use retention::{Aged, LOGS_DROPPED_BEFORE, delete_before};

pub(crate) use facet::{DAY, Dims, Facet, Grain, HOUR, floor_to};
pub(crate) use measures::{MODEL, NAMES, Sums, of_record};
pub(crate) use retention::{Kept, dropped_before, kept};

const TABLE: &str = "rollups";
const LATENCIES: &str = "rollup_latencies";
