//! What usage records add up to: the use of child keys, what masters spent in each month, and whose figures changed since
//! they were last published. All of it changes in the transaction that stores the records, or that takes the use of calls
//! that leave none.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use ez_contract::UsageRecord;
use ez_contract::snapshot::Spend;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, LockBehavior, LockType, OnConflict};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::child_keys::{self, KeyQuota, KeyUsage};
use crate::error::{Doing, on};
use crate::pieces::pieces;
use crate::record::saturating_sum;
use crate::stored::Stored;
use crate::words::RecordKind;
use crate::{Executor, StoreError, StoreTx, masters};

const SPEND: &str = "spend";
const UNPUBLISHED: &str = "unpublished_use";

/// Months of a master's spend that are told: at the turn of a month, and beside a gateway whose clock is ahead, the last
/// month that was counted is not everybody's.
const SPEND_MONTHS: usize = 2;

/// Values in one statement: SQLite takes 32,766.
const MAX_BINDS: usize = 10_000;

/// Billionths of a dollar in a dollar: spend is counted in them, each record's cost rounded up.
const NANOS_PER_DOLLAR: u64 = 1_000_000_000;

/// Adds usage records up that were not stored before, each in the month and in the period of the quota that its call
/// arrived in, however late it comes. Keys and masters that are gone are left out.
pub(crate) async fn add_up(tx: &StoreTx, records: &[&UsageRecord]) -> Result<(), StoreError> {
    let ids: BTreeSet<i64> = records.iter().map(|record| record.key_id).collect();
    // In the order of ids, here as below, so that two ingestions wait for each other and never deadlock.
    let quotas = child_keys::lock_quotas(tx, &ids.into_iter().collect::<Vec<_>>()).await?;
    let mut keys: BTreeMap<i64, KeyUsage> = BTreeMap::new();
    let mut spent: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for record in records {
        if let Some(quota) = quotas.get(&record.key_id) {
            let none = KeyUsage { requests: 0, tokens: 0, quota_tokens: 0, last_used_at: record.created_at };
            let usage = keys.entry(record.key_id).or_insert(none);
            let tokens = record.tokens.input_tokens.unwrap_or_default();
            let tokens = tokens.saturating_add(record.tokens.output_tokens.unwrap_or_default());
            usage.requests += 1;
            usage.tokens = usage.tokens.saturating_add(tokens);
            if quota.since.is_none_or(|since| record.created_at >= since) {
                usage.quota_tokens = usage.quota_tokens.saturating_add(tokens);
            }
            usage.last_used_at = std::cmp::max(usage.last_used_at, record.created_at);
        }
        let nanos = record.cost.as_deref().map_or(0, nanos_of);
        if nanos > 0 {
            let month = spent.entry((record.master_id, month_of(record.created_at))).or_default();
            *month = month.saturating_add(nanos);
        }
    }
    count(tx, &quotas, keys, spent).await
}

/// What calls of a child key added up to, as counted elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDelta {
    /// The child key.
    pub key_id: i64,
    /// Calls.
    pub requests: u64,
    /// Tokens, input and output.
    pub tokens: u64,
    /// Those of them that count against its quota, where the counter knows; else all, unless the quota started anew since
    /// the last of the calls.
    pub quota_tokens: Option<u64>,
    /// When the last of the calls arrived; its month is that of `cost`.
    pub last_used_at: DateTime<Utc>,
    /// What the calls cost, US dollars as a decimal, where known.
    pub cost: Option<String>,
}

