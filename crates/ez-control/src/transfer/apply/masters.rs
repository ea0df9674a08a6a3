//! Masters, found by name.

use std::collections::{HashMap, HashSet};

use ez_store::masters::{self as stored, Master, NewMaster};

use super::super::ConflictPolicy;
use super::super::findings::Findings;
use super::super::given::{Field, Given};
use super::super::plan::PlannedMaster;
use super::super::summary::{Counts, CreatedCredential};
use crate::checks;
use crate::credentials::MasterKey;
use crate::{ControlError, Write, key_access};

/// The masters of an import as they stand by now, and what is needed to write them.
pub(super) struct Tenants {
    masters: HashMap<String, Master>,
    master_keys: HashMap<String, MasterKey>,
    /// Those that were counted as unchanged.
    unchanged: HashSet<String>,
    pub(super) conflict: ConflictPolicy,
}

impl Tenants {
    pub(super) fn new(master_keys: HashMap<String, MasterKey>, conflict: ConflictPolicy) -> Self {
        Self { masters: HashMap::new(), master_keys, unchanged: HashSet::new(), conflict }
    }

    /// Writes the document's masters.
    pub(super) async fn apply(
        &mut self,
        write: &Write,
        planned: Vec<PlannedMaster>,
        counts: &mut Counts,
        credentials: &mut Vec<CreatedCredential>,
        findings: &mut Findings,
    ) -> Result<(), ControlError> {
        for PlannedMaster { path, given, record } in planned {
            if let Some(digest) = &record.key_digest
                && let Some(other) = stored::get_by_digest(write.tx(), digest).await?
                && other.name != record.name
            {
                let message = format!("is the key of the master `{}` here; leave it out for a new one", other.name);
                findings.fault(format!("{path}.key_digest"), message);
                continue;
            }
            let master = match self.get(write, &record.name).await? {
                None => self.create(write, record, credentials).await?,
                Some(before) => {
                    let after = match self.conflict {
                        ConflictPolicy::Skip => before.clone(),
                        ConflictPolicy::Overwrite => overwritten(write, &before, record, given).await?,
                    };
                    self.keep(write, &before, after, counts).await?;
                    continue;
                }
            };
            counts.created += 1;
            self.masters.insert(master.name.clone(), master);
        }
        Ok(())
    }

    /// The master of this name, held until the transaction ends.
    pub(super) async fn get(&mut self, write: &Write, name: &str) -> Result<Option<Master>, ControlError> {
        if let Some(master) = self.masters.get(name) {
            return Ok(Some(master.clone()));
        }
        let Some(seen) = stored::get_by_name(write.tx(), name).await? else { return Ok(None) };
        let held = stored::get_for_update(write.tx(), seen.id).await?;
        self.masters.extend(held.clone().map(|master| (master.name.clone(), master)));
        Ok(held)
    }

    /// Those that may not have any number of keys, by name.
    pub(super) fn limited(self) -> Vec<Master> {
        let limited = self.masters.into_values().filter(|master| master.max_child_keys > 0);
        let mut limited: Vec<Master> = limited.collect();
        limited.sort_by(|a, b| a.name.cmp(&b.name));
        limited
    }

    /// Adds namespaces that new keys of a master have beyond it.
    pub(super) async fn extend(
        &mut self,
        write: &Write,
        before: &Master,
        namespaces: Vec<String>,
        counts: &mut Counts,
    ) -> Result<(), ControlError> {
        let namespaces = checks::deduplicated([before.namespaces.clone(), namespaces].concat());
        let after = Master { namespaces, ..before.clone() };
        if self.unchanged.remove(&before.name) {
            counts.skipped -= 1;
        }
        self.keep(write, before, after, counts).await
    }

    async fn keep(
        &mut self,
        write: &Write,
        before: &Master,
        mut after: Master,
        counts: &mut Counts,
    ) -> Result<(), ControlError> {
        if after == *before {
            self.unchanged.insert(after.name.clone());
            counts.skipped += 1;
        } else {
            after.updated_at = write.now();
            stored::update(write.tx(), &after).await?;
            write.record("import", Some(before), Some(&after), &[]).await?;
            counts.updated += 1;
        }
        self.masters.insert(after.name.clone(), after);
        Ok(())
    }

    async fn create(
        &mut self,
        write: &Write,
        mut record: NewMaster,
        credentials: &mut Vec<CreatedCredential>,
    ) -> Result<Master, ControlError> {
        if record.key_digest.is_none() && record.key_hash.is_none() {
            let gone =
                || ControlError::conflict(format!("the master `{}` was deleted meanwhile; try again", record.name));
            let key = self.master_keys.remove(&record.name).ok_or_else(gone)?;
            record.key_hash = Some(key.hash);
            record.key_digest = Some(key.token.digest);
            record.prefix = key.token.prefix;
            credentials.push(CreatedCredential { master: record.name.clone(), master_key: key.token.clear });
        }
        let master = stored::create(write.tx(), &record).await?;
        write.record("import", None, Some(&master), &[]).await?;
        Ok(master)
    }
}

/// The master with the document's values. Its epoch stays, so that no key dies or comes back to life, and so do
/// namespaces that a key of it has, and its master key where the document has none.
async fn overwritten(write: &Write, before: &Master, record: NewMaster, given: Given) -> Result<Master, ControlError> {
    let mut namespaces = record.namespaces;
    if before.namespaces.iter().any(|name| !namespaces.contains(name)) {
        let used = key_access::namespaces_in_use(write, before.id).await?;
        let standing = before.namespaces.iter().filter(|name| used.contains(*name)).cloned();
        namespaces = checks::deduplicated(namespaces.into_iter().chain(standing).collect());
    }
    let mut after = Master {
        group: given.or(Field::Group, record.group, before.group.clone()),
        default_namespace: record.default_namespace,
        namespaces,
        status: given.or(Field::Status, record.status, before.status),
        max_child_keys: given.or(Field::MaxChildKeys, record.max_child_keys, before.max_child_keys),
        global_qps: given.or(Field::GlobalQps, record.global_qps, before.global_qps),
        rpm: given.or(Field::Rpm, record.rpm, before.rpm),
        tpm: given.or(Field::Tpm, record.tpm, before.tpm),
        rpd: given.or(Field::Rpd, record.rpd, before.rpd),
        tpd: given.or(Field::Tpd, record.tpd, before.tpd),
        max_concurrency: given.or(Field::MaxConcurrency, record.max_concurrency, before.max_concurrency),
        monthly_budget: given.or(Field::MonthlyBudget, record.monthly_budget, before.monthly_budget.clone()),
        ..before.clone()
    };
    if record.key_digest.is_some() && record.key_digest != before.key_digest {
        (after.key_digest, after.key_hash, after.prefix) = (record.key_digest, record.key_hash, record.prefix);
    }
    Ok(after)
}
