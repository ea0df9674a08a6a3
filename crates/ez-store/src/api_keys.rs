//! API keys: upstream credentials inside provider groups.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ez_contract::status::ApiKeyStatus;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use crate::error::{Doing, on};
use crate::listing::any_contains;
use crate::record::{count_requests, record};
use crate::stored::{Stored, load};
use crate::{Executor, Page, Paged, Sort, StoreError, StoreTx};

record! {
    table "api_keys" named Name;
    /// One upstream credential. Its secrets are envelopes (`enc:v1:…`); the store never sees them in clear.
    ApiKey / NewApiKey {
        /// What the envelopes are bound to; unique, and never changes.
        uuid: Uuid,
        /// The provider group that it belongs to.
        group_id: i64,
        /// For people; may be empty.
        name: String,
        /// The secret, as an envelope; none for OAuth types.
        api_key: Option<String>,
        /// OAuth access token, as an envelope.
        access_token: Option<String>,
        /// OAuth refresh token, as an envelope.
        refresh_token: Option<String>,
        /// End of the access token.
        expires_at: Option<DateTime<Utc>>,
        /// Vendor account id.
        account_id: Option<String>,
        /// Vendor project id.
        project_id: Option<String>,
        /// Share of the group's calls, relative to its siblings.
        weight: u32,
        /// Calls in flight at once.
        max_concurrency: Option<u32>,
        /// Its state.
        status: ApiKeyStatus,
        /// Whether a dead credential may be switched off automatically.
        auto_ban: bool,
        /// Why it is banned or was switched off.
        ban_reason: Option<String>,
        /// End of its ban.
        ban_until: Option<DateTime<Utc>>,
    }
    counters {
        /// Calls ever made with it. Changed by [`add_requests`].
        total_requests: u64,
        /// Those that succeeded. Changed by [`add_requests`].
        success_requests: u64,
        /// Those that failed. Changed by [`add_requests`].
        failure_requests: u64,
        /// When it was last used. Changed by [`add_requests`].
        last_used_at: Option<DateTime<Utc>>,
    }
}

/// What calls added to an API key and its provider group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCounts {
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// When the last of the calls was made.
    pub last_used_at: DateTime<Utc>,
}

count_requests!();

/// What the API keys of one state add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyTotals {
    /// Their state.
    pub status: ApiKeyStatus,
    /// How many there are.
    pub api_keys: u64,
    /// Calls made with them that succeeded.
    pub successes: u64,
    /// Those that failed.
    pub failures: u64,
}

/// Which API keys to list.
#[derive(Debug, Clone, Default)]
pub struct ApiKeyFilter {
    /// Only those of this provider group.
    pub group_id: Option<i64>,
    /// Part of the name or account id, in any case.
    pub search: Option<String>,
    /// Only those in this state.
    pub status: Option<ApiKeyStatus>,
}

/// A page of the API keys that match.
pub async fn list(
    db: &impl Executor,
    filter: &ApiKeyFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<ApiKey>, StoreError> {
    let columns = [entity::Column::Name, entity::Column::AccountId];
    let condition = Condition::all()
        .add_option(filter.group_id.map(|group_id| entity::Column::GroupId.eq(group_id)))
        .add_option(filter.search.as_deref().map(|term| any_contains(db.dialect(), &columns, term)))
        .add_option(filter.status.map(|status| entity::Column::Status.eq(status.store())));
    page_of(db, condition, sort, page).await
}

/// The API key with this uuid.
pub async fn get_by_uuid(db: &impl Executor, uuid: Uuid) -> Result<Option<ApiKey>, StoreError> {
    one(db, entity::Entity::find().filter(entity::Column::Uuid.eq(uuid.store()))).await
}

/// All API keys of a provider group, by id.
pub async fn list_by_group(db: &impl Executor, group_id: i64) -> Result<Vec<ApiKey>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::GroupId.eq(group_id))).await
}

/// Those of `ids` that exist, by id.
pub async fn list_by_ids(db: &impl Executor, ids: &[i64]) -> Result<Vec<ApiKey>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::Id.is_in(ids.iter().copied()))).await
}

/// Up to `limit` active API keys that can be refreshed and whose access token ends at `until` or before, by id.
pub async fn list_refresh_due(db: &impl Executor, until: DateTime<Utc>, limit: u64) -> Result<Vec<ApiKey>, StoreError> {
    let query = entity::Entity::find()
        .filter(entity::Column::Status.eq(ApiKeyStatus::Active.store()))
        .filter(entity::Column::RefreshToken.is_not_null())
        .filter(entity::Column::ExpiresAt.lte(until.store()))
        .limit(limit);
    all(db, query).await
}

/// Up to `limit` banned API keys whose ban has ended at `now`, by id, as they stand until the transaction ends.
pub async fn list_ban_ended(tx: &StoreTx, now: DateTime<Utc>, limit: u64) -> Result<Vec<ApiKey>, StoreError> {
    let query = entity::Entity::find()
        .filter(entity::Column::Status.eq(ApiKeyStatus::AutoDisabled.store()))
        .filter(entity::Column::BanUntil.lte(now.store()))
        .limit(limit);
    all(tx, query.lock_exclusive()).await
}

/// Deletes all API keys of a provider group; how many there were.
pub async fn delete_by_group(tx: &StoreTx, group_id: i64) -> Result<u64, StoreError> {
    let outcome = entity::Entity::delete_many()
        .filter(entity::Column::GroupId.eq(group_id))
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Delete))?;
    Ok(outcome.rows_affected)
}

/// The provider groups of those of `ids` that exist, by API key. For up to some ten thousand ids.
pub async fn groups_of(db: &impl Executor, ids: &[i64]) -> Result<BTreeMap<i64, i64>, StoreError> {
    let rows: Vec<(i64, i64)> = entity::Entity::find()
        .select_only()
        .columns([entity::Column::Id, entity::Column::GroupId])
        .filter(entity::Column::Id.is_in(ids.iter().copied()))
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    Ok(rows.into_iter().collect())
}

/// What API keys add up to, of one provider group or of all, by state. States that none is in are left out.
pub async fn totals(db: &impl Executor, group_id: Option<i64>) -> Result<Vec<ApiKeyTotals>, StoreError> {
    use entity::Column;

    // PostgreSQL's sum of 64-bit integers is a decimal.
    let sum = |column: Column| column.sum().cast_as("bigint");
    let rows: Vec<(String, i64, i64, i64)> = entity::Entity::find()
        .select_only()
        .column(Column::Status)
        .column_as(Column::Id.count(), "api_keys")
        .column_as(sum(Column::SuccessRequests), "successes")
        .column_as(sum(Column::FailureRequests), "failures")
        .filter(Condition::all().add_option(group_id.map(|group_id| Column::GroupId.eq(group_id))))
        .group_by(Column::Status)
        .order_by_asc(Column::Status)
        .into_tuple()
        .all(&db.executor())
        .await
        .map_err(on(TABLE, Doing::Read))?;
    let totals = rows.into_iter().map(|(status, api_keys, successes, failures)| {
        let id = status.clone();
        Ok(ApiKeyTotals {
            status: load(TABLE, "status", &id, status)?,
            api_keys: load(TABLE, "id", &id, api_keys)?,
            successes: load(TABLE, "success_requests", &id, successes)?,
            failures: load(TABLE, "failure_requests", &id, failures)?,
        })
    });
    totals.collect()
}

/// How many API keys there are, of one state or of all.
pub async fn count(db: &impl Executor, status: Option<ApiKeyStatus>) -> Result<u64, StoreError> {
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