/// Adds use up that no record tells of, as [`crate::logs::ingest_with_bodies`] does with that of records; the child keys that are
/// gone, in order.
pub async fn add_deltas(tx: &StoreTx, deltas: &[KeyDelta]) -> Result<Vec<i64>, StoreError> {
    let ids: BTreeSet<i64> = deltas.iter().map(|delta| delta.key_id).collect();
    let quotas = child_keys::lock_quotas(tx, &ids.iter().copied().collect::<Vec<_>>()).await?;
    let mut keys: BTreeMap<i64, KeyUsage> = BTreeMap::new();
    let mut spent: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for delta in deltas {
        let Some(quota) = quotas.get(&delta.key_id) else { continue };
        let none = KeyUsage { requests: 0, tokens: 0, quota_tokens: 0, last_used_at: delta.last_used_at };
        let usage = keys.entry(delta.key_id).or_insert(none);
        let is_of_period = quota.since.is_none_or(|since| delta.last_used_at >= since);
        let quota_tokens = delta.quota_tokens.unwrap_or(if is_of_period { delta.tokens } else { 0 });
        usage.requests = usage.requests.saturating_add(delta.requests);
        usage.tokens = usage.tokens.saturating_add(delta.tokens);
        usage.quota_tokens = usage.quota_tokens.saturating_add(quota_tokens);
        usage.last_used_at = std::cmp::max(usage.last_used_at, delta.last_used_at);
        let nanos = delta.cost.as_deref().map_or(0, nanos_of);
        if nanos > 0 {
            let month = spent.entry((quota.master_id, month_of(delta.last_used_at))).or_default();
            *month = month.saturating_add(nanos);
        }
    }
    count(tx, &quotas, keys, spent).await?;
    Ok(ids.into_iter().filter(|id| !quotas.contains_key(id)).collect())
}

/// Writes what was added up, and marks whose figures are to be published. `quotas` are locked.
async fn count(
    tx: &StoreTx,
    quotas: &BTreeMap<i64, KeyQuota>,
    keys: BTreeMap<i64, KeyUsage>,
    spent: BTreeMap<(i64, String), u64>,
) -> Result<(), StoreError> {
    child_keys::add_usages(tx, &keys.iter().map(|(id, usage)| (*id, *usage)).collect::<Vec<_>>()).await?;
    add_spend(tx, &spent).await?;
    let is_limited = |id: &i64| quotas.get(id).is_some_and(|quota| quota.is_limited);
    let keys = keys.into_iter().filter(|(id, usage)| usage.quota_tokens > 0 && is_limited(id)).map(|(id, _)| id);
    mark(tx, RecordKind::Key, &keys.collect::<Vec<_>>()).await?;
    let spenders: Vec<i64> = spent.into_keys().map(|(id, _)| id).collect::<BTreeSet<_>>().into_iter().collect();
    mark(tx, RecordKind::Master, &masters::list_with_budget(tx, &spenders).await?).await
}

/// What a master spent, in the last two months that anything was counted in, the later one first.
pub async fn spend_of(db: &impl Executor, master_id: i64) -> Result<Vec<Spend>, StoreError> {
    let rows = spend::Entity::find()
        .filter(spend::Column::MasterId.eq(master_id))
        .order_by_desc(spend::Column::Month)
        .limit(SPEND_MONTHS as u64)
        .all(&db.executor())
        .await
        .map_err(on(SPEND, Doing::Read))?;
    Ok(rows.into_iter().map(spend_of_row).collect())
}

/// The same of every master, by id.
pub async fn list_spend(db: &impl Executor) -> Result<BTreeMap<i64, Vec<Spend>>, StoreError> {
    let rows = spend::Entity::find()
        .order_by_asc(spend::Column::MasterId)
        .order_by_desc(spend::Column::Month)
        .all(&db.executor())
        .await
        .map_err(on(SPEND, Doing::Read))?;
    let mut spent: BTreeMap<i64, Vec<Spend>> = BTreeMap::new();
    for row in rows {
        let months = spent.entry(row.master_id).or_default();
        if months.len() < SPEND_MONTHS {
            months.push(spend_of_row(row));
        }
    }
    Ok(spent)
}

/// Ids of up to `limit` child keys or masters above `after_id` whose quota or budget was used since it was last
/// published, in order.
pub async fn list_unpublished(
    db: &impl Executor,
    kind: RecordKind,
    after_id: i64,
    limit: u64,
) -> Result<Vec<i64>, StoreError> {
    unpublished::Entity::find()
        .select_only()
        .column(unpublished::Column::RecordId)
        .filter(unpublished::Column::Kind.eq(kind.store()))
        .filter(unpublished::Column::RecordId.gt(after_id))
        .order_by_asc(unpublished::Column::RecordId)
        .limit(limit)
        .into_tuple::<i64>()
        .all(&db.executor())
        .await
        .map_err(on(UNPUBLISHED, Doing::Read))
}

