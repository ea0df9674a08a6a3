//! The writing side. A call writes its record itself where nobody else is writing and the disk is quick, which spares two
//! changes of thread. Else one thread gathers what is waiting, writes it at once and answers, so that a slow disk blocks
//! no call but those that wait for it. Another forces it to the disk, and asks for a trial write while the disk fails.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ez_contract::UsageRecord;
use tokio::sync::{mpsc, oneshot};

use super::disk::{LogFile, append_all};
use super::log::{HEADROOM_BYTES, Shared, UsageLogError};
use super::segment::{self, Position};

/// Frames gathered into one write, bytes.
const MAX_WRITE_BYTES: usize = 1 << 20;
/// How often a disk that failed is tried.
const TRIAL_INTERVAL: Duration = Duration::from_millis(500);
/// Room that a disk must have again before calls are served: enough for the accounts of some hundred calls.
const TRIAL_BYTES: usize = 256 << 10;
const TRIAL_FILE: &str = "trial";
/// Held records written at once.
const HELD_BATCH: usize = 500;
/// A write of one record to a quick disk, which is a copy into the page cache, stays far below this, even where the
/// kernel lets another process run in between.
const SLOW_WRITE: Duration = Duration::from_millis(25);
/// How long the thread alone writes after a slow write: at most one call an interval blocks those that share its worker.
const SLOW_PAUSE: Duration = Duration::from_secs(2);

/// What the writer is asked to do.
pub(super) enum Work {
    /// Write a record.
    Append(Append),
    /// See whether the disk takes records again, and free room where that needs the writer.
    Recover,
}

pub(super) struct Append {
    pub(super) frame: Vec<u8>,
    pub(super) done: oneshot::Sender<Result<(), UsageLogError>>,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    segment: u64,
    /// None where the last attempt to make one failed.
    file: Option<Arc<dyn LogFile>>,
    written_bytes: u64,
    /// Until then calls leave their records to the thread.
    slow_until: Option<Instant>,
    /// Dropped with the writer, which ends the threads that sync and watch.
    _stops: [std::sync::mpsc::Sender<()>; 2],
}

