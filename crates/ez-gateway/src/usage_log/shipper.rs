//! The shipping side: reads batches from the segments and hands them to the control plane until it has taken them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ez_contract::UsageRecord;
use tokio_util::sync::CancellationToken;

use super::batch::{BatchBuilder, UsageBatch};
use super::log::{Shared, UsageLog};
use super::rejected;
use super::segment::{self, Batch, Position};
use crate::control_link::{ControlLink, ControlLinkError, RejectedRecord};

const MAX_BACKOFF: Duration = Duration::from_secs(5);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause that the control plane may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Ships records until `stop`, then what is left if the control plane takes it at once. What fails is tried again, in
/// order; ingestion is idempotent by record id, so a batch whose answer was lost does no harm.
pub async fn ship(log: UsageLog, link: Arc<dyn ControlLink>, stop: CancellationToken) {
    let shared = log.shared();
    // Only calls keep the log open; the shipper must not.
    drop(log);
    let mut backoff = FIRST_BACKOFF;
    loop {
        // Asked before reading: only an empty log read after the last call has ended is the end.
        let was_last = stop.is_cancelled();
        match ship_batch(&shared, link.as_ref()).await {
            Ok(0) if was_last => return,
            Ok(0) => {
                backoff = FIRST_BACKOFF;
                tokio::select! {
                    () = shared.written.notified() => {}
                    () = stop.cancelled() => continue,
                }
                gather(&shared, &stop).await;
            }
            Ok(taken) => {
                backoff = FIRST_BACKOFF;
                // What was written meanwhile is less than a batch: handed on at once, it would cost as much as a whole one.
                if taken < shared.config.ship_batch {
                    gather(&shared, &stop).await;
                }
            }
            Err(e) => {
                tracing::warn!(error = %e, depth = shared.depth.load(Ordering::Relaxed), "usage records not taken by the control plane yet");
                if was_last {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(e.pause().unwrap_or(backoff)) => {}
                    () = stop.cancelled() => {}
                }
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}

/// Lets a batch gather, unless the process waits for the end.
async fn gather(shared: &Shared, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(shared.config.ship_interval) => {}
        () = stop.cancelled() => {}
    }
}

#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error("the usage log cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Link(#[from] ControlLinkError),
}

impl ShipError {
    /// The pause that the control plane asked for, where it did.
    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Link(ControlLinkError::Busy { retry_after }) => Some((*retry_after).min(MAX_PAUSE)),
            Self::Link(_) | Self::Read(_) => None,
        }
    }
}

/// Ships one batch; tells how many records it held.
async fn ship_batch(shared: &Arc<Shared>, link: &dyn ControlLink) -> Result<usize, ShipError> {
    let reading = shared.clone();
    let (from, batch) = blocking(move || read_next(&reading)).await?;
    if batch.records.is_empty() {
        if batch.next != from {
            let moving = shared.clone();
            blocking(move || moving.shipped(batch.unreadable, batch.next)).await?;
        }
        return ship_held(shared, link).await;
    }
    let report = link.ingest(&batch.records).await?;
    let taken = batch.records.len();
    let saving = shared.clone();
    blocking(move || {
        keep_rejected(&saving, &batch.records, &report.rejected);
        saving.shipped(taken as u64 + batch.unreadable, batch.next)
    })
    .await?;
    Ok(taken)
}

/// Ships records that the disk did not take, once everything before them is shipped; tells how many.
async fn ship_held(shared: &Arc<Shared>, link: &dyn ControlLink) -> Result<usize, ShipError> {
    let records = shared.held.take(shared.config.ship_batch);
    if records.is_empty() {
        return Ok(0);
    }
    // A task that is dropped meanwhile must not take them along.
    let held = PutsBack { shared, records };
    let mut batch = BatchBuilder::new();
    for record in &held.records {
        batch.push(&serde_json::to_vec(record).map_err(io::Error::other)?);
    }
    let batch = batch.finish();
    let report = link.ingest(&batch).await?;
    let taken = held.are_taken();
    let keeping = shared.clone();
    blocking(move || {
        keep_rejected(&keeping, &batch, &report.rejected);
        Ok(())
    })
    .await?;
    Ok(taken)
}

fn keep_rejected(shared: &Shared, batch: &UsageBatch, rejected: &[RejectedRecord]) {
    shared.rejected.fetch_add(rejected.len() as u64, Ordering::Relaxed);
    let lost = rejected::keep(shared.dir(), batch, rejected);
    shared.lost.fetch_add(lost, Ordering::Relaxed);
}

/// Held records on their way; they go back unless they were taken.
struct PutsBack<'s> {
    shared: &'s Shared,
    records: Vec<UsageRecord>,
}

impl PutsBack<'_> {
    fn are_taken(mut self) -> usize {
        std::mem::take(&mut self.records).len()
    }
}

impl Drop for PutsBack<'_> {
    fn drop(&mut self) {
        self.shared.held.put_back(std::mem::take(&mut self.records));
    }
}

fn read_next(shared: &Shared) -> io::Result<(Position, Batch)> {
    let from = shared.position();
    let batch = segment::read_batch(shared.dir(), from, shared.committed(), shared.config.ship_batch)?;
    // The walk keeps what is damaged aside; a directory that was just read is read again at no cost worth naming.
    shared.damaged_segments.store(segment::note_damaged(shared.dir()), Ordering::Relaxed);
    if let Some(oldest_at) = batch.oldest_at() {
        shared.note_oldest(oldest_at);
    }
    Ok((from, batch))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
