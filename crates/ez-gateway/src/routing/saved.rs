//! The last good snapshot on disk, so that a gateway can start while the shared state and the control plane are away.
//!
//! One file of JSON lines: a head, the entries as they were published (secrets stay sealed), and a seal, which is the
//! SHA-256 of all before it, encrypted with the installation's secret key. So a file that is damaged, or that another
//! installation wrote, is not taken for a snapshot. Its time of change is when the shared state last confirmed it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, Utc};
use ez_contract::secret::{SecretKey, SecretPlace};
use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_contract::{CONTRACT_VERSION, Clock, can_read_contract};
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::snapshot::{RoutingSnapshot, SnapshotCell};
use super::state::{SnapshotSource, SnapshotState, SnapshotWatch};

const FILE: &str = "latest";
const NEW_FILE: &str = "latest.new";
/// Version of the file's form.
const FORMAT: u32 = 1;
/// Least pause between two saves; a large snapshot is saved less often, so that saving takes a twentieth of the time.
const SAVE_INTERVAL: Duration = Duration::from_secs(5);
const SHARE_OF_TIME: u32 = 20;
/// How often a confirmation of the saved snapshot is noted on disk.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(30);

/// Where the snapshot is saved.
#[derive(Debug, Clone)]
pub struct SavedSnapshot {
    dir: PathBuf,
    secret_key: Arc<SecretKey>,
}

/// Why a saved snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum SavedSnapshotError {
    /// There is none.
    #[error("none was saved yet")]
    Missing,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is not whole, or was changed.
    #[error("it is damaged ({0})")]
    Damaged(String),
    /// Sealed with another key.
    #[error("it was saved with another EZ_SECRET_KEY, or its seal is damaged")]
    Foreign,
    /// A newer build wrote it.
    #[error("it has contract version {0}, which this build cannot read")]
    NewerContract(String),
    /// Nobody confirmed it for too long.
    #[error("the shared state last confirmed it at {confirmed_at}, longer ago than EZ_SNAPSHOT_MAX_AGE allows")]
    TooOld {
        /// When it was confirmed.
        confirmed_at: DateTime<Utc>,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    contract_version: String,
    version: u64,
    entries: u64,
}

#[derive(Serialize, Deserialize)]
struct Foot {
    seal: String,
}

impl SavedSnapshot {
    /// The snapshot saved in `dir`, which is made when something is saved.
    pub fn new(dir: PathBuf, secret_key: Arc<SecretKey>) -> Self {
        Self { dir, secret_key }
    }

    /// Reads what was saved, and tells what it is. Not older than `max_age`, where there is a bound.
    pub fn load(
        &self,
        now: DateTime<Utc>,
        max_age: Option<Duration>,
    ) -> Result<(RoutingSnapshot, SnapshotState), SavedSnapshotError> {
        let file = File::open(self.dir.join(FILE)).map_err(|e| match e.kind() {
            ErrorKind::NotFound => SavedSnapshotError::Missing,
            _ => SavedSnapshotError::Unreadable(e),
        })?;
        let changed_at = file.metadata().and_then(|metadata| metadata.modified());
        let confirmed_at = DateTime::<Utc>::from(changed_at.map_err(SavedSnapshotError::Unreadable)?);
        if is_expired(confirmed_at, now, max_age) {
            return Err(SavedSnapshotError::TooOld { confirmed_at });
        }
        let (head, entries) = self.read(BufReader::with_capacity(1 << 16, file))?;
        let snapshot = RoutingSnapshot::from_entries(head.version, entries, &self.secret_key);
        Ok((snapshot, SnapshotState { version: head.version, source: SnapshotSource::Disk, confirmed_at }))
    }