/// The writer as the thread and calls share it.
pub(super) type SharedWriter = Arc<Mutex<Writer>>;

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        segment: u64,
        file: Option<Arc<dyn LogFile>>,
        stops: [std::sync::mpsc::Sender<()>; 2],
    ) -> Self {
        Self { shared, segment, file, written_bytes: 0, slow_until: None, _stops: stops }
    }

    /// Writes one record at once, on the caller's thread; `None` where that could block it, and the thread has to.
    pub(super) fn write_in_place(&mut self, frame: &[u8]) -> Option<Result<(), UsageLogError>> {
        let started = Instant::now();
        let needs_segment = self.file.is_none() || self.written_bytes >= self.shared.config.segment_bytes;
        let is_slow = self.slow_until.is_some_and(|until| started < until);
        if needs_segment || is_slow || self.shared.is_failing() || self.shared.is_full() {
            return None;
        }
        let shared = self.shared.clone();
        let entered = shared.in_place.enter();
        let outcome = self.write(frame, 1);
        drop(entered);
        if let Err(UsageLogError::Write(e)) = &outcome {
            self.shared.note_failing(e);
        }
        self.slow_until = (started.elapsed() >= SLOW_WRITE).then(|| started + SLOW_PAUSE);
        Some(outcome)
    }

    /// Does what is asked: its first piece and what waits behind it, the records in one write.
    fn work(&mut self, first: Work, receiver: &mut mpsc::Receiver<Work>) {
        self.shared.note_unstuck();
        let mut buffer = Vec::new();
        let mut waiting = Vec::new();
        let mut must_recover = false;
        let mut next = Some(first);
        while let Some(work) = next {
            match work {
                Work::Recover => must_recover = true,
                // Its call gave up or was cancelled, and sees to its record by itself.
                Work::Append(append) if append.done.is_closed() => {}
                Work::Append(append) => {
                    if buffer.is_empty() {
                        buffer = append.frame;
                    } else {
                        buffer.extend_from_slice(&append.frame);
                    }
                    waiting.push(append.done);
                }
            }
            next = if buffer.len() < MAX_WRITE_BYTES { receiver.try_recv().ok() } else { None };
        }
        if !waiting.is_empty() {
            let outcome = self.write(&buffer, waiting.len() as u64);
            if let Err(UsageLogError::Write(e)) = &outcome {
                self.shared.note_failing(e);
            }
            for done in waiting {
                // A call that gave up meanwhile no longer waits for the answer.
                let _ = done.send(outcome.clone());
            }
        }
        if must_recover {
            self.recover();
        }
    }

    /// Writes what is held and forces everything to the disk.
    fn close(&mut self) {
        self.write_held();
        if let Some(file) = &self.file
            && let Err(e) = file.sync()
        {
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
        let file = self.open_file().map_err(failed)?;
        if let Err(e) = append_all(&*file, frames) {
            self.discard_torn_write(&*file);
            return Err(failed(e));
        }
        self.written_bytes += frames.len() as u64;
        // Counted before the shipper may see them, so that it never subtracts what was not added.
        self.shared.bytes.fetch_add(frames.len() as u64, Ordering::Relaxed);
        self.shared.depth.fetch_add(records, Ordering::Relaxed);
        self.shared.set_committed(Position { segment: self.segment, offset: self.written_bytes });
        self.shared.is_dirty.store(true, Ordering::Release);
        self.shared.written.notify_one();
        Ok(())
    }

    /// Cuts off what a failed write left, so that the next record does not stand behind a torn one. Where even that
    /// fails, the segment is given up for a new one.
    fn discard_torn_write(&mut self, file: &dyn LogFile) {
        if file.truncate(self.written_bytes).is_err() {
            self.written_bytes = u64::MAX;
        }
    }

    /// The segment being written; a new one where the last could not be made.
    fn open_file(&mut self) -> io::Result<Arc<dyn LogFile>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = self.shared.disk.create(&segment::path_of(self.shared.dir(), self.segment))?;
        self.use_file(Some(file.clone()));
        Ok(file)
    }

    fn next_segment(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file
            && let Err(e) = file.sync()
        {
            // Its records are written, and survive a kill; staying with this file would not make them safer.
            tracing::error!(error = %e, segment = self.segment, "usage log segment not forced to the disk");
        }
        let next = self.segment + 1;
        let file = self.shared.disk.create(&segment::path_of(self.shared.dir(), next))?;
        self.segment = next;
        self.written_bytes = 0;
        self.use_file(Some(file));
        self.shared.set_committed(Position { segment: next, offset: 0 });
        self.shared.written.notify_one();
        Ok(())
    }

    fn use_file(&mut self, file: Option<Arc<dyn LogFile>>) {
        self.file.clone_from(&file);
        *self.shared.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Frees room where a segment is shipped but for its end, and serves again once the disk takes a trial write and
    /// everything that was held.
    fn recover(&mut self) {
        let is_shipped = self.shared.position() == self.shared.committed();
        if self.written_bytes > 0
            && is_shipped
            && let Err(e) = self.next_segment()
        {
            tracing::debug!(error = %e, "shipped segment of the usage log not closed");
        }
        if !self.shared.is_failing() {
            return;
        }
        match self.try_disk() {
            Ok(()) if self.write_held() => self.shared.note_recovered(),
            Ok(()) => {}
            Err(e) => tracing::debug!(error = %e, "disk of the usage log still fails"),
        }
    }

    /// Whether the disk takes some bytes and keeps them.
    fn try_disk(&mut self) -> io::Result<()> {
        self.open_file()?;
        let path = self.shared.dir().join(TRIAL_FILE);
        // Left by a process that died here, or not there.
        let _ = std::fs::remove_file(&path);
        let file = self.shared.disk.create(&path)?;
        let tried = append_all(&*file, &vec![0; TRIAL_BYTES]).and_then(|()| file.sync());
        std::fs::remove_file(&path)?;
        tried
    }

    /// Writes what is held. Whether nothing is left.
    fn write_held(&mut self) -> bool {
        loop {
            let records = self.shared.held.take(HELD_BATCH);
            if records.is_empty() {
                return true;
            }
            if let Err(e) = self.write_records(&records) {
                tracing::debug!(error = %e, "held usage records still not written");
                self.shared.held.put_back(records);
                return false;
            }
        }
    }

    fn write_records(&mut self, records: &[UsageRecord]) -> Result<(), UsageLogError> {
        let frames = records.iter().map(|record| segment::encode(record, None)).collect::<io::Result<Vec<_>>>();
        let frames = frames.map_err(|e| UsageLogError::Write(e.to_string()))?.concat();
        self.write(&frames, records.len() as u64)
    }
}

