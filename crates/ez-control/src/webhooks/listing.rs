//! Reading what became of deliveries.

use ez_store::webhook_deliveries::{self as stored, Delivery};

use crate::{Control, ControlError};

/// A part of the deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage {
    /// Newest first.
    pub items: Vec<Delivery>,
    /// What to give as `before_id` for the next page; none on the last one.
    pub next: Option<i64>,
}

/// A page of deliveries, those before the delivery `before_id` where one is given. Errors: `Unavailable`.
pub async fn list(control: &Control, before_id: Option<i64>, limit: u64) -> Result<DeliveryPage, ControlError> {
    let mut items = stored::list(control.store(), before_id, limit.saturating_add(1)).await?;
    let kept = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > kept;
    items.truncate(kept);
    let next = items.last().filter(|_| has_more).map(|last| last.id);
    Ok(DeliveryPage { items, next })
}
