//! Child keys, found by the digest of their token.

use std::collections::HashMap;

use ez_contract::TokenDigest;
use ez_store::child_keys::{self as stored, ChildKey, NewChildKey};
use ez_store::masters::Master;

use super::super::ConflictPolicy;
use super::super::findings::Findings;
use super::super::given::{Field, Given};
use super::super::plan::PlannedKey;
use super::super::summary::{Counts, ImportCounts};
use super::MAX_LOOKED_UP;
use super::masters::Tenants;
use crate::{ControlError, Write, quotas};

/// Keys that are recorded at once.
const RECORDED_AT_ONCE: usize = 500;

/// A key that is to be written, and the one that it is written over.
struct Settled {
    record: NewChildKey,
    given: Given,
    before: Option<ChildKey>,
}

/// Writes child keys. Masters that lack a namespace of a key get it first.
pub(super) async fn apply(
    write: &Write,
    planned: Vec<PlannedKey>,
    mut tenants: Tenants,
    counts: &mut ImportCounts,
    findings: &mut Findings,
) -> Result<(), ControlError> {
    let standing = standing(write, &planned).await?;
    let mut settled = Vec::with_capacity(planned.len());
    let mut missing: HashMap<String, Vec<String>> = HashMap::new();
    let mut order = Vec::new();
    for key in planned {
        let (master_name, path) = (key.master.clone(), key.path.clone());
        let Some(master) = tenants.get(write, &master_name).await? else {
            findings.fault(format!("{path}.master_ref"), format!("the master `{master_name}` was deleted meanwhile"));
            continue;
        };
        let Some(key) = settle(key, &master, &standing, tenants.conflict, findings) else {
            counts.keys.skipped += 1;
            continue;
        };
        for namespace in key.record.namespaces.iter().filter(|name| !master.namespaces.contains(name)) {
            let text = format!("its namespace `{namespace}` is added to those of its master `{master_name}`");
            findings.warn(&path, text);
            missing.entry(master_name.clone()).or_insert_with(|| {
                order.push(master.clone());
                Vec::new()
            });
            missing.entry(master_name.clone()).or_default().push(namespace.clone());
        }
        settled.push(key);
    }
    for master in order {
        let namespaces = missing.remove(&master.name).unwrap_or_default();
        tenants.extend(write, &master, namespaces, &mut counts.masters).await?;
    }
    let limited = tenants.limited();
    write_all(write, settled, &mut counts.keys).await?;
    for master in limited {
        let (count, most) = (stored::count_by_master(write.tx(), master.id).await?, master.max_child_keys);
        if count > u64::from(most) {
            let text = format!("the master `{}` has {count} child keys, more than the {most} it may have", master.name);
            findings.warn("$.data.keys", text);
        }
    }
    Ok(())
}

/// The keys of the database that have a digest of the document, by each of their digests.
async fn standing(write: &Write, planned: &[PlannedKey]) -> Result<HashMap<TokenDigest, ChildKey>, ControlError> {
    let records = planned.iter().map(|key| &key.record);
    let digests: Vec<TokenDigest> =
        records.flat_map(|record| [Some(record.token_digest), record.previous_digest]).flatten().collect();
    let mut standing = HashMap::new();
    for digests in digests.chunks(MAX_LOOKED_UP) {
        for key in stored::list_by_digests(write.tx(), digests).await? {
            standing.extend(key.previous_digest.map(|digest| (digest, key.clone())));
            standing.insert(key.token_digest, key);
        }
    }
    Ok(standing)
}

