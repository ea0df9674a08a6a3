//! The detector's rules: from figures to findings, by nothing but thresholds. Each finding's metadata names metric, value,
//! threshold and window; the fingerprint names rule and subject, so that of each at most one alert is open.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use ez_store::child_keys::QuotaUse;
use ez_store::logs::figures::{CallCounts, LimitedCalls, MasterTraffic};
use serde_json::{Map, Value as Json, json};

use crate::alerts::thresholds::Thresholds;

/// Windows, seconds.
const MINUTE: u64 = 60;
const FIVE_MINUTES: u64 = 300;
const DAY: u64 = 24 * 3600;

/// A value of so many times the threshold of a traffic spike is critical.
const CRITICAL_FACTOR: u64 = 2;

/// Keys that a finding on limits names.
const MAX_KEYS_NAMED: usize = 10;

/// Kind of the record that a finding is about, as it stands in `related_type`.
pub(super) const MASTER: &str = "master";
pub(super) const KEY: &str = "key";
pub(super) const API_KEY: &str = "api_key";

/// What a rule found, and how far it is beyond its threshold, as a factor.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) finding: AlertFinding,
    pub(super) excess: f64,
}

/// What a finding tells in figures.
struct Figures {
    metric: &'static str,
    value: Json,
    threshold: u64,
    window_seconds: Option<u64>,
    /// And besides.
    more: Vec<(&'static str, Json)>,
}

/// Masters that limits refused calls in a minute.
pub(super) fn rate_limit(limited: &[LimitedCalls], thresholds: &Thresholds) -> Vec<Found> {
    let threshold = thresholds.rate_limited_requests;
    let mut masters: BTreeMap<i64, Vec<&LimitedCalls>> = BTreeMap::new();
    for calls in limited {
        masters.entry(calls.master_id).or_default().push(calls);
    }
    let found = masters.into_iter().filter_map(|(id, mut keys)| {
        let calls = keys.iter().map(|key| key.calls).fold(0, u64::saturating_add);
        if threshold == 0 || calls < threshold {
            return None;
        }
        keys.sort_by_key(|key| (std::cmp::Reverse(key.calls), key.key_id));
        let mut limits: Vec<&str> = keys.iter().filter_map(|key| limit_of(key.error.as_deref()?)).collect();
        limits.sort_unstable();
        limits.dedup();
        let ids: Vec<i64> = keys.iter().take(MAX_KEYS_NAMED).map(|key| key.key_id).collect();
        let named = if limits.is_empty() { String::new() } else { format!(" ({})", limits.join(", ")) };
        let subject = Subject {
            alert_type: AlertType::RateLimit,
            kind: MASTER,
            id,
            fingerprint: format!("rate_limit:master:{id}"),
            title: format!("master {id} ran into its limits"),
            message: format!(
                "{calls} calls of {} child keys were refused within a minute{named}; raise the limits, or see what \
                 calls so often",
                keys.len()
            ),
        };
        let figures = Figures {
            metric: "limited_requests",
            value: calls.into(),
            threshold,
            window_seconds: Some(MINUTE),
            more: vec![("keys", json!(ids)), ("limits", json!(limits))],
        };
        Some(subject.found(AlertSeverity::Warning, figures, ratio(calls, threshold)))
    });
    found.collect()
}

/// Child keys of which many calls fail, whoever is at fault.
pub(super) fn error_spike(keys: &[CallCounts], thresholds: &Thresholds) -> Vec<Found> {
    let levels = Levels {
        warning: thresholds.error_spike_percent,
        critical: thresholds.error_spike_critical_percent,
        min_calls: thresholds.error_spike_min_requests,
    };
    let found = keys.iter().filter_map(|counts| {
        let severity = levels.of(counts)?;
        let CallCounts { id, calls, failures } = *counts;
        let subject = Subject {
            alert_type: AlertType::ErrorSpike,
            kind: KEY,
            id,
            fingerprint: format!("error_spike:key:{id}"),
            title: format!("calls of child key {id} fail"),
            message: format!(
                "{failures} of {calls} calls failed within 5 minutes; the log records of the key tell why"
            ),
        };
        Some(subject.found(severity, levels.figures("error_percent", counts), levels.excess(counts)))
    });
    found.collect()
}

/// API keys of which many calls fail; faults of clients are not in the figures.
pub(super) fn provider_down(api_keys: &[CallCounts], thresholds: &Thresholds) -> Vec<Found> {
    let levels = Levels {
        warning: thresholds.provider_down_percent,
        critical: thresholds.provider_down_critical_percent,
        min_calls: thresholds.provider_down_min_requests,
    };
    let found = api_keys.iter().filter_map(|counts| {
        let severity = levels.of(counts)?;
        let CallCounts { id, calls, failures } = *counts;
        let subject = Subject {
            alert_type: AlertType::ProviderDown,
            kind: API_KEY,
            id,
            fingerprint: format!("provider_down:api_key:{id}"),
            title: format!("the upstream of API key {id} fails"),
            message: format!(
                "{failures} of {calls} calls failed by the upstream's fault within 5 minutes; test the API key, or \
                 switch it off"
            ),
        };
        Some(subject.found(severity, levels.figures("failure_percent", counts), levels.excess(counts)))
    });
    found.collect()
}

/// Child keys that have used their quota, or nearly.
pub(super) fn quota(uses: &[QuotaUse], thresholds: &Thresholds) -> Vec<Found> {
    let threshold = thresholds.quota_percent;
    let found = uses.iter().filter_map(|&QuotaUse { key_id, limit, used }| {
        // A quota of nothing is meant to let nothing through.
        if threshold == 0 || limit == 0 || !reaches(used, limit, threshold) {
            return None;
        }
        let severity = if used >= limit { AlertSeverity::Critical } else { AlertSeverity::Warning };
        let subject = Subject {
            alert_type: AlertType::QuotaExceeded,
            kind: KEY,
            id: key_id,
            fingerprint: format!("quota:key:{key_id}"),
            title: format!("child key {key_id} has used up its quota, or nearly"),
            message: format!("{used} of {limit} tokens are used; calls are refused once all are"),
        };
        let figures = Figures {
            metric: "quota_percent",
            value: percent(used, limit),
            threshold,
            window_seconds: None,
            more: vec![("quota_used", used.into()), ("quota_limit", limit.into())],
        };
        Some(subject.found(severity, figures, percent_f64(used, limit) / threshold as f64))
    });
    found.collect()
}

/// Calls of all masters in a minute.
pub(super) fn global_qps(calls: u64, thresholds: &Thresholds) -> Vec<Found> {
    let threshold = thresholds.global_qps;
    let Some(severity) = spike(calls, threshold.saturating_mul(MINUTE)) else { return Vec::new() };
    let qps = rounded(calls as f64 / MINUTE as f64);
    let finding = AlertFinding {
        alert_type: AlertType::TrafficSpike,
        severity,
        title: "there are more calls than there should be".to_owned(),
        message: format!("{qps} calls a second ended within a minute; the threshold is {threshold}"),
        related_type: None,
        related_id: None,
        related_name: None,
        metadata: metadata(Figures {
            metric: "global_qps",
            value: json!(qps),
            threshold,
            window_seconds: Some(MINUTE),
            more: vec![("requests", calls.into())],
        }),
        fingerprint: "traffic_spike:global:qps".to_owned(),
    };
    vec![Found { finding, excess: qps / threshold as f64 }]
}

/// Calls and tokens of each master in a minute, of those with enough of them to tell.
pub(super) fn master_minute(masters: &[MasterTraffic], thresholds: &Thresholds) -> Vec<Found> {
    let found = masters.iter().flat_map(|&MasterTraffic { master_id, calls, tokens }| {
        let has_calls = calls >= thresholds.min_rpm_requests;
        let has_tokens = tokens >= thresholds.min_tpm_tokens;
        let rpm = has_calls.then(|| RPM.found(master_id, calls, thresholds.master_rpm, None)).flatten();
        let tpm = has_tokens.then(|| TPM.found(master_id, tokens, thresholds.master_tpm, None)).flatten();
        rpm.into_iter().chain(tpm)
    });
    found.collect()
}

/// Calls and tokens of each master of a day.
pub(super) fn master_day(masters: &[MasterTraffic], day: NaiveDate, thresholds: &Thresholds) -> Vec<Found> {
    let found = masters.iter().flat_map(|&MasterTraffic { master_id, calls, tokens }| {
        let rpd = RPD.found(master_id, calls, thresholds.master_rpd, Some(day));
        let tpd = TPD.found(master_id, tokens, thresholds.master_tpd, Some(day));
        rpd.into_iter().chain(tpd)
    });
    found.collect()
}

/// What of a master's traffic is measured.
struct Measure {
    name: &'static str,
    /// The name of its threshold.
    metric: &'static str,
    unit: &'static str,
    window_seconds: u64,
}

const RPM: Measure = Measure { name: "rpm", metric: "master_rpm", unit: "calls", window_seconds: MINUTE };
const TPM: Measure = Measure { name: "tpm", metric: "master_tpm", unit: "tokens", window_seconds: MINUTE };
const RPD: Measure = Measure { name: "rpd", metric: "master_rpd", unit: "calls", window_seconds: DAY };
const TPD: Measure = Measure { name: "tpd", metric: "master_tpd", unit: "tokens", window_seconds: DAY };

impl Measure {
    /// Of a minute, or of the day that is given.
    fn found(&self, id: i64, value: u64, threshold: u64, day: Option<NaiveDate>) -> Option<Found> {
        let severity = spike(value, threshold)?;
        let Self { name, metric, unit, window_seconds } = *self;
        let when = day.map_or_else(|| "within a minute".to_owned(), |day| format!("on {day} (UTC)"));
        let subject = Subject {
            alert_type: AlertType::TrafficSpike,
            kind: MASTER,
            id,
            fingerprint: format!("traffic_spike:master:{id}:{name}"),
            title: format!("master {id} has more traffic than it should: {name}"),
            message: format!("{value} {unit} {when}; the threshold is {threshold}"),
        };
        let figures = Figures {
            metric,
            value: value.into(),
            threshold,
            window_seconds: Some(window_seconds),
            more: day.map(|day| ("day", json!(day.to_string()))).into_iter().collect(),
        };
        Some(subject.found(severity, figures, ratio(value, threshold)))
    }
}

/// From which part of failures on there is an alert, percent.
struct Levels {
    warning: u64,
    critical: u64,
    min_calls: u64,
}

impl Levels {
    fn of(&self, counts: &CallCounts) -> Option<AlertSeverity> {
        let CallCounts { calls, failures, .. } = *counts;
        let is_enough = calls >= self.min_calls && calls > 0;
        if self.warning == 0 || !is_enough || !reaches(failures, calls, self.warning) {
            return None;
        }
        let is_critical = self.critical > 0 && reaches(failures, calls, self.critical);
        Some(if is_critical { AlertSeverity::Critical } else { AlertSeverity::Warning })
    }

