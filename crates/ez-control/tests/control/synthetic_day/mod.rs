//! A day of a hundred masters with a thousand keys: what was planted in it raises one alert each and nothing else does, and
//! every figure is what the records add up to.

mod brute_force;
mod planted;
mod traffic;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::status::{KeyStatus, RecordStatus};
use ez_contract::{TokenDigest, UsageRecord};
use ez_control::alerts::{detector, thresholds};
use ez_control::{logs, rollups};
use ez_store::alerts::{self, AlertFilter};
use ez_store::child_keys::{self, NewChildKey};
use ez_store::masters::{self, NewMaster};
use ez_store::{IssuedBy, QuotaReset};
use serde_json::json;

use crate::support::Plane;
use planted::{Expected, QUOTA, Spikes, keys_with_quota, plant};
use traffic::{MINUTES, Tenants, Traffic};

const MASTERS: usize = 100;
const KEYS_EACH: usize = 10;

/// Records that gateways hand in at once.
const BATCH: usize = 500;

/// How long after each full minute the detector looks.
const AFTER_THE_MINUTE: TimeDelta = TimeDelta::seconds(5);

/// From the end of a call until its record is there.
const SHIPPING: TimeDelta = TimeDelta::milliseconds(1_200);

/// A day that is quick to go through.
const SHORT: Day = Day {
    quiet_calls: 20_000,
    spikes: Spikes { global_qps: 15, master_rpm: 120, master_tpm: 500_000, master_rpd: 1_500, master_tpd: 20_000_000 },
};

/// A million calls. The thresholds of calls a second and a minute are the defaults.
const LONG: Day = Day {
    quiet_calls: 900_000,
    spikes: Spikes {
        global_qps: 100,
        master_rpm: 600,
        master_tpm: 2_000_000,
        master_rpd: 30_000,
        master_tpd: 100_000_000,
    },
};

#[derive(Debug, Clone, Copy)]
struct Day {
    quiet_calls: usize,
    spikes: Spikes,
}

pub(crate) async fn what_is_planted_raises_one_alert_and_figures_are_those_of_the_records(plane: Plane) {
    live_through(&plane, SHORT).await;
}

#[tokio::test]
#[ignore = "long: run by make soak"]
async fn soak_a_day_of_a_million_calls_on_sqlite() {
    live_through(&Plane::embedded().await, LONG).await;
}

#[tokio::test]
#[ignore = "long: run by make soak"]
async fn soak_a_day_of_a_million_calls_on_postgres() {
    live_through(&Plane::scaled_out().await, LONG).await;
}

async fn live_through(plane: &Plane, day: Day) {
    let midnight: DateTime<Utc> = "2026-03-05T00:00:00Z".parse().unwrap();
    plane.clock.set(midnight);
    set_thresholds(plane, day.spikes).await;
    let tenants = tenants(plane).await;
    let mut traffic = Traffic::new(&tenants, midnight);
    let (mut records, expected) = plant(&mut traffic, day.spikes);
    records.extend((0..day.quiet_calls).map(|_| traffic.quiet()));

    // There is a record of a call once the call has ended, and as a rule at once.
    let mut by_minute: BTreeMap<i64, Vec<UsageRecord>> = BTreeMap::new();
    for record in &records {
        let ended_at = record.created_at + TimeDelta::milliseconds(record.latency_ms.cast_signed());
        let minute = (ended_at + SHIPPING - AFTER_THE_MINUTE - midnight).num_minutes() + traffic.lateness();
        by_minute.entry(minute).or_default().push(record.clone());
    }
    for minute in 0..MINUTES + 15 {
        plane.clock.set(midnight + TimeDelta::minutes(minute + 1) + AFTER_THE_MINUTE);
        for batch in by_minute.remove(&minute).unwrap_or_default().chunks(BATCH) {
            let taken = logs::ingest(&plane.control, batch.to_vec()).await.unwrap();
            assert_eq!((taken.accepted, taken.rejected.len()), (batch.len() as u64, 0));
            if traffic.is_handed_in_twice() {
                let again = logs::ingest(&plane.control, batch.to_vec()).await.unwrap();
                assert_eq!((again.accepted, again.duplicates), (0, batch.len() as u64));
            }
        }
        detector::run_once(&plane.control).await.unwrap();
        if minute % 7 == 0 {
            rollups::run_once(&plane.control).await.unwrap();
        }
    }
    assert!(by_minute.is_empty());
    // Some of it is rolled up, and some is not.
    brute_force::check(plane, &records, midnight).await;
    rollups::run_once(&plane.control).await.unwrap();
    brute_force::check(plane, &records, midnight).await;
    check_alerts(plane, expected).await;
}

