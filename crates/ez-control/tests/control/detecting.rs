//! The detector over real backends: planted events, each found once and nothing besides.

mod windows;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_contract::alerts::AlertType;
use ez_contract::usage::{EndedBy, TokenUsage};
use ez_control::alerts::{self, AlertMove, detector, settle, thresholds};
use ez_control::child_keys::CreateChildKey;
use ez_control::{ControlError, logs};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{Plane, usage_record};

pub(crate) use windows::{
    a_day_is_judged_with_its_calls_that_ended_after_midnight, a_run_that_is_late_misses_no_minute,
    calls_count_when_they_end_however_long_they_took, where_looking_stopped_is_put_right_after_a_wrong_clock,
};

/// Calls of one child key of one master that arrive at one moment.
struct Calls {
    at: DateTime<Utc>,
    master_id: i64,
    key_id: i64,
}

impl Plane {
    async fn ingest(&self, records: Vec<UsageRecord>) {
        let count = records.len() as u64;
        for batch in records.chunks(5_000) {
            logs::ingest(&self.control, batch.to_vec()).await.unwrap();
        }
        assert!(count > 0);
    }

    async fn detect(&self) -> u64 {
        detector::run_once(&self.control).await.unwrap()
    }

    async fn set_thresholds(&self, wish: serde_json::Value) {
        let write = self.write().await;
        let wish = serde_json::from_value(wish).unwrap();
        thresholds::update(&write, &wish).await.unwrap();
        write.commit().await.unwrap();
    }

    /// Noon, so that days are whole.
    fn noon(&self) -> DateTime<Utc> {
        let noon: DateTime<Utc> = "2026-03-04T12:00:00Z".parse().unwrap();
        self.clock.set(noon);
        noon
    }
}

impl Calls {
    fn records(&self, name: &str, count: usize, change: impl Fn(usize, &mut UsageRecord)) -> Vec<UsageRecord> {
        let record = |number: usize| {
            let id = format!("{name}-{}-{}-{number:06}", self.key_id, self.at.timestamp());
            let mut record = UsageRecord { key_id: self.key_id, ..usage_record(&id, self.master_id, self.at) };
            change(number, &mut record);
            record
        };
        (0..count).map(record).collect()
    }
}

fn failing(record: &mut UsageRecord, status: u16, ended_by: EndedBy) {
    (record.status, record.ended_by) = (status, ended_by);
    record.error = Some("it failed".to_owned());
}

