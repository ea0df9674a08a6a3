//! Masters and child keys of a document.

use std::collections::HashMap;

use ez_contract::TokenDigest;
use ez_contract::access::parse_ip_rule;
use ez_contract::operation::SCOPES;
use ez_contract::status::{KeyStatus, RecordStatus};
use ez_store::child_keys::NewChildKey;
use ez_store::masters::NewMaster;
use ez_store::namespaces::DEFAULT_NAMESPACE;
use ez_store::{IssuedBy, QuotaReset};
use secrecy::ExposeSecret;

use super::document::Reading;
use super::entry::Entry;
use super::findings::Findings;
use super::given::Given;
use super::plan::{DocumentEpochs, Plan, PlannedKey, PlannedMaster};
use super::secrets::{bare_token, shown_prefix};
use crate::limits::MAX_COUNT;
use crate::{budget, checks, quotas};

const DEFAULT_GROUP: &str = "default";
const FIRST_EPOCH: i64 = 1;

/// Characters of the hash of a master key.
const MAX_HASH_CHARS: usize = 300;

/// Quota of a key.
struct QuotaOf {
    limit: Option<u64>,
    used: u64,
}

/// What a master of the document says of itself, for its keys: they may take it over.
struct MasterOf {
    /// Place among the planned masters.
    place: usize,
    group: String,
    /// Epoch, where the document tells it.
    epoch: Option<i64>,
    /// As the document has it; what keys add is not for other keys to take over.
    namespaces: Vec<String>,
    default_namespace: String,
}

/// Reads the document's `masters` and `keys` into the plan.
pub(super) fn read(reading: &Reading<'_>, plan: &mut Plan, findings: &mut Findings) {
    let mut masters: HashMap<String, MasterOf> = HashMap::new();
    let mut digests: HashMap<TokenDigest, String> = HashMap::new();
    for entry in reading.entries("masters", findings) {
        let Some(planned) = master(reading, &entry, findings) else { continue };
        let record = &planned.record;
        if let Some(first) = record.key_digest.and_then(|digest| digests.insert(digest, planned.path.clone())) {
            findings.fault(entry.at("key_digest"), format!("is the key of the master at {first} too"));
        }
        let own = MasterOf {
            place: plan.masters.len(),
            group: record.group.clone(),
            epoch: entry.value("epoch").map(|_| record.epoch),
            namespaces: record.namespaces.clone(),
            default_namespace: record.default_namespace.clone(),
        };
        if masters.insert(record.name.clone(), own).is_some() {
            findings.fault(entry.at("name"), format!("another master of the document is named `{}` too", record.name));
        }
        plan.masters.push(planned);
    }
    let mut tokens: HashMap<TokenDigest, String> = HashMap::new();
    for entry in reading.entries("keys", findings) {
        let Some(planned) = key(reading, &entry, &masters, plan, findings) else { continue };
        let digests = [Some(planned.record.token_digest), planned.record.previous_digest];
        for digest in digests.into_iter().flatten() {
            if let Some(first) = tokens.insert(digest, planned.path.clone()) {
                findings.fault(entry.path(), format!("has the token of {first}; each key needs one of its own"));
            }
        }
        extend_master(&planned, &masters, plan, findings);
        plan.keys.push(planned);
    }
}

fn master(reading: &Reading<'_>, entry: &Entry<'_>, findings: &mut Findings) -> Option<PlannedMaster> {
    let name = entry.required_label("name", findings);
    let mut namespaces = reading.namespaces(entry, "namespaces", findings);
    let default = reading.namespace(entry, "default_namespace", findings);
    let default_namespace = match default {
        Some(default) => default,
        None => namespaces.first().cloned().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
    };
    if !namespaces.contains(&default_namespace) {
        if !namespaces.is_empty() {
            findings.warn(entry.path(), "the default namespace is added to the namespaces");
        }
        namespaces.insert(0, default_namespace.clone());
    }
    let record = NewMaster {
        name: name.unwrap_or_default(),
        group: entry.label("group", findings).unwrap_or_else(|| DEFAULT_GROUP.to_owned()),
        key_hash: key_hash(entry, findings),
        key_digest: entry.word("key_digest", findings),
        prefix: entry.label("prefix", findings).unwrap_or_default(),
        default_namespace,
        namespaces,
        epoch: entry.number::<u32>("epoch", findings).map_or(FIRST_EPOCH, i64::from),
        status: entry.status("suspended", findings).unwrap_or(RecordStatus::Active),
        max_child_keys: entry.number("max_child_keys", findings).unwrap_or(0),
        global_qps: entry.number("global_qps", findings).unwrap_or(0),
        rpm: entry.number("rpm", findings),
        tpm: entry.number("tpm", findings),
        rpd: entry.number("rpd", findings),
        tpd: entry.number("tpd", findings),
        max_concurrency: entry.number("max_concurrency", findings),
        monthly_budget: monthly_budget(entry, findings),
        created_at: reading.now,
    };
    let (path, given) = (entry.path().to_owned(), Given::of(entry));
    Some(PlannedMaster { path, given, record }).filter(|master| !master.record.name.is_empty())
}

