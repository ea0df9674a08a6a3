//! Webhook deliveries: what is to be sent and what became of it, in one table. An event is appended in the transaction of
//! what it tells of, so that neither is without the other.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, ExprTrait, LockBehavior, LockType};
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::stored::{Stored, load};
use crate::words::DeliveryStatus;
use crate::{Executor, StoreError, StoreTx};

use entity::{ActiveModel, Column, Entity};

const TABLE: &str = "webhook_deliveries";

/// No delivery waits longer than this for its next attempt: a time further ahead comes from a clock that was wrong.
const MAX_WAIT: TimeDelta = TimeDelta::days(1);

/// Rows that one [`trim`] deletes.
const TRIMMED_AT_ONCE: u64 = 1_000;

/// An event on its way to the webhook's receiver, or arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Rises with every delivery.
    pub id: i64,
    /// What the receiver knows the event by, the same in every attempt.
    pub event_id: String,
    /// Type of the event, such as `log.errors`.
    pub kind: String,
    /// The body, exactly as it is signed and sent.
    pub payload: String,
    /// Whether it is still to be sent.
    pub status: DeliveryStatus,
    /// Attempts begun.
    pub attempts: u32,
    /// When it is tried next, or when an attempt under way is taken for lost; none where it ended.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// HTTP status of the last attempt that was answered.
    pub last_status: Option<u16>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When the event was appended.
    pub created_at: DateTime<Utc>,
    /// When the receiver took it.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// What a delivery is appended from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// What the receiver will know the event by.
    pub event_id: String,
    /// Type of the event.
    pub kind: String,
    /// The body.
    pub payload: String,
    /// When it is appended.
    pub created_at: DateTime<Utc>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// What the delivery is from now on.
    pub status: DeliveryStatus,
    /// When to try again, where it is still to be sent.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// HTTP status of the answer, where there was one.
    pub answer: Option<u16>,
    /// Why it failed, where it did.
    pub error: Option<String>,
    /// When it ended.
    pub at: DateTime<Utc>,
}

/// What [`trim`] deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Deliveries that had ended.
    pub ended: u64,
    /// Deliveries that were still to be sent.
    pub pending: u64,
}

