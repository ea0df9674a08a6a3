//! The log cleaner: what it drops, and what it leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::TimeDelta;
use ez_contract::UsageRecord;
use ez_control::log_cleaner::{self, LogDeletion, LogRetention};
use ez_control::{Actor, Control, ControlConfig, Tenant, audit, features, logs};
use ez_store::logs::LogFilter;
use ez_store::rollups::LOGS_DROPPED_BEFORE;
use ez_store::statistics::{self, Grouping, Question, StatisticsFilter};
use ez_store::{Backend, RecordKind, settings};
use serde_json::json;

use crate::support::{Plane, config, faults, origin, usage_record};

const KEEP_ALL: LogRetention = LogRetention { days: None, max_records: None, rollup_days: None };

/// A control plane on the same backends that keeps so much.
async fn keeping(plane: &Plane, log_retention: LogRetention) -> Control {
    let parts = plane.parts_of_another(ControlConfig { log_retention, ..config() }).await;
    Control::prepare(parts).await.unwrap().0
}

/// A record of so many hours ago, rolled up.
fn of_hours_ago(plane: &Plane, hours: i64) -> UsageRecord {
    usage_record(&format!("h{hours:04}"), 1, plane.control.now() - TimeDelta::hours(hours))
}

async fn hand_in(plane: &Plane, hours: impl Iterator<Item = i64>) {
    let records: Vec<UsageRecord> = hours.map(|hours| of_hours_ago(plane, hours)).collect();
    logs::ingest(&plane.control, records).await.unwrap();
    plane.sql("DELETE FROM log_batches").await;
}

/// Up to when records are gone, as it is noted; none where none ever went.
async fn dropped_before(plane: &Plane) -> Option<String> {
    settings::get(plane.control.store(), LOGS_DROPPED_BEFORE).await.unwrap()
}

/// The ids of the records that stand, newest first.
async fn standing(plane: &Plane) -> Vec<String> {
    let page = logs::list(&plane.control, Tenant::Any, LogFilter::default(), None, 200).await.unwrap();
    page.items.into_iter().map(|record| record.id).collect()
}

pub(crate) async fn log_records_go_by_their_age(plane: Plane) {
    hand_in(&plane, (0..6).map(|n| n * 20)).await;
    let two_days = keeping(&plane, LogRetention { days: Some(2), ..KEEP_ALL }).await;
    let dropped = log_cleaner::run_once(&two_days).await.unwrap();
    assert_eq!(standing(&plane).await, ["h0000", "h0020", "h0040"]);
    // Where days go at once, their records are estimated.
    assert!(dropped == 3 || plane.control.store().backend() == Backend::Postgres, "{dropped}");
    assert_eq!(log_cleaner::run_once(&two_days).await.unwrap(), 0);

    // A clock that is set back drops nothing, and takes back nothing of what is known.
    let noted = dropped_before(&plane).await;
    assert!(noted.is_some());
    plane.clock.set(plane.control.now() - TimeDelta::days(3));
    assert_eq!(log_cleaner::run_once(&two_days).await.unwrap(), 0);
    assert_eq!(dropped_before(&plane).await, noted);
    plane.clock.advance(Duration::from_secs(4 * 86_400));
    log_cleaner::run_once(&two_days).await.unwrap();
    assert_eq!(standing(&plane).await, ["h0000", "h0020"]);
}

pub(crate) async fn the_oldest_log_records_beyond_the_maximum_go(plane: Plane) {
    hand_in(&plane, 0..30).await;
    let ten = keeping(&plane, LogRetention { max_records: Some(10), ..KEEP_ALL }).await;
    log_cleaner::run_once(&ten).await.unwrap();
    let left = standing(&plane).await;
    assert_eq!((left.len(), left[9].as_str()), (10, "h0009"));
    assert_eq!(log_cleaner::run_once(&ten).await.unwrap(), 0);
    log_cleaner::run_once(&keeping(&plane, KEEP_ALL).await).await.unwrap();
    assert_eq!(standing(&plane).await, left);
}

