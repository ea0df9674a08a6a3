//! Alerts: one open one per cause, and their list.

use std::collections::BTreeSet;

use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_store::AlertStatus;
use ez_store::alerts::{self, Alert, AlertCount, AlertCursor, AlertFilter, NewAlert};
use serde_json::json;

use crate::fixture::{Fixture, at};

fn new_alert(fingerprint: &str, second: i64) -> NewAlert {
    NewAlert {
        alert_type: AlertType::ErrorSpike,
        severity: AlertSeverity::Warning,
        title: "calls fail".to_owned(),
        message: "12 of 40 calls failed".to_owned(),
        related_type: Some("key".to_owned()),
        related_id: Some(12),
        related_name: Some("support-bot".to_owned()),
        metadata: json!({"metric": "error_percent", "value": 30.5, "threshold": 10, "window": 300}),
        fingerprint: Some(fingerprint.to_owned()),
        created_at: at(second),
    }
}

async fn create(db: &Fixture, new: NewAlert) -> Alert {
    db.commit(async |tx| alerts::create_unless_open(tx, &new).await).await.unwrap()
}

async fn change(db: &Fixture, alert: &Alert) {
    assert!(db.commit(async |tx| alerts::update(tx, alert).await).await);
}

pub(crate) async fn every_field_comes_back_and_what_may_change_does(db: Fixture) {
    let created = create(&db, new_alert("error_spike:key:12", 0)).await;
    let expected = Alert {
        id: created.id,
        alert_type: AlertType::ErrorSpike,
        severity: AlertSeverity::Warning,
        status: AlertStatus::Active,
        title: "calls fail".to_owned(),
        message: "12 of 40 calls failed".to_owned(),
        related_type: Some("key".to_owned()),
        related_id: Some(12),
        related_name: Some("support-bot".to_owned()),
        metadata: json!({"metric": "error_percent", "value": 30.5, "threshold": 10, "window": 300}),
        fingerprint: Some("error_spike:key:12".to_owned()),
        acked_by: None,
        acked_at: None,
        resolved_at: None,
        last_seen_at: at(0),
        occurrences: 1,
        created_at: at(0),
        updated_at: at(0),
    };
    assert_eq!(created, expected);

    let changed = Alert {
        severity: AlertSeverity::Critical,
        status: AlertStatus::Resolved,
        message: "40 of 40 calls failed".to_owned(),
        metadata: json!({"value": 100}),
        acked_by: Some("admin".to_owned()),
        acked_at: Some(at(1)),
        resolved_at: Some(at(2)),
        last_seen_at: at(3),
        occurrences: 4,
        updated_at: at(5),
        ..expected
    };
    change(&db, &changed).await;
    assert_eq!(alerts::get(&db.store, created.id).await.unwrap(), Some(changed.clone()));
    assert_eq!(alerts::get(&db.store, created.id + 1).await.unwrap(), None);
    let missing = Alert { id: created.id + 1, ..changed };
    assert!(!db.commit(async |tx| alerts::update(tx, &missing).await).await);

    let bare = NewAlert { related_type: None, related_id: None, related_name: None, ..new_alert("", 0) };
    let bare = create(&db, NewAlert { fingerprint: None, ..bare }).await;
    assert_eq!((bare.related_type, bare.related_id, bare.related_name, bare.fingerprint), (None, None, None, None));
}

pub(crate) async fn of_one_cause_one_alert_is_open(db: Fixture) {
    let first = create(&db, new_alert("a", 0)).await;
    let again = async |fingerprint: &str| {
        let new = new_alert(fingerprint, 10);
        db.commit(async |tx| alerts::create_unless_open(tx, &new).await).await
    };
    assert_eq!(again("a").await, None);
    change(&db, &Alert { status: AlertStatus::Acknowledged, last_seen_at: at(7), ..first.clone() }).await;
    assert_eq!(again("a").await, None, "an acknowledged one is open");
    let open = db.commit(async |tx| alerts::get_open_for_update(tx, "a").await).await.unwrap();
    assert_eq!((open.id, open.status), (first.id, AlertStatus::Acknowledged));
    assert_eq!(alerts::newest(&db.store, "a").await.unwrap(), Some(open));

    for status in [AlertStatus::Resolved, AlertStatus::Dismissed] {
        let open = db.commit(async |tx| alerts::get_open_for_update(tx, "a").await).await.unwrap();
        change(&db, &Alert { status, ..open }).await;
        assert_eq!(db.commit(async |tx| alerts::get_open_for_update(tx, "a").await).await, None, "{status}");
        assert!(again("a").await.is_some(), "{status}");
    }
    let newest = alerts::newest(&db.store, "a").await.unwrap().unwrap();
    assert_eq!((newest.status, newest.last_seen_at), (AlertStatus::Active, at(10)));
    assert_eq!(alerts::newest(&db.store, "b").await.unwrap(), None);
    // Whoever writes around it meets the rule of the schema.
    let open = again("b").await.unwrap();
    change(&db, &Alert { status: AlertStatus::Resolved, ..open.clone() }).await;
    assert!(again("b").await.is_some());
    let reopened = Alert { status: AlertStatus::Active, ..open };
    let refusal = db.refusal(async |tx| alerts::update(tx, &reopened).await).await;
    assert_eq!(refusal.to_string(), "another row of alerts has the same fingerprint");
    // Alerts without a cause are each their own.
    for _ in 0..2 {
        create(&db, NewAlert { fingerprint: None, ..new_alert("", 0) }).await;
    }
}

