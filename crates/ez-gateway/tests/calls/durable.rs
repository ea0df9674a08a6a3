//! The usage log on disks that fill up, break and come back, and beside a control plane that is away.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use ez_contract::UsageRecord;
use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_contract::snapshot::GatewayHeartbeat;
use ez_contract::usage::EndedBy;
use ez_gateway::config::{UpstreamTls, UsageLogConfig};
use ez_gateway::listener::{self, Bounds, Drain};
use ez_gateway::usage_log::{Disk, LocalDisk, LogFile, UsageLog, UsageLogError, ship};
use ez_gateway::{ControlLink, ControlLinkError, HttpControlLink, LentBody};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{RecordingLink, TestGateway};

const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
/// `ENOSPC` and `EIO`.
const NO_SPACE: i32 = 28;
const BROKEN: i32 = 5;

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// Bytes that it takes before it is full.
    room_bytes: Option<usize>,
    /// Writes fail.
    is_broken: bool,
    /// Nothing can be cut off.
    keeps_torn_writes: bool,
    /// Nothing can be forced to it.
    cannot_sync: bool,
    /// Takes so many bytes at once at the most.
    short_writes: Option<usize>,
    /// Writes do not end until this does.
    hangs: bool,
    /// Writes that hang.
    hanging: usize,
    /// The next write panics.
    panics: bool,
}

/// The disk of this machine with faults.
#[derive(Clone, Default)]
struct FaultyDisk {
    faults: Arc<Mutex<Faults>>,
    changed: Arc<Condvar>,
}

impl FaultyDisk {
    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults());
        self.changed.notify_all();
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heal(&self) {
        self.set(|faults| *faults = Faults::default());
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(FaultyFile { file: LocalDisk.create(path)?, disk: self.clone() }))
    }
}

struct FaultyFile {
    file: Arc<dyn LogFile>,
    disk: FaultyDisk,
}

impl LogFile for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut faults = self.disk.faults();
        assert!(!std::mem::take(&mut faults.panics), "a write panics");
        faults.hanging += 1;
        while faults.hangs {
            faults = self.disk.changed.wait(faults).unwrap();
        }
        faults.hanging = 0;
        if faults.is_broken {
            return Err(io::Error::from_raw_os_error(BROKEN));
        }
        let mut length = bytes.len().min(faults.short_writes.unwrap_or(usize::MAX));
        if let Some(room_bytes) = &mut faults.room_bytes {
            length = length.min(*room_bytes);
            *room_bytes -= length;
            if length == 0 {
                return Err(io::Error::from_raw_os_error(NO_SPACE));
            }
        }
        self.file.append(&bytes[..length])
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        if self.disk.faults().keeps_torn_writes {
            return Err(io::Error::from_raw_os_error(BROKEN));
        }
        self.file.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        if self.disk.faults().cannot_sync {
            return Err(io::Error::from_raw_os_error(BROKEN));
        }
        self.file.sync()
    }
}

fn config(dir: &Path) -> UsageLogConfig {
    UsageLogConfig {
        dir: dir.to_owned(),
        fsync_interval: Duration::from_millis(5),
        max_bytes: 1 << 30,
        segment_bytes: 64 << 10,
        queue_capacity: 1_000,
        ship_batch: 100,
        ship_interval: Duration::from_millis(1),
        write_timeout: Duration::from_secs(20),
    }
}

fn record(id: impl std::fmt::Display) -> UsageRecord {
    let golden = include_str!("../../../ez-contract/goldens/usage_record.json");
    UsageRecord { id: id.to_string(), ..serde_json::from_str(golden).unwrap() }
}

/// Waits for something that must come to pass.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

/// Everything that a log holds, shipped.
async fn shipped(log: UsageLog) -> Arc<RecordingLink> {
    let link = Arc::new(RecordingLink::default());
    let stop = CancellationToken::new();
    stop.cancel();
    ship(log, link.clone(), stop).await;
    link
}

fn ids(link: &RecordingLink) -> Vec<String> {
    link.taken.lock().unwrap().iter().map(|record| record.id.clone()).collect()
}

async fn code_of(gateway: &TestGateway, body: &'static str) -> (u16, String) {
    let answer = gateway.chat(body).await;
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), code)
}

