//! Lists of log records. Whatever is asked for, a page looks at a bounded number of records, in the order of an index.
//!
//! A list walks one index: that of the request, the child key, the master, the failing records or all of them, newest
//! first. What else is asked for is looked at record by record. A first query finds in the index alone how far
//! [`MAX_EXAMINED`] records reach; the second reads no further.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use sea_orm::sea_query::{Expr, ExprTrait, Value};
use sea_orm::{ColumnTrait, Condition, DbBackend, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::listing::contains;
use crate::stored::{Stored, load};
use crate::{Executor, StoreError};

use super::row::{self, Column, Entity};
use super::{IS_FAILING, TABLE};

/// Records that one page looks at, at most. Where fewer than its limit match among them, the page is short, and the next
/// one goes on after the last that was looked at.
pub const MAX_EXAMINED: u64 = 50_000;

/// The lowest status of a failing record.
const FIRST_FAILING: u16 = 400;

/// Which log records to list.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Only those of this master; a master's own requests must set it.
    pub master_id: Option<i64>,
    /// Only those of this child key.
    pub key_id: Option<i64>,
    /// Only those whose last attempt went to this provider group.
    pub group_id: Option<i64>,
    /// Only those whose last attempt used this API key.
    pub api_key_id: Option<i64>,
    /// Only those of this public model.
    pub model: Option<String>,
    /// Only those with an HTTP status in this range.
    pub status: Option<RangeInclusive<u16>>,
    /// Only those with this in their error, upper and lower case being equal (on SQLite for ASCII only).
    pub error: Option<String>,
    /// Only those of this request.
    pub request_id: Option<String>,
    /// Only those that arrived at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that arrived before this time.
    pub until: Option<DateTime<Utc>>,
}

/// A place in the list of log records: right after the record with these values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogCursor {
    /// When that record's call arrived.
    pub created_at: DateTime<Utc>,
    /// That record's id.
    pub id: String,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// Newest first.
    pub items: Vec<UsageRecord>,
    /// Where the next page starts; none at the end of the list. Of a list of one master it is a record of that master.
    pub next: Option<LogCursor>,
}

/// The index that a list goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    All,
    Failing,
    Master(i64),
    Key(i64),
    Request,
}

/// A place in the order of the list: time and id.
#[derive(Debug, Clone)]
struct Place(i64, String);

/// The stretch of the list between two places, from the older one, which is part of it, up to the newer one, which is not.
#[derive(Debug, Clone, Default)]
struct Stretch {
    from: Option<Place>,
    before: Option<Place>,
}

/// Up to `limit` log records, newest first, that come after `cursor` where one is given. The table is never counted, and
/// [`MAX_EXAMINED`] records are looked at at most: a page may be short, or empty, and yet not the last.
pub async fn list(
    db: &impl Executor,
    filter: &LogFilter,
    cursor: Option<&LogCursor>,
    limit: u64,
) -> Result<LogPage, StoreError> {
    let stretch = Stretch::of(filter, cursor);
    if let (Some(master_id), Some(key_id)) = (filter.master_id, filter.key_id)
        && master_of(db, key_id).await? != Some(master_id)
    {
        return Ok(LogPage { items: Vec::new(), next: None });
    }
    let walk = Walk::of(filter);
    let (page, is_whole) = page(db, walk, filter, &stretch, limit).await?;
    match (walk, filter.master_id) {
        // Many others gave their calls this id. A master must not learn of their records from a cursor.
        (Walk::Request, Some(master_id)) if !is_whole => {
            Ok(self::page(db, Walk::Master(master_id), filter, &stretch, limit).await?.0)
        }
        _ => Ok(page),
    }
}