pub(crate) async fn each_rule_finds_what_was_planted_and_nothing_else(plane: Plane) {
    let now = plane.noon();
    let master = plane.master("acme").await.master;
    let key =
        plane.try_key(master.id, CreateChildKey { name: Some("bot".into()), ..Default::default() }).await.unwrap();
    let group = plane.group("openai").await;
    let api_key = plane.api_key(group.id).await;
    plane.set_thresholds(json!({"global_qps": 1, "master_rpm": 100, "master_rpd": 300, "master_tpd": 5_000})).await;
    let at = |seconds| now - TimeDelta::seconds(seconds);
    let calls = |seconds, key_id| Calls { at: at(seconds), master_id: master.id, key_id };

    assert_eq!(plane.detect().await, 0, "nothing happened yet");
    // 40 calls of a key within five minutes, 12 of them failed, of which 9 by the upstream's fault: 9 of 37 calls of the
    // API key, as the others tell nothing of it.
    let mut planted = calls(200, key.key.id).records("spike", 40, |number, record| {
        record.api_key_id = Some(api_key.id);
        match number {
            0..=8 => failing(record, 502, EndedBy::Upstream),
            9 => failing(record, 400, EndedBy::Upstream),
            10 => failing(record, 499, EndedBy::Client),
            11 => failing(record, 503, EndedBy::Gateway),
            _ => {}
        }
    });
    // Just before the window, which ends three seconds before now.
    planted.extend(calls(304, 77).records("old", 40, |_, record| failing(record, 502, EndedBy::Upstream)));
    // Too few to tell.
    planted.extend(calls(10, 78).records("few", 19, |_, record| failing(record, 500, EndedBy::Gateway)));
    plane.ingest(planted).await;
    assert_eq!(plane.detect().await, 1);
    assert_eq!(plane.told_alerts().await, [format!("error_spike:key:{} warning active 1", key.key.id)]);
    let spike = plane.alerts().await.remove(0);
    assert_eq!((spike.alert_type, spike.related_name.as_deref()), (AlertType::ErrorSpike, Some("bot")));
    let expected = json!({"metric": "error_percent", "value": 30.0, "threshold": 10, "window": 300,
        "requests": 40, "failures": 12});
    assert_eq!(spike.metadata, expected);

    // The upstream goes down, a limit refuses, and the minute is full: each is one alert more.
    let mut planted = calls(30, 79).records("down", 130, |number, record| {
        record.api_key_id = Some(api_key.id);
        match number {
            0..=49 => failing(record, 200, EndedBy::Upstream),
            50..=89 => failing(record, 429, EndedBy::Upstream),
            _ => {}
        }
    });
    planted.extend(calls(20, 80).records("limited", 3, |_, record| {
        failing(record, 429, EndedBy::Limit);
        record.error = Some("rate_limit_exceeded: the limit `rpm` of this API key".to_owned());
    }));
    plane.ingest(planted).await;
    assert_eq!(plane.detect().await, 6);
    let mut told = plane.told_alerts().await;
    told.sort();
    let (id, key, api_key) = (master.id, key.key.id, api_key.id);
    let mut expected = vec![
        format!("error_spike:key:{key} warning active 2"),
        // 90 of 130.
        "error_spike:key:79 critical active 1".to_owned(),
        // 99 of 167.
        format!("provider_down:api_key:{api_key} warning active 1"),
        format!("rate_limit:master:{id} warning active 1"),
        // 152 calls in the minute.
        "traffic_spike:global:qps critical active 1".to_owned(),
        format!("traffic_spike:master:{id}:rpm warning active 1"),
    ];
    expected.sort();
    assert_eq!(told, expected);
    let of = |alerts: &[ez_store::alerts::Alert], fingerprint: &str| {
        alerts.iter().find(|alert| alert.fingerprint.as_deref() == Some(fingerprint)).unwrap().clone()
    };
    let found = plane.alerts().await;
    let limited = of(&found, &format!("rate_limit:master:{id}"));
    assert_eq!((&limited.metadata["keys"], &limited.metadata["limits"]), (&json!([80]), &json!(["rpm"])));
    assert_eq!(limited.related_name.as_deref(), Some("acme"));
    let down = of(&found, &format!("provider_down:api_key:{api_key}"));
    assert_eq!((&down.metadata["requests"], &down.metadata["failures"]), (&json!(167), &json!(99)));

    // A quiet quarter of an hour later nothing is found, and nothing was closed by itself.
    plane.clock.advance(Duration::from_secs(900));
    assert_eq!(plane.detect().await, 0);
    assert_eq!(plane.told_alerts().await.len(), 6);

    // The day adds up, to midnight and not beyond.
    let later = plane.control.now();
    let morning = Calls { at: now - TimeDelta::hours(12), master_id: id, key_id: 81 };
    let yesterday = Calls { at: now - TimeDelta::hours(12) - TimeDelta::microseconds(1), master_id: id, key_id: 81 };
    let mut planted = morning.records("day", 100, |_, record| {
        record.tokens = TokenUsage { input_tokens: Some(60), output_tokens: Some(40), ..TokenUsage::default() };
    });
    planted.extend(yesterday.records("day-before", 500, |_, record| {
        record.tokens = TokenUsage { input_tokens: Some(1_000), ..TokenUsage::default() };
    }));
    plane.ingest(planted).await;
    assert_eq!(plane.detect().await, 2);
    let found = plane.alerts().await;
    let rpd = of(&found, &format!("traffic_spike:master:{id}:rpd"));
    assert_eq!((&rpd.metadata["value"], rpd.severity.as_str()), (&json!(332), "warning"));
    let tpd = of(&found, &format!("traffic_spike:master:{id}:tpd"));
    assert_eq!((&tpd.metadata["value"], tpd.severity.as_str()), (&json!(10_000), "critical"));
    assert_eq!(tpd.created_at, later);
}

