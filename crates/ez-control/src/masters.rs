//! Masters: the tenants, their master keys and epochs.

use ez_contract::TokenDigest;
use ez_contract::status::RecordStatus;
use ez_store::masters::{self as stored, Master, MasterFilter, NewMaster};
use ez_store::namespaces::DEFAULT_NAMESPACE;
use ez_store::{Page, Paged, Sort, child_keys};
use secrecy::SecretString;

use crate::access::{Access, AskedAccess};
use crate::credentials::MasterKey;
use crate::error::{Faults, MAX_REFERENCES};
use crate::limits::{LimitChange, StandingLimits};
use crate::{Control, ControlError, Write, budget, checks, key_access};

const WHAT: &str = "master";
const DEFAULT_GROUP: &str = "default";
const FIRST_EPOCH: i64 = 1;

/// A master to create; what is absent takes its default.
#[derive(Debug, Clone, Default)]
pub struct CreateMaster {
    /// Unique.
    pub name: String,
    /// A label; `default`.
    pub group: Option<String>,
    /// A member of `namespaces`; `default`, or else the first of them.
    pub default_namespace: Option<String>,
    /// Namespaces that it may use; the default one alone.
    pub namespaces: Option<Vec<String>>,
    /// Active.
    pub status: Option<RecordStatus>,
    /// Child keys at most; 0 (unlimited).
    pub max_child_keys: Option<u32>,
    /// None.
    pub limits: LimitChange,
    /// US dollars in a calendar month (UTC), as exact decimal text; unlimited.
    pub monthly_budget: Option<String>,
}

/// Changes to a master; what is absent stays, `Some(None)` clears.
#[derive(Debug, Clone, Default)]
pub struct ChangeMaster {
    /// Unique.
    pub name: Option<String>,
    /// A label.
    pub group: Option<String>,
    /// A member of `namespaces`.
    pub default_namespace: Option<String>,
    /// Namespaces that it may use; none may be taken away that one of its keys has, unless `propagate_to_keys`.
    pub namespaces: Option<Vec<String>>,
    /// Whether its keys lose the namespaces that it loses; no.
    pub propagate_to_keys: bool,
    /// Suspended ones are refused everywhere, with their keys.
    pub status: Option<RecordStatus>,
    /// Child keys at most; 0 means unlimited. Keys beyond a lower number stay.
    pub max_child_keys: Option<u32>,
    /// Limits.
    pub limits: LimitChange,
    /// US dollars in a calendar month (UTC), as exact decimal text.
    pub monthly_budget: Option<Option<String>>,
}

/// A master whose key was just made.
#[derive(Debug)]
pub struct CreatedMaster {
    /// The record.
    pub master: Master,
    /// Its master key; it cannot be read again.
    pub master_key: SecretString,
}

/// Creates a master. Errors: `Invalid`; `Conflict` for a name that is taken.
pub async fn create(write: &Write, new: CreateMaster, key: MasterKey) -> Result<CreatedMaster, ControlError> {
    let mut faults = Faults::default();
    let group = new.group.unwrap_or_else(|| DEFAULT_GROUP.to_owned());
    check(&new.name, &group, &mut faults);
    let only = new.default_namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let base = Access { namespaces: vec![only.clone()], default_namespace: only };
    let asked = AskedAccess { default_namespace: new.default_namespace, namespaces: new.namespaces };
    asked.refuse_endless()?;
    let is_listed = asked.namespaces.is_some();
    let access = asked.for_new(&base, &mut faults);
    access.require_existing(write, is_listed, &mut faults).await?;
    let limits = new.limits.over(StandingLimits::default(), &mut faults);
    let monthly_budget = checked_budget(new.monthly_budget, &mut faults);
    faults.into_result()?;

    let record = NewMaster {
        name: new.name,
        group,
        key_hash: Some(key.hash),
        key_digest: Some(key.token.digest),
        prefix: key.token.prefix,
        default_namespace: access.default_namespace,
        namespaces: access.namespaces,
        epoch: FIRST_EPOCH,
        status: new.status.unwrap_or(RecordStatus::Active),
        max_child_keys: new.max_child_keys.unwrap_or(0),
        global_qps: limits.global_qps,
        rpm: limits.rpm,
        tpm: limits.tpm,
        rpd: limits.rpd,
        tpd: limits.tpd,
        max_concurrency: limits.max_concurrency,
        monthly_budget,
        created_at: write.now(),
    };
    let master = stored::create(write.tx(), &record).await?;
    write.record("create", None, Some(&master), &[]).await?;
    Ok(CreatedMaster { master, master_key: key.token.clear })
}

