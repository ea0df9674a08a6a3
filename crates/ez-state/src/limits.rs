//! Leases on limits: gateways take what a counter still allows in slices, so that a call needs no round trip.
//!
//! A counter is one limit of one key or master in one window. Each gateway tells of it, in whole figures and not in
//! steps, what it holds and how much of that is used; what all hold together never passes the limit. So telling twice
//! changes nothing, and an answer that was lost strands nothing.

use std::time::Duration;

/// Part of what is free that one gateway gets at once: half of its equal share, so that slices shrink as a limit nears.
pub(crate) const SHARES_PER_GATEWAY: u64 = 2;

/// No slice is smaller than this part of the limit while so much is free: it bounds the round trips per call.
pub(crate) const SMALLEST_SLICE_DIVISOR: u64 = 200;

/// How long the use of a gateway that is gone is kept apart, in case it was only away, before it is added up.
pub(crate) const KEPT_APART: Duration = Duration::from_secs(24 * 3600);

/// Who leases.
#[derive(Debug, Clone)]
pub struct Lessee {
    /// Name of this run of a gateway: another run must have another, or it would pass for what the last one held.
    pub instance: String,
    /// Gateways that share the limits, this one included.
    pub gateways: u64,
}

/// What a gateway holds of a counter, and what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitAsk {
    /// The counter with its window, such as `k5:rpm:29399123`.
    pub counter: String,
    /// The generation that the last answer named; 0 before the first.
    pub generation: u64,
    /// Tells this count of the gateway's from one that it forgot: of that, what was told to be used stays counted, like that
    /// of a gateway which is gone.
    pub begun: u64,
    /// Used of what it holds.
    pub used: u64,
    /// What it holds, used and unused. Less than the last answer said gives the rest back.
    pub granted: u64,
    /// What it needs besides at least; 0 where it only tells.
    pub wanted: u64,
    /// The limit.
    pub limit: u64,
    /// What the control plane counted in this window; 0 for windows that it does not count.
    pub ledger: u64,
    /// Whether use stays counted when the gateway is gone. Not so for calls in flight, which are gone with it.
    pub outlives: bool,
    /// How long the gateway counts as alive without telling again; what it holds unused is free after that.
    pub alive_for: Duration,
    /// How long the counter is kept after the last word of it.
    pub kept_for: Duration,
}

/// What a gateway holds of a counter now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitGrant {
    /// Of the counter's data: another one than before says that they were lost in between. Where the ledger counts too,
    /// the use that was told before is in it by then and starts from 0 again.
    pub generation: u64,
    /// What it holds, used and unused.
    pub granted: u64,
    /// What all hold together, or the ledger where that says more.
    pub taken: u64,
}

/// What is added to a grant: what is wanted, rounded up to a slice, as far as there is so much.
pub(crate) fn slice(free: u64, wanted: u64, limit: u64, gateways: u64) -> u64 {
    if wanted == 0 {
        return 0;
    }
    let share = free / gateways.max(1).saturating_mul(SHARES_PER_GATEWAY);
    wanted.max(share).max(limit / SMALLEST_SLICE_DIVISOR).min(free)
}
