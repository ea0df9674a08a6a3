//! API keys: upstream credentials, sealed before they reach the database.

use chrono::{DateTime, Utc};
use ez_contract::health::HealthState;
use ez_contract::secret::SecretPlace;
use ez_contract::status::ApiKeyStatus;
use ez_store::api_keys::{self as stored, ApiKey, ApiKeyFilter, ApiKeyTotals, NewApiKey};
use ez_store::{Page, Paged, RecordKind, Sort, provider_groups};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::error::{Faults, chain};
use crate::{Control, ControlError, Write, checks};

const WHAT: &str = "API key";

/// Bytes of a secret; service-account files have about 2,500.
const MAX_SECRET_BYTES: usize = 20_000;

/// An API key to create; what is absent takes its default.
#[derive(Debug, Clone)]
pub struct CreateApiKey {
    /// A provider group that exists.
    pub group_id: i64,
    /// For people; empty.
    pub name: Option<String>,
    /// The secret, in clear; white space around it is dropped.
    pub api_key: SecretString,
    /// Share of the group's calls, relative to its siblings; 1.
    pub weight: Option<u32>,
    /// Calls in flight at once; unlimited.
    pub max_concurrency: Option<u32>,
    /// Active.
    pub status: Option<ApiKeyStatus>,
    /// Whether a dead credential is switched off automatically; yes.
    pub auto_ban: Option<bool>,
}

/// Changes to an API key; what is absent stays, `Some(None)` clears.
#[derive(Debug, Clone, Default)]
pub struct ChangeApiKey {
    /// A provider group that exists.
    pub group_id: Option<i64>,
    /// For people.
    pub name: Option<Option<String>>,
    /// A new secret, in clear.
    pub api_key: Option<SecretString>,
    /// Share of the group's calls, relative to its siblings.
    pub weight: Option<u32>,
    /// Calls in flight at once.
    pub max_concurrency: Option<Option<u32>>,
    /// Activating it ends a ban.
    pub status: Option<ApiKeyStatus>,
    /// Whether a dead credential is switched off automatically.
    pub auto_ban: Option<bool>,
}

/// Creates an API key. Errors: `Invalid`.
pub async fn create(write: &Write, new: CreateApiKey) -> Result<ApiKey, ControlError> {
    let fields = Fields {
        group_id: Some(new.group_id),
        name: new.name.as_deref(),
        secret: Some(&new.api_key),
        max_concurrency: new.max_concurrency,
        status: new.status,
    };
    fields.check(write).await?;
    let api_key = stored::create(write.tx(), &draft(write, new)?).await?;
    write.record("create", None, Some(&api_key), &[]).await?;
    Ok(api_key)
}

/// What an API key is created from, with its secret sealed.
pub(crate) fn draft(write: &Write, new: CreateApiKey) -> Result<NewApiKey, ControlError> {
    let uuid = Uuid::new_v4();
    Ok(NewApiKey {
        uuid,
        group_id: new.group_id,
        name: new.name.unwrap_or_default(),
        api_key: Some(seal(write, uuid, &new.api_key)?),
        access_token: None,
        refresh_token: None,
        expires_at: None,
        account_id: None,
        project_id: None,
        weight: new.weight.unwrap_or(1),
        max_concurrency: new.max_concurrency,
        status: new.status.unwrap_or(ApiKeyStatus::Active),
        auto_ban: new.auto_ban.unwrap_or(true),
        ban_reason: None,
        ban_until: None,
        total_requests: 0,
        success_requests: 0,
        failure_requests: 0,
        last_used_at: None,
        created_at: write.now(),
    })
}

/// Changes an API key. Errors: `NotFound`, `Stale`, `Invalid`.
pub async fn update(write: &Write, id: i64, change: ChangeApiKey) -> Result<ApiKey, ControlError> {
    let before = require_for_update(write, id).await?;
    let fields = Fields {
        group_id: change.group_id,
        name: change.name.as_ref().and_then(Option::as_deref),
        secret: change.api_key.as_ref(),
        max_concurrency: change.max_concurrency.flatten(),
        status: change.status,
    };
    fields.check(write).await?;
    let mut after = ApiKey {
        group_id: change.group_id.unwrap_or(before.group_id),
        name: change.name.map_or_else(|| before.name.clone(), Option::unwrap_or_default),
        weight: change.weight.unwrap_or(before.weight),
        max_concurrency: change.max_concurrency.unwrap_or(before.max_concurrency),
        auto_ban: change.auto_ban.unwrap_or(before.auto_ban),
        updated_at: write.now(),
        ..before.clone()
    };
    if let Some(secret) = &change.api_key {
        after.api_key = Some(seal(write, before.uuid, secret)?);
    }
    if let Some(status) = change.status {
        after = with_status(&after, status, write.now());
    }
    stored::update(write.tx(), &after).await?;
    // The bindings of the group that it left lose it.
    let left_group = (after.group_id != before.group_id).then_some((RecordKind::ProviderGroup, before.group_id));
    write.record("update", Some(&before), Some(&after), left_group.as_slice()).await?;
    Ok(after)
}

/// Deletes an API key. Errors: `NotFound`, `Stale`.
pub async fn delete(write: &Write, id: i64) -> Result<(), ControlError> {
    let api_key = require_for_update(write, id).await?;
    stored::delete(write.tx(), id).await?;
    write.record("delete", Some(&api_key), None, &[(RecordKind::ProviderGroup, api_key.group_id)]).await
}

