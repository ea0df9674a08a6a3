//! Child keys: what client applications send, issued by a master or on its behalf.

use chrono::{DateTime, Datelike, Utc};
use ez_contract::access::parse_ip_rule;
use ez_contract::operation::SCOPES;
use ez_contract::status::{KeyStatus, RecordStatus};
use ez_store::child_keys::{self as stored, ChildKey, ChildKeyFilter, NewChildKey};
use ez_store::masters::Master;
use ez_store::{ActorKind, IssuedBy, Page, Paged, QuotaReset, Sort};
use secrecy::SecretString;

use crate::access::{Access, AskedAccess};
use crate::credentials::ClearToken;
use crate::error::Faults;
use crate::limits::{LimitChange, StandingLimits, check_count};
use crate::masters::require_for_update;
use crate::quotas::{is_used_up, next_reset, status_of};
use crate::{Control, ControlError, Tenant, Write, checks};

const WHAT: &str = "child key";

/// The last year that RFC 3339 can write.
const LAST_YEAR: i32 = 9999;

/// A child key to issue; what is absent takes its default or its master's.
#[derive(Debug, Clone, Default)]
pub struct CreateChildKey {
    /// For people; empty.
    pub name: Option<String>,
    /// The master's; another is refused.
    pub group: Option<String>,
    /// What it may do; empty (all).
    pub scopes: Option<Vec<String>>,
    /// The master's, or else the first of `namespaces`.
    pub default_namespace: Option<String>,
    /// The master's; never more than those.
    pub namespaces: Option<Vec<String>>,
    /// Active.
    pub status: Option<KeyStatus>,
    /// Never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Addresses and ranges it may be used from; empty (any).
    pub allow_ips: Option<Vec<String>>,
    /// Addresses and ranges it may not be used from; empty.
    pub deny_ips: Option<Vec<String>>,
    /// Whether `model_limits` applies; no.
    pub model_limits_enabled: Option<bool>,
    /// Public models it may call; empty.
    pub model_limits: Option<Vec<String>>,
    /// Tokens it may use between two resets, input and output; unlimited. With 0 it is exhausted from the start.
    pub quota_limit: Option<u64>,
    /// How often its quota starts anew; never.
    pub quota_reset: Option<QuotaReset>,
    /// None.
    pub limits: LimitChange,
}

/// Changes to a child key; what is absent stays, `Some(None)` clears.
#[derive(Debug, Clone, Default)]
pub struct ChangeChildKey {
    /// For people.
    pub name: Option<Option<String>>,
    /// The master's; another is refused.
    pub group: Option<String>,
    /// What it may do; empty means all.
    pub scopes: Option<Vec<String>>,
    /// A member of `namespaces`.
    pub default_namespace: Option<String>,
    /// Some of the master's.
    pub namespaces: Option<Vec<String>>,
    /// Active or suspended.
    pub status: Option<KeyStatus>,
    /// End of life. A later one brings an expired key back to life.
    pub expires_at: Option<Option<DateTime<Utc>>>,
    /// Addresses and ranges it may be used from; empty means any.
    pub allow_ips: Option<Vec<String>>,
    /// Addresses and ranges it may not be used from.
    pub deny_ips: Option<Vec<String>>,
    /// Whether `model_limits` applies.
    pub model_limits_enabled: Option<bool>,
    /// Public models it may call.
    pub model_limits: Option<Vec<String>>,
    /// Tokens it may use between two resets. Above what is used it makes an exhausted key active, else it exhausts it.
    pub quota_limit: Option<Option<u64>>,
    /// How often its quota starts anew; a change counts from now.
    pub quota_reset: Option<QuotaReset>,
    /// Limits.
    pub limits: LimitChange,
}

/// A child key that was just issued.
#[derive(Debug)]
pub struct IssuedChildKey {
    /// The record.
    pub key: ChildKey,
    /// Its clear token; it cannot be read again.
    pub token: SecretString,
}

