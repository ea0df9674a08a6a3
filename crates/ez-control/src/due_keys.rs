//! Child keys that time has caught up with: found in batches, each settled in a transaction of its own.

use chrono::{DateTime, Utc};
use ez_contract::alerts::{AlertFinding, AlertSeverity, AlertType};
use ez_contract::status::KeyStatus;
use ez_store::child_keys::{self as stored, ChildKey};
use ez_store::{Store, StoreError, logs};
use serde_json::json;

use crate::alerts::raise_all;
use crate::error::chain;
use crate::quotas::{next_reset, status_of};
use crate::{Actor, Control, ControlError, Write};

/// Keys of one transaction.
const BATCH: u64 = 200;

/// Keys of one transaction that ends them: each may raise an alert besides, and be told to the webhook.
const EXPIRY_BATCH: u64 = 25;

/// Keys of one run whose end has an alert: where more end at once, nobody reads one of each.
const MAX_ALERTS: usize = 100;

/// What has come due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A key's end of life.
    Expiry,
    /// The end of a rotation: the old token has stopped counting.
    OverlapEnd,
    /// A new start of a quota.
    QuotaReset,
}

/// Settles every key for which this is due now; how many those were. Safe to run several times at once and again: a key
/// that someone else holds is left to them or to the next run, and one that is settled is not due any more.
pub(crate) async fn settle_due(control: &Control, due: Due) -> Result<u64, ControlError> {
    let now = control.now();
    let (mut settled, mut after_id) = (0, 0);
    loop {
        // Outside of the transaction: nothing due is the rule, and must not hold up those who write.
        let ids = due.list(control.store(), now, after_id).await?;
        let Some(last) = ids.last() else { break };
        after_id = *last;
        let write = control.write(Actor::system()).await?;
        let changed = settle(&write, due, &ids).await?;
        if due == Due::Expiry {
            raise_all(&write, changed.iter().take(MAX_ALERTS.saturating_sub(settled)).map(ended).collect()).await?;
        }
        settled += changed.len();
        write.commit().await?;
    }
    if due == Due::Expiry && settled > MAX_ALERTS {
        tracing::warn!(expired = settled, alerts = MAX_ALERTS, "more child keys expired at once than have an alert");
    }
    Ok(settled as u64)
}

/// What is said of a key whose time is over.
fn ended(key: &ChildKey) -> AlertFinding {
    let metadata = json!({ "master_id": key.master_id, "expires_at": key.expires_at });
    AlertFinding {
        alert_type: AlertType::KeyExpired,
        severity: AlertSeverity::Info,
        title: format!("child key {} has expired", key.id),
        message: "calls with it are refused from now on; give it a later end, or issue another".to_owned(),
        related_type: Some("key".to_owned()),
        related_id: Some(key.id),
        related_name: Some(key.name.clone()).filter(|name| !name.is_empty()),
        metadata: metadata.as_object().cloned().unwrap_or_default(),
        fingerprint: format!("key_expired:key:{}", key.id),
    }
}

/// Settles those of the keys that are due; each as it is then.
async fn settle(write: &Write, due: Due, ids: &[i64]) -> Result<Vec<ChildKey>, ControlError> {
    let mut changes = Vec::new();
    for id in ids {
        let before = match stored::get_for_update_if_free(write.tx(), *id).await {
            Ok(found) => found,
            // One damaged row must not keep the others from being settled.
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(error = %chain(&error), id, "a child key cannot be read and is passed over");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(before) = before else { continue };
        let quota_used = if due == Due::QuotaReset { used_since_reset(write, &before).await? } else { 0 };
        let Some(after) = due.settled(&before, quota_used, write.now()) else { continue };
        stored::update(write.tx(), &after).await?;
        if due == Due::QuotaReset {
            stored::restart_quota(write.tx(), *id, quota_used).await?;
        }
        changes.push((before, after));
    }
    if !changes.is_empty() {
        let recorded: Vec<_> = changes.iter().map(|(before, after)| (Some(before), after)).collect();
        write.record_all(due.action(), &recorded, &[]).await?;
    }
    Ok(changes.into_iter().map(|(_, after)| after).collect())
}

/// What calls have used that arrived since the quota should have started anew. The key is held, so ingestion counts none
/// of them meanwhile.
async fn used_since_reset(write: &Write, key: &ChildKey) -> Result<u64, ControlError> {
    let next = next_reset(key.quota_reset, write.now());
    let since = next.and_then(|next| stored::quota_start(key.quota_reset, next));
    match since {
        Some(since) => Ok(logs::tokens_since(write.tx(), key.id, since).await?),
        None => Ok(0),
    }
}

impl Due {
    async fn list(self, store: &Store, now: DateTime<Utc>, after_id: i64) -> Result<Vec<i64>, StoreError> {
        match self {
            Self::Expiry => stored::list_expired(store, now, after_id, EXPIRY_BATCH).await,
            Self::OverlapEnd => stored::list_overlap_ended(store, now, after_id, BATCH).await,
            Self::QuotaReset => stored::list_quota_due(store, now, after_id, BATCH).await,
        }
    }

    /// As the audit names it.
    const fn action(self) -> &'static str {
        match self {
            Self::Expiry => "expire",
            Self::OverlapEnd => "end_rotation",
            Self::QuotaReset => "reset_quota",
        }
    }

    /// The key as it should be, with so much used of a quota that starts anew; `None` where nothing is due any more.
    fn settled(self, key: &ChildKey, quota_used: u64, now: DateTime<Utc>) -> Option<ChildKey> {
        let has_come = |time: Option<DateTime<Utc>>| time.is_some_and(|time| time <= now);
        let changed = ChildKey { updated_at: now, ..key.clone() };
        match self {
            Self::Expiry => {
                let status = status_of(key, key.status, now);
                (has_come(key.expires_at) && status != key.status).then_some(ChildKey { status, ..changed })
            }
            Self::OverlapEnd => has_come(key.previous_expires_at).then_some(ChildKey {
                previous_digest: None,
                previous_expires_at: None,
                ..changed
            }),
            Self::QuotaReset => has_come(key.quota_reset_at).then(|| {
                let quota_reset_at = next_reset(key.quota_reset, now);
                let renewed = ChildKey { quota_used, quota_reset_at, ..changed };
                let own = if key.status == KeyStatus::Exhausted { KeyStatus::Active } else { key.status };
                ChildKey { status: status_of(&renewed, own, now), ..renewed }
            }),
        }
    }
}