pub(crate) async fn how_bad_open_alerts_are_is_told_by_fingerprint(db: Fixture) {
    use AlertSeverity::{Critical, Info, Warning};

    let quota =
        |fingerprint: &str, second| NewAlert { alert_type: AlertType::QuotaExceeded, ..new_alert(fingerprint, second) };
    create(&db, quota("a", 10)).await;
    let acked = create(&db, quota("b", 20)).await;
    change(&db, &Alert { status: AlertStatus::Acknowledged, severity: Critical, ..acked }).await;
    create(&db, quota("stale", 9)).await;
    let seen_again = create(&db, quota("c", 0)).await;
    change(&db, &Alert { last_seen_at: at(30), severity: Info, ..seen_again }).await;
    for (fingerprint, status) in [("d", AlertStatus::Resolved), ("e", AlertStatus::Dismissed)] {
        let closed = create(&db, quota(fingerprint, 10)).await;
        change(&db, &Alert { status, ..closed }).await;
    }
    create(&db, new_alert("of another type", 10)).await;
    create(&db, NewAlert { fingerprint: None, ..quota("", 10) }).await;
    let told = alerts::open_severities(&db.store, AlertType::QuotaExceeded, at(10)).await.unwrap();
    let expected = [("a", Warning), ("b", Critical), ("c", Info)];
    assert_eq!(told, expected.map(|(fingerprint, severity)| (fingerprint.to_owned(), severity)).into());
}

pub(crate) async fn of_creations_at_once_one_gets_through(db: Fixture) {
    let creating = (0..12).map(|_| {
        let store = db.store.clone();
        tokio::spawn(async move {
            let tx = store.begin().await.unwrap();
            let created = alerts::create_unless_open(&tx, &new_alert("a", 0)).await.unwrap();
            tx.commit().await.unwrap();
            created.is_some()
        })
    });
    let mut created = 0;
    for task in creating.collect::<Vec<_>>() {
        created += usize::from(task.await.unwrap());
    }
    assert_eq!(created, 1);
    let tx = db.store.begin().await.unwrap();
    assert!(alerts::create_unless_open(&tx, &new_alert("b", 0)).await.unwrap().is_some());
    tx.rollback().await.unwrap();
    create(&db, new_alert("b", 0)).await;
}

pub(crate) async fn paging_through_equal_times_neither_skips_nor_repeats(db: Fixture) {
    let mut expected = Vec::new();
    for number in 0..30_i64 {
        expected.push(create(&db, new_alert(&format!("f{number}"), number % 3)).await);
    }
    expected.sort_by_key(|alert| std::cmp::Reverse((alert.created_at, alert.id)));
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = alerts::list(&db.store, &AlertFilter::default(), cursor.as_ref(), 7).await.unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some(AlertCursor { created_at: last.created_at, id: last.id });
        seen.extend(page);
        // What is raised meanwhile is newer, and does not shift what follows.
        create(&db, new_alert(&format!("later-{}", seen.len()), 60)).await;
    }
    assert_eq!(seen, expected);
}

pub(crate) async fn filters_narrow_the_alerts_and_counts_add_up(db: Fixture) {
    assert_eq!(alerts::counts(&db.store).await.unwrap(), []);
    let spike = create(&db, new_alert("a", 10)).await;
    let down = NewAlert {
        alert_type: AlertType::ProviderDown,
        severity: AlertSeverity::Critical,
        related_type: Some("api_key".to_owned()),
        related_id: Some(13),
        ..new_alert("b", 20)
    };
    let down = create(&db, down).await;
    let closed = create(&db, new_alert("c", 30)).await;
    change(&db, &Alert { status: AlertStatus::Dismissed, ..closed.clone() }).await;
    let any = AlertFilter::default;
    for (filter, expected) in [
        (any(), vec![closed.id, down.id, spike.id]),
        (AlertFilter { status: Some(AlertStatus::Active), ..any() }, vec![down.id, spike.id]),
        (AlertFilter { severity: Some(AlertSeverity::Critical), ..any() }, vec![down.id]),
        (AlertFilter { alert_type: Some(AlertType::ErrorSpike), ..any() }, vec![closed.id, spike.id]),
        (AlertFilter { related_type: Some("api_key".to_owned()), ..any() }, vec![down.id]),
        (AlertFilter { related_type: Some("key".to_owned()), related_id: Some(13), ..any() }, vec![]),
        (AlertFilter { related_id: Some(12), ..any() }, vec![closed.id, spike.id]),
        (AlertFilter { fingerprint: Some("b".to_owned()), ..any() }, vec![down.id]),
        (AlertFilter { since: Some(at(20)), until: Some(at(30)), ..any() }, vec![down.id]),
    ] {
        let found = alerts::list(&db.store, &filter, None, 100).await.unwrap();
        assert_eq!(found.iter().map(|alert| alert.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    let counts = alerts::counts(&db.store).await.unwrap();
    let counts: BTreeSet<_> =
        counts.into_iter().map(|AlertCount { status, severity, count }| (status, severity, count)).collect();
    let expected = [
        (AlertStatus::Active, AlertSeverity::Warning, 1),
        (AlertStatus::Active, AlertSeverity::Critical, 1),
        (AlertStatus::Dismissed, AlertSeverity::Warning, 1),
    ];
    assert_eq!(counts, expected.into());
}
