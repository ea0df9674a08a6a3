//! Publication of use: gateways learn what was counted of quotas and budgets, many at once and now and then, and keys
//! whose quota is used up are marked so.

use std::collections::BTreeSet;

use ez_contract::snapshot::SnapshotKey;
use ez_contract::status::KeyStatus;
use ez_store::child_keys::{self, ChildKey};
use ez_store::{RecordKind, Store, StoreError, usage};

use crate::error::chain;
use crate::quotas::status_of;
use crate::recorded::Recorded;
use crate::{Actor, Control, ControlError, Write};

/// Records of one transaction.
const BATCH: u64 = 200;

/// Records that a comparison looks at to tell drift from use that is still to be published.
const MAX_PENDING: u64 = 100_000;

/// Has the use of quotas and budgets published that was counted since the last run, and marks exhausted keys; how many
/// keys and masters that were. May run at several places at once, and again: a key that someone else holds is left to
/// them or to the next run.
///
/// Errors: `Unavailable`; what was done until then stays.
pub async fn run_once(control: &Control) -> Result<u64, ControlError> {
    let mut published = 0;
    for kind in [RecordKind::Key, RecordKind::Master] {
        let mut after_id = 0;
        loop {
            // Outside of the transaction, as nothing to publish is the rule.
            let ids = usage::list_unpublished(control.store(), kind, after_id, BATCH).await?;
            let Some(last) = ids.last() else { break };
            after_id = *last;
            let write = control.write(Actor::system()).await?;
            published += match kind {
                RecordKind::Key => publish_keys(&write, &ids).await?,
                _ => publish_masters(&write, &ids).await?,
            };
            write.commit().await?;
        }
    }
    Ok(published)
}

/// The snapshot keys of what has use that is still to be published.
pub(crate) async fn pending(store: &Store) -> Result<BTreeSet<SnapshotKey>, StoreError> {
    let masters = usage::list_unpublished(store, RecordKind::Master, 0, MAX_PENDING).await?;
    let mut pending: BTreeSet<SnapshotKey> = masters.into_iter().map(SnapshotKey::Master).collect();
    for id in usage::list_unpublished(store, RecordKind::Key, 0, MAX_PENDING).await? {
        match child_keys::get(store, id).await {
            Ok(found) => pending.extend(found.iter().flat_map(Recorded::snapshot_keys)),
            // It is left out of the image, too.
            Err(StoreError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pending)
}

async fn publish_keys(write: &Write, ids: &[i64]) -> Result<u64, ControlError> {
    let mut exhausted: Vec<(ChildKey, ChildKey)> = Vec::new();
    let mut keys = Vec::new();
    let mut done = Vec::new();
    for id in ids {
        let before = match child_keys::get_for_update_if_free(write.tx(), *id).await {
            Ok(Some(before)) => before,
            Ok(None) => {
                // Someone holds it, or it is gone.
                if child_keys::get(write.tx(), *id).await?.is_none() {
                    done.push(*id);
                }
                continue;
            }
            // One damaged row must not keep the others from being published.
            Err(error @ StoreError::Corrupt { .. }) => {
                tracing::error!(error = %chain(&error), id, "a child key cannot be read and is passed over");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        done.push(*id);
        keys.extend(before.snapshot_keys());
        let status = status_of(&before, before.status, write.now());
        if status == KeyStatus::Exhausted && before.status != status {
            let after = ChildKey { status, updated_at: write.now(), ..before.clone() };
            child_keys::update(write.tx(), &after).await?;
            exhausted.push((before, after));
        }
    }
    // After the keys were locked: whoever counts more of their use waits, and marks them again.
    usage::take_unpublished(write.tx(), RecordKind::Key, &done).await?;
    if !exhausted.is_empty() {
        let changes: Vec<_> = exhausted.iter().map(|(before, after)| (Some(before), after)).collect();
        write.record_all("exhaust", &changes, &[]).await?;
    }
    write.enqueue_keys(RecordKind::Key, &keys).await?;
    Ok(done.len() as u64)
}

async fn publish_masters(write: &Write, ids: &[i64]) -> Result<u64, ControlError> {
    // A master whose spend is being counted right now is left to the next run.
    let taken = usage::take_unpublished(write.tx(), RecordKind::Master, ids).await?;
    let keys: Vec<SnapshotKey> = taken.iter().copied().map(SnapshotKey::Master).collect();
    write.enqueue_keys(RecordKind::Master, &keys).await?;
    Ok(taken.len() as u64)
}
