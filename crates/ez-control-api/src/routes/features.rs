//! `/admin/features`: runtime flags.

use std::collections::BTreeMap;

use ez_control::RecordTag;
use ez_control::features::{self, Features};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json};
use crate::problem::ApiError;
use crate::writing::{Answer, Record};

/// Every flag and its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Features, value_type = BTreeMap<String, bool>,
    example = json!({"log_request_body_enabled": false, "oauth_providers_acknowledged": false}))]
pub(crate) struct FeaturesResponse(BTreeMap<String, bool>);

/// List the flags.
#[utoipa::path(get, path = "/admin/features", tag = "features", operation_id = "get_features", security(("admin" = [])),
    responses((status = 200, description = "Every flag and its value.", body = FeaturesResponse,
        headers(("ETag" = String, description = "Tag of the flags, for `If-Match`.")))))]
pub(crate) async fn get(ctx: AdminCtx) -> Result<Record<FeaturesResponse>, ApiError> {
    let features = features::get(&ctx.control).await?;
    Ok(tagged(features))
}

/// Set flags.
///
/// Flags that are not named stay. They take effect in every process at once.
#[utoipa::path(put, path = "/admin/features", tag = "features", operation_id = "update_features",
    request_body(content = BTreeMap<String, bool>, example = json!({"log_request_body_enabled": true})),
    security(("admin" = [])),
    responses((status = 200, description = "Every flag and its value.", body = FeaturesResponse,
        headers(("ETag" = String, description = "Tag of the flags, for `If-Match`.")))))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Json(changes): Json<BTreeMap<String, Value>>,
) -> Result<Record<FeaturesResponse>, ApiError> {
    let write = ctx.write().await?;
    let features = features::update(&write, &changes).await?;
    write.finish(tagged(features)).await
}

impl Answer for FeaturesResponse {}

fn tagged(features: Features) -> Record<FeaturesResponse> {
    let tag = RecordTag::of(&features);
    Record::tagged(&tag, FeaturesResponse(features.0))
}
