//! `/v1`: what a master does with its own child keys, and what it may know of itself.

use ez_control::child_keys;

use super::keys::{CreateKeyRequest, KeyResponse, KeyWithTokenResponse, OwnKeyListQuery, UpdateKeyRequest};
use super::masters::MasterResponse;
use crate::extract::{Json, MasterCtx, NoBody, Path, Query};
use crate::listing::PageResponse;
use crate::problem::ApiError;
use crate::writing::{Created, Deleted, Record};

/// Get the master that signed in.
#[utoipa::path(get, path = "/v1/self", tag = "self", operation_id = "get_self", security(("master" = [])),
    responses((status = 200, description = "The master.", body = MasterResponse)))]
pub(crate) async fn get_self(ctx: MasterCtx) -> Record<MasterResponse> {
    Record::of(ctx.master)
}

/// List own child keys.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", operation_id = "list_tokens", params(OwnKeyListQuery),
    security(("master" = [])),
    responses((status = 200, description = "A page of child keys.", body = PageResponse<KeyResponse>)))]
pub(crate) async fn list(
    ctx: MasterCtx,
    Query(query): Query<OwnKeyListQuery>,
) -> Result<Json<PageResponse<KeyResponse>>, ApiError> {
    let (filter, listing) = query.split()?;
    let found = child_keys::list(&ctx.control, ctx.tenant(), &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Issue a child key.
///
/// The answer is the only place where its token is shown.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", operation_id = "create_token",
    request_body = CreateKeyRequest, security(("master" = [])),
    responses((status = 201, description = "Issued.", body = KeyWithTokenResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create(
    ctx: MasterCtx,
    Json(request): Json<CreateKeyRequest>,
) -> Result<Created<KeyWithTokenResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let issued = child_keys::create(&write, ctx.master.id, request.into()).await?;
    write.create("/v1/tokens", Record::of(issued)).await
}

/// Get an own child key.
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "tokens", operation_id = "get_token",
    params(("id" = i64, Path, description = "Id of the child key.")), security(("master" = [])),
    responses((status = 200, description = "The child key.", body = KeyResponse)))]
pub(crate) async fn get(ctx: MasterCtx, Path(id): Path<i64>) -> Result<Record<KeyResponse>, ApiError> {
    let key = child_keys::get(&ctx.control, ctx.tenant(), id).await?;
    Ok(Record::of(key))
}

/// Change an own child key.
#[utoipa::path(put, path = "/v1/tokens/{id}", tag = "tokens", operation_id = "update_token",
    params(("id" = i64, Path, description = "Id of the child key.")), request_body = UpdateKeyRequest,
    security(("master" = [])), responses((status = 200, description = "Changed.", body = KeyResponse)))]
pub(crate) async fn update(
    ctx: MasterCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateKeyRequest>,
) -> Result<Record<KeyResponse>, ApiError> {
    let write = ctx.write().await?;
    let key = child_keys::update(&write, ctx.tenant(), id, request.into()).await?;
    write.finish(Record::of(key)).await
}

/// Delete an own child key.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", operation_id = "delete_token",
    params(("id" = i64, Path, description = "Id of the child key.")), security(("master" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(ctx: MasterCtx, Path(id): Path<i64>, NoBody: NoBody) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    child_keys::delete(&write, ctx.tenant(), id).await?;
    write.delete().await
}
