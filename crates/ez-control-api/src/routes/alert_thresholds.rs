//! `/admin/alerts/thresholds`: from where on the detector's rules fire.

use std::collections::BTreeMap;

use ez_control::RecordTag;
use ez_control::alerts::thresholds::{self, Thresholds};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json};
use crate::problem::ApiError;
use crate::writing::{Answer, Record};

/// Every threshold and its value.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AlertThresholds, value_type = BTreeMap<String, u64>,
    example = json!({"global_qps": 100, "master_rpm": 600, "master_tpm": 1_000_000, "error_spike_percent": 10}))]
pub(crate) struct ThresholdsResponse(BTreeMap<String, u64>);

/// List the thresholds.
#[utoipa::path(get, path = "/admin/alerts/thresholds", tag = "alerts", operation_id = "get_alert_thresholds",
    security(("admin" = [])),
    responses((status = 200, description = "Every threshold and its value.", body = ThresholdsResponse,
        headers(("ETag" = String, description = "Tag of the thresholds, for `If-Match`.")))))]
pub(crate) async fn get(ctx: AdminCtx) -> Result<Record<ThresholdsResponse>, ApiError> {
    Ok(tagged(&thresholds::get(&ctx.control).await?))
}

/// Set thresholds.
///
/// Whole numbers; 0 switches a check off. Thresholds that are not named stay. They take effect with the next run of the
/// detector.
#[utoipa::path(put, path = "/admin/alerts/thresholds", tag = "alerts", operation_id = "update_alert_thresholds",
    request_body(content = BTreeMap<String, u64>, example = json!({"global_qps": 250, "master_rpd": 0})),
    security(("admin" = [])),
    responses((status = 200, description = "Every threshold and its value.", body = ThresholdsResponse,
        headers(("ETag" = String, description = "Tag of the thresholds, for `If-Match`.")))))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Json(changes): Json<BTreeMap<String, Value>>,
) -> Result<Record<ThresholdsResponse>, ApiError> {
    let write = ctx.write().await?;
    let thresholds = thresholds::update(&write, &changes).await?;
    write.finish(tagged(&thresholds)).await
}

impl Answer for ThresholdsResponse {}

fn tagged(thresholds: &Thresholds) -> Record<ThresholdsResponse> {
    Record::tagged(&RecordTag::of(thresholds), ThresholdsResponse(thresholds.entries()))
}
