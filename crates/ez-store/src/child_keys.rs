//! Child keys: what client applications send.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, Months, Utc};
use ez_contract::TokenDigest;
use ez_contract::status::KeyStatus;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{
    Expr, ExprTrait, IntoIden, IntoValueTuple, LockBehavior, LockType, Query, TableRef, UpdateStatement,
};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::listing::{any_contains, list_holds};
use crate::pieces::{padded, pieces};
use crate::record::{later, record, saturating_sum};
use crate::stored::{Stored, load};
use crate::words::{IssuedBy, QuotaReset};
use crate::{Executor, Page, Paged, Sort, StoreError, StoreTx};

record! {
    table "child_keys" named Name;
    /// A key that a client application sends.
    ChildKey / NewChildKey {
        /// The tenant that it belongs to.
        master_id: i64,
        /// For people; may be empty.
        name: String,
        /// Argon2id of the clear token, where kept.
        token_hash: Option<String>,
        /// Digest of the clear token, unique.
        token_digest: TokenDigest,
        /// First characters of the clear token, to show.
        prefix: String,
        /// During a rotation, the digest that still counts; unique.
        previous_digest: Option<TokenDigest>,
        /// When `previous_digest` stops counting.
        previous_expires_at: Option<DateTime<Utc>>,
        /// A label for reports.
        group: String,
        /// What it may do; empty means all.
        scopes: Vec<String>,
        /// Where bare model names are looked up; a member of `namespaces`.
        default_namespace: String,
        /// Names of the namespaces that it may use.
        namespaces: Vec<String>,
        /// Its state.
        status: KeyStatus,
        /// Its master's epoch when it was issued.
        issued_at_epoch: i64,
        /// Who issued it.
        issued_by: IssuedBy,
        /// End of life.
        expires_at: Option<DateTime<Utc>>,
        /// Addresses and ranges it may be used from; empty means any.
        allow_ips: Vec<String>,
        /// Addresses and ranges it may not be used from.
        deny_ips: Vec<String>,
        /// Whether `model_limits` applies.
        model_limits_enabled: bool,
        /// Public models it may call.
        model_limits: Vec<String>,
        /// Tokens it may use between two resets, input and output.
        quota_limit: Option<u64>,
        /// How often its quota starts anew.
        quota_reset: QuotaReset,
        /// When it does next.
        quota_reset_at: Option<DateTime<Utc>>,
        /// Calls per second; 0 means unlimited.
        global_qps: u32,
        /// Calls per minute.
        rpm: Option<u64>,
        /// Tokens per minute, input and output.
        tpm: Option<u64>,
        /// Calls per day.
        rpd: Option<u64>,
        /// Tokens per day, input and output.
        tpd: Option<u64>,
        /// Calls in flight at once.
        max_concurrency: Option<u32>,
    }
    counters {
        /// Tokens used since the last reset. Changed by [`add_usage`] and [`restart_quota`].
        quota_used: u64,
        /// Calls ever made. Changed by [`add_usage`].
        request_count: u64,
        /// Tokens ever used, input and output. Changed by [`add_usage`].
        used_tokens: u64,
        /// When it was last used. Changed by [`add_usage`].
        last_used_at: Option<DateTime<Utc>>,
    }
}

/// Which child keys to list.
#[derive(Debug, Clone, Default)]
pub struct ChildKeyFilter {
    /// Only those of this master; a master's own requests must set it.
    pub master_id: Option<i64>,
    /// Part of the name or prefix, in any case.
    pub search: Option<String>,
    /// Only those in this state.
    pub status: Option<KeyStatus>,
    /// Only those with this group label.
    pub group: Option<String>,
}

/// What calls added to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// Calls.
    pub requests: u64,
    /// Tokens, input and output.
    pub tokens: u64,
    /// Those of them that count against its quota: used since that last started anew.
    pub quota_tokens: u64,
    /// When the last of the calls arrived.
    pub last_used_at: DateTime<Utc>,
}

/// How much of its quota a key has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// The key's id.
    pub key_id: i64,
    /// Its quota, tokens; more than 0.
    pub limit: u64,
    /// What is used of it, tokens.
    pub used: u64,
}

