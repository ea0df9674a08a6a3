//! Logs: usage records at rest.

mod row;

use std::collections::HashSet;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use sea_orm::sea_query::{Expr, ExprTrait, Func, OnConflict};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use crate::error::{Doing, on};
use crate::stored::Stored;
use crate::{Executor, Store, StoreError, StoreTx, usage};

use row::{Column, Entity};

const TABLE: &str = "logs";

/// Most rows of an INSERT: with 30 columns each, 7,680 bound values, below SQLite's 32,766 and PostgreSQL's 65,535.
const ROWS_PER_INSERT: usize = 256;

/// Which log records to list.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Only those of this master; a master's own requests must set it.
    pub master_id: Option<i64>,
    /// Only those of this child key.
    pub key_id: Option<i64>,
    /// Only those whose last attempt went to this provider group.
    pub group_id: Option<i64>,
    /// Only those whose last attempt used this API key.
    pub api_key_id: Option<i64>,
    /// Only those of this public model.
    pub model: Option<String>,
    /// Only those with an HTTP status in this range.
    pub status: Option<RangeInclusive<u16>>,
    /// Only those of this request.
    pub request_id: Option<String>,
    /// Only those that arrived at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that arrived before this time.
    pub until: Option<DateTime<Utc>>,
}

/// A place in the list of log records: right after the record with these values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCursor {
    /// When that record's call arrived.
    pub created_at: DateTime<Utc>,
    /// That record's id.
    pub id: String,
}

/// Stores usage records in one transaction, except those whose id is there already, and adds them up ([`crate::usage`]);
/// how many were new. Times are kept to the microsecond. All or none: on an error nothing was stored.
pub async fn ingest(store: &Store, records: &[UsageRecord]) -> Result<u64, StoreError> {
    // In the order of ids, so that two ingestions of overlapping batches wait for each other and never deadlock.
    let mut ordered: Vec<&UsageRecord> = records.iter().collect();
    ordered.sort_unstable_by(|a, b| a.id.cmp(&b.id));

    let tx = store.begin().await?;
    let mut inserted = HashSet::new();
    let mut left = ordered.as_slice();
    while !left.is_empty() {
        let (rows, after) = left.split_at(rows_of_next(left.len()));
        inserted.extend(insert(&tx, rows).await?);
        left = after;
    }
    let count = inserted.len() as u64;
    // A record that is in the batch twice counts once.
    let new: Vec<&UsageRecord> = ordered.into_iter().filter(|record| inserted.remove(&record.id)).collect();
    if !new.is_empty() {
        usage::add_up(&tx, &new).await?;
    }
    tx.commit().await?;
    Ok(count)
}

/// How many rows go into the next INSERT. Powers of two, so that there are few statements: each is prepared once, and kept by
/// the connection, where one of each length would take as long to prepare as to run, and a hundred of them much memory.
fn rows_of_next(left: usize) -> usize {
    std::cmp::min(left.checked_ilog2().map_or(0, |log| 1 << log), ROWS_PER_INSERT)
}

/// Stores the records whose id is not there yet; which these are.
async fn insert(tx: &StoreTx, records: &[&UsageRecord]) -> Result<Vec<String>, StoreError> {
    let rows = records.iter().map(|record| row::from_record(record));
    let keep = OnConflict::column(Column::Id).do_nothing().to_owned();
    let mut insert = Entity::insert_many(rows).on_conflict(keep).into_query();
    insert.returning_col(Column::Id);
    let stored = tx.transaction().query_all(&insert).await.map_err(on(TABLE, Doing::Write))?;
    stored.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>().map_err(on(TABLE, Doing::Read))
}

/// The log record with this id.
pub async fn get(db: &impl Executor, id: &str) -> Result<Option<UsageRecord>, StoreError> {
    let found = Entity::find_by_id(id).one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    found.map(row::into_record).transpose()
}

/// Up to `limit` log records, newest first, that come after `cursor` where one is given. The table is never counted:
/// with the first page of any master, key, request or of all it costs what it returns.
pub async fn list(
    db: &impl Executor,
    filter: &LogFilter,
    cursor: Option<&LogCursor>,
    limit: u64,
) -> Result<Vec<UsageRecord>, StoreError> {
    let rows = Entity::find()
        .filter(condition(filter))
        .filter(Condition::all().add_option(cursor.map(is_after)))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(limit)
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    rows.into_iter().map(row::into_record).collect()
}

/// Tokens, input and output, of the calls of a child key that arrived at this time or later.
pub async fn tokens_since(db: &impl Executor, key_id: i64, since: DateTime<Utc>) -> Result<u64, StoreError> {
    // As floats, exact up to 2^53: a senseless count must not make the sum an error.
    let tokens = |column: Column| {
        let tokens = Expr::col(column).cast_as("double precision");
        Expr::from(Func::coalesce([tokens, Expr::val(0.0_f64)]))
    };
    let both = tokens(Column::InputTokens).add(tokens(Column::OutputTokens));
    let sum: Option<Option<f64>> = Entity::find()
        .select_only()
        .column_as(both.sum(), "tokens")
        .filter(Column::KeyId.eq(key_id))
        .filter(Column::CreatedAt.gte(since.store()))
        .into_tuple()
        .one(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    Ok(sum.flatten().unwrap_or_default() as u64)
}

fn condition(filter: &LogFilter) -> Condition {
    Condition::all()
        .add_option(filter.master_id.map(|id| Column::MasterId.eq(id)))
        .add_option(filter.key_id.map(|id| Column::KeyId.eq(id)))
        .add_option(filter.group_id.map(|id| Column::GroupId.eq(id)))
        .add_option(filter.api_key_id.map(|id| Column::ApiKeyId.eq(id)))
        .add_option(filter.model.as_ref().map(|model| Column::Model.eq(model.as_str())))
        .add_option(
            filter.status.as_ref().map(|range| Column::Status.between(range.start().store(), range.end().store())),
        )
        .add_option(filter.request_id.as_ref().map(|id| Column::RequestId.eq(id.as_str())))
        .add_option(filter.since.map(|since| Column::CreatedAt.gte(since.store())))
        .add_option(filter.until.map(|until| Column::CreatedAt.lt(until.store())))
}

/// Compares as a pair, which both databases answer from the index.
fn is_after(cursor: &LogCursor) -> Expr {
    let place = Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
    place.lt(Expr::tuple([Expr::val(cursor.created_at.store()), Expr::val(cursor.id.as_str())]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn batches_of_any_length_need_few_statements() {
        let mut lengths = BTreeSet::new();
        for length in 0..2_000 {
            let mut left = length;
            while left > 0 {
                let rows = rows_of_next(left);
                lengths.insert(rows);
                left -= rows;
            }
        }
        assert_eq!(Vec::from_iter(lengths), [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    }
}
