//! The writing side: one thread gathers what is waiting, writes it at once and answers, so that a slow disk blocks no
//! call but those that wait for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ez_contract::UsageRecord;
use ez_telemetry::metrics::USAGE_LOG_DEPTH;
use tokio::sync::{Notify, mpsc, oneshot};

use super::segment::{self, Position};
use crate::config::UsageLogConfig;

/// Frames gathered into one write, bytes.
const MAX_WRITE_BYTES: usize = 1 << 20;
/// Room beyond `max_bytes` for the accounts of calls that were under way when it was reached.
const HEADROOM_BYTES: u64 = 8 << 20;

/// The log's handle; clones share it. It closes when the last clone that can append is gone.
#[derive(Clone)]
pub struct UsageLog {
    sender: mpsc::Sender<Append>,
    shared: Arc<Shared>,
}

/// A record could not be put on disk, so the answer that it accounts for must not be released.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UsageLogError {
    /// The directory cannot be used.
    #[error("the usage log in {dir} cannot be used: {reason}")]
    Unusable {
        /// The directory.
        dir: String,
        /// Why not.
        reason: String,
    },
    /// Too much is waiting for the control plane.
    #[error(
        "the usage log holds {bytes} bytes that the control plane has not taken: see that it runs and can be reached"
    )]
    Full {
        /// Bytes waiting.
        bytes: u64,
    },
    /// The write failed.
    #[error("the usage log cannot be written: {0}")]
    Write(String),
    /// The process is stopping.
    #[error("the usage log is closed")]
    Closed,
}

struct Append {
    frame: Vec<u8>,
    done: oneshot::Sender<Result<(), UsageLogError>>,
}

/// What writer, syncer and shipper share.
pub(super) struct Shared {
    pub(super) config: UsageLogConfig,
    pub(super) written: Notify,
    /// Everything before this is written whole.
    committed: Mutex<Position>,
    /// Records on disk that are not shipped.
    pub(super) depth: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Whether the last write failed.
    is_failing: AtomicBool,
    file: Mutex<Arc<File>>,
    is_dirty: AtomicBool,
    /// Held for as long as the log is used, so that two processes never share a directory.
    _lock: File,
}

impl UsageLog {
    /// Opens the log in its directory, taking up what a former process left, and starts its threads. They end when
    /// every clone of the log is dropped.
    pub fn open(config: UsageLogConfig) -> Result<(Self, Vec<JoinHandle<()>>), UsageLogError> {
        let dir = config.dir.clone();
        Self::open_in(config)
            .map_err(|e| UsageLogError::Unusable { dir: dir.display().to_string(), reason: e.to_string() })
    }

