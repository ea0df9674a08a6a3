//! Retention of log records: whole days go at once where the table has a part for each (PostgreSQL), others step by step,
//! each step a short transaction. A record whose batch is not rolled up yet never goes.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, Order, QueryFilter, QueryOrder,
    QuerySelect, Statement,
};

use crate::error::{Doing, is_lock_refused, on};
use crate::executor::Runs;
use crate::rollups::{DAY, LOGS_DROPPED_BEFORE, dropped_before};
use crate::stored::{Stored, load};
use crate::{Backend, Executor, Store, StoreError, StoreTx, settings};

use super::row::{Column, Entity};
use super::{LogCursor, TABLE};

/// How long a transaction that drops a day waits for each lock. As long as it waits for that of the whole table,
/// ingestion waits behind it.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '25ms'";

/// Setting: how many days were dropped so far.
const DAYS_DROPPED: &str = "log_days_dropped";

/// What the tables of days are called, before their date.
const OF_DAY: &str = "logs_";

/// What a table of a day is called once it is none of the log any more.
const GONE: &str = "logs_gone_";

/// A day whose records have a table of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogDay {
    /// Its first microsecond since 1970.
    from: i64,
    /// Its table.
    table: String,
}

/// What became of an attempt to drop a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayDrop {
    /// It is gone, with about so many records.
    Dropped(u64),
    /// Another process was first. Nothing changed.
    Gone,
    /// Others are at the table, and did not make way within the lock timeout. Nothing changed.
    Busy,
    /// Some of its records may not be rolled up yet. Nothing changed.
    Standing,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Records that went.
    pub deleted: u64,
    /// The last record that it looked at; none where there was none left.
    pub end: Option<LogCursor>,
    /// How long its transaction took. On SQLite all other writes wait for as long.
    pub held: Duration,
}

/// The oldest records that a step takes.
#[derive(Debug, Clone)]
pub struct Oldest {
    /// The step begins behind this one, or at `since`.
    pub after: Option<LogCursor>,
    /// It begins at this time at the earliest.
    pub since: Option<DateTime<Utc>>,
    /// It ends before this time.
    pub before: DateTime<Utc>,
    /// It looks at so many records at most.
    pub records: u64,
}

/// When the oldest of the newest `most` records arrived; none where there are not more than that.
pub async fn oldest_of_newest(db: &impl Executor, most: u64) -> Result<Option<DateTime<Utc>>, StoreError> {
    // Two neighbours in the index: the last that stays, and the first beyond.
    let query = Entity::find().select_only().column(Column::CreatedAt);
    let times: Vec<i64> = query
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .offset(most.saturating_sub(1))
        .limit(2)
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    match times.as_slice() {
        [oldest, _beyond, ..] => load(TABLE, "created_at", &"?", *oldest).map(Some),
        _ => Ok(None),
    }
}

