//! `/admin/namespaces`: views on the model catalogue.

use chrono::{DateTime, Utc};
use ez_contract::status::RecordStatus;
use ez_control::namespaces::{self, ChangeNamespace, CreateNamespace};
use ez_store::namespaces::{Namespace, NamespaceFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DeleteQuery;
use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{PageResponse, list_query};
use crate::patch::{Patch, present};
use crate::problem::ApiError;
use crate::words;
use crate::writing::{Answer, Created, Deleted, Record};

list_query! {
    /// Which namespaces to list.
    NamespaceListQuery {
        /// Only those with this status.
        #[param(value_type = Option<words::RecordStatus>)]
        status: RecordStatus,
    }
}

/// A new namespace.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateNamespaceRequest {
    /// Unique. Lower-case letters, digits, `_` and `-`, not starting with the last two.
    #[schema(example = "team-a", pattern = "^[a-z0-9][a-z0-9_-]*$")]
    name: String,
    /// What it is for; empty where absent.
    description: Option<String>,
    /// `active` where absent.
    #[schema(value_type = Option<words::RecordStatus>)]
    status: Option<RecordStatus>,
}

/// What to change about a namespace. Absent fields stay; the name always does.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateNamespaceRequest {
    /// What it is for.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    /// Models of a suspended namespace are refused.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::RecordStatus, required = false)]
    status: Option<RecordStatus>,
}

/// A view on the model catalogue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Namespace)]
pub(crate) struct NamespaceResponse {
    /// Given by ez-api.
    id: i64,
    /// Unique.
    name: String,
    /// What it is for.
    description: String,
    /// Models of a suspended namespace are refused.
    #[schema(value_type = words::RecordStatus)]
    status: RecordStatus,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

/// List namespaces.
#[utoipa::path(get, path = "/admin/namespaces", tag = "namespaces", operation_id = "list_namespaces",
    params(NamespaceListQuery), security(("admin" = [])),
    responses((status = 200, description = "A page of namespaces.", body = PageResponse<NamespaceResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<NamespaceListQuery>,
) -> Result<Json<PageResponse<NamespaceResponse>>, ApiError> {
    let listing = query.listing()?;
    let filter = NamespaceFilter { search: query.search(), status: query.status };
    let found = namespaces::list(&ctx.control, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Create a namespace.
#[utoipa::path(post, path = "/admin/namespaces", tag = "namespaces", operation_id = "create_namespace",
    request_body = CreateNamespaceRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = NamespaceResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateNamespaceRequest>,
) -> Result<Created<NamespaceResponse>, ApiError> {
    let CreateNamespaceRequest { name, description, status } = request;
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let namespace = namespaces::create(&write, CreateNamespace { name, description, status }).await?;
    write.create("/admin/namespaces", Record::of(namespace)).await
}

/// Get a namespace.
#[utoipa::path(get, path = "/admin/namespaces/{id}", tag = "namespaces", operation_id = "get_namespace",
    params(("id" = i64, Path, description = "Id of the namespace.")), security(("admin" = [])),
    responses((status = 200, description = "The namespace.", body = NamespaceResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<NamespaceResponse>, ApiError> {
    let namespace = namespaces::get(&ctx.control, id).await?;
    Ok(Record::of(namespace))
}

/// Change a namespace.
#[utoipa::path(put, path = "/admin/namespaces/{id}", tag = "namespaces", operation_id = "update_namespace",
    params(("id" = i64, Path, description = "Id of the namespace.")), request_body = UpdateNamespaceRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = NamespaceResponse)))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateNamespaceRequest>,
) -> Result<Record<NamespaceResponse>, ApiError> {
    let change = ChangeNamespace { description: request.description.into(), status: request.status };
    let write = ctx.write().await?;
    let namespace = namespaces::update(&write, id, change).await?;
    write.finish(Record::of(namespace)).await
}

/// Delete a namespace.
///
/// The namespace `default` cannot be deleted.
#[utoipa::path(delete, path = "/admin/namespaces/{id}", tag = "namespaces", operation_id = "delete_namespace",
    params(("id" = i64, Path, description = "Id of the namespace."), DeleteQuery), security(("admin" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Query(query): Query<DeleteQuery>,
    NoBody: NoBody,
) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    namespaces::delete(&write, id, query.cascade).await?;
    write.delete().await
}

impl Answer for NamespaceResponse {}

impl From<Namespace> for NamespaceResponse {
    fn from(namespace: Namespace) -> Self {
        let Namespace { id, name, description, status, created_at, updated_at } = namespace;
        Self { id, name, description, status, created_at, updated_at }
    }
}
