//! What usage records add up to: once each, whatever comes twice.

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::snapshot::Spend;
use ez_contract::usage::TokenUsage;
use ez_store::{Backend, QuotaReset, RecordKind, child_keys, logs, masters, usage};
use sqlx::Connection;

use crate::fixture::{Fixture, at, new_child_key, new_master};
use crate::logs::{ingest, record};

/// A record of these with so many tokens of output beside 10 of input.
fn used(number: usize, (master_id, key_id): (i64, i64), output_tokens: u64, cost: Option<&str>) -> UsageRecord {
    let tokens = TokenUsage { input_tokens: Some(10), output_tokens: Some(output_tokens), ..TokenUsage::default() };
    UsageRecord { master_id, key_id, tokens, cost: cost.map(str::to_owned), ..record(number, at(number as i64)) }
}

fn spend(month: &str, amount: &str) -> Spend {
    Spend { month: month.to_owned(), amount: amount.to_owned() }
}

async fn unpublished(db: &Fixture) -> [Vec<i64>; 2] {
    [
        usage::list_unpublished(&db.store, RecordKind::Key, 0, 100).await.unwrap(),
        usage::list_unpublished(&db.store, RecordKind::Master, 0, 100).await.unwrap(),
    ]
}

pub(crate) async fn records_add_up_once(db: Fixture) {
    let master = db.master("acme").await;
    let key = db.child_key(master.id, "sk-1").await;
    let of = (master.id, key.id);
    let batch = vec![
        used(1, of, 5, Some("0.0000001")),
        used(2, of, 0, Some("0.25")),
        // Refused: nothing was used, and the call counts all the same.
        UsageRecord { tokens: TokenUsage::default(), ..used(3, of, 0, None) },
        // No amount, an amount below nothing: the records stand as they are.
        used(4, of, 1, Some("much")),
        used(5, of, 1, Some("-5")),
        // Rounded up to a billionth.
        used(6, of, 1, Some("0.0000000001")),
    ];
    for _ in 0..3 {
        ingest(&db.store, &batch).await.unwrap();
    }
    let mut twice = vec![used(7, of, 20, Some("1"))];
    twice.push(twice[0].clone());
    twice.push(batch[0].clone());
    assert_eq!(ingest(&db.store, &twice).await.unwrap(), 1);

    let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
    let tokens = 15 + 10 + 11 + 11 + 11 + 30;
    assert_eq!((counted.used_tokens, counted.quota_used), (tokens, key.quota_used + tokens));
    assert_eq!((counted.request_count, counted.last_used_at), (7, Some(at(7))));
    let month = at(0).format("%Y-%m").to_string();
    assert_eq!(usage::spend_of(&db.store, master.id).await.unwrap(), [spend(&month, "1.250000101")]);
    assert_eq!(unpublished(&db).await, [vec![key.id], vec![master.id]]);

    // Whose key or master is gone is stored, too.
    assert_eq!(ingest(&db.store, &[used(8, (9_000, 9_000), 1, Some("1"))]).await.unwrap(), 1);
    assert_eq!(unpublished(&db).await, [vec![key.id], vec![master.id]]);
}

pub(crate) async fn overlapping_batches_add_up_once(db: Fixture) {
    let master = db.master("acme").await;
    let mut keys = Vec::new();
    for number in 0..5 {
        keys.push(db.child_key(master.id, &format!("sk-{number}")).await);
    }
    let ids: Vec<i64> = keys.iter().map(|key| key.id).collect();
    let gateways = (0..6).map(|gateway: usize| {
        let (store, ids, master_id) = (db.store.clone(), ids.clone(), master.id);
        tokio::spawn(async move {
            let numbers = gateway * 100..gateway * 100 + 700;
            let mut batch: Vec<_> =
                numbers.map(|number| used(number, (master_id, ids[number % 5]), 1, Some("0.001"))).collect();
            if gateway % 2 == 1 {
                batch.reverse();
            }
            ingest(&store, &batch).await.unwrap()
        })
    });
    for gateway in gateways.collect::<Vec<_>>() {
        gateway.await.unwrap();
    }
    for key in keys {
        let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
        assert_eq!((counted.request_count, counted.used_tokens), (240, 240 * 11));
    }
    // The records are minutes apart at most, and may lie in two months.
    let spent = usage::list_spend(&db.store).await.unwrap().remove(&master.id).unwrap();
    let amounts = spent.iter().map(|spend| spend.amount.parse::<f64>().unwrap());
    assert!((amounts.sum::<f64>() - 1.2).abs() < 1e-9, "{spent:?}");
}

