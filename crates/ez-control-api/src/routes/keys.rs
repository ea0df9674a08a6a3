//! `/admin/keys` and `/admin/masters/{id}/keys`: child keys of all masters, and what a child key looks like.

use chrono::{DateTime, Utc};
use ez_contract::status::KeyStatus;
use ez_control::Tenant;
use ez_control::child_keys::{self, ChangeChildKey, CreateChildKey, IssuedChildKey};
use ez_control::limits::LimitChange;
use ez_control::masters;
use ez_store::child_keys::{ChildKey, ChildKeyFilter};
use ez_store::{IssuedBy, QuotaReset};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{PageResponse, list_query};
use crate::number::Count;
use crate::patch::{Patch, present};
use crate::problem::ApiError;
use crate::timestamp::Timestamp;
use crate::words;
use crate::writing::{Answer, Created, Deleted, Record};

list_query! {
    /// Which child keys to list.
    KeyListQuery {
        /// Only those with this status.
        #[param(value_type = Option<words::KeyStatus>)]
        status: KeyStatus,
        /// Only those of this master.
        master_id: i64,
        /// Only those with this group label.
        group: String,
    }
}

list_query! {
    /// Which child keys of a master to list.
    OwnKeyListQuery {
        /// Only those with this status.
        #[param(value_type = Option<words::KeyStatus>)]
        status: KeyStatus,
        /// Only those with this group label.
        group: String,
    }
}

impl OwnKeyListQuery {
    /// Errors: 422 where page or limit is out of range.
    pub(crate) fn split(self) -> Result<(ChildKeyFilter, crate::listing::Listing), ApiError> {
        let listing = self.listing()?;
        let search = self.search();
        Ok((ChildKeyFilter { master_id: None, search, status: self.status, group: self.group }, listing))
    }
}

/// A new child key.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKeyRequest {
    /// To tell keys apart; empty where absent.
    name: Option<String>,
    /// That of the master, which is also what it is where absent.
    group: Option<String>,
    /// `*`, `chat:*`, `completions:*`, `embeddings:*`, `images:*`, `audio:*`, `rerank:*`, `moderations:*`; empty is all.
    #[schema(example = json!(["chat:*"]))]
    scopes: Option<Vec<String>>,
    /// A member of `namespaces`; the master's where absent.
    default_namespace: Option<String>,
    /// A subset of the master's; all of them where absent.
    namespaces: Option<Vec<String>>,
    /// `active` where absent.
    #[schema(value_type = Option<words::KeyStatus>)]
    status: Option<KeyStatus>,
    /// When it ends; never where absent.
    expires_at: Option<Timestamp>,
    /// Addresses or CIDR ranges that it may be used from; all where empty.
    allow_ips: Option<Vec<String>>,
    /// Addresses or CIDR ranges that it may not be used from.
    deny_ips: Option<Vec<String>>,
    /// Whether `model_limits` counts.
    model_limits_enabled: Option<bool>,
    /// Models that it may call.
    model_limits: Option<Vec<String>>,
    /// Tokens that it may use between two resets, input and output; unlimited where absent.
    #[schema(value_type = Option<u64>)]
    quota_limit: Option<Count>,
    /// How often its quota starts anew, in UTC and weeks on Mondays; `none` where absent.
    #[schema(value_type = Option<words::QuotaReset>)]
    quota_reset: Option<QuotaReset>,
    /// Calls per second; 0 (unlimited) where absent.
    global_qps: Option<u32>,
    /// Calls per minute; unlimited where absent.
    #[schema(value_type = Option<u64>)]
    rpm: Option<Count>,
    /// Tokens per minute, input and output; unlimited where absent.
    #[schema(value_type = Option<u64>)]
    tpm: Option<Count>,
    /// Calls per day; unlimited where absent.
    #[schema(value_type = Option<u64>)]
    rpd: Option<Count>,
    /// Tokens per day, input and output; unlimited where absent.
    #[schema(value_type = Option<u64>)]
    tpd: Option<Count>,
    /// Calls in flight at once; unlimited where absent.
    max_concurrency: Option<u32>,
}

