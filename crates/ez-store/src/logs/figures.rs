//! Figures: what log records of a window add up to, as alert rules want it. A call belongs to the window that it ended in, as
//! there is no record of it before. A record that a gateway hands in late is missing until it does.

use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::usage::EndedBy;
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, Order, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};

use super::row::{Column, Entity};
use super::{IS_FAILING, TABLE};
use crate::error::{Doing, on};
use crate::stored::{Stored, load};
use crate::{Executor, StoreError};

/// How long a call may have taken to count in the window that it ended in. A record's time is that of its arrival, and this
/// is how far before a window it is looked for; the same for all figures, so that parts and wholes are of the same calls.
pub const LONGEST_CALL: TimeDelta = TimeDelta::minutes(15);

/// What the error of a call begins with whose child key has used up its quota.
const USED_UP: &str = "insufficient_quota:";

/// Rows of a figure, those with the highest first: of more than these nobody is told anyway.
const MAX_ROWS: u64 = 10_000;

/// First status that is a failure.
const FIRST_FAILURE: i64 = 400;
/// First status that is a failure of the server's.
const FIRST_SERVER_FAILURE: i64 = 500;
/// The status of a call that an upstream limited.
const TOO_MANY: i64 = 429;

/// Calls of a child key, or of an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCounts {
    /// The key's id.
    pub id: i64,
    /// Calls.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// What a master does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MasterTraffic {
    /// The master's id.
    pub master_id: i64,
    /// Calls, refused ones included.
    pub calls: u64,
    /// Tokens, input and output.
    pub tokens: u64,
}

/// Calls of a child key that limits refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitedCalls {
    /// The key's master.
    pub master_id: i64,
    /// The key.
    pub key_id: i64,
    /// Calls.
    pub calls: u64,
    /// What one of them was told.
    pub error: Option<String>,
}

/// A window of time: calls that ended from its start on, and before its end.
pub type Window = Range<DateTime<Utc>>;

/// Calls of each child key that has as many as `min_calls`, and some that failed. A failure is what
/// [`ez_contract::UsageRecord::is_failure`] says.
pub async fn failures_by_key(
    db: &impl Executor,
    window: &Window,
    min_calls: u64,
) -> Result<Vec<CallCounts>, StoreError> {
    let failed =
        Condition::any().add(Column::Status.gte(FIRST_FAILURE)).add(Column::EndedBy.ne(EndedBy::Complete.store()));
    call_counts(db, within(window), Column::KeyId, failed, min_calls).await
}

/// Calls of each API key that has as many as `min_calls`, and some that failed: by the last attempt of each call, which is
/// the one that the client heard of.
///
/// Only calls that tell something of the API key are counted at all: those that ran to their end, and those that the
/// upstream ended. Of the latter a status of 4xx is a fault of the client's, which the upstream refused, and not counted
/// either; but 429, by which the upstream limits the API key, is a failure like 5xx and a stream that broke off.
pub async fn failures_by_api_key(
    db: &impl Executor,
    window: &Window,
    min_calls: u64,
) -> Result<Vec<CallCounts>, StoreError> {
    let is_clients = Condition::all()
        .add(Column::Status.gte(FIRST_FAILURE))
        .add(Column::Status.lt(FIRST_SERVER_FAILURE))
        .add(Column::Status.ne(TOO_MANY));
    let telling = within(window)
        .filter(Column::ApiKeyId.is_not_null())
        .filter(Column::EndedBy.is_in([EndedBy::Complete.store(), EndedBy::Upstream.store()]))
        .filter(is_clients.not());
    let failed = Condition::all().add(Column::EndedBy.eq(EndedBy::Upstream.store()));
    call_counts(db, telling, Column::ApiKeyId, failed, min_calls).await
}

/// How many calls ended.
pub async fn count(db: &impl Executor, window: &Window) -> Result<u64, StoreError> {
    within(window).count(&db.executor()).await.map_err(on(TABLE, Doing::Read))
}

