//! Webhook deliveries: each attempt is one process's, and nothing grows without bound.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use ez_contract::UsageRecord;
use ez_store::DeliveryStatus;
use ez_store::logs::failing::{self, FailureWindow};
use ez_store::webhook_deliveries::{self, AttemptOutcome, NewDelivery, Trimmed};

use crate::fixture::{Fixture, at};
use crate::logs::{ingest, record};

fn delivery(number: u32, second: i64) -> NewDelivery {
    NewDelivery {
        event_id: format!("msg_{number}"),
        kind: "log.errors".to_owned(),
        payload: format!("{{\"number\":{number}}}"),
        created_at: at(second),
    }
}

fn refused(second: i64, next: Option<i64>) -> AttemptOutcome {
    AttemptOutcome {
        status: if next.is_some() { DeliveryStatus::Pending } else { DeliveryStatus::Failed },
        next_attempt_at: next.map(at),
        answer: Some(503),
        error: Some("the receiver answered 503".to_owned()),
        at: at(second),
    }
}

fn taken(second: i64) -> AttemptOutcome {
    let status = DeliveryStatus::Delivered;
    AttemptOutcome { status, next_attempt_at: None, answer: Some(204), error: None, at: at(second) }
}

async fn append(db: &Fixture, number: u32, second: i64) -> i64 {
    db.commit(async |tx| webhook_deliveries::append(tx, &delivery(number, second)).await).await
}

async fn settle(db: &Fixture, id: i64, attempt: u32, outcome: &AttemptOutcome) -> bool {
    db.commit(async |tx| webhook_deliveries::settle(tx, id, attempt, outcome).await).await
}

pub(crate) async fn a_delivery_waits_fails_and_arrives(db: Fixture) {
    let id = append(&db, 1, 10).await;
    assert!(!webhook_deliveries::is_any_due(&db.store, at(9)).await.unwrap());
    assert!(webhook_deliveries::is_any_due(&db.store, at(10)).await.unwrap());
    let claim = async |second: i64| {
        db.commit(async |tx| webhook_deliveries::claim_due(tx, at(second), at(second + 30), 10).await).await
    };
    assert_eq!(claim(9).await, []);
    let claimed = claim(10).await.remove(0);
    assert_eq!((claimed.id, claimed.event_id.as_str(), claimed.payload.as_str()), (id, "msg_1", "{\"number\":1}"));
    assert_eq!((claimed.attempts, claimed.next_attempt_at), (1, Some(at(40))));
    assert_eq!(claim(39).await, [], "its attempt is under way");
    // The process that had it is gone.
    assert_eq!(claim(40).await[0].attempts, 2);
    assert!(!settle(&db, id, 1, &taken(41)).await, "an attempt that was taken for lost");
    assert!(settle(&db, id, 2, &refused(41, Some(46))).await);
    assert_eq!(claim(45).await, []);
    let again = claim(46).await.remove(0);
    assert_eq!((again.attempts, again.last_status, again.status), (3, Some(503), DeliveryStatus::Pending));
    assert!(settle(&db, id, 3, &taken(47)).await);
    assert!(!settle(&db, id, 3, &refused(48, None)).await, "it ended");
    let listed = webhook_deliveries::list(&db.store, None, 10).await.unwrap().remove(0);
    assert_eq!((listed.status, listed.delivered_at), (DeliveryStatus::Delivered, Some(at(47))));
    assert_eq!((listed.last_status, listed.last_error, listed.next_attempt_at), (Some(204), None, None));
    // As for the outbox: such a time comes from a clock that was wrong.
    append(&db, 2, 10 * 86_400).await;
    assert_eq!(claim(50).await.len(), 1);
}

