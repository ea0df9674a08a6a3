//! How log records get into the database: what is told of each, and PostgreSQL's table for each day.

use std::time::Duration;

use chrono::TimeDelta;
use ez_contract::UsageRecord;
use ez_store::logs::{self, LogFilter};
use ez_store::{Backend, StoreError, child_keys};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::timeout;

use crate::fixture::{Fixture, at, connect};
use crate::logs::{ingest, ingest_each, record};

/// For what must not wait.
const PROMPT: Duration = Duration::from_secs(20);

fn on_day(number: usize, time: &str) -> UsageRecord {
    record(number, time.parse().unwrap())
}

/// Stores a record, which must wait for nobody.
async fn ingest_promptly(db: &Fixture, record: UsageRecord) {
    let records = [record];
    let ingested = timeout(PROMPT, ingest(&db.store, &records)).await;
    assert_eq!(ingested.expect("it waits for nobody").unwrap(), 1);
}

/// The tables of days, of PostgreSQL.
async fn days(connection: &mut PgConnection) -> Vec<String> {
    let names = "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                 WHERE inhparent = 'logs'::regclass ORDER BY 1";
    sqlx::query_scalar(names).fetch_all(connection).await.unwrap()
}

pub(crate) async fn each_record_is_told_of(db: Fixture) {
    let [a, b, c] = [3, 1, 2].map(|number| record(number, at(0)));
    assert_eq!(ingest_each(&db.store, &[a.clone(), b.clone()]).await.unwrap(), [true, true]);
    let again = [c.clone(), b.clone(), c.clone(), a.clone(), record(0, at(0))];
    assert_eq!(ingest_each(&db.store, &again).await.unwrap(), [true, false, false, false, true]);
    assert_eq!(ingest_each(&db.store, &again).await.unwrap(), [false; 5]);
    assert_eq!(ingest_each(&db.store, &[]).await.unwrap(), Vec::<bool>::new());
}

/// Each has its own place in the grammar of an array.
pub(crate) async fn texts_of_any_kind_come_back(db: Fixture) {
    let texts = [
        "",
        " ",
        "NULL",
        "null",
        ",",
        "{}",
        "{",
        "}",
        "\"",
        "\\",
        "\\\"",
        "a,b",
        "t",
        "\n\r\t\u{1}",
        "модель",
        "'",
        "$1",
        "\u{1f600}",
        "[1:2]={a,b}",
    ];
    let batch: Vec<_> = (0..)
        .zip(texts)
        .map(|(number, text)| UsageRecord {
            error: Some(text.to_owned()),
            model: text.to_owned(),
            cost: None,
            ..record(number, at(0))
        })
        .collect();
    assert_eq!(ingest(&db.store, &batch).await.unwrap(), texts.len() as u64);
    for record in batch {
        assert_eq!(logs::get(&db.store, &record.id).await.unwrap(), Some(record));
    }
}

pub(crate) async fn many_keys_are_counted_at_once(db: Fixture) {
    let master = db.master("acme").await;
    let mut keys = Vec::new();
    for number in 0..37 {
        keys.push(db.child_key(master.id, &format!("sk-{number}")).await);
    }
    // The n-th key is used n times.
    let batch: Vec<_> = (0..)
        .zip(keys.iter().enumerate().flat_map(|(uses, key)| std::iter::repeat_n(key.id, uses)))
        .map(|(number, key_id)| UsageRecord { key_id, ..record(number, at(number as i64)) })
        .collect();
    ingest(&db.store, &batch).await.unwrap();
    for (uses, key) in keys.iter().enumerate() {
        let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
        let last = batch.iter().rev().find(|record| record.key_id == key.id).map(|record| record.created_at);
        assert_eq!((counted.request_count, counted.used_tokens), (uses as u64, 10 * uses as u64));
        assert_eq!(counted.last_used_at, last);
    }
}

pub(crate) async fn a_day_without_records_may_come_late(db: Fixture) {
    let times = ["2026-03-01T00:00:00Z", "2026-02-28T23:59:59.999999Z", "2024-02-29T12:00:00Z", "2026-03-01T23:59:59Z"];
    for (number, time) in times.into_iter().enumerate() {
        assert_eq!(ingest(&db.store, &[on_day(number, time)]).await.unwrap(), 1, "{time}");
    }
    let listed = logs::list(&db.store, &LogFilter::default(), None, 10).await.unwrap();
    let ids: Vec<_> = listed.items.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["log-00003", "log-00000", "log-00001", "log-00002"]);
}

