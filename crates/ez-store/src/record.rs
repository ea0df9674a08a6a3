//! What every record of configuration has in common, written once: struct, entity, mapping, and the plain verbs.

use sea_orm::Condition;
use sea_orm::sea_query::{Expr, ExprTrait};

/// Defines a record: its public struct, the `New…` struct it is created from, its private SeaORM entity, and
/// `create`, `get`, `get_for_update`, `list_for_update`, `update`, `delete`, `list_all`, `list_readable`.
///
/// Fields under `counters` belong to the record and can be given on creation, but `update` leaves them alone: they are
/// changed by deltas while an administrator edits the rest, and neither may undo the other.
macro_rules! record {
    (
        table $table:tt named $name:ident;
        $(#[$doc:meta])*
        $record:ident / $new:ident {
            $( $(#[$field_doc:meta])* $field:ident: $ty:ty, )+
        }
        counters {
            $( $(#[$counter_doc:meta])* $counter:ident: $counter_ty:ty, )*
        }
    ) => {
        pub(crate) const TABLE: &str = $table;

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $record {
            /// Assigned by the database.
            pub id: i64,
            $( $(#[$field_doc])* pub $field: $ty, )+
            $( $(#[$counter_doc])* pub $counter: $counter_ty, )*
            /// When it was created, to the microsecond.
            pub created_at: chrono::DateTime<chrono::Utc>,
            /// When it last changed, to the microsecond.
            pub updated_at: chrono::DateTime<chrono::Utc>,
        }

        #[doc = concat!("What a [`", stringify!($record), "`] is created from; `updated_at` starts as `created_at`.")]
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $new {
            $( $(#[$field_doc])* pub $field: $ty, )+
            $( $(#[$counter_doc])* pub $counter: $counter_ty, )*
            /// When it is created.
            pub created_at: chrono::DateTime<chrono::Utc>,
        }

        #[allow(clippy::wildcard_imports, unreachable_pub, reason = "the derive makes public items from outer types")]
        mod entity {
            use sea_orm::entity::prelude::{
                ActiveModelBehavior, DeriveEntityModel,
                DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter, PrimaryKeyTrait,
            };

            use super::*;
            use crate::stored::ColumnOf;

            #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
            #[sea_orm(table_name = $table)]
            pub struct Model {
                #[sea_orm(primary_key)]
                pub id: i64,
                $( pub $field: ColumnOf<$ty>, )+
                $( pub $counter: ColumnOf<$counter_ty>, )*
                pub created_at: i64,
                pub updated_at: i64,
            }

            #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
            pub enum Relation {}

            impl ActiveModelBehavior for ActiveModel {}
        }

        impl $record {
            fn from_row(row: entity::Model) -> Result<Self, $crate::StoreError> {
                use $crate::stored::load;

                let id = row.id;
                Ok(Self {
                    id,
                    $( $field: load(TABLE, stringify!($field), &id, row.$field)?, )+
                    $( $counter: load(TABLE, stringify!($counter), &id, row.$counter)?, )*
                    created_at: load(TABLE, "created_at", &id, row.created_at)?,
                    updated_at: load(TABLE, "updated_at", &id, row.updated_at)?,
                })
            }

            fn from_rows(rows: Vec<entity::Model>) -> Result<Vec<Self>, $crate::StoreError> {
                rows.into_iter().map(Self::from_row).collect()
            }
        }

        /// Creates the record and returns it as stored. Errors: `Conflict`.
        pub async fn create(tx: &$crate::StoreTx, new: &$new) -> Result<$record, $crate::StoreError> {
            use sea_orm::ActiveValue::{NotSet, Set};
            use $crate::stored::Stored;

            let row = entity::ActiveModel {
                id: NotSet,
                $( $field: Set(new.$field.store()), )+
                $( $counter: Set(new.$counter.store()), )*
                created_at: Set(new.created_at.store()),
                updated_at: Set(new.created_at.store()),
            };
            let row = sea_orm::EntityTrait::insert(row)
                .exec_with_returning(tx.transaction())
                .await
                .map_err($crate::error::on(TABLE, $crate::error::Doing::Write))?;
            $record::from_row(row)
        }

        /// The record with this id.
        pub async fn get(db: &impl $crate::Executor, id: i64) -> Result<Option<$record>, $crate::StoreError> {
            one(db, <entity::Entity as sea_orm::EntityTrait>::find_by_id(id)).await
        }

        /// The record with this id, as it stands until the transaction ends: no other transaction changes it meanwhile.
        pub async fn get_for_update(tx: &$crate::StoreTx, id: i64) -> Result<Option<$record>, $crate::StoreError> {
            // SQLite has no row locks and needs none: its write transactions run one after the other.
            let query = <entity::Entity as sea_orm::EntityTrait>::find_by_id(id);
            one(tx, sea_orm::QuerySelect::lock_exclusive(query)).await
        }

        /// Writes the record's fields (its counters excepted) and `updated_at`; whether it was there.
        /// Errors: `Conflict`.
        pub async fn update(tx: &$crate::StoreTx, record: &$record) -> Result<bool, $crate::StoreError> {
            use sea_orm::ActiveValue::{NotSet, Set};
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            use $crate::stored::Stored;

            let row = entity::ActiveModel {
                id: NotSet,
                $( $field: Set(record.$field.store()), )+
                $( $counter: NotSet, )*
                created_at: NotSet,
                updated_at: Set(record.updated_at.store()),
            };
            let outcome = entity::Entity::update_many()
                .set(row)
                .filter(entity::Column::Id.eq(record.id))
                .exec(tx.transaction())
                .await
                .map_err($crate::error::on(TABLE, $crate::error::Doing::Write))?;
            Ok(outcome.rows_affected > 0)
        }

        /// Those of `ids` that exist, by id, as they stand until the transaction ends: no other transaction changes them
        /// meanwhile. Locked in that order, so that two callers wait for each other and never deadlock.
        pub async fn list_for_update(tx: &$crate::StoreTx, ids: &[i64]) -> Result<Vec<$record>, $crate::StoreError> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

            let query = entity::Entity::find().filter(entity::Column::Id.is_in(ids.iter().copied()));
            all(tx, query.lock_exclusive()).await
        }

        /// Deletes the record; whether it was there. Errors: `Conflict` while others refer to it.
        pub async fn delete(tx: &$crate::StoreTx, id: i64) -> Result<bool, $crate::StoreError> {
            let outcome = <entity::Entity as sea_orm::EntityTrait>::delete_by_id(id)
                .exec(tx.transaction())
                .await
                .map_err($crate::error::on(TABLE, $crate::error::Doing::Delete))?;
            Ok(outcome.rows_affected > 0)
        }

        /// Up to `limit` records with an id above `after_id`, by id: how the whole table is walked in bounded memory.
        pub async fn list_after(
            db: &impl $crate::Executor,
            after_id: i64,
            limit: u64,
        ) -> Result<Vec<$record>, $crate::StoreError> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

            all(db, entity::Entity::find().filter(entity::Column::Id.gt(after_id)).limit(limit)).await
        }

        /// Every record, by id.
        pub async fn list_all(db: &impl $crate::Executor) -> Result<Vec<$record>, $crate::StoreError> {
            all(db, <entity::Entity as sea_orm::EntityTrait>::find()).await
        }

        /// Every record that can be read, by id, and what is wrong with each of the others.
        pub async fn list_readable(db: &impl $crate::Executor) -> Result<$crate::Readable<$record>, $crate::StoreError> {
            use sea_orm::{EntityTrait, QueryOrder, QuerySelect};

            let on = $crate::error::on(TABLE, $crate::error::Doing::Read);
            let query = entity::Entity::find().order_by_asc(entity::Column::Id);
            let mut readable = $crate::Readable { records: Vec::new(), faults: Vec::new() };
            match query.clone().all(&db.executor()).await.map_err(on) {
                Ok(rows) => rows.into_iter().map($record::from_row).for_each(|outcome| readable.take(outcome)),
                // The driver gave up at one row, and does not tell which.
                Err($crate::StoreError::Corrupt { .. }) => {
                    let on = $crate::error::on(TABLE, $crate::error::Doing::Read);
                    let ids = query.select_only().column(entity::Column::Id).into_tuple::<i64>();
                    for id in ids.all(&db.executor()).await.map_err(on)? {
                        match get(db, id).await {
                            Ok(Some(record)) => readable.take(Ok(record)),
                            Ok(None) => {}
                            Err($crate::StoreError::Corrupt { table, column, reason, .. }) => {
                                let id = id.to_string();
                                readable.take(Err($crate::StoreError::Corrupt { table, column, id, reason }));
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
            Ok(readable)
        }

        async fn one(
            db: &impl $crate::Executor,
            query: sea_orm::Select<entity::Entity>,
        ) -> Result<Option<$record>, $crate::StoreError> {
            let row = query
                .one(&db.executor())
                .await
                .map_err($crate::error::on(TABLE, $crate::error::Doing::Read))?;
            row.map($record::from_row).transpose()
        }

        async fn all(
            db: &impl $crate::Executor,
            query: sea_orm::Select<entity::Entity>,
        ) -> Result<Vec<$record>, $crate::StoreError> {
            let rows = sea_orm::QueryOrder::order_by_asc(query, entity::Column::Id)
                .all(&db.executor())
                .await
                .map_err($crate::error::on(TABLE, $crate::error::Doing::Read))?;
            $record::from_rows(rows)
        }

        async fn page_of(
            db: &impl $crate::Executor,
            filter: sea_orm::Condition,
            sort: $crate::Sort,
            page: $crate::Page,
        ) -> Result<$crate::Paged<$record>, $crate::StoreError> {
            use sea_orm::{EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};

            let total = count_of(db, filter.clone()).await?;
            let column = match sort.by {
                $crate::SortField::Id => entity::Column::Id,
                $crate::SortField::Name => entity::Column::$name,
                $crate::SortField::CreatedAt => entity::Column::CreatedAt,
                $crate::SortField::UpdatedAt => entity::Column::UpdatedAt,
            };
            let order = if sort.descending { Order::Desc } else { Order::Asc };
            let rows = entity::Entity::find()
                .filter(filter)
                .order_by(column, order.clone())
                .order_by(entity::Column::Id, order)
                .offset(page.offset)
                .limit(page.limit)
                .all(&db.executor())
                .await
                .map_err($crate::error::on(TABLE, $crate::error::Doing::Read))?;
            Ok($crate::Paged { items: $record::from_rows(rows)?, total })
        }

        async fn count_of(db: &impl $crate::Executor, filter: sea_orm::Condition) -> Result<u64, $crate::StoreError> {
            use sea_orm::{EntityTrait, PaginatorTrait, QueryFilter};

            entity::Entity::find()
                .filter(filter)
                .count(&db.executor())
                .await
                .map_err($crate::error::on(TABLE, $crate::error::Doing::Read))
        }
    };
}
pub(crate) use record;

/// Defines `add_requests` for a record with request counters: API keys, and their provider groups with the same totals.
macro_rules! count_requests {
    () => {
        /// Adds to the request counters of these records, each named once; how many of them were there. They are locked in
        /// the order of ids, so that two callers wait for each other and never deadlock. Does not touch `updated_at`: use is
        /// no change.
        pub async fn add_requests(
            tx: &$crate::StoreTx,
            counted: &[(i64, RequestCounts)],
        ) -> Result<u64, $crate::StoreError> {
            use entity::{Column, Entity};
            use sea_orm::sea_query::{Expr, ExprTrait, IntoIden, IntoValueTuple, LockType, Query, TableRef};
            use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

            let ids: Vec<i64> = counted.iter().map(|(id, _)| *id).collect();
            let in_order = Entity::find()
                .select_only()
                .column(Column::Id)
                .filter(Column::Id.is_in($crate::pieces::padded(&ids)))
                .order_by_asc(Column::Id);
            // As weak as the update that follows: whoever only refers to a record need not wait for it.
            let locked = in_order.lock(LockType::NoKeyUpdate).into_tuple::<i64>().all(tx.transaction()).await;
            locked.map_err($crate::error::on(TABLE, $crate::error::Doing::Read))?;
            let mut found = 0;
            for counted in $crate::pieces::pieces(counted) {
                let rows = counted.iter().map(|(id, counts)| {
                    (*id, counts.successes.store(), counts.failures.store(), counts.last_used_at.store())
                        .into_value_tuple()
                });
                let counter = |column: Column| Expr::col((Entity, column));
                let added = |column: &'static str| Expr::col(("added", column));
                let all = added("column2").add(added("column3"));
                let update = Query::update()
                    .table(Entity)
                    .from(TableRef::ValuesList(rows.collect(), "added".into_iden()))
                    .value(Column::TotalRequests, counter(Column::TotalRequests).add(all))
                    .value(Column::SuccessRequests, counter(Column::SuccessRequests).add(added("column2")))
                    .value(Column::FailureRequests, counter(Column::FailureRequests).add(added("column3")))
                    .value(Column::LastUsedAt, $crate::record::later(counter(Column::LastUsedAt), added("column4")))
                    .and_where(counter(Column::Id).eq(added("column1")))
                    .to_owned();
                let updated = tx.transaction().execute(&update).await;
                found += updated.map_err($crate::error::on(TABLE, $crate::error::Doing::Write))?.rows_affected();
            }
            Ok(found)
        }
    };
}
pub(crate) use count_requests;

/// The later of a time that a record may have and another: deltas may arrive out of order.
pub(crate) fn later(standing: Expr, other: Expr) -> Expr {
    let is_later = Condition::any().add(standing.clone().is_null()).add(standing.clone().lt(other.clone()));
    Expr::case(is_later, other).finally(standing).into()
}

/// A counter and what is added to it, neither below zero; the highest that a column holds where the sum is above. PostgreSQL
/// would refuse such a sum, and SQLite would make it a float: either would be for a count that no upstream should tell, and
/// hit every record beside it.
pub(crate) fn saturating_sum(counter: Expr, added: impl Into<Expr>) -> Expr {
    let added = added.into();
    let room = Expr::val(i64::MAX).sub(added.clone());
    Expr::case(counter.clone().gt(room), i64::MAX).finally(counter.add(added)).into()
}
