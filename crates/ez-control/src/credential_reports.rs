//! Credential reports: what gateways learned of API keys. Bans switch keys off, cooldowns and breakers are shared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use ez_contract::health::{BreakerState, CredentialReport, Evidence, Finding, HealthKind, HealthState};
use ez_contract::status::ApiKeyStatus;
use ez_store::api_keys::{self as stored, ApiKey};
use serde_json::{Value as Json, json};

use crate::alerts::raise_all;
use crate::api_key_batches::record;
use crate::vendor_words::shown;
use crate::{Actor, Control, ControlError, Origin};

/// Reports at once.
const MAX_REPORTS: usize = 1000;

/// The longest that a cooldown or a breaker state is kept.
const MAX_HEALTH: TimeDelta = TimeDelta::hours(24);

/// How long a breaker state is kept that names no end.
const BREAKER_TTL: TimeDelta = TimeDelta::minutes(5);

/// Request ids that are kept of a report's evidence, and characters of each.
const MAX_REQUEST_IDS: usize = 5;
const MAX_ID_CHARS: usize = 128;

/// RFC 3339 has four digits for the year.
const MAX_YEAR: i32 = 9999;

/// Characters of a model id.
const MAX_MODEL_CHARS: usize = 200;

/// What became of reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportsTaken {
    /// Reports that changed something.
    pub applied: u64,
    /// Reports that change nothing: the API key is off already, may not be banned, or the time is over.
    pub ignored: u64,
    /// Reports that will never be taken.
    pub rejected: Vec<RejectedReport>,
}

/// A report that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedReport {
    /// Its place among the reports, from 0.
    pub index: usize,
    /// Why not.
    pub reason: String,
}

/// A report of an API key that exists.
struct Known<'a> {
    api_key_id: i64,
    report: &'a CredentialReport,
}

/// Takes reports; handing them in again changes nothing. Each is judged by itself. Errors: `Invalid` for too many at
/// once; `Unavailable`: hand them in again.
pub async fn take(control: &Control, origin: Origin, reports: Vec<Json>) -> Result<ReportsTaken, ControlError> {
    if reports.len() > MAX_REPORTS {
        return Err(ControlError::invalid("/reports", format!("must have at most {MAX_REPORTS} entries")));
    }
    let mut taken = ReportsTaken::default();
    let mut parsed = Vec::with_capacity(reports.len());
    for (index, report) in reports.into_iter().enumerate() {
        match checked(report) {
            Ok(report) => parsed.push((index, report)),
            Err(reason) => taken.rejected.push(RejectedReport { index, reason }),
        }
    }
    let ids: BTreeSet<i64> = parsed.iter().map(|(_, report)| report.api_key_id).collect();
    let ids: Vec<i64> = ids.into_iter().collect();
    let existing: BTreeSet<i64> =
        stored::list_by_ids(control.store(), &ids).await?.iter().map(|api_key| api_key.id).collect();
    let mut known = Vec::with_capacity(parsed.len());
    for (index, report) in &parsed {
        let api_key_id = report.api_key_id;
        if existing.contains(&api_key_id) {
            known.push(Known { api_key_id, report });
        } else {
            let reason = format!("API key {api_key_id} does not exist");
            taken.rejected.push(RejectedReport { index: *index, reason });
        }
    }
    take_bans(control, origin, &known, &mut taken).await?;
    take_health(control, &known, &mut taken).await?;
    taken.rejected.sort_by_key(|rejected| rejected.index);
    if !taken.rejected.is_empty() {
        tracing::warn!(rejected = taken.rejected.len(), "reports on API keys were rejected");
    }
    Ok(taken)
}

fn checked(report: Json) -> Result<CredentialReport, String> {
    let report: CredentialReport = serde_json::from_value(report).map_err(|error| error.to_string())?;
    let model = match &report.finding {
        Finding::Ban { .. } => None,
        Finding::Cooldown { model, .. } | Finding::Breaker { model, .. } => model.as_deref(),
    };
    let is_model =
        |text: &str| !text.is_empty() && text.chars().count() <= MAX_MODEL_CHARS && !text.chars().any(char::is_control);
    if model.is_some_and(|model| !is_model(model)) {
        return Err(format!("`model` must be 1 to {MAX_MODEL_CHARS} characters without control characters"));
    }
    if matches!(report.finding, Finding::Ban { until: Some(until) } if until.year() > MAX_YEAR) {
        return Err(format!("`until` must be in the year {MAX_YEAR} or before; leave it out for a ban without end"));
    }
    Ok(report)
}

