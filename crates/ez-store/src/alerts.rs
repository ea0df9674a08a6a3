//! Alerts: what somebody should look at. Of one fingerprint one alert is open at most, held by a rule of the schema.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ez_contract::alerts::{AlertSeverity, AlertType};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use serde_json::Value as Json;

use crate::error::{Doing, on};
use crate::stored::{Stored, load};
use crate::words::AlertStatus;
use crate::{Executor, StoreError, StoreTx};

use entity::{Column, Entity};

const TABLE: &str = "alerts";

/// The condition of the partial index, in its own words: a database does not see it in bound values.
const IS_OPEN: &str = "status IN ('active', 'acknowledged')";

/// What somebody should look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Assigned by the database.
    pub id: i64,
    /// What it is about.
    pub alert_type: AlertType,
    /// How bad it is. It may rise while the alert is open.
    pub severity: AlertSeverity,
    /// Where it stands.
    pub status: AlertStatus,
    /// One line for people.
    pub title: String,
    /// More for people, as of the last sighting.
    pub message: String,
    /// Kind of what it is about.
    pub related_type: Option<String>,
    /// Its id, where it has a number.
    pub related_id: Option<i64>,
    /// Its name when the alert was raised.
    pub related_name: Option<String>,
    /// Figures for programs, a JSON object, as of the last sighting.
    pub metadata: Json,
    /// The identity of its cause; none of alerts that people entered without one.
    pub fingerprint: Option<String>,
    /// Who acknowledged it.
    pub acked_by: Option<String>,
    /// When.
    pub acked_at: Option<DateTime<Utc>>,
    /// When it was resolved or dismissed.
    pub resolved_at: Option<DateTime<Utc>>,
    /// When its cause was last seen.
    pub last_seen_at: DateTime<Utc>,
    /// How often its cause was seen.
    pub occurrences: u64,
    /// When it was raised, to the microsecond.
    pub created_at: DateTime<Utc>,
    /// When its severity or its status last changed: sightings of the same do not count.
    pub updated_at: DateTime<Utc>,
}

/// What an [`Alert`] is created from: it is active, and seen once.
#[derive(Debug, Clone, PartialEq)]
pub struct NewAlert {
    /// What it is about.
    pub alert_type: AlertType,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// One line for people.
    pub title: String,
    /// More for people.
    pub message: String,
    /// Kind of what it is about.
    pub related_type: Option<String>,
    /// Its id, where it has a number.
    pub related_id: Option<i64>,
    /// Its name.
    pub related_name: Option<String>,
    /// Figures for programs, a JSON object.
    pub metadata: Json,
    /// The identity of its cause.
    pub fingerprint: Option<String>,
    /// When it is raised.
    pub created_at: DateTime<Utc>,
}

/// Which alerts to list.
#[derive(Debug, Clone, Default)]
pub struct AlertFilter {
    /// Only those that stand here.
    pub status: Option<AlertStatus>,
    /// Only those that are as bad as this.
    pub severity: Option<AlertSeverity>,
    /// Only those about this.
    pub alert_type: Option<AlertType>,
    /// Only those about records of this kind.
    pub related_type: Option<String>,
    /// Only those about the record with this id.
    pub related_id: Option<i64>,
    /// Only those with this cause.
    pub fingerprint: Option<String>,
    /// Only those raised at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those raised before this time.
    pub until: Option<DateTime<Utc>>,
}

/// A place in the list of alerts: right after the alert with these values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertCursor {
    /// When that alert was raised.
    pub created_at: DateTime<Utc>,
    /// That alert's id.
    pub id: i64,
}

/// How many alerts stand where, and how bad they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertCount {
    /// Where they stand.
    pub status: AlertStatus,
    /// How bad they are.
    pub severity: AlertSeverity,
    /// How many.
    pub count: u64,
}