/// What use of a key counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyQuota {
    /// Whose key it is.
    pub(crate) master_id: i64,
    /// Whether it has a quota.
    pub(crate) is_limited: bool,
    /// When the quota last started anew; none where it never does.
    pub(crate) since: Option<DateTime<Utc>>,
}

/// When a quota started anew before `next`.
pub fn quota_start(reset: QuotaReset, next: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match reset {
        QuotaReset::None => None,
        QuotaReset::Daily => next.checked_sub_days(Days::new(1)),
        QuotaReset::Weekly => next.checked_sub_days(Days::new(7)),
        QuotaReset::Monthly => next.checked_sub_months(Months::new(1)),
    }
}

/// A page of the child keys that match.
pub async fn list(
    db: &impl Executor,
    filter: &ChildKeyFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<ChildKey>, StoreError> {
    let columns = [entity::Column::Name, entity::Column::Prefix];
    let condition = Condition::all()
        .add_option(filter.master_id.map(|master_id| entity::Column::MasterId.eq(master_id)))
        .add_option(filter.search.as_deref().map(|term| any_contains(db.dialect(), &columns, term)))
        .add_option(filter.status.map(|status| entity::Column::Status.eq(status.store())))
        .add_option(filter.group.as_ref().map(|group| entity::Column::Group.eq(group.as_str())));
    page_of(db, condition, sort, page).await
}

/// The child key with this id, if it belongs to this master.
pub async fn get_of_master(db: &impl Executor, master_id: i64, id: i64) -> Result<Option<ChildKey>, StoreError> {
    one(db, entity::Entity::find_by_id(id).filter(entity::Column::MasterId.eq(master_id))).await
}

/// The child key with this digest, be it the current one or the previous one; whether that still counts is for the
/// caller to see.
pub async fn get_by_digest(db: &impl Executor, digest: &TokenDigest) -> Result<Option<ChildKey>, StoreError> {
    let either = Condition::any()
        .add(entity::Column::TokenDigest.eq(digest.store()))
        .add(entity::Column::PreviousDigest.eq(digest.store()));
    one(db, entity::Entity::find().filter(either)).await
}

/// The child keys that have one of these digests, be it the current one or the previous one, by id. For up to a few
/// thousand digests.
pub async fn list_by_digests(db: &impl Executor, digests: &[TokenDigest]) -> Result<Vec<ChildKey>, StoreError> {
    let texts = || digests.iter().map(Stored::store);
    let either = Condition::any()
        .add(entity::Column::TokenDigest.is_in(texts()))
        .add(entity::Column::PreviousDigest.is_in(texts()));
    all(db, entity::Entity::find().filter(either)).await
}

/// Up to `limit` child keys of a master, by id.
pub async fn list_by_master(db: &impl Executor, master_id: i64, limit: u64) -> Result<Vec<ChildKey>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::MasterId.eq(master_id)).limit(limit)).await
}

/// Up to `limit` child keys that may use a namespace, by id.
pub async fn list_by_namespace(db: &impl Executor, namespace: &str, limit: u64) -> Result<Vec<ChildKey>, StoreError> {
    all(db, entity::Entity::find().filter(list_holds(entity::Column::Namespaces, namespace)).limit(limit)).await
}

/// Ids of up to `limit` active or exhausted keys above `after_id` whose end of life has come, in order.
pub async fn list_expired(
    db: &impl Executor,
    now: DateTime<Utc>,
    after_id: i64,
    limit: u64,
) -> Result<Vec<i64>, StoreError> {
    let alive = [KeyStatus::Active, KeyStatus::Exhausted].map(|status| status.store());
    let condition =
        Condition::all().add(entity::Column::ExpiresAt.lte(now.store())).add(entity::Column::Status.is_in(alive));
    ids(db, condition, after_id, limit).await
}

/// Ids of up to `limit` keys above `after_id` whose previous digest has stopped counting, in order.
pub async fn list_overlap_ended(
    db: &impl Executor,
    now: DateTime<Utc>,
    after_id: i64,
    limit: u64,
) -> Result<Vec<i64>, StoreError> {
    // The comparison with the empty text says "not null" in a way that every database finds in the index.
    let condition = Condition::all()
        .add(entity::Column::PreviousDigest.gt(""))
        .add(entity::Column::PreviousExpiresAt.lte(now.store()));
    ids(db, condition, after_id, limit).await
}