/// The hash of a master key whose digest is not known, of a kind that sign-in can verify.
fn key_hash(entry: &Entry<'_>, findings: &mut Findings) -> Option<String> {
    let hash = entry.raw_text("key_hash", findings).filter(|hash| !hash.is_empty())?;
    let is_known = ["$argon2id$", "$2a$", "$2b$", "$2y$"].iter().any(|kind| hash.starts_with(kind));
    if !is_known || hash.len() > MAX_HASH_CHARS {
        findings.fault(entry.at("key_hash"), "must be a hash of Argon2id or bcrypt; leave it out for a new master key");
    }
    Some(hash.to_owned())
}

/// US dollars as an exact decimal.
fn monthly_budget(entry: &Entry<'_>, findings: &mut Findings) -> Option<String> {
    let value = entry.value("monthly_budget")?;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    budget::normalised(&text).map_err(|rule| findings.fault(entry.at("monthly_budget"), rule)).ok()
}

fn key(
    reading: &Reading<'_>,
    entry: &Entry<'_>,
    masters: &HashMap<String, MasterOf>,
    plan: &mut Plan,
    findings: &mut Findings,
) -> Option<PlannedKey> {
    let master_name = entry.required_label("master_ref", findings);
    let master = master_name.as_ref().and_then(|name| masters.get(name));
    if let Some(name) = &master_name
        && master.is_none()
        && !reading.standing_masters.contains(name)
    {
        let message = format!("`{name}` is no master of the document and none here; add it to `masters`");
        findings.fault(entry.at("master_ref"), message);
    }
    let credential = credential(reading, entry, plan, findings);
    let namespaces = namespaces_of(reading, entry, master, findings);
    let quota = quota(reading, entry, findings);
    let group = entry.label("group", findings);
    let issued_by: Option<IssuedBy> = entry.word("issued_by", findings);
    let issued_at_epoch = entry.number::<u32>("issued_at_epoch", findings).map(i64::from);
    let quota_reset = entry.word("quota_reset", findings).unwrap_or(QuotaReset::None);
    let next_reset = quotas::next_reset(quota_reset, reading.now);
    // One that never starts anew must not do so once.
    let quota_reset_at = entry.time("quota_reset_at", findings).filter(|_| next_reset.is_some()).or(next_reset);
    let previous_digest: Option<TokenDigest> = entry.word("previous_digest", findings);
    // Without a token the rest is read all the same, for its faults.
    let has_credential = credential.is_some();
    let (token_digest, prefix) = credential.unwrap_or_else(|| (TokenDigest::of(""), String::new()));
    let record = NewChildKey {
        master_id: 0,
        name: entry.label("name", findings).unwrap_or_default(),
        token_hash: None,
        token_digest,
        prefix,
        previous_digest,
        previous_expires_at: entry.time("previous_expires_at", findings),
        group: group.clone().or(master.map(|master| master.group.clone())).unwrap_or_else(|| DEFAULT_GROUP.to_owned()),
        scopes: scopes(entry, findings),
        default_namespace: namespaces.0,
        namespaces: namespaces.1,
        status: entry.status("suspended", findings).unwrap_or(KeyStatus::Active),
        issued_at_epoch: issued_at_epoch.unwrap_or(FIRST_EPOCH),
        issued_by: issued_by.unwrap_or(IssuedBy::Admin),
        expires_at: entry.time("expires_at", findings),
        allow_ips: ip_rules(entry, "allow_ips", findings),
        deny_ips: ip_rules(entry, "deny_ips", findings),
        model_limits_enabled: entry.flag("model_limits_enabled", findings).unwrap_or(false),
        model_limits: entry.labels("model_limits", findings).unwrap_or_default(),
        quota_limit: quota.limit,
        quota_reset,
        quota_reset_at,
        global_qps: entry.number("global_qps", findings).unwrap_or(0),
        rpm: entry.number("rpm", findings),
        tpm: entry.number("tpm", findings),
        rpd: entry.number("rpd", findings),
        tpd: entry.number("tpd", findings),
        max_concurrency: entry.number("max_concurrency", findings),
        quota_used: quota.used,
        request_count: 0,
        used_tokens: 0,
        last_used_at: None,
        created_at: reading.now,
    };
    let epochs = issued_at_epoch.zip(master.and_then(|master| master.epoch));
    Some(PlannedKey {
        path: entry.path().to_owned(),
        given: Given::of(entry),
        master: master_name?,
        record,
        has_group: group.is_some(),
        epochs: epochs.map(|(key, master)| DocumentEpochs { key, master }),
    })
    .filter(|_| has_credential)
}