/// Changes a master. Errors: `NotFound`, `Stale`, `Invalid`; `Conflict` for a name that is taken, or with the child keys
/// that have a namespace which would be taken away, where the change does not propagate to them.
pub async fn update(write: &Write, id: i64, change: ChangeMaster) -> Result<Master, ControlError> {
    let mut faults = Faults::default();
    let asked = AskedAccess { default_namespace: change.default_namespace, namespaces: change.namespaces };
    asked.refuse_endless()?;
    let wanted = asked.namespaces.clone();
    if let Some(namespaces) = wanted.clone() {
        // Namespaces are locked before masters, here as everywhere.
        let wanted = Access { default_namespace: String::new(), namespaces };
        wanted.require_existing(write, true, &mut faults).await?;
    }
    let before = require_target(write, id).await?;
    let standing =
        Access { default_namespace: before.default_namespace.clone(), namespaces: before.namespaces.clone() };
    let access = asked.over(standing, &mut faults);
    let limits = change.limits.over(StandingLimits::from(&before), &mut faults);
    let monthly_budget = match change.monthly_budget {
        Some(budget) => checked_budget(budget, &mut faults),
        None => before.monthly_budget.clone(),
    };
    let after = Master {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        group: change.group.unwrap_or_else(|| before.group.clone()),
        default_namespace: access.default_namespace,
        namespaces: access.namespaces,
        status: change.status.unwrap_or(before.status),
        max_child_keys: change.max_child_keys.unwrap_or(before.max_child_keys),
        global_qps: limits.global_qps,
        rpm: limits.rpm,
        tpm: limits.tpm,
        rpd: limits.rpd,
        tpd: limits.tpd,
        max_concurrency: limits.max_concurrency,
        monthly_budget,
        updated_at: write.now(),
        ..before.clone()
    };
    check(&after.name, &after.group, &mut faults);
    faults.into_result()?;
    // A change that takes nothing away leaves no key outside; most add, and need not look at every key.
    let takes_away = before.namespaces.iter().any(|name| !after.namespaces.contains(name));
    if takes_away && !change.propagate_to_keys {
        key_access::refuse_orphaned(write, &after).await?;
    }

    stored::update(write.tx(), &after).await?;
    write.record("update", Some(&before), Some(&after), &[]).await?;
    if wanted.is_some() && change.propagate_to_keys {
        key_access::propagate(write, &after).await?;
    }
    Ok(after)
}

/// Deletes a master; its child keys go with it where `cascade` says so. Log records stay. Errors: `NotFound`, `Stale`;
/// `Conflict` with its child keys.
pub async fn delete(write: &Write, id: i64, cascade: bool) -> Result<(), ControlError> {
    let master = require_target(write, id).await?;
    let count = child_keys::count_by_master(write.tx(), id).await?;
    if count > 0 && !cascade {
        let first = child_keys::list_by_master(write.tx(), id, MAX_REFERENCES as u64).await?;
        let message = format!("the master has {count} child keys; delete them first, or use cascade=true");
        return Err(ControlError::conflict_with(message, first.iter().map(crate::child_keys::reference)));
    }
    let keys = key_access::all_of(write, id).await?;
    child_keys::delete_by_master(write.tx(), id).await?;
    stored::delete(write.tx(), id).await?;
    write.record_deletion(&master, &[keys]).await
}

