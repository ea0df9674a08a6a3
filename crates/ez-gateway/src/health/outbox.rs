//! States on their way to other gateways: the newest of each credential, kind and model, until they are shared.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ez_contract::health::{HealthKind, HealthState};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Changes kept while the shared state is away; beyond it new ones are not shared, which costs other gateways an
/// attempt of their own.
const MAX_CHANGES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    changes: Mutex<HashMap<Place, Change>>,
    wake: Notify,
}

/// What tells one state from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) api_key_id: i64,
    pub(super) kind: HealthKind,
    pub(super) model: Option<Box<str>>,
}

/// What others should know of a place.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// This stands, until then.
    Put(Box<HealthState>, Instant),
    /// Nothing stands there any more.
    Remove,
}

impl Outbox {
    pub(super) fn put(&self, state: HealthState, until: Instant) {
        let place =
            Place { api_key_id: state.api_key_id, kind: state.kind, model: state.model.as_deref().map(Box::from) };
        self.add(place, Change::Put(Box::new(state), until));
    }

    pub(super) fn remove(&self, place: Place) {
        self.add(place, Change::Remove);
    }

    /// Takes all changes that still say something.
    pub(super) fn drain(&self, now: Instant) -> Vec<(Place, Change)> {
        let changes = std::mem::take(&mut *self.changes());
        changes.into_iter().filter(|(_, change)| !matches!(change, Change::Put(_, until) if *until <= now)).collect()
    }

    /// Takes back what could not be shared, but for what is out of date by now.
    pub(super) fn take_back(&self, changes: Vec<(Place, Change)>) {
        let mut kept = self.changes();
        for (place, change) in changes {
            kept.entry(place).or_insert(change);
        }
    }

    /// Resolves once there may be something to take.
    pub(super) async fn filled(&self) {
        self.wake.notified().await;
    }

    fn add(&self, place: Place, change: Change) {
        let mut changes = self.changes();
        if changes.len() < MAX_CHANGES || changes.contains_key(&place) {
            changes.insert(place, change);
        }
        drop(changes);
        self.wake.notify_one();
    }

    fn changes(&self) -> MutexGuard<'_, HashMap<Place, Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn state(reason: &str) -> HealthState {
        let json = include_str!("../../../ez-contract/goldens/health_breaker.json");
        HealthState { reason: reason.to_owned(), ..serde_json::from_str(json).unwrap() }
    }

    fn reasons(changes: &[(Place, Change)]) -> Vec<&str> {
        let reason = |(_, change): &'_ (Place, Change)| match change {
            Change::Put(state, _) => state.reason.clone().leak() as &str,
            Change::Remove => "removed",
        };
        changes.iter().map(reason).collect()
    }

    #[test]
    fn the_newest_of_a_place_is_shared_and_nothing_that_has_passed() {
        let (outbox, now) = (Outbox::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        outbox.put(state("first"), later);
        outbox.put(state("second"), later);
        let drained = outbox.drain(now);
        assert_eq!(reasons(&drained), ["second"]);
        assert!(outbox.drain(now).is_empty());

        outbox.remove(drained[0].0.clone());
        outbox.take_back(drained.clone());
        assert_eq!(reasons(&outbox.drain(now)), ["removed"], "what came meanwhile is newer");
        outbox.take_back(drained);
        assert!(outbox.drain(later).is_empty(), "it has passed");
    }
}