/// Creates an alert, unless one of the same fingerprint is open: then `None`. Of several callers at once one gets it, and
/// the others wait until that one is committed or gone.
pub async fn create_unless_open(tx: &StoreTx, new: &NewAlert) -> Result<Option<Alert>, StoreError> {
    let keep = OnConflict::column(Column::Fingerprint).target_and_where(Expr::cust(IS_OPEN)).do_nothing().to_owned();
    let mut insert = Entity::insert(row(new)).on_conflict(keep).into_query();
    insert.returning_col(Column::Id);
    let inserted = tx.transaction().query_one(&insert).await.map_err(on(TABLE, Doing::Write))?;
    let Some(inserted) = inserted else { return Ok(None) };
    let id: i64 = inserted.try_get_by_index(0).map_err(on(TABLE, Doing::Read))?;
    get(tx, id).await
}

/// The alert with this id.
pub async fn get(db: &impl Executor, id: i64) -> Result<Option<Alert>, StoreError> {
    one(db, Entity::find_by_id(id)).await
}

/// The alert with this id, as it stands until the transaction ends.
pub async fn get_for_update(tx: &StoreTx, id: i64) -> Result<Option<Alert>, StoreError> {
    one(tx, Entity::find_by_id(id).lock_exclusive()).await
}

/// The open alert with this fingerprint, as it stands until the transaction ends.
pub async fn get_open_for_update(tx: &StoreTx, fingerprint: &str) -> Result<Option<Alert>, StoreError> {
    let query = Entity::find().filter(Column::Fingerprint.eq(fingerprint)).filter(Expr::cust(IS_OPEN));
    one(tx, query.lock_exclusive()).await
}

/// How bad each open alert of this type is whose cause was seen at this time or later, by fingerprint. One that cannot be read
/// is left out.
pub async fn open_severities(
    db: &impl Executor,
    alert_type: AlertType,
    seen_since: DateTime<Utc>,
) -> Result<BTreeMap<String, AlertSeverity>, StoreError> {
    let rows: Vec<(Option<String>, String)> = Entity::find()
        .select_only()
        .columns([Column::Fingerprint, Column::Severity])
        .filter(Expr::cust(IS_OPEN))
        .filter(Column::AlertType.eq(alert_type.store()))
        .filter(Column::LastSeenAt.gte(seen_since.store()))
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let readable =
        |(fingerprint, severity): (Option<String>, String)| Some((fingerprint?, AlertSeverity::load(severity).ok()?));
    Ok(rows.into_iter().filter_map(readable).collect())
}

/// The newest alert with this fingerprint, open or closed.
pub async fn newest(db: &impl Executor, fingerprint: &str) -> Result<Option<Alert>, StoreError> {
    let query = Entity::find().filter(Column::Fingerprint.eq(fingerprint)).limit(1);
    one(db, query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id)).await
}

/// Writes what may change of an alert; whether it was there. Lock it before.
pub async fn update(tx: &StoreTx, alert: &Alert) -> Result<bool, StoreError> {
    let row = entity::ActiveModel {
        severity: Set(alert.severity.store()),
        status: Set(alert.status.store()),
        message: Set(alert.message.store()),
        metadata: Set(alert.metadata.store()),
        acked_by: Set(alert.acked_by.store()),
        acked_at: Set(alert.acked_at.store()),
        resolved_at: Set(alert.resolved_at.store()),
        last_seen_at: Set(alert.last_seen_at.store()),
        occurrences: Set(alert.occurrences.store()),
        updated_at: Set(alert.updated_at.store()),
        ..Default::default()
    };
    let outcome = Entity::update_many()
        .set(row)
        .filter(Column::Id.eq(alert.id))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(outcome.rows_affected > 0)
}

/// Up to `limit` alerts, newest first, that come after `cursor` where one is given. The table is never counted.
pub async fn list(
    db: &impl Executor,
    filter: &AlertFilter,
    cursor: Option<&AlertCursor>,
    limit: u64,
) -> Result<Vec<Alert>, StoreError> {
    let rows = Entity::find()
        .filter(condition(filter))
        .filter(Condition::all().add_option(cursor.map(is_after)))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .limit(limit)
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    rows.into_iter().map(Alert::from_row).collect()
}