pub(crate) async fn deliveries_are_claimed_by_one_at_a_time(db: Fixture) {
    for number in 0..20 {
        append(&db, number, 0).await;
    }
    let claims = (0..4).map(|_| {
        let store = db.store.clone();
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            loop {
                let tx = store.begin().await.unwrap();
                let part = webhook_deliveries::claim_due(&tx, at(1), at(31), 3).await.unwrap();
                tx.commit().await.unwrap();
                if part.is_empty() {
                    return claimed;
                }
                claimed.extend(part.into_iter().map(|delivery| delivery.id));
            }
        })
    });
    let mut all = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        all.extend(claim.await.unwrap());
    }
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (20, 20));
    let given_up = db.commit(async |tx| webhook_deliveries::give_up_pending(tx, "switched off").await).await;
    assert_eq!(given_up, 20);
    let listed = webhook_deliveries::list(&db.store, None, 1).await.unwrap().remove(0);
    assert_eq!((listed.status, listed.last_error.as_deref()), (DeliveryStatus::Failed, Some("switched off")));
}

pub(crate) async fn deliveries_are_listed_newest_first_and_go_with_time(db: Fixture) {
    let mut ids = Vec::new();
    for number in 0..6 {
        ids.push(append(&db, number, i64::from(number)).await);
    }
    let tried = db.commit(async |tx| webhook_deliveries::append_tried(tx, &delivery(6, 6), &taken(6)).await).await;
    ids.push(tried);
    ids.reverse();
    let page = async |before, limit| {
        let found = webhook_deliveries::list(&db.store, before, limit).await.unwrap();
        found.into_iter().map(|delivery| delivery.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None, 4).await, ids[..4]);
    assert_eq!(page(Some(ids[3]), 4).await, ids[4..]);
    assert!(settle(&db, ids[6], 0, &taken(7)).await);

    let long_ago = at(-100);
    assert!(!webhook_deliveries::is_trim_due(&db.store, 7, long_ago).await.unwrap());
    assert!(webhook_deliveries::is_trim_due(&db.store, 5, long_ago).await.unwrap());
    let trim = async |keep, before| db.commit(async |tx| webhook_deliveries::trim(tx, keep, before).await).await;
    assert_eq!(trim(5, long_ago).await, Trimmed { ended: 1, pending: 1 });
    assert_eq!(page(None, 10).await, ids[..5]);
    assert!(webhook_deliveries::is_trim_due(&db.store, 5, at(4)).await.unwrap());
    assert_eq!(trim(5, at(4)).await, Trimmed { ended: 0, pending: 2 });
    assert_eq!(page(None, 10).await, ids[..3]);
    assert_eq!(trim(5, at(4)).await, Trimmed::default());
}

pub(crate) async fn failures_are_counted_where_they_ended(db: Fixture) {
    let failed = |number: usize, second: i64, status: u16, error: Option<&str>| UsageRecord {
        status,
        error: error.map(str::to_owned),
        ..record(number, at(second))
    };
    let long = |number, latency_ms| UsageRecord { latency_ms, ..failed(number, 0, 500, None) };
    let records = [
        failed(0, 100, 200, None),
        failed(1, 100, 429, None),
        failed(2, 101, 200, Some("broke off")),
        failed(3, 102, 503, Some("away")),
        failed(4, 90, 503, None),
        failed(5, 160, 503, None),
        // It arrived before the window and ended in it.
        long(6, 101_000),
        long(7, 99_000),
        long(8, u64::MAX),
    ];
    ingest(&db.store, &records).await.unwrap();
    let window = FailureWindow { status: 500, since: at(100), until: at(160) };
    let count = async |window: FailureWindow, most| failing::count(&db.store, &window, most).await.unwrap();
    assert_eq!(count(window, 100).await, 4, "2 and 3, 6 and 8");
    assert_eq!(count(FailureWindow { status: 400, ..window }, 100).await, 5);
    assert_eq!(count(FailureWindow { status: 599, ..window }, 100).await, 2);
    assert_eq!(count(window, 2).await, 2);
    assert_eq!(failing::newest(&db.store, &window).await.unwrap().unwrap().id, "log-00003");
    let earlier = FailureWindow { since: at(100), until: at(101), ..window };
    assert_eq!(failing::newest(&db.store, &earlier).await.unwrap().unwrap().id, "log-00008");
    let later = FailureWindow { since: at(100) + TimeDelta::hours(2), until: at(100) + TimeDelta::hours(3), ..window };
    assert_eq!(failing::newest(&db.store, &later).await.unwrap(), None);
}
