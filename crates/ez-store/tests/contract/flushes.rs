//! Batches of counts: each is taken once, and counts as the records of its calls would.

use ez_contract::snapshot::Spend;
use ez_contract::status::ApiKeyStatus;
use ez_store::api_keys::{self, ApiKeyTotals, NewApiKey, RequestCounts};
use ez_store::usage::{self, KeyDelta};
use ez_store::{FlushKind, RecordKind, child_keys, flushes};

use crate::fixture::{Fixture, at, new_api_key};

async fn claim(db: &Fixture, kind: FlushKind, batch_id: &str, second: i64) -> bool {
    db.commit(async |tx| flushes::claim(tx, kind, batch_id, at(second)).await).await
}

pub(crate) async fn a_batch_is_new_once_until_it_is_forgotten(db: Fixture) {
    assert!(claim(&db, FlushKind::ApiKeys, "a", 0).await);
    assert!(!claim(&db, FlushKind::ApiKeys, "a", 1).await);
    assert!(claim(&db, FlushKind::Keys, "a", 2).await, "another kind");
    let undone = db.store.begin().await.unwrap();
    assert!(flushes::claim(&undone, FlushKind::ApiKeys, "b", at(0)).await.unwrap());
    undone.rollback().await.unwrap();
    assert!(claim(&db, FlushKind::ApiKeys, "b", 3).await, "the first was undone");

    let sweep = async |second, limit| db.commit(async |tx| flushes::sweep(tx, at(second), limit).await).await;
    assert_eq!(sweep(-1, 10).await, 0);
    assert_eq!(sweep(3, 1).await, 1, "the oldest");
    assert!(claim(&db, FlushKind::ApiKeys, "a", 4).await);
    assert!(!claim(&db, FlushKind::Keys, "a", 4).await);
    assert_eq!(sweep(3, 10).await, 2);
    assert_eq!(sweep(4, 10).await, 1);
}

pub(crate) async fn of_one_batch_at_once_one_is_new(db: Fixture) {
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let store = db.store.clone();
            tokio::spawn(async move {
                let tx = store.begin().await.unwrap();
                let is_new = flushes::claim(&tx, FlushKind::Keys, "a", at(0)).await.unwrap();
                tx.commit().await.unwrap();
                is_new
            })
        })
        .collect();
    let mut new = 0;
    for one in tries {
        new += u32::from(one.await.unwrap());
    }
    assert_eq!(new, 1);
}

pub(crate) async fn use_without_records_counts_like_that_of_records(db: Fixture) {
    let master = db.master("acme").await;
    let key = db.child_key(master.id, "sk-1").await;
    let used = |requests, tokens, quota_tokens, second| KeyDelta {
        key_id: key.id,
        requests,
        tokens,
        quota_tokens,
        last_used_at: at(second),
        cost: Some("0.25".to_owned()),
    };
    // Its quota starts anew at second 60, and last did a day before.
    let before_its_period = -24 * 3600;
    let deltas = [
        used(3, 40, None, 5),
        used(1, 10, Some(4), 2),
        used(1, 7, None, before_its_period),
        KeyDelta { key_id: 9_000, ..used(1, 1, None, 1) },
        KeyDelta { key_id: 8_000, ..used(1, 1, None, 1) },
    ];
    let unknown = db.commit(async |tx| usage::add_deltas(tx, &deltas).await).await;
    assert_eq!(unknown, [8_000, 9_000]);
    let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
    assert_eq!((counted.request_count, counted.used_tokens, counted.last_used_at), (5, 57, Some(at(5))));
    assert_eq!(counted.quota_used, key.quota_used + 44);
    assert_eq!(counted.updated_at, key.updated_at, "use is no change");
    let spent: Vec<Spend> = usage::spend_of(&db.store, master.id).await.unwrap();
    assert_eq!(spent.iter().map(|spend| spend.amount.as_str()).collect::<Vec<_>>(), ["0.75"]);
    let marked = async |kind| usage::list_unpublished(&db.store, kind, 0, 10).await.unwrap();
    assert_eq!((marked(RecordKind::Key).await, marked(RecordKind::Master).await), (vec![key.id], vec![master.id]));

    let senseless = [used(1, u64::MAX, Some(u64::MAX), 6), used(1, u64::MAX, None, 6)];
    db.commit(async |tx| usage::add_deltas(tx, &senseless).await).await;
    let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
    assert_eq!((counted.quota_used, counted.used_tokens), (i64::MAX as u64, i64::MAX as u64));
}

