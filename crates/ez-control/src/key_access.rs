//! What a change of a master means for its child keys, of which there may be many: they follow, go with it, or are in the
//! way.

use std::collections::{BTreeMap, HashSet};

use ez_store::child_keys::{self as stored, ChildKey};
use ez_store::masters::Master;

use crate::access::Access;
use crate::child_keys::reference;
use crate::error::MAX_REFERENCES;
use crate::write::Gone;
use crate::{ControlError, Write};

/// Keys that are held in memory at once.
const BATCH: u64 = 500;

/// Makes the keys of a changed master fit: each keeps those of its namespaces that the master still has, and takes the
/// master's default where its own fell out. The master must be locked.
pub(crate) async fn propagate(write: &Write, master: &Master) -> Result<(), ControlError> {
    let allowed = allowed_by(master);
    let mut after_id = 0;
    loop {
        let keys = stored::list_of_master_for_update(write.tx(), master.id, after_id, BATCH).await?;
        let Some(last) = keys.last() else { return Ok(()) };
        after_id = last.id;
        let changes: Vec<(ChildKey, ChildKey)> = keys
            .into_iter()
            .filter(|key| is_outside(key, &allowed))
            .map(|before| {
                let Access { default_namespace, namespaces } = narrowed(&before, &allowed, master);
                let after = ChildKey { default_namespace, namespaces, updated_at: write.now(), ..before.clone() };
                (before, after)
            })
            .collect();
        apply(write, &changes).await?;
    }
}

/// Errors: `Conflict` with the keys that have a namespace which their changed master has not.
pub(crate) async fn refuse_orphaned(write: &Write, master: &Master) -> Result<(), ControlError> {
    let allowed = allowed_by(master);
    let mut orphaned = Vec::new();
    let mut after_id = 0;
    while orphaned.len() < MAX_REFERENCES {
        let keys = stored::list_of_master_for_update(write.tx(), master.id, after_id, BATCH).await?;
        let Some(last) = keys.last() else { break };
        after_id = last.id;
        orphaned.extend(keys.iter().filter(|key| is_outside(key, &allowed)).map(reference));
    }
    if orphaned.is_empty() {
        return Ok(());
    }
    let message = "child keys of this master have a namespace that would be taken away; change them first, or use \
                   propagate_to_keys";
    Err(ControlError::conflict_with(message, orphaned))
}

/// All keys of a master, to go with it: few of them are in memory at once, and of the others where they stand in the
/// snapshot. The master must be locked.
pub(crate) async fn all_of(write: &Write, master_id: i64) -> Result<Gone, ControlError> {
    let mut gone = Gone::of::<ChildKey>(&[]);
    let mut after_id = 0;
    loop {
        let keys = stored::list_of_master_for_update(write.tx(), master_id, after_id, BATCH).await?;
        let Some(last) = keys.last() else { return Ok(gone) };
        after_id = last.id;
        gone = gone.and(Gone::of(&keys));
    }
}

/// The namespaces that keys of a master have. The master must be locked.
pub(crate) async fn namespaces_in_use(write: &Write, master_id: i64) -> Result<HashSet<String>, ControlError> {
    let mut names = HashSet::new();
    let mut after_id = 0;
    loop {
        let keys = stored::list_of_master_for_update(write.tx(), master_id, after_id, BATCH).await?;
        let Some(last) = keys.last() else { return Ok(names) };
        after_id = last.id;
        names.extend(keys.into_iter().flat_map(|key| key.namespaces));
    }
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

/// As a set, because many keys with many namespaces are compared with it.
fn allowed_by(master: &Master) -> HashSet<&str> {
    master.namespaces.iter().map(String::as_str).collect()
}

fn is_outside(key: &ChildKey, allowed: &HashSet<&str>) -> bool {
    key.namespaces.iter().any(|name| !allowed.contains(name.as_str()))
}

fn narrowed(key: &ChildKey, allowed: &HashSet<&str>, master: &Master) -> Access {
    let mut namespaces: Vec<String> =
        key.namespaces.iter().filter(|name| allowed.contains(name.as_str())).cloned().collect();
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
