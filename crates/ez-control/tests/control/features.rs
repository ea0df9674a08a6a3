//! Runtime flags.

use std::collections::BTreeMap;

use ez_contract::snapshot::{SnapshotEntry, SnapshotKey};
use ez_control::features::Features;
use ez_control::publisher::reconcile;
use ez_control::{Control, audit, features};
use ez_store::RecordKind;
use serde_json::{Value, json};

use crate::support::{Plane, faults};

const BODIES: &str = "log_request_body_enabled";
const OAUTH: &str = "oauth_providers_acknowledged";

fn wish(flags: &[(&str, Value)]) -> BTreeMap<String, Value> {
    flags.iter().map(|(flag, value)| ((*flag).to_owned(), value.clone())).collect()
}

impl Plane {
    async fn set_flags(&self, flags: &[(&str, Value)]) -> Features {
        let write = self.write().await;
        let set = features::update(&write, &wish(flags)).await.unwrap();
        write.commit().await.unwrap();
        set
    }

    async fn published_flag(&self, flag: &str) -> Option<bool> {
        match self.published(&SnapshotKey::Feature(flag.to_owned())).await {
            Some(SnapshotEntry::Feature(_, value)) => Some(value),
            _ => None,
        }
    }
}

fn flags(bodies: bool, oauth: bool) -> Features {
    Features([(BODIES.to_owned(), bodies), (OAUTH.to_owned(), oauth)].into())
}

pub(crate) async fn flags_are_off_until_set_and_reach_the_snapshot(plane: Plane) {
    assert_eq!(features::get(&plane.control).await.unwrap(), flags(false, false));
    plane.publish().await;
    assert_eq!((plane.published_flag(BODIES).await, plane.published_flag(OAUTH).await), (Some(false), Some(false)));

    assert_eq!(plane.set_flags(&[(BODIES, json!(true))]).await, flags(true, false));
    assert_eq!(plane.set_flags(&[(OAUTH, json!(true))]).await, flags(true, true), "what is not named stays");
    assert_eq!(plane.set_flags(&[]).await, flags(true, true));
    assert_eq!(plane.set_flags(&[(BODIES, json!(false))]).await, flags(false, true));
    assert_eq!(features::get(&plane.control).await.unwrap(), flags(false, true));
    plane.publish().await;
    assert_eq!((plane.published_flag(BODIES).await, plane.published_flag(OAUTH).await), (Some(false), Some(true)));
    assert_eq!(reconcile(&plane.control).await.unwrap().repairs, 0);

    let newest = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((newest.record_kind, newest.record_id), (RecordKind::Feature, None));
    assert_eq!((newest.before, newest.after), (Some(json!(flags(true, true).0)), Some(json!(flags(false, true).0))));

    // A damaged setting is counted, and stops nothing else.
    plane.sql("UPDATE settings SET value = 'broken' WHERE key = 'features'").await;
    let report = reconcile(&plane.control).await.unwrap();
    assert_eq!((report.unreadable, plane.published_flag(OAUTH).await), (1, None));
}

pub(crate) async fn unknown_flags_and_other_values_are_refused(plane: Plane) {
    let write = plane.write().await;
    let wrong = wish(&[(BODIES, json!("true")), (OAUTH, json!(true)), ("a/b~", json!(true)), ("x", Value::Null)]);
    let told = faults(features::update(&write, &wrong).await);
    let expected = [
        format!("/a~1b~0: is no flag; there are: {BODIES}, {OAUTH}"),
        format!("/{BODIES}: must be true or false"),
        format!("/x: is no flag; there are: {BODIES}, {OAUTH}"),
    ];
    assert_eq!(told, expected);
    drop(write);
    assert_eq!(features::get(&plane.control).await.unwrap(), flags(false, false));
}

pub(crate) async fn flags_set_at_once_are_all_kept(plane: Plane) {
    let other = plane.another().await;
    let set = async |control: &Control, flag: &str| {
        let write = control.write(ez_control::Actor::system()).await.unwrap();
        features::update(&write, &wish(&[(flag, json!(true))])).await.unwrap();
        write.commit().await.unwrap();
    };
    tokio::join!(set(&plane.control, BODIES), set(&other, OAUTH));
    assert_eq!(features::get(&plane.control).await.unwrap(), flags(true, true));
}
