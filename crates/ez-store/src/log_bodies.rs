//! Log bodies: the request bodies of calls, apart from their log records, so that those stay small. A body comes with its
//! record, in one transaction ([`crate::logs::ingest_with_bodies`]), and goes by the same time.

use chrono::{DateTime, Utc};
use ez_contract::request_body::RequestBody;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{LockBehavior, LockType, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::stored::{Stored, load};
use crate::{Executor, StoreError, StoreTx};

use entity::{ActiveModel, Column, Entity};

const TABLE: &str = "log_bodies";

/// Bodies of one INSERT: with 6 columns each far below what a statement may bind, and some megabytes at most usually.
const ROWS_PER_INSERT: usize = 64;

/// The request body of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogBody {
    /// Id of its log record.
    pub log_id: String,
    /// When its call arrived, to the microsecond.
    pub created_at: DateTime<Utc>,
    /// The body, whole or its beginning.
    pub body: RequestBody,
}

/// The body of the log record with this id.
pub async fn get(db: &impl Executor, log_id: &str) -> Result<Option<LogBody>, StoreError> {
    let found = Entity::find_by_id(log_id).one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    found.map(into_body).transpose()
}

/// Deletes up to `limit` bodies of calls that arrived before a time, oldest first, except those that another transaction
/// holds; how many.
pub async fn delete_before(tx: &StoreTx, created_at: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
    let query = Entity::find()
        .select_only()
        .column(Column::LogId)
        .filter(Column::CreatedAt.lt(created_at.store()))
        .order_by_asc(Column::CreatedAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let ids: Vec<String> = query.into_tuple().all(tx.transaction()).await.map_err(on(TABLE, Doing::Read))?;
    if ids.is_empty() {
        return Ok(0);
    }
    let outcome = Entity::delete_many()
        .filter(Column::LogId.is_in(ids))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Delete))?;
    Ok(outcome.rows_affected)
}

/// Stores bodies. One that is there already stays.
pub(crate) async fn insert(tx: &StoreTx, bodies: &[&LogBody]) -> Result<(), StoreError> {
    for bodies in bodies.chunks(ROWS_PER_INSERT) {
        let rows = bodies.iter().map(|body| from_body(body));
        let insert = Entity::insert_many(rows).on_conflict(OnConflict::column(Column::LogId).do_nothing().to_owned());
        insert.exec_without_returning(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    }
    Ok(())
}

fn from_body(LogBody { log_id, created_at, body }: &LogBody) -> ActiveModel {
    ActiveModel {
        log_id: Set(log_id.store()),
        created_at: Set(created_at.store()),
        content: Set(body.content.store()),
        encoding: Set(body.encoding.store()),
        bytes: Set(body.bytes.store()),
        is_cut: Set(body.is_cut),
    }
}

fn into_body(row: entity::Model) -> Result<LogBody, StoreError> {
    let log_id = row.log_id;
    let body = RequestBody {
        content: row.content,
        encoding: load(TABLE, "encoding", &log_id, row.encoding)?,
        bytes: load(TABLE, "bytes", &log_id, row.bytes)?,
        is_cut: row.is_cut,
    };
    Ok(LogBody { created_at: load(TABLE, "created_at", &log_id, row.created_at)?, body, log_id })
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "log_bodies")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub log_id: String,
        pub created_at: i64,
        pub content: String,
        pub encoding: String,
        pub bytes: i64,
        pub is_cut: bool,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