/// Issues a child key of a master. Errors: `NotFound` (the master); `Invalid`; `Conflict` where the master is suspended or
/// has all the keys that it may have.
pub async fn create(write: &Write, master_id: i64, new: CreateChildKey) -> Result<IssuedChildKey, ControlError> {
    let asked = AskedAccess { default_namespace: new.default_namespace, namespaces: new.namespaces };
    asked.refuse_endless()?;
    let master = require_for_update(write, master_id).await?;
    let mut faults = Faults::default();
    let base = Access { default_namespace: master.default_namespace.clone(), namespaces: master.namespaces.clone() };
    let access = asked.for_new(&base, &mut faults);
    let limits = new.limits.over(StandingLimits::default(), &mut faults);
    let quota_reset = new.quota_reset.unwrap_or(QuotaReset::None);
    let token = ClearToken::for_child_key();
    let record = NewChildKey {
        master_id,
        name: new.name.unwrap_or_default(),
        token_hash: None,
        token_digest: token.digest,
        prefix: token.prefix,
        previous_digest: None,
        previous_expires_at: None,
        group: new.group.unwrap_or_else(|| master.group.clone()),
        scopes: checks::deduplicated(new.scopes.unwrap_or_default()),
        default_namespace: access.default_namespace.clone(),
        namespaces: access.namespaces.clone(),
        status: match new.status.unwrap_or(KeyStatus::Active) {
            KeyStatus::Active if is_used_up(new.quota_limit, 0) => KeyStatus::Exhausted,
            other => other,
        },
        issued_at_epoch: master.epoch,
        issued_by: issuer(write),
        expires_at: new.expires_at,
        allow_ips: new.allow_ips.unwrap_or_default(),
        deny_ips: new.deny_ips.unwrap_or_default(),
        model_limits_enabled: new.model_limits_enabled.unwrap_or(false),
        model_limits: checks::deduplicated(new.model_limits.unwrap_or_default()),
        quota_limit: new.quota_limit,
        quota_reset,
        quota_reset_at: next_reset(quota_reset, write.now()),
        global_qps: limits.global_qps,
        rpm: limits.rpm,
        tpm: limits.tpm,
        rpd: limits.rpd,
        tpd: limits.tpd,
        max_concurrency: limits.max_concurrency,
        quota_used: 0,
        request_count: 0,
        used_tokens: 0,
        last_used_at: None,
        created_at: write.now(),
    };
    let fields = Fields {
        name: &record.name,
        group: Some(&record.group),
        scopes: &record.scopes,
        status: new.status,
        expires_at: record.expires_at,
        allow_ips: &record.allow_ips,
        deny_ips: &record.deny_ips,
        model_limits: &record.model_limits,
        quota_limit: record.quota_limit,
    };
    fields.check(&master, write.now(), &mut faults);
    access.require_within(&master.namespaces, &mut faults);
    faults.into_result()?;
    refuse_more_keys(write, &master).await?;

    let key = stored::create(write.tx(), &record).await?;
    write.record("create", None, Some(&key), &[]).await?;
    Ok(IssuedChildKey { key, token: token.clear })
}

