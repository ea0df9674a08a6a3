//! Retention of log records: what goes, what stays, and who waits for it.

use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use ez_store::logs::retention::{
    DayDrop, LogDay, Oldest, count_before, delete_step, drop_day, drop_gone, list_days_before, oldest_of_newest,
};
use ez_store::logs::{self, LogFilter};
use ez_store::rollups::LOGS_DROPPED_BEFORE;
use ez_store::{Backend, Store, settings};
use sqlx::{Connection, Executor};

use crate::fixture::{Fixture, at};
use crate::logs::{ingest, record};

fn day(number: i64) -> DateTime<Utc> {
    at(0).date_naive().and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(number)
}

/// Four records on each of the days, six hours apart, rolled up.
async fn four_a_day(db: &Fixture, days: i64) {
    let times = (0..days * 4).map(|quarter| day(0) + TimeDelta::hours(6 * quarter));
    let records: Vec<_> = (0..).zip(times).map(|(number, time)| record(number, time)).collect();
    ingest(&db.store, &records).await.unwrap();
    db.sql("DELETE FROM log_batches").await;
}

/// Up to when records are gone; none where none ever went.
async fn dropped_before(db: &Fixture) -> Option<DateTime<Utc>> {
    let noted = settings::get(&db.store, LOGS_DROPPED_BEFORE).await.unwrap()?;
    DateTime::from_timestamp_micros(noted.parse().unwrap())
}

async fn ids(store: &Store) -> Vec<String> {
    let page = logs::list(store, &LogFilter::default(), None, 1_000).await.unwrap();
    page.items.into_iter().map(|record| record.id).collect()
}

/// Deletes in steps of `records` what arrived before this time; how many each deleted.
async fn delete_before(db: &Fixture, before: DateTime<Utc>, records: u64) -> Vec<u64> {
    let mut oldest = Oldest { after: None, since: None, before, records };
    let mut deleted = Vec::new();
    loop {
        let step = delete_step(&db.store, &oldest).await.unwrap();
        let Some(end) = step.end else { return deleted };
        deleted.push(step.deleted);
        oldest.after = Some(end);
    }
}

async fn days_before(db: &Fixture, before: DateTime<Utc>) -> Vec<LogDay> {
    list_days_before(&db.store, before).await.unwrap()
}

pub(crate) async fn days_go_at_once_and_others_step_by_step(db: Fixture) {
    four_a_day(&db, 3).await;
    let before = day(2) + TimeDelta::hours(7);
    assert_eq!(dropped_before(&db).await, None);
    let days = days_before(&db, before).await;
    if db.store.backend() == Backend::Postgres {
        assert_eq!(days.len(), 2);
        for day in &days {
            assert!(matches!(drop_day(&db.store, day).await.unwrap(), DayDrop::Dropped(_)));
            // Another replica at the same time.
            assert_eq!(drop_day(&db.store, day).await.unwrap(), DayDrop::Gone);
        }
        assert_eq!(days_before(&db, before).await, []);
        assert_eq!(dropped_before(&db).await, Some(day(2)));
        assert_eq!(delete_before(&db, before, 3).await, [2]);
    } else {
        assert_eq!(days, []);
        assert_eq!(delete_before(&db, before, 3).await, [3, 3, 3, 1]);
    }
    assert_eq!(ids(&db.store).await, ["log-00011", "log-00010"]);
    let noted = dropped_before(&db).await.unwrap();
    assert_eq!(noted, day(2) + TimeDelta::hours(6) + TimeDelta::microseconds(1));
    // It never falls.
    ingest(&db.store, &[record(0, day(0))]).await.unwrap();
    db.sql("DELETE FROM log_batches").await;
    assert_eq!(delete_before(&db, before, 3).await, [1]);
    assert_eq!(dropped_before(&db).await, Some(noted));
    assert_eq!(ids(&db.store).await, ["log-00011", "log-00010"]);
}

pub(crate) async fn what_is_not_rolled_up_stays(db: Fixture) {
    four_a_day(&db, 2).await;
    ingest(&db.store, &[record(99, day(0) + TimeDelta::hours(1))]).await.unwrap();
    for day in days_before(&db, day(1)).await {
        assert_eq!(drop_day(&db.store, &day).await.unwrap(), DayDrop::Standing);
    }
    assert_eq!(dropped_before(&db).await, None);
    assert_eq!(ids(&db.store).await.len(), 9);
    assert_eq!(delete_before(&db, day(1), 2).await, [1, 2, 1]);
    assert_eq!(ids(&db.store).await, ["log-00007", "log-00006", "log-00005", "log-00004", "log-00099"]);
    db.sql("DELETE FROM log_batches").await;
    for day in days_before(&db, day(1)).await {
        assert!(matches!(drop_day(&db.store, &day).await.unwrap(), DayDrop::Dropped(_)));
    }
    delete_before(&db, day(1), 2).await;
    assert_eq!(ids(&db.store).await, ["log-00007", "log-00006", "log-00005", "log-00004"]);
}