pub(crate) async fn what_is_not_rolled_up_is_kept_until_it_is(plane: Plane) {
    let records = (0..4).map(|n| of_hours_ago(&plane, n * 24));
    logs::ingest(&plane.control, records.collect()).await.unwrap();
    let one_day = keeping(&plane, LogRetention { days: Some(1), ..KEEP_ALL }).await;
    assert_eq!(log_cleaner::run_once(&one_day).await.unwrap(), 0);
    assert_eq!(standing(&plane).await.len(), 4);
    assert_eq!(dropped_before(&plane).await, None);
    plane.sql("DELETE FROM log_batches").await;
    log_cleaner::run_once(&one_day).await.unwrap();
    assert_eq!(standing(&plane).await, ["h0000", "h0024"]);
    // One that comes late is taken, and goes with the next run.
    hand_in(&plane, 90..91).await;
    assert_eq!(standing(&plane).await, ["h0000", "h0024", "h0090"]);
    log_cleaner::run_once(&one_day).await.unwrap();
    assert_eq!(standing(&plane).await, ["h0000", "h0024"]);
}

pub(crate) async fn cleaners_at_once_drop_each_record_once(plane: Plane) {
    // Yesterday and before: whole days, and a part of one.
    hand_in(&plane, 0..150).await;
    let retention = LogRetention { days: Some(1), ..KEEP_ALL };
    let cleaners = [keeping(&plane, retention).await, keeping(&plane, retention).await];
    let (one, two) = tokio::join!(log_cleaner::run_once(&cleaners[0]), log_cleaner::run_once(&cleaners[1]));
    let dropped = one.unwrap() + two.unwrap();
    assert_eq!(standing(&plane).await.len(), 25);
    assert!(dropped <= 125, "{dropped}");
}

pub(crate) async fn a_deletion_is_carried_out_by_the_cleaner(plane: Plane) {
    hand_in(&plane, 0..12).await;
    let keeps_all = keeping(&plane, KEEP_ALL).await;
    let before = plane.control.now() - TimeDelta::hours(4);
    let write = plane.write().await;
    let to_come = log_cleaner::delete_before(&write, plane.control.now() + TimeDelta::microseconds(1)).await;
    assert!(faults(to_come)[0].starts_with("/before: must not be a time to come"));
    drop(write);

    let dry = plane.control.write(Actor::admin(origin())).await.unwrap().dry_run(true);
    let expected = LogDeletion { before, records: 7, has_more: false };
    assert_eq!(log_cleaner::delete_before(&dry, before).await.unwrap(), expected);
    dry.commit().await.unwrap();
    assert_eq!(log_cleaner::run_once(&keeps_all).await.unwrap(), 0);
    assert_eq!(standing(&plane).await.len(), 12);

    let write = plane.write().await;
    assert_eq!(log_cleaner::delete_before(&write, before).await.unwrap(), expected);
    write.commit().await.unwrap();
    log_cleaner::run_once(&keeps_all).await.unwrap();
    assert_eq!(standing(&plane).await, ["h0000", "h0001", "h0002", "h0003", "h0004"]);
    let entry = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((entry.action.as_str(), entry.record_kind, entry.record_id), ("delete", RecordKind::Log, None));
    assert_eq!(entry.after, Some(json!({"before": before, "records": 7, "has_more": false})));

    // The clock was ahead when someone deleted: what comes now does not go.
    plane.clock.set(plane.control.now() - TimeDelta::hours(8));
    logs::ingest(&plane.control, vec![usage_record("new", 1, plane.control.now() + TimeDelta::minutes(1))])
        .await
        .unwrap();
    plane.sql("DELETE FROM log_batches").await;
    log_cleaner::run_once(&keeps_all).await.unwrap();
    assert!(standing(&plane).await.contains(&"new".to_owned()));
}

pub(crate) async fn what_may_come_again_stays_for_an_hour(plane: Plane) {
    let records = [1, 30, 59, 61, 90]
        .map(|minutes| usage_record(&format!("m{minutes:02}"), 1, plane.control.now() - TimeDelta::minutes(minutes)));
    logs::ingest(&plane.control, records.to_vec()).await.unwrap();
    plane.sql("DELETE FROM log_batches").await;
    let one = keeping(&plane, LogRetention { max_records: Some(1), ..KEEP_ALL }).await;
    log_cleaner::run_once(&one).await.unwrap();
    assert_eq!(standing(&plane).await, ["m01", "m30", "m59"]);

    let write = plane.write().await;
    log_cleaner::delete_before(&write, plane.control.now()).await.unwrap();
    write.commit().await.unwrap();
    let keeps_all = keeping(&plane, KEEP_ALL).await;
    assert_eq!(log_cleaner::run_once(&keeps_all).await.unwrap(), 0);
    assert_eq!(standing(&plane).await, ["m01", "m30", "m59"]);
    // Handed in again, as nobody heard that they were stored: each counts once.
    let again = logs::ingest(&plane.control, records[..3].to_vec()).await.unwrap();
    assert_eq!((again.accepted, again.duplicates), (0, 3));
    // A deletion is carried out once it may be.
    plane.clock.advance(Duration::from_secs(31 * 60));
    log_cleaner::run_once(&keeps_all).await.unwrap();
    assert_eq!(standing(&plane).await, ["m01"]);
    plane.clock.advance(Duration::from_secs(3_600));
    log_cleaner::run_once(&keeps_all).await.unwrap();
    assert_eq!(standing(&plane).await, ["m01"; 0]);
}