    fn read(&self, mut lines: impl BufRead) -> Result<(Head, Vec<SnapshotEntry>), SavedSnapshotError> {
        let damaged = |what: &dyn std::fmt::Display| SavedSnapshotError::Damaged(what.to_string());
        let mut digest = Context::new(&SHA256);
        let mut line = Vec::new();
        let mut next_line = |line: &mut Vec<u8>| {
            line.clear();
            lines.read_until(b'\n', line).map_err(SavedSnapshotError::Unreadable)
        };
        next_line(&mut line)?;
        digest.update(&line);
        let head: Head = serde_json::from_slice(&line).map_err(|e| damaged(&e))?;
        if head.format != FORMAT || !can_read_contract(&head.contract_version) {
            return Err(SavedSnapshotError::NewerContract(head.contract_version));
        }
        let mut entries = Vec::new();
        for _ in 0..head.entries {
            next_line(&mut line)?;
            digest.update(&line);
            let (key, content): (SnapshotKey, &RawValue) = serde_json::from_slice(&line).map_err(|e| damaged(&e))?;
            entries.push(entry(key, content).map_err(|e| damaged(&e))?);
        }
        next_line(&mut line)?;
        let foot: Foot = serde_json::from_slice(&line).map_err(|e| damaged(&e))?;
        let sealed = self.secret_key.open(&foot.seal, seal_place()).map_err(|_| SavedSnapshotError::Foreign)?;
        if sealed != hex(digest.finish().as_ref()) {
            return Err(damaged(&"its checksum is wrong"));
        }
        Ok((head, entries))
    }

