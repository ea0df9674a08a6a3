//! What becomes of changes while Redis is down, or when it comes back without its data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_control::publisher::{publish_due, reconcile};
use ez_control::scheduler::{Job, JobOutcome, SYNC_OUTBOX, Scheduler};
use ez_control::sign_in::{authenticate, login};
use ez_control::{Control, ControlConfig, ControlError, masters, sync};
use ez_store::outbox;
use ez_testkit::database::TestDatabase;
use ez_testkit::redis_server::RedisServer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{ADMIN_TOKEN, Plane, StateSource, assert_too_many, assert_unauthenticated, config, origin};

async fn over(database: TestDatabase) -> (Plane, RedisServer) {
    let redis = RedisServer::start().await;
    let state = StateSource::Redis { url: redis.url(), prefix: String::new() };
    (Plane::over(database, state).await, redis)
}

async fn changes_wait_for_redis_and_converge(database: TestDatabase) {
    let (plane, mut redis) = over(database).await;
    let first = plane.master("first").await.master;
    publish_due(&plane.control).await.unwrap();
    let version = plane.version().await;

    redis.kill();
    let second = plane.master("second").await.master;
    let outcome = publish_due(&plane.control).await;
    assert!(matches!(outcome, Err(ControlError::Unavailable(_))), "{outcome:?}");
    let status = sync::status(&plane.control).await.unwrap();
    assert_eq!((status.outbox_depth, status.snapshot), (1, None));
    assert!(status.state_error.is_some());
    let far = plane.control.now() + Duration::from_secs(60);
    let waiting = outbox::list_due(plane.control.store(), far, 10).await.unwrap();
    assert_eq!((waiting.len(), waiting[0].attempts), (1, 1));
    assert_eq!(waiting[0].next_attempt_at, plane.control.now() + Duration::from_millis(100));
    assert!(waiting[0].last_error.as_deref().unwrap().contains("shared state is unavailable"), "{waiting:?}");
    let outcome = reconcile(&plane.control).await;
    assert!(matches!(outcome, Err(ControlError::Unavailable(_))), "{outcome:?}");

    // It comes back empty: all is published, also what was before.
    redis.restart().await;
    plane.clock.advance(Duration::from_secs(1));
    publish_due(&plane.control).await.unwrap();
    assert_eq!(plane.outbox_depth().await, 0);
    for id in [first.id, second.id] {
        assert!(plane.published(&SnapshotKey::Master(id)).await.is_some());
    }
    assert!(plane.version().await > version, "a gateway must not take it for what it has");
}

#[tokio::test]
async fn changes_wait_for_redis_and_converge_on_sqlite() {
    changes_wait_for_redis_and_converge(TestDatabase::sqlite()).await;
}

#[tokio::test]
async fn changes_wait_for_redis_and_converge_on_postgres() {
    changes_wait_for_redis_and_converge(TestDatabase::postgres().await).await;
}

#[tokio::test]
async fn the_running_publisher_gets_over_an_outage_by_itself() {
    let (plane, mut redis) = over(TestDatabase::sqlite()).await;
    let config = ControlConfig { job_intervals: [(SYNC_OUTBOX, Duration::from_millis(50))].into(), ..config() };
    let (control, _) = Control::prepare(plane.parts_of_another(config).await).await.unwrap();
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(Scheduler::new(control).run(stop.clone()));
    // The clock of the outbox stands still unless it is moved.
    let clock = plane.clock.clone();
    running.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            clock.advance(Duration::from_millis(50));
        }
    });
    let until_published = async |name: &str, id: i64| {
        let is_there = async || match plane.control.state().read_snapshot().await {
            Ok(image) => image.entries.iter().any(|entry| matches!(entry, SnapshotEntry::Master(one) if one.id == id)),
            Err(_) => false,
        };
        let waiting = async {
            while !is_there().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("{name} is missing"));
    };

    let before = plane.master("before").await.master;
    until_published("before", before.id).await;
    redis.kill();
    let during = plane.master("during").await.master;
    tokio::time::sleep(Duration::from_millis(500)).await;
    redis.restart().await;
    until_published("during", during.id).await;
    until_published("before", before.id).await;

    // Lost data is noticed without any change.
    redis.restart().await;
    until_published("before", before.id).await;
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn jobs_run_and_tell_of_themselves_without_redis() {
    let (plane, mut redis) = over(TestDatabase::sqlite()).await;
    let runs = Arc::new(AtomicU64::new(0));
    let counter = runs.clone();
    let job = Job::leased("count", Duration::from_millis(20), move |_| {
        let count = counter.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(count) }
    });
    redis.kill();
    let scheduler = Scheduler::with_jobs(plane.control.clone(), vec![job]);
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    running.spawn(scheduler.clone().run(stop.clone()));
    let twice = async {
        while runs.load(Ordering::SeqCst) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), twice).await.expect("a lease that nobody can grant stops nothing");
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
    let last = scheduler.list().await.remove(0).last_run.unwrap();
    assert_eq!((last.outcome, last.items), (JobOutcome::Succeeded, runs.load(Ordering::SeqCst)));
}

