//! Provider groups, found by name, and their API keys, found by their secret within the group.

use std::collections::{HashMap, HashSet};

use ez_contract::TokenDigest;
use ez_contract::secret::SecretPlace;
use ez_contract::status::ApiKeyStatus;
use ez_store::api_keys::{self, ApiKey, NewApiKey};
use ez_store::provider_groups::{self as stored, NewProviderGroup, ProviderGroup};
use secrecy::SecretString;
use uuid::Uuid;

use super::super::ConflictPolicy;
use super::super::findings::Findings;
use super::super::given::{Field, Given};
use super::super::plan::{PlannedApiKey, PlannedGroup};
use super::super::secrets::clear;
use super::super::summary::{Counts, ImportCounts};
use super::MAX_LOOKED_UP;
use crate::{ControlError, Write};

/// Fields of an API key that hold a secret, the one that tells it from its siblings first.
const SECRET_FIELDS: [&str; 3] = ["api_key", "refresh_token", "access_token"];

/// Writes provider groups and API keys; returns the groups' ids by name.
pub(super) async fn apply(
    write: &Write,
    planned: Vec<PlannedGroup>,
    conflict: ConflictPolicy,
    counts: &mut ImportCounts,
    findings: &mut Findings,
) -> Result<HashMap<String, i64>, ControlError> {
    lock_standing(write, &planned).await?;
    let mut ids = HashMap::new();
    for PlannedGroup { record, given, api_keys, .. } in planned {
        let name = record.name.clone();
        let (id, is_new) = apply_group(write, record, given, conflict, &mut counts.provider_groups).await?;
        ids.insert(name, id);
        let standing = match is_new {
            true => Vec::new(),
            false => api_keys::list_by_group(write.tx(), id).await?,
        };
        let mut siblings = Siblings::of(write, id, standing);
        for api_key in api_keys {
            siblings.apply(write, api_key, conflict, &mut counts.api_keys, findings).await?;
        }
    }
    Ok(ids)
}

/// Locks the groups that stand already, by id like everybody else and not in the order of the document, so that whoever
/// changes or counts several of them waits and nobody deadlocks.
async fn lock_standing(write: &Write, planned: &[PlannedGroup]) -> Result<(), ControlError> {
    let names: Vec<String> = planned.iter().map(|group| group.record.name.clone()).collect();
    let mut ids = Vec::new();
    for names in names.chunks(MAX_LOOKED_UP) {
        ids.extend(stored::list_by_names(write.tx(), names).await?.into_iter().map(|group| group.id));
    }
    ids.sort_unstable();
    for ids in ids.chunks(MAX_LOOKED_UP) {
        stored::list_for_update(write.tx(), ids).await?;
    }
    Ok(())
}

/// The group's id, and whether it was created.
async fn apply_group(
    write: &Write,
    record: NewProviderGroup,
    given: Given,
    conflict: ConflictPolicy,
    counts: &mut Counts,
) -> Result<(i64, bool), ControlError> {
    let seen = stored::get_by_name(write.tx(), &record.name).await?;
    let before = match seen {
        Some(group) => stored::get_for_update(write.tx(), group.id).await?,
        None => None,
    };
    let Some(before) = before else {
        let group = stored::create(write.tx(), &record).await?;
        write.record("import", None, Some(&group), &[]).await?;
        counts.created += 1;
        return Ok((group.id, true));
    };
    let mut after = before.clone();
    if conflict == ConflictPolicy::Overwrite {
        after = ProviderGroup {
            provider_type: record.provider_type,
            protocols: given.or(Field::Protocols, record.protocols, after.protocols),
            route_group: record.route_group,
            base_url: record.base_url,
            google_project: given.or(Field::GoogleProject, record.google_project, after.google_project),
            google_location: given.or(Field::GoogleLocation, record.google_location, after.google_location),
            api_version: given.or(Field::ApiVersion, record.api_version, after.api_version),
            models: record.models,
            status: record.status,
            ..after
        };
    }
    if after == before {
        counts.skipped += 1;
    } else {
        after.updated_at = write.now();
        stored::update(write.tx(), &after).await?;
        write.record("import", Some(&before), Some(&after), &[]).await?;
        counts.updated += 1;
    }
    Ok((before.id, false))
}

