//! Alerts: what somebody should look at. Whatever finds a cause calls [`raise`], which makes one alert of it however often
//! and wherever it is seen; people acknowledge, resolve and dismiss.

mod checks;
mod life_cycle;
mod raise;
mod report;

pub mod detector;
pub mod thresholds;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ez_contract::alerts::{AlertSeverity, AlertType};
use ez_store::alerts::{self as stored, Alert, AlertCount, AlertCursor, AlertFilter, NewAlert};
use ez_store::{AlertStatus, RecordKind};
use serde_json::{Map, Value as Json, json};

use crate::error::Faults;
use crate::recorded::Recorded;
use crate::webhooks::{self, AlertChange};
use crate::{Control, ControlError, Write};

pub use life_cycle::{AlertMove, settle};
pub use raise::{COOLDOWN, Raised, raise, raise_all};
pub use report::{AlertsTaken, RejectedAlert, take};

/// What an alert is called.
const NOUN: &str = "alert";

/// An alert that an administrator enters.
#[derive(Debug, Clone)]
pub struct CreateAlert {
    /// What it is about.
    pub alert_type: AlertType,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// One line for people.
    pub title: String,
    /// More for people.
    pub message: Option<String>,
    /// Kind of what it is about.
    pub related_type: Option<String>,
    /// Its id.
    pub related_id: Option<i64>,
    /// Its name.
    pub related_name: Option<String>,
    /// Figures for programs.
    pub metadata: Option<Map<String, Json>>,
    /// The identity of its cause; without one it is nobody's duplicate.
    pub fingerprint: Option<String>,
}

/// A part of the alerts.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertPage {
    /// Newest first.
    pub items: Vec<Alert>,
    /// Where the next page starts; none on the last one.
    pub next: Option<AlertCursor>,
}

/// How many alerts there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertStats {
    /// Of each status, with or without any.
    pub by_status: BTreeMap<AlertStatus, u64>,
    /// Of each severity.
    pub by_severity: BTreeMap<AlertSeverity, u64>,
    /// Of each severity, of those that are active or acknowledged.
    pub open_by_severity: BTreeMap<AlertSeverity, u64>,
}

impl Recorded for Alert {
    const KIND: RecordKind = RecordKind::Alert;

    fn id(&self) -> i64 {
        self.id
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.updated_at
    }

    /// Without what each sighting changes: who acknowledges an alert must not miss it by a minute.
    fn audited(&self) -> Json {
        json!({
            "type": self.alert_type, "severity": self.severity, "status": self.status, "title": self.title,
            "related_type": self.related_type, "related_id": self.related_id, "related_name": self.related_name,
            "fingerprint": self.fingerprint, "acked_by": self.acked_by, "acked_at": self.acked_at,
            "resolved_at": self.resolved_at,
        })
    }
}

/// Whether an alert with this status still stands for its cause.
pub fn is_open(status: AlertStatus) -> bool {
    match status {
        AlertStatus::Active | AlertStatus::Acknowledged => true,
        AlertStatus::Resolved | AlertStatus::Dismissed => false,
    }
}

/// Enters an alert. Errors: `Invalid`, `Conflict` where one of the same fingerprint is open.
pub async fn create(write: &Write, new: CreateAlert) -> Result<Alert, ControlError> {
    let message = new.message.unwrap_or_default();
    let metadata = new.metadata.unwrap_or_default();
    let mut faults = Faults::default();
    checks::title(&mut faults, &new.title);
    checks::message(&mut faults, &message);
    checks::related(&mut faults, new.related_type.as_deref(), new.related_name.as_deref());
    checks::metadata(&mut faults, &metadata);
    if let Some(fingerprint) = &new.fingerprint {
        checks::fingerprint(&mut faults, fingerprint);
    }
    faults.into_result()?;
    let row = NewAlert {
        alert_type: new.alert_type,
        severity: new.severity,
        title: new.title,
        message,
        related_type: new.related_type,
        related_id: new.related_id,
        related_name: new.related_name,
        metadata: metadata.into(),
        fingerprint: new.fingerprint,
        created_at: write.now(),
    };
    let Some(alert) = stored::create_unless_open(write.tx(), &row).await? else {
        let message = "an alert with this fingerprint is open; resolve or dismiss that one, or choose another";
        return Err(ControlError::conflict(message));
    };
    write.note_raised(&alert);
    webhooks::enqueue_alert(write.tx(), write.now(), &alert, AlertChange::Raised).await?;
    write.record_unpublished("create", None, &alert).await?;
    Ok(alert)
}

/// A page of the alerts that match, those after `cursor` where one is given.
pub async fn list(
    control: &Control,
    filter: &AlertFilter,
    cursor: Option<&AlertCursor>,
    limit: u64,
) -> Result<AlertPage, ControlError> {
    let mut items = stored::list(control.store(), filter, cursor, limit.saturating_add(1)).await?;
    let kept = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > kept;
    items.truncate(kept);
    let last = items.last().filter(|_| has_more);
    let next = last.map(|last| AlertCursor { created_at: last.created_at, id: last.id });
    Ok(AlertPage { items, next })
}

/// The alert with this id. Errors: `NotFound`.
pub async fn get(control: &Control, id: i64) -> Result<Alert, ControlError> {
    stored::get(control.store(), id).await?.ok_or_else(|| ControlError::not_found(NOUN, id))
}

/// How many alerts there are. Errors: `Unavailable`.
pub async fn stats(control: &Control) -> Result<AlertStats, ControlError> {
    Ok(added_up(&stored::counts(control.store()).await?))
}

fn added_up(counts: &[AlertCount]) -> AlertStats {
    let mut stats = AlertStats {
        by_status: AlertStatus::ALL.iter().map(|status| (*status, 0)).collect(),
        by_severity: AlertSeverity::ALL.iter().map(|severity| (*severity, 0)).collect(),
        open_by_severity: AlertSeverity::ALL.iter().map(|severity| (*severity, 0)).collect(),
    };
    for AlertCount { status, severity, count } in counts {
        *stats.by_status.entry(*status).or_default() += count;
        *stats.by_severity.entry(*severity).or_default() += count;
        if is_open(*status) {
            *stats.open_by_severity.entry(*severity).or_default() += count;
        }
    }
    stats
}
