//! Alerts: raising one of each cause, and their life.

use std::time::Duration;

use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use ez_control::alerts::{self, AlertMove, Raised, settle, thresholds};
use ez_control::child_keys::CreateChildKey;
use ez_control::{Actor, Control, ControlError, audit, key_expiry};
use ez_store::AlertStatus;
use ez_store::alerts::{Alert, AlertFilter};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Plane, assert_not_found, conflict, origin};

use AlertSeverity::{Critical, Info, Warning};

impl Plane {
    pub(crate) async fn alerts(&self) -> Vec<Alert> {
        alerts::list(&self.control, &AlertFilter::default(), None, 10_000).await.unwrap().items
    }

    /// The alerts as `fingerprint severity status occurrences`, the oldest first.
    pub(crate) async fn told_alerts(&self) -> Vec<String> {
        let told = |alert: &Alert| {
            let fingerprint = alert.fingerprint.as_deref().unwrap_or("-");
            format!("{fingerprint} {} {} {}", alert.severity, alert.status, alert.occurrences)
        };
        self.alerts().await.iter().rev().map(told).collect()
    }

    async fn settle(&self, id: i64, step: AlertMove) -> Result<Alert, ControlError> {
        let write = self.write().await;
        let settled = settle(&write, id, step).await?;
        write.commit().await?;
        Ok(settled)
    }
}

fn finding(fingerprint: &str, severity: AlertSeverity, message: &str) -> AlertFinding {
    AlertFinding {
        alert_type: AlertType::ErrorSpike,
        severity,
        title: "calls fail".to_owned(),
        message: message.to_owned(),
        related_type: Some("key".to_owned()),
        related_id: Some(12),
        related_name: Some("support-bot".to_owned()),
        metadata: json!({ "said": message }).as_object().cloned().unwrap(),
        fingerprint: fingerprint.to_owned(),
    }
}

async fn raise(control: &Control, finding: &AlertFinding) -> Raised {
    let write = control.write(Actor::system()).await.unwrap();
    let raised = alerts::raise(&write, finding).await.unwrap();
    write.commit().await.unwrap();
    raised
}

pub(crate) async fn a_cause_that_lasts_keeps_its_alert_up_to_date(plane: Plane) {
    let Raised::New(first) = raise(&plane.control, &finding("a", Warning, "one")).await else { panic!("not new") };
    assert_eq!((first.status, first.severity, first.occurrences), (AlertStatus::Active, Warning, 1));
    let raised_at = plane.control.now();
    plane.clock.advance(Duration::from_secs(60));
    let Raised::Updated(second) = raise(&plane.control, &finding("a", Info, "two")).await else { panic!("not open") };
    let expected = Alert {
        message: "two".to_owned(),
        metadata: json!({"said": "two"}),
        last_seen_at: plane.control.now(),
        occurrences: 2,
        ..first.clone()
    };
    assert_eq!(second, expected, "its severity does not fall");

    plane.settle(first.id, AlertMove::Acknowledge).await.unwrap();
    plane.clock.advance(Duration::from_secs(3600));
    let Raised::Rose { alert, from } = raise(&plane.control, &finding("a", Critical, "three")).await else {
        panic!("not worse")
    };
    assert_eq!((from, alert.severity, alert.occurrences), (Warning, Critical, 3));
    assert_eq!((alert.status, alert.updated_at), (AlertStatus::Acknowledged, plane.control.now()));
    assert_eq!((alert.created_at, alert.acked_by.as_deref()), (raised_at, Some("admin")));
    assert!(matches!(raise(&plane.control, &finding("a", Critical, "four")).await, Raised::Updated(_)));
    assert_eq!(plane.told_alerts().await, ["a critical acknowledged 4"]);
}

