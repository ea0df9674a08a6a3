//! Settings: single values that the installation made or was given, such as the hash of the first admin token.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, QuerySelect};

use crate::error::{Doing, on};
use crate::stored::Stored;
use crate::{Executor, StoreError, StoreTx};

const TABLE: &str = "settings";

/// The value under `key`.
pub async fn get(db: &impl Executor, key: &str) -> Result<Option<String>, StoreError> {
    let row = entity::Entity::find_by_id(key).one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    Ok(row.map(|row| row.value))
}

/// The value under `key`, as it stands until the transaction ends: no other transaction changes it meanwhile.
pub async fn get_for_update(tx: &StoreTx, key: &str) -> Result<Option<String>, StoreError> {
    // As for records: SQLite's write transactions run one after the other.
    let query = entity::Entity::find_by_id(key).lock_exclusive();
    let row = query.one(tx.transaction()).await.map_err(on(TABLE, Doing::Read))?;
    Ok(row.map(|row| row.value))
}

/// Puts a value under `key`, over any that was there.
pub async fn put(tx: &StoreTx, key: &str, value: &str) -> Result<(), StoreError> {
    let replace = OnConflict::column(entity::Column::Key).update_column(entity::Column::Value).to_owned();
    entity::Entity::insert(row(key, value))
        .on_conflict(replace)
        .exec_without_returning(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(())
}

/// Puts a value under `key` unless one is there, and returns the one that stands then: of several callers at once, all
/// get the same.
pub async fn put_if_absent(tx: &StoreTx, key: &str, value: &str) -> Result<String, StoreError> {
    // On PostgreSQL the insert waits for whoever inserts the same key; READ COMMITTED then shows us their row.
    let keep = OnConflict::column(entity::Column::Key).do_nothing().to_owned();
    entity::Entity::insert(row(key, value))
        .on_conflict(keep)
        .exec_without_returning(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(get(tx, key).await?.unwrap_or_else(|| value.to_owned()))
}

fn row(key: &str, value: &str) -> entity::ActiveModel {
    entity::ActiveModel { key: Set(key.to_owned().store()), value: Set(value.to_owned().store()) }
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "settings")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub key: String,
        pub value: String,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
