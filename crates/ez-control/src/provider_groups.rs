//! Provider groups: upstream configurations.

use chrono::{DateTime, Utc};
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::status::RecordStatus;
use ez_store::provider_groups::{self as stored, NewProviderGroup, ProviderGroup, ProviderGroupFilter};
use ez_store::{Page, Paged, Sort, api_keys, bindings};

use crate::error::Faults;
use crate::write::Gone;
use crate::{Control, ControlError, Write, base_url, checks};

const WHAT: &str = "provider group";
const DEFAULT_ROUTE_GROUP: &str = "default";

/// A provider group to create; what is absent takes its default.
#[derive(Debug, Clone)]
pub struct CreateProviderGroup {
    /// Unique.
    pub name: String,
    /// What kind of upstream it is.
    pub provider_type: ProviderType,
    /// Wire protocols that the upstream speaks, best first; the type's.
    pub protocols: Option<Vec<Protocol>>,
    /// A label; `default`.
    pub route_group: Option<String>,
    /// As the vendor's SDK takes it; the type's, where it has one.
    pub base_url: Option<String>,
    /// Google Cloud project; none.
    pub google_project: Option<String>,
    /// Google Cloud location; `global` for Vertex.
    pub google_location: Option<String>,
    /// Azure API version; none.
    pub api_version: Option<String>,
    /// Upstream models; none.
    pub models: Option<Vec<String>>,
    /// Active.
    pub status: Option<RecordStatus>,
}

/// Changes to a provider group; what is absent stays, `Some(None)` goes back to the default.
#[derive(Debug, Clone, Default)]
pub struct ChangeProviderGroup {
    /// Unique.
    pub name: Option<String>,
    /// What kind of upstream it is.
    pub provider_type: Option<ProviderType>,
    /// Wire protocols that the upstream speaks, best first.
    pub protocols: Option<Option<Vec<Protocol>>>,
    /// A label.
    pub route_group: Option<String>,
    /// As the vendor's SDK takes it.
    pub base_url: Option<Option<String>>,
    /// Google Cloud project.
    pub google_project: Option<Option<String>>,
    /// Google Cloud location.
    pub google_location: Option<Option<String>>,
    /// Azure API version.
    pub api_version: Option<Option<String>>,
    /// Upstream models.
    pub models: Option<Vec<String>>,
    /// A suspended one serves nothing.
    pub status: Option<RecordStatus>,
}

/// Creates a provider group. Errors: `Invalid`; `Conflict` for a name that is taken.
pub async fn create(write: &Write, new: CreateProviderGroup) -> Result<ProviderGroup, ControlError> {
    let mut faults = Faults::default();
    let record = draft(new, write.now(), &mut faults);
    faults.into_result()?;
    insert(write, &record).await
}

/// What a provider group is created from, checked and completed.
pub(crate) fn draft(new: CreateProviderGroup, now: DateTime<Utc>, faults: &mut Faults) -> NewProviderGroup {
    let mut record = NewProviderGroup {
        name: new.name,
        provider_type: new.provider_type,
        protocols: new.protocols.unwrap_or_default(),
        route_group: new.route_group.unwrap_or_else(|| DEFAULT_ROUTE_GROUP.to_owned()),
        base_url: new.base_url.unwrap_or_default(),
        google_project: new.google_project.unwrap_or_default(),
        google_location: new.google_location.unwrap_or_default(),
        api_version: new.api_version,
        models: new.models.unwrap_or_default(),
        status: new.status.unwrap_or(RecordStatus::Active),
        total_requests: 0,
        success_requests: 0,
        failure_requests: 0,
        last_used_at: None,
        created_at: now,
    };
    settle(&mut record, faults);
    record
}

/// Creates a provider group from a draft without faults.
pub(crate) async fn insert(write: &Write, record: &NewProviderGroup) -> Result<ProviderGroup, ControlError> {
    let group = stored::create(write.tx(), record).await?;
    write.record("create", None, Some(&group), &[]).await?;
    Ok(group)
}