/// Does what the log is asked until it is closed.
pub(super) fn write_until_closed(writer: &SharedWriter, mut receiver: mpsc::Receiver<Work>) {
    while let Some(first) = receiver.blocking_recv() {
        lock(writer).work(first, &mut receiver);
    }
    lock(writer).close();
}

fn lock(writer: &SharedWriter) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forces what was written to the disk every `fsync_interval` until the writer is gone, and wakes the writer while the
/// disk fails or the log is full.
pub(super) fn sync_until(shared: &Shared, writer: &mpsc::WeakSender<Work>, stopped: &std::sync::mpsc::Receiver<()>) {
    let interval = shared.config.fsync_interval.max(Duration::from_millis(1));
    let mut last_trial = Instant::now();
    loop {
        let wait = if shared.is_failing() || shared.is_full() { interval.min(TRIAL_INTERVAL) } else { interval };
        if stopped.recv_timeout(wait) != Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            return;
        }
        if (shared.is_failing() || shared.is_full()) && last_trial.elapsed() >= TRIAL_INTERVAL {
            last_trial = Instant::now();
            // Where the queue is full the writer is awake anyway.
            writer.upgrade().map(|writer| writer.try_send(Work::Recover));
        }
        if !shared.is_dirty.swap(false, Ordering::AcqRel) {
            continue;
        }
        let file = shared.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(Err(e)) = file.map(|file| file.sync()) {
            // What a later fsync says of these bytes is worth nothing, so no call is served on this disk until a trial
            // write was forced to it.
            shared.note_failing(&e);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::disk::Disk;
    use super::super::log::UsageLog;
    use super::*;
    use crate::config::UsageLogConfig;

    /// Keeps the names of the threads that wrote, and takes its time where it is told to.
    #[derive(Clone, Default)]
    struct WatchedDisk {
        writers: Arc<Mutex<Vec<Option<String>>>>,
        write_takes: Duration,
    }

    impl Disk for WatchedDisk {
        fn create(&self, _path: &Path) -> io::Result<Arc<dyn LogFile>> {
            Ok(Arc::new(self.clone()))
        }
    }

    impl LogFile for WatchedDisk {
        fn append(&self, bytes: &[u8]) -> io::Result<usize> {
            self.writers.lock().unwrap().push(std::thread::current().name().map(str::to_owned));
            std::thread::sleep(self.write_takes);
            Ok(bytes.len())
        }

        fn truncate(&self, _length: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Whether each of three records in a row was written by the log's own thread.
    async fn written_by_thread(write_takes: Duration) -> Vec<bool> {
        let dir = tempfile::tempdir().unwrap();
        let disk = WatchedDisk { write_takes, ..WatchedDisk::default() };
        let config = UsageLogConfig {
            dir: dir.path().to_owned(),
            fsync_interval: Duration::from_millis(50),
            max_bytes: 1 << 20,
            segment_bytes: 1 << 20,
            queue_capacity: 100,
            ship_batch: 100,
            ship_interval: Duration::from_millis(10),
            write_timeout: Duration::from_secs(20),
        };
        let (log, _threads) = UsageLog::open_on(config, Arc::new(disk.clone())).unwrap();
        let record = serde_json::from_str(include_str!("../../../ez-contract/goldens/usage_record.json")).unwrap();
        for _ in 0..3 {
            log.append(&record).await.unwrap();
        }
        let writers = disk.writers.lock().unwrap();
        writers.iter().map(|name| name.as_deref() == Some("usage-log-write")).collect()
    }

    #[tokio::test]
    async fn a_slow_disk_blocks_one_call_and_then_only_the_thread() {
        assert_eq!(written_by_thread(SLOW_WRITE).await, [false, true, true]);
    }

    #[tokio::test]
    async fn calls_write_for_themselves_while_the_disk_is_quick() {
        // A busy machine may make a write look slow, but not every one of them.
        let mut runs = Vec::new();
        while !runs.contains(&vec![false; 3]) {
            assert!(runs.len() < 50, "{runs:?}");
            runs.push(written_by_thread(Duration::ZERO).await);
        }
    }
}