pub(crate) async fn days_are_made_by_several_at_once(db: Fixture) {
    let mut processes = Vec::new();
    for _ in 0..6 {
        processes.push(connect(&db.database).await);
    }
    let ingestions = processes.iter().enumerate().map(|(process, store)| {
        let store = store.clone();
        let day = |day: usize| at(0) + TimeDelta::days(day as i64);
        let batch: Vec<_> = (0..5).map(|number| record(process * 10 + number, day(number))).collect();
        tokio::spawn(async move { ingest(&store, &batch).await.unwrap() })
    });
    for ingestion in ingestions.collect::<Vec<_>>() {
        assert_eq!(ingestion.await.unwrap(), 5);
    }
    for process in processes {
        process.close().await.unwrap();
    }
}

pub(crate) async fn a_day_is_made_while_others_are_written_to(db: Fixture) {
    if db.store.backend() == Backend::Sqlite {
        return;
    }
    ingest(&db.store, &[on_day(1, "2026-03-01T12:00:00Z")]).await.unwrap();
    let mut other = PgConnection::connect(db.database.url()).await.unwrap();
    let mut writing = other.begin().await.unwrap();
    writing.execute("UPDATE logs SET status = 500 WHERE id = 'log-00001'").await.unwrap();
    ingest_promptly(&db, on_day(2, "2026-03-02T12:00:00Z")).await;
    writing.commit().await.unwrap();
    assert_eq!(days(&mut other).await, ["logs_20260301", "logs_20260302"]);
}

pub(crate) async fn a_day_that_was_dropped_is_made_again(db: Fixture) {
    if db.store.backend() == Backend::Sqlite {
        return;
    }
    ingest(&db.store, &[on_day(1, "2026-03-01T12:00:00Z")]).await.unwrap();
    db.sql("DROP TABLE logs_20260301").await;
    let late = [on_day(2, "2026-03-01T13:00:00Z"), on_day(3, "2026-03-02T13:00:00Z")];
    assert_eq!(ingest_each(&db.store, &late).await.unwrap(), [true, true]);
    // One that was only taken aside comes back as it is.
    db.sql("ALTER TABLE logs DETACH PARTITION logs_20260301").await;
    assert_eq!(ingest_each(&db.store, &late).await.unwrap(), [false, false]);
}

pub(crate) async fn the_next_day_is_made_ahead(db: Fixture) {
    if db.store.backend() == Backend::Sqlite {
        return;
    }
    let mut connection = PgConnection::connect(db.database.url()).await.unwrap();
    ingest(&db.store, &[on_day(1, "2026-02-28T21:59:59Z")]).await.unwrap();
    assert_eq!(days(&mut connection).await, ["logs_20260228"]);
    ingest(&db.store, &[on_day(2, "2026-02-28T22:00:00Z")]).await.unwrap();
    assert_eq!(days(&mut connection).await, ["logs_20260228", "logs_20260301"]);
    // From now on nobody is asked: not even a lock on the whole table matters to days that are known.
    let mut holding = connection.begin().await.unwrap();
    holding.execute("LOCK TABLE logs IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    for (number, time) in [(3, "2026-02-28T23:00:00Z"), (4, "2026-03-01T00:00:00Z")] {
        ingest_promptly(&db, on_day(number, time)).await;
    }
    // Nor does it matter where the table of the next day would be made only ahead.
    ingest_promptly(&db, on_day(5, "2026-03-01T23:00:00Z")).await;
    holding.rollback().await.unwrap();
}

pub(crate) async fn a_table_that_is_locked_is_no_fault_of_the_records(db: Fixture) {
    if db.store.backend() == Backend::Sqlite {
        return;
    }
    let mut other = PgConnection::connect(db.database.url()).await.unwrap();
    let mut holding = other.begin().await.unwrap();
    holding.execute("LOCK TABLE logs IN SHARE UPDATE EXCLUSIVE MODE").await.unwrap();
    let record = on_day(1, "2026-03-01T12:00:00Z");
    let refused = ingest(&db.store, std::slice::from_ref(&record)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)) && !refused.is_about_rows(), "{refused:?}");
    holding.rollback().await.unwrap();
    assert_eq!(ingest(&db.store, &[record]).await.unwrap(), 1);
}
