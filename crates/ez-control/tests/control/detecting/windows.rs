//! What runs of the detector look at: long calls, late runs, wrong clocks and the end of a day.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_contract::usage::EndedBy;
use ez_control::alerts::detector;
use ez_store::settings;
use serde_json::json;

use super::{Calls, failing};
use crate::support::Plane;

pub(crate) async fn calls_count_when_they_end_however_long_they_took(plane: Plane) {
    let noon = plane.noon();
    plane.set_thresholds(json!({"master_rpm": 100})).await;
    plane.detect().await;
    // Streams that break off after seven minutes, and a minute of calls that take two: there are records of none of them in
    // the minute that they arrived in, nor in the one after.
    let minutes = |count: i64| noon + TimeDelta::minutes(count);
    let broken = Calls { at: minutes(0), master_id: 1, key_id: 2 }.records("stream", 20, |_, record| {
        (record.api_key_id, record.latency_ms) = (Some(9), 420_000);
        failing(record, 200, EndedBy::Upstream);
    });
    let slow = Calls { at: minutes(1) + TimeDelta::seconds(5), master_id: 3, key_id: 4 }.records(
        "slow",
        100,
        |number, record| {
            record.created_at += TimeDelta::milliseconds(500 * number as i64);
            record.latency_ms = 120_000;
        },
    );
    let mut records: Vec<UsageRecord> = broken.into_iter().chain(slow).collect();
    let ended_at = |record: &UsageRecord| record.created_at + TimeDelta::milliseconds(record.latency_ms.cast_signed());
    let mut found = Vec::new();
    for minute in 1..=14 {
        plane.clock.set(minutes(minute) + TimeDelta::seconds(4));
        let now = plane.control.now();
        let ended: Vec<_> = records.extract_if(.., |record| ended_at(record) < now - TimeDelta::seconds(1)).collect();
        if !ended.is_empty() {
            plane.ingest(ended).await;
        }
        found.push(plane.detect().await);
    }
    assert!(records.is_empty());
    assert_eq!(found, [0, 0, 0, 1, 0, 0, 2, 2, 2, 2, 2, 0, 0, 0]);
    let mut told = plane.told_alerts().await;
    told.sort();
    let expected = [
        "error_spike:key:2 critical active 5",
        "provider_down:api_key:9 critical active 5",
        "traffic_spike:master:3:rpm warning active 1",
    ];
    assert_eq!(told, expected);
}

pub(crate) async fn a_run_that_is_late_misses_no_minute(plane: Plane) {
    let noon = plane.noon();
    plane.set_thresholds(json!({"global_qps": 2, "master_rpm": 100})).await;
    plane.detect().await;
    let calls = |seconds| Calls { at: noon + TimeDelta::seconds(seconds), master_id: 1, key_id: 2 };
    let mut planted = calls(100).records("busy", 130, |_, _| {});
    planted.extend(calls(160).records("busier", 250, |_, _| {}));
    planted.extend(calls(30).records("limited", 2, |_, record| failing(record, 429, EndedBy::Limit)));
    planted.extend(calls(280).records("limited", 3, |_, record| failing(record, 429, EndedBy::Limit)));
    plane.ingest(planted).await;
    plane.clock.advance(Duration::from_secs(300));
    assert_eq!(plane.detect().await, 3);
    let of = async |fingerprint: &str| {
        let found = plane.alerts().await;
        found.into_iter().find(|alert| alert.fingerprint.as_deref() == Some(fingerprint)).unwrap()
    };
    let rpm = of("traffic_spike:master:1:rpm").await;
    assert_eq!((&rpm.metadata["value"], rpm.severity.as_str()), (&json!(250), "critical"), "the worst minute");
    assert_eq!(of("traffic_spike:global:qps").await.metadata["requests"], json!(250));
    assert_eq!(of("rate_limit:master:1").await.metadata["value"], json!(3));
    assert!(plane.alerts().await.iter().all(|alert| alert.occurrences == 1), "one alert each, seen once");
    // A run soon after looks at the last minute again, one after that at none of them.
    plane.clock.advance(Duration::from_secs(10));
    assert_eq!(plane.detect().await, 1);
    plane.clock.advance(Duration::from_secs(60));
    assert_eq!(plane.detect().await, 0);

    // Where nothing ran for long, the last ten minutes are looked at.
    let now = plane.control.now();
    let limited = |seconds| {
        let calls = Calls { at: now + TimeDelta::seconds(seconds), master_id: 5, key_id: 6 };
        calls.records("limited", 1, |_, record| failing(record, 429, EndedBy::Limit))
    };
    plane.ingest(limited(5)).await;
    plane.clock.advance(Duration::from_secs(3_600));
    assert_eq!(plane.detect().await, 0);
    plane.ingest(limited(3_700)).await;
    plane.clock.advance(Duration::from_secs(600));
    // What a run could not read, the next one looks at.
    plane.sql("ALTER TABLE logs RENAME COLUMN ended_by TO ended_by_gone").await;
    detector::run_once(&plane.control).await.unwrap_err();
    plane.clock.advance(Duration::from_secs(60));
    plane.sql("ALTER TABLE logs RENAME COLUMN ended_by_gone TO ended_by").await;
    assert_eq!(plane.detect().await, 1);
    assert_eq!(of("rate_limit:master:5").await.occurrences, 1);
}

