//! The publisher: brings what was committed into the shared state. A wake-up, a tick, an outage that ended and the
//! first start all take the same way: see what the outbox names, read how it stands now, publish that.

mod batch;
mod reconcile;
mod turn;

use std::time::Duration;

use ez_contract::snapshot::SnapshotChange;
use ez_state::fail_point::{FailPoint, reach};
use ez_state::{Base, Publication, Scope, StateError};
use ez_store::outbox::{self, OutboxEntry};

use crate::error::chain;
use crate::scheduler::{Ran, backoff};
use crate::snapshot::{Image, read_image};
use crate::{Control, ControlError};

pub use reconcile::{Drift, ReconcileReport, Repair, compare, reconcile};
pub(crate) use reconcile::{KeptReport, last_report};

use batch::Batch;
use turn::Turn;

/// What is left in the outbox at shutdown is tried once more, for this long; the next start has the rest.
const LAST_ROUND: Duration = Duration::from_secs(3);

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing is due any more; so many entries were published.
    Done(usize),
    /// Another process is publishing.
    Busy,
}

/// A run of the job `sync-outbox`: publishes what is due, and skips while another process publishes. Errors as
/// [`publish_due`].
pub(crate) async fn run_once(control: &Control) -> Result<Ran, ControlError> {
    Ok(match publish_round(control).await? {
        Round::Done(published) => Ran::Items(u64::try_from(published).unwrap_or(u64::MAX)),
        Round::Busy => Ran::Skipped,
    })
}

/// A run of the job `full-reconcile`; its items are repairs. Errors as [`reconcile`].
pub(crate) async fn reconcile_once(control: &Control) -> Result<Ran, ControlError> {
    let report = reconcile(control).await?;
    Ok(Ran::Items(u64::try_from(report.repairs).unwrap_or(u64::MAX)))
}

/// Publishes what is due before the process ends, within moments; the next start has the rest.
pub(crate) async fn last_round(control: &Control) {
    match tokio::time::timeout(LAST_ROUND, publish_round(control)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %chain(&error), "publishing failed at shutdown; the next start publishes the rest");
        }
        Err(_) => tracing::warn!("publishing did not finish before shutdown; the next start publishes the rest"),
    }
}

/// Publishes what is due, and returns how many outbox entries that were; 0 as well while another process publishes.
///
/// Errors: `Unavailable` while the database or the shared state does not answer. The entries stay and are due again
/// after a backoff.
pub async fn publish_due(control: &Control) -> Result<usize, ControlError> {
    match publish_round(control).await? {
        Round::Done(published) => Ok(published),
        Round::Busy => Ok(0),
    }
}

async fn publish_round(control: &Control) -> Result<Round, ControlError> {
    let _one_at_a_time = control.publishing().turn.lock().await;
    let outcome = round_in_turn(control).await;
    if let Err(error) = &outcome {
        put_off(control, error).await;
    }
    outcome
}

async fn round_in_turn(control: &Control) -> Result<Round, ControlError> {
    let is_idle = outbox::list_due(control.store(), control.now(), 1).await?.is_empty();
    if is_idle && standing(control).await?.is_whole {
        return Ok(Round::Done(0));
    }
    reach(FailPoint::TurnWanted);
    let Some(turn) = Turn::take(control).await? else { return Ok(Round::Busy) };
    let outcome = publish_all_due(&turn).await;
    turn.end().await;
    outcome.map(Round::Done)
}

/// Publishes batch after batch until nothing is due.
async fn publish_all_due(turn: &Turn<'_>) -> Result<usize, ControlError> {
    let control = turn.control();
    let mut published = 0;
    loop {
        let standing = standing(control).await?;
        let due = outbox::list_due(control.store(), control.now(), control.config().outbox_batch_size).await?;
        if due.is_empty() && standing.is_whole {
            return Ok(published);
        }
        published += match standing.is_whole {
            true => publish_batch(turn, standing.base, &due).await?,
            false => publish_everything(turn, standing.base, &due).await?,
        };
    }
}

