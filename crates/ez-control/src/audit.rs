//! Audit: reading who changed what. Entries are written with the changes themselves.

use ez_store::audit::{self as stored, AuditEntry};

use crate::{Control, ControlError};

/// A part of the audit.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditPage {
    /// Newest first.
    pub items: Vec<AuditEntry>,
    /// What to give as `before_id` for the next page; none on the last one.
    pub next: Option<i64>,
}

/// A page of audit entries, those before the entry `before_id` where one is given.
pub async fn list(control: &Control, before_id: Option<i64>, limit: u64) -> Result<AuditPage, ControlError> {
    let mut items = stored::list(control.store(), before_id, limit.saturating_add(1)).await?;
    let kept = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > kept;
    items.truncate(kept);
    let next = items.last().filter(|_| has_more).map(|last| last.id);
    Ok(AuditPage { items, next })
}