    fn open_in(config: UsageLogConfig) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let dir = config.dir.as_path();
        fs::create_dir_all(dir)?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.join("lock"))?;
        lock.try_lock()
            .map_err(|_| io::Error::other("another process uses this directory: give each its own EZ_DATA_DIR"))?;
        let position = segment::load_position(dir)?;
        let segments = segment::list(dir)?;
        let newest = segments.last().copied().unwrap_or_default().max(position.segment);
        let active = newest + 1;
        let committed = Position { segment: active, offset: 0 };
        let waiting = segment::count(dir, position, committed)?;
        let bytes =
            segments.iter().map(|n| Ok(fs::metadata(segment::path_of(dir, *n))?.len())).sum::<io::Result<u64>>()?;
        if waiting > 0 {
            tracing::info!(records = waiting, "usage records of a former run are waiting for the control plane");
        }
        let file = Arc::new(create_segment(dir, active)?);
        let shared = Arc::new(Shared {
            written: Notify::new(),
            committed: Mutex::new(committed),
            depth: AtomicU64::new(waiting),
            bytes: AtomicU64::new(bytes),
            is_failing: AtomicBool::new(false),
            file: Mutex::new(file.clone()),
            is_dirty: AtomicBool::new(false),
            _lock: lock,
            config,
        });
        let (sender, receiver) = mpsc::channel(shared.config.queue_capacity);
        let (stop_syncing, stopped) = std::sync::mpsc::channel();
        let writer =
            Writer { shared: shared.clone(), segment: active, file, written_bytes: 0, _stop_syncing: stop_syncing };
        let syncing = shared.clone();
        let threads = vec![
            std::thread::Builder::new().name("usage-log-write".into()).spawn(move || writer.run(receiver))?,
            std::thread::Builder::new().name("usage-log-sync".into()).spawn(move || sync_until(&syncing, &stopped))?,
        ];
        Ok((Self { sender, shared }, threads))
    }

    /// Whether a new call could be accounted for: asked before anything is spent on it.
    pub fn check(&self) -> Result<(), UsageLogError> {
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        if bytes >= self.shared.config.max_bytes {
            return Err(UsageLogError::Full { bytes });
        }
        if self.shared.is_failing.load(Ordering::Relaxed) {
            return Err(UsageLogError::Write("the last write failed".to_owned()));
        }
        Ok(())
    }

    /// Takes a record. Once this returns, a kill of the process does not lose it.
    pub async fn append(&self, record: &UsageRecord) -> Result<(), UsageLogError> {
        let frame = segment::encode(record).map_err(|e| UsageLogError::Write(e.to_string()))?;
        let slot = self.sender.reserve().await.map_err(|_| UsageLogError::Closed)?;
        let (done, answer) = oneshot::channel();
        slot.send(Append { frame, done });
        answer.await.unwrap_or(Err(UsageLogError::Closed))
    }

    /// Records on disk that the control plane has not taken.
    pub fn depth(&self) -> u64 {
        self.shared.depth.load(Ordering::Relaxed)
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

impl Shared {
    pub(super) fn dir(&self) -> &Path {
        &self.config.dir
    }

    /// Where the reader must stop.
    pub(super) fn committed(&self) -> Position {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that everything before `position` was taken by the control plane.
    pub(super) fn shipped(&self, records: u64, position: Position) -> io::Result<()> {
        segment::save_position(self.dir(), position)?;
        let depth = subtract(&self.depth, records);
        metrics::gauge!(USAGE_LOG_DEPTH).set(depth as f64);
        subtract(&self.bytes, segment::delete_shipped(self.dir(), position)?);
        Ok(())
    }

    fn set_committed(&self, position: Position) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }
}

/// Subtracts down to zero at the least, and tells what is left.
fn subtract(from: &AtomicU64, amount: u64) -> u64 {
    let before = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| Some(value.saturating_sub(amount)));
    before.unwrap_or_else(|unchanged| unchanged).saturating_sub(amount)
}

struct Writer {
    shared: Arc<Shared>,
    segment: u64,
    file: Arc<File>,
    written_bytes: u64,
    /// Dropped with the writer, which ends the syncing thread.
    _stop_syncing: std::sync::mpsc::Sender<()>,
}

impl Writer {
    fn run(mut self, mut receiver: mpsc::Receiver<Append>) {
        while let Some(first) = receiver.blocking_recv() {
            let mut buffer = first.frame;
            let mut waiting = vec![first.done];
            while buffer.len() < MAX_WRITE_BYTES
                && let Ok(next) = receiver.try_recv()
            {
                buffer.extend_from_slice(&next.frame);
                waiting.push(next.done);
            }
            let outcome = self.write(&buffer, waiting.len() as u64);
            self.shared.is_failing.store(matches!(outcome, Err(UsageLogError::Write(_))), Ordering::Relaxed);
            if let Err(e) = &outcome {
                tracing::error!(error = %e, calls = waiting.len(), "usage records not written; their calls are refused");
            }
            for done in waiting {
                // A call that was cancelled meanwhile no longer waits for the answer.
                let _ = done.send(outcome.clone());
            }
        }
        if let Err(e) = self.file.sync_data() {
            tracing::error!(error = %e, "usage log not forced to the disk at its end");
        }
    }

    fn write(&mut self, frames: &[u8], records: u64) -> Result<(), UsageLogError> {
        let failed = |e: io::Error| UsageLogError::Write(e.to_string());
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        let is_full = bytes >= self.shared.config.max_bytes + HEADROOM_BYTES;
        // A full log may consist of one segment that is shipped but for its end: closing it lets it be deleted.
        if self.written_bytes >= self.shared.config.segment_bytes || (is_full && self.written_bytes > 0) {
            self.next_segment().map_err(failed)?;
        }
        if is_full {
            return Err(UsageLogError::Full { bytes });
        }
        if let Err(e) = (&*self.file).write_all(frames) {
            self.discard_torn_write();
            return Err(failed(e));
        }
        self.written_bytes += frames.len() as u64;
        // Counted before the shipper may see them, so that it never subtracts what was not added.
        self.shared.bytes.fetch_add(frames.len() as u64, Ordering::Relaxed);
        let depth = self.shared.depth.fetch_add(records, Ordering::Relaxed) + records;
        metrics::gauge!(USAGE_LOG_DEPTH).set(depth as f64);
        self.shared.set_committed(Position { segment: self.segment, offset: self.written_bytes });
        self.shared.is_dirty.store(true, Ordering::Release);
        self.shared.written.notify_one();
        Ok(())
    }