#[tokio::test]
async fn signing_in_works_and_is_limited_without_redis() {
    let (plane, mut redis) = over(TestDatabase::sqlite()).await;
    redis.kill();
    authenticate(&plane.control, ADMIN_TOKEN, &origin()).await.unwrap();
    for _ in 0..10 {
        assert_unauthenticated(login(&plane.control, "guess", &origin()).await);
    }
    for token in ["guess", ADMIN_TOKEN] {
        assert_too_many(login(&plane.control, token, &origin()).await);
    }
    plane.clock.advance(Duration::from_secs(60));
    authenticate(&plane.control, ADMIN_TOKEN, &origin()).await.unwrap();
}

#[tokio::test]
async fn a_damaged_entry_is_published_anew() {
    let (plane, redis) = over(TestDatabase::sqlite()).await;
    let master = plane.master("acme").await.master;
    publish_due(&plane.control).await.unwrap();
    redis.run(&["SET", &format!("auth:master:{}", master.id), "{"]);
    redis.run(&["SET", "auth:master:x", "{}"]);
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!((report.rebuilt, report.repairs), (true, 1));
    assert!(plane.published(&SnapshotKey::Master(master.id)).await.is_some());
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);
}

#[tokio::test]
async fn a_store_that_came_back_with_old_data_is_written_anew_above_what_was_there() {
    let (plane, redis) = over(TestDatabase::sqlite()).await;
    let first = plane.master("first").await.master;
    publish_due(&plane.control).await.unwrap();
    let old = plane.version().await.to_string();
    let second = plane.master("second").await.master;
    publish_due(&plane.control).await.unwrap();
    let newest = plane.version().await;

    // As a Redis does that saved itself a while before it died.
    redis.run(&["HSET", "meta:snapshot", "version", &old, "pending", &old]);
    redis.run(&["DEL", &format!("auth:master:{}", second.id)]);
    assert_eq!(publish_due(&plane.control).await.unwrap(), 0);
    assert!(plane.version().await > newest, "no gateway takes it for what it has");
    for id in [first.id, second.id] {
        assert!(plane.published(&SnapshotKey::Master(id)).await.is_some());
    }
    let version = plane.version().await;
    publish_due(&plane.control).await.unwrap();
    assert_eq!(plane.version().await, version, "once");
}

#[tokio::test]
async fn a_version_that_makes_no_sense_is_written_anew() {
    let (plane, redis) = over(TestDatabase::sqlite()).await;
    let master = plane.master("acme").await.master;
    publish_due(&plane.control).await.unwrap();
    let version = plane.version().await;
    redis.run(&["HSET", "meta:snapshot", "version", "many"]);
    publish_due(&plane.control).await.unwrap();
    assert!(plane.version().await > version);
    assert!(plane.published(&SnapshotKey::Master(master.id)).await.is_some());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_holds_up_no_other() {
    let plane = Plane::scaled_out().await;
    let (broken, whole) = (plane.master("broken").await.master, plane.master("whole").await.master);
    publish_due(&plane.control).await.unwrap();
    for master in [&broken, &whole] {
        let write = plane.write().await;
        masters::revoke_keys(&write, master.id).await.unwrap();
        write.commit().await.unwrap();
    }
    psql(&plane.database, &format!("UPDATE masters SET status = 'broken' WHERE id = {}", broken.id));

    assert_eq!(publish_due(&plane.control).await.unwrap(), 1);
    let epoch = async |id| match plane.published(&SnapshotKey::Master(id)).await {
        Some(SnapshotEntry::Master(master)) => master.epoch,
        other => panic!("no master: {other:?}"),
    };
    assert_eq!((epoch(broken.id).await, epoch(whole.id).await), (1, 2));
    let far = plane.control.now() + Duration::from_secs(60);
    let waiting = outbox::list_due(plane.control.store(), far, 10).await.unwrap();
    let told = waiting[0].last_error.as_deref().unwrap();
    assert!(waiting.len() == 1 && told.contains("masters.status"), "{waiting:?}");

    psql(&plane.database, &format!("UPDATE masters SET status = 'active' WHERE id = {}", broken.id));
    plane.clock.advance(Duration::from_secs(1));
    assert_eq!(publish_due(&plane.control).await.unwrap(), 1);
    assert_eq!(epoch(broken.id).await, 2);
}

/// Edits the database the way that an operator does by hand.
fn psql(database: &TestDatabase, statement: &str) {
    // Its parameters are sqlx's own.
    let url = database.url().split('?').next().unwrap();
    let status = std::process::Command::new("psql").args(["-q", "-d", url, "-c", statement]).status().unwrap();
    assert!(status.success());
}
