//! Demand: what a call will probably need of its limits, from what can be seen of its request.

use chrono::{DateTime, Utc};

use crate::inspect::Inspected;
use crate::routing::Model;

/// Bytes of a request body that make a token, roughly, in any of the protocols.
const BYTES_PER_TOKEN: usize = 4;

/// Output that is counted on where a call does not bound it. The truth is settled when the call ends.
const DEFAULT_OUTPUT_TOKENS: u64 = 1_024;

/// What a call will probably need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Tokens, input and output.
    pub(crate) tokens: u64,
    /// Billionths of a US dollar; 0 where no price is known.
    pub(crate) nanos: u64,
    /// When the call arrived.
    pub(crate) now: DateTime<Utc>,
}

impl Demand {
    /// The demand of a call to this model.
    pub(crate) fn of(inspected: &Inspected, model: Option<&Model>, now: DateTime<Utc>) -> Self {
        let input = (inspected.body.len() / BYTES_PER_TOKEN) as u64 + 1;
        let most = model.map_or(0, |model| model.snapshot.max_output_tokens);
        let output = if most == 0 { DEFAULT_OUTPUT_TOKENS } else { DEFAULT_OUTPUT_TOKENS.min(most) };
        let nanos = model.and_then(|model| model.prices.as_ref());
        let nanos = nanos.map_or(0, |prices| prices.estimate_nanos(input, output));
        Self { tokens: input + output, nanos, now }
    }
}
