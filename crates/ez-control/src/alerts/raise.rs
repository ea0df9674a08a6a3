//! Raising: the one way in which a cause becomes an alert.

use chrono::TimeDelta;
use ez_contract::alerts::{AlertFinding, AlertSeverity};
use ez_store::alerts::{self as stored, Alert, NewAlert};

use super::is_open;
use crate::error::chain;
use crate::webhooks::{self, AlertChange};
use crate::{ControlError, Write};

/// How long a cause whose alert was closed makes no other one after it was last seen.
pub const COOLDOWN: TimeDelta = TimeDelta::minutes(5);

/// How often an alert may be opened and closed by others between two looks.
const MAX_LOOKS: usize = 5;

/// What became of a finding.
#[derive(Debug, Clone, PartialEq)]
pub enum Raised {
    /// It made an alert.
    New(Alert),
    /// Its alert is open, and is worse now than it was.
    Rose {
        /// As it is now.
        alert: Alert,
        /// How bad it was.
        from: AlertSeverity,
    },
    /// Its alert is open, and tells what was seen last.
    Updated(Alert),
    /// Its alert was closed, and its cause seen too short ago to make another one.
    Suppressed,
}

/// Makes an alert of a finding, or brings the open one up to date: of one fingerprint one is open at most, wherever its
/// cause is seen. Several in one unit of work go through [`raise_all`]. Errors: `Unavailable`.
pub async fn raise(write: &Write, finding: &AlertFinding) -> Result<Raised, ControlError> {
    let (tx, now, fingerprint) = (write.tx(), write.now(), finding.fingerprint.as_str());
    for _ in 0..MAX_LOOKS {
        if let Some(open) = stored::get_open_for_update(tx, fingerprint).await? {
            return see_again(write, open, finding).await;
        }
        match stored::newest(tx, fingerprint).await? {
            // Another has just opened it.
            Some(newest) if is_open(newest.status) => continue,
            // In either direction: a clock that is ahead must not silence a cause for as long as it is.
            Some(closed) if (now - closed.last_seen_at).abs() < COOLDOWN => return Ok(Raised::Suppressed),
            _ => {}
        }
        if let Some(alert) = stored::create_unless_open(tx, &new_alert(write, finding)).await? {
            write.note_raised(&alert);
            webhooks::enqueue_alert(tx, now, &alert, AlertChange::Raised).await?;
            return Ok(Raised::New(alert));
        }
        // Another is just opening it.
    }
    Ok(Raised::Suppressed)
}

/// Raises several in the order of their fingerprints, so that two who do so wait for each other and never deadlock; what
/// became of each, in that order. One whose alert cannot be read is told of and passed over. Errors: `Unavailable`.
pub async fn raise_all(write: &Write, mut findings: Vec<AlertFinding>) -> Result<Vec<Raised>, ControlError> {
    // A stable order: of two with one fingerprint the later one is seen last.
    findings.sort_by(|a, b| a.fingerprint.cmp(&b.fingerprint));
    let mut raised = Vec::with_capacity(findings.len());
    for finding in &findings {
        match raise(write, finding).await {
            Ok(outcome) => raised.push(outcome),
            // One damaged row must not keep the others from being told, nor what they are told with from being done.
            Err(error) if error.is_corrupt() => {
                let fingerprint = &finding.fingerprint;
                tracing::error!(error = %chain(&error), fingerprint, "an alert cannot be read and is passed over");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(raised)
}

async fn see_again(write: &Write, open: Alert, finding: &AlertFinding) -> Result<Raised, ControlError> {
    let from = open.severity;
    let is_worse = finding.severity > from;
    let alert = Alert {
        severity: from.max(finding.severity),
        message: finding.message.clone(),
        metadata: finding.metadata.clone().into(),
        last_seen_at: open.last_seen_at.max(write.now()),
        occurrences: open.occurrences.saturating_add(1),
        updated_at: if is_worse { write.now() } else { open.updated_at },
        ..open
    };
    stored::update(write.tx(), &alert).await?;
    if !is_worse {
        return Ok(Raised::Updated(alert));
    }
    write.note_raised(&alert);
    webhooks::enqueue_alert(write.tx(), write.now(), &alert, AlertChange::Escalated).await?;
    Ok(Raised::Rose { alert, from })
}

fn new_alert(write: &Write, finding: &AlertFinding) -> NewAlert {
    let finding = finding.clone();
    NewAlert {
        alert_type: finding.alert_type,
        severity: finding.severity,
        title: finding.title,
        message: finding.message,
        related_type: finding.related_type,
        related_id: finding.related_id,
        related_name: finding.related_name,
        metadata: finding.metadata.into(),
        fingerprint: Some(finding.fingerprint),
        created_at: write.now(),
    }
}
