//! The log cleaner: log records go once they are older than is kept, more than are kept, or were deleted; roll-ups by their
//! age. Ingestion never waits long for it: whole days go at once where the database has a part for each, the others in short
//! steps with pauses.

use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, Utc};
use ez_store::logs::retention::{self as stored, DayDrop, LogDay, Oldest};
use ez_store::rollups::{self, Aged};
use ez_store::{RecordKind, StoreError, log_bodies, settings};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use crate::recorded::Recorded;
use crate::write::NO_RECORD;
use crate::{Control, ControlError, Write};

/// How long a run goes on at most; the next one goes on from there.
const LONGEST: Duration = Duration::from_secs(8 * 60);

/// How long a step may hold the one connection of SQLite that writes, as long as its size is right.
const HELD: Duration = Duration::from_millis(20);

/// How many a step takes: the first, and any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    first: u64,
    least: u64,
    largest: u64,
}

const OF_RECORDS: Steps = Steps { first: 100, least: 10, largest: 5_000 };

/// Request bodies are as large as they may be, and each page that one frees is written to SQLite's log: about 0.4 ms for 64
/// KiB. So a step has a bound by what its bodies can add up to: those before it may all have been small.
const LARGEST_STEP_BYTES: usize = 4 << 20;
/// Bodies that were kept by an earlier setting are not taken to be smaller than this, bytes.
const LEAST_LARGEST_BODY: usize = 64 << 10;

/// Records that arrived since so long ago stay, whatever else is asked for: their gateways may hand them in again, and only by
/// the record that stands is it known that they count already.
const SETTLING: TimeDelta = TimeDelta::hours(1);

/// Days that roll-ups of hours are kept. They are most of all roll-ups, and hours are told of 31 days at most.
const DAYS_OF_HOURS: u64 = 62;

/// Pauses between steps are as long as those, within these bounds: whoever waits to write gets its turn.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How often a day is tried that others are at, and how long the first pause between tries is; then twice that, and so on.
const TRIES: u32 = 10;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// The setting that holds up to when log records were deleted, in microseconds since 1970. It only rises.
const DELETED_BEFORE: &str = "logs_deleted_before";

/// Records that an answer to a deletion counts at most.
const MAX_COUNTED: u64 = 10_000;

/// How long log records are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRetention {
    /// Days (`EZ_LOG_RETENTION_DAYS`); none keeps them whatever their age.
    pub days: Option<u64>,
    /// Records (`EZ_LOG_MAX_RECORDS`); none keeps them however many there are.
    pub max_records: Option<u64>,
    /// Days that roll-ups are kept (`EZ_ROLLUP_RETENTION_DAYS`); none keeps them for ever.
    pub rollup_days: Option<u64>,
}

/// A deletion of log records that the cleaner carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogDeletion {
    /// Records that arrived before this time go.
    pub before: DateTime<Utc>,
    /// How many these are now, as far as they are counted.
    pub records: u64,
    /// Whether there are more than that.
    pub has_more: bool,
}

impl Default for LogRetention {
    fn default() -> Self {
        Self { days: Some(30), max_records: Some(1_000_000), rollup_days: Some(400) }
    }
}

impl Recorded for LogDeletion {
    const KIND: RecordKind = RecordKind::Log;

    fn id(&self) -> i64 {
        NO_RECORD
    }

