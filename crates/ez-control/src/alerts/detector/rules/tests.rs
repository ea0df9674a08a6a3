//! Tables of cases: each rule below, at and above its threshold, with too few samples, and switched off.

use super::*;

const WARNING: Option<AlertSeverity> = Some(AlertSeverity::Warning);
const CRITICAL: Option<AlertSeverity> = Some(AlertSeverity::Critical);

fn usual() -> Thresholds {
    Thresholds::default()
}

/// The severity of what one figure leads to; none where it leads to nothing.
fn severity(found: &[Found]) -> Option<AlertSeverity> {
    assert!(found.len() <= 1, "{found:?}");
    found.first().map(|found| found.finding.severity)
}

fn counts(calls: u64, failures: u64) -> CallCounts {
    CallCounts { id: 12, calls, failures }
}

fn traffic(calls: u64, tokens: u64) -> MasterTraffic {
    MasterTraffic { master_id: 3, calls, tokens }
}

fn limited(key_id: i64, calls: u64, error: Option<&str>) -> LimitedCalls {
    LimitedCalls { master_id: 3, key_id, calls, error: error.map(str::to_owned) }
}

/// What every finding tells, whatever rule it is of.
#[track_caller]
fn check(found: &Found, metric: &str, value: &Json, threshold: u64, window: Option<u64>) {
    let AlertFinding { metadata, title, message, fingerprint, .. } = &found.finding;
    assert_eq!((&metadata["metric"], &metadata["value"]), (&json!(metric), value));
    assert_eq!((&metadata["threshold"], &metadata["window"]), (&json!(threshold), &json!(window)));
    assert_eq!(crate::alerts::checks::fault_of(&found.finding), None, "what gateways may not say, rules do not either");
    assert!(!title.is_empty() && !message.is_empty() && !fingerprint.is_empty());
    assert!(found.excess >= 1.0, "{found:?}");
}

#[test]
fn child_keys_whose_calls_fail() {
    let cases = [
        (0, 0, None),
        (19, 19, None),
        (20, 1, None),
        (20, 2, WARNING),
        (21, 2, None),
        (1_000, 99, None),
        (1_000, 100, WARNING),
        (1_000, 499, WARNING),
        (1_000, 500, CRITICAL),
        (20, 20, CRITICAL),
        (u64::MAX, u64::MAX, CRITICAL),
    ];
    for (calls, failures, expected) in cases {
        let found = error_spike(&[counts(calls, failures)], &usual());
        assert_eq!(severity(&found), expected, "{failures} of {calls}");
    }
    let found = error_spike(&[counts(80, 34)], &usual()).remove(0);
    check(&found, "error_percent", &json!(42.5), 10, Some(300));
    assert_eq!((&found.finding.metadata["requests"], &found.finding.metadata["failures"]), (&json!(80), &json!(34)));
    assert_eq!(found.finding.fingerprint, "error_spike:key:12");
    assert_eq!((found.finding.related_type.as_deref(), found.finding.related_id), (Some("key"), Some(12)));
    assert_eq!(found.finding.alert_type, AlertType::ErrorSpike);

    let off = Thresholds { error_spike_percent: 0, ..usual() };
    assert_eq!(error_spike(&[counts(100, 100)], &off), []);
    let never_critical = Thresholds { error_spike_critical_percent: 0, ..usual() };
    assert_eq!(severity(&error_spike(&[counts(100, 100)], &never_critical)), WARNING);
    let any_sample = Thresholds { error_spike_min_requests: 0, ..usual() };
    assert_eq!(severity(&error_spike(&[counts(1, 1)], &any_sample)), CRITICAL);
    assert_eq!(error_spike(&[counts(0, 0)], &any_sample), []);
}

