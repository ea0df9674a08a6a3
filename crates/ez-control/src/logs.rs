//! Logs: usage records that gateways hand in, and reading them.

use ez_contract::UsageRecord;
use ez_store::Store;
use ez_store::logs::{self as stored, LogCursor, LogFilter};
use serde::Serialize;
use serde_json::Value as Json;

use crate::error::chain;
use crate::{Control, ControlError, Tenant};

/// Characters of a record's id and of its request id.
const MAX_ID_CHARS: usize = 128;
/// Of why a record is rejected. Gateways bound what they read by these two.
const MAX_REASON_CHARS: usize = 200;
/// Records of one batch that the database may refuse; with more of them something other than they is wrong.
const MAX_REFUSED: usize = 100;

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
    /// Its place in the batch, from 0.
    pub index: u64,
    /// Its id, 128 characters of it at most; empty where it has none.
    pub id: String,
    /// Why not, 200 characters at most.
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

/// Takes usage records; handing them in again changes nothing. Records that break a rule are rejected one by one, and so
/// are those that the database refuses while it takes others. Errors: hand them in again; what was taken counts once.
pub async fn ingest(control: &Control, records: Vec<UsageRecord>) -> Result<IngestReport, ControlError> {
    take(control, records.into_iter().map(checked).collect()).await
}

/// The same for the JSON of records; one that has not the form of a usage record is rejected.
pub async fn ingest_json(control: &Control, records: &[impl AsRef<[u8]>]) -> Result<IngestReport, ControlError> {
    take(control, records.iter().map(|record| parsed(record.as_ref()).and_then(checked)).collect()).await
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

/// Id of a record that is rejected, and why.
type Fault = (String, String);

async fn take(control: &Control, records: Vec<Result<UsageRecord, Fault>>) -> Result<IngestReport, ControlError> {
    let (mut good, mut places) = (Vec::new(), Vec::new());
    let mut report = IngestReport::default();
    for (index, record) in (0..).zip(records) {
        match record {
            Ok(record) => {
                good.push(record);
                places.push(index);
            }
            Err(fault) => report.rejected.push(rejected(index, fault)),
        }
    }
    let Stored { accepted, duplicates, refused } = store(control.store(), &good).await?;
    (report.accepted, report.duplicates) = (accepted, duplicates);
    let refused = refused.into_iter().map(|(at, reason)| rejected(places[at], (good[at].id.clone(), reason)));
    report.rejected.extend(refused);
    if !report.rejected.is_empty() {
        tracing::warn!(rejected = report.rejected.len(), "usage records were rejected");
    }
    Ok(report)
}

/// What became of records that keep the rules.
#[derive(Debug, Default)]
struct Stored {
    accepted: u64,
    duplicates: u64,
    /// Places of those that the database refuses, and why.
    refused: Vec<(usize, String)>,
}

/// Stores records in one transaction. Where the database refuses what is in them, each half by itself, down to the record
/// that it refuses, so that one does not hold up the others for ever. That it is the record and not the database is only
/// believed where the database takes another one of the batch meanwhile.
async fn store(store: &Store, records: &[UsageRecord]) -> Result<Stored, ControlError> {
    let mut stored = Stored::default();
    let mut parts = Vec::from_iter((!records.is_empty()).then_some(0..records.len()));
    while let Some(part) = parts.pop() {
        let length = part.len();
        let error = match stored::ingest(store, &records[part.clone()]).await {
            Ok(accepted) => {
                stored.accepted += accepted;
                stored.duplicates += u64::try_from(length).unwrap_or(u64::MAX).saturating_sub(accepted);
                continue;
            }
            Err(error) => error,
        };
        let is_one = length == 1;
        if is_one {
            stored.refused.push((part.start, chain(&error)));
        }
        let has_taken = stored.accepted + stored.duplicates > 0;
        let is_last = is_one && parts.is_empty();
        if !error.is_about_rows() || stored.refused.len() > MAX_REFUSED || (is_last && !has_taken) {
            return Err(error.into());
        }
        if !is_one {
            let middle = part.start + length / 2;
            parts.extend([middle..part.end, part.start..middle]);
        }
    }
    Ok(stored)
}

fn rejected(index: u64, (id, reason): Fault) -> RejectedRecord {
    RejectedRecord { index, id: told(&id, MAX_ID_CHARS), reason: told(&reason, MAX_REASON_CHARS) }
}

/// A bounded text that needs no long escapes.
fn told(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}

fn parsed(record: &[u8]) -> Result<UsageRecord, Fault> {
    serde_json::from_slice(record).map_err(|error| {
        let record: Json = serde_json::from_slice(record).unwrap_or_default();
        (record.get("id").and_then(Json::as_str).unwrap_or_default().to_owned(), error.to_string())
    })
}

fn checked(record: UsageRecord) -> Result<UsageRecord, Fault> {
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
    Err((record.id, reason.to_owned()))
}
