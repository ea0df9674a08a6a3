//! Lists of log records over more of them than one page looks at.

use chrono::TimeDelta;
use ez_store::logs::{self, LogCursor, LogFilter, MAX_EXAMINED};

use crate::fixture::{Fixture, at};
use crate::logs::{ingest, record};

/// More than two pages look at.
const RECORDS: u64 = 2 * MAX_EXAMINED + 20_000;

/// Two seconds apart, so that they are of several days.
const APART_MICROS: i64 = 2_000_000;

/// Many records, one every two seconds: all of one request, of master 1 and its key 2 but for the oldest ten, which are of
/// master 7 and its key 70. Of the model `rare` is the oldest of all alone.
async fn many(db: &Fixture) {
    // Makes the days.
    let days: Vec<_> = (0..4).map(|day| record(day, at(0) + TimeDelta::days(i64::try_from(day).unwrap()))).collect();
    ingest(&db.store, &days).await.unwrap();
    db.sql("DELETE FROM logs").await;
    let first_at = at(0).timestamp_micros();
    let rows = format!(
        "INSERT INTO logs (id, request_id, created_at, master_id, key_id, namespace, model, protocol, status, error, \
         stream, ended_by, attempts, latency_ms, usage_source, request_bytes, response_bytes, batch_id, latency_bin) \
         WITH RECURSIVE numbers(n) AS (SELECT CAST(0 AS bigint) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {RECORDS}) \
         SELECT 'log-' || (1000000 + n), 'shared', {first_at} + n * {APART_MICROS}, \
         CASE WHEN n < 10 THEN 7 ELSE 1 END, CASE WHEN n < 10 THEN 70 ELSE 2 END, 'default', \
         CASE WHEN n = 0 THEN 'rare' ELSE 'frequent' END, 'gemini', 500, \
         CASE WHEN n = 0 THEN 'a rare fault' ELSE 'overloaded' END, \
         true, 'upstream', 1, 5, 'exact', 1, 2, 0, 5 FROM numbers"
    );
    db.database.execute(&rows).await;
}

/// Ids on each page, until the last.
async fn walk(db: &Fixture, filter: &LogFilter, limit: u64) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let page = logs::list(&db.store, filter, cursor.as_ref(), limit).await.unwrap();
        pages.push(page.items.into_iter().map(|record| record.id).collect());
        cursor = page.next;
        if cursor.is_none() {
            return pages;
        }
    }
}

pub(crate) async fn a_page_looks_at_a_bounded_number_of_records(db: Fixture) {
    many(&db).await;
    let any = LogFilter::default;
    let rare = || LogFilter { model: Some("rare".to_owned()), ..any() };
    let oldest = "log-1000000".to_owned();
    // Whatever is walked: all, a master's, a key's, a request's, the failing ones.
    for (filter, hit) in [
        (rare(), true),
        (LogFilter { master_id: Some(1), ..rare() }, false),
        (LogFilter { key_id: Some(2), ..rare() }, false),
        (LogFilter { key_id: Some(2), master_id: Some(1), ..rare() }, false),
        (LogFilter { request_id: Some("shared".to_owned()), ..rare() }, true),
        (LogFilter { request_id: Some("shared".to_owned()), master_id: Some(1), ..rare() }, false),
        (LogFilter { error: Some("RARE".to_owned()), ..any() }, true),
        (LogFilter { status: Some(500..=599), ..rare() }, true),
        (LogFilter { group_id: Some(3), ..any() }, false),
        (LogFilter { since: Some(at(0) - TimeDelta::days(3650)), ..rare() }, true),
    ] {
        let pages = walk(&db, &filter, 5).await;
        assert_eq!(pages[..2], [[""; 0]; 2], "{filter:?}: two pages find nothing, and yet are not the last");
        assert_eq!(pages[2], Vec::from_iter(hit.then(|| oldest.clone())), "{filter:?}");
        assert_eq!(pages.len(), 3, "{filter:?}");
    }
    // What no record has to be looked at for is there at once.
    for filter in [
        any(),
        LogFilter { master_id: Some(1), ..any() },
        LogFilter { key_id: Some(2), ..any() },
        LogFilter { key_id: Some(2), master_id: Some(1), ..any() },
        LogFilter { request_id: Some("shared".to_owned()), ..any() },
        LogFilter { until: Some(at(100)), ..any() },
        LogFilter { master_id: Some(7), ..any() },
    ] {
        let page = logs::list(&db.store, &filter, None, 5).await.unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (5, true), "{filter:?}");
    }
}