/// Ids of up to `limit` keys above `after_id` whose quota is due to start anew, in order.
pub async fn list_quota_due(
    db: &impl Executor,
    now: DateTime<Utc>,
    after_id: i64,
    limit: u64,
) -> Result<Vec<i64>, StoreError> {
    ids(db, Condition::all().add(entity::Column::QuotaResetAt.lte(now.store())), after_id, limit).await
}

/// Up to `limit` keys in use that have used `percent` of their quota or more, those with the highest part first.
pub async fn list_quota_used(db: &impl Executor, percent: u64, limit: u64) -> Result<Vec<QuotaUse>, StoreError> {
    use entity::Column;

    let in_use = [KeyStatus::Active, KeyStatus::Exhausted].map(|status| status.store());
    // As floats, since what a key has used may be the highest that a column holds.
    let used = || Expr::col(Column::QuotaUsed).cast_as("double precision");
    let part = || used().div(Expr::col(Column::QuotaLimit).cast_as("double precision"));
    let rows: Vec<(i64, i64, i64)> = entity::Entity::find()
        .select_only()
        .columns([Column::Id, Column::QuotaLimit, Column::QuotaUsed])
        .filter(Column::QuotaLimit.is_not_null())
        .filter(Column::QuotaLimit.gt(0_i64))
        .filter(Column::Status.is_in(in_use))
        .filter(part().gte(percent as f64 / 100.0))
        .order_by(part(), Order::Desc)
        .limit(limit)
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let uses = rows.into_iter().map(|(key_id, limit, used)| {
        Ok(QuotaUse {
            key_id,
            limit: load(TABLE, "quota_limit", &key_id, limit)?,
            used: load(TABLE, "quota_used", &key_id, used)?,
        })
    });
    uses.collect()
}

/// What use of these child keys counts against, as it stands until the transaction ends; those that are gone are left out.
/// For up to some ten thousand ids.
pub(crate) async fn lock_quotas(tx: &StoreTx, among: &[i64]) -> Result<BTreeMap<i64, KeyQuota>, StoreError> {
    use entity::Column;

    /// Id, master, limit, how often it starts anew, and when next.
    type Row = (i64, i64, Option<i64>, String, Option<i64>);
    let rows: Vec<Row> = entity::Entity::find()
        .select_only()
        .columns([Column::Id, Column::MasterId, Column::QuotaLimit, Column::QuotaReset, Column::QuotaResetAt])
        .filter(Column::Id.is_in(padded(among)))
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .into_tuple()
        .all(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let quotas = rows.into_iter().map(|(id, master_id, limit, reset, next)| {
        // A damaged row must not hold up the records of every other key.
        let since = QuotaReset::load(reset).ok().zip(next.and_then(|next| DateTime::load(next).ok()));
        let since = since.and_then(|(reset, next)| quota_start(reset, next));
        (id, KeyQuota { master_id, is_limited: limit.is_some(), since })
    });
    Ok(quotas.collect())
}

/// The child key with this id as it stands until the transaction ends; `None` also where another transaction holds it
/// now. Waits for nobody, so it is for those that come again.
pub async fn get_for_update_if_free(tx: &StoreTx, id: i64) -> Result<Option<ChildKey>, StoreError> {
    let query = entity::Entity::find_by_id(id).lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    one(tx, query).await
}

/// Up to `limit` child keys of a master above `after_id`, by id, as they stand until the transaction ends.
pub async fn list_of_master_for_update(
    tx: &StoreTx,
    master_id: i64,
    after_id: i64,
    limit: u64,
) -> Result<Vec<ChildKey>, StoreError> {
    let query = entity::Entity::find()
        .filter(entity::Column::MasterId.eq(master_id))
        .filter(entity::Column::Id.gt(after_id))
        .limit(limit)
        .lock_exclusive();
    all(tx, query).await
}

/// Gives several keys the same namespaces, and `updated_at`; how many were there.
pub async fn set_access(
    tx: &StoreTx,
    ids: &[i64],
    default_namespace: &str,
    namespaces: &[String],
    updated_at: DateTime<Utc>,
) -> Result<u64, StoreError> {
    use entity::Column;

    let row = entity::ActiveModel {
        default_namespace: Set(default_namespace.to_owned().store()),
        namespaces: Set(namespaces.to_vec().store()),
        updated_at: Set(updated_at.store()),
        ..Default::default()
    };
    let outcome = entity::Entity::update_many()
        .set(row)
        .filter(Column::Id.is_in(ids.iter().copied()))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(outcome.rows_affected)
}

/// How many keys a master has.
pub async fn count_by_master(db: &impl Executor, master_id: i64) -> Result<u64, StoreError> {
    count_of(db, Condition::all().add(entity::Column::MasterId.eq(master_id))).await
}

/// How many keys there are, of one state or of all.
pub async fn count(db: &impl Executor, status: Option<KeyStatus>) -> Result<u64, StoreError> {
    let condition = Condition::all().add_option(status.map(|status| entity::Column::Status.eq(status.store())));
    count_of(db, condition).await
}

/// Deletes all keys of a master; how many there were.
pub async fn delete_by_master(tx: &StoreTx, master_id: i64) -> Result<u64, StoreError> {
    let outcome = entity::Entity::delete_many()
        .filter(entity::Column::MasterId.eq(master_id))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Delete))?;
    Ok(outcome.rows_affected)
}