/// Of these records, those whose use is about to be published: it counts as published when the transaction ends. Those that
/// an ingestion counts use of right now are left out, and are still unpublished after. Waits for nobody. On PostgreSQL the
/// caller has locked the child keys among them, as ingestion does before it marks them.
pub async fn take_unpublished(tx: &StoreTx, kind: RecordKind, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
    use unpublished::{Column, Entity};

    let these = |ids: &[i64]| {
        Condition::all().add(Column::Kind.eq(kind.store())).add(Column::RecordId.is_in(ids.iter().copied()))
    };
    let mut taken = Vec::new();
    for ids in ids.chunks(MAX_BINDS) {
        let free: Vec<i64> = Entity::find()
            .select_only()
            .column(Column::RecordId)
            .filter(these(ids))
            .order_by_asc(Column::RecordId)
            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
            .into_tuple()
            .all(tx.transaction())
            .await
            .map_err(on(UNPUBLISHED, Doing::Read))?;
        Entity::delete_many()
            .filter(these(&free))
            .exec(tx.transaction())
            .await
            .map_err(on(UNPUBLISHED, Doing::Delete))?;
        taken.extend(free);
    }
    Ok(taken)
}

async fn add_spend(tx: &StoreTx, spent: &BTreeMap<(i64, String), u64>) -> Result<(), StoreError> {
    use spend::{ActiveModel, Column, Entity};

    let row = |((master_id, month), nanos): &(&(i64, String), &u64)| ActiveModel {
        master_id: Set(*master_id),
        month: Set(month.clone()),
        nanos: Set(nanos.store()),
    };
    let add = OnConflict::columns([Column::MasterId, Column::Month])
        .value(Column::Nanos, saturating_sum(Expr::col((Entity, Column::Nanos)), Expr::cust("excluded.nanos")))
        .to_owned();
    for spent in pieces(&spent.iter().collect::<Vec<_>>()) {
        let insert = Entity::insert_many(spent.iter().map(row)).on_conflict(add.clone());
        insert.exec_without_returning(tx.transaction()).await.map_err(on(SPEND, Doing::Write))?;
    }
    Ok(())
}

async fn mark(tx: &StoreTx, kind: RecordKind, ids: &[i64]) -> Result<(), StoreError> {
    use unpublished::{ActiveModel, Column, Entity};

    let row = |id: &i64| ActiveModel { kind: Set(kind.store()), record_id: Set(*id) };
    // Written again where it stands, which holds it: a publication that took it now would not see what is counted here.
    let hold = OnConflict::columns([Column::Kind, Column::RecordId]).update_column(Column::Kind).to_owned();
    for ids in pieces(ids) {
        let insert = Entity::insert_many(ids.iter().map(row)).on_conflict(hold.clone());
        insert.exec_without_returning(tx.transaction()).await.map_err(on(UNPUBLISHED, Doing::Write))?;
    }
    Ok(())
}

fn spend_of_row(row: spend::Model) -> Spend {
    let nanos = u64::try_from(row.nanos).unwrap_or_default();
    let amount = Decimal::from(nanos) / Decimal::from(NANOS_PER_DOLLAR);
    Spend { month: row.month, amount: amount.normalize().to_string() }
}

/// The month of a time as [`Spend`] names it.
fn month_of(at: DateTime<Utc>) -> String {
    at.format("%Y-%m").to_string()
}

/// A cost that is none counts nothing: the gateway that wrote it is to blame, and its record stands as it is. One that is
/// out of all bounds counts as much as there is.
fn nanos_of(cost: &str) -> u64 {
    let Some(cost) = cost.parse().ok().filter(|cost: &Decimal| !cost.is_sign_negative()) else { return 0 };
    let nanos = cost.checked_mul(Decimal::from(NANOS_PER_DOLLAR));
    nanos.and_then(|nanos| nanos.ceil().to_u64()).unwrap_or(u64::MAX)
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod spend {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    /// What a master spent in a month. It outlives the master, like its log records.
    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "spend")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub master_id: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub month: String,
        pub nanos: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[allow(unreachable_pub, reason = "SeaORM's derive makes public items")]
mod unpublished {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Debug, Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "unpublished_use")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub record_id: i64,
    }

    #[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