    /// Saves a snapshot in place of the last one. A crash leaves the one or the other.
    pub fn save(&self, snapshot: &RoutingSnapshot, confirmed_at: DateTime<Utc>) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.dir.join(NEW_FILE);
        let written = self.write(snapshot, confirmed_at, &path);
        if let Err(e) = written {
            // It takes room that something else may need; it may not be there.
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        fs::rename(path, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }

    fn write(&self, snapshot: &RoutingSnapshot, confirmed_at: DateTime<Utc>, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut out = Digesting { out: BufWriter::with_capacity(1 << 16, &file), digest: Context::new(&SHA256) };
        let head = Head {
            format: FORMAT,
            contract_version: CONTRACT_VERSION.to_owned(),
            version: snapshot.version(),
            entries: snapshot.contents().count() as u64,
        };
        write_line(&mut out, &head)?;
        for content in snapshot.contents() {
            write_line(&mut out, &content)?;
        }
        let Digesting { mut out, digest } = out;
        let digest = hex(digest.finish().as_ref());
        let seal = self.secret_key.seal(&digest, seal_place(), rand::rng().random()).map_err(io::Error::other)?;
        write_line(&mut out, &Foot { seal })?;
        out.flush()?;
        drop(out);
        file.set_modified(SystemTime::from(confirmed_at))?;
        file.sync_all()
    }

    /// Notes that what is saved was confirmed again.
    fn confirm(&self, confirmed_at: DateTime<Utc>) -> io::Result<()> {
        let file = File::options().write(true).open(self.dir.join(FILE))?;
        file.set_modified(SystemTime::from(confirmed_at))
    }
}

/// Whether nobody confirmed a snapshot for longer than allowed.
pub(super) fn is_expired(confirmed_at: DateTime<Utc>, now: DateTime<Utc>, max_age: Option<Duration>) -> bool {
    let age = now.signed_duration_since(confirmed_at).to_std().unwrap_or_default();
    max_age.is_some_and(|max_age| age > max_age)
}

/// Saves what the follower applies, soon after it did and at the end, until `stop`. Only what the shared state has told is
/// saved.
pub async fn keep_saved(
    saved: SavedSnapshot,
    cell: Arc<SnapshotCell>,
    mut watch: SnapshotWatch,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut saved_version = None;
    let mut was_failing = false;
    let mut pause = SAVE_INTERVAL;
    loop {
        let is_last = stop.is_cancelled();
        let live = (*watch.borrow_and_update()).filter(|state| state.source == SnapshotSource::Live);
        if let Some(state) = live {
            let started = clock.now();
            let stored = store(&saved, cell.load_full(), state, saved_version).await;
            match &stored {
                Ok(version) => saved_version = Some(*version),
                Err(e) if was_failing => tracing::debug!(error = %e, "snapshot still not saved"),
                Err(e) => {
                    tracing::warn!(error = %e, "snapshot not saved: a start without the shared state would use an older one")
                }
            }
            was_failing = stored.is_err();
            let took = clock.now().signed_duration_since(started).to_std().unwrap_or_default();
            pause = SAVE_INTERVAL.max(took * SHARE_OF_TIME);
        }
        if is_last {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => continue,
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = watch.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(CONFIRM_INTERVAL) => {}
        }
    }
}

/// Notes that the saved snapshot was confirmed; saves the one that there is now where that cannot be, or another one is
/// saved. Which version is on disk then.
async fn store(
    saved: &SavedSnapshot,
    snapshot: Arc<RoutingSnapshot>,
    state: SnapshotState,
    saved_version: Option<u64>,
) -> io::Result<u64> {
    let saved = saved.clone();
    let work = move || {
        let SnapshotState { version, confirmed_at, .. } = state;
        if saved_version == Some(version) && saved.confirm(confirmed_at).is_ok() {
            return Ok(version);
        }
        saved.save(&snapshot, confirmed_at).map(|()| snapshot.version())
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn entry(key: SnapshotKey, content: &RawValue) -> Result<SnapshotEntry, serde_json::Error> {
    let content = content.get();
    Ok(match key {
        SnapshotKey::Provider(_) => SnapshotEntry::Provider(serde_json::from_str(content)?),
        SnapshotKey::Binding(_) => SnapshotEntry::Binding(serde_json::from_str(content)?),
        SnapshotKey::Model(_) => SnapshotEntry::Model(serde_json::from_str(content)?),
        SnapshotKey::Token(digest) => SnapshotEntry::Token(digest, serde_json::from_str(content)?),
        SnapshotKey::Master(_) => SnapshotEntry::Master(serde_json::from_str(content)?),
        SnapshotKey::Feature(name) => SnapshotEntry::Feature(name, serde_json::from_str(content)?),
    })
}

fn seal_place() -> SecretPlace<'static> {
    SecretPlace { table: "saved_snapshot", uuid: Uuid::nil(), field: "sha256" }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Digests what passes.
struct Digesting<W> {
    out: W,
    digest: Context,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use ez_testkit::clock::FakeClock;
    use tokio::sync::watch;
    use tokio_util::task::TaskTracker;

    use super::*;

    const GOLDENS: [&str; 5] = [
        include_str!("../../../ez-contract/goldens/provider.json"),
        include_str!("../../../ez-contract/goldens/binding.json"),
        include_str!("../../../ez-contract/goldens/model.json"),
        include_str!("../../../ez-contract/goldens/token.json"),
        include_str!("../../../ez-contract/goldens/master.json"),
    ];

    fn key() -> Arc<SecretKey> {
        Arc::new(SecretKey::from_bytes(&[7; 32]).unwrap())
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_139_200 + seconds, 0).unwrap()
    }

    fn entries() -> Vec<SnapshotEntry> {
        let [provider, binding, model, token, master] = GOLDENS;
        let digest = ez_contract::TokenDigest::of("sk-ez-1");
        vec![
            SnapshotEntry::Provider(serde_json::from_str(provider).unwrap()),
            SnapshotEntry::Binding(serde_json::from_str(binding).unwrap()),
            SnapshotEntry::Model(serde_json::from_str(model).unwrap()),
            SnapshotEntry::Token(digest, serde_json::from_str(token).unwrap()),
            SnapshotEntry::Master(serde_json::from_str(master).unwrap()),
            SnapshotEntry::Feature("flag".into(), true),
        ]
    }

    fn saved(dir: &Path) -> SavedSnapshot {
        let saved = SavedSnapshot::new(dir.join("snapshot"), key());
        saved.save(&RoutingSnapshot::from_entries(42, entries(), &key()), at(0)).unwrap();
        saved
    }

    #[test]
    fn every_entry_comes_back_as_it_was_published() {
        let dir = tempfile::tempdir().unwrap();
        let saved = saved(dir.path());
        let file = File::open(saved.dir.join(FILE)).unwrap();
        let (head, mut read) = saved.read(BufReader::new(file)).unwrap();
        let mut expected = entries();
        read.sort_by_key(SnapshotEntry::key);
        expected.sort_by_key(SnapshotEntry::key);
        assert_eq!((head.version, read), (42, expected));
        let (snapshot, state) = saved.load(at(9), None).unwrap();
        assert_eq!(snapshot.version(), 42);
        let expected = SnapshotState { version: 42, source: SnapshotSource::Disk, confirmed_at: at(0) };
        assert_eq!(state, expected);
        assert!(!saved.dir.join(NEW_FILE).exists());
    }

    #[test]
    fn a_file_damaged_anywhere_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let saved = saved(dir.path());
        let path = saved.dir.join(FILE);
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 7);
            fs::write(&path, damaged).unwrap();
            assert!(saved.load(at(9), None).is_err(), "bit at {place}");
            fs::write(&path, &whole[..place]).unwrap();
            assert!(saved.load(at(9), None).is_err(), "cut at {place}");
        }
    }

    #[test]
    fn a_snapshot_of_another_installation_is_ignored_and_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let ours = saved(dir.path());
        let theirs = SavedSnapshot::new(ours.dir.clone(), Arc::new(SecretKey::from_bytes(&[8; 32]).unwrap()));
        let refused = theirs.load(at(9), None).unwrap_err().to_string();
        assert!(refused.contains("another EZ_SECRET_KEY"), "{refused}");
    }

    #[test]
    fn a_newer_contract_is_ignored_and_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let saved = saved(dir.path());
        let path = saved.dir.join(FILE);
        let newer = fs::read_to_string(&path).unwrap().replacen(
            r#""contract_version":"1.0""#,
            r#""contract_version":"2.0""#,
            1,
        );
        fs::write(path, newer).unwrap();
        let refused = saved.load(at(9), None).unwrap_err().to_string();
        assert!(refused.contains("contract version 2.0"), "{refused}");
    }

    #[test]
    fn its_age_is_that_of_its_last_confirmation() {
        let dir = tempfile::tempdir().unwrap();
        let saved = saved(dir.path());
        let hour = Some(Duration::from_secs(3_600));
        assert!(saved.load(at(3_600), hour).is_ok());
        assert!(matches!(saved.load(at(3_601), hour), Err(SavedSnapshotError::TooOld { .. })));
        saved.confirm(at(1_000)).unwrap();
        assert!(saved.load(at(3_601), hour).is_ok());
        assert!(saved.load(at(1 << 32), None).is_ok(), "any age without a bound");
    }

    #[test]
    fn only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let saved = saved(dir.path());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&saved.dir), mode(&saved.dir.join(FILE))), (0o700, 0o600));
    }

    #[tokio::test]
    async fn a_saved_snapshot_that_is_gone_is_saved_again() {
        let dir = tempfile::tempdir().unwrap();
        let saved = SavedSnapshot::new(dir.path().join("snapshot"), key());
        let path = saved.dir.join(FILE);
        let cell = Arc::new(SnapshotCell::from_pointee(RoutingSnapshot::from_entries(42, entries(), &key())));
        let live = SnapshotState { version: 42, source: SnapshotSource::Live, confirmed_at: at(0) };
        let (_sender, watch) = watch::channel(Some(live));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(keep_saved(saved.clone(), cell, watch, Arc::new(FakeClock::now()), stop.clone()));
        let is_saved = async {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_saved).await.unwrap();
        fs::remove_file(&path).unwrap();
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(saved.load(at(9), None).unwrap().1.version, 42, "it is written whole where it cannot be confirmed");
    }
}
