//! Ingestion: those who hand records in at once share a transaction, and each hears of its own records.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_control::logs::{self, IngestReport};
use ez_control::{Control, ControlConfig, ControlError, Tenant, ingestion};
use ez_store::child_keys;
use ez_store::logs::LogFilter;
use futures_util::poll;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log_records::refuse_model;
use crate::support::{Plane, config, usage_record};

/// A control plane whose writer runs.
struct Writing {
    control: Control,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Writing {
    /// Batches of so many records; fewer wait until the end, as no interval ends in the time of a test. A first record was
    /// handed in and stored, at once.
    async fn start(plane: &Plane, log_batch_size: usize, log_queue_capacity: usize) -> Self {
        let log_flush_interval = Duration::from_secs(3_600);
        let config = ControlConfig { log_batch_size, log_flush_interval, log_queue_capacity, ..config() };
        let (control, _) = Control::prepare(plane.parts_of_another(config).await).await.unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        tasks.spawn(ingestion::run(control.clone(), stop.clone()));
        // It begins.
        tokio::task::yield_now().await;
        let first = logs::ingest(&control, vec![usage_record("first", 1, plane.control.now())]).await;
        assert_eq!(first.map(|report| report.accepted + report.duplicates).unwrap(), 1);
        Self { control, tasks, stop }
    }

    /// Hands records in, which wait then.
    async fn hand_in(&self, records: Vec<UsageRecord>) -> Waiting<'_> {
        let mut waiting: Waiting<'_> = Box::pin(logs::ingest(&self.control, records));
        assert!(poll!(&mut waiting).is_pending());
        waiting
    }

