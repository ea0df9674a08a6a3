//! Outbox, audit, settings and idempotency keys.

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use ez_store::audit::NewAuditEntry;
use ez_store::idempotency::{self, Claimed, IdempotencyClaim};
use ez_store::outbox::NewOutboxEntry;
use ez_store::{ActorKind, RecordKind};
use ez_store::{audit, catalogues, masters, outbox, settings};
use serde_json::json;

use crate::fixture::{Fixture, at, new_master};

fn change(record_id: i64, second: i64) -> NewOutboxEntry {
    NewOutboxEntry { kind: RecordKind::Key, record_id, detail: Some("digest".to_owned()), created_at: at(second) }
}

fn entry(record_id: i64) -> NewAuditEntry {
    NewAuditEntry {
        created_at: at(record_id),
        actor_kind: ActorKind::Master,
        actor_id: Some(2),
        action: "update".to_owned(),
        record_kind: RecordKind::ApiKey,
        record_id: Some(record_id),
        before: Some(json!({"weight": 1, "secret": "***"})),
        after: None,
        request_id: Some("req-1".to_owned()),
        client_ip: Some("10.0.0.1".to_owned()),
    }
}

pub(crate) async fn outbox_entries_wait_fail_and_go(db: Fixture) {
    assert_eq!(outbox::oldest_at(&db.store).await.unwrap(), None);
    db.commit(async |tx| {
        outbox::append(tx, &change(1, 0)).await?;
        outbox::append(tx, &change(2, 0)).await?;
        outbox::append(tx, &change(3, 50)).await
    })
    .await;
    let due = outbox::list_due(&db.store, at(0), 10).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.record_id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((due[0].kind, due[0].detail.as_deref(), due[0].attempts), (RecordKind::Key, Some("digest"), 0));
    assert_eq!(outbox::list_due(&db.store, at(50), 1).await.unwrap().len(), 1);
    assert_eq!(outbox::depth(&db.store).await.unwrap(), 3);
    assert_eq!(outbox::oldest_at(&db.store).await.unwrap(), Some(at(0)));

    let ids: Vec<i64> = due.iter().map(|entry| entry.id).collect();
    for _ in 0..2 {
        let noted = db.commit(async |tx| outbox::record_failure(tx, &ids[..1], "no route", at(5)).await).await;
        assert_eq!(noted, 1);
    }
    let due = outbox::list_due(&db.store, at(4), 10).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.record_id).collect::<Vec<_>>(), [2]);
    let retried = outbox::list_due(&db.store, at(5), 10).await.unwrap();
    assert_eq!((retried[0].record_id, retried[0].attempts), (1, 2));
    assert_eq!((retried[0].last_error.as_deref(), retried[0].next_attempt_at), (Some("no route"), at(5)));

    assert_eq!(db.commit(async |tx| outbox::delete(tx, &ids).await).await, 2);
    assert_eq!(db.commit(async |tx| outbox::delete(tx, &ids).await).await, 0);
    assert_eq!(db.commit(async |tx| outbox::delete(tx, &[]).await).await, 0);
    assert_eq!(outbox::depth(&db.store).await.unwrap(), 1);
}

pub(crate) async fn an_outbox_entry_of_a_clock_ahead_does_not_wait_for_that_time(db: Fixture) {
    db.commit(async |tx| outbox::append(tx, &change(1, 3600)).await).await;
    db.commit(async |tx| outbox::append(tx, &change(2, 30)).await).await;
    let due = outbox::list_due(&db.store, at(0), 10).await.unwrap();
    assert_eq!(due.iter().map(|entry| entry.record_id).collect::<Vec<_>>(), [1]);
    assert_eq!(outbox::list_due(&db.store, DateTime::<Utc>::MAX_UTC, 10).await.unwrap().len(), 2);
}

pub(crate) async fn any_number_of_outbox_entries_goes_at_once(db: Fixture) {
    db.commit(async |tx| outbox::append(tx, &change(1, 0)).await).await;
    let first = outbox::list_due(&db.store, at(0), 1).await.unwrap()[0].id;
    let ids: Vec<i64> = (first..first + 40_000).collect();
    assert_eq!(db.commit(async |tx| outbox::record_failure(tx, &ids, "no route", at(5)).await).await, 1);
    assert_eq!(db.commit(async |tx| outbox::delete(tx, &ids).await).await, 1);
}