pub(crate) async fn where_looking_stopped_is_put_right_after_a_wrong_clock(plane: Plane) {
    let noon = plane.noon();
    for standing in ["'broken'", "'99999999999999999'"] {
        plane.sql("DELETE FROM settings WHERE key = 'alerts_looked_until'").await;
        let put = format!("INSERT INTO settings (key, value) VALUES ('alerts_looked_until', {standing})");
        plane.sql(put.leak()).await;
        plane.detect().await;
        let kept = settings::get(plane.control.store(), "alerts_looked_until").await.unwrap();
        let expected = (noon - TimeDelta::seconds(3)).timestamp_micros().to_string();
        assert_eq!(kept.as_deref(), Some(expected.as_str()), "{standing}");
    }
    // It goes forward only: a replica whose clock is a little behind takes nothing back.
    plane.clock.set(noon - TimeDelta::seconds(20));
    plane.detect().await;
    let kept = settings::get(plane.control.store(), "alerts_looked_until").await.unwrap();
    assert_eq!(kept, Some((noon - TimeDelta::seconds(3)).timestamp_micros().to_string()));
}

pub(crate) async fn a_day_is_judged_with_its_calls_that_ended_after_midnight(plane: Plane) {
    let midnight: DateTime<Utc> = "2026-03-05T00:00:00Z".parse().unwrap();
    plane.clock.set(midnight - TimeDelta::seconds(30));
    plane.set_thresholds(json!({"master_rpd": 30, "master_rpm": 0, "error_spike_percent": 0})).await;
    let last = Calls { at: midnight - TimeDelta::seconds(40), master_id: 1, key_id: 2 };
    let first = Calls { at: midnight + TimeDelta::seconds(5), master_id: 3, key_id: 4 };
    plane.ingest(last.records("short", 20, |_, _| {})).await;
    assert_eq!(plane.detect().await, 0);
    plane.clock.set(midnight + TimeDelta::minutes(14));
    plane.ingest(last.records("long", 15, |_, record| record.latency_ms = 800_000)).await;
    plane.ingest(first.records("first", 65, |_, _| {})).await;
    assert_eq!(plane.detect().await, 2);
    let told: Vec<_> = plane
        .alerts()
        .await
        .iter()
        .rev()
        .map(|alert| {
            let metadata = &alert.metadata;
            (alert.fingerprint.clone().unwrap(), metadata["value"].clone(), metadata["day"].clone())
        })
        .collect();
    let expected = [
        ("traffic_spike:master:1:rpd".to_owned(), json!(35), json!("2026-03-04")),
        ("traffic_spike:master:3:rpd".to_owned(), json!(65), json!("2026-03-05")),
    ];
    assert_eq!(told, expected);
    plane.clock.set(midnight + TimeDelta::minutes(15));
    assert_eq!(plane.detect().await, 1, "the day before is over");
}
