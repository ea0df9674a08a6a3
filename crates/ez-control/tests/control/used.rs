//! Use of quotas and budgets: counted with the records, published now and then, and never taken for drift.

use std::time::Duration;

use ez_contract::UsageRecord;
use ez_contract::snapshot::{MasterSnapshot, SnapshotEntry, Spend};
use ez_contract::status::KeyStatus;
use ez_contract::usage::TokenUsage;
use ez_control::child_keys::{CreateChildKey, IssuedChildKey};
use ez_control::masters::CreateMaster;
use ez_control::{logs, publisher, quota_reset, usage_publication};
use ez_store::QuotaReset;

use crate::support::{Plane, usage_record};

/// What a call of this key used.
fn used(plane: &Plane, id: &str, key: &IssuedChildKey, tokens: u64, cost: Option<&str>) -> UsageRecord {
    UsageRecord {
        key_id: key.key.id,
        tokens: TokenUsage { input_tokens: Some(tokens), ..TokenUsage::default() },
        cost: cost.map(str::to_owned),
        ..usage_record(id, key.key.master_id, plane.control.now())
    }
}

async fn issue(plane: &Plane, quota_limit: u64) -> IssuedChildKey {
    let asked =
        CreateMaster { name: "acme".to_owned(), monthly_budget: Some("250".to_owned()), ..CreateMaster::default() };
    let master = plane.try_master(asked).await.unwrap().master;
    let asked = CreateChildKey {
        quota_limit: Some(quota_limit),
        quota_reset: Some(QuotaReset::Daily),
        ..CreateChildKey::default()
    };
    plane.try_key(master.id, asked).await.unwrap()
}

async fn ingest(plane: &Plane, records: &[UsageRecord]) {
    let report = logs::ingest(&plane.control, records.to_vec()).await.unwrap();
    assert!(report.rejected.is_empty(), "{report:?}");
}

/// Published quota use and state of a key.
async fn published(plane: &Plane, key: &IssuedChildKey) -> (u64, KeyStatus) {
    let token = plane.token_entry(&crate::support::token_of(key)).await.unwrap();
    (token.quota.unwrap().used, token.status)
}

async fn published_master(plane: &Plane, id: i64) -> MasterSnapshot {
    let image = plane.control.state().read_snapshot().await.unwrap();
    let mut masters = image.entries.into_iter().filter_map(|entry| match entry {
        SnapshotEntry::Master(master) if master.id == id => Some(master),
        _ => None,
    });
    masters.next().unwrap()
}

pub(crate) async fn gateways_learn_what_was_counted_of_a_quota(plane: Plane) {
    let key = issue(&plane, 1_000).await;
    plane.publish().await;
    assert_eq!(usage_publication::run_once(&plane.control).await.unwrap(), 0, "nothing was used");
    let batch = [used(&plane, "a", &key, 30, None), used(&plane, "b", &key, 12, None)];
    ingest(&plane, &batch).await;
    ingest(&plane, &batch).await;
    plane.publish().await;
    assert_eq!(published(&plane, &key).await, (0, KeyStatus::Active), "not with each batch");

    assert_eq!(usage_publication::run_once(&plane.control).await.unwrap(), 1);
    plane.publish().await;
    assert_eq!(published(&plane, &key).await, (42, KeyStatus::Active));
    assert_eq!(usage_publication::run_once(&plane.control).await.unwrap(), 0, "once is enough");
}

pub(crate) async fn a_key_that_used_its_quota_up_is_marked_exhausted_and_comes_back(plane: Plane) {
    let key = issue(&plane, 100).await;
    ingest(&plane, &[used(&plane, "a", &key, 99, None)]).await;
    usage_publication::run_once(&plane.control).await.unwrap();
    plane.publish().await;
    assert_eq!(published(&plane, &key).await, (99, KeyStatus::Active));
    ingest(&plane, &[used(&plane, "b", &key, 1, None)]).await;
    usage_publication::run_once(&plane.control).await.unwrap();
    plane.publish().await;
    assert_eq!(published(&plane, &key).await, (100, KeyStatus::Exhausted));
    let entries = ez_store::audit::list(plane.control.store(), None, 100).await.unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.entry.action == "exhaust").count(), 1);

    plane.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(quota_reset::run_once(&plane.control).await.unwrap(), 1);
    plane.publish().await;
    assert_eq!(published(&plane, &key).await, (0, KeyStatus::Active));
}

pub(crate) async fn gateways_learn_what_a_master_spent(plane: Plane) {
    let key = issue(&plane, 1_000).await;
    let master_id = key.key.master_id;
    plane.publish().await;
    assert_eq!(published_master(&plane, master_id).await.spend, None);
    let batch = [used(&plane, "a", &key, 1, Some("0.25")), used(&plane, "b", &key, 1, Some("1.0000025"))];
    ingest(&plane, &batch).await;
    assert_eq!(usage_publication::run_once(&plane.control).await.unwrap(), 2, "the key and its master");
    plane.publish().await;
    let month = plane.control.now().format("%Y-%m").to_string();
    let expected = Spend { month, amount: "1.2500025".to_owned() };
    assert_eq!(published_master(&plane, master_id).await.spend, Some(expected.clone()));

    // A store that lost all gets it again.
    let report = publisher::reconcile(&plane.control).await.unwrap();
    assert_eq!(report.repairs, 0, "{report:?}");
    assert_eq!(published_master(&plane, master_id).await.spend, Some(expected));
}

pub(crate) async fn use_that_is_not_published_yet_is_no_drift(plane: Plane) {
    let key = issue(&plane, 1_000).await;
    plane.publish().await;
    publisher::reconcile(&plane.control).await.unwrap();
    ingest(&plane, &[used(&plane, "a", &key, 5, Some("1"))]).await;
    for _ in 0..2 {
        let report = publisher::reconcile(&plane.control).await.unwrap();
        assert_eq!(report.repairs, 0, "{report:?}");
    }
    usage_publication::run_once(&plane.control).await.unwrap();
    let report = publisher::reconcile(&plane.control).await.unwrap();
    assert_eq!(report.repairs, 0, "{report:?}");
    plane.publish().await;
    assert_eq!(published(&plane, &key).await.0, 5);
}

pub(crate) async fn two_processes_publish_use_once(plane: Plane) {
    let key = issue(&plane, 1_000_000).await;
    let other = plane.another().await;
    for round in 0..10 {
        ingest(&plane, &[used(&plane, &format!("r{round}"), &key, 100, Some("0.01"))]).await;
        let (one, two) = tokio::join!(usage_publication::run_once(&plane.control), usage_publication::run_once(&other));
        one.unwrap();
        two.unwrap();
    }
    usage_publication::run_once(&plane.control).await.unwrap();
    plane.publish().await;
    assert_eq!(published(&plane, &key).await, (1_000, KeyStatus::Active));
    let spent = published_master(&plane, key.key.master_id).await.spend.unwrap();
    assert_eq!(spent.amount, "0.1");
}
