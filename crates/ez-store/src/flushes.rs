//! Flushes: the batches of counts that gateways handed in, by their names, so that each counts once.

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{LockBehavior, LockType, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::stored::Stored;
use crate::{FlushKind, StoreError, StoreTx};

use entity::{ActiveModel, Column, Entity};

const TABLE: &str = "flushes";

/// Claims a batch: whether it is new. Of several of one name at once, one is new, and the others wait until that one is
/// committed or gone. Call it first in a transaction, before any other lock.
pub async fn claim(
    tx: &StoreTx,
    kind: FlushKind,
    batch_id: &str,
    created_at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let row = ActiveModel {
        kind: Set(kind.store()),
        batch_id: Set(batch_id.to_owned().store()),
        created_at: Set(created_at.store()),
    };
    let keep = OnConflict::columns([Column::Kind, Column::BatchId]).do_nothing().to_owned();
    let insert = Entity::insert(row).on_conflict(keep);
    let inserted = insert.exec_without_returning(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    Ok(inserted > 0)
}

/// Forgets up to `limit` batches that came at `expired` or before, oldest first, except those that another transaction
/// holds; how many.
pub async fn sweep(tx: &StoreTx, expired: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
    let query = Entity::find()
        .select_only()
        .columns([Column::Kind, Column::BatchId])
        .filter(Column::CreatedAt.lte(expired.store()))
        .order_by_asc(Column::CreatedAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let names: Vec<(String, String)> =
        query.into_tuple().all(tx.transaction()).await.map_err(on(TABLE, Doing::Read))?;
    let mut swept = 0;
    for kind in FlushKind::ALL {
        let of_kind = names.iter().filter(|(named, _)| named == kind.as_str()).map(|(_, batch_id)| batch_id.as_str());
        let batch_ids: Vec<&str> = of_kind.collect();
        if batch_ids.is_empty() {
            continue;
        }
        let outcome = Entity::delete_many()
            .filter(Column::Kind.eq(kind.store()))
            .filter(Column::BatchId.is_in(batch_ids))
            .exec(tx.transaction())
            .await
            .map_err(on(TABLE, Doing::Delete))?;
        swept += outcome.rows_affected;
    }
    Ok(swept)
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "flushes")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub batch_id: String,
        pub created_at: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