/// How many records arrived before this time, counted up to `most`.
pub async fn count_before(db: &impl Executor, before: DateTime<Utc>, most: u64) -> Result<u64, StoreError> {
    let query = Entity::find().select_only().column(Column::CreatedAt).filter(Column::CreatedAt.lt(before.store()));
    let found: Vec<i64> = query.limit(most).into_tuple().all(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    Ok(found.len() as u64)
}

/// What rises with each day that is dropped, which whoever reads an older snapshot of the database does not see any more.
/// None on SQLite, where a snapshot keeps what it began with.
pub(crate) async fn days_dropped(db: &impl Executor) -> Result<Option<String>, StoreError> {
    if db.dialect() == DbBackend::Postgres { settings::get(db, DAYS_DROPPED).await } else { Ok(None) }
}

/// The days that are over by this time and have tables of their own, oldest first; none on SQLite.
pub async fn list_days_before(store: &Store, before: DateTime<Utc>) -> Result<Vec<LogDay>, StoreError> {
    if store.backend() != Backend::Postgres {
        return Ok(Vec::new());
    }
    let tables = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                  WHERE i.inhparent = 'logs'::regclass";
    let mut days: Vec<LogDay> = names(store, tables).await?.into_iter().filter_map(LogDay::of).collect();
    days.retain(|day| day.from + DAY <= before.store());
    days.sort();
    Ok(days)
}

/// The time from which on records before `before` go step by step: the days before that have tables of their own.
pub fn first_of_steps(store: &Store, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let day = before.date_naive().and_time(NaiveTime::MIN).and_utc();
    (store.backend() == Backend::Postgres).then_some(day)
}

/// Drops a day with all its records. It holds up ingestion for no longer than its lock timeout and a few milliseconds: what
/// takes time, to remove the files, comes after the locks. May be run by several at once; one gets through.
pub async fn drop_day(store: &Store, day: &LogDay) -> Result<DayDrop, StoreError> {
    let tx = store.begin().await?;
    let outcome = match detach(&tx, day).await {
        Ok(DayDrop::Dropped(records)) => {
            tx.commit().await?;
            drop_gone(store).await?;
            return Ok(DayDrop::Dropped(records));
        }
        Ok(outcome) => Ok(outcome),
        Err(Refused::Lock) => Ok(DayDrop::Busy),
        Err(Refused::Other(error)) => Err(error),
    };
    // At once, so that nobody waits behind its locks any longer.
    tx.rollback().await?;
    outcome
}

/// Removes the tables of days that are none of the log any more: whoever dropped them may have died in between.
pub async fn drop_gone(store: &Store) -> Result<(), StoreError> {
    if store.backend() != Backend::Postgres {
        return Ok(());
    }
    let tables = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND starts_with(relname, 'logs_gone_') \
                  AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'logs'::regclass)";
    for table in names(store, tables).await? {
        if table.strip_prefix(GONE).and_then(date).is_some() {
            let tx = store.begin().await?;
            run(&tx, format!("DROP TABLE IF EXISTS {table}")).await.map_err(on(TABLE, Doing::Delete))?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Deletes the oldest records, except those whose batch is not rolled up yet, in one transaction.
pub async fn delete_step(store: &Store, oldest: &Oldest) -> Result<Step, StoreError> {
    let Some(end) = end_of_step(store, oldest).await? else {
        return Ok(Step { deleted: 0, end: None, held: Duration::ZERO });
    };
    let tx = store.begin().await?;
    let begun = Instant::now();
    let standing = Query::select().column("id").from("log_batches").to_owned();
    let outcome = Entity::delete_many()
        .filter(oldest.condition(Some(&end)))
        .filter(Column::BatchId.not_in_subquery(standing))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Delete))?;
    if outcome.rows_affected > 0 {
        note_dropped(&tx, end.created_at.store() + 1).await?;
    }
    tx.commit().await?;
    Ok(Step { deleted: outcome.rows_affected, end: Some(end), held: begun.elapsed() })
}

/// The last record of a step.
async fn end_of_step(store: &Store, oldest: &Oldest) -> Result<Option<LogCursor>, StoreError> {
    let query =
        Entity::find().select_only().column(Column::CreatedAt).column(Column::Id).filter(oldest.condition(None));
    let ordered = |order: Order| query.clone().order_by(Column::CreatedAt, order.clone()).order_by(Column::Id, order);
    let last_of_full = ordered(Order::Asc).offset(oldest.records.saturating_sub(1));
    // Where the step is not full, it ends with the newest.
    for query in [last_of_full, ordered(Order::Desc)] {
        let found = query.limit(1).into_tuple::<(i64, String)>().one(&store.executor()).await;
        if let Some((at, id)) = found.map_err(on(TABLE, Doing::Read))? {
            return Ok(Some(LogCursor { created_at: load(TABLE, "created_at", &id, at)?, id }));
        }
    }
    Ok(None)
}

/// Why a day cannot be dropped.
enum Refused {
    /// A lock was not to be had in time.
    Lock,
    Other(StoreError),
}

impl From<DbErr> for Refused {
    fn from(error: DbErr) -> Self {
        if is_lock_refused(&error) { Self::Lock } else { Self::Other(on(TABLE, Doing::Delete)(error)) }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Backend(error) | StoreError::Unavailable(error) => error.into(),
            other => Self::Other(other),
        }
    }
}