/// Changes a child key. Errors: `NotFound`, `Stale`, `Invalid`.
pub async fn update(write: &Write, tenant: Tenant, id: i64, change: ChangeChildKey) -> Result<ChildKey, ControlError> {
    let asked = AskedAccess { default_namespace: change.default_namespace, namespaces: change.namespaces };
    asked.refuse_endless()?;
    let (master, before) = require_with_master(write, tenant, id).await?;
    let mut faults = Faults::default();
    let standing =
        Access { default_namespace: before.default_namespace.clone(), namespaces: before.namespaces.clone() };
    let access = asked.over(standing, &mut faults);
    let fields = Fields {
        name: change.name.as_ref().and_then(Option::as_deref).unwrap_or_default(),
        // The master's group may have changed since; a client that writes back what it read changes nothing.
        group: change.group.as_deref().filter(|group| *group != before.group),
        scopes: change.scopes.as_deref().unwrap_or_default(),
        status: change.status,
        expires_at: change.expires_at.flatten(),
        allow_ips: change.allow_ips.as_deref().unwrap_or_default(),
        deny_ips: change.deny_ips.as_deref().unwrap_or_default(),
        model_limits: change.model_limits.as_deref().unwrap_or_default(),
        quota_limit: change.quota_limit.flatten(),
    };
    fields.check(&master, write.now(), &mut faults);
    access.require_within(&master.namespaces, &mut faults);
    let limits = change.limits.over(StandingLimits::from(&before), &mut faults);
    let quota_reset_at = match change.quota_reset {
        Some(reset) if reset != before.quota_reset => next_reset(reset, write.now()),
        _ => before.quota_reset_at,
    };
    let asked_status = change.status;

    let after = ChildKey {
        name: change.name.map_or_else(|| before.name.clone(), Option::unwrap_or_default),
        group: change.group.unwrap_or_else(|| before.group.clone()),
        scopes: change.scopes.map_or_else(|| before.scopes.clone(), checks::deduplicated),
        default_namespace: access.default_namespace,
        namespaces: access.namespaces,
        expires_at: change.expires_at.unwrap_or(before.expires_at),
        allow_ips: change.allow_ips.unwrap_or_else(|| before.allow_ips.clone()),
        deny_ips: change.deny_ips.unwrap_or_else(|| before.deny_ips.clone()),
        model_limits_enabled: change.model_limits_enabled.unwrap_or(before.model_limits_enabled),
        model_limits: change.model_limits.map_or_else(|| before.model_limits.clone(), checks::deduplicated),
        quota_limit: change.quota_limit.unwrap_or(before.quota_limit),
        quota_reset: change.quota_reset.unwrap_or(before.quota_reset),
        quota_reset_at,
        global_qps: limits.global_qps,
        rpm: limits.rpm,
        tpm: limits.tpm,
        rpd: limits.rpd,
        tpd: limits.tpd,
        max_concurrency: limits.max_concurrency,
        updated_at: write.now(),
        ..before.clone()
    };
    let status = status_after(&before, &after, asked_status, write.now(), &mut faults);
    faults.into_result()?;
    let after = ChildKey { status, ..after };
    stored::update(write.tx(), &after).await?;
    write.record("update", Some(&before), Some(&after), &[]).await?;
    Ok(after)
}

/// Deletes a child key; its log records stay. Errors: `NotFound`, `Stale`.
pub async fn delete(write: &Write, tenant: Tenant, id: i64) -> Result<(), ControlError> {
    let (_, key) = require_with_master(write, tenant, id).await?;
    stored::delete(write.tx(), id).await?;
    write.record("delete", Some(&key), None, &[]).await
}

/// The child key with this id. Errors: `NotFound`.
pub async fn get(control: &Control, tenant: Tenant, id: i64) -> Result<ChildKey, ControlError> {
    let found = match tenant {
        Tenant::Any => stored::get(control.store(), id).await?,
        Tenant::Only(master_id) => stored::get_of_master(control.store(), master_id, id).await?,
    };
    found.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// A page of the child keys that match, among those within reach.
pub async fn list(
    control: &Control,
    tenant: Tenant,
    filter: &ChildKeyFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<ChildKey>, ControlError> {
    let master_id = match tenant {
        Tenant::Any => filter.master_id,
        Tenant::Only(master_id) => Some(master_id),
    };
    let filter = ChildKeyFilter { master_id, ..filter.clone() };
    Ok(stored::list(control.store(), &filter, sort, page).await?)
}

/// How a list of references names a child key.
pub(crate) fn reference(key: &ChildKey) -> String {
    let name = if key.name.is_empty() { &key.prefix } else { &key.name };
    format!("child key {} ({name})", key.id)
}

/// Fields of a request that are checked alike when a key is issued and when it is changed; what a change leaves out is
/// empty and passes.
struct Fields<'a> {
    name: &'a str,
    group: Option<&'a str>,
    scopes: &'a [String],
    status: Option<KeyStatus>,
    expires_at: Option<DateTime<Utc>>,
    allow_ips: &'a [String],
    deny_ips: &'a [String],
    model_limits: &'a [String],
    quota_limit: Option<u64>,
}

impl Fields<'_> {
    fn check(&self, master: &Master, now: DateTime<Utc>, faults: &mut Faults) {
        checks::optional_text(faults, "/name", self.name);
        if let Some(group) = self.group.filter(|group| *group != master.group) {
            faults.add("/group", format!("`{group}` must be the master's group, `{}`", master.group));
        }
        checks::each(faults, "/scopes", self.scopes, |scope| {
            let known = SCOPES.contains(&scope);
            (!known).then(|| format!("`{scope}` is not one of: {}", SCOPES.join(", ")))
        });
        if matches!(self.status, Some(KeyStatus::Expired | KeyStatus::Exhausted)) {
            faults.add("/status", "must be active or suspended; the others are set by ez-api itself");
        }
        if self.expires_at.is_some_and(|end| end.year() > LAST_YEAR) {
            faults.add("/expires_at", format!("must not be after the year {LAST_YEAR}; leave it out for no end"));
        } else if self.expires_at.is_some_and(|end| end <= now) {
            faults.add("/expires_at", "must be in the future; to end a key now, suspend or delete it");
        }
        let ip_rule = |rule: &str| parse_ip_rule(rule).err().map(|error| error.to_string());
        checks::each(faults, "/allow_ips", self.allow_ips, ip_rule);
        checks::each(faults, "/deny_ips", self.deny_ips, ip_rule);
        checks::each_text(faults, "/model_limits", self.model_limits);
        check_count("/quota_limit", self.quota_limit, faults);
    }
}

