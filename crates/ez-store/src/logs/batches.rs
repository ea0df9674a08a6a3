//! Batches of log records that are not rolled up yet: each ingestion leaves one.

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::EntityTrait;

use crate::error::{Doing, on};
use crate::stored::Stored;
use crate::{StoreError, StoreTx};

const TABLE: &str = "log_batches";

/// Begins a batch whose records arrived from `first` to `last`; its id.
pub(super) async fn create(tx: &StoreTx, first: DateTime<Utc>, last: DateTime<Utc>) -> Result<i64, StoreError> {
    let row = entity::ActiveModel { id: NotSet, first_at: Set(first.store()), last_at: Set(last.store()) };
    let created = entity::Entity::insert(row).exec(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    Ok(created.last_insert_id)
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "log_batches")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub first_at: i64,
        pub last_at: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