pub(crate) async fn only_what_has_a_quota_or_budget_is_to_be_published(db: Fixture) {
    let mut unlimited = new_master("free");
    unlimited.monthly_budget = None;
    let unlimited = db.commit(async |tx| masters::create(tx, &unlimited).await).await;
    let mut endless = new_child_key(unlimited.id, "sk-1");
    endless.quota_limit = None;
    let endless = db.commit(async |tx| child_keys::create(tx, &endless).await).await;
    let limited = db.child_key(unlimited.id, "sk-2").await;
    let idle = db.child_key(unlimited.id, "sk-3").await;
    let nothing = UsageRecord { tokens: TokenUsage::default(), ..used(3, (unlimited.id, idle.id), 0, None) };
    let records =
        [used(1, (unlimited.id, endless.id), 1, Some("1")), used(2, (unlimited.id, limited.id), 1, None), nothing];
    ingest(&db.store, &records).await.unwrap();
    assert_eq!(unpublished(&db).await, [vec![limited.id], vec![]]);

    db.commit(async |tx| usage::take_unpublished(tx, RecordKind::Key, &[limited.id, 77]).await).await;
    assert_eq!(unpublished(&db).await, [Vec::<i64>::new(), Vec::new()]);
    ingest(&db.store, &[used(4, (unlimited.id, limited.id), 1, None)]).await.unwrap();
    assert_eq!(unpublished(&db).await, [vec![limited.id], vec![]], "marked anew");
}

pub(crate) async fn months_are_kept_apart(db: Fixture) {
    let master = db.master("acme").await;
    let other = db.master("other").await;
    let key = db.child_key(master.id, "sk-1").await;
    let time = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
    let on = |number, created_at: &str, cost| UsageRecord {
        created_at: time(created_at),
        ..used(number, (master.id, key.id), 1, Some(cost))
    };
    let batch = [
        on(1, "2026-10-31T23:59:59.999Z", "5"),
        on(2, "2026-11-01T00:00:00Z", "2"),
        on(3, "2026-09-30T12:00:00Z", "7"),
        on(4, "2026-11-30T12:00:00Z", "0.5"),
    ];
    ingest(&db.store, &batch).await.unwrap();
    let last_two = [spend("2026-11", "2.5"), spend("2026-10", "5")];
    assert_eq!(usage::spend_of(&db.store, master.id).await.unwrap(), last_two);
    assert_eq!(usage::spend_of(&db.store, other.id).await.unwrap(), []);
    let all = usage::list_spend(&db.store).await.unwrap();
    assert_eq!((all.len(), all[&master.id].as_slice()), (1, &last_two[..]));

    // A gateway whose clock is ahead hides nobody's month, and what comes late counts where it belongs.
    let batch = [
        on(5, "2026-12-01T00:00:00.5Z", "0.1"),
        on(6, "2026-10-31T12:00:00Z", "1"),
        on(7, "2026-11-30T23:59:59Z", "1"),
    ];
    ingest(&db.store, &batch).await.unwrap();
    let last_two = [spend("2026-12", "0.1"), spend("2026-11", "3.5")];
    assert_eq!(usage::spend_of(&db.store, master.id).await.unwrap(), last_two);
}