#[tokio::test]
async fn on_a_disk_that_fills_up_nothing_is_spent_unaccounted_and_nothing_is_lost() {
    for body in [PLAIN, STREAM] {
        let disk = FaultyDisk::default();
        let gateway = TestGateway::start_on(Arc::new(disk.clone())).await;
        gateway.records.set_away(true);
        assert_eq!(gateway.chat(body).await.status, StatusCode::OK);

        disk.set(|faults| faults.room_bytes = Some(100));
        let caught = gateway.chat(body).await;
        assert!(caught.text().contains("usage_log_unavailable"), "its end is withheld: {}", caught.text());
        assert!(!caught.text().contains("[DONE]"), "{}", caught.text());
        for refused in [PLAIN, STREAM, PLAIN] {
            assert_eq!(code_of(&gateway, refused).await, (503, "usage_log_unavailable".to_owned()));
        }
        assert_eq!(gateway.upstream.request_count(), 2, "nothing is spent on refused calls");

        disk.heal();
        let mut attempts = 0;
        while gateway.chat(body).await.status != StatusCode::OK {
            attempts += 1;
            assert!(attempts < 1_000, "calls are served again");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        gateway.records.set_away(false);
        let records = gateway.finish().await;
        let spent: Vec<_> = records.iter().filter(|record| record.attempts > 0).collect();
        let ends: Vec<EndedBy> = spent.iter().map(|record| record.ended_by).collect();
        assert_eq!(ends, [EndedBy::Complete, EndedBy::Gateway, EndedBy::Complete], "{records:#?}");
        assert!(spent[1].error.as_deref().is_some_and(|error| error.contains("withheld")), "{:?}", spent[1]);
        assert_eq!(spent[1].tokens, spent[0].tokens, "what was spent is accounted for");
        let unique: HashSet<_> = records.iter().map(|record| &record.id).collect();
        assert_eq!(unique.len(), records.len());
    }
}

#[tokio::test]
async fn what_a_broken_disk_refused_reaches_the_control_plane_without_it() {
    let disk = FaultyDisk::default();
    let gateway = TestGateway::start_on(Arc::new(disk.clone())).await;
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    disk.set(|faults| faults.is_broken = true);
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::SERVICE_UNAVAILABLE);
    // The disk stays broken to the end.
    eventually("the held record is shipped", || gateway.records.taken.lock().unwrap().len() == 2).await;
    let records = gateway.finish().await;
    let mut ends: Vec<_> = records.iter().map(|record| record.ended_by).collect();
    // The held one may be shipped first.
    ends.sort();
    assert_eq!(ends, [EndedBy::Complete, EndedBy::Gateway]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_disk_that_hangs_holds_up_one_call_and_the_others_for_a_bounded_time() {
    let disk = FaultyDisk::default();
    let gateway = TestGateway::start_on_with(Arc::new(disk.clone()), |config| {
        config.usage_log.write_timeout = Duration::from_millis(200);
    })
    .await;
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    disk.set(|faults| faults.hangs = true);
    let caught = TaskTracker::new().spawn(TestGateway::statuses(vec![gateway.request("/v1/chat/completions", PLAIN)]));
    eventually("a call writes to the hanging disk", || disk.faults().hanging > 0).await;
    for body in [PLAIN, STREAM] {
        let answer = gateway.chat(body).await;
        assert!(answer.text().contains("usage_log_unavailable"), "{}", answer.text());
    }
    assert_eq!(gateway.upstream.request_count(), 3, "nothing is spent once the disk is known to hang");
    assert!(!caught.is_finished());

    disk.set(|faults| faults.hangs = false);
    assert_eq!(caught.await.unwrap(), [StatusCode::OK]);
    let mut attempts = 0;
    while gateway.chat(PLAIN).await.status != StatusCode::OK {
        attempts += 1;
        assert!(attempts < 1_000, "calls are served again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let records = gateway.finish().await;
    let mut ends: Vec<EndedBy> =
        records.iter().filter(|record| record.attempts > 0).map(|record| record.ended_by).collect();
    ends.sort();
    assert_eq!(ends, [EndedBy::Complete, EndedBy::Complete, EndedBy::Complete, EndedBy::Gateway], "{records:#?}");
    let unique: HashSet<_> = records.iter().map(|record| &record.id).collect();
    assert_eq!(unique.len(), records.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_hanging_disk_takes_after_all_stands_beside_what_was_made_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let settings = UsageLogConfig { write_timeout: Duration::from_millis(100), ..config(dir.path()) };
    let (log, _threads) = UsageLog::open_on(settings, Arc::new(disk.clone())).unwrap();
    let append = |id: &'static str| {
        let log = log.clone();
        TaskTracker::new().spawn(async move { log.append(&record(id)).await })
    };
    disk.set(|faults| faults.hangs = true);
    let in_place = append("in place");
    eventually("the first write hangs", || disk.faults().hanging > 0).await;
    // The first to give up does so in time, and whoever comes after that at once.
    for id in ["given up", "not tried"] {
        assert!(matches!(append(id).await.unwrap(), Err(UsageLogError::Write(_))), "{id}");
        assert!(matches!(log.check(), Err(UsageLogError::Write(_))));
    }
    disk.heal();
    in_place.await.unwrap().unwrap();
    eventually("calls are served again", || log.check().is_ok()).await;
    append("after").await.unwrap().unwrap();
    assert_eq!(ids(&*shipped(log).await), ["in place", "after"], "nothing is written that its caller sees to");
}

#[tokio::test]
async fn a_call_that_panics_is_accounted_for_as_the_gateways_fault() {
    let disk = FaultyDisk::default();
    let gateway = TestGateway::start_on(Arc::new(disk.clone())).await;
    disk.set(|faults| faults.panics = true);
    let request = gateway.request("/v1/chat/completions", PLAIN);
    let answered = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http()
        .request(request)
        .await;
    assert!(answered.is_err(), "its connection ends");
    eventually("it is accounted for", || gateway.records.taken.lock().unwrap().len() == 1).await;
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK, "others are served");
    let records = gateway.finish().await;
    let ends: Vec<_> = records.iter().map(|record| (record.ended_by, record.status)).collect();
    assert_eq!(ends, [(EndedBy::Gateway, 500), (EndedBy::Complete, 200)], "{records:#?}");
    assert!(records[0].error.as_deref().is_some_and(|error| error.contains("internal")), "{records:#?}");
    assert_eq!(records[0].tokens, records[1].tokens, "what was spent is accounted for");
}

#[tokio::test]
async fn a_client_that_leaves_while_the_disk_fails_is_accounted_for() {
    let disk = FaultyDisk::default();
    let gateway = TestGateway::start_on(Arc::new(disk.clone())).await;
    let hang = ez_testkit::upstream::Behaviour {
        tokens: 100_000,
        tokens_per_second: Some(100.0),
        ..ez_testkit::upstream::Behaviour::default()
    };
    gateway.upstream.set(hang);
    let response = gateway.send(gateway.request("/v1/chat/completions", STREAM)).await;
    assert_eq!(response.status(), StatusCode::OK);
    disk.set(|faults| faults.is_broken = true);
    drop(response);
    eventually("its record is shipped", || gateway.records.taken.lock().unwrap().len() == 1).await;
    assert_eq!(gateway.finish_with_one_record().await.ended_by, EndedBy::Client);
}

#[tokio::test]
async fn calls_are_refused_while_nothing_can_be_forced_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    let (log, _threads) = UsageLog::open_on(config(dir.path()), Arc::new(disk.clone())).unwrap();
    disk.set(|faults| faults.cannot_sync = true);
    log.append(&record(1)).await.unwrap();
    eventually("the failure is noticed", || log.check().is_err()).await;
    disk.heal();
    eventually("the disk is used again", || log.check().is_ok()).await;
    assert_eq!(ids(&*shipped(log).await), ["1"]);
}

#[tokio::test]
async fn a_write_that_stops_at_any_byte_spoils_no_record_beside_it() {
    let frame_bytes = serde_json::to_vec(&record(1)).unwrap().len() + 8;
    for keeps_torn_writes in [false, true] {
        for room_bytes in (0..frame_bytes).step_by(23) {
            let dir = tempfile::tempdir().unwrap();
            let disk = FaultyDisk::default();
            let (log, _threads) = UsageLog::open_on(config(dir.path()), Arc::new(disk.clone())).unwrap();
            log.append(&record(1)).await.unwrap();
            disk.set(|faults| {
                *faults = Faults { room_bytes: Some(room_bytes), keeps_torn_writes, ..Faults::default() }
            });
            let refused = log.append(&record(2)).await;
            assert!(matches!(refused, Err(UsageLogError::Write(_))), "{refused:?}");
            disk.heal();
            log.append(&record(3)).await.unwrap();
            assert_eq!(ids(&*shipped(log).await), ["1", "3"], "after {room_bytes} bytes");
        }
    }
}

/// A payload as it stands in a segment.
fn frame(payload: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    [&length.to_le_bytes()[..], &crc32fast::hash(&payload).to_le_bytes(), &payload].concat()
}

#[tokio::test]
async fn faults_of_the_usage_log_are_told_to_the_control_plane() {
    let disk = FaultyDisk::default();
    let gateway = TestGateway::start_on_with(Arc::new(disk.clone()), |config| {
        let left = [frame(br#"{"id":"a","of":"another version"}"#.to_vec()), frame(b"no JSON".to_vec())].concat();
        std::fs::write(config.usage_log.dir.join("0000000000000001.seg"), left).unwrap();
    })
    .await;
    let node = |cause: &str| format!("system:usage_log_{cause}:gateway:");
    let told = |cause: &str| {
        let alerts = gateway.records.alerts.lock().unwrap();
        let of_cause = alerts.iter().filter(|alert| alert.fingerprint.starts_with(&node(cause)));
        of_cause.inspect(|alert| assert_eq!(alert.alert_type, AlertType::System)).count()
    };
    eventually("what was left is told of", || told("rejected") == 1 && told("damage") == 1).await;
    assert_eq!(told("disk"), 0);

    disk.set(|faults| faults.is_broken = true);
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::SERVICE_UNAVAILABLE);
    eventually("the disk is told of", || told("disk") == 1).await;
    let alert = gateway.records.alerts.lock().unwrap().last().cloned().unwrap();
    assert_eq!((alert.severity, alert.related_type.as_deref()), (AlertSeverity::Critical, Some("gateway")));
    assert!(alert.related_name.is_some_and(|node_id| alert.fingerprint.ends_with(&node_id)));
    disk.heal();
    assert_eq!((told("rejected"), told("damage"), told("disk")), (1, 1, 1), "each once");
    gateway.finish().await;
}

#[tokio::test]
async fn records_that_nobody_can_read_are_kept_aside_and_do_not_count_as_waiting_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let of_another_version = || frame(br#"{"id":"a","of":"another version"}"#.to_vec());
    let readable = frame(serde_json::to_vec(&record(1)).unwrap());
    let segment = [of_another_version(), readable, of_another_version()].concat();
    std::fs::write(dir.path().join("0000000000000001.seg"), segment).unwrap();
    std::fs::write(dir.path().join("0000000000000002.seg"), frame(b"no JSON".to_vec())).unwrap();
    let (log, _threads) = UsageLog::open(config(dir.path())).unwrap();
    assert_eq!(log.depth(), 4);
    assert_eq!(ids(&*shipped(log.clone()).await), ["1"]);
    assert_eq!(log.depth(), 0, "nothing waits any more");
    let kept = std::fs::read_to_string(dir.path().join("rejected.jsonl")).unwrap();
    let line = r#""record":{"id":"a","of":"another version"}}"#;
    assert_eq!(kept.lines().filter(|kept| kept.ends_with(line)).count(), 2, "{kept}");
    assert!(dir.path().join("0000000000000002.damaged").exists(), "it is kept");
}

/// What the control plane may tell of a record at most, of every record of a large batch.
#[tokio::test]
async fn a_batch_that_is_rejected_whole_is_understood() {
    const RECORDS: usize = 1_000;
    let answer = |_: SocketAddr, request: Request<LentBody>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let batch: Value = serde_json::from_slice(&body).unwrap();
        let wide = |chars| "\u{1f600}".repeat(chars);
        let told = (0..batch["records"].as_array().unwrap().len())
            .map(|index| json!({"index": index, "id": wide(128), "reason": wide(200)}));
        let answer = json!({"accepted": 0, "duplicates": 0, "rejected": told.collect::<Vec<_>>()});
        Response::new(Full::new(Bytes::from(answer.to_string())))
    };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", tcp.local_addr().unwrap());
    let (serving, ended) = (TaskTracker::new(), CancellationToken::new());
    let drain = Drain { stop: ended.clone(), cut_off: CancellationToken::new(), timeout: Duration::from_secs(1) };
    serving.spawn(listener::serve(tcp, answer, Bounds { name: "control", max_connections: 10 }, drain));

    let dir = tempfile::tempdir().unwrap();
    let (log, _threads) = UsageLog::open(UsageLogConfig { ship_batch: RECORDS, ..config(dir.path()) }).unwrap();
    for n in 0..RECORDS {
        log.append(&record(n)).await.unwrap();
    }
    let link = HttpControlLink::new(&url, "token-of-the-planes", UpstreamTls::new(None).unwrap()).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    ship(log.clone(), Arc::new(link), stop).await;
    assert_eq!(log.depth(), 0, "it does not come again for ever");
    let kept = std::fs::read_to_string(dir.path().join("rejected.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), RECORDS);
    ended.cancel();
    serving.close();
    serving.wait().await;
}

/// Time passes here as far as nothing else happens.
#[tokio::test(start_paused = true)]
async fn a_control_plane_that_is_busy_is_asked_again_when_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _threads) = UsageLog::open(config(dir.path())).unwrap();
    log.append(&record(1)).await.unwrap();
    let link = Arc::new(RecordingLink::default());
    // Longer than it waits where nobody says, and longer than anyone may say.
    for pause in [Duration::from_secs(20), Duration::from_secs(86_400)] {
        *link.busy.lock().unwrap() = (2, pause);
        log.append(&record(2)).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(ship(log.clone(), link.clone(), stop.clone()));
        while log.depth() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let asked_at = std::mem::take(&mut *link.asked_at.lock().unwrap());
        let waited: Vec<u64> = asked_at.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        assert_eq!(waited, [pause.as_secs().min(60); 2]);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
    assert_eq!(ids(&link), ["1", "2", "2"]);
}

#[tokio::test]
async fn what_a_control_plane_says_of_being_busy_is_understood() {
    let answer = |_: SocketAddr, request: Request<LentBody>| async move {
        let (status, retry_after) = match request.uri().path() {
            "/internal/heartbeat" => (503, Some("7")),
            _ => (503, None),
        };
        let mut response = Response::builder().status(status);
        if let Some(seconds) = retry_after {
            response = response.header("retry-after", seconds);
        }
        response.body(Full::new(Bytes::new())).unwrap()
    };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", tcp.local_addr().unwrap());
    let (serving, ended) = (TaskTracker::new(), CancellationToken::new());
    let drain = Drain { stop: ended.clone(), cut_off: CancellationToken::new(), timeout: Duration::from_secs(1) };
    serving.spawn(listener::serve(tcp, answer, Bounds { name: "control", max_connections: 10 }, drain));
    let link = HttpControlLink::new(&url, "token-of-the-planes", UpstreamTls::new(None).unwrap()).unwrap();
    let heartbeat = GatewayHeartbeat {
        node_id: "g".into(),
        version: "1".into(),
        snapshot_version: 1,
        usage_log_depth: 0,
        seen_at: DateTime::UNIX_EPOCH,
    };
    let busy = link.heartbeat(&heartbeat).await;
    let Err(ControlLinkError::Busy { retry_after }) = busy else { panic!("{busy:?}") };
    assert_eq!(retry_after, Duration::from_secs(7));
    let refused = link.report(&[]).await;
    assert!(matches!(refused, Err(ControlLinkError::Refused(_))), "{refused:?}");
    ended.cancel();
    serving.close();
    serving.wait().await;
}

#[tokio::test]
async fn a_disk_that_takes_little_at_once_gets_whole_records() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::default();
    disk.set(|faults| faults.short_writes = Some(7));
    let (log, _threads) = UsageLog::open_on(config(dir.path()), Arc::new(disk)).unwrap();
    for n in 0..20 {
        log.append(&record(n)).await.unwrap();
    }
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    assert_eq!(ids(&*shipped(log).await), expected);
}

#[tokio::test]
async fn a_control_plane_away_for_long_costs_a_bounded_disk_and_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 4 << 20;
    let settings = UsageLogConfig { max_bytes, ..config(dir.path()) };
    let (log, _threads) = UsageLog::open(settings.clone()).unwrap();
    let link = Arc::new(RecordingLink::default());
    link.set_away(true);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(ship(log.clone(), link.clone(), stop.clone()));
    let mut written = 0_u64;
    while log.check().is_ok() {
        let appends = (written..written + 250).map(|n| {
            let log = log.clone();
            async move { log.append(&record(n)).await.unwrap() }
        });
        futures_util::future::join_all(appends).await;
        written += 250;
    }
    assert!(matches!(log.check(), Err(UsageLogError::Full { .. })));
    assert_eq!(log.depth(), written);
    let bytes_on_disk =
        || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum::<u64>();
    assert!((max_bytes..max_bytes + (1 << 20)).contains(&bytes_on_disk()), "{}", bytes_on_disk());

    link.set_away(false);
    eventually("everything is shipped", || log.depth() == 0).await;
    eventually("calls are served again", || log.check().is_ok()).await;
    let mut counts: HashMap<String, u32> = HashMap::new();
    ids(&link).into_iter().for_each(|id| *counts.entry(id).or_default() += 1);
    assert_eq!(counts.len() as u64, written);
    assert!(counts.values().all(|count| *count == 1), "each exactly once");
    let largest = link.batches.lock().unwrap().iter().copied().max();
    assert_eq!(largest, Some(settings.ship_batch));
    assert!(bytes_on_disk() < 256 << 10, "shipped segments are deleted: {}", bytes_on_disk());
    drop(log);
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
