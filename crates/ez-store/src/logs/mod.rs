//! Logs: usage records at rest.

pub mod failing;

mod batches;
mod cost;
mod insert;
mod latency;
mod listing;
mod partitions;
pub mod retention;
mod row;

pub mod figures;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::log_bodies::{self, LogBody};
use crate::stored::{Stored, load};
use crate::{Executor, Store, StoreError, usage};

use row::{Column, Entity};

pub use listing::{LogCursor, LogFilter, LogPage, MAX_EXAMINED, list};

pub(crate) use cost::{CostParts, sum_text as cost_text};
pub(crate) use latency::{bin_of as latency_bin_of, middle_of as latency_middle_of};
pub(crate) use partitions::{KnownDays, statements as partition_statements};

const TABLE: &str = "logs";

/// The condition of the index of failing records, in the words of the schema: neither database sees that anything else
/// implies it. A record of a call that ended in any other way than complete has an error, or a status of a failure, or both.
const IS_FAILING: &str = "(status >= 400 OR error IS NOT NULL)";

/// Stores usage records in one transaction, except those whose id is there already, with the request bodies of some of them,
/// and adds them up ([`crate::usage`]). Tells of each record whether it was new; of those with one id the first may be. Times
/// are kept to the microsecond. All or none: on an error nothing was stored.
pub async fn ingest_with_bodies(
    store: &Store,
    records: &[UsageRecord],
    bodies: &[LogBody],
) -> Result<Vec<bool>, StoreError> {
    // In the order of ids, so that two ingestions of overlapping batches wait for each other and never deadlock.
    let mut ordered: Vec<(usize, &UsageRecord)> = records.iter().enumerate().collect();
    ordered.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    let (places, ordered): (Vec<usize>, Vec<&UsageRecord>) = ordered.into_iter().unzip();
    let stored = match store_ordered(store, &ordered, bodies).await {
        // Retention dropped a day's table since this process saw it.
        Err(error) if error.misses_partition() => {
            store.known_days().forget();
            store_ordered(store, &ordered, bodies).await?
        }
        stored => stored?,
    };
    let mut are_new = vec![false; records.len()];
    for (place, is_new) in places.into_iter().zip(stored) {
        if let Some(told) = are_new.get_mut(place) {
            *told = is_new;
        }
    }
    Ok(are_new)
}

/// Tells of each record, in the order of ids, whether it was new.
async fn store_ordered(store: &Store, ordered: &[&UsageRecord], bodies: &[LogBody]) -> Result<Vec<bool>, StoreError> {
    let times = || ordered.iter().map(|record| record.created_at);
    let (Some(first), Some(last)) = (times().min(), times().max()) else { return Ok(Vec::new()) };
    partitions::ensure(store, times().map(|time| time.store())).await?;
    let tx = store.begin().await?;
    let batch_id = batches::create(&tx, first, last).await?;
    let mut inserted = insert::insert(&tx, ordered, batch_id).await?;
    // A record that is in the batch twice counts once.
    let are_new: Vec<bool> = ordered.iter().map(|record| inserted.remove(&record.id)).collect();
    let new: Vec<&UsageRecord> = ordered.iter().zip(&are_new).filter(|(_, is_new)| **is_new).map(|(r, _)| *r).collect();
    if !new.is_empty() {
        usage::add_up(&tx, &new).await?;
        log_bodies::insert(&tx, &of_these(bodies, &new)).await?;
        tx.commit().await?;
    }
    Ok(are_new)
}

/// The bodies of these records.
fn of_these<'b>(bodies: &'b [LogBody], records: &[&UsageRecord]) -> Vec<&'b LogBody> {
    if bodies.is_empty() {
        return Vec::new();
    }
    let ids: HashSet<&str> = records.iter().map(|record| record.id.as_str()).collect();
    bodies.iter().filter(|body| ids.contains(body.log_id.as_str())).collect()
}

/// When the newest record arrived; none where there is none.
pub async fn newest_at(db: &impl Executor) -> Result<Option<DateTime<Utc>>, StoreError> {
    let query = Entity::find().select_only().column(Column::CreatedAt);
    let newest: Option<i64> = query
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(1)
        .into_tuple()
        .one(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    newest.map(|at| load(TABLE, "created_at", &"?", at)).transpose()
}

/// The log record with this id.
pub async fn get(db: &impl Executor, id: &str) -> Result<Option<UsageRecord>, StoreError> {
    let found = Entity::find_by_id(id).one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    found.map(row::into_record).transpose()
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
