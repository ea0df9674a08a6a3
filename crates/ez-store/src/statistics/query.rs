//! Reading statistics: one snapshot of the database, a statement for sums and one for latencies.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult};

use crate::error::{Doing, on};
use crate::executor::Runs;
use crate::logs::retention::days_dropped;
use crate::rollups::{DAY, Grain, HOUR, Kept, NAMES, Sums, floor_to, kept};
use crate::{Store, StoreError, StoreTx};

use super::figures::Histogram;
use super::period::{Grains, Period, divide};
use super::source::{Source, Sql};
use super::{Figures, Grouping, Item, ItemKey, Question, Statistics, StatisticsFilter};

const TABLE: &str = "rollups";

/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;

/// How often a question is asked at most, where days are dropped while it is read.
const MAX_TRIES: usize = 3;

/// Of one key of an item, by number or text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RowKey {
    Number(i64),
    Text(String),
}

/// What a master's calls of a day add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MasterDay {
    /// The master.
    pub master_id: i64,
    /// Its calls.
    pub requests: u64,
    /// Input and output tokens of these.
    pub tokens: u64,
}

/// Answers a question. Neither rolling up nor ingestion meanwhile makes it miss a record or count one twice.
///
/// Errors: `Unavailable` also where days of records are dropped one after the other, or where it takes longer than it may
/// ([`StoreError::took_too_long`]).
pub async fn read(store: &Store, question: &Question) -> Result<Statistics, StoreError> {
    for _ in 0..MAX_TRIES {
        let (tx, dropped) = begin(store).await?;
        let answer = read_in(&tx, question, &kept(&tx).await?).await?;
        tx.commit().await?;
        if days_dropped(store).await? == dropped {
            return Ok(answer);
        }
    }
    Err(disturbed())
}

/// What the calls of each master add up to that arrived on the UTC day of `day`, by id.
pub async fn master_days(store: &Store, day: DateTime<Utc>) -> Result<Vec<MasterDay>, StoreError> {
    let begin = floor_to(day.timestamp_micros(), DAY);
    let begin = DateTime::from_timestamp_micros(begin).unwrap_or(day);
    let question = Question {
        by: Grouping::Master,
        filter: StatisticsFilter::default(),
        since: Some(begin),
        until: Some(begin + TimeDelta::days(1)),
        limit: usize::MAX,
        percentiles: false,
    };
    let sums = sums_of(store, &question).await?;
    let day = |(key, sums): (RowKey, Sums)| {
        let figures = Figures::new(&sums, None);
        let RowKey::Number(master_id) = key else { return None };
        let tokens = figures.input_tokens.saturating_add(figures.output_tokens);
        Some(MasterDay { master_id, requests: figures.requests, tokens })
    };
    let mut days: Vec<MasterDay> = sums.into_iter().filter_map(day).collect();
    days.sort_unstable_by_key(|day| day.master_id);
    Ok(days)
}

/// All sums of a question.
async fn sums_of(store: &Store, question: &Question) -> Result<Vec<(RowKey, Sums)>, StoreError> {
    for _ in 0..MAX_TRIES {
        let (tx, dropped) = begin(store).await?;
        let period = period(question, &kept(&tx).await?);
        let sums = sums(&tx, &Source::new(question, &period, tx.dialect()), None).await?;
        tx.commit().await?;
        if days_dropped(store).await? == dropped {
            return Ok(sums);
        }
    }
    Err(disturbed())
}

/// A snapshot to read from, and how many days were dropped by then: PostgreSQL drops the records of a day for who reads an
/// older snapshot, too.
async fn begin(store: &Store) -> Result<(StoreTx, Option<String>), StoreError> {
    let tx = store.snapshot().await?;
    if tx.dialect() == DbBackend::Postgres {
        // Compiling a statement takes longer than running it.
        let bounds = format!(
            "SET LOCAL jit = off; SET LOCAL statement_timeout = {}",
            std::cmp::max(store.question_timeout().as_millis(), 1)
        );
        tx.transaction().execute_unprepared(&bounds).await.map_err(on(TABLE, Doing::Read))?;
    }
    let dropped = days_dropped(&tx).await?;
    Ok((tx, dropped))
}

fn disturbed() -> StoreError {
    StoreError::Unavailable(DbErr::Custom("days of log records were dropped while they were read".to_owned()))
}

