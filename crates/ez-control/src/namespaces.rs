//! Namespaces: named views on the model catalogue.

use ez_contract::model_ref::is_namespace_name;
use ez_contract::status::RecordStatus;
use ez_store::namespaces::{self as stored, DEFAULT_NAMESPACE, Namespace, NamespaceFilter, NewNamespace};
use ez_store::{Page, Paged, Sort, bindings, child_keys, masters};

use crate::error::{Faults, MAX_REFERENCES};
use crate::write::Gone;
use crate::{Control, ControlError, Write, checks};

const WHAT: &str = "namespace";

/// A namespace to create; what is absent takes its default.
#[derive(Debug, Clone, Default)]
pub struct CreateNamespace {
    /// Unique: `[a-z0-9][a-z0-9_-]*`. It cannot be changed, as clients write it in model references.
    pub name: String,
    /// For people; empty.
    pub description: Option<String>,
    /// Active.
    pub status: Option<RecordStatus>,
}

/// Changes to a namespace; what is absent stays, `Some(None)` clears.
#[derive(Debug, Clone, Default)]
pub struct ChangeNamespace {
    /// For people.
    pub description: Option<Option<String>>,
    /// A suspended one serves nothing.
    pub status: Option<RecordStatus>,
}

/// Creates a namespace. Errors: `Invalid`; `Conflict` for a name that is taken.
pub async fn create(write: &Write, new: CreateNamespace) -> Result<Namespace, ControlError> {
    let mut faults = Faults::default();
    if !is_namespace_name(&new.name) {
        let rule = "must be 1 to 64 of a-z, 0-9, `_` and `-`, beginning with a letter or digit; a dot would end it";
        faults.add("/name", rule);
    }
    let description = new.description.unwrap_or_default();
    checks::description(&mut faults, "/description", &description);
    faults.into_result()?;

    let status = new.status.unwrap_or(RecordStatus::Active);
    let record = NewNamespace { name: new.name, description, status, created_at: write.now() };
    let namespace = stored::create(write.tx(), &record).await?;
    write.record("create", None, Some(&namespace), &[]).await?;
    Ok(namespace)
}

/// Changes a namespace. Errors: `NotFound`, `Stale`, `Invalid`.
pub async fn update(write: &Write, id: i64, change: ChangeNamespace) -> Result<Namespace, ControlError> {
    let before = require_for_update(write, id).await?;
    let after = Namespace {
        description: change.description.map_or_else(|| before.description.clone(), Option::unwrap_or_default),
        status: change.status.unwrap_or(before.status),
        updated_at: write.now(),
        ..before.clone()
    };
    let mut faults = Faults::default();
    checks::description(&mut faults, "/description", &after.description);
    faults.into_result()?;

    stored::update(write.tx(), &after).await?;
    write.record("update", Some(&before), Some(&after), &[]).await?;
    Ok(after)
}

/// Deletes a namespace; its bindings go with it where `cascade` says so. Masters and child keys that may use it are
/// never deleted or changed for it. Errors: `NotFound`, `Stale`; `Conflict` for the default one, and with what refers to
/// it.
pub async fn delete(write: &Write, id: i64, cascade: bool) -> Result<(), ControlError> {
    let namespace = require_for_update(write, id).await?;
    if namespace.name == DEFAULT_NAMESPACE {
        return Err(ControlError::conflict("the namespace `default` cannot be deleted; suspend it instead"));
    }
    refuse_users(write, &namespace).await?;
    let bindings = bindings::list_by_namespace(write.tx(), &namespace.name).await?;
    if !bindings.is_empty() && !cascade {
        let message = format!("the namespace has {} bindings; delete them first, or use cascade=true", bindings.len());
        return Err(ControlError::conflict_with(message, bindings.iter().map(crate::bindings::reference)));
    }
    bindings::delete_by_namespace(write.tx(), &namespace.name).await?;
    stored::delete(write.tx(), id).await?;
    write.record_deletion(&namespace, &[Gone::of(&bindings)]).await
}

/// The namespace with this id. Errors: `NotFound`.
pub async fn get(control: &Control, id: i64) -> Result<Namespace, ControlError> {
    stored::get(control.store(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))
}

/// A page of the namespaces that match.
pub async fn list(
    control: &Control,
    filter: &NamespaceFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Namespace>, ControlError> {
    Ok(stored::list(control.store(), filter, sort, page).await?)
}

/// The record that the caller wants to change, as it stands until the transaction ends. Errors: `NotFound`, `Stale`.
async fn require_for_update(write: &Write, id: i64) -> Result<Namespace, ControlError> {
    let record = stored::get_for_update(write.tx(), id).await?.ok_or_else(|| ControlError::not_found(WHAT, id))?;
    write.require_fresh(WHAT, &record)?;
    Ok(record)
}

async fn refuse_users(write: &Write, namespace: &Namespace) -> Result<(), ControlError> {
    let most = MAX_REFERENCES as u64;
    let masters = masters::list_by_namespace(write.tx(), &namespace.name, most).await?;
    let keys = child_keys::list_by_namespace(write.tx(), &namespace.name, most).await?;
    if masters.is_empty() && keys.is_empty() {
        return Ok(());
    }
    let users = masters.iter().map(crate::masters::reference).chain(keys.iter().map(crate::child_keys::reference));
    let message = "masters or child keys may use this namespace; take it out of their namespaces first";
    Err(ControlError::conflict_with(message, users))
}
