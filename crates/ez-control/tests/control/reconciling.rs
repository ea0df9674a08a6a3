//! The full comparison.

use std::sync::Arc;
use std::time::Duration;

use ez_contract::TokenDigest;
use ez_contract::snapshot::{SnapshotChange, SnapshotEntry, SnapshotKey, SnapshotKind};
use ez_control::publisher::{Drift, compare, publish_due, reconcile};
use ez_control::{Control, masters, sync};
use ez_state::{Publication, Scope};
use ez_store::outbox;
use ez_testkit::clock::FakeClock;

use crate::support::{Plane, config, token_of};

pub(crate) async fn drift_is_repaired_and_reported(plane: Plane) {
    let master = plane.master("acme").await.master;
    let issued = plane.key(master.id).await;
    let group = plane.group("openai").await;
    plane.api_key(group.id).await;
    plane.binding(group.id).await;
    publish_due(&plane.control).await.unwrap();
    let whole = plane.control.state().read_snapshot().await.unwrap();
    assert_eq!(whole.entries.len(), 7, "the model and two flags among them");

    // Edited by hand: one differs, one is gone, one should not be there.
    let Some(SnapshotEntry::Master(mut edited)) = plane.published(&SnapshotKey::Master(master.id)).await else {
        panic!("no master");
    };
    edited.epoch = 77;
    let Some(SnapshotEntry::Token(_, token)) = plane.published(&token_of(&issued)).await else { panic!("no token") };
    let forged = TokenDigest::of("forged");
    let changes = vec![
        SnapshotChange::Put(SnapshotEntry::Master(edited)),
        SnapshotChange::Remove(SnapshotKey::Binding("default.m".to_owned())),
        SnapshotChange::Put(SnapshotEntry::Token(forged, token)),
    ];
    let by_hand = Publication { changes, scope: Scope::Changes, base: None };
    let version = plane.control.state().publish("hand", plane.control.now(), by_hand).await.unwrap();

    let report = reconcile(&plane.control).await.unwrap();
    let repaired: Vec<_> = report.repaired.iter().map(|one| (one.kind, one.id.as_str(), one.drift)).collect();
    let (id, forged) = (master.id.to_string(), forged.to_string());
    let mut expected = [
        (SnapshotKind::Binding, "default.m", Drift::Missing),
        (SnapshotKind::Token, forged.as_str(), Drift::Surplus),
        (SnapshotKind::Master, id.as_str(), Drift::Differs),
    ];
    expected.sort_by_key(|one| one.0);
    assert_eq!(repaired, expected);
    assert_eq!((report.repairs, report.entries, report.rebuilt), (3, 7, false));
    assert_eq!(report.version, version + 1);
    let repaired = plane.control.state().read_snapshot().await.unwrap();
    assert_eq!(repaired.entries, whole.entries);
    assert_eq!(sync::status(&plane.control).await.unwrap().last_reconcile.as_ref(), Some(&report));
    let other = plane.another().await;
    assert_eq!(sync::status(&other).await.unwrap().last_reconcile, Some(report), "each control plane knows of it");

    // A clock that is behind does not keep the others from seeing what it found.
    let mut parts = plane.parts_of_another(config()).await;
    parts.clock = Arc::new(FakeClock::now());
    parts.config.node_id = "behind".to_owned();
    plane.clock.advance(Duration::from_secs(3600));
    reconcile(&plane.control).await.unwrap();
    let behind = reconcile(&Control::prepare(parts).await.unwrap().0).await.unwrap();
    assert_eq!(sync::status(&plane.control).await.unwrap().last_reconcile, Some(behind));

    let again = reconcile(&plane.control).await.unwrap();
    assert_eq!((again.repairs, again.version), (0, version + 1), "nothing to repair, nothing published");
}