/// Changes a provider group. Errors: `NotFound`, `Stale`, `Invalid`; `Conflict` for a name that is taken.
pub async fn update(write: &Write, id: i64, change: ChangeProviderGroup) -> Result<ProviderGroup, ControlError> {
    let before = require_for_update(write, id).await?;
    let cleared = Option::<String>::unwrap_or_default;
    let mut record = NewProviderGroup {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        provider_type: change.provider_type.unwrap_or(before.provider_type),
        protocols: change.protocols.map_or_else(|| before.protocols.clone(), Option::unwrap_or_default),
        route_group: change.route_group.unwrap_or_else(|| before.route_group.clone()),
        base_url: change.base_url.map_or_else(|| before.base_url.clone(), cleared),
        google_project: change.google_project.map_or_else(|| before.google_project.clone(), cleared),
        google_location: change.google_location.map_or_else(|| before.google_location.clone(), cleared),
        api_version: change.api_version.unwrap_or_else(|| before.api_version.clone()),
        models: change.models.unwrap_or_else(|| before.models.clone()),
        status: change.status.unwrap_or(before.status),
        total_requests: before.total_requests,
        success_requests: before.success_requests,
        failure_requests: before.failure_requests,
        last_used_at: before.last_used_at,
        created_at: before.created_at,
    };
    let mut faults = Faults::default();
    settle(&mut record, &mut faults);
    faults.into_result()?;
    let after = ProviderGroup {
        id,
        name: record.name,
        provider_type: record.provider_type,
        protocols: record.protocols,
        route_group: record.route_group,
        base_url: record.base_url,
        google_project: record.google_project,
        google_location: record.google_location,
        api_version: record.api_version,
        models: record.models,
        status: record.status,
        updated_at: write.now(),
        ..before.clone()
    };
    stored::update(write.tx(), &after).await?;
    write.record("update", Some(&before), Some(&after), &[]).await?;
    Ok(after)
}

/// Deletes a provider group; its API keys and bindings go with it where `cascade` says so. Errors: `NotFound`, `Stale`;
/// `Conflict` with both.
pub async fn delete(write: &Write, id: i64, cascade: bool) -> Result<(), ControlError> {
    let group = require_for_update(write, id).await?;
    let api_keys = api_keys::list_by_group(write.tx(), id).await?;
    let bindings = bindings::list_by_group(write.tx(), id).await?;
    let has_parts = !api_keys.is_empty() || !bindings.is_empty();
    if has_parts && !cascade {
        let (keys, bound) = (api_keys.len(), bindings.len());
        let message = format!(
            "the provider group has {keys} API keys and {bound} bindings; delete them first, or use cascade=true"
        );
        let api_keys = api_keys.iter().map(crate::api_keys::reference);
        return Err(ControlError::conflict_with(
            message,
            api_keys.chain(bindings.iter().map(crate::bindings::reference)),
        ));
    }
    bindings::delete_by_group(write.tx(), id).await?;
    api_keys::delete_by_group(write.tx(), id).await?;
    stored::delete(write.tx(), id).await?;
    write.record_deletion(&group, &[Gone::of(&api_keys), Gone::of(&bindings)]).await
}

/// The provider group with this id. Errors: `NotFound`.
pub async fn get(control: &Control, id: i64) -> Result<ProviderGroup, ControlError> {
    stored::get(control.store(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// A page of the provider groups that match.
pub async fn list(
    control: &Control,
    filter: &ProviderGroupFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<ProviderGroup>, ControlError> {
    Ok(stored::list(control.store(), filter, sort, page).await?)
}

/// The record that the caller wants to change, as it stands until the transaction ends. Errors: `NotFound`, `Stale`.
async fn require_for_update(write: &Write, id: i64) -> Result<ProviderGroup, ControlError> {
    let record = stored::get_for_update(write.tx(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))?;
    write.require_fresh(WHAT, &record)?;
    Ok(record)
}

/// Checks a provider group as a whole and brings it into the form that is kept.
fn settle(record: &mut NewProviderGroup, faults: &mut Faults) {
    checks::required_text(faults, "/name", &record.name);
    checks::required_text(faults, "/route_group", &record.route_group);
    checks::optional_text(faults, "/google_project", &record.google_project);
    checks::optional_text(faults, "/google_location", &record.google_location);
    checks::optional_text(faults, "/api_version", record.api_version.as_deref().unwrap_or_default());
    checks::each_text(faults, "/models", &record.models);
    let provider_type = record.provider_type;
    if provider_type.is_oauth() {
        faults.add("/type", format!("`{provider_type}` needs OAuth credentials, which this version cannot hold yet"));
    }
    if record.base_url.is_empty() {
        if provider_type.requires_base_url() {
            faults.add("/base_url", format!("is required for `{provider_type}`, such as https://llm.example.com/v1"));
        }
    } else {
        match base_url::parse(&record.base_url) {
            Ok(base_url) => record.base_url = base_url,
            Err(error) => faults.add("/base_url", error),
        }
    }

    if record.google_location.is_empty() {
        record.google_location = provider_type.default_google_location().to_owned();
    }
    record.models = checks::deduplicated(std::mem::take(&mut record.models));
    record.protocols = checks::deduplicated(std::mem::take(&mut record.protocols));
    record.api_version = record.api_version.take().filter(|version| !version.is_empty());
}