/// What to change about a child key. Absent fields stay, and `null` clears those that may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateKeyRequest {
    /// To tell keys apart.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    /// That of the master.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    group: Option<String>,
    /// Empty is all.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false)]
    scopes: Option<Vec<String>>,
    /// A member of `namespaces`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    default_namespace: Option<String>,
    /// A subset of the master's.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false)]
    namespaces: Option<Vec<String>>,
    /// `active` or `suspended`. Only an active key is accepted.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::KeyStatus, required = false)]
    status: Option<KeyStatus>,
    /// When it ends; `null` is never. A later end brings an expired key back.
    #[serde(default)]
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Patch<Timestamp>,
    /// Addresses or CIDR ranges that it may be used from; all where empty.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false)]
    allow_ips: Option<Vec<String>>,
    /// Addresses or CIDR ranges that it may not be used from.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false)]
    deny_ips: Option<Vec<String>>,
    /// Whether `model_limits` counts.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool, required = false)]
    model_limits_enabled: Option<bool>,
    /// Models that it may call.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false)]
    model_limits: Option<Vec<String>>,
    /// Tokens that it may use between two resets; `null` is unlimited. Above what is used it makes an exhausted key active
    /// again, else it exhausts the key.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    quota_limit: Patch<Count>,
    /// How often its quota starts anew, in UTC and weeks on Mondays. A change counts from now.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::QuotaReset, required = false)]
    quota_reset: Option<QuotaReset>,
    /// Calls per second; 0 is unlimited.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u32, required = false)]
    global_qps: Option<u32>,
    /// Calls per minute; `null` is unlimited.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    rpm: Patch<Count>,
    /// Tokens per minute, input and output; `null` is unlimited.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    tpm: Patch<Count>,
    /// Calls per day; `null` is unlimited.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    rpd: Patch<Count>,
    /// Tokens per day, input and output; `null` is unlimited.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    tpd: Patch<Count>,
    /// Calls in flight at once; `null` is unlimited.
    #[serde(default)]
    #[schema(value_type = Option<u32>)]
    max_concurrency: Patch<u32>,
}