pub(crate) async fn quotas_are_found_once_and_rise(plane: Plane) {
    plane.noon();
    let master = plane.master("acme").await.master;
    let quota = |limit| CreateChildKey { quota_limit: Some(limit), ..CreateChildKey::default() };
    let near = plane.try_key(master.id, quota(100)).await.unwrap().key.id;
    for limit in [0, 1_000_000] {
        plane.try_key(master.id, quota(limit)).await.unwrap();
    }
    plane.key(master.id).await;
    let used = async |id: &str, tokens| {
        let record = UsageRecord {
            key_id: near,
            tokens: TokenUsage { input_tokens: Some(tokens), ..TokenUsage::default() },
            ..usage_record(id, master.id, plane.control.now())
        };
        plane.ingest(vec![record]).await;
    };
    used("a", 89).await;
    assert_eq!(plane.detect().await, 0);
    used("b", 1).await;
    assert_eq!((plane.detect().await, plane.detect().await), (1, 0), "its alert tells of it");
    assert_eq!(plane.told_alerts().await, [format!("quota:key:{near} warning active 1")]);
    used("c", 10).await;
    assert_eq!(plane.detect().await, 1);
    assert_eq!(plane.told_alerts().await, [format!("quota:key:{near} critical active 2")]);
    // As long as it lasts it is seen to last, though not by every run.
    let mut seen = 0;
    for _ in 0..30 {
        plane.clock.advance(Duration::from_secs(60));
        seen += plane.detect().await;
    }
    assert_eq!(seen, 10);
    let open = plane.alerts().await.remove(0);
    assert!(plane.control.now() - open.last_seen_at < alerts::COOLDOWN);
    // So it comes back after its alert was closed, and not at once.
    let write = plane.write().await;
    settle(&write, open.id, AlertMove::Resolve).await.unwrap();
    write.commit().await.unwrap();
    plane.detect().await;
    assert_eq!(plane.alerts().await.len(), 1);
    plane.clock.advance(Duration::from_secs(300));
    assert_eq!(plane.detect().await, 1);
    assert_eq!(plane.alerts().await.len(), 2);
    plane.set_thresholds(json!({"quota_percent": 0})).await;
    assert_eq!(plane.detect().await, 0);
}

pub(crate) async fn replicas_detect_at_once_and_raise_once(plane: Plane) {
    let now = plane.noon();
    let mut planted = Vec::new();
    for key_id in 1..=120 {
        let calls = Calls { at: now - TimeDelta::seconds(90), master_id: 1, key_id };
        planted.extend(calls.records("r", 20, |_, record| failing(record, 500, EndedBy::Gateway)));
    }
    plane.ingest(planted).await;
    let mut detecting = JoinSet::new();
    for control in [plane.control.clone(), plane.another().await, plane.another().await] {
        detecting.spawn(async move { detector::run_once(&control).await.unwrap() });
    }
    assert_eq!(detecting.join_all().await, [120; 3]);
    let found = plane.alerts().await;
    assert_eq!(found.len(), 120);
    assert!(found.iter().all(|alert| alert.occurrences == 3 && alert.severity.as_str() == "critical"));

    // What somebody closed comes back only after it was not seen for a while.
    let write = plane.write().await;
    settle(&write, found[0].id, AlertMove::Resolve).await.unwrap();
    write.commit().await.unwrap();
    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(plane.detect().await, 120);
    assert_eq!(plane.alerts().await.len(), 120);
}

pub(crate) async fn a_figure_that_cannot_be_read_stops_no_other_rule(plane: Plane) {
    let now = plane.noon();
    let calls = Calls { at: now - TimeDelta::seconds(30), master_id: 1, key_id: 2 };
    plane.ingest(calls.records("x", 20, |_, record| failing(record, 500, EndedBy::Gateway))).await;
    plane.sql("UPDATE settings SET value = 'broken' WHERE key = 'alert_thresholds'").await;
    plane.sql("ALTER TABLE child_keys RENAME COLUMN quota_used TO quota_gone").await;
    let failed = detector::run_once(&plane.control).await;
    assert!(matches!(failed, Err(ControlError::Internal(_))), "{failed:?}");
    assert_eq!(plane.told_alerts().await, ["error_spike:key:2 critical active 1"]);
}

pub(crate) async fn thresholds_that_were_damaged_are_the_defaults(plane: Plane) {
    let now = plane.noon();
    plane.set_thresholds(json!({"error_spike_percent": 0})).await;
    let calls = Calls { at: now - TimeDelta::seconds(30), master_id: 1, key_id: 2 };
    plane.ingest(calls.records("x", 20, |_, record| failing(record, 500, EndedBy::Gateway))).await;
    assert_eq!(plane.detect().await, 0);
    plane.sql("UPDATE settings SET value = 'broken' WHERE key = 'alert_thresholds'").await;
    assert_eq!(plane.detect().await, 1);
}