async fn check_alerts(plane: &Plane, expected: Vec<Expected>) {
    let raised = alerts::list(plane.control.store(), &AlertFilter::default(), None, 1_000).await.unwrap();
    let mut told: Vec<_> = raised
        .iter()
        .map(|alert| {
            let related = alert.related_type.clone().zip(alert.related_id);
            let metric = alert.metadata["metric"].as_str().unwrap().to_owned();
            let is_spike = alert.alert_type.as_str() == "traffic_spike";
            (alert.alert_type.as_str(), related, alert.severity.as_str(), is_spike.then_some(metric))
        })
        .collect();
    let mut expected: Vec<_> = expected
        .into_iter()
        .map(|(alert_type, related, severity, metric)| {
            let related = related.map(|(kind, id)| (kind.to_owned(), id));
            (alert_type, related, severity, metric.map(str::to_owned))
        })
        .collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

async fn set_thresholds(plane: &Plane, spikes: Spikes) {
    let changes = [
        ("global_qps", spikes.global_qps),
        ("master_rpm", spikes.master_rpm),
        ("master_tpm", spikes.master_tpm),
        ("master_rpd", spikes.master_rpd),
        ("master_tpd", spikes.master_tpd),
    ];
    let write = plane.write().await;
    let changes = changes.map(|(name, value)| (name.to_owned(), json!(value))).into();
    thresholds::update(&write, &changes).await.unwrap();
    write.commit().await.unwrap();
}

/// Straight into the database: a thousand requests would teach nothing.
async fn tenants(plane: &Plane) -> Tenants {
    let tx = plane.control.store().begin().await.unwrap();
    let mut tenants = Tenants { masters: Vec::new(), keys: Vec::new() };
    for number in 0..MASTERS {
        tenants.masters.push(masters::create(&tx, &new_master(number, plane.control.now())).await.unwrap().id);
    }
    let with_quota = {
        let places = Tenants { masters: tenants.masters.clone(), keys: vec![0; MASTERS * KEYS_EACH] };
        keys_with_quota(&places)
    };
    for number in 0..MASTERS * KEYS_EACH {
        let quota_limit = with_quota.contains(&number).then_some(QUOTA);
        let new = new_key(number, tenants.masters[number / KEYS_EACH], quota_limit, plane.control.now());
        tenants.keys.push(child_keys::create(&tx, &new).await.unwrap().id);
    }
    tx.commit().await.unwrap();
    tenants
}

fn new_master(number: usize, created_at: DateTime<Utc>) -> NewMaster {
    NewMaster {
        name: format!("tenant {number:02}"),
        group: "default".to_owned(),
        key_hash: None,
        key_digest: Some(TokenDigest::of(&format!("master {number}"))),
        prefix: "mk".to_owned(),
        default_namespace: "default".to_owned(),
        namespaces: vec!["default".to_owned()],
        epoch: 1,
        status: RecordStatus::Active,
        max_child_keys: 0,
        global_qps: 0,
        rpm: None,
        tpm: None,
        rpd: None,
        tpd: None,
        max_concurrency: None,
        monthly_budget: None,
        created_at,
    }
}

fn new_key(number: usize, master_id: i64, quota_limit: Option<u64>, created_at: DateTime<Utc>) -> NewChildKey {
    NewChildKey {
        master_id,
        name: format!("key {number:03}"),
        token_hash: None,
        token_digest: TokenDigest::of(&format!("key {number}")),
        prefix: "sk".to_owned(),
        previous_digest: None,
        previous_expires_at: None,
        group: "default".to_owned(),
        scopes: Vec::new(),
        default_namespace: "default".to_owned(),
        namespaces: vec!["default".to_owned()],
        status: KeyStatus::Active,
        issued_at_epoch: 1,
        issued_by: IssuedBy::Master,
        expires_at: None,
        allow_ips: Vec::new(),
        deny_ips: Vec::new(),
        model_limits_enabled: false,
        model_limits: Vec::new(),
        quota_limit,
        quota_reset: QuotaReset::None,
        quota_reset_at: None,
        global_qps: 0,
        rpm: None,
        tpm: None,
        rpd: None,
        tpd: None,
        max_concurrency: None,
        quota_used: 0,
        request_count: 0,
        used_tokens: 0,
        last_used_at: None,
        created_at,
    }
}