/// The API key with this id. Errors: `NotFound`.
pub async fn get(control: &Control, id: i64) -> Result<ApiKey, ControlError> {
    stored::get(control.store(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// What gateways share of an API key at the moment: cooldowns and breakers; none while the shared state does not answer.
pub async fn health(control: &Control, id: i64) -> Option<Vec<HealthState>> {
    let listed = control.state().list_health(id).await;
    listed.inspect_err(|error| tracing::debug!(error = %chain(error), "the health of an API key cannot be read")).ok()
}

/// The secret of an API key in clear, for a call to its upstream; none where it has no secret or another
/// `EZ_SECRET_KEY` sealed it.
pub(crate) fn open(control: &Control, api_key: &ApiKey) -> Option<SecretString> {
    let place = SecretPlace::api_key(api_key.uuid, "api_key");
    let clear = control.secret_key().open(api_key.api_key.as_deref()?, place).ok()?;
    Some(SecretString::from(clear))
}

/// A page of the API keys that match.
pub async fn list(
    control: &Control,
    filter: &ApiKeyFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<ApiKey>, ControlError> {
    Ok(stored::list(control.store(), filter, sort, page).await?)
}

/// An API key as an operator switches it: being activated ends a ban.
pub(crate) fn with_status(api_key: &ApiKey, status: ApiKeyStatus, now: DateTime<Utc>) -> ApiKey {
    let is_active = status == ApiKeyStatus::Active;
    ApiKey {
        status,
        ban_reason: api_key.ban_reason.clone().filter(|_| !is_active),
        ban_until: api_key.ban_until.filter(|_| !is_active),
        updated_at: now,
        ..api_key.clone()
    }
}

/// How a list of references names an API key.
pub(crate) fn reference(api_key: &ApiKey) -> String {
    let name = if api_key.name.is_empty() { "no name" } else { &api_key.name };
    format!("API key {} ({name})", api_key.id)
}

/// What API keys add up to, of one provider group or of all, by state: every attempt ever made with those that there are.
pub async fn totals(control: &Control, group_id: Option<i64>) -> Result<Vec<ApiKeyTotals>, ControlError> {
    Ok(stored::totals(control.store(), group_id).await?)
}

/// The record that the caller wants to change, as it stands until the transaction ends. Errors: `NotFound`, `Stale`.
async fn require_for_update(write: &Write, id: i64) -> Result<ApiKey, ControlError> {
    let record = stored::get_for_update(write.tx(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))?;
    write.require_fresh(WHAT, &record)?;
    Ok(record)
}

/// Fields of a request that are checked alike when a key is created and when it is changed.
struct Fields<'a> {
    group_id: Option<i64>,
    name: Option<&'a str>,
    secret: Option<&'a SecretString>,
    max_concurrency: Option<u32>,
    status: Option<ApiKeyStatus>,
}

impl Fields<'_> {
    async fn check(&self, write: &Write) -> Result<(), ControlError> {
        let mut faults = Faults::default();
        checks::optional_text(&mut faults, "/name", self.name.unwrap_or_default());
        if let Some(fault) = self.secret.and_then(secret_fault) {
            faults.add("/api_key", fault);
        }
        check_max_concurrency(self.max_concurrency, &mut faults);
        check_status(self.status, &mut faults);
        if let Some(group_id) = self.group_id
            && provider_groups::get(write.tx(), group_id).await?.is_none()
        {
            faults.add("/group_id", format!("provider group {group_id} does not exist; create it first"));
        }
        faults.into_result()
    }
}

/// A credential that may carry no call is a suspended one.
pub(crate) fn check_max_concurrency(limit: Option<u32>, faults: &mut Faults) {
    if limit == Some(0) {
        faults.add("/max_concurrency", "must be 1 or more; leave it out for no limit, or suspend the API key");
    }
}

/// An operator sets every state but one.
pub(crate) fn check_status(status: Option<ApiKeyStatus>, faults: &mut Faults) {
    if status == Some(ApiKeyStatus::AutoDisabled) {
        faults.add("/status", "must be active, suspended or manual_disabled; ez-api itself sets auto_disabled");
    }
}

/// What is wrong with a secret. The message never repeats any of it.
pub(crate) fn secret_fault(secret: &SecretString) -> Option<String> {
    let clear = secret.expose_secret().trim();
    if clear.is_empty() {
        Some("must not be empty; write the upstream's secret".to_owned())
    } else if clear.len() > MAX_SECRET_BYTES {
        Some(format!("must have at most {MAX_SECRET_BYTES} bytes"))
    } else if clear.starts_with('{') {
        // One line of a service-account file is no secret.
        let is_whole = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(clear).is_ok();
        (!is_whole).then(|| "must be all of the service account's JSON; check what was pasted".to_owned())
    } else if clear.bytes().any(|byte| !byte.is_ascii_graphic()) {
        // It goes into a header. Service-account files do not.
        Some("must be visible ASCII without spaces; check what was pasted".to_owned())
    } else {
        None
    }
}

fn seal(write: &Write, uuid: Uuid, secret: &SecretString) -> Result<String, ControlError> {
    let place = SecretPlace::api_key(uuid, "api_key");
    Ok(write.control().secret_key().seal(secret.expose_secret().trim(), place, rand::random())?)
}
