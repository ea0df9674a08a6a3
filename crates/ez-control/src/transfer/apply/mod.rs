//! Writing a plan: one kind of record after the other, what is referred to first. Records are found by their identity,
//! and what is there already stays or takes the plan's values. Everything happens in the caller's unit of work.

mod bindings;
mod child_keys;
mod flags;
mod masters;
mod models;
mod provider_groups;

use std::collections::HashMap;

use ez_store::namespaces::{self as stored, Namespace};

use self::masters::Tenants;
use super::findings::Findings;
use super::plan::{Plan, PlannedNamespace};
use super::summary::{Counts, CreatedCredential, ImportCounts};
use super::{ConflictPolicy, ImportOptions};
use crate::credentials::MasterKey;
use crate::namespaces::CreateNamespace;
use crate::{ControlError, Write};

/// Values in one look-up.
const MAX_LOOKED_UP: usize = 1000;

/// What was written.
pub(super) struct Applied {
    pub(super) counts: ImportCounts,
    pub(super) credentials: Vec<CreatedCredential>,
}

/// Writes the plan. Faults that only the database can show are in `findings`.
pub(super) async fn apply(
    write: &Write,
    plan: Plan,
    master_keys: HashMap<String, MasterKey>,
    options: ImportOptions,
    findings: &mut Findings,
) -> Result<Applied, ControlError> {
    let mut counts = ImportCounts::default();
    let mut credentials = Vec::new();
    apply_namespaces(write, plan.namespaces, options.conflict, &mut counts.namespaces).await?;
    let groups = provider_groups::apply(write, plan.groups, options.conflict, &mut counts, findings).await?;
    let mut tenants = Tenants::new(master_keys, options.conflict);
    tenants.apply(write, plan.masters, &mut counts.masters, &mut credentials, findings).await?;
    counts.keys.failed += plan.failed_keys;
    child_keys::apply(write, plan.keys, tenants, &mut counts, findings).await?;
    if options.include_bindings {
        counts.bindings.failed += plan.failed_bindings;
        bindings::apply(write, plan.bindings, groups, options.conflict, &mut counts.bindings).await?;
    } else if !plan.bindings.is_empty() {
        counts.bindings.skipped += plan.bindings.len() as u64;
        let text = format!("{} bindings are left out; --include-bindings imports them", plan.bindings.len());
        findings.warn("$.data.bindings", text);
    }
    models::apply(write, plan.models, options.conflict, &mut counts.models).await?;
    counts.features.failed += plan.failed_flags;
    flags::apply(write, plan.flags, options.conflict, &mut counts.features).await?;
    Ok(Applied { counts, credentials })
}

async fn apply_namespaces(
    write: &Write,
    planned: Vec<PlannedNamespace>,
    conflict: ConflictPolicy,
    counts: &mut Counts,
) -> Result<(), ControlError> {
    let names: Vec<String> = planned.iter().map(|namespace| namespace.record.name.clone()).collect();
    let mut standing: HashMap<String, Namespace> = HashMap::new();
    for names in names.chunks(MAX_LOOKED_UP) {
        let found = stored::list_by_names(write.tx(), names).await?;
        for seen in found {
            // By id, like everybody else, so that two of these wait for each other and never deadlock.
            let held = stored::get_for_update(write.tx(), seen.id).await?;
            standing.extend(held.map(|namespace| (namespace.name.clone(), namespace)));
        }
    }
    for PlannedNamespace { record, is_described } in planned {
        let Some(before) = standing.get(&record.name) else {
            let (name, description, status) = (record.name, Some(record.description), Some(record.status));
            crate::namespaces::create(write, CreateNamespace { name, description, status }).await?;
            counts.created += 1;
            continue;
        };
        let mut after = before.clone();
        if is_described && conflict == ConflictPolicy::Overwrite {
            (after.description, after.status) = (record.description, record.status);
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