    /// Nobody asks: a deletion is no record that changes.
    fn updated_at(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn audited(&self) -> Json {
        json!({ "before": self.before, "records": self.records, "has_more": self.has_more })
    }
}

/// Deletes the log records that arrived before this time: from the commit on the cleaner takes them, and those of that time
/// that still arrive; those of the last hour once it is over. Errors: `Invalid` for a time to come.
pub async fn delete_before(write: &Write, before: DateTime<Utc>) -> Result<LogDeletion, ControlError> {
    if before > write.now() {
        return Err(ControlError::invalid("/before", "must not be a time to come: give one that has passed"));
    }
    // The row is there before it is locked.
    let micros = before.timestamp_micros();
    settings::put_if_absent(write.tx(), DELETED_BEFORE, &micros.to_string()).await?;
    let standing = settings::get_for_update(write.tx(), DELETED_BEFORE).await?;
    if standing.and_then(|standing| standing.parse::<i64>().ok()).is_none_or(|standing| standing < micros) {
        settings::put(write.tx(), DELETED_BEFORE, &micros.to_string()).await?;
    }
    let counted = stored::count_before(write.tx(), before, MAX_COUNTED + 1).await?;
    let deletion = LogDeletion { before, records: counted.min(MAX_COUNTED), has_more: counted > MAX_COUNTED };
    write.record_use("delete", &deletion, deletion.audited()).await?;
    Ok(deletion)
}

/// Drops what is kept no longer, and returns how much: request bodies, log records, roll-ups. Replicas may run it at once: each
/// takes what the other has not. Errors: `Unavailable`; what went until then is gone.
pub async fn run_once(control: &Control) -> Result<u64, ControlError> {
    let deadline = Instant::now() + LONGEST;
    stored::drop_gone(control.store()).await?;
    let mut dropped = 0;
    if let Some(before) = kept_from(control).await? {
        dropped += drop_records(control, before, deadline).await?;
    }
    Ok(dropped + drop_rollups(control, deadline).await?)
}

/// Drops the log records of before this time, and the request bodies of that time; how many of both went.
async fn drop_records(control: &Control, before: DateTime<Utc>, deadline: Instant) -> Result<u64, ControlError> {
    let mut dropped = drop_bodies(control, before, deadline).await?;
    let days = stored::list_days_before(control.store(), before).await?;
    for day in days {
        dropped += drop_day(control, &day, deadline).await?;
    }
    Ok(dropped + delete_rest(control, before, deadline).await?)
}

/// The time before which records go; none where all are kept.
async fn kept_from(control: &Control) -> Result<Option<DateTime<Utc>>, ControlError> {
    let LogRetention { days, max_records, .. } = control.config().log_retention;
    let by_age = days.and_then(|days| control.now().checked_sub_days(Days::new(days)));
    let by_count = match max_records {
        Some(most) => stored::oldest_of_newest(control.store(), most).await?,
        None => None,
    };
    let deleted = settings::get(control.store(), DELETED_BEFORE).await?;
    let by_deletion = deleted.and_then(|micros| DateTime::from_timestamp_micros(micros.parse().ok()?));
    let before = [by_age, by_count, by_deletion].into_iter().flatten().max();
    // So a deletion that was made while the clock was ahead does not reach into the time to come either.
    Ok(before.map(|before| before.min(control.now() - SETTLING)))
}

/// Deletes request bodies in steps; how many went.
async fn drop_bodies(control: &Control, before: DateTime<Utc>, deadline: Instant) -> Result<u64, StoreError> {
    let steps = Steps::of_bodies(control.config().log_body_max_bytes);
    let (mut deleted, mut bodies) = (0, steps.first);
    while Instant::now() < deadline {
        let tx = control.store().begin().await?;
        let begun = Instant::now();
        let step = log_bodies::delete_before(&tx, before, bodies).await?;
        tx.commit().await?;
        deleted += step;
        if step < bodies {
            break;
        }
        let held = begun.elapsed();
        bodies = steps.next(bodies, held);
        sleep(held.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
    }
    Ok(deleted)
}

/// Drops a day, as soon as nobody is at its records; how many went. A day that others do not leave, or whose records are not
/// all rolled up, stays for the next run.
async fn drop_day(control: &Control, day: &LogDay, deadline: Instant) -> Result<u64, ControlError> {
    let mut pause = FIRST_RETRY;
    let mut is_standing = false;
    for _ in 0..TRIES {
        match stored::drop_day(control.store(), day).await? {
            DayDrop::Dropped(records) => return Ok(records),
            DayDrop::Gone => return Ok(0),
            DayDrop::Standing => {
                is_standing = true;
                break;
            }
            DayDrop::Busy if Instant::now() + pause > deadline => break,
            DayDrop::Busy => sleep(pause).await,
        }
        pause = (2 * pause).min(LAST_RETRY);
    }
    if is_standing {
        tracing::warn!(%day, "a day of log records is not rolled up yet and stays until the next run; look at the job rollups where this goes on");
    } else {
        tracing::warn!(%day, "a day of log records is in use and stays until the next run; end what holds its table (pg_locks) where this goes on");
    }
    Ok(0)
}

/// Deletes records in steps; how many went.
async fn delete_rest(control: &Control, before: DateTime<Utc>, deadline: Instant) -> Result<u64, StoreError> {
    let since = stored::first_of_steps(control.store(), before);
    let mut oldest = Oldest { after: None, since, before, records: OF_RECORDS.first };
    let mut deleted = 0;
    while Instant::now() < deadline {
        let step = stored::delete_step(control.store(), &oldest).await?;
        let Some(end) = step.end else { break };
        deleted += step.deleted;
        oldest = Oldest { after: Some(end), records: OF_RECORDS.next(oldest.records, step.held), ..oldest };
        sleep(step.held.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
    }
    Ok(deleted)
}

/// Drops roll-ups that are kept no longer; how many rows went.
async fn drop_rollups(control: &Control, deadline: Instant) -> Result<u64, StoreError> {
    let whole = control.config().log_retention.rollup_days.map(|days| (Aged::All, days));
    let mut dropped = 0;
    for (aged, days) in [Some((Aged::Hours, DAYS_OF_HOURS)), whole].into_iter().flatten() {
        if let Some(before) = control.now().checked_sub_days(Days::new(days)) {
            dropped += delete_rollups(control, aged, before, deadline).await?;
        }
    }
    Ok(dropped)
}

/// Deletes roll-ups in steps; how many rows went.
async fn delete_rollups(
    control: &Control,
    aged: Aged,
    before: DateTime<Utc>,
    deadline: Instant,
) -> Result<u64, StoreError> {
    let (mut deleted, mut rows) = (0, OF_RECORDS.first);
    while Instant::now() < deadline {
        let tx = control.store().begin().await?;
        let begun = Instant::now();
        let step = rollups::delete_before(&tx, aged, before, rows).await?;
        tx.commit().await?;
        deleted += step;
        if step < rows {
            break;
        }
        let held = begun.elapsed();
        rows = OF_RECORDS.next(rows, held);
        sleep(held.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
    }
    Ok(deleted)
}

impl Steps {
    /// Of request bodies that have at most so many bytes each.
    fn of_bodies(max_bytes: usize) -> Self {
        let largest = (LARGEST_STEP_BYTES / max_bytes.max(LEAST_LARGEST_BODY)).max(1) as u64;
        Self { first: largest.min(10), least: 1, largest }
    }

    /// How many the next step takes, after one of so many that took so long.
    fn next(self, taken: u64, held: Duration) -> u64 {
        let ratio = HELD.as_secs_f64() / held.as_secs_f64().max(0.001);
        // A hiccup of the disk is no measure: neither up nor down too far at once.
        let next = taken as f64 * ratio.clamp(0.25, 1.5);
        // One of few becomes more by at least one, where there is time for it.
        let next = if ratio >= 1.5 { next.ceil() } else { next };
        (next as u64).clamp(self.least, self.largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_become_as_large_as_their_time_allows() {
        let millis = Duration::from_millis;
        // Records and milliseconds of a step, records of the next.
        for (records, held, expected) in [
            (100, 20, 100),
            (100, 10, 150),
            (100, 0, 150),
            (100, 16, 125),
            (100, 40, 50),
            (100, 4_000, 25),
            (10, 4_000, 10),
            (4_000, 1, 5_000),
        ] {
            assert_eq!(OF_RECORDS.next(records, millis(held)), expected, "{records} records, {held} ms");
        }
    }
    #[test]
    fn steps_of_bodies_are_short_however_large_these_are() {
        for (max_bytes, first, largest) in [(0, 10, 64), (64 << 10, 10, 64), (256 << 10, 10, 16), (1 << 20, 4, 4)] {
            let steps = Steps::of_bodies(max_bytes);
            assert_eq!(steps, Steps { first, least: 1, largest }, "{max_bytes} bytes");
            // Small ones first, so that steps grow, and then the largest that there may be, at the pace of SQLite.
            let (mut bodies, quick) = (steps.first, Duration::from_millis(1));
            for _ in 0..20 {
                bodies = steps.next(bodies, quick);
            }
            assert_eq!(bodies, largest, "{max_bytes} bytes");
            let held = |bodies: u64| Duration::from_micros(400) * (bodies as u32 * max_bytes as u32 / (64 << 10));
            assert!(held(bodies) < Duration::from_millis(50), "{max_bytes} bytes: {:?}", held(bodies));
            for _ in 0..20 {
                bodies = steps.next(bodies, Duration::from_secs(1));
            }
            assert_eq!(bodies, 1, "{max_bytes} bytes");
        }
    }
}
