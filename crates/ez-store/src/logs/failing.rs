//! Log records of calls that went wrong, counted within a window of time. All are found through the index of failing rows.

use chrono::{DateTime, TimeDelta, Utc};
use ez_contract::UsageRecord;
use sea_orm::sea_query::{Alias, Asterisk, Expr, ExprTrait, Func, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait};

use super::row::{self, Column, Entity};
use super::{IS_FAILING, TABLE};
use crate::error::{Doing, on};
use crate::stored::Stored;
use crate::{Executor, StoreError};

/// How long a call may have taken to count when it ended. A record's time is that of its arrival.
const LONGEST_CALL: TimeDelta = TimeDelta::hours(1);

/// Which log records count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureWindow {
    /// Those whose status is this or higher, 400 at least, and all that carry an error message.
    pub status: u16,
    /// Those that ended at this time or later, up to an hour after their arrival.
    pub since: DateTime<Utc>,
    /// Those that arrived before this time.
    pub until: DateTime<Utc>,
}

/// How many log records there are in the window, or `at_most` where there are more.
pub async fn count(db: &impl Executor, window: &FailureWindow, at_most: u64) -> Result<u64, StoreError> {
    let counted = db.executor().query_one(&counting(window, at_most)).await.map_err(on(TABLE, Doing::Read))?;
    let count = counted.map(|row| row.try_get_by_index::<i64>(0)).transpose().map_err(on(TABLE, Doing::Read))?;
    Ok(u64::try_from(count.unwrap_or_default()).unwrap_or_default())
}

/// The one of them that arrived last.
pub async fn newest(db: &impl Executor, window: &FailureWindow) -> Result<Option<UsageRecord>, StoreError> {
    let found = Entity::find()
        .filter(condition(window))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(1)
        .one(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    found.map(row::into_record).transpose()
}

fn counting(window: &FailureWindow, at_most: u64) -> SelectStatement {
    let rows = Entity::find().select_only().column(Column::Id).filter(condition(window)).limit(at_most).into_query();
    Query::select().expr(Func::count(Expr::col(Asterisk))).from_subquery(rows, Alias::new("failing")).to_owned()
}

fn condition(window: &FailureWindow) -> Condition {
    let since = window.since.store();
    let arrived_since = window.since.checked_sub_signed(LONGEST_CALL).unwrap_or(DateTime::<Utc>::MIN_UTC);
    // Divided and not multiplied: a senseless latency must not be an error.
    let lacking_ms = Expr::val(since).sub(Expr::col(Column::CreatedAt)).div(1_000_i64);
    let ended_since =
        Condition::any().add(Column::CreatedAt.gte(since)).add(Expr::col(Column::LatencyMs).gte(lacking_ms));
    Condition::all()
        .add(Expr::cust(IS_FAILING))
        .add(Condition::any().add(Column::Status.gte(window.status.store())).add(Column::Error.is_not_null()))
        .add(Column::CreatedAt.gte(arrived_since.store()))
        .add(Column::CreatedAt.lt(window.until.store()))
        .add(ended_since)
}

#[cfg(test)]
mod tests {
    use ez_testkit::database::TestDatabase;
    use sea_orm::{DbBackend, Statement};

    use super::*;
    use crate::{ConnectOptions, Store};

    /// How a database goes about counting.
    async fn plan(database: &TestDatabase) -> String {
        let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        let until = DateTime::from_timestamp(1_767_182_400, 0).unwrap();
        let window = FailureWindow { status: 500, since: until - TimeDelta::minutes(1), until };
        let tx = store.begin().await.unwrap();
        let db = tx.transaction();
        let backend = db.get_database_backend();
        let explain = if backend == DbBackend::Postgres {
            let [table, attach] = super::super::partition_statements(until.store() / 86_400_000_000);
            // It has no rows to make the index worth its while, and one over all rows that would do as well.
            for statement in
                [&*table, &*attach, "DROP INDEX ix__logs__created_at__id", "SET LOCAL enable_seqscan = off"]
            {
                db.execute_unprepared(statement).await.unwrap();
            }
            "EXPLAIN"
        } else {
            "EXPLAIN QUERY PLAN"
        };
        let counting = backend.build(&counting(&window, 10));
        let explained = Statement { sql: format!("{explain} {}", counting.sql), ..counting };
        let rows = db.query_all_raw(explained).await.unwrap();
        let column = if backend == DbBackend::Postgres { "QUERY PLAN" } else { "detail" };
        rows.iter().map(|row| row.try_get::<String>("", column).unwrap()).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn sqlite_counts_by_the_index_of_failing_rows() {
        let plan = plan(&TestDatabase::sqlite()).await;
        assert!(plan.contains("USING INDEX ix__logs__failing (created_at>? AND created_at<?)"), "{plan}");
    }

    #[tokio::test]
    async fn postgres_counts_by_the_index_of_failing_rows() {
        let plan = plan(&TestDatabase::postgres().await).await;
        assert!(plan.contains("logs_20251231_created_at_id_idx"), "{plan}");
    }
}