async fn publish_batch(turn: &Turn<'_>, mut base: Option<Base>, due: &[OutboxEntry]) -> Result<usize, ControlError> {
    let mut batch = Batch::new(turn.control(), due);
    let mut published = 0;
    while let Some(part) = turn.keep(batch.next_part()).await? {
        for (entry, error) in &part.unreadable {
            let (kind, id) = (entry.kind.as_str(), entry.record_id);
            tracing::error!(error = %chain(error), kind, id, "a changed record cannot be published");
            put_off_entries(turn.control(), std::slice::from_ref(entry), &error.to_string()).await?;
        }
        reach(FailPoint::Read);
        let publication = Publication { changes: part.changes, scope: Scope::Changes, base };
        let version = turn.publish(publication, part.models).await?;
        base = base.map(|_| Base { version, newest: version });
        reach(FailPoint::Announced);
        published += forget(turn.control(), &part.done).await?;
    }
    Ok(published)
}

/// Publishes the whole snapshot; the entries that are due are part of it.
async fn publish_everything(turn: &Turn<'_>, base: Option<Base>, due: &[OutboxEntry]) -> Result<usize, ControlError> {
    let control = turn.control();
    let reading = turn.keep(read_image(control)).await?;
    turn.publish(everything(reading.image, base), Some(reading.models)).await?;
    forget(control, &due.iter().map(|entry| entry.id).collect::<Vec<_>>()).await
}

fn everything(image: Image, base: Option<Base>) -> Publication {
    let changes = image.into_values().map(SnapshotChange::Put).collect();
    Publication { changes, scope: Scope::Everything, base }
}

/// What the shared state has, before anything is read to be published onto it.
struct Standing {
    /// None where it does not say which version it has: anything is better than that.
    base: Option<Base>,
    /// Not so where it has no snapshot (it is new, or lost its data), an older one than was there before (it came back
    /// with old data), or one that a publisher left half-written.
    is_whole: bool,
}

async fn standing(control: &Control) -> Result<Standing, StateError> {
    match control.state().meta().await {
        Ok(meta) => {
            let newest = control.publishing().newest_with(meta.version);
            let is_whole = meta.version != 0 && meta.is_settled() && meta.version == newest;
            Ok(Standing { base: Some(Base { version: meta.version, newest }), is_whole })
        }
        Err(error @ StateError::Corrupt(_)) => {
            tracing::warn!(error = %chain(&error), "what is published cannot be told, and is published anew");
            Ok(Standing { base: None, is_whole: false })
        }
        Err(error) => Err(error),
    }
}

async fn forget(control: &Control, ids: &[i64]) -> Result<usize, ControlError> {
    if !ids.is_empty() {
        let tx = control.store().begin().await?;
        outbox::delete(&tx, ids).await?;
        tx.commit().await?;
    }
    Ok(ids.len())
}

/// Puts off what is due after a failed round. That this may fail as well (the database is down) is no matter: the
/// entries are then due at once when it is back.
async fn put_off(control: &Control, error: &ControlError) {
    let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let due = outbox::list_due(control.store(), control.now(), control.config().outbox_batch_size).await;
    if let Ok(due) = due
        && !due.is_empty()
        && let Err(error) = put_off_entries(control, &due, &reason).await
    {
        tracing::debug!(error = %chain(&error), "a failed publication could not be noted");
    }
}

async fn put_off_entries(control: &Control, entries: &[OutboxEntry], reason: &str) -> Result<(), ControlError> {
    let tx = control.store().begin().await?;
    for same_attempts in entries.chunk_by(|a, b| a.attempts == b.attempts) {
        let attempts = same_attempts.first().map_or(0, |entry| entry.attempts);
        let ids: Vec<i64> = same_attempts.iter().map(|entry| entry.id).collect();
        let next_attempt_at = control.now() + backoff(attempts.saturating_add(1));
        outbox::record_failure(&tx, &ids, reason, next_attempt_at).await?;
    }
    Ok(tx.commit().await?)
}