pub(crate) async fn a_cause_comes_back_once_it_was_not_seen_for_five_minutes(plane: Plane) {
    let again = finding("a", Warning, "again");
    for (round, last) in [AlertMove::Resolve, AlertMove::Dismiss].into_iter().enumerate() {
        let Raised::New(alert) = raise(&plane.control, &again).await else { panic!("not new") };
        plane.clock.advance(Duration::from_secs(240));
        raise(&plane.control, &again).await;
        plane.settle(alert.id, last).await.unwrap();
        for wait in [0, 299] {
            plane.clock.advance(Duration::from_secs(wait));
            assert_eq!(raise(&plane.control, &again).await, Raised::Suppressed, "{wait} s after it was last seen");
        }
        assert_eq!(plane.alerts().await.len(), round + 1);
        assert!(matches!(raise(&plane.control, &finding("b", Info, "")).await, Raised::New(_) | Raised::Updated(_)));
        plane.sql("DELETE FROM alerts WHERE fingerprint = 'b'").await;
        plane.clock.advance(Duration::from_secs(1));
    }
    assert!(matches!(raise(&plane.control, &again).await, Raised::New(_)));
    // A clock that is behind by more than that is not waited for.
    let open = plane.alerts().await.remove(0);
    plane.settle(open.id, AlertMove::Resolve).await.unwrap();
    plane.clock.set(plane.control.now() - Duration::from_secs(3600));
    assert!(matches!(raise(&plane.control, &again).await, Raised::New(_)));
}

pub(crate) async fn replicas_that_see_the_same_at_once_make_one_alert(plane: Plane) {
    let planes = [plane.control.clone(), plane.another().await, plane.another().await];
    for round in 0..3 {
        let mut raising = JoinSet::new();
        for number in 0..24_usize {
            let control = planes[number % planes.len()].clone();
            let severity = if number == 7 { Critical } else { Warning };
            raising.spawn(async move { raise(&control, &finding("a", severity, "at once")).await });
        }
        let outcomes = raising.join_all().await;
        let news = outcomes.iter().filter(|outcome| matches!(outcome, Raised::New(_))).count();
        let rises = outcomes.iter().filter(|outcome| matches!(outcome, Raised::Rose { .. })).count();
        assert!(news == 1 && rises <= 1, "{outcomes:?}");
        let newest = plane.alerts().await.remove(0);
        assert_eq!((newest.occurrences, newest.severity), (24, Critical), "no sighting is lost");
        assert_eq!(plane.alerts().await.len(), round + 1);
        plane.settle(newest.id, AlertMove::Resolve).await.unwrap();
        plane.clock.advance(Duration::from_secs(300));
    }
}

pub(crate) async fn batches_of_the_same_causes_at_once_all_get_through(plane: Plane) {
    const CAUSES: usize = 40;
    let planes = [plane.control.clone(), plane.another().await];
    let mut raising = JoinSet::new();
    for number in 0..8_usize {
        let control = planes[number % planes.len()].clone();
        raising.spawn(async move {
            let mut findings: Vec<_> = (0..CAUSES).map(|cause| finding(&format!("f{cause}"), Warning, "")).collect();
            findings.rotate_left(number * 5);
            let write = control.write(Actor::system()).await.unwrap();
            alerts::raise_all(&write, findings).await.unwrap();
            write.commit().await.unwrap();
        });
    }
    raising.join_all().await;
    let found = plane.alerts().await;
    assert_eq!(found.len(), CAUSES);
    assert!(found.iter().all(|alert| alert.occurrences == 8));
}

pub(crate) async fn an_alert_that_cannot_be_read_keeps_no_other_from_being_raised(plane: Plane) {
    let findings = |message: &str| ["a", "b", "c"].map(|cause| finding(cause, Warning, message)).to_vec();
    let raise_all = async |message: &str| {
        let write = plane.control.write(Actor::system()).await.unwrap();
        let raised = alerts::raise_all(&write, findings(message)).await.unwrap();
        write.commit().await.unwrap();
        raised.len()
    };
    assert_eq!(raise_all("one").await, 3);
    plane.sql("UPDATE alerts SET severity = 'broken' WHERE fingerprint = 'b'").await;
    assert_eq!(raise_all("two").await, 2);
    let reports = findings("three").iter().map(|finding| serde_json::to_value(finding).unwrap()).collect();
    let taken = alerts::take(&plane.control, origin(), reports).await.unwrap();
    assert_eq!((taken.updated, taken.raised, taken.rejected.len()), (2, 0, 0));
    plane.sql("UPDATE alerts SET severity = 'info' WHERE fingerprint = 'b'").await;
    assert_eq!(plane.told_alerts().await, ["a warning active 3", "b info active 1", "c warning active 3"]);
}