/// Calls and tokens of each master, the busiest first.
pub async fn traffic_by_master(db: &impl Executor, window: &Window) -> Result<Vec<MasterTraffic>, StoreError> {
    let rows: Vec<(i64, i64, Option<f64>)> =
        traffic(window).into_tuple().all(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    let traffic = rows.into_iter().map(|(master_id, calls, tokens)| {
        let calls = load(TABLE, "calls", &"?", calls)?;
        Ok(MasterTraffic { master_id, calls, tokens: tokens.unwrap_or_default() as u64 })
    });
    traffic.collect()
}

fn traffic(window: &Window) -> Select<Entity> {
    // As floats, exact up to 2^53: a senseless count must not make the sum an error.
    let tokens = |column: Column| {
        let tokens = Expr::col(column).cast_as("double precision");
        Expr::from(Func::coalesce([tokens, Expr::val(0.0_f64)]))
    };
    let both = tokens(Column::InputTokens).add(tokens(Column::OutputTokens));
    let calls = || Expr::col(Column::Id).count();
    within(window)
        .select_only()
        .column(Column::MasterId)
        .expr_as(calls(), "calls")
        .expr_as(both.sum(), "tokens")
        .group_by(Column::MasterId)
        .order_by(calls(), Order::Desc)
        .limit(MAX_ROWS)
}

/// Calls that limits refused, of each child key, those with the most first. Without those of a quota that is used up: who
/// looks at quotas knows better.
pub async fn limited_calls(db: &impl Executor, window: &Window) -> Result<Vec<LimitedCalls>, StoreError> {
    let rows: Vec<(i64, i64, i64, Option<String>)> =
        limited(window).into_tuple().all(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    let limited = rows.into_iter().map(|(master_id, key_id, calls, error)| {
        Ok(LimitedCalls { master_id, key_id, calls: load(TABLE, "calls", &"?", calls)?, error })
    });
    limited.collect()
}

fn limited(window: &Window) -> Select<Entity> {
    let calls = || Expr::col(Column::Id).count();
    within(window)
        .select_only()
        .column(Column::MasterId)
        .column(Column::KeyId)
        .expr_as(calls(), "calls")
        .expr_as(Expr::col(Column::Error).max(), "error")
        .filter(Column::EndedBy.eq(EndedBy::Limit.store()))
        // True of each of them, and said in the words of the index of failing records, so that it serves.
        .filter(Expr::cust(IS_FAILING))
        .filter(Condition::any().add(Column::Error.is_null()).add(Column::Error.not_like(format!("{USED_UP}%"))))
        .group_by(Column::MasterId)
        .group_by(Column::KeyId)
        .order_by(calls(), Order::Desc)
        .limit(MAX_ROWS)
}

fn within(window: &Window) -> Select<Entity> {
    let Range { start, end } = window;
    let arrived_since = start.checked_sub_signed(LONGEST_CALL).unwrap_or(DateTime::<Utc>::MIN_UTC);
    // The least latency with which a call ends then or later. Divided and not multiplied: a senseless latency must not be an
    // error.
    let latency_until = |time: &DateTime<Utc>| {
        Expr::val(time.store().saturating_add(999)).sub(Expr::col(Column::CreatedAt)).div(1_000_i64)
    };
    Entity::find()
        .filter(Column::CreatedAt.gte(arrived_since.store()))
        .filter(Column::CreatedAt.lt(end.store()))
        .filter(Expr::col(Column::LatencyMs).gte(latency_until(start)))
        .filter(Expr::col(Column::LatencyMs).lt(latency_until(end)))
}

async fn call_counts(
    db: &impl Executor,
    records: Select<Entity>,
    by: Column,
    failed: Condition,
    min_calls: u64,
) -> Result<Vec<CallCounts>, StoreError> {
    let calls = || Expr::col(Column::Id).count();
    let failures = || {
        let failure: Expr = Expr::case(failed.clone(), 1_i64).finally(0_i64).into();
        failure.sum().cast_as("bigint")
    };
    let rows: Vec<(i64, i64, i64)> = records
        .select_only()
        .column(by)
        .expr_as(calls(), "calls")
        .expr_as(failures(), "failures")
        .group_by(by)
        .having(calls().gte(min_calls.store()))
        .having(failures().gt(0_i64))
        .order_by(failures(), Order::Desc)
        .limit(MAX_ROWS)
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let counts = rows.into_iter().map(|(id, calls, failures)| {
        Ok(CallCounts {
            id,
            calls: load(TABLE, "calls", &"?", calls)?,
            failures: load(TABLE, "failures", &"?", failures)?,
        })
    });
    counts.collect()
}

#[cfg(test)]
mod tests {
    use ez_testkit::database::TestDatabase;
    use sea_orm::{ConnectionTrait, DbBackend, QueryTrait, Statement};

    use super::*;
    use crate::{ConnectOptions, Store};

    /// How SQLite, which knows nothing of how many rows there are, goes about a query.
    async fn plan(records: impl Fn(&Window) -> Select<Entity>) -> String {
        let database = TestDatabase::sqlite();
        let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        let end = DateTime::from_timestamp(1_767_182_400, 0).unwrap();
        let query = records(&(end - TimeDelta::minutes(1)..end)).build(DbBackend::Sqlite);
        let explained = Statement { sql: format!("EXPLAIN QUERY PLAN {}", query.sql), ..query };
        let tx = store.begin().await.unwrap();
        let rows = tx.transaction().query_all_raw(explained).await.unwrap();
        rows.iter().map(|row| row.try_get::<String>("", "detail").unwrap()).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn no_figure_reads_more_than_the_calls_that_arrived_lately() {
        let by_key = |window: &Window| within(window).select_only().column(Column::KeyId).group_by(Column::KeyId);
        for plan in [plan(within).await, plan(traffic).await, plan(by_key).await] {
            assert!(plan.contains("(created_at>? AND created_at<?)"), "{plan}");
        }
        let plan = plan(limited).await;
        assert!(plan.contains("USING INDEX ix__logs__failing (created_at>? AND created_at<?)"), "{plan}");
    }
}
