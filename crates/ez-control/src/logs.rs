//! Logs: usage records that gateways hand in, and reading them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use ez_contract::UsageRecord;
use ez_store::log_bodies::LogBody;
use ez_store::logs::{self as stored, LogCursor, LogFilter, LogPage};
use serde::Serialize;
use serde_json::Value as Json;

use crate::error::Faults;
use crate::ingestion::{self, Handed, Outcome};
use crate::{Control, ControlError, Tenant, log_bodies};

/// Characters of a record's id and of its request id.
const MAX_ID_CHARS: usize = 128;
/// Of why a record is rejected. Gateways bound what they read by these two.
const MAX_REASON_CHARS: usize = 200;
/// Of what is looked for in errors.
const MAX_TERM_CHARS: usize = 200;
/// No call arrived before 2020, in Unix seconds. Records of clocks that were never set would each bring a day of their own,
/// and PostgreSQL keeps a table for each.
const EARLIEST: i64 = 1_577_836_800;
/// How far a gateway's clock may be ahead of this one's.
const AHEAD: TimeDelta = TimeDelta::days(2);

/// When whoever is told that this clock is wrong may come again.
const CLOCK_RETRY: Duration = Duration::from_secs(60);

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

/// Takes usage records; handing them in again changes nothing. Records that break a rule are rejected one by one, and so
/// are those that the database refuses while it takes others. Errors: hand them in again; what was taken counts once. `Busy` where
/// all are of a time to come for a clock here that is behind.
pub async fn ingest(control: &Control, records: Vec<UsageRecord>) -> Result<IngestReport, ControlError> {
    let now = control.now();
    check_clock(control, now, records.iter().map(|record| Some(record.created_at))).await?;
    take(control, records.into_iter().map(|record| checked(record, now)).collect(), Vec::new()).await
}

/// The same for the JSON of records; one that has not the form of a usage record is rejected. The request bodies that come
/// with them are kept while that is wished.
pub async fn ingest_json(control: &Control, records: &[impl AsRef<[u8]>]) -> Result<IngestReport, ControlError> {
    let now = control.now();
    let parsed: Vec<_> = records.iter().map(|record| parsed(record.as_ref())).collect();
    check_clock(control, now, parsed.iter().map(|record| Some(record.as_ref().ok()?.created_at))).await?;
    let checked: Vec<_> = parsed.into_iter().map(|record| record.and_then(|record| checked(record, now))).collect();
    let mut bodies = Vec::new();
    if log_bodies::are_kept(control).await? {
        let max_bytes = control.config().log_body_max_bytes;
        let good = records.iter().zip(&checked).filter_map(|(json, record)| Some((json, record.as_ref().ok()?)));
        bodies.extend(good.filter_map(|(json, record)| log_bodies::kept(json.as_ref(), record, max_bytes)));
    }
    take(control, checked, bodies).await
}

/// A page of the log records that match, among those within reach. It looks at a bounded number of records, and so may be
/// short and yet not the last. Errors: `Invalid`.
pub async fn list(
    control: &Control,
    tenant: Tenant,
    filter: LogFilter,
    cursor: Option<&LogCursor>,
    limit: u64,
) -> Result<LogPage, ControlError> {
    check(&filter)?;
    let master_id = match tenant {
        Tenant::Any => filter.master_id,
        Tenant::Only(master_id) => Some(master_id),
    };
    let filter = LogFilter { master_id, ..filter };
    Ok(stored::list(control.store(), &filter, cursor, limit).await?)
}

fn check(filter: &LogFilter) -> Result<(), ControlError> {
    let mut faults = Faults::default();
    let is_term = |term: &String| (1..=MAX_TERM_CHARS).contains(&term.chars().count());
    if !filter.error.as_ref().is_none_or(is_term) {
        faults.add("/error", format!("must have 1 to {MAX_TERM_CHARS} characters"));
    }
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && until < since
    {
        faults.add("/until", "must not be before `since`");
    }
    faults.into_result()
}

/// The log record with this id. Errors: `NotFound`.
pub async fn get(control: &Control, tenant: Tenant, id: &str) -> Result<UsageRecord, ControlError> {
    let found = stored::get(control.store(), id).await?.filter(|record| tenant.reaches(record.master_id));
    found.ok_or_else(|| ControlError::not_found("log record", id))
}

/// Whether this clock can tell that records are of a time to come. Where all that are handed in are, and the log has such
/// records too, it is this clock that is behind: to reject them would lose them.
async fn check_clock(
    control: &Control,
    now: DateTime<Utc>,
    mut times: impl Iterator<Item = Option<DateTime<Utc>>> + Send,
) -> Result<(), ControlError> {
    let is_ahead = |time: DateTime<Utc>| time > now + AHEAD;
    let Some(Some(first)) = times.next() else { return Ok(()) };
    if !is_ahead(first) || !times.all(|time| time.is_some_and(is_ahead)) {
        return Ok(());
    }
    drop(times);
    let newest = stored::newest_at(control.store()).await?.filter(|newest| is_ahead(*newest));
    let Some(newest) = newest else { return Ok(()) };
    let message = format!(
        "the clock of this control plane is behind: it says {}, and the newest usage record here is of {}; set it, and hand \
         the records in again",
        now.to_rfc3339_opts(SecondsFormat::Secs, true),
        newest.to_rfc3339_opts(SecondsFormat::Secs, true),
    );
    tracing::error!("{message}");
    Err(ControlError::Busy { message, retry_after: CLOCK_RETRY })
}

/// Id of a record that is rejected, and why.
type Fault = (String, String);

async fn take(
    control: &Control,
    records: Vec<Result<UsageRecord, Fault>>,
    bodies: Vec<LogBody>,
) -> Result<IngestReport, ControlError> {
    let (mut good, mut places) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
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
    ingestion::count("rejected", report.rejected.len());
    for (index, outcome) in places.into_iter().zip(ingestion::store(control, Handed { records: good, bodies }).await?) {
        match outcome {
            Outcome::New => report.accepted += 1,
            Outcome::Known => report.duplicates += 1,
            Outcome::Refused { id, reason } => report.rejected.push(rejected(index, (id, reason))),
        }
    }
    if !report.rejected.is_empty() {
        tracing::warn!(rejected = report.rejected.len(), "usage records were rejected");
    }
    Ok(report)
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

fn checked(record: UsageRecord, now: DateTime<Utc>) -> Result<UsageRecord, Fault> {
    let is_id = |text: &str| text.len() <= MAX_ID_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic());
    let reason = if record.id.is_empty() || !is_id(&record.id) {
        "`id` must be 1 to 128 visible ASCII characters"
    } else if !is_id(&record.request_id) {
        "`request_id` must be at most 128 visible ASCII characters"
    } else if !(100..=599).contains(&record.status) {
        "`status` must be an HTTP status"
    } else if record.created_at.timestamp() < EARLIEST {
        "`created_at` must not be before 2020: set the gateway's clock"
    } else if record.created_at > now + AHEAD {
        "`created_at` must not be more than 2 days ahead: set the gateway's clock"
    } else {
        return Ok(record);
    };
    Err((record.id, reason.to_owned()))
}
