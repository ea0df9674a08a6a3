//! Ingestion: what gateways hand in at once is stored together, by one writer per process, in the order in which it came.
//!
//! Each transaction costs its own commit, whatever is in it, so the writer gathers. It begins with what waits when that is
//! a batch, or when an interval has passed since the first of it came or since it last began: a gateway that ships whole
//! batches, or seldom, waits for nothing. Whoever hands records in is answered when they are stored, with what became of
//! its own. What waits is bounded: beyond that nothing is taken, and gateways keep what they have.

mod queue;
mod storing;

use std::time::Duration;

use ez_contract::UsageRecord;
use ez_store::log_bodies::LogBody;
use ez_telemetry::metrics::LOG_RECORDS;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::error::chain;
use crate::{Control, ControlError};

use queue::Waiting;

pub(crate) use queue::Queue;
pub(crate) use storing::Outcome;

/// For what still waits when the process stops; less than what that waits for altogether.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// What someone hands in.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    /// Records that keep the rules.
    pub(crate) records: Vec<UsageRecord>,
    /// Request bodies of some of them.
    pub(crate) bodies: Vec<LogBody>,
}

/// Stores what is handed in, until told to stop; then what still waits, if the database takes it within moments. One per
/// process. Where it does not run, those who hand records in store them themselves.
pub async fn run(control: Control, stop: CancellationToken) {
    let too_late = async {
        stop.cancelled().await;
        sleep(LAST_WRITES).await;
    };
    tokio::select! {
        () = keep_storing(&control, &stop) => {}
        () = too_late => tracing::warn!("usage records that waited were not stored in time; their gateways keep them"),
    }
}

async fn keep_storing(control: &Control, stop: &CancellationToken) {
    let _open = control.ingestion().open();
    let mut last_began = None;
    while let Some(batch) = control.ingestion().next(control.config(), last_began, stop).await {
        last_began = Some(Instant::now());
        store_for_all(control, batch).await;
    }
}

/// Stores records that keep the rules, and tells what became of each. Whoever goes away meanwhile leaves its records to
/// be stored all the same. Errors: `Overloaded` where too many wait already; nothing may have been stored, so hand them in
/// again.
pub(crate) async fn store(control: &Control, handed: Handed) -> Result<Vec<Outcome>, ControlError> {
    if handed.records.is_empty() {
        return Ok(Vec::new());
    }
    match control.ingestion().push(handed, control.config().log_queue_capacity)? {
        Ok(answer) => answer.await.unwrap_or_else(|_| Err(ControlError::Unavailable("ingestion ended".into()))),
        Err(Handed { records, bodies }) => storing::store(control.store(), &records, &bodies).await,
    }
}

/// Counts records by what became of them.
pub(crate) fn count(outcome: &'static str, records: usize) {
    if records > 0 {
        metrics::counter!(LOG_RECORDS, "outcome" => outcome).increment(records as u64);
    }
}

/// Stores what several handed in, and answers each; one that went away meanwhile needs no answer. Where the database refuses
/// too much of it, each by itself, so that nobody's records keep those of the others from being stored.
async fn store_for_all(control: &Control, batch: Vec<Waiting>) {
    let mut records = Vec::with_capacity(batch.iter().map(|waiting| waiting.handed.records.len()).sum());
    let mut bodies = Vec::new();
    let mut callers = Vec::with_capacity(batch.len());
    for waiting in batch {
        let from = records.len();
        records.extend(waiting.handed.records);
        bodies.extend(waiting.handed.bodies);
        callers.push((from..records.len(), waiting.answer));
    }
    match storing::store(control.store(), &records, &bodies).await {
        Ok(outcomes) => {
            let mut outcomes = outcomes.into_iter();
            for (own, answer) in callers {
                let _ = answer.send(Ok(outcomes.by_ref().take(own.len()).collect()));
            }
        }
        Err(ControlError::Unavailable(error)) => {
            for (_, answer) in callers {
                let _ = answer.send(Err(ControlError::Unavailable(chain(error.as_ref()).into())));
            }
        }
        Err(error) if callers.len() == 1 => {
            if let Some((_, answer)) = callers.pop() {
                let _ = answer.send(Err(error));
            }
        }
        Err(_) => {
            for (own, answer) in callers {
                let _ = answer.send(storing::store(control.store(), &records[own], &bodies).await);
            }
        }
    }
}