    fn figures(&self, metric: &'static str, counts: &CallCounts) -> Figures {
        let CallCounts { calls, failures, .. } = *counts;
        Figures {
            metric,
            value: percent(failures, calls),
            threshold: self.warning,
            window_seconds: Some(FIVE_MINUTES),
            more: vec![("requests", calls.into()), ("failures", failures.into())],
        }
    }

    fn excess(&self, counts: &CallCounts) -> f64 {
        percent_f64(counts.failures, counts.calls) / self.warning as f64
    }
}

/// A record that a finding is about, and what there is to say.
struct Subject {
    alert_type: AlertType,
    kind: &'static str,
    id: i64,
    fingerprint: String,
    title: String,
    message: String,
}

impl Subject {
    fn found(self, severity: AlertSeverity, figures: Figures, excess: f64) -> Found {
        let finding = AlertFinding {
            alert_type: self.alert_type,
            severity,
            title: self.title,
            message: self.message,
            related_type: Some(self.kind.to_owned()),
            related_id: Some(self.id),
            related_name: None,
            metadata: metadata(figures),
            fingerprint: self.fingerprint,
        };
        Found { finding, excess }
    }
}

fn metadata(figures: Figures) -> Map<String, Json> {
    let Figures { metric, value, threshold, window_seconds, more } = figures;
    let named = [
        ("metric", Json::from(metric)),
        ("value", value),
        ("threshold", threshold.into()),
        ("window", window_seconds.into()),
    ];
    named.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `warning` at the threshold, `critical` at twice it; a threshold of 0 is none.
fn spike(value: u64, threshold: u64) -> Option<AlertSeverity> {
    if threshold == 0 || value < threshold {
        return None;
    }
    let is_critical = value >= threshold.saturating_mul(CRITICAL_FACTOR);
    Some(if is_critical { AlertSeverity::Critical } else { AlertSeverity::Warning })
}

/// Whether a part is so many percent of the whole, exactly.
fn reaches(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

fn ratio(value: u64, threshold: u64) -> f64 {
    value as f64 / threshold.max(1) as f64
}

fn percent(part: u64, whole: u64) -> Json {
    json!(rounded(percent_f64(part, whole)))
}

fn percent_f64(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// To two places.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The limit that a refusal names: `rpm` of ``rate_limit_exceeded: the limit `rpm` of …``, else the refusal's code.
fn limit_of(error: &str) -> Option<&str> {
    let (code, message) = error.split_once(": ")?;
    let is_word = |text: &&str| {
        !text.is_empty() && text.len() <= 40 && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())
    };
    message.split('`').nth(1).filter(is_word).or_else(|| Some(code).filter(is_word))
}

#[cfg(test)]
mod tests;
