//! Bindings: which provider groups serve a public model in a namespace.

use ez_contract::model_ref::is_namespace_name;
use ez_contract::selector::{SelectorError, SelectorType, select};
use ez_contract::snapshot::ClientGone;
use ez_contract::status::RecordStatus;
use ez_store::bindings::{self as stored, Binding, BindingFilter, NewBinding};
use ez_store::{Page, Paged, Sort, namespaces, provider_groups};

use crate::error::Faults;
use crate::{Control, ControlError, Write, checks};

const WHAT: &str = "binding";

/// A binding to create; what is absent takes its default.
#[derive(Debug, Clone, Default)]
pub struct CreateBinding {
    /// Name of a namespace that exists.
    pub namespace: String,
    /// The model's public name.
    pub public_model: String,
    /// A provider group that exists; one binding of the model to each group at most.
    pub group_id: i64,
    /// Share of calls within its priority; 1.
    pub weight: Option<u32>,
    /// Higher is tried first; 0.
    pub priority: Option<i32>,
    /// Exact.
    pub selector_type: Option<SelectorType>,
    /// Empty (the public model).
    pub selector_value: Option<String>,
    /// Active.
    pub status: Option<RecordStatus>,
    /// As the gateway is set.
    pub on_client_gone: Option<ClientGone>,
}

/// Changes to a binding; what is absent stays, `Some(None)` clears.
#[derive(Debug, Clone, Default)]
pub struct ChangeBinding {
    /// Name of a namespace that exists.
    pub namespace: Option<String>,
    /// The model's public name.
    pub public_model: Option<String>,
    /// A provider group that exists.
    pub group_id: Option<i64>,
    /// Share of calls within its priority.
    pub weight: Option<u32>,
    /// Higher is tried first.
    pub priority: Option<i32>,
    /// How the upstream model is picked.
    pub selector_type: Option<SelectorType>,
    /// The value it is picked by; empty means the public model.
    pub selector_value: Option<Option<String>>,
    /// Its state.
    pub status: Option<RecordStatus>,
    /// What becomes of a stream whose client left.
    pub on_client_gone: Option<Option<ClientGone>>,
}

/// Creates a binding. One that picks no upstream model (yet) is fine: it shows as `config_error`. Errors: `Invalid`;
/// `Conflict` where the model is bound to the group already.
pub async fn create(write: &Write, new: CreateBinding) -> Result<Binding, ControlError> {
    let record = NewBinding {
        namespace: new.namespace,
        public_model: new.public_model,
        group_id: new.group_id,
        weight: new.weight.unwrap_or(1),
        priority: new.priority.unwrap_or(0),
        selector_type: new.selector_type.unwrap_or(SelectorType::Exact),
        selector_value: new.selector_value.unwrap_or_default(),
        status: new.status.unwrap_or(RecordStatus::Active),
        on_client_gone: new.on_client_gone,
        created_at: write.now(),
    };
    check(write, &record).await?;
    let binding = stored::create(write.tx(), &record).await?;
    write.record("create", None, Some(&binding), &[]).await?;
    Ok(binding)
}

/// Changes a binding. Errors: `NotFound`, `Stale`, `Invalid`; `Conflict` where the model is bound to the group already.
pub async fn update(write: &Write, id: i64, change: ChangeBinding) -> Result<Binding, ControlError> {
    let before = require_for_update(write, id).await?;
    let record = NewBinding {
        namespace: change.namespace.unwrap_or_else(|| before.namespace.clone()),
        public_model: change.public_model.unwrap_or_else(|| before.public_model.clone()),
        group_id: change.group_id.unwrap_or(before.group_id),
        weight: change.weight.unwrap_or(before.weight),
        priority: change.priority.unwrap_or(before.priority),
        selector_type: change.selector_type.unwrap_or(before.selector_type),
        selector_value: change.selector_value.map_or_else(|| before.selector_value.clone(), Option::unwrap_or_default),
        status: change.status.unwrap_or(before.status),
        on_client_gone: change.on_client_gone.unwrap_or(before.on_client_gone),
        created_at: before.created_at,
    };
    check(write, &record).await?;
    let after = Binding {
        id,
        namespace: record.namespace,
        public_model: record.public_model,
        group_id: record.group_id,
        weight: record.weight,
        priority: record.priority,
        selector_type: record.selector_type,
        selector_value: record.selector_value,
        status: record.status,
        on_client_gone: record.on_client_gone,
        created_at: record.created_at,
        updated_at: write.now(),
    };
    stored::update(write.tx(), &after).await?;
    write.record("update", Some(&before), Some(&after), &[]).await?;
    Ok(after)
}

/// Deletes a binding. Errors: `NotFound`, `Stale`.
pub async fn delete(write: &Write, id: i64) -> Result<(), ControlError> {
    let binding = require_for_update(write, id).await?;
    stored::delete(write.tx(), id).await?;
    write.record("delete", Some(&binding), None, &[]).await
}

/// The binding with this id. Errors: `NotFound`.
pub async fn get(control: &Control, id: i64) -> Result<Binding, ControlError> {
    stored::get(control.store(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// A page of the bindings that match.
pub async fn list(
    control: &Control,
    filter: &BindingFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Binding>, ControlError> {
    Ok(stored::list(control.store(), filter, sort, page).await?)
}

/// How a list of references names a binding.
pub(crate) fn reference(binding: &Binding) -> String {
    format!("binding {} ({}.{})", binding.id, binding.namespace, binding.public_model)
}

/// The record that the caller wants to change, as it stands until the transaction ends. Errors: `NotFound`, `Stale`.
async fn require_for_update(write: &Write, id: i64) -> Result<Binding, ControlError> {
    let record = stored::get_for_update(write.tx(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))?;
    write.require_fresh(WHAT, &record)?;
    Ok(record)
}

async fn check(write: &Write, record: &NewBinding) -> Result<(), ControlError> {
    let mut faults = Faults::default();
    checks::required_text(&mut faults, "/public_model", &record.public_model);
    checks::optional_text(&mut faults, "/selector_value", &record.selector_value);
    let value = if record.selector_value.is_empty() { &record.public_model } else { &record.selector_value };
    if let Err(error @ SelectorError::InvalidRegex(_)) = select(record.selector_type, value, &[]) {
        faults.add("/selector_value", error);
    }
    // What is no name is not looked up: not every database takes every text.
    let is_there =
        is_namespace_name(&record.namespace) && namespaces::get_by_name(write.tx(), &record.namespace).await?.is_some();
    if !is_there {
        faults.add("/namespace", format!("namespace `{}` does not exist; create it first", record.namespace));
    }
    if provider_groups::get(write.tx(), record.group_id).await?.is_none() {
        faults.add("/group_id", format!("provider group {} does not exist; create it first", record.group_id));
    }
    faults.into_result()
}