    /// Cuts off what a failed write left, so that the next record does not stand behind a torn one. Where even that
    /// fails, the segment is given up for a new one.
    fn discard_torn_write(&mut self) {
        if self.file.set_len(self.written_bytes).is_err() {
            self.written_bytes = u64::MAX;
        }
    }

    fn next_segment(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.file = Arc::new(create_segment(self.shared.dir(), self.segment + 1)?);
        self.segment += 1;
        self.written_bytes = 0;
        *self.shared.file.lock().unwrap_or_else(PoisonError::into_inner) = self.file.clone();
        self.shared.set_committed(Position { segment: self.segment, offset: 0 });
        self.shared.written.notify_one();
        Ok(())
    }
}

/// Forces what was written to the disk every `fsync_interval` until the writer is gone.
fn sync_until(shared: &Shared, stopped: &std::sync::mpsc::Receiver<()>) {
    let interval = shared.config.fsync_interval.max(Duration::from_millis(1));
    while stopped.recv_timeout(interval) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        if !shared.is_dirty.swap(false, Ordering::AcqRel) {
            continue;
        }
        let file = shared.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(e) = file.sync_data() {
            tracing::error!(error = %e, "usage log not forced to the disk");
        }
    }
}

fn create_segment(dir: &Path, number: u64) -> io::Result<File> {
    let path: PathBuf = segment::path_of(dir, number);
    let file = OpenOptions::new().append(true).create_new(true).open(path)?;
    segment::sync_dir(dir)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, max_bytes: u64) -> UsageLogConfig {
        UsageLogConfig {
            dir: dir.to_owned(),
            fsync_interval: Duration::from_millis(50),
            max_bytes,
            segment_bytes: 2_000,
            queue_capacity: 100,
            ship_batch: 100,
            ship_interval: Duration::from_millis(10),
        }
    }

    fn record() -> UsageRecord {
        serde_json::from_str(include_str!("../../../ez-contract/goldens/usage_record.json")).unwrap()
    }

    #[tokio::test]
    async fn records_survive_without_a_clean_end_and_roll_over_segments() {
        let dir = tempfile::tempdir().unwrap();
        let (log, threads) = UsageLog::open(config(dir.path(), 1 << 20)).unwrap();
        let appends = (0..50).map(|_| async { log.append(&record()).await.unwrap() });
        futures_util::future::join_all(appends).await;
        log.append(&record()).await.unwrap();
        let segments = segment::list(dir.path()).unwrap();
        assert!(segments.len() > 1, "{segments:?}");
        let stored = segment::read_batch(dir.path(), Position::default(), log.shared().committed(), 1_000).unwrap();
        assert_eq!((stored.records.len(), log.depth()), (51, 51));
        drop(log);
        for thread in threads {
            thread.join().unwrap();
        }
        let (reopened, _threads) = UsageLog::open(config(dir.path(), 1 << 20)).unwrap();
        assert_eq!(reopened.depth(), 51);
    }

    #[tokio::test]
    async fn a_full_log_refuses_new_calls_and_recovers_once_it_is_shipped() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _threads) = UsageLog::open(config(dir.path(), 10_000)).unwrap();
        while log.check().is_ok() {
            log.append(&record()).await.unwrap();
        }
        assert!(matches!(log.check(), Err(UsageLogError::Full { .. })));
        log.append(&record()).await.expect("the account of a call that was under way still fits");
        let shared = log.shared();
        shared.shipped(log.depth(), shared.committed()).unwrap();
        assert_eq!(log.depth(), 0);
        assert!(log.check().is_ok(), "shipped segments no longer count");
    }

    #[tokio::test]
    async fn a_directory_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let (_log, _threads) = UsageLog::open(config(dir.path(), 1)).unwrap();
        let second = UsageLog::open(config(dir.path(), 1)).err().unwrap().to_string();
        assert!(second.contains("another process uses this directory"), "{second}");
    }
}
