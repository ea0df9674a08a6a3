//! Audit: who did what to which record. Entries are only ever appended.

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value as Json;

use crate::error::{Doing, on};
use crate::stored::{Stored, load};
use crate::words::{ActorKind, RecordKind};
use crate::{Executor, StoreError, StoreTx};

const TABLE: &str = "audit";

/// Entries written at once: with ten values each they stay far below what a statement may carry.
const MAX_ROWS_OF_INSERT: usize = 500;

/// One write, or one attempt worth keeping.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Rises with every entry.
    pub id: i64,
    /// What it tells.
    pub entry: NewAuditEntry,
}

/// What an audit entry tells.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAuditEntry {
    /// When it happened.
    pub created_at: DateTime<Utc>,
    /// Who did it.
    pub actor_kind: ActorKind,
    /// The master's id, where it was one.
    pub actor_id: Option<i64>,
    /// What was done: `create`, `update`, `delete`, …
    pub action: String,
    /// Kind of the record.
    pub record_kind: RecordKind,
    /// Its id, where it has one.
    pub record_id: Option<i64>,
    /// The record before, secrets masked.
    pub before: Option<Json>,
    /// The record after, secrets masked.
    pub after: Option<Json>,
    /// Request id of the call that did it.
    pub request_id: Option<String>,
    /// Address that it came from.
    pub client_ip: Option<String>,
}

/// Appends an entry and returns its id.
pub async fn append(tx: &StoreTx, new: &NewAuditEntry) -> Result<i64, StoreError> {
    let inserted = entity::Entity::insert(row(new)).exec(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    Ok(inserted.last_insert_id)
}

/// Appends several entries, in their order.
pub async fn append_all(tx: &StoreTx, new: &[NewAuditEntry]) -> Result<(), StoreError> {
    for part in new.chunks(MAX_ROWS_OF_INSERT) {
        entity::Entity::insert_many(part.iter().map(row))
            .exec_without_returning(tx.transaction())
            .await
            .map_err(on(TABLE, Doing::Write))?;
    }
    Ok(())
}

fn row(new: &NewAuditEntry) -> entity::ActiveModel {
    entity::ActiveModel {
        id: NotSet,
        created_at: Set(new.created_at.store()),
        actor_kind: Set(new.actor_kind.store()),
        actor_id: Set(new.actor_id),
        action: Set(new.action.store()),
        record_kind: Set(new.record_kind.store()),
        record_id: Set(new.record_id),
        before: Set(new.before.store()),
        after: Set(new.after.store()),
        request_id: Set(new.request_id.store()),
        client_ip: Set(new.client_ip.store()),
    }
}

/// Up to `limit` entries, newest first, that are older than the entry `before_id` where one is given.
pub async fn list(db: &impl Executor, before_id: Option<i64>, limit: u64) -> Result<Vec<AuditEntry>, StoreError> {
    let older = Condition::all().add_option(before_id.map(|id| entity::Column::Id.lt(id)));
    let rows = entity::Entity::find()
        .filter(older)
        .order_by_desc(entity::Column::Id)
        .limit(limit)
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    rows.into_iter().map(AuditEntry::from_row).collect()
}

impl AuditEntry {
    fn from_row(row: entity::Model) -> Result<Self, StoreError> {
        let id = row.id;
        let entry = NewAuditEntry {
            created_at: load(TABLE, "created_at", &id, row.created_at)?,
            actor_kind: load(TABLE, "actor_kind", &id, row.actor_kind)?,
            actor_id: row.actor_id,
            action: row.action,
            record_kind: load(TABLE, "record_kind", &id, row.record_kind)?,
            record_id: row.record_id,
            before: row.before,
            after: row.after,
            request_id: row.request_id,
            client_ip: row.client_ip,
        };
        Ok(Self { id, entry })
    }
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter, Json,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "audit")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub created_at: i64,
        pub actor_kind: String,
        pub actor_id: Option<i64>,
        pub action: String,
        pub record_kind: String,
        pub record_id: Option<i64>,
        pub before: Option<Json>,
        pub after: Option<Json>,
        pub request_id: Option<String>,
        pub client_ip: Option<String>,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
