//! `/admin/bindings`: which provider group serves a public model.

use chrono::{DateTime, Utc};
use ez_contract::selector::SelectorType;
use ez_contract::snapshot::ClientGone;
use ez_contract::status::RecordStatus;
use ez_control::bindings::{self, ChangeBinding, CreateBinding};
use ez_store::bindings::{Binding, BindingFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{PageResponse, list_query};
use crate::patch::{Patch, present};
use crate::problem::ApiError;
use crate::words;
use crate::writing::{Answer, Created, Deleted, Record};

list_query! {
    /// Which bindings to list.
    BindingListQuery {
        /// Only those with this status.
        #[param(value_type = Option<words::RecordStatus>)]
        status: RecordStatus,
        /// Only those of this namespace.
        namespace: String,
        /// Only those of this public model.
        public_model: String,
        /// Only those to this provider group.
        group_id: i64,
    }
}

/// A new binding.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateBindingRequest {
    /// Name of the namespace.
    #[schema(example = "default")]
    namespace: String,
    /// What clients call the model.
    #[schema(example = "gpt-4o")]
    public_model: String,
    /// The provider group that serves it.
    group_id: i64,
    /// Share of the calls among bindings of the same priority; 1 where absent.
    weight: Option<u32>,
    /// The highest is tried first; 0 where absent.
    priority: Option<i32>,
    /// How the upstream model is picked from the provider group's models; `exact` where absent.
    #[schema(value_type = Option<words::SelectorType>)]
    selector_type: Option<SelectorType>,
    /// What the selector compares with; the public model where absent or empty.
    selector_value: Option<String>,
    /// `active` where absent.
    #[schema(value_type = Option<words::RecordStatus>)]
    status: Option<RecordStatus>,
    /// What becomes of a stream whose client left before its end; as the gateways are set (`EZ_ON_CLIENT_GONE`) where
    /// absent.
    #[schema(value_type = Option<words::ClientGone>)]
    on_client_gone: Option<ClientGone>,
}

/// What to change about a binding. Absent fields stay, and `null` clears those that may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateBindingRequest {
    /// Name of the namespace.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    namespace: Option<String>,
    /// What clients call the model.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    public_model: Option<String>,
    /// The provider group that serves it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = i64, required = false)]
    group_id: Option<i64>,
    /// Share of the calls among bindings of the same priority.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u32, required = false)]
    weight: Option<u32>,
    /// The highest is tried first.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = i32, required = false)]
    priority: Option<i32>,
    /// How the upstream model is picked from the provider group's models.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::SelectorType, required = false)]
    selector_type: Option<SelectorType>,
    /// What the selector compares with; `null` is the public model.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    selector_value: Patch<String>,
    /// A suspended binding is skipped.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::RecordStatus, required = false)]
    status: Option<RecordStatus>,
    /// What becomes of a stream whose client left before its end; `null` is as the gateways are set.
    #[serde(default)]
    #[schema(value_type = Option<words::ClientGone>)]
    on_client_gone: Patch<ClientGone>,
}

/// Which provider group serves a public model.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Binding)]
pub(crate) struct BindingResponse {
    /// Given by ez-api.
    id: i64,
    /// Name of the namespace.
    namespace: String,
    /// What clients call the model.
    public_model: String,
    /// The provider group that serves it.
    group_id: i64,
    /// Share of the calls among bindings of the same priority.
    weight: u32,
    /// The highest is tried first.
    priority: i32,
    /// How the upstream model is picked from the provider group's models.
    #[schema(value_type = words::SelectorType)]
    selector_type: SelectorType,
    /// What the selector compares with; empty is the public model.
    selector_value: String,
    /// A suspended binding is skipped.
    #[schema(value_type = words::RecordStatus)]
    status: RecordStatus,
    /// What becomes of a stream whose client left before its end; `null` is as the gateways are set.
    #[schema(value_type = Option<words::ClientGone>)]
    on_client_gone: Option<ClientGone>,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

/// List bindings.
#[utoipa::path(get, path = "/admin/bindings", tag = "bindings", operation_id = "list_bindings",
    params(BindingListQuery), security(("admin" = [])),
    responses((status = 200, description = "A page of bindings.", body = PageResponse<BindingResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<BindingListQuery>,
) -> Result<Json<PageResponse<BindingResponse>>, ApiError> {
    let listing = query.listing()?;
    let filter = BindingFilter {
        search: query.search(),
        namespace: query.namespace,
        public_model: query.public_model,
        group_id: query.group_id,
        status: query.status,
    };
    let found = bindings::list(&ctx.control, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Create a binding.
#[utoipa::path(post, path = "/admin/bindings", tag = "bindings", operation_id = "create_binding",
    request_body = CreateBindingRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = BindingResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateBindingRequest>,
) -> Result<Created<BindingResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let binding = bindings::create(&write, request.into()).await?;
    write.create("/admin/bindings", Record::of(binding)).await
}

/// Get a binding.
#[utoipa::path(get, path = "/admin/bindings/{id}", tag = "bindings", operation_id = "get_binding",
    params(("id" = i64, Path, description = "Id of the binding.")), security(("admin" = [])),
    responses((status = 200, description = "The binding.", body = BindingResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<BindingResponse>, ApiError> {
    let binding = bindings::get(&ctx.control, id).await?;
    Ok(Record::of(binding))
}

/// Change a binding.
#[utoipa::path(put, path = "/admin/bindings/{id}", tag = "bindings", operation_id = "update_binding",
    params(("id" = i64, Path, description = "Id of the binding.")), request_body = UpdateBindingRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = BindingResponse)))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateBindingRequest>,
) -> Result<Record<BindingResponse>, ApiError> {
    let write = ctx.write().await?;
    let binding = bindings::update(&write, id, request.into()).await?;
    write.finish(Record::of(binding)).await
}

/// Delete a binding.
#[utoipa::path(delete, path = "/admin/bindings/{id}", tag = "bindings", operation_id = "delete_binding",
    params(("id" = i64, Path, description = "Id of the binding.")), security(("admin" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(ctx: AdminCtx, Path(id): Path<i64>, NoBody: NoBody) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    bindings::delete(&write, id).await?;
    write.delete().await
}

impl From<CreateBindingRequest> for CreateBinding {
    fn from(request: CreateBindingRequest) -> Self {
        Self {
            namespace: request.namespace,
            public_model: request.public_model,
            group_id: request.group_id,
            weight: request.weight,
            priority: request.priority,
            selector_type: request.selector_type,
            selector_value: request.selector_value,
            status: request.status,
            on_client_gone: request.on_client_gone,
        }
    }
}

impl From<UpdateBindingRequest> for ChangeBinding {
    fn from(request: UpdateBindingRequest) -> Self {
        Self {
            namespace: request.namespace,
            public_model: request.public_model,
            group_id: request.group_id,
            weight: request.weight,
            priority: request.priority,
            selector_type: request.selector_type,
            selector_value: request.selector_value.into(),
            status: request.status,
            on_client_gone: request.on_client_gone.into(),
        }
    }
}

impl Answer for BindingResponse {}

impl From<Binding> for BindingResponse {
    fn from(binding: Binding) -> Self {
        Self {
            id: binding.id,
            namespace: binding.namespace,
            public_model: binding.public_model,
            group_id: binding.group_id,
            weight: binding.weight,
            priority: binding.priority,
            selector_type: binding.selector_type,
            selector_value: binding.selector_value,
            status: binding.status,
            on_client_gone: binding.on_client_gone,
            created_at: binding.created_at,
            updated_at: binding.updated_at,
        }
    }
}
