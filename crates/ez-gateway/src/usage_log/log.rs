//! The log's handle, and what its writer, its syncer and its shipper share.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::request_body::RequestBody;
use ez_telemetry::metrics::{USAGE_LOG_UNRECORDED, USAGE_LOG_WRITE_FAILURES};
use tokio::sync::{Notify, mpsc, oneshot};

use super::disk::{Disk, LocalDisk, LogFile};
use super::held::{Held, report_lost};
use super::position::PositionFile;
use super::segment::{self, Position};
use super::watch::{InPlace, watch_until};
use super::writer::{Append, SharedWriter, Work, Writer, sync_until, write_until_closed};
use crate::config::UsageLogConfig;

/// Room beyond `max_bytes` for the accounts of calls that were under way when it was reached; half of it is for them
/// alone, the other half also for the records of calls refused since.
pub(super) const HEADROOM_BYTES: u64 = 8 << 20;

/// The log's handle; clones share it. It closes when the last clone that can append is gone.
#[derive(Clone)]
pub struct UsageLog {
    sender: mpsc::Sender<Work>,
    writer: SharedWriter,
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

/// How much waits for the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsageLogStats {
    /// Records on disk.
    pub(crate) records: u64,
    /// Bytes of the segments on disk.
    pub(crate) bytes: u64,
    /// When the oldest record arrived; known once the shipper has read it.
    pub(crate) oldest_at: Option<DateTime<Utc>>,
    /// Whether the disk refuses records at the moment.
    pub(crate) is_failing: bool,
}

/// What somebody should look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsageLogFaults {
    /// Whether the disk refuses records at the moment.
    pub(crate) is_failing: bool,
    /// Whether so much waits for the control plane that calls are refused.
    pub(crate) is_full: bool,
    /// Records that the control plane rejected since the process began.
    pub(crate) rejected: u64,
    /// Records that nothing could store since the process began.
    pub(crate) lost: u64,
    /// Damaged segments that are kept.
    pub(crate) damaged_segments: u64,
    /// Records on disk.
    pub(crate) records: u64,
    /// Bytes of the segments on disk.
    pub(crate) bytes: u64,
}

/// What writer, syncer and shipper share.
pub(super) struct Shared {
    pub(super) config: UsageLogConfig,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) written: Notify,
    /// Everything before this is written whole.
    committed: Mutex<Position>,
    shipped: Mutex<Shipped>,
    /// Records on disk that are not shipped.
    pub(super) depth: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// Arrival of the oldest record that waits, Unix milliseconds; 0 where none does.
    oldest_ms: AtomicI64,
    /// Records that the control plane rejected.
    pub(super) rejected: AtomicU64,
    /// Records that nothing could store.
    pub(super) lost: AtomicU64,
    /// Damaged segments that are kept.
    pub(super) damaged_segments: AtomicU64,
    /// Whether the disk refused a write since it last took a trial write.
    is_failing: AtomicBool,
    /// Whether the disk has not ended a write in time, nor since.
    is_stuck: AtomicBool,
    pub(super) held: Held,
    pub(super) file: Mutex<Option<Arc<dyn LogFile>>>,
    pub(super) is_dirty: AtomicBool,
    pub(super) in_place: InPlace,
    /// Held for as long as the log is used, so that two processes never share a directory.
    _lock: File,
}

/// Everything before `position` was taken by the control plane. The file is only what a restart reads.
struct Shipped {
    position: Position,
    file: PositionFile,
    was_saved: bool,
}

impl UsageLog {
    /// Opens the log in its directory, taking up what a former process left, and starts its threads. They end when
    /// every clone of the log is dropped. A full disk is no reason to refuse: calls are refused until it has room.
    pub fn open(config: UsageLogConfig) -> Result<(Self, Vec<JoinHandle<()>>), UsageLogError> {
        Self::open_on(config, Arc::new(LocalDisk))
    }