/// Someone who reads the day, and an ingestion that has not ended: neither waits, and neither do others behind them.
pub(crate) async fn whoever_is_at_a_day_is_left_alone_and_ingestion_goes_on(db: Fixture) {
    four_a_day(&db, 2).await;
    if db.store.backend() == Backend::Sqlite {
        // There is one who writes at a time, and a step is one of them: it waits its turn, and others wait for it.
        let tx = db.store.begin().await.unwrap();
        let step = Oldest { after: None, since: None, before: day(1), records: 10 };
        let waiting = tokio::time::timeout(Duration::from_millis(20), delete_step(&db.store, &step)).await;
        assert!(waiting.is_err(), "{waiting:?}");
        tx.rollback().await.unwrap();
        ingest(&db.store, &[record(50, day(5))]).await.unwrap();
        assert_eq!(delete_step(&db.store, &step).await.unwrap().deleted, 4);
        return;
    }
    let oldest = days_before(&db, day(1)).await.remove(0);
    let date = day(0).format("%Y%m%d");
    for (number, lock) in [
        format!("LOCK TABLE logs_{date} IN ACCESS SHARE MODE"),
        "LOCK TABLE ONLY logs IN ROW EXCLUSIVE MODE".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut other = sqlx::PgConnection::connect(db.database.url()).await.unwrap();
        other.execute(sqlx::AssertSqlSafe(format!("BEGIN; {lock}"))).await.unwrap();
        let patience = Duration::from_secs(60);
        let held_up = async {
            let (dropped, ingested) = tokio::join!(drop_day(&db.store, &oldest), async {
                ingest(&db.store, &[record(60 + number, day(1))]).await
            },);
            assert_eq!((dropped.unwrap(), ingested.unwrap()), (DayDrop::Busy, 1), "{lock}");
        };
        tokio::time::timeout(patience, held_up).await.expect("nobody waits for who holds the lock");
        other.execute("COMMIT").await.unwrap();
        other.close().await.unwrap();
        db.sql("DELETE FROM log_batches").await;
    }
    assert_eq!(ids(&db.store).await.len(), 10);
    assert!(matches!(drop_day(&db.store, &oldest).await.unwrap(), DayDrop::Dropped(_)));
    assert_eq!(ids(&db.store).await.len(), 6);
}

pub(crate) async fn a_late_record_of_a_day_that_is_gone_is_taken(db: Fixture) {
    four_a_day(&db, 2).await;
    for turn in 0..2 {
        for day in days_before(&db, day(1)).await {
            assert!(matches!(drop_day(&db.store, &day).await.unwrap(), DayDrop::Dropped(_)), "turn {turn}");
        }
        delete_before(&db, day(1), 10).await;
        assert_eq!(ids(&db.store).await.len(), 4);
        let late = record(70, day(0) + TimeDelta::hours(1));
        assert_eq!(ingest(&db.store, &[late]).await.unwrap(), 1);
        assert_eq!(ids(&db.store).await.len(), 5);
        db.sql("DELETE FROM log_batches").await;
    }
}

pub(crate) async fn days_that_were_left_half_gone_are_removed(db: Fixture) {
    four_a_day(&db, 1).await;
    for table in ["logs_gone_20200101", "logs_gone_for_good"] {
        db.database.execute(&format!("CREATE TABLE {table} (id text)")).await;
        db.database.execute(&format!("INSERT INTO {table} VALUES ('of {table}')")).await;
    }
    drop_gone(&db.store).await.unwrap();
    let dump = db.database.dump().await;
    assert!(dump.contains("of logs_gone_for_good"), "no table of ours");
    assert_eq!(dump.contains("of logs_gone_20200101"), db.store.backend() == Backend::Sqlite);
    assert_eq!(ids(&db.store).await.len(), 4);
}

pub(crate) async fn the_newest_records_are_told_from_the_others(db: Fixture) {
    four_a_day(&db, 2).await;
    let oldest = async |most| oldest_of_newest(&db.store, most).await.unwrap();
    assert_eq!(oldest(1).await, Some(day(1) + TimeDelta::hours(18)));
    assert_eq!(oldest(7).await, Some(day(0) + TimeDelta::hours(6)));
    assert_eq!((oldest(8).await, oldest(9).await, oldest(u64::from(u32::MAX)).await), (None, None, None));
    let count = async |before, most| count_before(&db.store, before, most).await.unwrap();
    assert_eq!((count(day(1), 100).await, count(day(1), 3).await, count(day(0), 3).await), (4, 3, 0));
}

pub(crate) async fn an_empty_log_has_nothing_to_drop(db: Fixture) {
    assert_eq!(days_before(&db, day(9_999)).await, []);
    assert_eq!(delete_before(&db, day(9_999), 10).await, [0; 0]);
    assert_eq!(oldest_of_newest(&db.store, 1).await.unwrap(), None);
    assert_eq!(count_before(&db.store, day(9_999), 10).await.unwrap(), 0);
    assert_eq!(dropped_before(&db).await, None);
    drop_gone(&db.store).await.unwrap();
}
