//! Shares health between gateways over the shared state: tells what this one learned, follows what others learned.

use std::sync::Arc;
use std::time::Duration;

use ez_state::{HealthChange, HealthCursor, SharedState, StateError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::book::HealthBook;
use super::outbox::{Change, Place};
use crate::routing::SnapshotCell;

/// How often to look without having been woken: bounds what a lost announcement costs.
const TICK: Duration = Duration::from_millis(500);

/// What sharing works with.
pub(crate) struct Sharer {
    pub(crate) book: Arc<HealthBook>,
    pub(crate) state: SharedState,
    pub(crate) snapshot: Arc<SnapshotCell>,
}

/// Shares until `stop`. While the shared state is away, each gateway goes by what it learns itself.
pub(crate) async fn share(sharer: Sharer, stop: CancellationToken) {
    let mut announced = sharer.state.watch_health();
    let mut cursor = HealthCursor::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_failing = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sharer.book.outbox.filled() => {}
            () = announced.changed() => {}
            _ = tick.tick() => sharer.book.tidy(&sharer.snapshot.load()),
        }
        let shared = tokio::select! {
            () = stop.cancelled() => return,
            shared = exchange(&sharer, &mut cursor) => shared,
        };
        if let Err(e) = &shared
            && !was_failing
        {
            tracing::warn!(error = %e, "upstream health is not shared with other gateways");
        }
        was_failing = shared.is_err();
    }
}

async fn exchange(sharer: &Sharer, cursor: &mut HealthCursor) -> Result<(), StateError> {
    tell(sharer).await?;
    let (changes, next) = sharer.state.read_health_changes(cursor).await?;
    for change in &changes {
        match change {
            HealthChange::Put { state, left } => sharer.book.merge(state, *left),
            HealthChange::Remove { api_key_id, kind, model } => {
                sharer.book.merge_removed(*api_key_id, *kind, model.as_deref());
            }
        }
    }
    *cursor = next;
    Ok(())
}

/// Tells what this gateway learned; what cannot be told is kept for the next time.
async fn tell(sharer: &Sharer) -> Result<(), StateError> {
    let mut changes = sharer.book.outbox.drain(Instant::now()).into_iter();
    while let Some((place, change)) = changes.next() {
        if let Err(e) = tell_one(&sharer.state, &place, &change).await {
            sharer.book.outbox.take_back(std::iter::once((place, change)).chain(changes).collect());
            return Err(e);
        }
    }
    Ok(())
}

async fn tell_one(state: &SharedState, place: &Place, change: &Change) -> Result<(), StateError> {
    match change {
        Change::Put(health, until) => {
            let left = until.saturating_duration_since(Instant::now());
            state.put_health(health, left).await
        }
        Change::Remove => state.remove_health(place.api_key_id, place.kind, place.model.as_deref()).await,
    }
}
