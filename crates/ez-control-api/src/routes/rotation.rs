//! `/admin/keys/{id}/rotate` and `/v1/tokens/{id}/rotate`: new tokens for child keys.

use std::time::Duration;

use ez_control::{Tenant, key_rotation};
use serde::Deserialize;
use utoipa::ToSchema;

use super::keys::KeyWithTokenResponse;
use crate::extract::{AdminCtx, MasterCtx, OptionalJson, Path};
use crate::number::Whole;
use crate::problem::ApiError;
use crate::writing::Record;

/// How a child key gets its new token.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKeyRequest {
    /// For how many seconds the old token works on: at most 2592000 (30 days), 0 ends it at once; 3600 where absent.
    #[schema(value_type = Option<u64>, maximum = 2_592_000, example = 3600)]
    overlap_seconds: Option<Whole<{ key_rotation::MAX_OVERLAP.as_secs() }>>,
}

impl RotateKeyRequest {
    fn overlap(&self) -> Duration {
        self.overlap_seconds.map_or(key_rotation::DEFAULT_OVERLAP, |seconds| Duration::from_secs(seconds.into()))
    }
}

/// Give a child key a new token.
///
/// The old token works on for a while, so that clients can change over; one that an earlier rotation left ends at once. The
/// answer is the only place where the new token is shown. A key that was revoked with its master's keys cannot be rotated
/// (409).
#[utoipa::path(post, path = "/admin/keys/{id}/rotate", tag = "keys", operation_id = "rotate_key",
    params(("id" = i64, Path, description = "Id of the child key.")), request_body = Option<RotateKeyRequest>,
    security(("admin" = [])),
    responses((status = 200, description = "The child key with its new token.", body = KeyWithTokenResponse)))]
pub(crate) async fn rotate_key(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    OptionalJson(request): OptionalJson<RotateKeyRequest>,
) -> Result<Record<KeyWithTokenResponse>, ApiError> {
    let write = ctx.write().await?;
    let rotated = key_rotation::rotate(&write, Tenant::Any, id, request.overlap()).await?;
    write.finish(Record::of(rotated)).await
}

/// Give an own child key a new token.
///
/// The old token works on for a while, so that clients can change over; one that an earlier rotation left ends at once. The
/// answer is the only place where the new token is shown. A key that was revoked with all of a master's keys cannot be
/// rotated (409).
#[utoipa::path(post, path = "/v1/tokens/{id}/rotate", tag = "tokens", operation_id = "rotate_token",
    params(("id" = i64, Path, description = "Id of the child key.")), request_body = Option<RotateKeyRequest>,
    security(("master" = [])),
    responses((status = 200, description = "The child key with its new token.", body = KeyWithTokenResponse)))]
pub(crate) async fn rotate_token(
    ctx: MasterCtx,
    Path(id): Path<i64>,
    OptionalJson(request): OptionalJson<RotateKeyRequest>,
) -> Result<Record<KeyWithTokenResponse>, ApiError> {
    let write = ctx.write().await?;
    let rotated = key_rotation::rotate(&write, ctx.tenant(), id, request.overlap()).await?;
    write.finish(Record::of(rotated)).await
}
