//! Failed sign-ins by address: ten a minute over all processes, then the address is not listened to for a minute.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_state::SharedState;

use crate::error::chain;
use crate::{Control, ControlError, Origin};

/// Failures that an address may have within a window.
const MAX_FAILURES: u64 = 10;

/// Length of the window, and of the block that follows.
const WINDOW: Duration = Duration::from_secs(60);

/// Times that the hashes of older systems may be tried within a window, from one address and from all.
const MAX_TRIES: u64 = 3;
const MAX_TRIES_OF_ALL: u64 = 10;

/// Blocked addresses that are remembered; when there are more, some are let try again early.
const MAX_BLOCKED: usize = 10_000;

/// Addresses that this process does not listen to. Counting is shared; that an address is over the limit each process
/// learns from its first failure there.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// By door and address.
    blocked_until: Mutex<HashMap<String, DateTime<Utc>>>,
    /// Counts for this process alone while the shared state does not answer.
    own_count: SharedState,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self { blocked_until: Mutex::default(), own_count: SharedState::in_process() }
    }

    /// Errors: `TooMany` while the address is blocked at this door.
    pub(crate) fn refuse_blocked(&self, door: &str, origin: &Origin, now: DateTime<Utc>) -> Result<(), ControlError> {
        let until = self.blocked().get(&place(door, origin)).copied();
        match until.and_then(|until| (until - now).to_std().ok()) {
            // More than a window can only be left where the clock was set back.
            Some(rest) if !rest.is_zero() && rest <= WINDOW => Err(ControlError::TooMany { retry_after: rest }),
            _ => Ok(()),
        }
    }

    /// Counts a failure at a door (each has its own count); the error to answer with where it is one too many.
    pub(crate) async fn count(&self, control: &Control, door: &str, origin: &Origin) -> Option<ControlError> {
        let place = place(door, origin);
        if self.count_at(control, &place).await <= MAX_FAILURES {
            return None;
        }
        self.block(place, control.now());
        Some(ControlError::TooMany { retry_after: WINDOW })
    }

    /// Counts an attempt to find a key by its slow hash, and says whether it may be made.
    pub(crate) async fn may_try_hashes(&self, control: &Control, origin: &Origin) -> bool {
        // Who is over the own limit does not use up that of all.
        self.count_at(control, &place("hashes", origin)).await <= MAX_TRIES
            && self.count_at(control, "hashes").await <= MAX_TRIES_OF_ALL
    }

    async fn count_at(&self, control: &Control, place: &str) -> u64 {
        match control.state().increment(place, WINDOW).await {
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "failed sign-ins are counted by this process alone");
                self.own_count.increment(place, WINDOW).await.unwrap_or(0)
            }
        }
    }

    fn block(&self, place: String, now: DateTime<Utc>) {
        let mut blocked = self.blocked();
        if blocked.len() >= MAX_BLOCKED {
            blocked.retain(|_, until| *until > now);
        }
        if blocked.len() >= MAX_BLOCKED {
            blocked.clear();
        }
        blocked.insert(place, now + WINDOW);
    }

    fn blocked(&self) -> MutexGuard<'_, HashMap<String, DateTime<Utc>>> {
        self.blocked_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What failures are counted by, and shut out.
fn place(door: &str, origin: &Origin) -> String {
    format!("{door}:{}", address(origin))
}

/// What counts as one address: of IPv6 the network, as a client has all of its 2^64 addresses.
fn address(origin: &Origin) -> String {
    match origin.client_ip.map(|address| address.to_canonical()) {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let of = |text: &str| address(&Origin { client_ip: Some(text.parse().unwrap()), ..Origin::default() });
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