/// A page of a walk, and whether it ends at a record that matches, or with the list.
async fn page(
    db: &impl Executor,
    walk: Walk,
    filter: &LogFilter,
    stretch: &Stretch,
    limit: u64,
) -> Result<(LogPage, bool), StoreError> {
    let (backend, mut stretch) = (db.dialect(), stretch.clone());
    let rest = walk.rest(filter, backend);
    let mut end = None;
    if !rest.is_empty() {
        end = last_examined(db, walk, filter, &stretch).await?;
        stretch.from = end.clone().or(stretch.from);
    }
    let query = Entity::find().filter(walk.condition(filter, &stretch, backend)).filter(rest);
    let rows = walk.ordered(query, backend).limit(limit.saturating_add(1)).all(&db.executor()).await;
    let mut items = Vec::new();
    for row in rows.map_err(on(TABLE, Doing::Read))? {
        items.push(row::into_record(row)?);
    }
    let kept = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > kept;
    items.truncate(kept);
    let next = match (items.last().filter(|_| has_more), &end) {
        (Some(last), _) => Some(LogCursor { created_at: last.created_at, id: last.id.clone() }),
        (None, Some(Place(at, id))) => {
            Some(LogCursor { created_at: load(TABLE, "created_at", id, *at)?, id: id.clone() })
        }
        (None, None) => None,
    };
    Ok((LogPage { items, next }, has_more || end.is_none()))
}

/// The last record that a page looks at, where the list goes on behind it.
async fn last_examined(
    db: &impl Executor,
    walk: Walk,
    filter: &LogFilter,
    stretch: &Stretch,
) -> Result<Option<Place>, StoreError> {
    let query = Entity::find().select_only().column(Column::CreatedAt).column(Column::Id);
    let query = walk.ordered(query.filter(walk.condition(filter, stretch, db.dialect())), db.dialect());
    let ends: Vec<(i64, String)> = query
        .offset(MAX_EXAMINED - 1)
        .limit(2)
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let goes_on = ends.len() > 1;
    Ok(ends.into_iter().next().filter(|_| goes_on).map(|(at, id)| Place(at, id)))
}

/// The master of a child key that has log records: all of them are of the same.
async fn master_of(db: &impl Executor, key_id: i64) -> Result<Option<i64>, StoreError> {
    let (walk, any) = (Walk::Key(key_id), LogFilter::default());
    let query = Entity::find().select_only().column(Column::MasterId);
    let query = walk.ordered(query.filter(walk.condition(&any, &Stretch::default(), db.dialect())), db.dialect());
    query.limit(1).into_tuple().one(&db.executor()).await.map_err(on(TABLE, Doing::Read))
}

impl Walk {
    /// The narrowest one for a list.
    fn of(filter: &LogFilter) -> Self {
        let fails = filter.error.is_some() || filter.status.as_ref().is_some_and(|s| *s.start() >= FIRST_FAILING);
        match (&filter.request_id, filter.key_id, filter.master_id) {
            (Some(_), _, _) => Self::Request,
            (None, Some(key_id), _) => Self::Key(key_id),
            (None, None, Some(master_id)) => Self::Master(master_id),
            (None, None, None) if fails => Self::Failing,
            (None, None, None) => Self::All,
        }
    }

    /// The column that the index begins with, where it does not begin with the time, and its value.
    fn lead(self, filter: &LogFilter) -> Option<(Column, Value)> {
        match self {
            Self::All | Self::Failing => None,
            Self::Master(id) => Some((Column::MasterId, id.into())),
            Self::Key(id) => Some((Column::KeyId, id.into())),
            Self::Request => Some((Column::RequestId, filter.request_id.clone().unwrap_or_default().into())),
        }
    }

    /// What of a filter has to be looked at record by record.
    fn rest(self, filter: &LogFilter, backend: DbBackend) -> Condition {
        let of_master = filter.master_id.filter(|_| !matches!(self, Self::Master(_) | Self::Key(_)));
        let of_key = filter.key_id.filter(|_| !matches!(self, Self::Key(_)));
        let of_request = filter.request_id.as_ref().filter(|_| self != Self::Request);
        Condition::all()
            .add_option(of_master.map(|id| Column::MasterId.eq(id)))
            .add_option(of_key.map(|id| Column::KeyId.eq(id)))
            .add_option(of_request.map(|id| Column::RequestId.eq(id.as_str())))
            .add_option(filter.group_id.map(|id| Column::GroupId.eq(id)))
            .add_option(filter.api_key_id.map(|id| Column::ApiKeyId.eq(id)))
            .add_option(filter.model.as_ref().map(|model| Column::Model.eq(model.as_str())))
            .add_option(filter.status.as_ref().map(|s| Column::Status.between(s.start().store(), s.end().store())))
            .add_option(filter.error.as_ref().map(|term| contains(backend, Expr::col(Column::Error), term)))
    }

