//! `/admin/provider-groups`: upstream configurations.

use chrono::{DateTime, Utc};
use ez_contract::status::RecordStatus;
use ez_contract::{Protocol, ProviderType};
use ez_control::provider_groups::{self, ChangeProviderGroup, CreateProviderGroup};
use ez_store::provider_groups::{ProviderGroup, ProviderGroupFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DeleteQuery, rate};
use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{PageResponse, list_query};
use crate::patch::{Patch, present};
use crate::problem::ApiError;
use crate::words;
use crate::writing::{Answer, Created, Deleted, Record};

list_query! {
    /// Which provider groups to list.
    ProviderGroupListQuery {
        /// Only those with this status.
        #[param(value_type = Option<words::RecordStatus>)]
        status: RecordStatus,
        /// Only those of this type.
        #[param(value_type = Option<words::ProviderType>)]
        r#type: ProviderType,
        /// Only those with this label.
        route_group: String,
    }
}

/// A new provider group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateProviderGroupRequest {
    /// Unique.
    #[schema(example = "openai-main")]
    name: String,
    /// What kind of upstream it is. The types of CLI subscriptions are not taken yet.
    #[schema(value_type = words::ProviderType)]
    r#type: ProviderType,
    /// Wire protocols that the upstream speaks, best first; those of the type where absent.
    #[schema(value_type = Option<Vec<words::Protocol>>)]
    protocols: Option<Vec<Protocol>>,
    /// A label for routing and reports; `default` where absent.
    route_group: Option<String>,
    /// What the vendor's SDK takes as base URL; the vendor's where absent, except for `compatible` and `azure`.
    #[schema(example = "https://api.openai.com/v1")]
    base_url: Option<String>,
    /// Google Cloud project, for Vertex.
    google_project: Option<String>,
    /// Google Cloud location, for Vertex; `global` where absent.
    google_location: Option<String>,
    /// API version, for Azure.
    api_version: Option<String>,
    /// Model ids that the upstream serves, as the upstream calls them.
    models: Option<Vec<String>>,
    /// `active` where absent.
    #[schema(value_type = Option<words::RecordStatus>)]
    status: Option<RecordStatus>,
}

/// What to change about a provider group. Absent fields stay, and `null` clears those that may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateProviderGroupRequest {
    /// Unique.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    /// What kind of upstream it is.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::ProviderType, required = false)]
    r#type: Option<ProviderType>,
    /// Wire protocols that the upstream speaks, best first; `null` is those of the type.
    #[serde(default)]
    #[schema(value_type = Option<Vec<words::Protocol>>)]
    protocols: Patch<Vec<Protocol>>,
    /// A label for routing and reports.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    route_group: Option<String>,
    /// What the vendor's SDK takes as base URL; `null` is the vendor's.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    base_url: Patch<String>,
    /// Google Cloud project, for Vertex.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    google_project: Patch<String>,
    /// Google Cloud location, for Vertex; `null` is `global`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    google_location: Patch<String>,
    /// API version, for Azure.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    api_version: Patch<String>,
    /// Model ids that the upstream serves, as the upstream calls them.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false)]
    models: Option<Vec<String>>,
    /// API keys of a suspended group are not used.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::RecordStatus, required = false)]
    status: Option<RecordStatus>,
}

