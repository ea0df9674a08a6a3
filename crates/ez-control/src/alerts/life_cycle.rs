//! The life of an alert: active, acknowledged, and resolved or dismissed in the end.

use ez_store::AlertStatus;
use ez_store::alerts::{self as stored, Alert};

use super::{NOUN, is_open};
use crate::{ControlError, Write};

/// What somebody does about an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertMove {
    /// Looks at it.
    Acknowledge,
    /// Says that its cause is gone.
    Resolve,
    /// Says that it was none.
    Dismiss,
}

impl AlertMove {
    /// As the audit names it.
    const fn action(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Resolve => "resolve",
            Self::Dismiss => "dismiss",
        }
    }
}

/// Moves an alert on. One that is acknowledged already stays with whom it was. Errors: `NotFound`, `Stale`, `Conflict` for
/// one that was resolved or dismissed: that is final.
pub async fn settle(write: &Write, id: i64, step: AlertMove) -> Result<Alert, ControlError> {
    let before = stored::get_for_update(write.tx(), id).await?.ok_or_else(|| ControlError::not_found(NOUN, id))?;
    write.require_fresh(NOUN, &before)?;
    if !is_open(before.status) {
        let message = format!("the alert was {} already, which is final", before.status);
        return Err(ControlError::conflict(message));
    }
    let now = write.now();
    let after = match step {
        AlertMove::Acknowledge if before.status == AlertStatus::Acknowledged => return Ok(before),
        AlertMove::Acknowledge => Alert {
            status: AlertStatus::Acknowledged,
            acked_by: Some(write.actor().kind.to_string()),
            acked_at: Some(now),
            ..before.clone()
        },
        AlertMove::Resolve => Alert { status: AlertStatus::Resolved, resolved_at: Some(now), ..before.clone() },
        AlertMove::Dismiss => Alert { status: AlertStatus::Dismissed, resolved_at: Some(now), ..before.clone() },
    };
    let after = Alert { updated_at: now, ..after };
    stored::update(write.tx(), &after).await?;
    write.record_unpublished(step.action(), Some(&before), &after).await?;
    Ok(after)
}
