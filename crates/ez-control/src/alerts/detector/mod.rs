//! The detector: looks at the figures of the last minutes, and raises what its rules find in them.

mod rules;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use ez_contract::alerts::{AlertFinding, AlertType};
use ez_store::logs::figures::{self, MasterTraffic, Window};
use ez_store::statistics::{self, MasterDay};
use ez_store::{Store, StoreError, alerts, api_keys, child_keys, masters};

use super::raise::{COOLDOWN, Raised, raise_all};
use super::thresholds::{self, Thresholds};
use crate::error::chain;
use crate::{Actor, Control, ControlError};

use rules::Found;
use windows::Windows;

/// Findings of one rule in one run; what is beyond is the least of it, and comes again where it lasts.
const MAX_FINDINGS: usize = 1_000;

/// Findings of one transaction, so that others who write wait for few.
const BATCH: usize = 50;

/// Keys whose quota is looked at: those that are used up most.
const MAX_QUOTAS: u64 = 10_000;

/// Looks at every rule's figures and raises what it finds; how many findings there were. A figure that cannot be read keeps
/// no other rule from its own. May run at several places at once, and again: one cause has one alert.
///
/// Errors: `Unavailable` where a figure could not be read; what the others led to stands.
pub async fn run_once(control: &Control) -> Result<u64, ControlError> {
    let (store, now) = (control.store(), control.now());
    let thresholds = standing_thresholds(control).await?;
    let windows = Windows::of(now, windows::looked_until(store, now).await?);
    let mut looked = Looked::default();
    looked.look(store, &thresholds, &windows).await;
    let Looked { found, mut failure, mut is_minute_missed } = looked;
    let mut findings: Vec<AlertFinding> = found.into_iter().map(|found| found.finding).collect();
    add_names(store, &mut findings).await;
    // Two replicas at once take them in one order, and wait for each other at most.
    findings.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    let mut raised = 0;
    for batch in findings.chunks(BATCH) {
        match raise_batch(control, batch).await {
            Ok(()) => raised += batch.len() as u64,
            Err(error) => {
                is_minute_missed = true;
                failure = Some(failure.unwrap_or(error));
            }
        }
    }
    // What was not seen, or not raised, is looked for again.
    if !is_minute_missed {
        windows::note_looked_until(store, windows.looked_until, now).await?;
    }
    failure.map_or(Ok(raised), Err)
}

/// A setting that was damaged by hand switches no rule off.
async fn standing_thresholds(control: &Control) -> Result<Thresholds, ControlError> {
    match thresholds::standing(control.store()).await {
        Ok(thresholds) => Ok(thresholds),
        Err(error @ StoreError::Corrupt { .. }) => {
            tracing::error!(error = %chain(&error), "alert thresholds cannot be read; the defaults count until they can");
            Ok(Thresholds::default())
        }
        Err(error) => Err(error.into()),
    }
}

/// What the rules found, and the first failure to read what they look at.
#[derive(Default)]
struct Looked {
    found: Vec<Found>,
    failure: Option<ControlError>,
    /// Whether what failed is a rule of a minute, which no later run looks at by itself.
    is_minute_missed: bool,
}

impl Looked {
    async fn look(&mut self, store: &Store, thresholds: &Thresholds, windows: &Windows) {
        self.look_at_minutes(store, thresholds, &windows.minutes).await;
        if thresholds.error_spike_percent > 0 {
            let min_calls = thresholds.error_spike_min_requests;
            let keys = figures::failures_by_key(store, &windows.five_minutes, min_calls).await;
            self.take("error spike", keys.map(|keys| rules::error_spike(&keys, thresholds)));
        }
        if thresholds.provider_down_percent > 0 {
            let min_calls = thresholds.provider_down_min_requests;
            let api_keys = figures::failures_by_api_key(store, &windows.five_minutes, min_calls).await;
            self.take("provider down", api_keys.map(|api_keys| rules::provider_down(&api_keys, thresholds)));
        }
        if thresholds.quota_percent > 0 {
            self.take("quota", used_quotas(store, thresholds, windows.now).await);
        }
        if thresholds.master_rpd > 0 || thresholds.master_tpd > 0 {
            self.take("master RPD and TPD", busy_days(store, &windows.days, thresholds).await);
        }
    }