pub(crate) async fn audit_is_read_newest_first(db: Fixture) {
    for record_id in 1..=5 {
        db.commit(async |tx| audit::append(tx, &entry(record_id)).await).await;
    }
    let newest = audit::list(&db.store, None, 2).await.unwrap();
    assert_eq!(newest[0].entry, entry(5));
    assert_eq!(newest[1].entry, entry(4));
    let rest = audit::list(&db.store, Some(newest[1].id), 100).await.unwrap();
    assert_eq!(rest.iter().map(|found| found.entry.record_id).collect::<Vec<_>>(), [Some(3), Some(2), Some(1)]);
}

pub(crate) async fn many_audit_entries_are_appended_in_order(db: Fixture) {
    let entries: Vec<NewAuditEntry> = (1..=1201).map(entry).collect();
    db.commit(async |tx| audit::append_all(tx, &entries).await).await;
    db.commit(async |tx| audit::append_all(tx, &[]).await).await;
    let newest = audit::list(&db.store, None, 2000).await.unwrap();
    let read: Vec<NewAuditEntry> = newest.into_iter().rev().map(|found| found.entry).collect();
    assert_eq!(read, entries);
}

pub(crate) async fn settings_are_put_and_replaced(db: Fixture) {
    assert_eq!(settings::get(&db.store, "jwt_secret").await.unwrap(), None);
    db.commit(async |tx| settings::put(tx, "jwt_secret", "one").await).await;
    db.commit(async |tx| settings::put(tx, "jwt_secret", "two").await).await;
    assert_eq!(settings::get(&db.store, "jwt_secret").await.unwrap().as_deref(), Some("two"));
    let stands = db.commit(async |tx| settings::put_if_absent(tx, "jwt_secret", "three").await).await;
    assert_eq!(stands, "two");
}

pub(crate) async fn the_first_setting_stands_for_all(db: Fixture) {
    let callers = (0..8).map(|caller| {
        let store = db.store.clone();
        tokio::spawn(async move {
            let tx = store.begin().await.unwrap();
            let stands = settings::put_if_absent(&tx, "admin_token", &format!("of {caller}")).await.unwrap();
            tx.commit().await.unwrap();
            stands
        })
    });
    let mut answers = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        answers.push(caller.await.unwrap());
    }
    let stands = settings::get(&db.store, "admin_token").await.unwrap().unwrap();
    assert!(answers.iter().all(|answer| *answer == stands), "{answers:?}");
}

pub(crate) async fn what_is_rolled_back_leaves_nothing(db: Fixture) {
    for explicitly in [true, false] {
        let tx = db.store.begin().await.unwrap();
        let master = masters::create(&tx, &new_master("acme")).await.unwrap();
        outbox::append(&tx, &change(master.id, 0)).await.unwrap();
        audit::append(&tx, &entry(master.id)).await.unwrap();
        settings::put(&tx, "a", "b").await.unwrap();
        assert_eq!(masters::get(&tx, master.id).await.unwrap().as_ref(), Some(&master), "its own change shows");
        if explicitly {
            tx.rollback().await.unwrap();
        } else {
            drop(tx);
        }
        assert_eq!(masters::list_all(&db.store).await.unwrap(), []);
        assert_eq!(outbox::depth(&db.store).await.unwrap(), 0);
        assert_eq!(audit::list(&db.store, None, 10).await.unwrap(), []);
        assert_eq!(settings::get(&db.store, "a").await.unwrap(), None);
    }
    db.master("acme").await;
}

fn claim_of(scope: &str, key: &str, second: i64) -> IdempotencyClaim {
    IdempotencyClaim {
        scope: scope.to_owned(),
        route: "/v1/tokens".to_owned(),
        key: key.to_owned(),
        request_digest: TokenDigest::of("body"),
        created_at: at(second),
    }
}