pub(crate) async fn thresholds_that_were_damaged_can_be_set_again(plane: Plane) {
    plane.sql("INSERT INTO settings (key, value) VALUES ('alert_thresholds', 'broken')").await;
    let write = plane.write().await;
    let set = thresholds::update(&write, &[("master_rpm".to_owned(), json!(7))].into()).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!((set.master_rpm, set.quota_percent), (7, 90));
    assert_eq!(thresholds::get(&plane.control).await.unwrap(), set);
}

pub(crate) async fn an_alert_that_is_closed_moves_no_more(plane: Plane) {
    use AlertMove::{Acknowledge, Dismiss, Resolve};

    for (path, end, acked) in [
        (&[Resolve][..], AlertStatus::Resolved, false),
        (&[Dismiss], AlertStatus::Dismissed, false),
        (&[Acknowledge, Resolve], AlertStatus::Resolved, true),
        (&[Acknowledge, Acknowledge, Dismiss], AlertStatus::Dismissed, true),
    ] {
        let Raised::New(alert) = raise(&plane.control, &finding(&format!("{path:?}"), Info, "")).await else {
            panic!("not new")
        };
        let mut last = alert;
        for step in path {
            last = plane.settle(last.id, *step).await.unwrap();
        }
        assert_eq!((last.status, last.acked_at.is_some()), (end, acked));
        assert_eq!(last.resolved_at, Some(plane.control.now()));
        for step in [Acknowledge, Resolve, Dismiss] {
            let (message, _) = conflict(plane.settle(last.id, step).await);
            assert_eq!(message, format!("the alert was {end} already, which is final"));
        }
        assert_eq!(alerts::get(&plane.control, last.id).await.unwrap(), last);
    }
    assert_not_found(plane.settle(999, Acknowledge).await);
    let audited = audit::list(&plane.control, None, 100).await.unwrap().items;
    let actions: Vec<&str> = audited.iter().rev().map(|entry| entry.entry.action.as_str()).collect();
    assert_eq!(actions, ["resolve", "dismiss", "acknowledge", "resolve", "acknowledge", "dismiss"]);
    assert_eq!(plane.outbox_depth().await, 0);
    let stats = alerts::stats(&plane.control).await.unwrap();
    assert_eq!((stats.by_status[&AlertStatus::Resolved], stats.by_severity[&Info]), (2, 4));
    assert_eq!(stats.open_by_severity[&Info], 0);
}

pub(crate) async fn what_people_do_at_once_about_one_alert_happens_once(plane: Plane) {
    let Raised::New(alert) = raise(&plane.control, &finding("a", Info, "")).await else { panic!("not new") };
    let mut settling = JoinSet::new();
    for control in [plane.control.clone(), plane.another().await] {
        settling.spawn(async move {
            let write = control.write(Actor::admin(origin())).await.unwrap();
            let settled = settle(&write, alert.id, AlertMove::Resolve).await;
            if settled.is_ok() {
                write.commit().await.unwrap();
            }
            settled.is_ok()
        });
    }
    let settled = settling.join_all().await;
    assert_eq!(settled.iter().filter(|is_settled| **is_settled).count(), 1);
}

pub(crate) async fn keys_that_expire_have_an_alert_the_first_hundred_of_them(plane: Plane) {
    let master = plane.master("acme").await.master;
    let soon = plane.control.now() + Duration::from_secs(60);
    let write = plane.write().await;
    for number in 0..230 {
        let name = Some(format!("key-{number}"));
        let asked = CreateChildKey { name, expires_at: Some(soon), ..CreateChildKey::default() };
        ez_control::child_keys::create(&write, master.id, asked).await.unwrap();
    }
    write.commit().await.unwrap();
    plane.clock.advance(Duration::from_secs(60));
    let before = plane.outbox_depth().await;
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 230);
    assert_eq!(plane.outbox_depth().await - before, 10, "25 keys in a transaction");
    let found = plane.alerts().await;
    assert_eq!(found.len(), 100);
    let first = found.iter().find(|alert| alert.related_name.as_deref() == Some("key-0")).unwrap();
    assert_eq!((first.alert_type, first.severity), (AlertType::KeyExpired, Info));
    let fingerprint = format!("key_expired:key:{}", first.related_id.unwrap());
    assert_eq!(first.fingerprint, Some(fingerprint));
    assert_eq!(key_expiry::run_once(&plane.control).await.unwrap(), 0);
    assert_eq!(plane.alerts().await.len(), 100);
}