/// The digest that clients are found by, and what of the token may be shown. A key whose token the other system could
/// not tell is counted as failed: nobody could use it.
fn credential(
    reading: &Reading<'_>,
    entry: &Entry<'_>,
    plan: &mut Plan,
    findings: &mut Findings,
) -> Option<(TokenDigest, String)> {
    let digest: Option<TokenDigest> = entry.word("token_digest", findings);
    let prefix = entry.label("prefix", findings).unwrap_or_default();
    let is_available = entry.flag("_token_plaintext_available", findings).unwrap_or(true);
    if let Some(digest) = digest {
        return Some((digest, prefix));
    }
    if entry.value("token_digest").is_some() {
        return None;
    }
    if !is_available {
        let text = "the document does not have this key's token, so its clients cannot go on: issue them a new key";
        findings.warn(entry.path(), text);
        plan.failed_keys += 1;
        return None;
    }
    let token = entry.secret("original_token", findings);
    let path = entry.at("original_token");
    let Some(token) = token else {
        if entry.value("original_token").is_none_or(|value| value.is_string()) {
            let field = if reading.is_foreign { "original_token" } else { "token_digest" };
            findings.fault(entry.at(field), "is required and must not be empty");
        }
        return None;
    };
    let bare = bare_token(token.expose_secret(), &path, findings)?;
    Some((TokenDigest::of(bare), shown_prefix(bare)))
}

/// Default namespace and namespaces. Without any the key takes its master's; where that is not in the document, both are
/// empty until it is looked up.
fn namespaces_of(
    reading: &Reading<'_>,
    entry: &Entry<'_>,
    master: Option<&MasterOf>,
    findings: &mut Findings,
) -> (String, Vec<String>) {
    let mut namespaces = reading.namespaces(entry, "namespaces", findings);
    let default = reading.namespace(entry, "default_namespace", findings);
    if namespaces.is_empty() {
        namespaces = master.map(|master| master.namespaces.clone()).unwrap_or_default();
    }
    let inherited = master.map(|master| &master.default_namespace).filter(|name| namespaces.contains(name));
    let default = default.or_else(|| inherited.or(namespaces.first()).cloned()).unwrap_or_default();
    if !default.is_empty() && !namespaces.contains(&default) {
        namespaces.insert(0, default.clone());
    }
    (default, namespaces)
}

fn scopes(entry: &Entry<'_>, findings: &mut Findings) -> Vec<String> {
    let mut scopes = Vec::new();
    for item in entry.items("scopes", findings).unwrap_or_default() {
        if SCOPES.contains(&item.text.as_str()) {
            scopes.push(item.text);
        } else {
            findings.fault(item.path, format!("`{}` is not one of: {}", item.text, SCOPES.join(", ")));
        }
    }
    checks::deduplicated(scopes)
}

fn ip_rules(entry: &Entry<'_>, field: &str, findings: &mut Findings) -> Vec<String> {
    let mut rules = Vec::new();
    for item in entry.items(field, findings).unwrap_or_default() {
        match parse_ip_rule(&item.text) {
            Ok(_) => rules.push(item.text),
            Err(error) => findings.fault(item.path, error),
        }
    }
    rules
}

/// Limit and use. What New API calls a limit is what remains, in its own points.
fn quota(reading: &Reading<'_>, entry: &Entry<'_>, findings: &mut Findings) -> QuotaOf {
    let is_unlimited = entry.flag("unlimited_quota", findings).unwrap_or(false);
    let used = entry.number::<u64>("quota_used", findings).unwrap_or(0);
    if !reading.is_foreign {
        let limit = entry.number("quota_limit", findings).filter(|_| !is_unlimited);
        return QuotaOf { limit, used };
    }
    let remaining: Option<i64> = entry.number("quota_limit", findings);
    match remaining.filter(|_| !is_unlimited) {
        None => QuotaOf { limit: None, used: 0 },
        Some(remaining) => {
            let text = "the quota is in the other system's points: what remained and what was used are added up and kept as an opaque count of tokens";
            findings.warn(entry.path(), text);
            QuotaOf { limit: Some(used.saturating_add_signed(remaining).min(MAX_COUNT)), used }
        }
    }
}

/// Gives a master of the document what its key has beyond it.
fn extend_master(key: &PlannedKey, masters: &HashMap<String, MasterOf>, plan: &mut Plan, findings: &mut Findings) {
    let master = masters.get(&key.master).and_then(|master| plan.masters.get_mut(master.place));
    let Some(master) = master else { return };
    for namespace in &key.record.namespaces {
        if !master.record.namespaces.contains(namespace) {
            let name = &key.master;
            findings.warn(&key.path, format!("its namespace `{namespace}` is added to those of its master `{name}`"));
            master.record.namespaces.push(namespace.clone());
        }
    }
}
