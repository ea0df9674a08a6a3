//! Usage records, the audit's pages, and what is told of gateways.

use std::time::Duration;

use ez_contract::snapshot::GatewayHeartbeat;
use ez_control::logs::{self, IngestReport};
use ez_control::{Tenant, audit, sync};
use ez_store::Backend;
use ez_store::logs::LogFilter;
use serde_json::{Value as Json, json};

use crate::support::{Plane, assert_not_found, usage_record};

/// Hands records in as gateways do.
async fn hand_in(plane: &Plane, records: &[Json]) -> IngestReport {
    let records: Vec<String> = records.iter().map(Json::to_string).collect();
    logs::ingest_json(&plane.control, &records).await.unwrap()
}

pub(crate) async fn ingestion_is_idempotent_and_rejects_one_by_one(plane: Plane) {
    let now = plane.control.now();
    let good = ["a", "b", "c"].map(|id| usage_record(id, 1, now));
    let report = logs::ingest(&plane.control, good[..2].to_vec()).await.unwrap();
    assert_eq!(report, IngestReport { accepted: 2, ..IngestReport::default() });

    let mut records: Vec<_> = good.iter().map(|record| serde_json::to_value(record).unwrap()).collect();
    records.push(records[2].clone());
    let mut wrong_status = records[0].clone();
    wrong_status["id"] = json!("d");
    wrong_status["status"] = json!(42);
    let mut no_id = records[0].clone();
    no_id["id"] = json!("");
    let mut unknown_protocol = records[0].clone();
    unknown_protocol["id"] = json!("e");
    unknown_protocol["protocol"] = json!("smoke-signals");
    records.extend([wrong_status, no_id, unknown_protocol, json!("no record")]);

    let report = hand_in(&plane, &records).await;
    assert_eq!((report.accepted, report.duplicates), (1, 3));
    let rejected: Vec<_> = report.rejected.iter().map(|one| (one.index, one.id.as_str())).collect();
    assert_eq!(rejected, [(4, "d"), (5, ""), (6, "e"), (7, "")]);
    assert!(report.rejected[2].reason.contains("smoke-signals"), "{:?}", report.rejected);
    let again = hand_in(&plane, &records).await;
    assert_eq!((again.accepted, again.duplicates, again.rejected.len()), (0, 4, 4));
    assert_eq!(logs::get(&plane.control, Tenant::Any, "c").await.unwrap(), good[2]);
}

/// Gateways bound what they read of an answer by this.
pub(crate) async fn what_is_told_of_a_rejected_record_is_bounded(plane: Plane) {
    let long = "\u{1}\"\u{1f600}".repeat(10_000);
    let mut records =
        vec![json!({"id": long}), serde_json::to_value(usage_record("a", 1, plane.control.now())).unwrap()];
    records[1]["protocol"] = json!(long);
    records.push(records[1].clone());
    records[2]["id"] = json!(long);
    records[2]["protocol"] = json!("openai-chat");
    let report = hand_in(&plane, &records).await;
    assert_eq!(report.rejected.len(), 3);
    for rejected in &report.rejected {
        let told = serde_json::to_string(rejected).unwrap();
        assert!(told.len() < 2_000, "{} bytes: {told}", told.len());
    }
}

/// Lets the database refuse rows whose model has this name.
pub(crate) async fn refuse_model(plane: &Plane, model: &str) {
    let statements = match plane.control.store().backend() {
        Backend::Sqlite => vec![format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON logs WHEN NEW.model = '{model}'
             BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )],
        Backend::Postgres => vec![
            format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
                 IF NEW.model = ''{model}'' THEN RAISE data_exception; END IF; RETURN NEW; END'"
            ),
            "CREATE TRIGGER refuse BEFORE INSERT ON logs FOR EACH ROW EXECUTE FUNCTION refuse()".to_owned(),
        ],
    };
    for statement in statements {
        plane.database.execute(&statement).await;
    }
}