/// The API keys of one group, by what identifies them.
struct Siblings {
    group_id: i64,
    keys: Vec<ApiKey>,
    /// Place in `keys` by the digest of the secret.
    by_secret: HashMap<TokenDigest, usize>,
    by_uuid: HashMap<Uuid, usize>,
    /// Places of those that the document has named already: the first who names one decides.
    named: HashSet<usize>,
}

impl Siblings {
    fn of(write: &Write, group_id: i64, standing: Vec<ApiKey>) -> Self {
        let (by_secret, by_uuid) = (HashMap::new(), HashMap::new());
        let mut siblings = Self { group_id, keys: Vec::new(), by_secret, by_uuid, named: HashSet::new() };
        for key in standing {
            let digest = identifying_digest(write, &key);
            siblings.add(key, digest);
        }
        siblings
    }

    fn add(&mut self, key: ApiKey, digest: Option<TokenDigest>) {
        self.by_uuid.insert(key.uuid, self.keys.len());
        if let Some(digest) = digest {
            self.by_secret.entry(digest).or_insert(self.keys.len());
        }
        self.keys.push(key);
    }

    async fn apply(
        &mut self,
        write: &Write,
        planned: PlannedApiKey,
        conflict: ConflictPolicy,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Result<(), ControlError> {
        let digest = planned.identifying_secret().map(|secret| TokenDigest::of(clear(secret)));
        let place = match (&digest, planned.uuid) {
            (Some(digest), uuid) => self.by_secret.get(digest).copied().or_else(|| self.waiting(uuid?)),
            (None, Some(uuid)) => self.by_uuid.get(&uuid).copied(),
            // Somebody wrote this document by hand, and nothing but its name tells this key.
            (None, None) => self.keys.iter().position(|key| key.name == planned.name),
        };
        let Some(place) = place else {
            let key = self.create(write, planned, findings).await?;
            self.named.insert(self.keys.len());
            self.add(key, digest);
            counts.created += 1;
            return Ok(());
        };
        let is_first = self.named.insert(place);
        if !is_first {
            findings.warn(&planned.path, "its provider group has the same API key in the document already");
        }
        let Some(before) = self.keys.get(place).filter(|_| is_first) else {
            counts.skipped += 1;
            return Ok(());
        };
        let before = match conflict {
            ConflictPolicy::Skip => None,
            ConflictPolicy::Overwrite => api_keys::get_for_update(write.tx(), before.id).await?,
        };
        let after = match &before {
            Some(before) => overwritten(write, before, planned)?,
            None => None,
        };
        let (Some(before), Some(after)) = (before, after) else {
            counts.skipped += 1;
            return Ok(());
        };
        api_keys::update(write.tx(), &after).await?;
        write.record("import", Some(&before), Some(&after), &[]).await?;
        counts.updated += 1;
        Ok(())
    }

    /// The place of the key of this uuid, where it came without its secret and waits for it.
    fn waiting(&self, uuid: Uuid) -> Option<usize> {
        let place = self.by_uuid.get(&uuid).copied()?;
        self.keys.get(place).filter(|key| !has_secret(key)).map(|_| place)
    }

    async fn create(
        &self,
        write: &Write,
        planned: PlannedApiKey,
        findings: &mut Findings,
    ) -> Result<ApiKey, ControlError> {
        let uuid = match planned.uuid {
            Some(uuid) if api_keys::get_by_uuid(write.tx(), uuid).await?.is_none() => uuid,
            _ => Uuid::new_v4(),
        };
        let mut status = planned.status;
        if planned.identifying_secret().is_none() {
            let text =
                "the document has no secret of this API key: it is manual_disabled; give it its secret and activate it";
            findings.warn(&planned.path, text);
            status = ApiKeyStatus::ManualDisabled;
        }
        let record = NewApiKey {
            uuid,
            group_id: self.group_id,
            name: planned.name,
            api_key: seal(write, uuid, "api_key", planned.api_key.as_ref())?,
            access_token: seal(write, uuid, "access_token", planned.access_token.as_ref())?,
            refresh_token: seal(write, uuid, "refresh_token", planned.refresh_token.as_ref())?,
            expires_at: planned.expires_at,
            account_id: planned.account_id,
            project_id: planned.project_id,
            weight: planned.weight,
            max_concurrency: planned.max_concurrency,
            status,
            auto_ban: planned.auto_ban,
            ban_reason: planned.ban_reason,
            ban_until: planned.ban_until,
            total_requests: 0,
            success_requests: 0,
            failure_requests: 0,
            last_used_at: None,
            created_at: write.now(),
        };
        let key = api_keys::create(write.tx(), &record).await?;
        write.record("import", None, Some(&key), &[]).await?;
        Ok(key)
    }
}

/// The API key with the document's values, where that changes it. Secrets that the document does not have stay.
fn overwritten(write: &Write, before: &ApiKey, planned: PlannedApiKey) -> Result<Option<ApiKey>, ControlError> {
    let has_secret = has_secret(before) || planned.identifying_secret().is_some();
    let given = planned.given;
    let mut after = ApiKey {
        name: planned.name,
        expires_at: given.or(Field::ExpiresAt, planned.expires_at, before.expires_at),
        account_id: given.or(Field::AccountId, planned.account_id, before.account_id.clone()),
        project_id: given.or(Field::ProjectId, planned.project_id, before.project_id.clone()),
        weight: planned.weight,
        max_concurrency: given.or(Field::MaxConcurrency, planned.max_concurrency, before.max_concurrency),
        // Without a secret it cannot serve, whatever it was where it came from.
        status: if has_secret { planned.status } else { before.status },
        auto_ban: planned.auto_ban,
        ban_reason: planned.ban_reason,
        ban_until: planned.ban_until,
        ..before.clone()
    };
    let secrets = [
        ("api_key", &planned.api_key, &mut after.api_key),
        ("access_token", &planned.access_token, &mut after.access_token),
        ("refresh_token", &planned.refresh_token, &mut after.refresh_token),
    ];
    for (field, given, kept) in secrets {
        let standing = kept.as_deref().and_then(|envelope| open(write, before.uuid, field, envelope));
        if let Some(given) = given
            && standing.as_deref() != Some(clear(given))
        {
            *kept = seal(write, before.uuid, field, Some(given))?;
        }
    }
    if after == *before {
        return Ok(None);
    }
    after.updated_at = write.now();
    Ok(Some(after))
}

fn has_secret(key: &ApiKey) -> bool {
    key.api_key.is_some() || key.refresh_token.is_some() || key.access_token.is_some()
}

/// The digest of the secret that tells a key from its siblings; none where it has none that can be read.
fn identifying_digest(write: &Write, key: &ApiKey) -> Option<TokenDigest> {
    let envelopes = [&key.api_key, &key.refresh_token, &key.access_token];
    let mut kept = SECRET_FIELDS.into_iter().zip(envelopes);
    let (field, envelope) = kept.find_map(|(field, envelope)| Some((field, envelope.as_deref()?)))?;
    open(write, key.uuid, field, envelope).map(|clear| TokenDigest::of(&clear))
}

fn open(write: &Write, uuid: Uuid, field: &str, envelope: &str) -> Option<String> {
    write.control().secret_key().open(envelope, SecretPlace::api_key(uuid, field)).ok()
}

fn seal(write: &Write, uuid: Uuid, field: &str, secret: Option<&SecretString>) -> Result<Option<String>, ControlError> {
    let key = write.control().secret_key();
    let seal = |secret| key.seal(clear(secret), SecretPlace::api_key(uuid, field), rand::random());
    Ok(secret.map(seal).transpose()?)
}