/// Appends a delivery that is due at once; its id.
pub async fn append(tx: &StoreTx, new: &NewDelivery) -> Result<i64, StoreError> {
    let row = ActiveModel { next_attempt_at: Set(Some(new.created_at.store())), ..row_of(new) };
    let inserted = Entity::insert(row).exec(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    Ok(inserted.last_insert_id)
}

/// Appends a delivery that was tried once already, by whoever waited for it, and is not tried again; its id.
pub async fn append_tried(tx: &StoreTx, new: &NewDelivery, outcome: &AttemptOutcome) -> Result<i64, StoreError> {
    let row = ActiveModel {
        status: Set(outcome.status.store()),
        attempts: Set(1),
        last_status: Set(outcome.answer.store()),
        last_error: Set(outcome.error.store()),
        delivered_at: Set(delivered_at(outcome).store()),
        ..row_of(new)
    };
    let inserted = Entity::insert(row).exec(tx.transaction()).await.map_err(on(TABLE, Doing::Write))?;
    Ok(inserted.last_insert_id)
}

/// Whether a delivery may be tried at `now`.
pub async fn is_any_due(db: &impl Executor, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let found = Entity::find().select_only().column(Column::Id).filter(is_due(now)).limit(1).into_tuple::<i64>();
    Ok(found.one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?.is_some())
}

/// Takes up to `limit` deliveries that may be tried at `now`, those that waited longest first, and counts an attempt of
/// each. No one else takes them before `until`, when the attempt counts as lost. Waits for nobody: what another transaction
/// takes is left out.
pub async fn claim_due(
    tx: &StoreTx,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: u64,
) -> Result<Vec<Delivery>, StoreError> {
    let rows = Entity::find()
        .filter(is_due(now))
        .order_by_asc(Column::NextAttemptAt)
        .order_by_asc(Column::Id)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    Entity::update_many()
        .col_expr(Column::Attempts, Expr::col(Column::Attempts).add(1_i64))
        .col_expr(Column::NextAttemptAt, Expr::val(until.store()))
        .filter(Column::Id.is_in(rows.iter().map(|row| row.id)))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    let claimed = rows.into_iter().map(|row| {
        let delivery = Delivery::from_row(row)?;
        Ok(Delivery { attempts: delivery.attempts.saturating_add(1), next_attempt_at: Some(until), ..delivery })
    });
    claimed.collect()
}

/// Notes what came of the attempt of this number; whether it still counted: it does not where another was begun meanwhile,
/// or the delivery ended.
pub async fn settle(tx: &StoreTx, id: i64, attempt: u32, outcome: &AttemptOutcome) -> Result<bool, StoreError> {
    let updated = Entity::update_many()
        .col_expr(Column::Status, Expr::val(outcome.status.store()))
        .col_expr(Column::NextAttemptAt, Expr::val(outcome.next_attempt_at.store()))
        .col_expr(Column::LastStatus, Expr::val(outcome.answer.store()))
        .col_expr(Column::LastError, Expr::val(outcome.error.store()))
        .col_expr(Column::DeliveredAt, Expr::val(delivered_at(outcome).store()))
        .filter(Column::Id.eq(id))
        .filter(Column::Attempts.eq(attempt.store()))
        .filter(Column::Status.eq(DeliveryStatus::Pending.store()))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(updated.rows_affected > 0)
}

/// Gives up all deliveries that are still to be sent, for this reason; how many.
pub async fn give_up_pending(tx: &StoreTx, reason: &str) -> Result<u64, StoreError> {
    let updated = Entity::update_many()
        .col_expr(Column::Status, Expr::val(DeliveryStatus::Failed.store()))
        .col_expr(Column::NextAttemptAt, Expr::val(Option::<i64>::None))
        .col_expr(Column::LastError, Expr::val(reason.to_owned().store()))
        .filter(Column::NextAttemptAt.is_not_null())
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(updated.rows_affected)
}

/// Up to `limit` deliveries, newest first, those before the delivery `before_id` where one is given.
pub async fn list(db: &impl Executor, before_id: Option<i64>, limit: u64) -> Result<Vec<Delivery>, StoreError> {
    let rows = Entity::find()
        .filter(Condition::all().add_option(before_id.map(|id| Column::Id.lt(id))))
        .order_by_desc(Column::Id)
        .limit(limit)
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    rows.into_iter().map(Delivery::from_row).collect()
}

/// Whether there is something for [`trim`] to delete.
pub async fn is_trim_due(db: &impl Executor, keep: u64, before: DateTime<Utc>) -> Result<bool, StoreError> {
    if last_beyond(db, keep).await?.is_some() {
        return Ok(true);
    }
    let old = Entity::find().select_only().column(Column::Id).filter(Column::CreatedAt.lt(before.store()));
    Ok(old.limit(1).into_tuple::<i64>().one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?.is_some())
}

/// Deletes up to a thousand deliveries, the oldest first, of those beyond the newest `keep` or appended before this time,
/// whatever their state: neither what ended nor what waits grows without bound.
pub async fn trim(tx: &StoreTx, keep: u64, before: DateTime<Utc>) -> Result<Trimmed, StoreError> {
    let beyond = last_beyond(tx, keep).await?;
    let too_many =
        Condition::any().add(Column::CreatedAt.lt(before.store())).add_option(beyond.map(|id| Column::Id.lte(id)));
    let ids: Vec<i64> = Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(too_many)
        .order_by_asc(Column::Id)
        .limit(TRIMMED_AT_ONCE)
        .into_tuple()
        .all(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let these = || Column::Id.is_in(ids.iter().copied());
    let pending = Entity::find()
        .filter(these())
        .filter(Column::NextAttemptAt.is_not_null())
        .count(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let deleted =
        Entity::delete_many().filter(these()).exec(tx.transaction()).await.map_err(on(TABLE, Doing::Delete))?;
    Ok(Trimmed { ended: deleted.rows_affected.saturating_sub(pending), pending })
}

/// The newest delivery that comes after the newest `keep`.
async fn last_beyond(db: &impl Executor, keep: u64) -> Result<Option<i64>, StoreError> {
    let beyond = Entity::find().select_only().column(Column::Id).order_by_desc(Column::Id).offset(keep).limit(1);
    beyond.into_tuple::<i64>().one(&db.executor()).await.map_err(on(TABLE, Doing::Read))
}

fn is_due(now: DateTime<Utc>) -> Condition {
    let far = now.checked_add_signed(MAX_WAIT).unwrap_or(DateTime::<Utc>::MAX_UTC);
    Condition::any().add(Column::NextAttemptAt.lte(now.store())).add(Column::NextAttemptAt.gt(far.store()))
}

fn delivered_at(outcome: &AttemptOutcome) -> Option<DateTime<Utc>> {
    (outcome.status == DeliveryStatus::Delivered).then_some(outcome.at)
}

fn row_of(new: &NewDelivery) -> ActiveModel {
    ActiveModel {
        id: NotSet,
        event_id: Set(new.event_id.store()),
        kind: Set(new.kind.store()),
        payload: Set(new.payload.store()),
        status: Set(DeliveryStatus::Pending.store()),
        attempts: Set(0),
        next_attempt_at: Set(None),
        last_status: Set(None),
        last_error: Set(None),
        created_at: Set(new.created_at.store()),
        delivered_at: Set(None),
    }
}

impl Delivery {
    fn from_row(row: entity::Model) -> Result<Self, StoreError> {
        let id = row.id;
        Ok(Self {
            id,
            event_id: row.event_id,
            kind: row.kind,
            payload: row.payload,
            status: load(TABLE, "status", &id, row.status)?,
            attempts: load(TABLE, "attempts", &id, row.attempts)?,
            next_attempt_at: load(TABLE, "next_attempt_at", &id, row.next_attempt_at)?,
            last_status: load(TABLE, "last_status", &id, row.last_status)?,
            last_error: row.last_error,
            created_at: load(TABLE, "created_at", &id, row.created_at)?,
            delivered_at: load(TABLE, "delivered_at", &id, row.delivered_at)?,
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
    #[sea_orm(table_name = "webhook_deliveries")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub event_id: String,
        pub kind: String,
        pub payload: String,
        pub status: String,
        pub attempts: i64,
        pub next_attempt_at: Option<i64>,
        pub last_status: Option<i64>,
        pub last_error: Option<String>,
        pub created_at: i64,
        pub delivered_at: Option<i64>,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
