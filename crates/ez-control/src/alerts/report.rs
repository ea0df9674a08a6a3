//! Alerts that gateways report.

use ez_contract::alerts::AlertFinding;
use serde_json::Value as Json;

use super::checks::fault_of;
use super::raise::{Raised, raise_all};
use crate::{Actor, Control, ControlError, Origin};

/// Alerts at once.
const MAX_REPORTS: usize = 100;

/// Characters of why one is rejected.
const MAX_REASON_CHARS: usize = 500;

/// What became of reported alerts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertsTaken {
    /// Those that made an alert.
    pub raised: u64,
    /// Those whose alert is open, and was brought up to date.
    pub updated: u64,
    /// Those whose alert was closed, and whose cause was seen within five minutes.
    pub suppressed: u64,
    /// Those that will never be taken.
    pub rejected: Vec<RejectedAlert>,
}

/// A reported alert that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedAlert {
    /// Its place in the report, from 0.
    pub index: usize,
    /// Why not.
    pub reason: String,
}

/// Takes what a gateway reports, each by itself. Errors: `Invalid` for too many at once; `Unavailable`: report them again.
pub async fn take(control: &Control, origin: Origin, reports: Vec<Json>) -> Result<AlertsTaken, ControlError> {
    if reports.len() > MAX_REPORTS {
        return Err(ControlError::invalid("/alerts", format!("must have at most {MAX_REPORTS} entries")));
    }
    let mut taken = AlertsTaken::default();
    let mut findings = Vec::with_capacity(reports.len());
    for (index, report) in reports.into_iter().enumerate() {
        match checked(report) {
            Ok(finding) => findings.push(finding),
            Err(reason) => {
                let reason = reason.chars().take(MAX_REASON_CHARS).collect();
                taken.rejected.push(RejectedAlert { index, reason });
            }
        }
    }
    if !taken.rejected.is_empty() {
        tracing::warn!(rejected = taken.rejected.len(), "alerts that a gateway reported were rejected");
    }
    if findings.is_empty() {
        return Ok(taken);
    }
    let write = control.write(Actor::gateway(origin)).await?;
    for raised in raise_all(&write, findings).await? {
        match raised {
            Raised::New(_) => taken.raised += 1,
            Raised::Rose { .. } | Raised::Updated(_) => taken.updated += 1,
            Raised::Suppressed => taken.suppressed += 1,
        }
    }
    write.commit().await?;
    Ok(taken)
}

fn checked(report: Json) -> Result<AlertFinding, String> {
    let finding: AlertFinding = serde_json::from_value(report).map_err(|error| error.to_string())?;
    match fault_of(&finding) {
        Some(fault) => Err(fault),
        None => Ok(finding),
    }
}