pub(crate) async fn where_nothing_differs_nobody_is_kept_from_publishing(plane: Plane) {
    let master = plane.master("acme").await.master;
    publish_due(&plane.control).await.unwrap();
    let (state, turn_of_another) = (plane.control.state(), Duration::from_secs(60));
    let turn = state.acquire_lease("publisher", "another", turn_of_another).await.unwrap().unwrap();
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!((report.repairs, report.entries, report.version), (0, 3, plane.version().await));
    assert_eq!(compare(&plane.control).await.unwrap().repairs, 0);

    // What differs is looked at again in turn.
    let removed = vec![SnapshotChange::Remove(SnapshotKey::Master(master.id))];
    let by_hand = Publication { changes: removed, scope: Scope::Changes, base: None };
    state.publish("hand", plane.control.now(), by_hand).await.unwrap();
    state.release_lease(&turn).await.unwrap();
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 1);
    assert!(plane.published(&SnapshotKey::Master(master.id)).await.is_some());
}

pub(crate) async fn changes_under_way_are_no_drift(plane: Plane) {
    let master = plane.master("acme").await.master;
    publish_due(&plane.control).await.unwrap();
    let write = plane.write().await;
    masters::revoke_keys(&write, master.id).await.unwrap();
    write.commit().await.unwrap();
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!((report.repairs, plane.outbox_depth().await), (0, 0));
    let Some(SnapshotEntry::Master(published)) = plane.published(&SnapshotKey::Master(master.id)).await else {
        panic!("no master");
    };
    assert_eq!(published.epoch, 2);

    // One that failed and waits to be tried again is published along, and is no drift either.
    let write = plane.write().await;
    masters::revoke_keys(&write, master.id).await.unwrap();
    write.commit().await.unwrap();
    let (store, now) = (plane.control.store(), plane.control.now());
    let ids: Vec<i64> = outbox::list_due(store, now, 10).await.unwrap().iter().map(|entry| entry.id).collect();
    let tx = store.begin().await.unwrap();
    outbox::record_failure(&tx, &ids, "no luck", now + Duration::from_secs(5)).await.unwrap();
    tx.commit().await.unwrap();
    let version = plane.version().await;
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!((report.repairs, report.version, plane.outbox_depth().await), (0, version + 1, 1));
}

pub(crate) async fn the_first_publication_is_a_whole_snapshot_even_an_empty_one(plane: Plane) {
    assert_eq!(plane.version().await, 0);
    assert_eq!(publish_due(&plane.control).await.unwrap(), 0);
    let first = plane.version().await;
    assert!(first > 0);
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!((report.version, report.entries, report.repairs, report.rebuilt), (first, 2, 0, false));
}

pub(crate) async fn a_record_that_cannot_be_read_is_left_out_and_counted(plane: Plane) {
    let (broken, whole) = (plane.master("broken").await.master, plane.master("whole").await.master);
    let key = plane.key(broken.id).await;
    let group = plane.group("openai").await;
    plane.api_key(group.id).await;
    plane.binding(group.id).await;
    plane.sql("UPDATE masters SET status = 'broken' WHERE name = 'broken'").await;
    plane.sql("UPDATE api_keys SET uuid = 'broken'").await;

    // At start there is nothing to fall back to: one row must not keep all the others from being served.
    publish_due(&plane.control).await.unwrap();
    assert_eq!(plane.published(&SnapshotKey::Master(broken.id)).await, None);
    assert!(plane.published(&SnapshotKey::Master(whole.id)).await.is_some());
    assert!(plane.published(&token_of(&key)).await.is_some());
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!((report.unreadable, report.repairs, report.entries), (2, 0, 5));

    // Nor does a change of such a record that waits to be published.
    let write = plane.write().await;
    masters::revoke_keys(&write, whole.id).await.unwrap();
    write.commit().await.unwrap();
    plane.sql("UPDATE masters SET status = 'broken'").await;
    assert_eq!(reconcile(&plane.control).await.unwrap().unreadable, 3);

    plane.sql("UPDATE masters SET status = 'active'").await;
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!(report.unreadable, 1);
    for id in [broken.id, whole.id] {
        assert!(plane.published(&SnapshotKey::Master(id)).await.is_some());
    }
}