async fn read_in(tx: &StoreTx, question: &Question, kept: &Kept) -> Result<Statistics, StoreError> {
    let period = period(question, kept);
    let source = Source::new(question, &period, tx.dialect());
    let is_time = question.by.is_time();
    let limit = (!is_time).then(|| question.limit.saturating_add(1));
    let mut found = sums(tx, &source, limit).await?;
    let mut is_truncated = found.len() > question.limit;
    let mut wanted = None;
    if !is_time && is_truncated {
        found.truncate(question.limit);
        wanted = Some(found.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
    }
    let latencies = match has_latencies(question) {
        true => histograms(tx, &source, wanted.as_deref()).await?,
        false => Vec::new(),
    };
    let mut items = match is_time {
        true => in_stretches(question.by, found, latencies),
        false => side_by_side(question.by, found, latencies),
    };
    if is_time {
        is_truncated = items.len() > question.limit;
        items.drain(..items.len().saturating_sub(question.limit));
    }
    let time = |at: i64| DateTime::from_timestamp_micros(at).filter(|_| at != i64::MIN && at != i64::MAX);
    Ok(Statistics { since: time(period.covered.start), until: time(period.covered.end), items, is_truncated })
}

/// How the stretch of time of a question is read.
pub(super) fn period(question: &Question, kept: &Kept) -> Period {
    let asked = question.range();
    let Some(facet) = question.facet() else {
        let start = std::cmp::max(asked.start, kept.records);
        return Period::of_records(start..std::cmp::max(start, asked.end));
    };
    let finest = if facet.has_hours { Grain::Hour } else { Grain::Day };
    let (coarsest, kept) = match question.by {
        Grouping::Hour => (Grain::Hour, Kept { rollups: std::cmp::max(kept.rollups, kept.hours), ..*kept }),
        Grouping::Day => (Grain::Day, *kept),
        _ => (Grain::Month, *kept),
    };
    divide(asked, Grains { finest, coarsest }, &kept)
}

/// Whether latencies are wanted and known: of records always, of roll-ups where the facet keeps them.
fn has_latencies(question: &Question) -> bool {
    question.percentiles && question.facet().is_none_or(|facet| facet.has_latencies)
}

/// Sums by key, those of most requests first.
async fn sums(tx: &StoreTx, source: &Source<'_>, limit: Option<usize>) -> Result<Vec<(RowKey, Sums)>, StoreError> {
    let mut sql = Sql::new(tx.dialect());
    let sums = NAMES.map(|name| format!("CAST(SUM({name}) AS bigint) AS {name}")).join(", ");
    sql.push(&format!("SELECT k, {sums} FROM ("));
    source.sums(&mut sql);
    sql.push(") AS parts GROUP BY k ORDER BY 2 DESC, 1");
    if let Some(limit) = limit {
        sql.push(" LIMIT ");
        sql.bind(i64::try_from(limit).unwrap_or(i64::MAX));
    }
    let rows = tx.transaction().query_all_raw(sql.into_statement()).await;
    let row = |row: &QueryResult| {
        let mut sums = Sums::default();
        for (place, sum) in (1..).zip(&mut sums.0) {
            *sum = row.try_get_by_index(place)?;
        }
        Ok((source.key_of(row)?, sums))
    };
    rows.and_then(|rows| rows.iter().map(row).collect()).map_err(on(TABLE, Doing::Read))
}

/// Counts by key and bin, of these keys alone where they are given.
async fn histograms(
    tx: &StoreTx,
    source: &Source<'_>,
    wanted: Option<&[RowKey]>,
) -> Result<Vec<(RowKey, i64, i64)>, StoreError> {
    let mut sql = Sql::new(tx.dialect());
    sql.push("SELECT k, bin, CAST(SUM(requests) AS bigint) FROM (");
    source.latencies(&mut sql);
    sql.push(") AS parts");
    if let Some(keys) = wanted {
        sql.push(" WHERE k IN (");
        sql.bind_all(keys.iter().map(|key| match key {
            RowKey::Number(number) => Value::from(*number),
            RowKey::Text(text) => Value::from(text.as_str()),
        }));
        sql.push(")");
    }
    sql.push(" GROUP BY k, bin");
    let rows = tx.transaction().query_all_raw(sql.into_statement()).await;
    let row = |row: &QueryResult| -> Result<_, DbErr> {
        Ok((source.key_of(row)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?))
    };
    rows.and_then(|rows| rows.iter().map(row).collect()).map_err(on(TABLE, Doing::Read))
}

/// Items of things: in the order that they were found in.
fn side_by_side(by: Grouping, found: Vec<(RowKey, Sums)>, latencies: Vec<(RowKey, i64, i64)>) -> Vec<Item> {
    let mut histograms: BTreeMap<RowKey, Histogram> = BTreeMap::new();
    for (key, bin, count) in latencies {
        *histograms.entry(key).or_default().entry(bin).or_default() += count;
    }
    let item = |(key, sums): (RowKey, Sums)| {
        let figures = Figures::new(&sums, histograms.get(&key));
        let key = match key {
            RowKey::Text(model) => ItemKey::Model(model),
            RowKey::Number(0) if by != Grouping::Master && by != Grouping::Key => ItemKey::None,
            RowKey::Number(id) => ItemKey::Id(id),
        };
        Item { key, figures }
    };
    found.into_iter().map(item).collect()
}

/// Items of stretches of time, put together of what was found of shorter ones, earliest first.
fn in_stretches(by: Grouping, found: Vec<(RowKey, Sums)>, latencies: Vec<(RowKey, i64, i64)>) -> Vec<Item> {
    let mut stretches: BTreeMap<i64, (Sums, Histogram)> = BTreeMap::new();
    for (key, sums) in found {
        stretches.entry(stretch_of(by, &key)).or_default().0.add(&sums);
    }
    for (key, bin, count) in latencies {
        *stretches.entry(stretch_of(by, &key)).or_default().1.entry(bin).or_default() += count;
    }
    let item = |(at, (sums, histogram)): (i64, (Sums, Histogram))| {
        let at = DateTime::from_timestamp_micros(at)?;
        Some(Item { key: ItemKey::At(at), figures: Figures::new(&sums, Some(&histogram)) })
    };
    stretches.into_iter().filter_map(item).collect()
}

fn stretch_of(by: Grouping, key: &RowKey) -> i64 {
    let RowKey::Number(at) = key else { return 0 };
    match by {
        Grouping::Minute => floor_to(*at, MINUTE),
        Grouping::Hour => floor_to(*at, HOUR),
        Grouping::Day => Grain::Day.floor(*at),
        _ => Grain::Month.floor(*at),
    }
}