#[test]
fn api_keys_whose_upstream_fails() {
    let cases = [
        (9, 9, None),
        (10, 4, None),
        (10, 5, WARNING),
        (11, 5, None),
        (100, 89, WARNING),
        (100, 90, CRITICAL),
        (10, 10, CRITICAL),
    ];
    for (calls, failures, expected) in cases {
        let found = provider_down(&[counts(calls, failures)], &usual());
        assert_eq!(severity(&found), expected, "{failures} of {calls}");
    }
    let found = provider_down(&[counts(30, 20)], &usual()).remove(0);
    check(&found, "failure_percent", &json!(66.67), 50, Some(300));
    assert_eq!(
        (found.finding.alert_type, &*found.finding.fingerprint),
        (AlertType::ProviderDown, "provider_down:api_key:12")
    );
    assert_eq!(found.finding.related_type.as_deref(), Some("api_key"));
    let off = Thresholds { provider_down_percent: 0, ..usual() };
    assert_eq!(provider_down(&[counts(100, 100)], &off), []);
}

#[test]
fn quotas_that_are_used_up_or_nearly() {
    let of = |limit, used| QuotaUse { key_id: 12, limit, used };
    let cases = [
        (100, 89, None),
        (100, 90, WARNING),
        (100, 99, WARNING),
        (100, 100, CRITICAL),
        (100, 140, CRITICAL),
        (0, 0, None),
        (1, 0, None),
        (1, 1, CRITICAL),
        (u64::MAX, u64::MAX, CRITICAL),
        (u64::MAX, u64::MAX / 2, None),
    ];
    for (limit, used, expected) in cases {
        assert_eq!(severity(&quota(&[of(limit, used)], &usual())), expected, "{used} of {limit}");
    }
    let found = quota(&[of(200, 186)], &usual()).remove(0);
    check(&found, "quota_percent", &json!(93.0), 90, None);
    assert_eq!((found.finding.alert_type, &*found.finding.fingerprint), (AlertType::QuotaExceeded, "quota:key:12"));
    assert_eq!(quota(&[of(1, 1)], &Thresholds { quota_percent: 0, ..usual() }), []);
}

#[test]
fn masters_that_ran_into_their_limits() {
    assert_eq!(rate_limit(&[], &usual()), []);
    let rpm = "rate_limit_exceeded: the limit `rpm` of this API key (scope key) of 5 calls per minute is reached";
    let used_up = "budget_exceeded: the monthly budget of the account that this API key belongs to is used up";
    let keys = [limited(7, 2, Some(rpm)), limited(8, 5, Some(used_up)), limited(9, 1, None)];
    let found = rate_limit(&keys, &usual());
    assert_eq!(severity(&found), WARNING);
    check(&found[0], "limited_requests", &json!(8), 1, Some(60));
    let finding = &found[0].finding;
    assert_eq!((finding.alert_type, &*finding.fingerprint), (AlertType::RateLimit, "rate_limit:master:3"));
    assert_eq!(
        (&finding.metadata["keys"], &finding.metadata["limits"]),
        (&json!([8, 7, 9]), &json!(["budget_exceeded", "rpm"]))
    );

    let threshold = Thresholds { rate_limited_requests: 8, ..usual() };
    assert_eq!(severity(&rate_limit(&keys, &threshold)), WARNING);
    assert_eq!(rate_limit(&keys[..2], &threshold), [], "7 calls");
    assert_eq!(rate_limit(&keys, &Thresholds { rate_limited_requests: 0, ..usual() }), []);
    let other = LimitedCalls { master_id: 4, ..limited(10, 1, Some("words without a code")) };
    let found = rate_limit(&[other, limited(7, 1, None)], &usual());
    assert_eq!(found.iter().map(|found| found.finding.related_id).collect::<Vec<_>>(), [Some(3), Some(4)]);
    let many: Vec<_> = (0..50).map(|key| limited(key, 1, None)).collect();
    assert_eq!(rate_limit(&many, &usual())[0].finding.metadata["keys"].as_array().unwrap().len(), 10);
}

#[test]
fn calls_of_all_masters() {
    // 100 calls a second.
    for (calls, expected) in [(5_999, None), (6_000, WARNING), (11_999, WARNING), (12_000, CRITICAL)] {
        assert_eq!(severity(&global_qps(calls, &usual())), expected, "{calls}");
    }
    let found = global_qps(6_010, &usual()).remove(0);
    check(&found, "global_qps", &json!(100.17), 100, Some(60));
    assert_eq!((found.finding.related_type, &*found.finding.fingerprint), (None, "traffic_spike:global:qps"));
    assert_eq!(global_qps(u64::MAX, &Thresholds { global_qps: 0, ..usual() }), []);
    assert_eq!(global_qps(9, &Thresholds { global_qps: u64::MAX, ..usual() }), []);
}