/// Kills every child key and every session of a master issued so far, by raising its epoch. Errors: `NotFound`, `Stale`.
pub async fn revoke_keys(write: &Write, id: i64) -> Result<Master, ControlError> {
    let before = require_target(write, id).await?;
    let after = Master { epoch: before.epoch + 1, updated_at: write.now(), ..before.clone() };
    stored::update(write.tx(), &after).await?;
    write.record("revoke_keys", Some(&before), Some(&after), &[]).await?;
    Ok(after)
}

/// Gives a master a new key; the old one and the sessions that it bought die at once. Child keys that were alive stay so
/// unless `revoke_keys` raises the epoch. Errors: `NotFound`, `Stale`.
pub async fn rotate_key(
    write: &Write,
    id: i64,
    key: MasterKey,
    revoke_keys: bool,
) -> Result<CreatedMaster, ControlError> {
    let before = require_target(write, id).await?;
    let after = Master {
        key_hash: Some(key.hash),
        key_digest: Some(key.token.digest),
        prefix: key.token.prefix,
        epoch: before.epoch + i64::from(revoke_keys),
        updated_at: write.now(),
        ..before.clone()
    };
    stored::update(write.tx(), &after).await?;
    write.record("rotate_key", Some(&before), Some(&after), &[]).await?;
    Ok(CreatedMaster { master: after, master_key: key.token.clear })
}

/// Keeps the digest of a master key that was found by its hash, if the master still has this hash and no digest: else
/// its key was changed meanwhile, and the master only counts as found where it is the same one. Errors: `Conflict` where
/// another master has the same key.
pub(crate) async fn keep_digest(
    write: &Write,
    id: i64,
    hash: &str,
    digest: TokenDigest,
) -> Result<Option<Master>, ControlError> {
    let Some(before) = stored::get_for_update(write.tx(), id).await? else { return Ok(None) };
    if before.key_digest.is_some() || before.key_hash.as_deref() != Some(hash) {
        return Ok(Some(before).filter(|master| master.key_digest == Some(digest)));
    }
    let after = Master { key_digest: Some(digest), updated_at: write.now(), ..before.clone() };
    stored::update(write.tx(), &after).await?;
    write.record("keep_digest", Some(&before), Some(&after), &[]).await?;
    Ok(Some(after))
}

/// The master with this id. Errors: `NotFound`.
pub async fn get(control: &Control, id: i64) -> Result<Master, ControlError> {
    stored::get(control.store(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// A page of the masters that match.
pub async fn list(
    control: &Control,
    filter: &MasterFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Master>, ControlError> {
    Ok(stored::list(control.store(), filter, sort, page).await?)
}

/// The master as it stands until the transaction ends. Whoever changes a child key holds its master first.
pub(crate) async fn require_for_update(write: &Write, id: i64) -> Result<Master, ControlError> {
    stored::get_for_update(write.tx(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// The master that the caller wants to change, as it stands until the transaction ends. Errors: `NotFound`, `Stale`.
async fn require_target(write: &Write, id: i64) -> Result<Master, ControlError> {
    let master = require_for_update(write, id).await?;
    write.require_fresh(WHAT, &master)?;
    Ok(master)
}

/// How a list of references names a master.
pub(crate) fn reference(master: &Master) -> String {
    format!("master {} ({})", master.id, master.name)
}

fn check(name: &str, group: &str, faults: &mut Faults) {
    checks::required_text(faults, "/name", name);
    checks::required_text(faults, "/group", group);
}

fn checked_budget(budget: Option<String>, faults: &mut Faults) -> Option<String> {
    match budget.as_deref().map(budget::normalised)? {
        Ok(normalised) => Some(normalised),
        Err(rule) => {
            faults.add("/monthly_budget", rule);
            None
        }
    }
}
