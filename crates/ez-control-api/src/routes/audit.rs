//! `/admin/audit`: who changed what.

use chrono::{DateTime, Utc};
use ez_control::audit;
use ez_store::audit::{AuditEntry, NewAuditEntry};
use ez_store::{ActorKind, RecordKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, Query};
use crate::listing::{StretchResponse, decode_id_cursor, encode_id_cursor, stretch_limit};
use crate::problem::ApiError;
use crate::words;

/// Which audit entries to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditListQuery {
    /// The `next_cursor` of the stretch before.
    cursor: Option<String>,
    /// Entries in a stretch.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u64>,
}

/// One write, or one attempt worth keeping.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct AuditResponse {
    /// Rises with every entry.
    id: i64,
    /// When it happened.
    created_at: DateTime<Utc>,
    /// Who did it.
    #[schema(value_type = words::ActorKind)]
    actor_kind: ActorKind,
    /// The master, where it was one.
    actor_id: Option<i64>,
    /// What was done.
    #[schema(example = "update")]
    action: String,
    /// Kind of the record.
    #[schema(value_type = words::RecordKind)]
    record_kind: RecordKind,
    /// The record, where it has a number.
    record_id: Option<i64>,
    /// The record before, secrets masked.
    before: Option<Value>,
    /// The record after, secrets masked.
    after: Option<Value>,
    /// The call that did it.
    request_id: Option<String>,
    /// Address that it came from.
    client_ip: Option<String>,
}

/// List audit entries, newest first.
#[utoipa::path(get, path = "/admin/audit", tag = "audit", operation_id = "list_audit", params(AuditListQuery),
    security(("admin" = [])),
    responses((status = 200, description = "A stretch of audit entries.", body = StretchResponse<AuditResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<AuditListQuery>,
) -> Result<Json<StretchResponse<AuditResponse>>, ApiError> {
    let limit = stretch_limit(query.limit)?;
    let before_id = query.cursor.as_deref().map(decode_id_cursor).transpose()?;
    let page = audit::list(&ctx.control, before_id, limit).await?;
    Ok(Json(StretchResponse {
        items: page.items.into_iter().map(AuditResponse::from).collect(),
        next_cursor: page.next.map(encode_id_cursor),
    }))
}

impl From<AuditEntry> for AuditResponse {
    fn from(AuditEntry { id, entry }: AuditEntry) -> Self {
        let NewAuditEntry {
            created_at,
            actor_kind,
            actor_id,
            action,
            record_kind,
            record_id,
            before,
            after,
            request_id,
            client_ip,
        } = entry;
        Self {
            id,
            created_at,
            actor_kind,
            actor_id,
            action,
            record_kind,
            record_id,
            before,
            after,
            request_id,
            client_ip,
        }
    }
}