    /// Ends the writer, and waits for that.
    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

type Waiting<'w> = Pin<Box<dyn Future<Output = Result<IngestReport, ControlError>> + 'w>>;

fn records(prefix: &str, numbers: std::ops::Range<usize>, now: DateTime<Utc>) -> Vec<UsageRecord> {
    numbers.map(|number| usage_record(&format!("{prefix}{number:03}"), 1, now)).collect()
}

fn told(report: Result<IngestReport, ControlError>) -> (u64, u64, Vec<(u64, String)>) {
    let report = report.unwrap();
    let rejected = report.rejected.into_iter().map(|one| (one.index, one.id)).collect();
    (report.accepted, report.duplicates, rejected)
}

async fn batches(plane: &Plane) -> usize {
    plane.database.dump().await.lines().filter(|line| line.starts_with("log_batches: ")).count()
}

async fn stored(plane: &Plane) -> usize {
    logs::list(&plane.control, Tenant::Any, LogFilter::default(), None, 10_000).await.unwrap().items.len()
}

pub(crate) async fn those_who_come_at_once_are_stored_together_and_hear_of_their_own(plane: Plane) {
    let now = plane.control.now();
    let writing = Writing::start(&plane, 20, 100).await;
    let mut with_faults = records("a", 0..4, now);
    with_faults[1].status = 42;
    with_faults.push(usage_record("first", 1, now));
    let a = writing.hand_in(with_faults).await;
    let b = writing.hand_in(records("b", 0..6, now)).await;
    let b_again = writing.hand_in(records("b", 4..8, now)).await;
    assert_eq!((stored(&plane).await, batches(&plane).await), (1, 1), "14 are no batch");
    let c = writing.hand_in(records("c", 0..7, now)).await;
    assert_eq!(told(a.await), (3, 1, vec![(1, "a001".to_owned())]));
    assert_eq!(told(b.await), (6, 0, vec![]));
    assert_eq!(told(b_again.await), (2, 2, vec![]));
    assert_eq!(told(c.await), (7, 0, vec![]));
    assert_eq!((stored(&plane).await, batches(&plane).await), (1 + 3 + 8 + 7, 2));
    writing.end().await;
}

pub(crate) async fn a_full_queue_takes_nothing_and_loses_nothing(plane: Plane) {
    let now = plane.control.now();
    let writing = Writing::start(&plane, 15, 10).await;
    let six = writing.hand_in(records("a", 0..6, now)).await;
    let refused = logs::ingest(&writing.control, records("b", 0..5, now)).await;
    let Err(ControlError::Overloaded { retry_after }) = refused else { panic!("{refused:?}") };
    assert!(retry_after >= Duration::from_secs(1));
    let four = writing.hand_in(records("b", 0..4, now)).await;
    logs::ingest(&writing.control, records("b", 4..5, now)).await.unwrap_err();
    assert_eq!(stored(&plane).await, 1);
    writing.end().await;
    assert_eq!((told(six.await), told(four.await)), ((6, 0, vec![]), (4, 0, vec![])));

    // A batch that is larger than the queue would otherwise never be taken.
    let writing = Writing::start(&plane, 15, 10).await;
    let report = logs::ingest(&writing.control, records("c", 0..25, now)).await;
    assert_eq!(told(report), (25, 0, vec![]));
    writing.end().await;
    assert_eq!(stored(&plane).await, 36);
}

pub(crate) async fn what_is_left_by_one_who_went_away_is_stored(plane: Plane) {
    let now = plane.control.now();
    let writing = Writing::start(&plane, 10, 100).await;
    drop(writing.hand_in(records("gone", 0..6, now)).await);
    assert_eq!(told(logs::ingest(&writing.control, records("stays", 0..4, now)).await), (4, 0, vec![]));
    assert_eq!((stored(&plane).await, batches(&plane).await), (11, 2));
    writing.end().await;
}

pub(crate) async fn bad_records_of_one_gateway_hold_up_no_other(plane: Plane) {
    refuse_model(&plane, "poison").await;
    let now = plane.control.now();
    let poisoned = |prefix: &str, count: usize| {
        let mut records = records(prefix, 0..count, now);
        records.iter_mut().for_each(|record| record.model = "poison".to_owned());
        records
    };
    let writing = Writing::start(&plane, 20, 1_000).await;
    let mut one_bad = records("a", 0..10, now);
    one_bad[7].model = "poison".to_owned();
    let (a, b) = (writing.hand_in(one_bad).await, writing.hand_in(poisoned("b", 1)).await);
    let c = writing.hand_in(records("c", 0..9, now)).await;
    assert_eq!(told(a.await), (9, 0, vec![(7, "a007".to_owned())]));
    assert_eq!(told(b.await), (0, 0, vec![(0, "b000".to_owned())]));
    assert_eq!(told(c.await), (9, 0, vec![]));

    // With so many it may not be the records, so they come again; those of others do not wait for that.
    let few = writing.hand_in(records("d", 0..5, now)).await;
    let many = writing.hand_in(poisoned("e", 150)).await;
    let (few, many) = (few.await.unwrap(), many.await);
    assert_eq!(few.accepted + few.duplicates, 5);
    many.unwrap_err();
    assert_eq!(stored(&plane).await, 1 + 9 + 9 + 5);
    writing.end().await;
}

pub(crate) async fn what_waits_is_stored_before_the_end(plane: Plane) {
    let now = plane.control.now();
    let writing = Writing::start(&plane, 100, 1_000).await;
    let waiting = writing.hand_in(records("a", 0..6, now)).await;
    writing.end().await;
    assert_eq!(told(waiting.await), (6, 0, vec![]));
    // Whoever comes even later stores its records itself.
    assert_eq!(told(logs::ingest(&writing.control, records("a", 4..8, now)).await), (2, 2, vec![]));
}

pub(crate) async fn a_database_that_stands_still_holds_up_no_end(plane: Plane) {
    let now = plane.control.now();
    let master = plane.master("acme").await;
    let key = plane.key(master.master.id).await;
    let writing = Writing::start(&plane, 5, 1_000).await;
    // Ingestion waits for whoever holds the key, on SQLite for whoever writes.
    let holding = plane.control.store().begin().await.unwrap();
    child_keys::get_for_update_if_free(&holding, key.key.id).await.unwrap().expect("nobody has it");
    let of_key = |prefix| {
        let mut records = records(prefix, 0..5, now);
        records.iter_mut().for_each(|record| record.key_id = key.key.id);
        records
    };
    let (being_stored, waiting) = (writing.hand_in(of_key("a")).await, writing.hand_in(of_key("b")).await);
    let mut end = pin!(writing.end());
    assert!(poll!(&mut end).is_pending());
    // As long as nothing else happens, time passes.
    tokio::time::pause();
    end.await;
    tokio::time::resume();
    drop(holding);
    for unanswered in [being_stored, waiting] {
        let refused = unanswered.await;
        assert!(matches!(refused, Err(ControlError::Unavailable(_))), "{refused:?}");
    }
    let again = logs::ingest(&plane.control, of_key("a")).await.unwrap();
    assert_eq!(again.accepted + again.duplicates, 5);
}

pub(crate) async fn records_of_absurd_times_are_rejected(plane: Plane) {
    let now = plane.control.now();
    let time = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
    let times = [
        (time("2019-12-31T23:59:59.999Z"), false),
        (time("2020-01-01T00:00:00Z"), true),
        (time("1970-01-01T00:00:00Z"), false),
        (DateTime::<Utc>::MIN_UTC, false),
        (now + TimeDelta::hours(47), true),
        (now + TimeDelta::days(2) + TimeDelta::milliseconds(1), false),
        (time("9999-12-31T00:00:00Z"), false),
        (DateTime::<Utc>::MAX_UTC, false),
    ];
    let batch = times.iter().zip(0..).map(|((time, _), n)| usage_record(&format!("r{n}"), 1, *time)).collect();
    let report = logs::ingest(&plane.control, batch).await.unwrap();
    let rejected: Vec<u64> = report.rejected.iter().map(|one| one.index).collect();
    assert_eq!(rejected, [0, 2, 3, 5, 6, 7]);
    assert!(report.rejected.iter().all(|one| one.reason.contains("`created_at`")), "{report:?}");
    assert_eq!(stored(&plane).await, 2);
}

pub(crate) async fn a_clock_that_is_behind_loses_no_records(plane: Plane) {
    let now = plane.control.now();
    let ahead = |id: &str| usage_record(id, 1, now + TimeDelta::days(3));
    // Nothing tells that it is not the gateway's clock that is wrong.
    let report = logs::ingest(&plane.control, vec![ahead("a")]).await.unwrap();
    assert_eq!((report.accepted, report.rejected.len()), (0, 1));
    plane.clock.set(now + TimeDelta::days(3));
    assert_eq!(logs::ingest(&plane.control, vec![ahead("a")]).await.unwrap().accepted, 1);

    plane.clock.set(now);
    let json = |record: &UsageRecord| serde_json::to_vec(record).unwrap();
    let refused = [
        logs::ingest(&plane.control, vec![ahead("b"), ahead("c")]).await,
        logs::ingest_json(&plane.control, &[json(&ahead("b"))]).await,
    ];
    for refused in refused {
        let Err(ControlError::Busy { message, .. }) = refused else { panic!("{refused:?}") };
        for time in [now, now + TimeDelta::days(3)] {
            assert!(message.contains(&time.format("%Y-%m-%dT%H:%M:%SZ").to_string()), "{message}");
        }
    }
    // Beside others the records are told one by one.
    let report = logs::ingest(&plane.control, vec![ahead("b"), usage_record("d", 1, now)]).await.unwrap();
    assert_eq!((report.accepted, report.rejected.len()), (1, 1));
    plane.clock.set(now + TimeDelta::days(2));
    assert_eq!(logs::ingest(&plane.control, vec![ahead("b"), ahead("c")]).await.unwrap().accepted, 2);
}