/// Adds to a key's counters; whether the key was there. Does not touch `updated_at`: use is no change.
pub async fn add_usage(tx: &StoreTx, id: i64, usage: &KeyUsage) -> Result<bool, StoreError> {
    Ok(add_usages(tx, &[(id, *usage)]).await? > 0)
}

/// The same for many keys, each named once; how many of them were there.
pub(crate) async fn add_usages(tx: &StoreTx, usages: &[(i64, KeyUsage)]) -> Result<u64, StoreError> {
    let mut counted = 0;
    for usages in pieces(usages) {
        let update = counting(usages);
        let outcome = tx.transaction().execute(&update).await.map_err(on(TABLE, Doing::Write))?;
        counted += outcome.rows_affected();
    }
    Ok(counted)
}

/// An update of these keys from a list that stands in the statement, whose columns both databases name alike.
fn counting(usages: &[(i64, KeyUsage)]) -> UpdateStatement {
    use entity::{Column, Entity};

    let rows = usages.iter().map(|(id, KeyUsage { requests, tokens, quota_tokens, last_used_at })| {
        (*id, requests.store(), tokens.store(), quota_tokens.store(), last_used_at.store()).into_value_tuple()
    });
    let list = TableRef::ValuesList(rows.collect(), "added".into_iden());
    let counter = |column: Column| Expr::col((Entity, column));
    let added = |column: &'static str| Expr::col(("added", column));
    Query::update()
        .table(Entity)
        .from(list)
        .value(Column::RequestCount, counter(Column::RequestCount).add(added("column2")))
        .value(Column::UsedTokens, saturating_sum(counter(Column::UsedTokens), added("column3")))
        .value(Column::QuotaUsed, saturating_sum(counter(Column::QuotaUsed), added("column4")))
        .value(Column::LastUsedAt, later(counter(Column::LastUsedAt), added("column5")))
        .and_where(counter(Column::Id).eq(added("column1")))
        .to_owned()
}

/// Sets what is used of a key's quota; whether the key was there. The next reset is a field like others: `update` sets it.
pub async fn restart_quota(tx: &StoreTx, id: i64, used: u64) -> Result<bool, StoreError> {
    let outcome = entity::Entity::update_many()
        .col_expr(entity::Column::QuotaUsed, Expr::val(used.store()))
        .filter(entity::Column::Id.eq(id))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Write))?;
    Ok(outcome.rows_affected > 0)
}

async fn ids(db: &impl Executor, condition: Condition, after_id: i64, limit: u64) -> Result<Vec<i64>, StoreError> {
    entity::Entity::find()
        .select_only()
        .column(entity::Column::Id)
        .filter(condition)
        .filter(entity::Column::Id.gt(after_id))
        .order_by_asc(entity::Column::Id)
        .limit(limit)
        .into_tuple::<i64>()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))
}

/// Names of those of `ids` that exist.
pub async fn names(db: &impl Executor, ids: &[i64]) -> Result<BTreeMap<i64, String>, StoreError> {
    let among = entity::Entity::find().filter(entity::Column::Id.is_in(ids.iter().copied()));
    let columns = among.select_only().column(entity::Column::Id).column(entity::Column::Name);
    let rows = columns.into_tuple::<(i64, String)>().all(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    Ok(rows.into_iter().collect())
}