    /// The same on a disk that may fail.
    pub fn open_on(config: UsageLogConfig, disk: Arc<dyn Disk>) -> Result<(Self, Vec<JoinHandle<()>>), UsageLogError> {
        let dir = config.dir.clone();
        Self::open_in(config, disk)
            .map_err(|e| UsageLogError::Unusable { dir: dir.display().to_string(), reason: e.to_string() })
    }

    fn open_in(config: UsageLogConfig, disk: Arc<dyn Disk>) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let dir = config.dir.as_path();
        // Only for its owner, whoever may look into the data directory: records hold clients' addresses.
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.join("lock"))?;
        lock.try_lock()
            .map_err(|_| io::Error::other("another process uses this directory: give each its own EZ_DATA_DIR"))?;
        let (file, position) = PositionFile::open(dir)?;
        let segments = segment::list(dir)?;
        // Above every number ever used, so that no position of the past points into a segment of the future.
        let active = segments.last().copied().unwrap_or_default().max(position.segment) + 1;
        let committed = Position { segment: active, offset: 0 };
        let waiting = segment::count(dir, position, committed)?;
        let damaged_segments = AtomicU64::new(segment::note_damaged(dir));
        let bytes =
            segments.iter().map(|n| Ok(fs::metadata(segment::path_of(dir, *n))?.len())).sum::<io::Result<u64>>()?;
        if waiting > 0 {
            tracing::info!(records = waiting, "usage records of a former run are waiting for the control plane");
        }
        let created = match disk.create(&segment::path_of(dir, active)) {
            Ok(created) => Some(created),
            Err(e) if is_out_of_room(&e) => {
                tracing::error!(error = %e, "usage log has no room on its disk; calls are refused until it has");
                None
            }
            Err(e) => return Err(e),
        };
        let shared = Arc::new(Shared {
            disk,
            written: Notify::new(),
            committed: Mutex::new(committed),
            shipped: Mutex::new(Shipped { position, file, was_saved: true }),
            depth: AtomicU64::new(waiting),
            bytes: AtomicU64::new(bytes),
            oldest_ms: AtomicI64::new(0),
            rejected: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            damaged_segments,
            is_failing: AtomicBool::new(created.is_none()),
            is_stuck: AtomicBool::new(false),
            held: Held::default(),
            file: Mutex::new(created.clone()),
            is_dirty: AtomicBool::new(false),
            in_place: InPlace::default(),
            _lock: lock,
            config,
        });
        let (sender, receiver) = mpsc::channel(shared.config.queue_capacity);
        let (stop_syncing, stopped) = std::sync::mpsc::channel();
        let (stop_watching, unwatched) = std::sync::mpsc::channel();
        let stops = [stop_syncing, stop_watching];
        let writer = Arc::new(Mutex::new(Writer::new(shared.clone(), active, created, stops)));
        let writing = writer.clone();
        let (syncing, wake) = (shared.clone(), sender.downgrade());
        let watching = shared.clone();
        let threads = vec![
            std::thread::Builder::new()
                .name("usage-log-write".into())
                .spawn(move || write_until_closed(&writing, receiver))?,
            std::thread::Builder::new()
                .name("usage-log-sync".into())
                .spawn(move || sync_until(&syncing, &wake, &stopped))?,
            std::thread::Builder::new()
                .name("usage-log-watch".into())
                .spawn(move || watch_until(&watching.in_place, &unwatched))?,
        ];
        Ok((Self { sender, writer, shared }, threads))
    }

    /// Whether a new call could be accounted for: asked before anything is spent on it.
    pub fn check(&self) -> Result<(), UsageLogError> {
        let bytes = self.shared.bytes.load(Ordering::Relaxed);
        if bytes >= self.shared.config.max_bytes {
            return Err(UsageLogError::Full { bytes });
        }
        if self.shared.is_failing() {
            return Err(UsageLogError::Write("it refused the last records".to_owned()));
        }
        if self.sender.capacity() == 0 {
            return Err(UsageLogError::Write("it is slower than calls end".to_owned()));
        }
        Ok(())
    }

    /// Takes a record. Once this returns, a kill of the process does not lose it. Where it fails, the record is not on disk
    /// but for one case: a write that the disk did not end in time may still end, and then stands there besides what the
    /// caller makes of the failure.
    pub async fn append(&self, record: &UsageRecord) -> Result<(), UsageLogError> {
        self.append_with_body(record, None).await
    }

    /// The same with the body of the call's request, in one frame. The body is left out where the log is half full or its
    /// disk fails: calls must not be refused for want of the room that bodies take.
    pub async fn append_with_body(
        &self,
        record: &UsageRecord,
        body: Option<&RequestBody>,
    ) -> Result<(), UsageLogError> {
        if self.shared.is_stuck() {
            return Err(self.shared.stuck());
        }
        let body = body.filter(|_| self.shared.has_room_for_bodies());
        let frame = segment::encode(record, body).map_err(|e| UsageLogError::Write(e.to_string()))?;
        if let Some(outcome) = self.write_in_place(&frame) {
            return outcome;
        }
        let written = tokio::time::timeout(self.shared.config.write_timeout, self.write_by_thread(frame)).await;
        written.unwrap_or_else(|_| Err(self.shared.note_stuck()))
    }

    /// Nobody waits here for another's write: then the thread's batch is the better way.
    fn write_in_place(&self, frame: &[u8]) -> Option<Result<(), UsageLogError>> {
        match self.writer.try_lock() {
            Ok(mut writer) => writer.write_in_place(frame),
            Err(TryLockError::Poisoned(writer)) => writer.into_inner().write_in_place(frame),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The thread skips what nobody waits for any more.
    async fn write_by_thread(&self, frame: Vec<u8>) -> Result<(), UsageLogError> {
        let slot = self.sender.reserve().await.map_err(|_| UsageLogError::Closed)?;
        let (done, answer) = oneshot::channel();
        slot.send(Work::Append(Append { frame, done }));
        answer.await.unwrap_or(Err(UsageLogError::Closed))
    }

    /// Takes the record of a call that was refused before anything was spent on it. While there is no room for such
    /// records they are counted instead, so that refusals cannot take the room that the accounts of calls need.
    pub(crate) async fn append_refusal(&self, record: &UsageRecord, body: Option<&RequestBody>) {
        let has_room = !self.shared.is_failing()
            && self.shared.bytes.load(Ordering::Relaxed) < self.shared.config.max_bytes + HEADROOM_BYTES / 2;
        if !has_room || self.append_with_body(record, body).await.is_err() {
            metrics::counter!(USAGE_LOG_UNRECORDED).increment(1);
        }
    }

    /// Holds a record that [`Self::append`] refused in memory, until the disk or the control plane takes it.
    pub(crate) fn hold(&self, record: UsageRecord) {
        if self.sender.is_closed() {
            return report_lost(&record, "the usage log is closed");
        }
        if !self.shared.held.put(record) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.written.notify_one();
    }

    /// Records on disk that the control plane has not taken.
    pub fn depth(&self) -> u64 {
        self.shared.depth.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> UsageLogStats {
        let oldest_ms = self.shared.oldest_ms.load(Ordering::Relaxed);
        UsageLogStats {
            records: self.depth(),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            oldest_at: (oldest_ms > 0).then(|| DateTime::from_timestamp_millis(oldest_ms)).flatten(),
            is_failing: self.shared.is_failing(),
        }
    }

    pub(crate) fn faults(&self) -> UsageLogFaults {
        let UsageLogStats { records, bytes, is_failing, .. } = self.stats();
        UsageLogFaults {
            is_failing,
            is_full: self.shared.is_full(),
            rejected: self.shared.rejected.load(Ordering::Relaxed),
            lost: self.shared.lost.load(Ordering::Relaxed),
            damaged_segments: self.shared.damaged_segments.load(Ordering::Relaxed),
            records,
            bytes,
        }
    }

    /// The time up to which the control plane has the records of calls that have ended; `None` where that is not known.
    pub(crate) fn taken_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let stats = self.stats();
        if stats.is_failing || !self.shared.held.is_empty() {
            return None;
        }
        if stats.records == 0 { Some(now) } else { stats.oldest_at }
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

    pub(super) fn set_committed(&self, position: Position) {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    /// Where the reader goes on.
    pub(super) fn position(&self) -> Position {
        self.lock_shipped().position
    }

    /// Notes that everything before `position` was taken by the control plane, and frees its room. A position that cannot
    /// be saved only makes a restart ship again what is still on disk, so it keeps nobody from freeing room.
    pub(super) fn shipped(&self, records: u64, position: Position) -> io::Result<()> {
        let mut shipped = self.lock_shipped();
        shipped.position = position;
        let saved = shipped.file.save(position);
        if let Err(e) = &saved
            && shipped.was_saved
        {
            tracing::warn!(error = %e, "position of the usage log not saved; a restart ships some records again");
        }
        shipped.was_saved = saved.is_ok();
        drop(shipped);
        if subtract(&self.depth, records) == 0 {
            self.oldest_ms.store(0, Ordering::Relaxed);
        }
        subtract(&self.bytes, segment::delete_shipped(self.dir(), position)?);
        Ok(())
    }

    /// Notes when the call of the record arrived that has waited longest.
    pub(super) fn note_oldest(&self, arrived_at: DateTime<Utc>) {
        self.oldest_ms.store(arrived_at.timestamp_millis(), Ordering::Relaxed);
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    fn has_room_for_bodies(&self) -> bool {
        !self.is_failing() && self.bytes.load(Ordering::Relaxed) < self.config.max_bytes / 2
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.config.max_bytes
    }

    /// Notes that the disk refused something. Told once, and not for every call that meets it.
    pub(super) fn note_failing(&self, error: &dyn std::fmt::Display) {
        metrics::counter!(USAGE_LOG_WRITE_FAILURES).increment(1);
        if !self.is_failing.swap(true, Ordering::SeqCst) {
            tracing::error!(%error, "usage log cannot be written: calls are refused until its disk takes records again");
        }
    }

    fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    fn stuck(&self) -> UsageLogError {
        let limit = self.config.write_timeout;
        UsageLogError::Write(format!("its disk did not end a write within {} s", limit.as_secs_f64()))
    }

    /// Notes that the disk did not end a write in time: until it does nobody else waits for it.
    fn note_stuck(&self) -> UsageLogError {
        self.is_stuck.store(true, Ordering::SeqCst);
        let error = self.stuck();
        self.note_failing(&error);
        error
    }

    /// Notes that the writer is free to write.
    pub(super) fn note_unstuck(&self) {
        self.is_stuck.store(false, Ordering::Relaxed);
    }

    /// Notes that the disk takes records again.
    pub(super) fn note_recovered(&self) {
        if self.is_failing.swap(false, Ordering::SeqCst) {
            tracing::info!("usage log can be written again: calls are served");
        }
        // A call may have given up on the write before the trial, and nobody wakes the writer any more to say that it is
        // free. In the order of `note_stuck`, so that whoever gives up meanwhile leaves the log failing.
        self.is_stuck.store(false, Ordering::SeqCst);
    }

    fn lock_shipped(&self) -> MutexGuard<'_, Shipped> {
        self.shipped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for record in self.held.take(usize::MAX) {
            report_lost(&record, "the process stopped before its disk or the control plane took it");
        }
    }
}

/// Whether room on the disk, which may come back, is what was missing.
fn is_out_of_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Subtracts down to zero at the least, and tells what is left.
fn subtract(from: &AtomicU64, amount: u64) -> u64 {
    let before = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| Some(value.saturating_sub(amount)));
    before.unwrap_or_else(|unchanged| unchanged).saturating_sub(amount)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

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
            write_timeout: Duration::from_secs(20),
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
        assert!(log.faults().is_full);
        log.append(&record()).await.expect("the account of a call that was under way still fits");
        let shared = log.shared();
        shared.shipped(log.depth(), shared.committed()).unwrap();
        assert_eq!(log.depth(), 0);
        assert!(log.check().is_ok(), "shipped segments no longer count");
        assert!(!log.faults().is_full);
    }

    #[tokio::test]
    async fn what_nothing_could_store_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _threads) = UsageLog::open(config(dir.path(), 1 << 20)).unwrap();
        // The writer takes what is held once the disk or the log has recovered, and neither failed here.
        log.shared.held.put_back(vec![record(); super::super::held::MAX_HELD_RECORDS]);
        let before = log.faults().lost;
        log.hold(record());
        log.hold(record());
        assert_eq!((before, log.faults().lost), (0, 2));
    }

    #[tokio::test]
    async fn a_directory_has_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let (_log, _threads) = UsageLog::open(config(dir.path(), 1)).unwrap();
        let second = UsageLog::open(config(dir.path(), 1)).err().unwrap().to_string();
        assert!(second.contains("another process uses this directory"), "{second}");
    }

    #[tokio::test]
    async fn only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("usage");
        let (_log, _threads) = UsageLog::open(config(&dir, 1 << 20)).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn segments_are_numbered_above_all_that_ever_were() {
        let dir = tempfile::tempdir().unwrap();
        let numbers = || segment::list(dir.path()).unwrap();
        let reopen = || {
            let (log, threads) = UsageLog::open(config(dir.path(), 1 << 20)).unwrap();
            (log.shared().committed().segment, log, threads)
        };
        let (first, log, threads) = reopen();
        log.append(&record()).await.unwrap();
        // Shipped and deleted, so that only the position knows that the number was used.
        let shared = log.shared();
        shared.shipped(1, Position { segment: first + 7, offset: 0 }).unwrap();
        assert!(numbers().is_empty());
        drop((log, shared));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let (second, log, _threads) = reopen();
        assert_eq!((second, numbers()), (first + 8, vec![first + 8]));
        assert_eq!(log.depth(), 0);
    }

    /// Ends no write before it is let go.
    #[derive(Clone, Default)]
    struct HangingDisk {
        let_go: Arc<(Mutex<bool>, std::sync::Condvar)>,
    }

    impl Disk for HangingDisk {
        fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
            File::create(path)?;
            Ok(Arc::new(self.clone()))
        }
    }

    impl LogFile for HangingDisk {
        fn append(&self, bytes: &[u8]) -> io::Result<usize> {
            let (is_let_go, told) = &*self.let_go;
            drop(told.wait_while(is_let_go.lock().unwrap(), |is_let_go| !*is_let_go).unwrap());
            Ok(bytes.len())
        }

        fn truncate(&self, _length: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_disk_that_hung_on_the_eve_of_its_trial_is_not_taken_for_stuck_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let disk = HangingDisk::default();
        let config = UsageLogConfig {
            // So that nobody but the test asks for a trial.
            fsync_interval: Duration::from_secs(3_600),
            write_timeout: Duration::from_millis(200),
            ..config(dir.path(), 1 << 20)
        };
        let (log, _threads) = UsageLog::open_on(config, Arc::new(disk.clone())).unwrap();
        let record = record();
        {
            // The writer is busy, so that it takes the record and the trial in one go.
            let busy = log.writer.lock().unwrap();
            let mut appended = std::pin::pin!(log.append(&record));
            assert!((&mut appended).now_or_never().is_none());
            log.sender.try_send(Work::Recover).ok().unwrap();
            drop(busy);
            appended.await.unwrap_err();
        }
        assert!(log.shared.is_stuck() && log.shared.is_failing());
        let (is_let_go, told) = &*disk.let_go;
        *is_let_go.lock().unwrap() = true;
        told.notify_all();
        let recovered = async {
            while log.shared.is_failing() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), recovered).await.expect("the trial succeeds");
        // The writer lets go of the log once it is done.
        drop(log.writer.lock().unwrap());
        log.append(&record).await.unwrap();
    }
}