pub(crate) async fn request_bodies_go_with_the_time_of_their_records(plane: Plane) {
    let write = plane.write().await;
    let change = BTreeMap::from([("log_request_body_enabled".to_owned(), json!(true))]);
    features::update(&write, &change).await.unwrap();
    write.commit().await.unwrap();
    let records = [(60, "an old canary"), (1, "a new canary")].map(|(hours, content)| {
        let mut record = serde_json::to_value(of_hours_ago(&plane, hours)).unwrap();
        let bytes = content.len();
        record["request_body"] = json!({"content": content, "encoding": "text", "bytes": bytes, "truncated": false});
        record.to_string()
    });
    logs::ingest_json(&plane.control, &records).await.unwrap();
    plane.sql("DELETE FROM log_batches").await;
    let bodies = async || {
        let dump = plane.database.dump().await;
        [dump.contains("an old canary"), dump.contains("a new canary")]
    };
    assert_eq!(bodies().await, [true, true]);
    log_cleaner::run_once(&keeping(&plane, LogRetention { days: Some(2), ..KEEP_ALL }).await).await.unwrap();
    assert_eq!((bodies().await, standing(&plane).await), ([false, true], vec!["h0001".to_owned()]));
}

pub(crate) async fn roll_ups_go_by_their_months(plane: Plane) {
    let old = usage_record("old", 1, plane.control.now());
    logs::ingest(&plane.control, vec![old]).await.unwrap();
    while ez_store::rollups::fold(plane.control.store()).await.unwrap().has_more {}
    let rows = async || plane.database.dump().await.lines().filter(|line| line.starts_with("rollup")).count();
    assert!(rows().await > 0);
    let a_year = keeping(&plane, LogRetention { rollup_days: Some(365), ..KEEP_ALL }).await;
    assert_eq!(log_cleaner::run_once(&a_year).await.unwrap(), 0);
    plane.clock.advance(Duration::from_secs(400 * 86_400));
    assert!(log_cleaner::run_once(&a_year).await.unwrap() > 0);
    assert_eq!(rows().await, 0);
    assert_eq!(standing(&plane).await, ["old"]);
}

pub(crate) async fn roll_ups_of_hours_go_before_the_others(plane: Plane) {
    let records = (0..300).map(|minute| {
        let mut record = usage_record(&format!("m{minute}"), 1, plane.control.now() + TimeDelta::minutes(minute));
        record.model = format!("model-{minute}");
        record
    });
    logs::ingest(&plane.control, records.collect()).await.unwrap();
    while ez_store::rollups::fold(plane.control.store()).await.unwrap().has_more {}
    let keeps_all = keeping(&plane, KEEP_ALL).await;
    let asked = async |by| {
        let question = Question {
            by,
            filter: StatisticsFilter::default(),
            since: None,
            until: None,
            limit: 1_000,
            percentiles: true,
        };
        statistics::read(plane.control.store(), &question).await.unwrap()
    };
    let requests = async |by| asked(by).await.items.iter().map(|item| item.figures.requests).sum::<u64>();
    plane.clock.advance(Duration::from_secs(61 * 86_400));
    assert_eq!(log_cleaner::run_once(&keeps_all).await.unwrap(), 0);
    assert_eq!(requests(Grouping::Hour).await, 300);
    plane.clock.advance(Duration::from_secs(3 * 86_400));
    // More than a step takes.
    assert!(log_cleaner::run_once(&keeps_all).await.unwrap() > 300);
    assert_eq!((requests(Grouping::Hour).await, requests(Grouping::Day).await), (0, 300));
    assert_eq!(log_cleaner::run_once(&keeps_all).await.unwrap(), 0);
}

pub(crate) async fn an_empty_log_is_clean(plane: Plane) {
    assert_eq!(log_cleaner::run_once(&plane.control).await.unwrap(), 0);
    let one = keeping(&plane, LogRetention { days: Some(36_500), max_records: Some(1), rollup_days: None }).await;
    assert_eq!(log_cleaner::run_once(&one).await.unwrap(), 0);
}
