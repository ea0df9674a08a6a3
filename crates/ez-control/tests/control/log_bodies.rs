//! Request bodies: kept with their records while that is wished, and read by those whom the audit names.

use std::collections::BTreeMap;

use ez_contract::request_body::RequestBody;
use ez_control::{Actor, Control, ControlConfig, ControlError, audit, features, log_bodies, logs};
use serde_json::{Value as Json, json};

use crate::support::{Plane, assert_not_found, config, origin, usage_record};

async fn switch(plane: &Plane, is_on: bool) {
    let write = plane.write().await;
    let change = BTreeMap::from([("log_request_body_enabled".to_owned(), json!(is_on))]);
    features::update(&write, &change).await.unwrap();
    write.commit().await.unwrap();
}

/// Hands in a record with a body.
async fn hand_in(control: &Control, id: &str, body: Json) {
    let mut record = serde_json::to_value(usage_record(id, 1, control.now())).unwrap();
    record["request_body"] = body;
    let report = logs::ingest_json(control, &[record.to_string()]).await.unwrap();
    assert_eq!((report.accepted + report.duplicates, report.rejected), (1, Vec::new()));
}

async fn read(control: &Control, id: &str) -> Result<RequestBody, ControlError> {
    log_bodies::read(control, Actor::admin(origin()), id).await.map(|kept| kept.body)
}

fn text(content: &str) -> Json {
    json!({"content": content, "encoding": "text", "bytes": content.len(), "truncated": false})
}

pub(crate) async fn bodies_are_kept_while_the_flag_is_on(plane: Plane) {
    let control = &plane.control;
    hand_in(control, "before", text("canary")).await;
    switch(&plane, true).await;
    hand_in(control, "before", text("canary")).await;
    hand_in(control, "on", text("canary")).await;
    hand_in(control, "on", text("another")).await;
    hand_in(control, "none", Json::Null).await;
    // What is wrong with a body costs no record.
    hand_in(control, "wrong", json!({"content": 7})).await;
    switch(&plane, false).await;
    hand_in(control, "after", text("canary")).await;
    assert_eq!(read(control, "on").await.unwrap(), RequestBody::of(b"canary", 100));
    for id in ["before", "none", "wrong", "after"] {
        let refused = read(control, id).await.unwrap_err();
        assert!(refused.to_string().contains("`log_request_body_enabled` is on"), "{refused}");
        assert_not_found::<()>(Err(refused));
    }
    let nobodys = read(control, "nobody's").await.unwrap_err().to_string();
    assert_eq!(nobodys, "log record nobody's does not exist");
}

pub(crate) async fn a_control_plane_cuts_bodies_to_its_own_bound(plane: Plane) {
    switch(&plane, true).await;
    let bounded = |max_bytes| ControlConfig { log_body_max_bytes: max_bytes, ..config() };
    for (max_bytes, expected) in [(4, Some("can")), (0, None)] {
        let (other, _) = Control::prepare(plane.parts_of_another(bounded(max_bytes)).await).await.unwrap();
        let id = format!("of-{max_bytes}");
        hand_in(&other, &id, text("can\u{fc}ry")).await;
        let kept = read(&other, &id).await.ok();
        assert_eq!(kept.as_ref().map(|body| body.content.as_str()), expected);
        assert!(kept.is_none_or(|body| body.is_cut && body.bytes == 7));
    }
}

pub(crate) async fn who_read_a_body_stands_in_the_audit_and_what_it_said_does_not(plane: Plane) {
    switch(&plane, true).await;
    hand_in(&plane.control, "on", text("canary")).await;
    let before = audit::list(&plane.control, None, 100).await.unwrap().items.len();
    read(&plane.control, "on").await.unwrap();
    let _ = read(&plane.control, "nobody's").await;
    let entries = audit::list(&plane.control, None, 100).await.unwrap().items;
    assert_eq!(entries.len(), before + 1);
    let entry = &entries[0].entry;
    assert_eq!((entry.action.as_str(), entry.record_kind.as_str(), entry.record_id), ("read_body", "log", None));
    assert_eq!((&entry.before, entry.request_id.as_deref()), (&None, Some("req-1")));
    assert_eq!(entry.after, Some(json!({"log_id": "on", "bytes": 6})));
}
