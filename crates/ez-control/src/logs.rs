//! Logs: usage records that gateways hand in, and reading them.

use ez_contract::UsageRecord;
use ez_store::logs::{self as stored, LogCursor, LogFilter};
use serde::Serialize;
use serde_json::Value as Json;

use crate::{Control, ControlError, Tenant};

/// Characters of a record's id and of its request id.
const MAX_ID_CHARS: usize = 128;

/// What became of a batch of usage records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IngestReport {
    /// Records that were new.
    pub accepted: u64,
    /// Records that were there already.
    pub duplicates: u64,
    /// Records that will never be taken.
    pub rejected: Vec<RejectedRecord>,
}

/// A usage record that will never be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedRecord {
    /// Its id; empty where it has none.
    pub id: String,
    /// Why not.
    pub reason: String,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// Newest first.
    pub items: Vec<UsageRecord>,
    /// Where the next page starts; none on the last one.
    pub next: Option<LogCursor>,
}

/// Takes usage records; handing them in again changes nothing. Records that break a rule are rejected one by one, the
/// others are taken all or none. Errors: `Unavailable`: hand them in again.
pub async fn ingest(control: &Control, records: Vec<UsageRecord>) -> Result<IngestReport, ControlError> {
    take(control, records.into_iter().map(checked)).await
}

/// The same for records as JSON; one that has not the form of a usage record is rejected.
pub async fn ingest_json(control: &Control, records: Vec<Json>) -> Result<IngestReport, ControlError> {
    take(control, records.into_iter().map(|record| parsed(record).and_then(checked))).await
}

/// A page of the log records that match, among those within reach.
pub async fn list(
    control: &Control,
    tenant: Tenant,
    filter: LogFilter,
    cursor: Option<&LogCursor>,
    limit: u64,
) -> Result<LogPage, ControlError> {
    let master_id = match tenant {
        Tenant::Any => filter.master_id,
        Tenant::Only(master_id) => Some(master_id),
    };
    let filter = LogFilter { master_id, ..filter };
    let mut items = stored::list(control.store(), &filter, cursor, limit.saturating_add(1)).await?;
    let kept = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > kept;
    items.truncate(kept);
    let last = items.last().filter(|_| has_more);
    let next = last.map(|last| LogCursor { created_at: last.created_at, id: last.id.clone() });
    Ok(LogPage { items, next })
}

/// The log record with this id. Errors: `NotFound`.
pub async fn get(control: &Control, tenant: Tenant, id: &str) -> Result<UsageRecord, ControlError> {
    let found = stored::get(control.store(), id).await?.filter(|record| tenant.reaches(record.master_id));
    found.ok_or_else(|| ControlError::not_found("log record", id))
}

async fn take(
    control: &Control,
    records: impl Iterator<Item = Result<UsageRecord, RejectedRecord>>,
) -> Result<IngestReport, ControlError> {
    let mut good = Vec::new();
    let mut report = IngestReport::default();
    for record in records {
        match record {
            Ok(record) => good.push(record),
            Err(rejected) => report.rejected.push(rejected),
        }
    }
    if !good.is_empty() {
        report.accepted = stored::ingest(control.store(), &good).await?;
        report.duplicates = u64::try_from(good.len()).unwrap_or(u64::MAX).saturating_sub(report.accepted);
    }
    if !report.rejected.is_empty() {
        tracing::warn!(rejected = report.rejected.len(), "usage records were rejected");
    }
    Ok(report)
}

fn parsed(record: Json) -> Result<UsageRecord, RejectedRecord> {
    let id = record.get("id").and_then(Json::as_str).unwrap_or_default().chars().take(MAX_ID_CHARS).collect();
    serde_json::from_value(record).map_err(|error| RejectedRecord { id, reason: error.to_string() })
}

fn checked(record: UsageRecord) -> Result<UsageRecord, RejectedRecord> {
    let is_id = |text: &str| text.len() <= MAX_ID_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic());
    let reason = if record.id.is_empty() || !is_id(&record.id) {
        "`id` must be 1 to 128 visible ASCII characters"
    } else if !is_id(&record.request_id) {
        "`request_id` must be at most 128 visible ASCII characters"
    } else if !(100..=599).contains(&record.status) {
        "`status` must be an HTTP status"
    } else {
        return Ok(record);
    };
    Err(RejectedRecord { id: record.id.chars().take(MAX_ID_CHARS).collect(), reason: reason.to_owned() })
}
