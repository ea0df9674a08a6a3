//! Runtime flags: one that was set here is there already.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::super::ConflictPolicy;
use super::super::summary::Counts;
use crate::{ControlError, Write, features};

/// Sets flags.
pub(super) async fn apply(
    write: &Write,
    planned: BTreeMap<String, bool>,
    conflict: ConflictPolicy,
    counts: &mut Counts,
) -> Result<(), ControlError> {
    if planned.is_empty() {
        return Ok(());
    }
    let chosen = features::chosen(write.tx()).await?;
    let standing = features::standing(write.tx()).await?;
    let mut changes: BTreeMap<String, Json> = BTreeMap::new();
    for (flag, value) in planned {
        let is_chosen = chosen.contains_key(&flag);
        if standing.0.get(&flag) == Some(&value) || (is_chosen && conflict == ConflictPolicy::Skip) {
            counts.skipped += 1;
            continue;
        }
        *(if is_chosen { &mut counts.updated } else { &mut counts.created }) += 1;
        changes.insert(flag, value.into());
    }
    if !changes.is_empty() {
        features::update(write, &changes).await?;
    }
    Ok(())
}