    async fn look_at_minutes(&mut self, store: &Store, thresholds: &Thresholds, minutes: &[Window]) {
        let mut is_whole = true;
        if thresholds.rate_limited_requests > 0 {
            is_whole &= self.take("rate limit", limited_minutes(store, minutes, thresholds).await);
        }
        if thresholds.global_qps > 0 {
            is_whole &= self.take("global QPS", full_minutes(store, minutes, thresholds).await);
        }
        if thresholds.master_rpm > 0 || thresholds.master_tpm > 0 {
            is_whole &= self.take("master RPM and TPM", busy_minutes(store, minutes, thresholds).await);
        }
        self.is_minute_missed = !is_whole;
    }

    /// Takes what a rule found; whether its figures could be read.
    fn take(&mut self, rule: &'static str, found: Result<Vec<Found>, StoreError>) -> bool {
        match found {
            Ok(found) => {
                self.found.extend(worst(rule, found));
                true
            }
            Err(error) => {
                tracing::warn!(rule, error = %chain(&error), "the figures of an alert rule cannot be read");
                self.failure.get_or_insert(error.into());
                false
            }
        }
    }
}

async fn limited_minutes(store: &Store, minutes: &[Window], thresholds: &Thresholds) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for minute in minutes {
        found.extend(rules::rate_limit(&figures::limited_calls(store, minute).await?, thresholds));
    }
    Ok(found)
}

async fn full_minutes(store: &Store, minutes: &[Window], thresholds: &Thresholds) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for minute in minutes {
        found.extend(rules::global_qps(figures::count(store, minute).await?, thresholds));
    }
    Ok(found)
}

async fn busy_minutes(store: &Store, minutes: &[Window], thresholds: &Thresholds) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for minute in minutes {
        found.extend(rules::master_minute(&figures::traffic_by_master(store, minute).await?, thresholds));
    }
    Ok(found)
}

/// A used quota lasts for weeks. Those whose alert is open, no less severe and told of lately are left out: so there is room
/// for others, and no run brings thousands of alerts up to date. Lately is well within the cooldown, so that a cause whose
/// alert was closed is not taken for one that had been away.
async fn used_quotas(store: &Store, thresholds: &Thresholds, now: DateTime<Utc>) -> Result<Vec<Found>, StoreError> {
    let uses = child_keys::list_quota_used(store, thresholds.quota_percent, MAX_QUOTAS).await?;
    let told = alerts::open_severities(store, AlertType::QuotaExceeded, now - COOLDOWN / 2).await?;
    let is_news = |Found { finding, .. }: &Found| {
        told.get(&finding.fingerprint).is_none_or(|severity| *severity < finding.severity)
    };
    Ok(rules::quota(&uses, thresholds).into_iter().filter(is_news).collect())
}

/// Of roll-ups, and of records that are in none yet: a day has too many records to be added up every minute.
async fn busy_days(store: &Store, days: &[DateTime<Utc>], thresholds: &Thresholds) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    for day in days {
        let masters = statistics::master_days(store, *day).await?;
        let traffic = |MasterDay { master_id, requests, tokens }| MasterTraffic { master_id, calls: requests, tokens };
        let masters: Vec<_> = masters.into_iter().map(traffic).collect();
        found.extend(rules::master_day(&masters, day.date_naive(), thresholds));
    }
    Ok(found)
}