pub(crate) async fn use_counts_in_the_period_of_a_quota_that_it_was_in(db: Fixture) {
    let master = db.master("acme").await;
    let time = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
    // What started anew at the last boundary before the reset to come.
    for (number, reset, since) in [
        (0_usize, QuotaReset::Daily, "2026-11-30T00:00:00Z"),
        (1, QuotaReset::Weekly, "2026-11-24T00:00:00Z"),
        (2, QuotaReset::Monthly, "2026-11-01T00:00:00Z"),
    ] {
        let mut new = new_child_key(master.id, &format!("sk-{number}"));
        (new.quota_reset, new.quota_reset_at, new.quota_used) = (reset, Some(time("2026-12-01T00:00:00Z")), 0);
        let key = db.commit(async |tx| child_keys::create(tx, &new).await).await;
        let on = |place, created_at, output_tokens| UsageRecord {
            created_at,
            ..used(number * 10 + place, (master.id, key.id), output_tokens, None)
        };
        let since = time(since);
        let late = on(0, since - chrono::TimeDelta::microseconds(1), 1_000);
        ingest(&db.store, std::slice::from_ref(&late)).await.unwrap();
        assert_eq!(unpublished(&db).await[0], Vec::<i64>::new(), "nothing that gateways must hear of");
        ingest(&db.store, &[late, on(1, since, 20), on(2, time("2026-12-01T00:00:00Z"), 3)]).await.unwrap();
        let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
        assert_eq!((counted.quota_used, counted.used_tokens), (43, 1_053), "{reset}");
        assert_eq!(logs::tokens_since(&db.store, key.id, since).await.unwrap(), 43);
        assert_eq!(logs::tokens_since(&db.store, key.id, time("2026-12-01T00:00:00Z")).await.unwrap(), 13);
        db.commit(async |tx| usage::take_unpublished(tx, RecordKind::Key, &[key.id]).await).await;
    }
    assert_eq!(logs::tokens_since(&db.store, 9_000, time("2026-11-01T00:00:00Z")).await.unwrap(), 0);
}

/// Upstreams tell the counts, and one that tells nonsense must not keep every other record from being stored.
pub(crate) async fn senseless_counts_stop_at_the_highest_and_block_no_batch(db: Fixture) {
    let master = db.master("acme").await;
    let [key, other] = [db.child_key(master.id, "sk-1").await, db.child_key(master.id, "sk-2").await];
    for number in [1, 2] {
        let batch = [
            used(number * 10, (master.id, key.id), u64::MAX, Some("9000000000")),
            used(number * 10 + 1, (master.id, key.id), u64::MAX, Some("79228162514264337593543950335")),
            used(number * 10 + 2, (master.id, other.id), 5, None),
        ];
        assert_eq!(ingest(&db.store, &batch).await.unwrap(), 3);
    }
    let highest = i64::MAX as u64;
    let counted = child_keys::get(&db.store, key.id).await.unwrap().unwrap();
    assert_eq!((counted.used_tokens, counted.quota_used, counted.request_count), (highest, highest, 4));
    let counted = child_keys::get(&db.store, other.id).await.unwrap().unwrap();
    assert_eq!((counted.used_tokens, counted.request_count), (30, 2));
    let month = at(0).format("%Y-%m").to_string();
    assert_eq!(usage::spend_of(&db.store, master.id).await.unwrap(), [spend(&month, "9223372036.854775807")]);
    assert!(logs::tokens_since(&db.store, key.id, at(0)).await.unwrap() > highest, "as far as floats go");
}

pub(crate) async fn spend_that_is_being_counted_is_not_taken_for_published(db: Fixture) {
    if db.store.backend() == Backend::Sqlite {
        return;
    }
    let master = db.master("acme").await;
    let key = db.child_key(master.id, "sk-1").await;
    ingest(&db.store, &[used(1, (master.id, key.id), 1, Some("1"))]).await.unwrap();
    // An ingestion waits at its very end for as long as someone else holds the lock.
    db.sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NULL; END'",
    )
    .await;
    db.sql(
        "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON logs DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    .await;
    let mut holder = sqlx::PgConnection::connect(db.database.url()).await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(7)").execute(&mut holder).await.unwrap();
    let (store, record) = (db.store.clone(), used(2, (master.id, key.id), 1, Some("2")));
    let counting = tokio::spawn(async move { ingest(&store, &[record]).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut holder).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }

    let taken = db.commit(async |tx| usage::take_unpublished(tx, RecordKind::Master, &[master.id]).await).await;
    assert_eq!(taken, Vec::<i64>::new(), "left to the next time");
    sqlx::query("SELECT pg_advisory_unlock(7)").execute(&mut holder).await.unwrap();
    counting.await.unwrap().unwrap();
    let taken = db.commit(async |tx| usage::take_unpublished(tx, RecordKind::Master, &[master.id, 77]).await).await;
    assert_eq!(taken, [master.id]);
    assert_eq!(unpublished(&db).await, [vec![key.id], vec![]]);
}