/// What a client application calls the gateway with.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChildKey)]
pub(crate) struct KeyResponse {
    /// Given by ez-api.
    id: i64,
    /// Whose it is.
    master_id: i64,
    /// To tell keys apart; may be empty.
    name: String,
    /// First characters of the token.
    prefix: String,
    /// A label for reports and filters.
    group: String,
    /// What it may be used for; empty is all.
    scopes: Vec<String>,
    /// Where a model without a namespace is looked for.
    default_namespace: String,
    /// Namespaces that it may use.
    namespaces: Vec<String>,
    /// Only an active key is accepted.
    #[schema(value_type = words::KeyStatus)]
    status: KeyStatus,
    /// The master's epoch when it was issued; below the master's present one the key is dead.
    issued_at_epoch: i64,
    /// Who issued it.
    #[schema(value_type = words::IssuedBy)]
    issued_by: IssuedBy,
    /// When it ends; `null` is never.
    expires_at: Option<DateTime<Utc>>,
    /// Addresses or CIDR ranges that it may be used from; all where empty.
    allow_ips: Vec<String>,
    /// Addresses or CIDR ranges that it may not be used from.
    deny_ips: Vec<String>,
    /// Whether `model_limits` counts.
    model_limits_enabled: bool,
    /// Models that it may call.
    model_limits: Vec<String>,
    /// Calls per second; 0 is unlimited.
    global_qps: u32,
    /// Calls per minute; `null` is unlimited.
    rpm: Option<u64>,
    /// Tokens per minute, input and output; `null` is unlimited.
    tpm: Option<u64>,
    /// Calls per day; `null` is unlimited.
    rpd: Option<u64>,
    /// Tokens per day, input and output; `null` is unlimited.
    tpd: Option<u64>,
    /// Calls in flight at once; `null` is unlimited.
    max_concurrency: Option<u32>,
    /// Tokens that it may use between two resets; `null` is unlimited.
    quota_limit: Option<u64>,
    /// Tokens used since the last reset, input and output.
    quota_used: u64,
    /// How often its quota starts anew.
    #[schema(value_type = words::QuotaReset)]
    quota_reset: QuotaReset,
    /// When it does next.
    quota_reset_at: Option<DateTime<Utc>>,
    /// During a rotation: when the old token ends.
    previous_expires_at: Option<DateTime<Utc>>,
    /// Calls made with it.
    request_count: u64,
    /// Tokens used with it, input and output.
    used_tokens: u64,
    /// When it was last used.
    last_used_at: Option<DateTime<Utc>>,
    /// When it was issued.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

/// A child key with its token, which is shown only now.
#[derive(Serialize, ToSchema)]
#[schema(as = ChildKeyWithToken)]
pub(crate) struct KeyWithTokenResponse {
    /// The record.
    #[serde(flatten)]
    key: KeyResponse,
    /// What the client application sends. ez-api keeps no copy of it; replays and dry runs go without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    token: Option<String>,
}

/// List child keys of all masters.
#[utoipa::path(get, path = "/admin/keys", tag = "keys", operation_id = "list_keys", params(KeyListQuery),
    security(("admin" = [])),
    responses((status = 200, description = "A page of child keys.", body = PageResponse<KeyResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<KeyListQuery>,
) -> Result<Json<PageResponse<KeyResponse>>, ApiError> {
    let listing = query.listing()?;
    let search = query.search();
    let filter = ChildKeyFilter { master_id: query.master_id, search, status: query.status, group: query.group };
    let found = child_keys::list(&ctx.control, Tenant::Any, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// List the child keys of a master.
#[utoipa::path(get, path = "/admin/masters/{id}/keys", tag = "masters", operation_id = "list_master_keys",
    params(("id" = i64, Path, description = "Id of the master."), OwnKeyListQuery), security(("admin" = [])),
    responses((status = 200, description = "A page of child keys.", body = PageResponse<KeyResponse>)))]
pub(crate) async fn list_of_master(
    ctx: AdminCtx,
    Path(master_id): Path<i64>,
    Query(query): Query<OwnKeyListQuery>,
) -> Result<Json<PageResponse<KeyResponse>>, ApiError> {
    let (filter, listing) = query.split()?;
    let master = masters::get(&ctx.control, master_id).await?;
    let tenant = Tenant::Only(master.id);
    let found = child_keys::list(&ctx.control, tenant, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Issue a child key on a master's behalf.
///
/// The answer is the only place where its token is shown.
#[utoipa::path(post, path = "/admin/masters/{id}/keys", tag = "masters", operation_id = "create_master_key",
    params(("id" = i64, Path, description = "Id of the master.")), request_body = CreateKeyRequest,
    security(("admin" = [])),
    responses((status = 201, description = "Issued.", body = KeyWithTokenResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create_for_master(
    ctx: AdminCtx,
    Path(master_id): Path<i64>,
    Json(request): Json<CreateKeyRequest>,
) -> Result<Created<KeyWithTokenResponse>, ApiError> {
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let issued = child_keys::create(&write, master_id, request.into()).await?;
    write.create("/admin/keys", Record::of(issued)).await
}

/// Get a child key.
#[utoipa::path(get, path = "/admin/keys/{id}", tag = "keys", operation_id = "get_key",
    params(("id" = i64, Path, description = "Id of the child key.")), security(("admin" = [])),
    responses((status = 200, description = "The child key.", body = KeyResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<KeyResponse>, ApiError> {
    let key = child_keys::get(&ctx.control, Tenant::Any, id).await?;
    Ok(Record::of(key))
}

/// Change a child key.
#[utoipa::path(put, path = "/admin/keys/{id}", tag = "keys", operation_id = "update_key",
    params(("id" = i64, Path, description = "Id of the child key.")), request_body = UpdateKeyRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = KeyResponse)))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateKeyRequest>,
) -> Result<Record<KeyResponse>, ApiError> {
    let write = ctx.write().await?;
    let key = child_keys::update(&write, Tenant::Any, id, request.into()).await?;
    write.finish(Record::of(key)).await
}

/// Delete a child key.
#[utoipa::path(delete, path = "/admin/keys/{id}", tag = "keys", operation_id = "delete_key",
    params(("id" = i64, Path, description = "Id of the child key.")), security(("admin" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(ctx: AdminCtx, Path(id): Path<i64>, NoBody: NoBody) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    child_keys::delete(&write, Tenant::Any, id).await?;
    write.delete().await
}

impl From<CreateKeyRequest> for CreateChildKey {
    fn from(request: CreateKeyRequest) -> Self {
        Self {
            name: request.name,
            group: request.group,
            scopes: request.scopes,
            default_namespace: request.default_namespace,
            namespaces: request.namespaces,
            status: request.status,
            expires_at: request.expires_at.map(Into::into),
            allow_ips: request.allow_ips,
            deny_ips: request.deny_ips,
            model_limits_enabled: request.model_limits_enabled,
            model_limits: request.model_limits,
            quota_limit: request.quota_limit.map(u64::from),
            quota_reset: request.quota_reset,
            limits: LimitChange {
                global_qps: request.global_qps,
                rpm: request.rpm.map(|count| Some(count.into())),
                tpm: request.tpm.map(|count| Some(count.into())),
                rpd: request.rpd.map(|count| Some(count.into())),
                tpd: request.tpd.map(|count| Some(count.into())),
                max_concurrency: request.max_concurrency.map(Some),
            },
        }
    }
}

impl From<UpdateKeyRequest> for ChangeChildKey {
    fn from(request: UpdateKeyRequest) -> Self {
        Self {
            name: request.name.into(),
            group: request.group,
            scopes: request.scopes,
            default_namespace: request.default_namespace,
            namespaces: request.namespaces,
            status: request.status,
            expires_at: request.expires_at.map(Into::into).into(),
            allow_ips: request.allow_ips,
            deny_ips: request.deny_ips,
            model_limits_enabled: request.model_limits_enabled,
            model_limits: request.model_limits,
            quota_limit: request.quota_limit.map(u64::from).into(),
            quota_reset: request.quota_reset,
            limits: LimitChange {
                global_qps: request.global_qps,
                rpm: request.rpm.map(u64::from).into(),
                tpm: request.tpm.map(u64::from).into(),
                rpd: request.rpd.map(u64::from).into(),
                tpd: request.tpd.map(u64::from).into(),
                max_concurrency: request.max_concurrency.into(),
            },
        }
    }
}

impl Answer for KeyResponse {}

impl Answer for KeyWithTokenResponse {
    fn hide_secret(&mut self) {
        self.token = None;
    }
}

impl From<ChildKey> for KeyResponse {
    fn from(key: ChildKey) -> Self {
        Self {
            id: key.id,
            master_id: key.master_id,
            name: key.name,
            prefix: key.prefix,
            group: key.group,
            scopes: key.scopes,
            default_namespace: key.default_namespace,
            namespaces: key.namespaces,
            status: key.status,
            issued_at_epoch: key.issued_at_epoch,
            issued_by: key.issued_by,
            expires_at: key.expires_at,
            allow_ips: key.allow_ips,
            deny_ips: key.deny_ips,
            model_limits_enabled: key.model_limits_enabled,
            model_limits: key.model_limits,
            global_qps: key.global_qps,
            rpm: key.rpm,
            tpm: key.tpm,
            rpd: key.rpd,
            tpd: key.tpd,
            max_concurrency: key.max_concurrency,
            quota_limit: key.quota_limit,
            quota_used: key.quota_used,
            quota_reset: key.quota_reset,
            quota_reset_at: key.quota_reset_at,
            previous_expires_at: key.previous_expires_at,
            request_count: key.request_count,
            used_tokens: key.used_tokens,
            last_used_at: key.last_used_at,
            created_at: key.created_at,
            updated_at: key.updated_at,
        }
    }
}

impl From<IssuedChildKey> for KeyWithTokenResponse {
    fn from(issued: IssuedChildKey) -> Self {
        Self { key: issued.key.into(), token: Some(issued.token.expose_secret().to_owned()) }
    }
}
