//! `/admin/masters/{id}/access` and `/admin/keys/{id}/access`: the namespaces of masters and child keys alone.

use ez_control::child_keys::{self, ChangeChildKey};
use ez_control::masters::{self, ChangeMaster};
use ez_control::{RecordTag, Tenant};
use ez_store::child_keys::ChildKey;
use ez_store::masters::Master;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, Path};
use crate::patch::present;
use crate::problem::ApiError;
use crate::writing::{Answer, Record};

/// What to change about a master's access. Absent fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateMasterAccessRequest {
    /// A member of `namespaces`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    default_namespace: Option<String>,
    /// Namespaces that it may use.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false, example = json!(["default"]))]
    namespaces: Option<Vec<String>>,
    /// Whether its child keys lose the namespaces that it loses: they keep the others, and take its new default where
    /// theirs is gone. Else a change that a key is in the way of is 409 with those keys.
    #[serde(default)]
    #[schema(default = false, required = false)]
    propagate_to_keys: bool,
}

/// What to change about a child key's access. Absent fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateKeyAccessRequest {
    /// A member of `namespaces`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    default_namespace: Option<String>,
    /// A subset of the master's.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false, example = json!(["default"]))]
    namespaces: Option<Vec<String>>,
}

/// Which namespaces a master or a child key may use.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Access)]
pub(crate) struct AccessResponse {
    /// Where a model without a namespace is looked for.
    default_namespace: String,
    /// All that it may use.
    namespaces: Vec<String>,
}

/// Get the access of a master.
#[utoipa::path(get, path = "/admin/masters/{id}/access", tag = "masters", operation_id = "get_master_access",
    params(("id" = i64, Path, description = "Id of the master.")), security(("admin" = [])),
    responses((status = 200, description = "Its namespaces.", body = AccessResponse,
        headers(("ETag" = String, description = "The master's tag, for `If-Match`.")))))]
pub(crate) async fn get_of_master(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<AccessResponse>, ApiError> {
    Ok(of_master(masters::get(&ctx.control, id).await?))
}

/// Change the access of a master.
///
/// The child keys follow where `propagate_to_keys` says so, in the same step.
#[utoipa::path(put, path = "/admin/masters/{id}/access", tag = "masters", operation_id = "update_master_access",
    params(("id" = i64, Path, description = "Id of the master.")), request_body = UpdateMasterAccessRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = AccessResponse,
        headers(("ETag" = String, description = "The master's tag, for `If-Match`.")))))]
pub(crate) async fn update_of_master(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateMasterAccessRequest>,
) -> Result<Record<AccessResponse>, ApiError> {
    let UpdateMasterAccessRequest { default_namespace, namespaces, propagate_to_keys } = request;
    let change = ChangeMaster { default_namespace, namespaces, propagate_to_keys, ..ChangeMaster::default() };
    let write = ctx.write().await?;
    let master = masters::update(&write, id, change).await?;
    write.finish(of_master(master)).await
}

/// Get the access of a child key.
#[utoipa::path(get, path = "/admin/keys/{id}/access", tag = "keys", operation_id = "get_key_access",
    params(("id" = i64, Path, description = "Id of the child key.")), security(("admin" = [])),
    responses((status = 200, description = "Its namespaces.", body = AccessResponse,
        headers(("ETag" = String, description = "The child key's tag, for `If-Match`.")))))]
pub(crate) async fn get_of_key(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<AccessResponse>, ApiError> {
    Ok(of_key(child_keys::get(&ctx.control, Tenant::Any, id).await?))
}

/// Change the access of a child key.
#[utoipa::path(put, path = "/admin/keys/{id}/access", tag = "keys", operation_id = "update_key_access",
    params(("id" = i64, Path, description = "Id of the child key.")), request_body = UpdateKeyAccessRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = AccessResponse,
        headers(("ETag" = String, description = "The child key's tag, for `If-Match`.")))))]
pub(crate) async fn update_of_key(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateKeyAccessRequest>,
) -> Result<Record<AccessResponse>, ApiError> {
    let UpdateKeyAccessRequest { default_namespace, namespaces } = request;
    let change = ChangeChildKey { default_namespace, namespaces, ..ChangeChildKey::default() };
    let write = ctx.write().await?;
    let key = child_keys::update(&write, Tenant::Any, id, change).await?;
    write.finish(of_key(key)).await
}

fn of_master(master: Master) -> Record<AccessResponse> {
    let tag = RecordTag::of(&master);
    let Master { default_namespace, namespaces, .. } = master;
    Record::tagged(&tag, AccessResponse { default_namespace, namespaces })
}

fn of_key(key: ChildKey) -> Record<AccessResponse> {
    let tag = RecordTag::of(&key);
    let ChildKey { default_namespace, namespaces, .. } = key;
    Record::tagged(&tag, AccessResponse { default_namespace, namespaces })
}

impl Answer for AccessResponse {}
