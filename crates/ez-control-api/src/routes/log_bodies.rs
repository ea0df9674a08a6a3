//! `/admin/logs/{id}/body`: request bodies of calls.

use chrono::{DateTime, Utc};
use ez_contract::request_body::{BodyEncoding, RequestBody};
use ez_control::log_bodies;
use ez_store::log_bodies::LogBody;
use serde::Serialize;
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, Path};
use crate::problem::ApiError;
use crate::words;

/// The request body of a call, whole or its beginning.
#[derive(Serialize, ToSchema)]
#[schema(as = LogBody)]
pub(crate) struct LogBodyResponse {
    /// Id of its log record.
    log_id: String,
    /// When the call arrived.
    created_at: DateTime<Utc>,
    /// The body in its encoding, as the client sent it.
    content: String,
    /// How it is written: as it is, or in base64 where it is no text.
    #[schema(value_type = words::BodyEncoding)]
    encoding: BodyEncoding,
    /// Size of the whole body, bytes.
    bytes: u64,
    /// Whether only its beginning was kept.
    truncated: bool,
}

/// Get the request body of a call.
///
/// Bodies are kept only of calls that are made while the flag `log_request_body_enabled` is on, and go with their log
/// records. Who read one stands in the audit.
#[utoipa::path(get, path = "/admin/logs/{id}/body", tag = "logs", operation_id = "get_log_body",
    params(("id" = String, Path, description = "Id of the log record.")), security(("admin" = [])),
    responses((status = 200, description = "The request body.", body = LogBodyResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<String>) -> Result<Json<LogBodyResponse>, ApiError> {
    let body = log_bodies::read(&ctx.control, ctx.actor(), &id).await?;
    Ok(Json(body.into()))
}

impl From<LogBody> for LogBodyResponse {
    fn from(LogBody { log_id, created_at, body }: LogBody) -> Self {
        let RequestBody { content, encoding, bytes, is_cut } = body;
        Self { log_id, created_at, content, encoding, bytes, truncated: is_cut }
    }
}