pub(crate) async fn a_record_that_the_database_refuses_holds_up_no_other(plane: Plane) {
    refuse_model(&plane, "poison").await;
    let now = plane.control.now();
    let mut records: Vec<_> = (0..50).map(|n| usage_record(&format!("r{n:02}"), 1, now)).collect();
    for at in [0, 17, 18, 49] {
        records[at].model = "poison".to_owned();
    }
    let report = logs::ingest(&plane.control, records.clone()).await.unwrap();
    let rejected: Vec<_> = report.rejected.iter().map(|one| (one.index, one.id.as_str())).collect();
    assert_eq!((report.accepted, report.duplicates), (46, 0));
    assert_eq!(rejected, [(0, "r00"), (17, "r17"), (18, "r18"), (49, "r49")]);
    assert!(report.rejected.iter().all(|one| !one.reason.is_empty()), "{report:?}");
    let page = logs::list(&plane.control, Tenant::Any, LogFilter::default(), None, 200).await.unwrap();
    assert_eq!(page.items.len(), 46);

    // Where it takes none, it may be the database that is wrong, and the records must not be given up.
    let refused = [records[0].clone(), records[17].clone()];
    logs::ingest(&plane.control, refused.to_vec()).await.unwrap_err();
    logs::ingest(&plane.control, refused[..1].to_vec()).await.unwrap_err();
    let beside_one_that_is_there = vec![records[0].clone(), records[1].clone()];
    let report = logs::ingest(&plane.control, beside_one_that_is_there).await.unwrap();
    assert_eq!((report.accepted, report.duplicates, report.rejected.len()), (0, 1, 1));
}

pub(crate) async fn a_database_that_is_wrong_itself_rejects_no_record(plane: Plane) {
    let good = usage_record("good", 1, plane.control.now());
    logs::ingest(&plane.control, vec![good.clone()]).await.unwrap();
    plane.database.execute("ALTER TABLE logs RENAME TO elsewhere").await;
    let records = vec![good, usage_record("new", 1, plane.control.now())];
    logs::ingest(&plane.control, records.clone()).await.unwrap_err();
    plane.database.execute("ALTER TABLE elsewhere RENAME TO logs").await;
    let report = logs::ingest(&plane.control, records).await.unwrap();
    assert_eq!((report.accepted, report.duplicates, report.rejected.len()), (1, 1, 0));
}

pub(crate) async fn pages_follow_each_other_within_reach(plane: Plane) {
    let start = plane.control.now();
    let records: Vec<_> = (0..10_u64)
        .map(|n| usage_record(&format!("r{n}"), i64::from(n % 2 == 0), start + Duration::from_secs(n / 4)))
        .collect();
    logs::ingest(&plane.control, records).await.unwrap();

    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = logs::list(&plane.control, Tenant::Any, LogFilter::default(), cursor.as_ref(), 3).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.into_iter().map(|record| record.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["r9", "r8", "r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0"]);

    let asking_for_more = LogFilter { master_id: Some(0), ..LogFilter::default() };
    let own = logs::list(&plane.control, Tenant::Only(1), asking_for_more, None, 5).await.unwrap();
    assert_eq!(own.items.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["r8", "r6", "r4", "r2", "r0"]);
    assert_eq!(own.next, None, "a full last page is the last");
    assert_not_found(logs::get(&plane.control, Tenant::Only(1), "r1").await);
    logs::get(&plane.control, Tenant::Only(1), "r2").await.unwrap();
}

pub(crate) async fn audit_pages_follow_each_other(plane: Plane) {
    for name in ["a", "b", "c"] {
        plane.group(name).await;
    }
    let first = audit::list(&plane.control, None, 2).await.unwrap();
    let second = audit::list(&plane.control, first.next, 2).await.unwrap();
    let name = |entry: &ez_store::audit::AuditEntry| entry.entry.after.as_ref().unwrap()["name"].clone();
    let names: Vec<_> = first.items.iter().chain(&second.items).map(name).collect();
    assert_eq!((names, second.next), (vec![json!("c"), json!("b"), json!("a")], None));
}

pub(crate) async fn sync_status_tells_of_outbox_and_gateways(plane: Plane) {
    plane.group("openai").await;
    plane.clock.advance(Duration::from_secs(5));
    let status = sync::status(&plane.control).await.unwrap();
    assert_eq!((status.outbox_depth, status.oldest_entry_age), (1, Some(Duration::from_secs(5))));
    assert_eq!((status.snapshot.unwrap().version, status.age, status.state_error), (0, None, None));

    ez_control::publisher::publish_due(&plane.control).await.unwrap();
    let lie = plane.control.now() + Duration::from_secs(9999);
    let heartbeat = GatewayHeartbeat {
        node_id: "gw-1".to_owned(),
        version: "0.1.0".to_owned(),
        snapshot_version: 7,
        usage_log_depth: 3,
        seen_at: lie,
    };
    sync::heartbeat(&plane.control, heartbeat).await.unwrap();
    plane.clock.advance(Duration::from_secs(2));
    let status = sync::status(&plane.control).await.unwrap();
    assert_eq!((status.outbox_depth, status.oldest_entry_age), (0, None));
    assert_eq!((status.snapshot.unwrap().publisher.as_str(), status.age), ("control", Some(Duration::from_secs(2))));
    assert_eq!(status.gateways.len(), 1);
    assert_eq!((status.gateways[0].snapshot_version, status.gateways[0].seen_at < lie), (7, true));
}