/// Switches off what gateways banned, in one transaction.
async fn take_bans(
    control: &Control,
    origin: Origin,
    known: &[Known<'_>],
    taken: &mut ReportsTaken,
) -> Result<(), ControlError> {
    let bans: Vec<_> = known
        .iter()
        .filter_map(|Known { api_key_id, report }| match report.finding {
            Finding::Ban { until } => Some((*api_key_id, until, *report)),
            _ => None,
        })
        .collect();
    if bans.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = bans.iter().map(|(id, ..)| *id).collect();
    let write = control.write(Actor::gateway(origin)).await?;
    let standing = stored::list_for_update(write.tx(), &ids).await?;
    let mut banned: BTreeMap<i64, ApiKey> = BTreeMap::new();
    for (id, until, report) in bans {
        let before = standing.iter().find(|api_key| api_key.id == id && !banned.contains_key(&id));
        match before.filter(|before| is_bannable(before, until, report.observed_at, write.now())) {
            Some(before) => {
                let (status, ban_reason) = (ApiKeyStatus::AutoDisabled, Some(told(report)));
                let updated_at = write.now();
                banned.insert(id, ApiKey { status, ban_reason, ban_until: until, updated_at, ..before.clone() });
            }
            None => taken.ignored += 1,
        }
    }
    for api_key in banned.values() {
        stored::update(write.tx(), api_key).await?;
    }
    let before = standing.iter().filter(|api_key| banned.contains_key(&api_key.id));
    let changes: Vec<(Option<&ApiKey>, &ApiKey)> = before.map(Some).zip(banned.values()).collect();
    if changes.is_empty() {
        return Ok(());
    }
    record(&write, "ban", &changes).await?;
    raise_all(&write, banned.values().map(switched_off).collect()).await?;
    let count = changes.len();
    write.commit().await?;
    tracing::warn!(count, "API keys were switched off, as their upstreams refuse them");
    taken.applied += u64::try_from(count).unwrap_or(u64::MAX);
    Ok(())
}

/// What is said of an API key that was switched off. It stands until somebody has seen to it, also where the ban ends by
/// itself.
fn switched_off(api_key: &ApiKey) -> AlertFinding {
    let metadata = json!({
        "group_id": api_key.group_id, "reason": api_key.ban_reason, "ban_until": api_key.ban_until,
    });
    AlertFinding {
        alert_type: AlertType::KeyDisabled,
        severity: AlertSeverity::Warning,
        title: format!("API key {} was switched off", api_key.id),
        message: api_key.ban_reason.clone().unwrap_or_default(),
        related_type: Some("api_key".to_owned()),
        related_id: Some(api_key.id),
        related_name: Some(api_key.name.clone()).filter(|name| !name.is_empty()),
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        fingerprint: format!("key_disabled:api_key:{}", api_key.id),
    }
}

/// Whether a ban is news: the key is in use, may be banned, and is still what the ban is about.
fn is_bannable(
    api_key: &ApiKey,
    until: Option<DateTime<Utc>>,
    observed_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> bool {
    api_key.auto_ban
        && api_key.status == ApiKeyStatus::Active
        && until.is_none_or(|until| until > now)
        && observed_at.is_none_or(|observed_at| observed_at >= api_key.updated_at)
}

/// Shares cooldowns and breaker states, and forgets breakers that closed.
async fn take_health(control: &Control, known: &[Known<'_>], taken: &mut ReportsTaken) -> Result<(), ControlError> {
    let now = control.now();
    for Known { api_key_id, report } in known {
        let (kind, model, state, until) = match &report.finding {
            Finding::Ban { .. } => continue,
            Finding::Cooldown { model, until } => (HealthKind::Cooldown, model, None, *until),
            Finding::Breaker { model, state, until } => {
                (HealthKind::Breaker, model, Some(*state), until.unwrap_or(now + BREAKER_TTL))
            }
        };
        if state == Some(BreakerState::Closed) {
            control.state().remove_health(*api_key_id, kind, model.as_deref()).await?;
            taken.applied += 1;
            continue;
        }
        let until = until.min(now + MAX_HEALTH);
        let left = (until - now).to_std().unwrap_or(Duration::ZERO);
        if left.is_zero() {
            taken.ignored += 1;
            continue;
        }
        let reason = told(report);
        let health =
            HealthState { api_key_id: *api_key_id, kind, model: model.clone(), state, reason, until, reported_at: now };
        control.state().put_health(&health, left).await?;
        taken.applied += 1;
    }
    Ok(())
}

/// The reason with its evidence, bounded and without what vendors' words may give away.
fn told(report: &CredentialReport) -> String {
    let Evidence { request_ids, status } = &report.evidence;
    let reason = shown(&report.reason);
    let reason = if reason.is_empty() { "the gateway gave no reason".to_owned() } else { reason };
    let is_id = |id: &&String| id.len() <= MAX_ID_CHARS && id.bytes().all(|byte| byte.is_ascii_graphic());
    let ids: Vec<&str> = request_ids.iter().filter(is_id).take(MAX_REQUEST_IDS).map(String::as_str).collect();
    let status = status.map(|status| format!("status {status}"));
    let ids = Some(format!("requests {}", ids.join(", "))).filter(|_| !ids.is_empty());
    let evidence: Vec<String> = status.into_iter().chain(ids).collect();
    if evidence.is_empty() { reason } else { format!("{reason} ({})", evidence.join("; ")) }
}
