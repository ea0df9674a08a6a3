//! Log bodies: the request bodies of calls, kept with their log records while a flag says so. Reading one is audited.

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::request_body::{KEEPS_REQUEST_BODIES, RequestBody};
use ez_store::RecordKind;
use ez_store::log_bodies::{self as stored, LogBody};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::recorded::Recorded;
use crate::write::NO_RECORD;
use crate::{Actor, Control, ControlError, Tenant, features, logs};

/// A body that was read.
struct Read<'b>(&'b LogBody);

impl Recorded for Read<'_> {
    const KIND: RecordKind = RecordKind::Log;

    /// Log records have the gateway's own ids, which are no numbers.
    fn id(&self) -> i64 {
        NO_RECORD
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    fn audited(&self) -> Json {
        json!({ "log_id": self.0.log_id, "bytes": self.0.body.bytes })
    }
}

/// The request body of the log record with this id, and a note in the audit that `actor` read it. Errors: `NotFound`.
pub async fn read(control: &Control, actor: Actor, log_id: &str) -> Result<LogBody, ControlError> {
    let Some(body) = stored::get(control.store(), log_id).await? else {
        // Where there is no such record, that is the reason.
        logs::get(control, Tenant::Any, log_id).await?;
        let what = format!(
            "the request body of the log record {log_id} (bodies are kept only of calls that are made while \
             `{KEEPS_REQUEST_BODIES}` is on)"
        );
        return Err(ControlError::NotFound { what });
    };
    let write = control.write(actor).await?;
    let read = Read(&body);
    write.record_use("read_body", &read, read.audited()).await?;
    write.commit().await?;
    Ok(body)
}

/// Whether bodies are kept now. A damaged setting keeps none, and holds up no record.
pub(crate) async fn are_kept(control: &Control) -> Result<bool, ControlError> {
    if control.config().log_body_max_bytes == 0 {
        return Ok(false);
    }
    let features = features::readable(control.store()).await?;
    Ok(features.records.iter().any(|(flag, is_on)| flag == KEEPS_REQUEST_BODIES && *is_on))
}

/// What is kept of the body that came with a record, if one did. One that cannot be read costs no record, and nothing is
/// told of it: what is wrong with it would quote it.
pub(crate) fn kept(json: &[u8], record: &UsageRecord, max_bytes: usize) -> Option<LogBody> {
    #[derive(Deserialize)]
    struct Carried {
        request_body: Option<RequestBody>,
    }
    let body = serde_json::from_slice::<Carried>(json).ok()?.request_body?;
    Some(LogBody { log_id: record.id.clone(), created_at: record.created_at, body: body.cut_to(max_bytes) })
}
