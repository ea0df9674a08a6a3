//! Many API keys at once: created from a list of secrets, switched on and off.

use std::collections::HashSet;

use ez_contract::TokenDigest;
use ez_contract::status::ApiKeyStatus;
use ez_store::api_keys::{self as stored, ApiKey};
use ez_store::{RecordKind, provider_groups};
use secrecy::{ExposeSecret, SecretString};

use crate::api_keys::{self, CreateApiKey, with_status};
use crate::error::Faults;
use crate::{ControlError, Write, checks};

/// Secrets, or ids, in one batch.
const MAX_BATCH: usize = 1000;

/// API keys to create in one provider group; what is absent takes its default.
#[derive(Debug, Clone)]
pub struct CreateApiKeys {
    /// A provider group that exists.
    pub group_id: i64,
    /// One secret a line, in clear. Blank lines are dropped.
    pub secrets: SecretString,
    /// For people; the same for each; empty.
    pub name: Option<String>,
    /// Share of the group's calls, relative to its siblings; 1.
    pub weight: Option<u32>,
    /// Calls in flight at once with each; unlimited.
    pub max_concurrency: Option<u32>,
    /// Active.
    pub status: Option<ApiKeyStatus>,
    /// Whether a dead credential is switched off automatically; yes.
    pub auto_ban: Option<bool>,
}

/// What became of a batch of secrets.
#[derive(Debug)]
pub struct CreatedApiKeys {
    /// The new API keys, in the order of their lines.
    pub created: Vec<ApiKey>,
    /// Lines whose secret is there already.
    pub skipped: Vec<SkippedLine>,
}

/// A line that made no API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedLine {
    /// From 1, blank lines included.
    pub line: usize,
    /// Why not; never with the secret.
    pub reason: String,
}

/// Creates an API key for each secret that the provider group does not have yet. All or none. Errors: `Invalid`, with
/// every faulty line.
pub async fn create(write: &Write, new: CreateApiKeys) -> Result<CreatedApiKeys, ControlError> {
    let lines = lines(new.secrets.expose_secret());
    check(&new, &lines)?;
    // Held, so that two batches at once do not both bring the same secret.
    if provider_groups::get_for_update(write.tx(), new.group_id).await?.is_none() {
        let message = format!("provider group {} does not exist; create it first", new.group_id);
        return Err(ControlError::invalid("/group_id", message));
    }
    let standing = secrets_of_group(write, new.group_id).await?;
    let (mut created, mut skipped, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (line, secret) in lines {
        let digest = TokenDigest::of(secret);
        let reason = if standing.contains(&digest) {
            "the provider group has an API key with this secret"
        } else if !seen.insert(digest) {
            "the same secret stands on a line before"
        } else {
            let draft = api_keys::draft(write, one_of(&new, secret))?;
            created.push(stored::create(write.tx(), &draft).await?);
            continue;
        };
        skipped.push(SkippedLine { line, reason: reason.to_owned() });
    }
    let changes: Vec<(Option<&ApiKey>, &ApiKey)> = created.iter().map(|api_key| (None, api_key)).collect();
    record(write, "create", &changes).await?;
    Ok(CreatedApiKeys { created, skipped })
}

/// Sets the status of several API keys, all or none, and returns them by id. Activating ends their bans. Errors:
/// `Invalid`, with every id that does not exist.
pub async fn set_status(write: &Write, ids: &[i64], status: ApiKeyStatus) -> Result<Vec<ApiKey>, ControlError> {
    let mut faults = Faults::default();
    api_keys::check_status(Some(status), &mut faults);
    if ids.is_empty() || ids.len() > MAX_BATCH {
        faults.add("/ids", format!("must have 1 to {MAX_BATCH} entries"));
    }
    faults.into_result()?;

    let standing = stored::list_for_update(write.tx(), ids).await?;
    let found: HashSet<i64> = standing.iter().map(|api_key| api_key.id).collect();
    let mut faults = Faults::default();
    for (place, id) in ids.iter().enumerate().filter(|(_, id)| !found.contains(id)) {
        faults.add(format!("/ids/{place}"), format!("API key {id} does not exist; leave it out"));
    }
    faults.into_result()?;

    let mut after = Vec::with_capacity(standing.len());
    for before in &standing {
        let changed = with_status(before, status, write.now());
        if !is_same(before, &changed) {
            stored::update(write.tx(), &changed).await?;
            after.push(changed);
        } else {
            after.push(before.clone());
        }
    }
    let pairs = standing.iter().zip(&after);
    let changes: Vec<_> =
        pairs.filter(|(before, after)| !is_same(before, after)).map(|(before, after)| (Some(before), after)).collect();
    record(write, "update", &changes).await?;
    Ok(after)
}

/// Records a change of many API keys: their own entries in the snapshot, and the models of their provider groups.
pub(crate) async fn record(
    write: &Write,
    action: &str,
    changes: &[(Option<&ApiKey>, &ApiKey)],
) -> Result<(), ControlError> {
    let mut groups = HashSet::new();
    // One of each group is enough for its models.
    let firsts = changes.iter().filter(|(_, after)| groups.insert(after.group_id));
    let also: Vec<(RecordKind, i64)> = firsts.map(|(_, after)| (RecordKind::ApiKey, after.id)).collect();
    write.record_all(action, changes, &also).await
}

fn check(new: &CreateApiKeys, lines: &[(usize, &str)]) -> Result<(), ControlError> {
    let mut faults = Faults::default();
    checks::optional_text(&mut faults, "/name", new.name.as_deref().unwrap_or_default());
    api_keys::check_max_concurrency(new.max_concurrency, &mut faults);
    api_keys::check_status(new.status, &mut faults);
    if lines.is_empty() {
        faults.add("/secrets", "must hold at least one secret; write one a line");
    } else if lines.len() > MAX_BATCH {
        faults.add("/secrets", format!("must hold at most {MAX_BATCH} secrets; send the rest in another batch"));
    } else {
        for (line, secret) in lines {
            if let Some(fault) = api_keys::secret_fault(&SecretString::from(*secret)) {
                faults.add("/secrets", format!("line {line} {fault}"));
            }
        }
    }
    faults.into_result()
}

/// The lines that are not blank, with their numbers.
fn lines(secrets: &str) -> Vec<(usize, &str)> {
    let numbered = secrets.lines().enumerate().map(|(place, line)| (place + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty()).take(MAX_BATCH + 1).collect()
}

/// What tells the secrets of a provider group from others. Every envelope has a nonce of its own, so they are opened;
/// looking a digest up tells nothing of a secret, however long it takes. One that cannot be opened equals none.
async fn secrets_of_group(write: &Write, group_id: i64) -> Result<HashSet<TokenDigest>, ControlError> {
    let api_keys = stored::list_by_group(write.tx(), group_id).await?;
    let opened = api_keys.iter().filter_map(|api_key| api_keys::open(write.control(), api_key));
    Ok(opened.map(|secret| TokenDigest::of(secret.expose_secret())).collect())
}

fn one_of(new: &CreateApiKeys, secret: &str) -> CreateApiKey {
    CreateApiKey {
        group_id: new.group_id,
        name: new.name.clone(),
        api_key: SecretString::from(secret),
        weight: new.weight,
        max_concurrency: new.max_concurrency,
        status: new.status,
        auto_ban: new.auto_ban,
    }
}

/// Whether nothing changed but the time.
fn is_same(before: &ApiKey, after: &ApiKey) -> bool {
    ApiKey { updated_at: before.updated_at, ..after.clone() } == *before
}