pub(crate) async fn a_key_of_a_master_has_records_of_that_master_alone(db: Fixture) {
    // As no gateway tells it, but someone with its token may.
    let mut records: Vec<_> = (0..6).map(|number| record(number, at(i64::try_from(number).unwrap()))).collect();
    for (number, record) in records.iter_mut().enumerate() {
        (record.master_id, record.key_id) = (if number % 2 == 0 { 9 } else { 1 }, 5);
    }
    ingest(&db.store, &records).await.unwrap();
    let of_both = LogFilter { master_id: Some(1), key_id: Some(5), ..LogFilter::default() };
    assert_eq!(walk(&db, &of_both, 2).await, [vec!["log-00005", "log-00003"], vec!["log-00001"]]);
    let of_key = LogFilter { key_id: Some(5), ..LogFilter::default() };
    assert_eq!(walk(&db, &of_key, 10).await[0].len(), 6);
}

pub(crate) async fn a_short_page_goes_on_where_it_stopped(db: Fixture) {
    many(&db).await;
    let first = LogFilter { model: Some("rare".to_owned()), ..LogFilter::default() };
    let page = logs::list(&db.store, &first, None, 5).await.unwrap();
    let last_examined = format!("log-{}", 1_000_000 + RECORDS - MAX_EXAMINED);
    assert_eq!(page.next.as_ref().map(|next| next.id.as_str()), Some(last_examined.as_str()));
    // The same place goes on under another filter too, and neither skips nor repeats.
    let frequent = LogFilter { model: Some("frequent".to_owned()), ..LogFilter::default() };
    let page = logs::list(&db.store, &frequent, page.next.as_ref(), 2).await.unwrap();
    let ids: Vec<String> = page.items.into_iter().map(|record| record.id).collect();
    let next = |back: u64| format!("log-{}", 1_000_000 + RECORDS - MAX_EXAMINED - back);
    assert_eq!(ids, [next(1), next(2)]);

    // A range of exactly as many as a page looks at ends with it.
    let since = at(0) + TimeDelta::microseconds(APART_MICROS * i64::try_from(RECORDS - MAX_EXAMINED).unwrap());
    let range = LogFilter { since: Some(since), ..first };
    assert_eq!(walk(&db, &range, 5).await, [[""; 0]]);
    // Deep in the list and beyond its end.
    for (until, expected) in [(at(1), 1), (at(0), 0), (at(-99), 0)] {
        let deep = LogCursor { created_at: until, id: String::new() };
        let page = logs::list(&db.store, &LogFilter::default(), Some(&deep), 5).await.unwrap();
        assert_eq!((page.items.len(), page.next), (expected, None));
    }
}

pub(crate) async fn a_master_sees_no_place_of_another(db: Fixture) {
    many(&db).await;
    let own = LogFilter { master_id: Some(7), ..LogFilter::default() };
    let request_id = || Some("shared".to_owned());
    for filter in [
        LogFilter { request_id: request_id(), ..own.clone() },
        LogFilter { key_id: Some(70), ..own.clone() },
        LogFilter { key_id: Some(70), request_id: request_id(), ..own.clone() },
        LogFilter { status: Some(500..=599), ..own.clone() },
        LogFilter { error: Some("O".to_owned()), ..own.clone() },
    ] {
        let page = logs::list(&db.store, &filter, None, 4).await.unwrap();
        let ids: Vec<String> = page.items.into_iter().map(|record| record.id).collect();
        let next = page.next.map(|next| next.id);
        assert_eq!(ids, ["log-1000009", "log-1000008", "log-1000007", "log-1000006"], "{filter:?}");
        assert_eq!(next.as_deref(), Some("log-1000006"), "{filter:?}");
    }
    // Neither that another's key or request has records, nor how many.
    for filter in [
        LogFilter { key_id: Some(2), ..own.clone() },
        LogFilter { key_id: Some(2), model: Some("frequent".to_owned()), ..own.clone() },
        LogFilter { request_id: request_id(), model: Some("none".to_owned()), ..own.clone() },
        LogFilter { request_id: request_id(), key_id: Some(2), ..own },
    ] {
        let page = logs::list(&db.store, &filter, None, 5).await.unwrap();
        assert_eq!((page.items, page.next), (Vec::new(), None), "{filter:?}");
    }
}