#[test]
fn traffic_of_a_master_in_a_minute() {
    let cases = [
        (traffic(599, 0), None),
        (traffic(600, 0), WARNING),
        (traffic(1_199, 0), WARNING),
        (traffic(1_200, 0), CRITICAL),
        (traffic(1, 999_999), None),
        (traffic(1, 1_000_000), WARNING),
        (traffic(1, 2_000_000), CRITICAL),
    ];
    for (figure, expected) in cases {
        assert_eq!(severity(&master_minute(&[figure], &usual())), expected, "{figure:?}");
    }
    let found = master_minute(&[traffic(700, 2_500_000)], &usual());
    assert_eq!(found.len(), 2, "each metric is a cause of its own");
    check(&found[0], "master_rpm", &json!(700), 600, Some(60));
    check(&found[1], "master_tpm", &json!(2_500_000), 1_000_000, Some(60));
    let fingerprints: Vec<&str> = found.iter().map(|found| found.finding.fingerprint.as_str()).collect();
    assert_eq!(fingerprints, ["traffic_spike:master:3:rpm", "traffic_spike:master:3:tpm"]);

    // Below the minimum sample a threshold is not looked at.
    let low = Thresholds { master_rpm: 2, master_tpm: 5, ..usual() };
    assert_eq!(master_minute(&[traffic(9, 9_999)], &low), []);
    assert_eq!(severity(&master_minute(&[traffic(10, 9_999)], &low)), CRITICAL);
    assert_eq!(severity(&master_minute(&[traffic(9, 10_000)], &low)), CRITICAL);
    let off = Thresholds { master_rpm: 0, master_tpm: 0, ..usual() };
    assert_eq!(master_minute(&[traffic(u64::MAX, u64::MAX)], &off), []);
}

fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 4).unwrap()
}

#[test]
fn traffic_of_a_master_in_a_day() {
    let cases = [
        (traffic(99_999, 0), None),
        (traffic(100_000, 0), WARNING),
        (traffic(200_000, 0), CRITICAL),
        (traffic(1, 99_999_999), None),
        (traffic(1, 100_000_000), WARNING),
        (traffic(1, 200_000_000), CRITICAL),
    ];
    for (figure, expected) in cases {
        assert_eq!(severity(&master_day(&[figure], day(), &usual())), expected, "{figure:?}");
    }
    let found = master_day(&[traffic(100_000, 100_000_001)], day(), &usual());
    check(&found[0], "master_rpd", &json!(100_000), 100_000, Some(86_400));
    check(&found[1], "master_tpd", &json!(100_000_001), 100_000_000, Some(86_400));
    assert_eq!(found[1].finding.fingerprint, "traffic_spike:master:3:tpd");
    assert_eq!(found[1].finding.metadata["day"], json!("2026-03-04"));
    assert_eq!(found[1].finding.message, "100000001 tokens on 2026-03-04 (UTC); the threshold is 100000000");
    let off = Thresholds { master_rpd: 0, master_tpd: 0, ..usual() };
    assert_eq!(master_day(&[traffic(u64::MAX, u64::MAX)], day(), &off), []);
}

#[test]
fn the_limit_that_refused_is_read_from_the_refusal() {
    let cases = [
        ("rate_limit_exceeded: the limit `tpd` of the account", Some("tpd")),
        ("budget_exceeded: the monthly budget of the account", Some("budget_exceeded")),
        ("concurrency_exceeded: the limit `max_concurrency` of", Some("max_concurrency")),
        ("limited: see `<b>` there", Some("limited")),
        ("Too many: really", None),
        ("no code", None),
        ("", None),
    ];
    for (error, expected) in cases {
        assert_eq!(limit_of(error), expected, "{error}");
    }
}