pub(crate) async fn api_keys_add_up_by_state(db: Fixture) {
    assert_eq!(api_keys::totals(&db.store, None).await.unwrap(), []);
    let groups = [db.provider_group("pg1").await, db.provider_group("pg2").await];
    let counts = |successes, failures| RequestCounts { successes, failures, last_used_at: at(0) };
    let mut ids = Vec::new();
    for (group, status, counts) in [
        (0, ApiKeyStatus::Active, counts(5, 1)),
        (0, ApiKeyStatus::Active, counts(0, 0)),
        (0, ApiKeyStatus::AutoDisabled, counts(1, 9)),
        (1, ApiKeyStatus::Active, counts(u64::from(u32::MAX), 2)),
    ] {
        let new = NewApiKey { status, ..new_api_key(groups[group].id, "key") };
        let key = db.commit(async |tx| api_keys::create(tx, &new).await).await;
        assert_eq!(db.commit(async |tx| api_keys::add_requests(tx, &[(key.id, counts)]).await).await, 1);
        ids.push(key.id);
    }
    let totals = |status, api_keys, successes, failures| ApiKeyTotals { status, api_keys, successes, failures };
    let disabled = totals(ApiKeyStatus::AutoDisabled, 1, 1, 9);
    let all = [totals(ApiKeyStatus::Active, 3, u64::from(u32::MAX) + 5, 3), disabled];
    assert_eq!(api_keys::totals(&db.store, None).await.unwrap(), all);
    let of_first = [totals(ApiKeyStatus::Active, 2, 5, 1), disabled];
    assert_eq!(api_keys::totals(&db.store, Some(groups[0].id)).await.unwrap(), of_first);
    assert_eq!(api_keys::totals(&db.store, Some(9_000)).await.unwrap(), []);

    let of = api_keys::groups_of(&db.store, &[ids[3], 9_000, ids[0]]).await.unwrap();
    assert_eq!(Vec::from_iter(of), [(ids[0], groups[0].id), (ids[3], groups[1].id)]);
}

pub(crate) async fn many_are_counted_at_once_and_in_any_order(db: Fixture) {
    let group = db.provider_group("pg1").await;
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(db.commit(async |tx| api_keys::create(tx, &new_api_key(group.id, "key")).await).await.id);
    }
    let counts = |id: i64| {
        let few = u64::try_from(id % 7).unwrap();
        RequestCounts { successes: few + 1, failures: few, last_used_at: at(30) }
    };
    let mut counted: Vec<_> = ids.iter().chain(&[900_000]).map(|id| (*id, counts(*id))).collect();
    assert_eq!(db.commit(async |tx| api_keys::add_requests(tx, &counted).await).await, 300, "one is gone");
    counted.reverse();
    counted.iter_mut().for_each(|(_, counts)| counts.last_used_at = at(20));
    assert_eq!(db.commit(async |tx| api_keys::add_requests(tx, &counted).await).await, 300);
    assert_eq!(db.commit(async |tx| api_keys::add_requests(tx, &[]).await).await, 0);
    for key in api_keys::list_by_group(&db.store, group.id).await.unwrap() {
        let RequestCounts { successes, failures, .. } = counts(key.id);
        let told = (key.total_requests, key.success_requests, key.failure_requests, key.last_used_at);
        assert_eq!(told, (2 * (successes + failures), 2 * successes, 2 * failures, Some(at(30))));
    }
}