/// The state of a key after a change: what was asked for, else what it was; but what made it expired or exhausted may be
/// gone with the change, or come with it. Notes where a key is to be activated and nothing of that is gone.
fn status_after(
    before: &ChildKey,
    after: &ChildKey,
    asked: Option<KeyStatus>,
    now: DateTime<Utc>,
    faults: &mut Faults,
) -> KeyStatus {
    let own = match (asked, before.status) {
        (Some(asked), _) => asked,
        (None, KeyStatus::Expired) if after.expires_at != before.expires_at => KeyStatus::Active,
        (None, KeyStatus::Exhausted) if after.quota_limit != before.quota_limit => KeyStatus::Active,
        (None, standing) => standing,
    };
    let status = status_of(after, own, now);
    if asked == Some(KeyStatus::Active) && status == before.status {
        match status {
            KeyStatus::Expired => faults.add("/status", "the key has expired; give it an expires_at in the future"),
            KeyStatus::Exhausted => faults.add("/status", "the key's quota is used up; raise its quota_limit"),
            KeyStatus::Active | KeyStatus::Suspended => {}
        }
    }
    status
}

/// The key that the caller wants to change, if it is within reach, and its master, both as they stand until the
/// transaction ends. Errors: `NotFound`, `Stale`.
pub(crate) async fn require_with_master(
    write: &Write,
    tenant: Tenant,
    id: i64,
) -> Result<(Master, ChildKey), ControlError> {
    let not_found = || ControlError::not_found(WHAT, id);
    let seen = stored::get(write.tx(), id).await?.filter(|key| tenant.reaches(key.master_id));
    let master = require_for_update(write, seen.ok_or_else(not_found)?.master_id).await?;
    let key = stored::get_for_update(write.tx(), id).await?.ok_or_else(not_found)?;
    write.require_fresh(WHAT, &key)?;
    Ok((master, key))
}

async fn refuse_more_keys(write: &Write, master: &Master) -> Result<(), ControlError> {
    if master.status == RecordStatus::Suspended {
        return Err(ControlError::conflict("the master is suspended and cannot be issued keys; activate it first"));
    }
    let most = u64::from(master.max_child_keys);
    if most > 0 && stored::count_by_master(write.tx(), master.id).await? >= most {
        let message =
            format!("the master has all {most} child keys that it may have; delete one, or raise max_child_keys");
        return Err(ControlError::conflict(message));
    }
    Ok(())
}

fn issuer(write: &Write) -> IssuedBy {
    match write.actor().kind {
        ActorKind::Master => IssuedBy::Master,
        ActorKind::Admin | ActorKind::System => IssuedBy::Admin,
    }
}