/// An upstream configuration.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderGroup)]
pub(crate) struct ProviderGroupResponse {
    /// Given by ez-api.
    id: i64,
    /// Unique.
    name: String,
    /// What kind of upstream it is.
    #[schema(value_type = words::ProviderType)]
    r#type: ProviderType,
    /// Wire protocols that the upstream speaks, best first; empty is those of the type.
    #[schema(value_type = Vec<words::Protocol>)]
    protocols: Vec<Protocol>,
    /// A label for routing and reports.
    route_group: String,
    /// Base URL; empty is the vendor's.
    base_url: String,
    /// Google Cloud project, for Vertex.
    google_project: String,
    /// Google Cloud location, for Vertex.
    google_location: String,
    /// API version, for Azure.
    api_version: Option<String>,
    /// Model ids that the upstream serves.
    models: Vec<String>,
    /// API keys of a suspended group are not used.
    #[schema(value_type = words::RecordStatus)]
    status: RecordStatus,
    /// Calls sent to it.
    total_requests: u64,
    /// Those that succeeded.
    success_requests: u64,
    /// Those that failed.
    failure_requests: u64,
    /// Part that succeeded, from 0 to 1; `null` before the first call.
    success_rate: Option<f64>,
    /// Part that failed, from 0 to 1; `null` before the first call.
    failure_rate: Option<f64>,
    /// When it was last used.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

/// List provider groups.
#[utoipa::path(get, path = "/admin/provider-groups", tag = "provider-groups", operation_id = "list_provider_groups",
    params(ProviderGroupListQuery), security(("admin" = [])),
    responses((status = 200, description = "A page of provider groups.", body = PageResponse<ProviderGroupResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<ProviderGroupListQuery>,
) -> Result<Json<PageResponse<ProviderGroupResponse>>, ApiError> {
    let listing = query.listing()?;
    let filter = ProviderGroupFilter {
        search: query.search(),
        status: query.status,
        provider_type: query.r#type,
        route_group: query.route_group,
    };
    let found = provider_groups::list(&ctx.control, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Create a provider group.
#[utoipa::path(post, path = "/admin/provider-groups", tag = "provider-groups", operation_id = "create_provider_group",
    request_body = CreateProviderGroupRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = ProviderGroupResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateProviderGroupRequest>,
) -> Result<Created<ProviderGroupResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let group = provider_groups::create(&write, request.into()).await?;
    write.create("/admin/provider-groups", Record::of(group)).await
}

/// Get a provider group.
#[utoipa::path(get, path = "/admin/provider-groups/{id}", tag = "provider-groups", operation_id = "get_provider_group",
    params(("id" = i64, Path, description = "Id of the provider group.")), security(("admin" = [])),
    responses((status = 200, description = "The provider group.", body = ProviderGroupResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<ProviderGroupResponse>, ApiError> {
    let group = provider_groups::get(&ctx.control, id).await?;
    Ok(Record::of(group))
}

/// Change a provider group.
///
/// Recompiles every binding that it touches.
#[utoipa::path(put, path = "/admin/provider-groups/{id}", tag = "provider-groups",
    operation_id = "update_provider_group", params(("id" = i64, Path, description = "Id of the provider group.")),
    request_body = UpdateProviderGroupRequest, security(("admin" = [])),
    responses((status = 200, description = "Changed.", body = ProviderGroupResponse)))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateProviderGroupRequest>,
) -> Result<Record<ProviderGroupResponse>, ApiError> {
    let write = ctx.write().await?;
    let group = provider_groups::update(&write, id, request.into()).await?;
    write.finish(Record::of(group)).await
}

/// Delete a provider group.
#[utoipa::path(delete, path = "/admin/provider-groups/{id}", tag = "provider-groups",
    operation_id = "delete_provider_group",
    params(("id" = i64, Path, description = "Id of the provider group."), DeleteQuery), security(("admin" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Query(query): Query<DeleteQuery>,
    NoBody: NoBody,
) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    provider_groups::delete(&write, id, query.cascade).await?;
    write.delete().await
}

impl From<CreateProviderGroupRequest> for CreateProviderGroup {
    fn from(request: CreateProviderGroupRequest) -> Self {
        Self {
            name: request.name,
            provider_type: request.r#type,
            protocols: request.protocols,
            route_group: request.route_group,
            base_url: request.base_url,
            google_project: request.google_project,
            google_location: request.google_location,
            api_version: request.api_version,
            models: request.models,
            status: request.status,
        }
    }
}

impl From<UpdateProviderGroupRequest> for ChangeProviderGroup {
    fn from(request: UpdateProviderGroupRequest) -> Self {
        Self {
            name: request.name,
            provider_type: request.r#type,
            protocols: request.protocols.into(),
            route_group: request.route_group,
            base_url: request.base_url.into(),
            google_project: request.google_project.into(),
            google_location: request.google_location.into(),
            api_version: request.api_version.into(),
            models: request.models,
            status: request.status,
        }
    }
}

impl Answer for ProviderGroupResponse {}

impl From<ProviderGroup> for ProviderGroupResponse {
    fn from(group: ProviderGroup) -> Self {
        Self {
            id: group.id,
            name: group.name,
            r#type: group.provider_type,
            protocols: group.protocols,
            route_group: group.route_group,
            base_url: group.base_url,
            google_project: group.google_project,
            google_location: group.google_location,
            api_version: group.api_version,
            models: group.models,
            status: group.status,
            total_requests: group.total_requests,
            success_requests: group.success_requests,
            failure_requests: group.failure_requests,
            success_rate: rate(group.success_requests, group.total_requests),
            failure_rate: rate(group.failure_requests, group.total_requests),
            last_used_at: group.last_used_at,
            created_at: group.created_at,
            updated_at: group.updated_at,
        }
    }
}
