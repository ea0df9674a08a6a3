//! A model catalogue that took the place of the bundled one, as a document that only the control plane reads.

use chrono::{DateTime, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::stored::Stored;
use crate::{Executor, StoreError, StoreTx};

const TABLE: &str = "catalogues";

/// Puts a document in the place of any before and returns its id, which none had before.
pub async fn replace(tx: &StoreTx, document: &str, now: DateTime<Utc>) -> Result<i64, StoreError> {
    clear(tx).await?;
    let row =
        entity::ActiveModel { id: NotSet, document: Set(document.to_owned().store()), created_at: Set(now.store()) };
    let inserted = entity::Entity::insert(row).exec(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    Ok(inserted.last_insert_id)
}

/// Removes the document; whether there was one.
pub async fn clear(tx: &StoreTx) -> Result<bool, StoreError> {
    let outcome = entity::Entity::delete_many().exec(tx.transaction()).await.map_err(on(TABLE, Doing::Delete))?;
    Ok(outcome.rows_affected > 0)
}

/// Id of the document that stands, without reading it.
pub async fn current_id(db: &impl Executor) -> Result<Option<i64>, StoreError> {
    // Where two were put at once, the later one counts.
    let newest = entity::Entity::find().select_only().column(entity::Column::Id).order_by_desc(entity::Column::Id);
    newest.into_tuple::<i64>().one(&db.executor()).await.map_err(on(TABLE, Doing::Read))
}

/// The document with this id, and when it was put.
pub async fn get(db: &impl Executor, id: i64) -> Result<Option<(String, DateTime<Utc>)>, StoreError> {
    let found = entity::Entity::find().filter(entity::Column::Id.eq(id));
    let row = found.one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    row.map(|row| Ok((row.document, crate::stored::load(TABLE, "created_at", &id, row.created_at)?))).transpose()
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "catalogues")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub document: String,
        pub created_at: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