/// The record of a key with what its master gives it; none where the key is there already and stays.
fn settle(
    key: PlannedKey,
    master: &Master,
    standing: &HashMap<TokenDigest, ChildKey>,
    conflict: ConflictPolicy,
    findings: &mut Findings,
) -> Option<Settled> {
    let PlannedKey { path, given, mut record, has_group, epochs, .. } = key;
    let before = standing.get(&record.token_digest).cloned();
    if let Some(before) = &before {
        if before.master_id != master.id || before.token_digest != record.token_digest {
            findings.warn(&path, "another child key here has this token; that one stays as it is");
            return None;
        }
        if conflict == ConflictPolicy::Skip {
            return None;
        }
    }
    let is_others = |digest: &TokenDigest| {
        standing.get(digest).is_some_and(|other| Some(other.id) != before.as_ref().map(|before| before.id))
    };
    if record.previous_digest.as_ref().is_some_and(is_others) {
        findings.warn(&path, "another child key here has the token that this one had before; that one keeps it");
        (record.previous_digest, record.previous_expires_at) = (None, None);
    }
    record.master_id = master.id;
    if record.namespaces.is_empty() {
        record.namespaces.clone_from(&master.namespaces);
        record.default_namespace.clone_from(&master.default_namespace);
    }
    if !has_group {
        record.group.clone_from(&master.group);
    } else if record.group != master.group {
        findings.warn(&path, "the child key's group is not its master's; it is kept");
    }
    record.issued_at_epoch = epochs.map_or(master.epoch, |epochs| epochs.at(master.epoch));
    Some(Settled { record, given, before })
}

async fn write_all(write: &Write, settled: Vec<Settled>, counts: &mut Counts) -> Result<(), ControlError> {
    let mut created = Vec::new();
    for Settled { mut record, given, before } in settled {
        let Some(before) = before else {
            record.status = quotas::status_of_new(&record, write.now());
            created.push(stored::create(write.tx(), &record).await?);
            counts.created += 1;
            if created.len() >= RECORDED_AT_ONCE {
                record_created(write, &created).await?;
                created.clear();
            }
            continue;
        };
        let mut after = overwritten(&before, record, given);
        after.status = quotas::status_of(&after, after.status, write.now());
        if after == before {
            counts.skipped += 1;
            continue;
        }
        after.updated_at = write.now();
        stored::update(write.tx(), &after).await?;
        write.record("import", Some(&before), Some(&after), &[]).await?;
        counts.updated += 1;
    }
    record_created(write, &created).await
}

async fn record_created(write: &Write, created: &[ChildKey]) -> Result<(), ControlError> {
    let changes: Vec<_> = created.iter().map(|key| (None, key)).collect();
    write.record_all("import", &changes, &[]).await
}

/// The key with the document's values. Its epoch and its use stay: an import neither kills nor revives a key that is
/// here, and gives back no quota.
fn overwritten(before: &ChildKey, record: NewChildKey, given: Given) -> ChildKey {
    let quota_reset = given.or(Field::QuotaReset, record.quota_reset, before.quota_reset);
    let quota_reset_at = if quota_reset == before.quota_reset { before.quota_reset_at } else { record.quota_reset_at };
    let previous = (record.previous_digest, record.previous_expires_at);
    let (previous_digest, previous_expires_at) =
        given.or(Field::PreviousDigest, previous, (before.previous_digest, before.previous_expires_at));
    let standing = before.clone();
    ChildKey {
        name: given.or(Field::Name, record.name, standing.name),
        previous_digest,
        previous_expires_at,
        group: record.group,
        scopes: given.or(Field::Scopes, record.scopes, standing.scopes),
        default_namespace: record.default_namespace,
        namespaces: record.namespaces,
        status: given.or(Field::Status, record.status, standing.status),
        expires_at: given.or(Field::ExpiresAt, record.expires_at, standing.expires_at),
        allow_ips: given.or(Field::AllowIps, record.allow_ips, standing.allow_ips),
        deny_ips: given.or(Field::DenyIps, record.deny_ips, standing.deny_ips),
        model_limits_enabled: given.or(
            Field::ModelLimitsEnabled,
            record.model_limits_enabled,
            standing.model_limits_enabled,
        ),
        model_limits: given.or(Field::ModelLimits, record.model_limits, standing.model_limits),
        quota_limit: given.or(Field::QuotaLimit, record.quota_limit, standing.quota_limit),
        quota_reset,
        quota_reset_at,
        global_qps: given.or(Field::GlobalQps, record.global_qps, standing.global_qps),
        rpm: given.or(Field::Rpm, record.rpm, standing.rpm),
        tpm: given.or(Field::Tpm, record.tpm, standing.tpm),
        rpd: given.or(Field::Rpd, record.rpd, standing.rpd),
        tpd: given.or(Field::Tpd, record.tpd, standing.tpd),
        max_concurrency: given.or(Field::MaxConcurrency, record.max_concurrency, standing.max_concurrency),
        ..before.clone()
    }
}