/// The worst of each cause, worst first, and of one rule no more than it may raise at once.
fn worst(rule: &'static str, mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| {
        let by_severity = b.finding.severity.cmp(&a.finding.severity);
        by_severity.then(b.excess.total_cmp(&a.excess)).then_with(|| a.finding.fingerprint.cmp(&b.finding.fingerprint))
    });
    let mut causes = BTreeSet::new();
    found.retain(|found| causes.insert(found.finding.fingerprint.clone()));
    let left_out = found.len().saturating_sub(MAX_FINDINGS);
    if left_out > 0 {
        tracing::warn!(
            rule,
            left_out,
            raised = MAX_FINDINGS,
            "there are more causes of alerts than are raised at once"
        );
        found.truncate(MAX_FINDINGS);
    }
    found
}

/// Names the records that findings are about. Nobody misses an alert for want of a name.
async fn add_names(store: &Store, findings: &mut [AlertFinding]) {
    for kind in [rules::MASTER, rules::KEY, rules::API_KEY] {
        let of_kind = |finding: &&mut AlertFinding| finding.related_type.as_deref() == Some(kind);
        let ids: Vec<i64> = findings.iter_mut().filter(of_kind).filter_map(|finding| finding.related_id).collect();
        if ids.is_empty() {
            continue;
        }
        let names = match kind {
            rules::MASTER => masters::names(store, &ids).await,
            rules::KEY => child_keys::names(store, &ids).await,
            _ => api_keys::names(store, &ids).await,
        };
        let names = names.unwrap_or_else(|error| {
            tracing::warn!(kind, error = %chain(&error), "names for alerts cannot be read");
            BTreeMap::new()
        });
        for finding in findings.iter_mut().filter(of_kind) {
            let name = finding.related_id.and_then(|id| names.get(&id));
            finding.related_name = name.filter(|name| !name.is_empty()).cloned();
        }
    }
}

async fn raise_batch(control: &Control, findings: &[AlertFinding]) -> Result<(), ControlError> {
    let write = control.write(Actor::system()).await?;
    let raised = raise_all(&write, findings.to_vec()).await?;
    write.commit().await?;
    let news = raised.iter().filter(|raised| matches!(raised, Raised::New(_) | Raised::Rose { .. })).count();
    if news > 0 {
        tracing::warn!(news, "alerts were raised, or became worse");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ez_contract::alerts::AlertSeverity;

    use super::*;

    fn of_minute(masters: impl Iterator<Item = (i64, u64)>) -> Vec<Found> {
        let masters: Vec<_> = masters.map(|(master_id, calls)| MasterTraffic { master_id, calls, tokens: 0 }).collect();
        rules::master_minute(&masters, &Thresholds::default())
    }

    #[test]
    fn of_too_many_findings_of_a_rule_the_worst_are_kept() {
        let found = of_minute((0_i64..1_500).map(|id| (id, 600 + id.cast_unsigned())));
        assert_eq!(found.len(), 1_500);
        let mut looked = Looked::default();
        looked.take("a", Ok(found));
        looked.take("b", Ok(of_minute([(9_000, 600)].into_iter())));
        let found = looked.found;
        assert_eq!(found.len(), MAX_FINDINGS + 1, "a rule that finds much silences no other");
        let severities: Vec<_> = found.iter().map(|found| found.finding.severity).collect();
        assert!(severities.is_sorted_by(|a, b| a >= b));
        assert_eq!(severities[0], AlertSeverity::Critical);
        assert_eq!(found[0].finding.related_id, Some(1_499));
        assert!(found.iter().all(|found| found.finding.related_id >= Some(500)));
    }

    #[test]
    fn of_several_minutes_the_worst_of_each_cause_counts() {
        let minutes = [(1, 700), (2, 600), (1, 1_900), (2, 599), (1, 1_300)];
        let found = worst("rpm", minutes.into_iter().flat_map(|minute| of_minute([minute].into_iter())).collect());
        let told: Vec<_> =
            found.iter().map(|found| (found.finding.related_id, found.finding.metadata["value"].clone())).collect();
        assert_eq!(told, [(Some(1), 1_900.into()), (Some(2), 600.into())]);
    }
}