    /// The stretch of this walk, such that the database has no other index for it.
    fn condition(self, filter: &LogFilter, stretch: &Stretch, backend: DbBackend) -> Condition {
        match (self.lead(filter), backend) {
            (None, _) => {
                let condition = stretch.condition();
                if self == Self::Failing { condition.add(Expr::cust(IS_FAILING)) } else { condition }
            }
            // PostgreSQL would now and then prefer the index of all records and look for those of a frequent master in
            // it: for hours of records, where that master rested. As a range it must follow the order of this one.
            (Some((column, value)), DbBackend::Postgres) => {
                stretch.condition_after(column, &value).add_option(self.of_master(filter))
            }
            (Some((column, value)), _) => {
                stretch.condition().add(Expr::col(column).eq(value)).add_option(self.of_master(filter))
            }
        }
    }

    /// Of the master's, along a child key: whatever records say of the two. A sum, which the index of masters knows
    /// nothing of, so that no database takes that one.
    fn of_master(self, filter: &LogFilter) -> Option<Expr> {
        let master_id = filter.master_id.filter(|_| matches!(self, Self::Key(_)))?;
        Some(Expr::col(Column::MasterId).add(0_i64).eq(master_id))
    }

    /// Newest first, in the very order of the index.
    fn ordered(self, query: sea_orm::Select<Entity>, backend: DbBackend) -> sea_orm::Select<Entity> {
        let lead = self.lead(&LogFilter::default()).filter(|_| backend == DbBackend::Postgres);
        let query = lead.into_iter().fold(query, |query, (column, _)| query.order_by(column, Order::Desc));
        query.order_by_desc(Column::CreatedAt).order_by_desc(Column::Id)
    }
}

impl Stretch {
    fn of(filter: &LogFilter, cursor: Option<&LogCursor>) -> Self {
        let since = filter.since.map(|since| Place(since.store(), String::new()));
        let until = filter.until.map(|until| Place(until.store(), String::new()));
        let cursor = cursor.map(|cursor| Place(cursor.created_at.store(), cursor.id.clone()));
        // One bound alone, so that no database takes the wider one for the index.
        let before = match (cursor, until) {
            (Some(cursor), Some(until)) if cursor.0 >= until.0 => Some(until),
            (cursor, until) => cursor.or(until),
        };
        Self { from: since, before }
    }

    /// Compares places as pairs, which both databases answer from an index.
    fn condition(&self) -> Condition {
        let place = || Expr::tuple([Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
        let values = |Place(at, id): &Place| Expr::tuple([Expr::val(*at), Expr::val(id.as_str())]);
        let condition = Condition::all()
            .add_option(self.from.as_ref().map(|from| place().gte(values(from))))
            .add_option(self.before.as_ref().map(|before| place().lt(values(before))));
        self.with_days(condition)
    }

    /// The same of the records with this value, as one range of an index that begins with its column.
    fn condition_after(&self, column: Column, value: &Value) -> Condition {
        let place = || Expr::tuple([Expr::col(column), Expr::col(Column::CreatedAt), Expr::col(Column::Id)]);
        let values =
            |Place(at, id): &Place| Expr::tuple([Expr::val(value.clone()), Expr::val(*at), Expr::val(id.as_str())]);
        let whole = || Expr::col(column);
        let from = self.from.as_ref().map_or_else(|| whole().gte(value.clone()), |from| place().gte(values(from)));
        let before =
            self.before.as_ref().map_or_else(|| whole().lte(value.clone()), |before| place().lt(values(before)));
        self.with_days(Condition::all().add(from).add(before))
    }

    /// What PostgreSQL tells the tables of other days by; pairs do not say that. To SQLite it says nothing new.
    fn with_days(&self, condition: Condition) -> Condition {
        condition
            .add_option(self.from.as_ref().map(|from| Column::CreatedAt.gte(from.0)))
            .add_option(self.before.as_ref().map(|before| Column::CreatedAt.lte(before.0)))
    }
}
