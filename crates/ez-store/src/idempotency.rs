//! Idempotency keys: which creating requests were answered, and with what, so that a repeated one creates nothing.

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, LockBehavior, LockType, OnConflict};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::stored::{Stored, load};
use crate::{StoreError, StoreTx};

const TABLE: &str = "idempotency_keys";

/// A request that names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyClaim {
    /// Who asks.
    pub scope: String,
    /// The path that it is sent to.
    pub route: String,
    /// The name that the caller gave it; unique within scope and route.
    pub key: String,
    /// Digest of what it asks for.
    pub request_digest: TokenDigest,
    /// When it arrived.
    pub created_at: DateTime<Utc>,
}

/// What is known of a request that names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is new, and now stands under this id, without an answer.
    New(i64),
    /// One of the same name came before.
    Before {
        /// Digest of what that one asked for.
        request_digest: TokenDigest,
        /// What it was answered with, as JSON without secrets.
        answer: Option<String>,
    },
    /// One of the same name is just going.
    Unsettled,
}

/// Claims a name: of several requests of one name at once, one gets it, and the others wait until that one is committed
/// or gone. Names claimed at `expired` or before count as free. Call it first in a transaction, before any other lock.
pub async fn claim(tx: &StoreTx, claim: &IdempotencyClaim, expired: DateTime<Utc>) -> Result<Claimed, StoreError> {
    let row = entity::ActiveModel {
        id: NotSet,
        scope: Set(claim.scope.store()),
        route: Set(claim.route.store()),
        key: Set(claim.key.store()),
        request_digest: Set(claim.request_digest.store()),
        answer: Set(None),
        created_at: Set(claim.created_at.store()),
    };
    let name = [entity::Column::Scope, entity::Column::Route, entity::Column::Key];
    // On PostgreSQL the insert waits for whoever inserts the same name; READ COMMITTED then shows us their row.
    let inserted = entity::Entity::insert(row)
        .on_conflict(OnConflict::columns(name).do_nothing().to_owned())
        .exec_without_returning(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    let standing = entity::Entity::find()
        .filter(entity::Column::Scope.eq(claim.scope.store()))
        .filter(entity::Column::Route.eq(claim.route.store()))
        .filter(entity::Column::Key.eq(claim.key.store()))
        .lock_exclusive()
        .one(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let Some(standing) = standing else { return Ok(Claimed::Unsettled) };
    if inserted > 0 {
        return Ok(Claimed::New(standing.id));
    }
    if standing.created_at > expired.store() {
        let request_digest = load(TABLE, "request_digest", &standing.id, standing.request_digest)?;
        return Ok(Claimed::Before { request_digest, answer: standing.answer });
    }
    entity::Entity::update_many()
        .col_expr(entity::Column::RequestDigest, Expr::val(claim.request_digest.store()))
        .col_expr(entity::Column::Answer, Expr::val(Option::<String>::None))
        .col_expr(entity::Column::CreatedAt, Expr::val(claim.created_at.store()))
        .filter(entity::Column::Id.eq(standing.id))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(Claimed::New(standing.id))
}

/// Keeps the answer to a claimed request, as JSON without secrets; whether the claim was there.
pub async fn settle(tx: &StoreTx, id: i64, answer: &str) -> Result<bool, StoreError> {
    let outcome = entity::Entity::update_many()
        .col_expr(entity::Column::Answer, Expr::val(answer.to_owned().store()))
        .filter(entity::Column::Id.eq(id))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(outcome.rows_affected > 0)
}

/// Deletes up to `limit` claims that were made at `expired` or before, oldest first, except those that another
/// transaction holds; how many.
pub async fn sweep(tx: &StoreTx, expired: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
    let query = entity::Entity::find()
        .select_only()
        .column(entity::Column::Id)
        .filter(entity::Column::CreatedAt.lte(expired.store()))
        .order_by_asc(entity::Column::CreatedAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let ids: Vec<i64> = query.into_tuple().all(tx.transaction()).await.map_err(on(TABLE, Doing::Read))?;
    if ids.is_empty() {
        return Ok(0);
    }
    let outcome = entity::Entity::delete_many()
        .filter(entity::Column::Id.is_in(ids))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Delete))?;
    Ok(outcome.rows_affected)
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "idempotency_keys")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub scope: String,
        pub route: String,
        pub key: String,
        pub request_digest: String,
        pub answer: Option<String>,
        pub created_at: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
