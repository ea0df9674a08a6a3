//! Limits: calls and tokens per window, calls in flight, quota and budget, of a key and of its master.
//!
//! A call reserves what it will probably need of every limit at once, or of none, and settles to the truth when it ends.
//! Windows are of the calendar (UTC): a second, a minute, a day, a month; a call counts in the window that it arrived in.
//! One gateway alone counts exactly. Where gateways share limits, each leases slices ([`leasing`]) in the background, and
//! only a call that finds its slice used up waits, for a moment, for the next.

mod demand;
mod leasing;
mod limit;
mod limiter;
mod refused;
mod reservation;
mod rules;
mod subject;

#[cfg(test)]
mod tests;

pub(crate) use demand::Demand;
pub(crate) use leasing::{Ledger, start};
pub(crate) use limit::{Limit, Scope};
pub(crate) use limiter::Limiter;
pub(crate) use refused::Limited;
pub(crate) use reservation::{Charge, RateHeaders, Reservation};