/// How many alerts there are of each status and severity; those without any are left out.
pub async fn counts(db: &impl Executor) -> Result<Vec<AlertCount>, StoreError> {
    let rows: Vec<(String, String, i64)> = Entity::find()
        .select_only()
        .column(Column::Status)
        .column(Column::Severity)
        // Of no column, so that the index answers alone.
        .expr_as(Expr::cust("COUNT(*)"), "count")
        .group_by(Column::Status)
        .group_by(Column::Severity)
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let counted = rows.into_iter().map(|(status, severity, count)| {
        Ok(AlertCount {
            status: load(TABLE, "status", &"?", status)?,
            severity: load(TABLE, "severity", &"?", severity)?,
            count: load(TABLE, "count", &"?", count)?,
        })
    });
    counted.collect()
}

fn condition(filter: &AlertFilter) -> Condition {
    Condition::all()
        .add_option(filter.status.map(|status| Column::Status.eq(status.store())))
        .add_option(filter.severity.map(|severity| Column::Severity.eq(severity.store())))
        .add_option(filter.alert_type.map(|alert_type| Column::AlertType.eq(alert_type.store())))
        .add_option(filter.related_type.as_deref().map(|kind| Column::RelatedType.eq(kind)))
        .add_option(filter.related_id.map(|id| Column::RelatedId.eq(id)))
        .add_option(filter.fingerprint.as_deref().map(|fingerprint| Column::Fingerprint.eq(fingerprint)))
        .add_option(filter.since.map(|since| Column::CreatedAt.gte(since.store())))
        .add_option(filter.until.map(|until| Column::CreatedAt.lt(until.store())))
}

/// Compares as a pair, which both databases answer from the index.
fn is_after(cursor: &AlertCursor) -> Expr {
    let place = Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
    place.lt(Expr::tuple([Expr::val(cursor.created_at.store()), Expr::val(cursor.id)]))
}

async fn one(db: &impl Executor, query: Select<Entity>) -> Result<Option<Alert>, StoreError> {
    let row = query.one(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    row.map(Alert::from_row).transpose()
}

fn row(new: &NewAlert) -> entity::ActiveModel {
    entity::ActiveModel {
        id: NotSet,
        alert_type: Set(new.alert_type.store()),
        severity: Set(new.severity.store()),
        status: Set(AlertStatus::Active.store()),
        title: Set(new.title.store()),
        message: Set(new.message.store()),
        related_type: Set(new.related_type.store()),
        related_id: Set(new.related_id),
        related_name: Set(new.related_name.store()),
        metadata: Set(new.metadata.store()),
        fingerprint: Set(new.fingerprint.store()),
        acked_by: Set(None),
        acked_at: Set(None),
        resolved_at: Set(None),
        last_seen_at: Set(new.created_at.store()),
        occurrences: Set(1),
        created_at: Set(new.created_at.store()),
        updated_at: Set(new.created_at.store()),
    }
}

impl Alert {
    fn from_row(row: entity::Model) -> Result<Self, StoreError> {
        let id = row.id;
        Ok(Self {
            id,
            alert_type: load(TABLE, "alert_type", &id, row.alert_type)?,
            severity: load(TABLE, "severity", &id, row.severity)?,
            status: load(TABLE, "status", &id, row.status)?,
            title: row.title,
            message: row.message,
            related_type: row.related_type,
            related_id: row.related_id,
            related_name: row.related_name,
            metadata: row.metadata,
            fingerprint: row.fingerprint,
            acked_by: row.acked_by,
            acked_at: load(TABLE, "acked_at", &id, row.acked_at)?,
            resolved_at: load(TABLE, "resolved_at", &id, row.resolved_at)?,
            last_seen_at: load(TABLE, "last_seen_at", &id, row.last_seen_at)?,
            occurrences: load(TABLE, "occurrences", &id, row.occurrences)?,
            created_at: load(TABLE, "created_at", &id, row.created_at)?,
            updated_at: load(TABLE, "updated_at", &id, row.updated_at)?,
        })
    }
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod entity {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter, Json,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "alerts")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub alert_type: String,
        pub severity: String,
        pub status: String,
        pub title: String,
        pub message: String,
        pub related_type: Option<String>,
        pub related_id: Option<i64>,
        pub related_name: Option<String>,
        pub metadata: Json,
        pub fingerprint: Option<String>,
        pub acked_by: Option<String>,
        pub acked_at: Option<i64>,
        pub resolved_at: Option<i64>,
        pub last_seen_at: i64,
        pub occurrences: i64,
        pub created_at: i64,
        pub updated_at: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