pub(crate) async fn a_named_request_is_claimed_once_until_it_expires(db: Fixture) {
    let first = db
        .commit(async |tx| {
            let claimed = idempotency::claim(tx, &claim_of("master:1", "k", 0), at(-100)).await?;
            let Claimed::New(id) = claimed else { panic!("{claimed:?}") };
            assert!(idempotency::settle(tx, id, "{\"id\":7}").await?);
            Ok(id)
        })
        .await;
    let again = db.commit(async |tx| idempotency::claim(tx, &claim_of("master:1", "k", 1), at(-99)).await).await;
    let answer = Some("{\"id\":7}".to_owned());
    assert_eq!(again, Claimed::Before { request_digest: TokenDigest::of("body"), answer });
    for other in [claim_of("master:2", "k", 1), claim_of("master:1", "K", 1)] {
        let claimed = db.commit(async |tx| idempotency::claim(tx, &other, at(-99)).await).await;
        assert!(matches!(claimed, Claimed::New(id) if id != first), "{other:?}: {claimed:?}");
    }
    let expired = db.commit(async |tx| idempotency::claim(tx, &claim_of("master:1", "k", 100), at(0)).await).await;
    assert_eq!(expired, Claimed::New(first));

    assert_eq!(db.commit(async |tx| idempotency::sweep(tx, at(1), 1).await).await, 1);
    assert_eq!(db.commit(async |tx| idempotency::sweep(tx, at(1), 100).await).await, 1);
    assert_eq!(db.commit(async |tx| idempotency::sweep(tx, at(1), 100).await).await, 0);
    assert!(!db.commit(async |tx| idempotency::settle(tx, 999_999, "{}").await).await);
}

pub(crate) async fn of_claims_at_once_one_is_new(db: Fixture) {
    let claims = (0..8).map(|_| {
        let store = db.store.clone();
        tokio::spawn(async move {
            let tx = store.begin().await.unwrap();
            let claimed = idempotency::claim(&tx, &claim_of("admin", "k", 0), at(-100)).await.unwrap();
            if let Claimed::New(id) = claimed {
                assert!(idempotency::settle(&tx, id, "{}").await.unwrap());
            }
            tx.commit().await.unwrap();
            claimed
        })
    });
    let mut new = 0;
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            Claimed::New(_) => new += 1,
            Claimed::Before { answer, .. } => assert_eq!(answer.as_deref(), Some("{}")),
            Claimed::Unsettled => panic!("nothing is swept here"),
        }
    }
    assert_eq!(new, 1);
}

pub(crate) async fn a_setting_is_held_until_the_transaction_ends(db: Fixture) {
    db.commit(async |tx| settings::put(tx, "count", "0").await).await;
    let writers = (0..20).map(|_| {
        let store = db.store.clone();
        tokio::spawn(async move {
            let tx = store.begin().await.unwrap();
            let count: u32 = settings::get_for_update(&tx, "count").await.unwrap().unwrap().parse().unwrap();
            settings::put(&tx, "count", &(count + 1).to_string()).await.unwrap();
            tx.commit().await.unwrap();
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(settings::get(&db.store, "count").await.unwrap().as_deref(), Some("20"));
    assert_eq!(db.commit(async |tx| settings::get_for_update(tx, "other").await).await, None);
}

pub(crate) async fn one_catalogue_stands_at_a_time(db: Fixture) {
    assert_eq!(catalogues::current_id(&db.store).await.unwrap(), None);
    let first = db.commit(async |tx| catalogues::replace(tx, "{}", at(1)).await).await;
    let large = "x".repeat(2 << 20);
    let second = db.commit(async |tx| catalogues::replace(tx, &large, at(2)).await).await;
    assert!(second > first, "an id is never given twice");
    assert_eq!(catalogues::current_id(&db.store).await.unwrap(), Some(second));
    assert_eq!(catalogues::get(&db.store, second).await.unwrap(), Some((large, at(2))));
    assert_eq!(catalogues::get(&db.store, first).await.unwrap(), None);
    assert!(db.commit(async |tx| catalogues::clear(tx).await).await);
    assert!(!db.commit(async |tx| catalogues::clear(tx).await).await);
    assert_eq!(catalogues::current_id(&db.store).await.unwrap(), None);
    let third = db.commit(async |tx| catalogues::replace(tx, "{}", at(3)).await).await;
    assert!(third > second, "not even after all were removed");
}
