//! Bindings, found by namespace, public model and provider group.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ez_store::bindings::{self as stored, Binding, NewBinding};
use ez_store::provider_groups;

use super::super::ConflictPolicy;
use super::super::plan::PlannedBinding;
use super::super::summary::Counts;
use crate::{ControlError, Write};

/// The bindings of a provider group, by namespace and public model.
type Bound = HashMap<(String, String), Binding>;

/// Writes bindings. `groups` has the ids of the document's provider groups by name.
pub(super) async fn apply(
    write: &Write,
    planned: Vec<PlannedBinding>,
    mut groups: HashMap<String, i64>,
    conflict: ConflictPolicy,
    counts: &mut Counts,
) -> Result<(), ControlError> {
    let mut standing: HashMap<i64, Bound> = HashMap::new();
    for PlannedBinding { path, group, record } in planned {
        let group_id = match groups.get(&group) {
            Some(id) => *id,
            None => {
                let gone =
                    || ControlError::conflict(format!("{path}: the provider group `{group}` was deleted meanwhile"));
                let found = provider_groups::get_by_name(write.tx(), &group).await?.ok_or_else(gone)?;
                groups.insert(group, found.id);
                found.id
            }
        };
        let bound = match standing.entry(group_id) {
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let bindings = stored::list_by_group(write.tx(), group_id).await?;
                let by_key = bindings.into_iter().map(|b| (key(&b.namespace, &b.public_model), b));
                unread.insert(by_key.collect())
            }
        };
        let record = NewBinding { group_id, ..record };
        let before = bound.get(&key(&record.namespace, &record.public_model));
        let Some(before) = before else {
            let binding = stored::create(write.tx(), &record).await?;
            write.record("import", None, Some(&binding), &[]).await?;
            counts.created += 1;
            continue;
        };
        let mut after = before.clone();
        if conflict == ConflictPolicy::Overwrite {
            after.weight = record.weight;
            after.priority = record.priority;
            after.selector_type = record.selector_type;
            after.selector_value = record.selector_value;
            after.status = record.status;
            after.on_client_gone = record.on_client_gone;
        }
        if after == *before {
            counts.skipped += 1;
            continue;
        }
        after.updated_at = write.now();
        stored::update(write.tx(), &after).await?;
        write.record("import", Some(before), Some(&after), &[]).await?;
        counts.updated += 1;
    }
    Ok(())
}

fn key(namespace: &str, public_model: &str) -> (String, String) {
    (namespace.to_owned(), public_model.to_owned())
}
