//! What a change of a master's namespaces means for its child keys: they follow, or they are in the way.

use std::collections::BTreeMap;

use ez_store::child_keys::{self as stored, ChildKey};
use ez_store::masters::Master;

use crate::access::Access;
use crate::child_keys::reference;
use crate::error::MAX_REFERENCES;
use crate::{ControlError, Write};

/// Keys that are held in memory at once.
const BATCH: u64 = 500;

/// Makes the keys of a changed master fit: each keeps those of its namespaces that the master still has, and takes the
/// master's default where its own fell out. The master must be locked.
pub(crate) async fn propagate(write: &Write, master: &Master) -> Result<(), ControlError> {
    let mut after_id = 0;
    loop {
        let keys = stored::list_of_master_for_update(write.tx(), master.id, after_id, BATCH).await?;
        let Some(last) = keys.last() else { return Ok(()) };
        after_id = last.id;
        let changes: Vec<(ChildKey, ChildKey)> = keys
            .into_iter()
            .filter(|key| is_outside(key, master))
            .map(|before| {
                let Access { default_namespace, namespaces } = narrowed(&before, master);
                let after = ChildKey { default_namespace, namespaces, updated_at: write.now(), ..before.clone() };
                (before, after)
            })
            .collect();
        apply(write, &changes).await?;
    }
}

/// Errors: `Conflict` with the keys that have a namespace which their changed master has not.
pub(crate) async fn refuse_orphaned(write: &Write, master: &Master) -> Result<(), ControlError> {
    let mut orphaned = Vec::new();
    let mut after_id = 0;
    while orphaned.len() < MAX_REFERENCES {
        let keys = stored::list_of_master_for_update(write.tx(), master.id, after_id, BATCH).await?;
        let Some(last) = keys.last() else { break };
        after_id = last.id;
        orphaned.extend(keys.iter().filter(|key| is_outside(key, master)).map(reference));
    }
    if orphaned.is_empty() {
        return Ok(());
    }
    let message = "child keys of this master have a namespace that would be taken away; change them first, or use \
                   propagate_to_keys";
    Err(ControlError::conflict_with(message, orphaned))
}

/// Keys that come to have the same access are written together, as most of them do.
async fn apply(write: &Write, changes: &[(ChildKey, ChildKey)]) -> Result<(), ControlError> {
    let mut by_access: BTreeMap<(&str, &[String]), Vec<i64>> = BTreeMap::new();
    for (_, after) in changes {
        by_access.entry((&after.default_namespace, &after.namespaces)).or_default().push(after.id);
    }
    for ((default_namespace, namespaces), ids) in by_access {
        stored::set_access(write.tx(), &ids, default_namespace, namespaces, write.now()).await?;
    }
    let changes: Vec<_> = changes.iter().map(|(before, after)| (Some(before), after)).collect();
    write.record_all("propagate_access", &changes, &[]).await
}

fn is_outside(key: &ChildKey, master: &Master) -> bool {
    key.namespaces.iter().any(|name| !master.namespaces.contains(name))
}

fn narrowed(key: &ChildKey, master: &Master) -> Access {
    let mut namespaces: Vec<String> =
        key.namespaces.iter().filter(|name| master.namespaces.contains(name)).cloned().collect();
    let default_namespace = if namespaces.contains(&key.default_namespace) {
        key.default_namespace.clone()
    } else {
        // A default is a member of the set.
        if !namespaces.contains(&master.default_namespace) {
            namespaces.push(master.default_namespace.clone());
        }
        master.default_namespace.clone()
    };
    Access { default_namespace, namespaces }
}
