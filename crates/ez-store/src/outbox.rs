//! Outbox: what was changed and is still to be published, written in the transaction of the change itself.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::stored::{Stored, load};
use crate::words::RecordKind;
use crate::{Executor, StoreError, StoreTx};

const TABLE: &str = "outbox";

/// Ids in one statement: SQLite takes 32,766 values.
const MAX_BINDS: usize = 10_000;

/// No entry waits longer than this for its next attempt: a time further ahead comes from a clock that was wrong.
const MAX_WAIT: TimeDelta = TimeDelta::minutes(1);

/// A change to publish. It names the record and carries no content: whoever publishes reads what stands by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Rises with every entry.
    pub id: i64,
    /// Kind of the record.
    pub kind: RecordKind,
    /// Its id; 0 where it has none.
    pub record_id: i64,
    /// What can no longer be read from the record, such as the digest of a deleted key.
    pub detail: Option<String>,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Not to be tried before.
    pub next_attempt_at: DateTime<Utc>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// What an entry is written from; it is due at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutboxEntry {
    /// Kind of the record.
    pub kind: RecordKind,
    /// Its id; 0 where it has none.
    pub record_id: i64,
    /// What can no longer be read from the record, such as the digest of a deleted key.
    pub detail: Option<String>,
    /// When it is written.
    pub created_at: DateTime<Utc>,
}

/// Appends an entry.
pub async fn append(tx: &StoreTx, new: &NewOutboxEntry) -> Result<(), StoreError> {
    let row = entity::ActiveModel {
        id: NotSet,
        kind: Set(new.kind.store()),
        record_id: Set(new.record_id),
        detail: Set(new.detail.store()),
        created_at: Set(new.created_at.store()),
        attempts: Set(0),
        next_attempt_at: Set(new.created_at.store()),
        last_error: Set(None),
    };
    entity::Entity::insert(row).exec_without_returning(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    Ok(())
}

/// Up to `limit` entries that may be tried at `now`, oldest first. Those that are not due for more than a minute are
/// among them: they were written by a clock ahead of the present one.
pub async fn list_due(db: &impl Executor, now: DateTime<Utc>, limit: u64) -> Result<Vec<OutboxEntry>, StoreError> {
    let far = now.checked_add_signed(MAX_WAIT).unwrap_or(DateTime::<Utc>::MAX_UTC);
    let is_due = Condition::any()
        .add(entity::Column::NextAttemptAt.lte(now.store()))
        .add(entity::Column::NextAttemptAt.gt(far.store()));
    let rows = entity::Entity::find()
        .filter(is_due)
        .order_by_asc(entity::Column::Id)
        .limit(limit)
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    rows.into_iter().map(OutboxEntry::from_row).collect()
}

/// Deletes what was published; how many of them were still there.
pub async fn delete(tx: &StoreTx, ids: &[i64]) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for ids in ids.chunks(MAX_BINDS) {
        let outcome = entity::Entity::delete_many()
            .filter(entity::Column::Id.is_in(ids.iter().copied()))
            .exec(tx.transaction())
            .await
            .map_err(on(TABLE, Doing::Delete))?;
        deleted += outcome.rows_affected;
    }
    Ok(deleted)
}

/// Notes that an attempt at these entries failed, and when to try again; how many of them were still there.
pub async fn record_failure(
    tx: &StoreTx,
    ids: &[i64],
    error: &str,
    next_attempt_at: DateTime<Utc>,
) -> Result<u64, StoreError> {
    use entity::Column;

    let mut noted = 0;
    for ids in ids.chunks(MAX_BINDS) {
        let outcome = entity::Entity::update_many()
            .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1_i64))
            .col_expr(Column::LastError, Expr::val(error.to_owned().store()))
            .col_expr(Column::NextAttemptAt, Expr::val(next_attempt_at.store()))
            .filter(Column::Id.is_in(ids.iter().copied()))
            .exec(tx.transaction())
            .await
            .map_err(on(TABLE, Doing::Write))?;
        noted += outcome.rows_affected;
    }
    Ok(noted)
}

/// How many entries wait.
pub async fn depth(db: &impl Executor) -> Result<u64, StoreError> {
    entity::Entity::find().count(&db.executor()).await.map_err(on(TABLE, Doing::Read))
}

/// When the oldest waiting entry was written.
pub async fn oldest_at(db: &impl Executor) -> Result<Option<DateTime<Utc>>, StoreError> {
    let row = entity::Entity::find()
        .order_by_asc(entity::Column::Id)
        .one(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    row.map(|row| load(TABLE, "created_at", &row.id, row.created_at)).transpose()
}

impl OutboxEntry {
    fn from_row(row: entity::Model) -> Result<Self, StoreError> {
        let id = row.id;
        Ok(Self {
            id,
            kind: load(TABLE, "kind", &id, row.kind)?,
            record_id: row.record_id,
            detail: row.detail,
            created_at: load(TABLE, "created_at", &id, row.created_at)?,
            attempts: load(TABLE, "attempts", &id, row.attempts)?,
            next_attempt_at: load(TABLE, "next_attempt_at", &id, row.next_attempt_at)?,
            last_error: row.last_error,
        })
    }
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "outbox")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub kind: String,
        pub record_id: i64,
        pub detail: Option<String>,
        pub created_at: i64,
        pub attempts: i64,
        pub next_attempt_at: i64,
        pub last_error: Option<String>,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
