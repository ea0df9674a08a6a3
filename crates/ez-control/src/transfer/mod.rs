//! Transfer: records in from other systems and from exports, and out into an export.

mod apply;
mod bindings;
mod document;
mod entry;
mod export;
mod findings;
mod flags;
mod given;
mod groups;
mod models;
mod namespace_names;
mod plan;
mod providers;
mod secrets;
mod summary;
mod tenants;
mod vendors;

use std::collections::HashMap;
use std::num::NonZero;

use ez_store::{masters, provider_groups};
use tokio::task::JoinSet;

use self::document::Standing;
use self::findings::Findings;
use self::plan::Plan;
use crate::credentials::MasterKey;
use crate::write::Actor;
use crate::{Control, ControlError};

pub use self::document::MAX_DOCUMENT_BYTES;
pub use self::export::{ExportDocument, ExportOptions, export};
pub use self::summary::{Counts, CreatedCredential, ImportCounts, ImportSummary};

/// What an import does with a record that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// It stays as it is.
    #[default]
    Skip,
    /// It takes the document's values.
    Overwrite,
}

/// How to import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Do everything and then undo it.
    pub dry_run: bool,
    /// What becomes of records that are there already.
    pub conflict: ConflictPolicy,
    /// Whether the document's bindings are imported.
    pub include_bindings: bool,
}

/// Imports a document: all of it in one transaction, or nothing. A server beside it on the same database publishes what
/// was changed at its next tick.
///
/// On SQLite the transaction holds up other writers while it runs, some 10 seconds for 100,000 child keys; the document, what
/// it is parsed to and the plan take some 7 KiB of memory for each.
///
/// Errors: `Invalid` with every fault of the document, its pointers being JSON paths; `Conflict` where somebody changed
/// the same records meanwhile; `Internal` where the secret key is not the one of this database; `Unavailable`.
pub async fn import(
    control: &Control,
    actor: Actor,
    document: &[u8],
    options: ImportOptions,
) -> Result<ImportSummary, ControlError> {
    crate::stored_secrets::require_key(control).await?;
    let mut findings = Findings::default();
    let standing = standing(control).await?;
    let plan = document::read(document, &standing, control.now(), &mut findings)?;
    findings.refuse_faults()?;
    let master_keys = make_master_keys(&plan, &standing).await?;

    let write = control.write(actor).await?.dry_run(options.dry_run);
    let applied = apply::apply(&write, plan, master_keys, options, &mut findings).await?;
    findings.refuse_faults()?;
    let mut credentials = applied.credentials;
    if options.dry_run {
        // These were never anybody's.
        credentials.clear();
    }
    write.commit().await?;
    Ok(ImportSummary {
        dry_run: options.dry_run,
        counts: applied.counts,
        warnings: findings.into_warnings(),
        credentials,
    })
}

/// Names that the document may refer to.
async fn standing(control: &Control) -> Result<Standing, ControlError> {
    let masters = masters::list_all(control.store()).await?;
    let groups = provider_groups::list_all(control.store()).await?;
    Ok(Standing {
        masters: masters.into_iter().map(|master| master.name).collect(),
        groups: groups.into_iter().map(|group| group.name).collect(),
    })
}

/// A master key for each master that is new and brings none, by the master's name. Hashing is slow by design, so it is
/// done before the transaction begins, on as many threads as there are processors.
async fn make_master_keys(plan: &Plan, standing: &Standing) -> Result<HashMap<String, MasterKey>, ControlError> {
    let is_keyless = |record: &masters::NewMaster| record.key_digest.is_none() && record.key_hash.is_none();
    let new = plan.masters.iter().map(|master| &master.record);
    let mut names = new.filter(|record| is_keyless(record) && !standing.masters.contains(&record.name));
    let parallel = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut made = HashMap::new();
    let mut hashing = JoinSet::new();
    loop {
        while hashing.len() < parallel
            && let Some(record) = names.next()
        {
            let name = record.name.clone();
            hashing.spawn(async move { MasterKey::generate().await.map(|key| (name, key)) });
        }
        let Some(done) = hashing.join_next().await else { return Ok(made) };
        let (name, key) = done.map_err(ControlError::internal)??;
        made.insert(name, key);
    }
}
