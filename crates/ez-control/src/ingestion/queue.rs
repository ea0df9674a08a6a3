//! What waits for the writer.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ez_telemetry::metrics::{LOG_QUEUE, LOG_QUEUE_REFUSALS};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{ControlConfig, ControlError};

use super::{Handed, Outcome};

/// When those who are refused may come again: several batches later.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Request bodies that may wait, bytes: more of them would take more memory than records ever do.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Request bodies of one batch, give or take what one gateway hands in.
const BATCH_BODY_BYTES: usize = 8 << 20;

/// What became of someone's records.
pub(super) type Answer = Result<Vec<Outcome>, ControlError>;

/// Records that someone handed in.
pub(super) struct Waiting {
    pub(super) handed: Handed,
    pub(super) answer: oneshot::Sender<Answer>,
    since: Instant,
}

/// What was handed in and not taken by the writer yet.
#[derive(Default)]
pub(crate) struct Queue {
    line: Mutex<Line>,
    arrived: Notify,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// All of theirs.
    records: usize,
    body_bytes: usize,
    /// Whether a writer takes what comes.
    is_open: bool,
}

impl Queue {
    /// Lets records in for as long as the value lives. What waits at its end is refused.
    pub(super) fn open(&self) -> impl Drop {
        self.line().is_open = true;
        Open(self)
    }

    /// Puts records in the line, and tells where their answer comes; gives them back where there is no writer. Errors:
    /// `Overloaded` where more than `capacity` would wait, or too much of request bodies. Where nobody waits any number is taken,
    /// or it never would be.
    pub(super) fn push(
        &self,
        handed: Handed,
        capacity: usize,
    ) -> Result<Result<oneshot::Receiver<Answer>, Handed>, ControlError> {
        let (records, body_bytes) = (handed.records.len(), handed.body_bytes());
        let mut line = self.line();
        if !line.is_open {
            return Ok(Err(handed));
        }
        let is_full = line.records + records > capacity || line.body_bytes + body_bytes > MAX_BODY_BYTES;
        if line.records > 0 && is_full {
            metrics::counter!(LOG_QUEUE_REFUSALS).increment(1);
            return Err(ControlError::Overloaded { retry_after: RETRY_AFTER });
        }
        let (answer, answered) = oneshot::channel();
        line.records += records;
        line.body_bytes += body_bytes;
        line.waiting.push_back(Waiting { handed, answer, since: Instant::now() });
        metrics::gauge!(LOG_QUEUE).set(line.records as f64);
        drop(line);
        self.arrived.notify_one();
        Ok(Ok(answered))
    }

    /// Waits for the next batch: as many as fill one, and no part of what someone handed in. None when told to stop and
    /// nothing waits any more.
    pub(super) async fn next(
        &self,
        config: &ControlConfig,
        last_began: Option<Instant>,
        stop: &CancellationToken,
    ) -> Option<Vec<Waiting>> {
        loop {
            let is_last = stop.is_cancelled();
            let due = {
                let mut line = self.line();
                match line.waiting.front().map(|first| first.since) {
                    None if is_last => {
                        line.is_open = false;
                        return None;
                    }
                    None => None,
                    Some(since) => {
                        let due = last_began.map_or(since, |began| began.min(since) + config.log_flush_interval);
                        if is_last || line.has_batch(config.log_batch_size) || due <= Instant::now() {
                            return Some(line.take(config.log_batch_size));
                        }
                        Some(due)
                    }
                }
            };
            tokio::select! {
                () = self.arrived.notified() => {}
                () = until(due) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handed {
    /// What its request bodies take, give or take.
    fn body_bytes(&self) -> usize {
        self.bodies.iter().map(|body| body.body.content.len()).sum()
    }
}

impl Line {
    fn has_batch(&self, batch_size: usize) -> bool {
        self.records >= batch_size || self.body_bytes >= BATCH_BODY_BYTES
    }

    /// From the front: as many as fill a batch.
    fn take(&mut self, batch_size: usize) -> Vec<Waiting> {
        let (mut taken, mut records, mut body_bytes) = (Vec::new(), 0, 0);
        while records < batch_size
            && body_bytes < BATCH_BODY_BYTES
            && let Some(waiting) = self.waiting.pop_front()
        {
            records += waiting.handed.records.len();
            body_bytes += waiting.handed.body_bytes();
            taken.push(waiting);
        }
        self.records -= records;
        self.body_bytes -= body_bytes;
        metrics::gauge!(LOG_QUEUE).set(self.records as f64);
        taken
    }
}

struct Open<'q>(&'q Queue);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut line = self.0.line();
        *line = Line::default();
        metrics::gauge!(LOG_QUEUE).set(0.0);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
