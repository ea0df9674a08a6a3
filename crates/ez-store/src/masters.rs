//! Masters: the tenants.

use std::collections::BTreeMap;

use ez_contract::TokenDigest;
use ez_contract::status::RecordStatus;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::{Doing, on};
use crate::listing::{any_contains, list_holds};
use crate::pieces::padded;
use crate::record::record;
use crate::stored::Stored;
use crate::{Executor, Page, Paged, Sort, StoreError, StoreTx};

record! {
    table "masters" named Name;
    /// A tenant: an account with limits, namespaces, and a master key.
    Master / NewMaster {
        /// Unique.
        name: String,
        /// A label for reports and filters.
        group: String,
        /// Hash of the master key: Argon2id, or bcrypt where it was imported.
        key_hash: Option<String>,
        /// Digest of the master key, unique; none in imported rows whose key was not seen yet.
        key_digest: Option<TokenDigest>,
        /// First characters of the master key, to show; empty where not known.
        prefix: String,
        /// Where bare model names are looked up; a member of `namespaces`.
        default_namespace: String,
        /// Names of the namespaces that it and its keys may use.
        namespaces: Vec<String>,
        /// Child keys issued under a lower epoch are dead.
        epoch: i64,
        /// Its state.
        status: RecordStatus,
        /// Child keys at most; 0 means unlimited.
        max_child_keys: u32,
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
        /// US dollars in a calendar month (UTC), exact decimal text.
        monthly_budget: Option<String>,
    }
    counters {}
}

/// Which masters to list.
#[derive(Debug, Clone, Default)]
pub struct MasterFilter {
    /// Part of the name, in any case.
    pub search: Option<String>,
    /// Only those in this state.
    pub status: Option<RecordStatus>,
    /// Only those with this group label.
    pub group: Option<String>,
    /// Only those that may use the namespace of this name.
    pub namespace: Option<String>,
}

/// A page of the masters that match.
pub async fn list(
    db: &impl Executor,
    filter: &MasterFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Master>, StoreError> {
    let search = filter.search.as_deref().map(|term| any_contains(db.dialect(), &[entity::Column::Name], term));
    let condition = Condition::all()
        .add_option(search)
        .add_option(filter.status.map(|status| entity::Column::Status.eq(status.store())))
        .add_option(filter.group.as_ref().map(|group| entity::Column::Group.eq(group.as_str())))
        .add_option(filter.namespace.as_deref().map(may_use));
    page_of(db, condition, sort, page).await
}

/// No name of a namespace has upper-case letters, and SQLite would take them for lower-case ones.
fn may_use(namespace: &str) -> Expr {
    if namespace.chars().any(char::is_uppercase) {
        return entity::Column::Id.is_in([] as [i64; 0]);
    }
    list_holds(entity::Column::Namespaces, namespace)
}

/// The master of this name.
pub async fn get_by_name(db: &impl Executor, name: &str) -> Result<Option<Master>, StoreError> {
    one(db, entity::Entity::find().filter(entity::Column::Name.eq(name))).await
}

/// The master whose master key has this digest.
pub async fn get_by_digest(db: &impl Executor, digest: &TokenDigest) -> Result<Option<Master>, StoreError> {
    one(db, entity::Entity::find().filter(entity::Column::KeyDigest.eq(digest.store()))).await
}

/// Id and key hash of up to `limit` masters above `after_id` that have a hash but no digest yet, by id.
pub async fn list_without_digest(
    db: &impl Executor,
    after_id: i64,
    limit: u64,
) -> Result<Vec<(i64, String)>, StoreError> {
    entity::Entity::find()
        .select_only()
        .columns([entity::Column::Id, entity::Column::KeyHash])
        .filter(entity::Column::KeyDigest.is_null())
        .filter(entity::Column::KeyHash.is_not_null())
        .filter(entity::Column::Id.gt(after_id))
        .order_by_asc(entity::Column::Id)
        .limit(limit)
        .into_tuple::<(i64, String)>()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))
}

/// Those of these masters that have a budget, in order. For up to a few thousand ids.
pub(crate) async fn list_with_budget(tx: &StoreTx, among: &[i64]) -> Result<Vec<i64>, StoreError> {
    entity::Entity::find()
        .select_only()
        .column(entity::Column::Id)
        .filter(entity::Column::Id.is_in(padded(among)))
        .filter(entity::Column::MonthlyBudget.is_not_null())
        .order_by_asc(entity::Column::Id)
        .into_tuple::<i64>()
        .all(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Read))
}

/// Id and name of those of these masters that there are. For up to a few thousand ids.
pub async fn list_names(db: &impl Executor, ids: &[i64]) -> Result<Vec<(i64, String)>, StoreError> {
    entity::Entity::find()
        .select_only()
        .columns([entity::Column::Id, entity::Column::Name])
        .filter(entity::Column::Id.is_in(ids.iter().copied()))
        .order_by_asc(entity::Column::Id)
        .into_tuple::<(i64, String)>()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))
}

/// Up to `limit` masters that may use a namespace, by id.
pub async fn list_by_namespace(db: &impl Executor, namespace: &str, limit: u64) -> Result<Vec<Master>, StoreError> {
    all(db, entity::Entity::find().filter(list_holds(entity::Column::Namespaces, namespace)).limit(limit)).await
}

/// How many masters there are, of one state or of all.
pub async fn count(db: &impl Executor, status: Option<RecordStatus>) -> Result<u64, StoreError> {
    let condition = Condition::all().add_option(status.map(|status| entity::Column::Status.eq(status.store())));
    count_of(db, condition).await
}

/// Names of those of `ids` that exist.
pub async fn names(db: &impl Executor, ids: &[i64]) -> Result<BTreeMap<i64, String>, StoreError> {
    let among = entity::Entity::find().filter(entity::Column::Id.is_in(ids.iter().copied()));
    let columns = among.select_only().column(entity::Column::Id).column(entity::Column::Name);
    let rows = columns.into_tuple::<(i64, String)>().all(&db.executor()).await.map_err(on(TABLE, Doing::Read))?;
    Ok(rows.into_iter().collect())
}
