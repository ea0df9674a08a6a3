//! Request bodies: stored with their records and once, and gone by their time.

use ez_contract::UsageRecord;
use ez_contract::request_body::{BodyEncoding, RequestBody};
use ez_store::log_bodies::{self, LogBody};
use ez_store::logs;

use crate::fixture::{Fixture, at};
use crate::logs::record;

/// Stores records and bodies; how many records were new.
async fn ingest(db: &Fixture, records: &[UsageRecord], bodies: &[LogBody]) -> usize {
    let are_new = logs::ingest_with_bodies(&db.store, records, bodies).await.unwrap();
    are_new.into_iter().filter(|is_new| *is_new).count()
}

fn body(of: &UsageRecord, content: &str) -> LogBody {
    LogBody {
        log_id: of.id.clone(),
        created_at: of.created_at,
        body: RequestBody {
            content: content.to_owned(),
            encoding: BodyEncoding::Text,
            bytes: u64::from(u32::MAX) + 1,
            is_cut: true,
        },
    }
}

pub(crate) async fn a_body_comes_with_its_record_and_once(db: Fixture) {
    let records: Vec<UsageRecord> = (0..300).map(|number| record(number, at(number as i64))).collect();
    let bodies: Vec<LogBody> =
        records.iter().skip(1).map(|record| body(record, &format!("{{\"ü\": \"{}\"}}", record.id))).collect();
    assert_eq!(ingest(&db, &records, &bodies).await, 300);
    let of = async |record: &UsageRecord| log_bodies::get(&db.store, &record.id).await.unwrap();
    assert_eq!(of(&records[0]).await, None);
    for (record, body) in records.iter().skip(1).zip(&bodies) {
        assert_eq!(of(record).await.as_ref(), Some(body));
    }
    // Neither another body of a record that is there, nor one without a record.
    let new = record(300, at(300));
    let late = [body(&records[0], "late"), body(&records[1], "other"), body(&record(301, at(301)), "nobody's")];
    assert_eq!(ingest(&db, &[records[0].clone(), new], &late).await, 1);
    assert_eq!(of(&records[0]).await, None);
    assert_eq!(of(&records[1]).await.as_ref(), Some(&bodies[0]));
    assert_eq!(of(&record(301, at(301))).await, None);
}

pub(crate) async fn bodies_go_by_their_time(db: Fixture) {
    let records: Vec<UsageRecord> = (0..10).map(|number| record(number, at(number as i64))).collect();
    let bodies: Vec<LogBody> = records.iter().map(|record| body(record, "{}")).collect();
    ingest(&db, &records, &bodies).await;
    let delete =
        async |second, limit| db.commit(async |tx| log_bodies::delete_before(tx, at(second), limit).await).await;
    assert_eq!(delete(0, 100).await, 0);
    assert_eq!(delete(5, 3).await, 3, "the oldest first");
    assert_eq!(delete(5, 100).await, 2);
    assert_eq!(delete(5, 100).await, 0);
    let mut left = Vec::new();
    for record in &records {
        left.extend(log_bodies::get(&db.store, &record.id).await.unwrap().map(|body| body.created_at));
    }
    assert_eq!(left, (5..10).map(at).collect::<Vec<_>>());
}