/// Takes a day out of the log. The lock of the whole table comes last: from then on ingestion waits. Late records of the
/// day wait from the second on, so that none slips in between the look at the batches and the end.
async fn detach(tx: &StoreTx, day: &LogDay) -> Result<DayDrop, Refused> {
    let LogDay { from, table } = day;
    run(tx, LOCK_TIMEOUT.to_owned()).await?;
    note_dropped(tx, from + DAY).await?;
    if number(tx, format!("SELECT count(*) FROM pg_inherits WHERE inhrelid = to_regclass('{table}')")).await? == 0 {
        return Ok(DayDrop::Gone);
    }
    run(tx, format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await?;
    let standing = format!("SELECT count(*) FROM log_batches WHERE last_at >= {from} AND first_at < {}", from + DAY);
    if number(tx, standing).await? > 0 {
        return Ok(DayDrop::Standing);
    }
    let records = number(tx, format!("SELECT pg_stat_get_live_tuples('{table}'::regclass)")).await?;
    run(tx, "LOCK TABLE ONLY logs IN ACCESS EXCLUSIVE MODE".to_owned()).await?;
    run(tx, format!("ALTER TABLE logs DETACH PARTITION {table}")).await?;
    count_drop(tx).await?;
    let date = table.trim_start_matches(OF_DAY);
    run(tx, format!("ALTER TABLE {table} RENAME TO {GONE}{date}")).await?;
    Ok(DayDrop::Dropped(u64::try_from(records).unwrap_or(0)))
}

/// Notes that records before this time are gone.
async fn note_dropped(tx: &StoreTx, before: i64) -> Result<(), StoreError> {
    settings::put_if_absent(tx, LOGS_DROPPED_BEFORE, &before.to_string()).await?;
    settings::get_for_update(tx, LOGS_DROPPED_BEFORE).await?;
    if dropped_before(tx, LOGS_DROPPED_BEFORE).await? < before {
        settings::put(tx, LOGS_DROPPED_BEFORE, &before.to_string()).await?;
    }
    Ok(())
}

/// Counts the drop of a day. One after the other, as each holds the note of what is dropped.
async fn count_drop(tx: &StoreTx) -> Result<(), StoreError> {
    let counted =
        settings::get(tx, DAYS_DROPPED).await?.and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
    settings::put(tx, DAYS_DROPPED, &counted.wrapping_add(1).to_string()).await
}

async fn run(tx: &StoreTx, statement: String) -> Result<(), DbErr> {
    tx.transaction().execute_raw(Statement::from_string(DbBackend::Postgres, statement)).await?;
    Ok(())
}

async fn number(tx: &StoreTx, query: String) -> Result<i64, DbErr> {
    match tx.transaction().query_one_raw(Statement::from_string(DbBackend::Postgres, query)).await? {
        Some(row) => row.try_get_by_index(0),
        None => Ok(0),
    }
}

async fn names(store: &Store, query: &str) -> Result<Vec<String>, StoreError> {
    let rows = store.executor().query_all_raw(Statement::from_string(DbBackend::Postgres, query)).await;
    let rows = rows.map_err(on(TABLE, Doing::Read))?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>().map_err(on(TABLE, Doing::Read))
}

/// The day of eight digits.
fn date(digits: &str) -> Option<NaiveDate> {
    let is_date = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_date.then(|| NaiveDate::parse_from_str(digits, "%Y%m%d").ok()).flatten()
}

impl fmt::Display for LogDay {
    /// The name of its table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.table)
    }
}

impl LogDay {
    fn of(table: String) -> Option<Self> {
        let from = date(table.strip_prefix(OF_DAY)?)?.and_time(NaiveTime::MIN).and_utc().store();
        Some(Self { from, table })
    }
}

impl Oldest {
    /// The records of the step; those up to `end` where it is known.
    fn condition(&self, end: Option<&LogCursor>) -> Condition {
        let place = || Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
        let values = |at: &LogCursor| Expr::tuple([Expr::val(at.created_at.store()), Expr::val(at.id.as_str())]);
        // Pairs do not tell PostgreSQL which days they are of. SQLite takes one upper bound for the index, which must not be
        // the end of all steps.
        let (from, to) =
            (self.after.as_ref().map(|after| after.created_at).or(self.since), end.map(|end| end.created_at));
        Condition::all()
            .add_option(self.after.as_ref().map(|after| place().gt(values(after))))
            .add_option(end.map(|end| place().lte(values(end))))
            .add_option(from.map(|from| Column::CreatedAt.gte(from.store())))
            .add_option(to.map(|to| Column::CreatedAt.lte(to.store())))
            .add_option(end.is_none().then(|| Column::CreatedAt.lt(self.before.store())))
    }
}
