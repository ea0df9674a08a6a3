//! `/admin/masters`: tenants.

use chrono::{DateTime, Utc};
use ez_contract::status::RecordStatus;
use ez_control::RecordTag;
use ez_control::credentials::MasterKey;
use ez_control::limits::LimitChange;
use ez_control::masters::{self, ChangeMaster, CreateMaster, CreatedMaster};
use ez_store::masters::{Master, MasterFilter};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::DeleteQuery;
use super::realtime::{self, MasterRealtimeResponse};
use crate::extract::{AdminCtx, Json, NoBody, Path, Query};
use crate::listing::{PageResponse, list_query};
use crate::number::{Amount, Count};
use crate::patch::{Patch, present};
use crate::problem::ApiError;
use crate::words;
use crate::writing::{Answer, Created, Deleted, Record};

list_query! {
    /// Which masters to list.
    MasterListQuery {
        /// Only those with this status.
        #[param(value_type = Option<words::RecordStatus>)]
        status: RecordStatus,
        /// Only those with this group label.
        group: String,
        /// Only those that may use this namespace.
        namespace: String,
    }
}

/// A new master.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateMasterRequest {
    /// Unique.
    #[schema(example = "acme")]
    name: String,
    /// A label for reports and filters; `default` where absent.
    group: Option<String>,
    /// A member of `namespaces`; `default` where absent.
    default_namespace: Option<String>,
    /// Namespaces that it may use; the default one where absent.
    namespaces: Option<Vec<String>>,
    /// `active` where absent.
    #[schema(value_type = Option<words::RecordStatus>)]
    status: Option<RecordStatus>,
    /// How many child keys it may have; 0 (unlimited) where absent.
    max_child_keys: Option<u32>,
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
    /// US dollars in a calendar month (UTC), exact, as a string or a number; unlimited where absent.
    #[schema(value_type = Option<String>, example = "250.00")]
    monthly_budget: Option<Amount>,
}

/// What to change about a master. Absent fields stay, and `null` clears those that may be empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateMasterRequest {
    /// Unique.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    name: Option<String>,
    /// A label for reports and filters.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    group: Option<String>,
    /// A member of `namespaces`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, required = false)]
    default_namespace: Option<String>,
    /// Namespaces that it may use.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<String>, required = false)]
    namespaces: Option<Vec<String>>,
    /// A suspended master and its child keys are refused.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = words::RecordStatus, required = false)]
    status: Option<RecordStatus>,
    /// How many child keys it may have; 0 is unlimited.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = u32, required = false)]
    max_child_keys: Option<u32>,
    /// Whether its child keys lose the namespaces that it loses; else one that has such a namespace is a conflict.
    #[serde(default)]
    #[schema(default = false, required = false)]
    propagate_to_keys: bool,
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
    /// US dollars in a calendar month (UTC), exact, as a string or a number; `null` is unlimited.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "250.00")]
    monthly_budget: Patch<Amount>,
}

/// What else a new master key does.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RotateQuery {
    /// Whether every child key issued so far dies, too.
    #[serde(default)]
    #[param(default = false, required = false)]
    revoke_keys: bool,
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Master)]
pub(crate) struct MasterResponse {
    /// Given by ez-api.
    id: i64,
    /// Unique.
    name: String,
    /// A label for reports and filters.
    group: String,
    /// First characters of the master key, to tell keys apart.
    prefix: String,
    /// Where a model without a namespace is looked for.
    default_namespace: String,
    /// Namespaces that it may use.
    namespaces: Vec<String>,
    /// Raised by every revocation: child keys issued under a lower epoch are dead.
    epoch: i64,
    /// A suspended master and its child keys are refused.
    #[schema(value_type = words::RecordStatus)]
    status: RecordStatus,
    /// How many child keys it may have; 0 is unlimited.
    max_child_keys: u32,
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
    /// US dollars in a calendar month (UTC), exact; `null` is unlimited.
    #[schema(example = "250.00")]
    monthly_budget: Option<String>,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

/// A master, and what it has at present.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MasterWithRealtime)]
pub(crate) struct MasterWithRealtimeResponse {
    /// The record.
    #[serde(flatten)]
    master: MasterResponse,
    /// Live figures, which the tag does not cover; `null` while the shared state cannot be reached.
    realtime: Option<MasterRealtimeResponse>,
}

/// A master with its key, which is shown only now.
#[derive(Serialize, ToSchema)]
#[schema(as = MasterWithKey)]
pub(crate) struct MasterWithKeyResponse {
    /// The record.
    #[serde(flatten)]
    master: MasterResponse,
    /// The master key. ez-api keeps no copy of it; replays and dry runs go without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    master_key: Option<String>,
}

/// List masters.
#[utoipa::path(get, path = "/admin/masters", tag = "masters", operation_id = "list_masters", params(MasterListQuery),
    security(("admin" = [])),
    responses((status = 200, description = "A page of masters.", body = PageResponse<MasterResponse>)))]
pub(crate) async fn list(
    ctx: AdminCtx,
    Query(query): Query<MasterListQuery>,
) -> Result<Json<PageResponse<MasterResponse>>, ApiError> {
    let listing = query.listing()?;
    let filter =
        MasterFilter { search: query.search(), status: query.status, group: query.group, namespace: query.namespace };
    let found = masters::list(&ctx.control, &filter, listing.sort, listing.rows()).await?;
    Ok(Json(listing.answer(found)))
}

/// Create a master.
///
/// The answer is the only place where its master key is shown.
#[utoipa::path(post, path = "/admin/masters", tag = "masters", operation_id = "create_master",
    request_body = CreateMasterRequest, security(("admin" = [])),
    responses((status = 201, description = "Created.", body = MasterWithKeyResponse,
        headers(("Location" = String, description = "Path of the record.")))))]
pub(crate) async fn create(
    ctx: AdminCtx,
    Json(request): Json<CreateMasterRequest>,
) -> Result<Created<MasterWithKeyResponse>, ApiError> {
    // Before the transaction: hashing the key takes longer than a transaction may wait.
    let key = MasterKey::generate().await?;
    let write = ctx.write().await?;
    if let Some(first) = write.replayed() {
        return Ok(first);
    }
    let created = masters::create(&write, request.into(), key).await?;
    write.create("/admin/masters", Record::of(created)).await
}

/// Get a master.
#[utoipa::path(get, path = "/admin/masters/{id}", tag = "masters", operation_id = "get_master",
    params(("id" = i64, Path, description = "Id of the master.")), security(("admin" = [])),
    responses((status = 200, description = "The master.", body = MasterWithRealtimeResponse)))]
pub(crate) async fn get(ctx: AdminCtx, Path(id): Path<i64>) -> Result<Record<MasterWithRealtimeResponse>, ApiError> {
    let master = masters::get(&ctx.control, id).await?;
    let (tag, realtime) = (RecordTag::of(&master), realtime::embedded(&ctx.control, id).await);
    Ok(Record::tagged(&tag, MasterWithRealtimeResponse { master: master.into(), realtime }))
}

/// Change a master.
///
/// A change that would leave a child key with a namespace that its master lacks is refused with 409 and those keys, or
/// propagates to them where `propagate_to_keys` says so.
#[utoipa::path(put, path = "/admin/masters/{id}", tag = "masters", operation_id = "update_master",
    params(("id" = i64, Path, description = "Id of the master.")), request_body = UpdateMasterRequest,
    security(("admin" = [])), responses((status = 200, description = "Changed.", body = MasterResponse)))]
pub(crate) async fn update(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Json(request): Json<UpdateMasterRequest>,
) -> Result<Record<MasterResponse>, ApiError> {
    let write = ctx.write().await?;
    let master = masters::update(&write, id, request.into()).await?;
    write.finish(Record::of(master)).await
}

/// Delete a master.
#[utoipa::path(delete, path = "/admin/masters/{id}", tag = "masters", operation_id = "delete_master",
    params(("id" = i64, Path, description = "Id of the master."), DeleteQuery), security(("admin" = [])),
    responses((status = 204, description = "Deleted.")))]
pub(crate) async fn delete(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Query(query): Query<DeleteQuery>,
    NoBody: NoBody,
) -> Result<Deleted, ApiError> {
    let write = ctx.write().await?;
    masters::delete(&write, id, query.cascade).await?;
    write.delete().await
}

/// Revoke all child keys of a master.
///
/// Raises its epoch: every child key and JWT issued so far is dead on all gateways within a second.
#[utoipa::path(post, path = "/admin/masters/{id}/revoke-keys", tag = "masters", operation_id = "revoke_master_keys",
    params(("id" = i64, Path, description = "Id of the master.")), security(("admin" = [])),
    responses((status = 200, description = "Revoked.", body = MasterResponse)))]
pub(crate) async fn revoke_keys(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    NoBody: NoBody,
) -> Result<Record<MasterResponse>, ApiError> {
    let write = ctx.write().await?;
    let master = masters::revoke_keys(&write, id).await?;
    write.finish(Record::of(master)).await
}

/// Give a master a new master key.
///
/// The old key and the JWTs made of it end at once. The answer is the only place where the new key is shown.
#[utoipa::path(post, path = "/admin/masters/{id}/rotate-key", tag = "masters", operation_id = "rotate_master_key",
    params(("id" = i64, Path, description = "Id of the master."), RotateQuery), security(("admin" = [])),
    responses((status = 200, description = "The master with its new key.", body = MasterWithKeyResponse)))]
pub(crate) async fn rotate_key(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    Query(query): Query<RotateQuery>,
    NoBody: NoBody,
) -> Result<Record<MasterWithKeyResponse>, ApiError> {
    let key = MasterKey::generate().await?;
    let write = ctx.write().await?;
    let rotated = masters::rotate_key(&write, id, key, query.revoke_keys).await?;
    write.finish(Record::of(rotated)).await
}

impl From<CreateMasterRequest> for CreateMaster {
    fn from(request: CreateMasterRequest) -> Self {
        Self {
            name: request.name,
            group: request.group,
            default_namespace: request.default_namespace,
            namespaces: request.namespaces,
            status: request.status,
            max_child_keys: request.max_child_keys,
            limits: LimitChange {
                global_qps: request.global_qps,
                rpm: request.rpm.map(|count| Some(count.into())),
                tpm: request.tpm.map(|count| Some(count.into())),
                rpd: request.rpd.map(|count| Some(count.into())),
                tpd: request.tpd.map(|count| Some(count.into())),
                max_concurrency: request.max_concurrency.map(Some),
            },
            monthly_budget: request.monthly_budget.map(|amount| amount.0),
        }
    }
}

impl From<UpdateMasterRequest> for ChangeMaster {
    fn from(request: UpdateMasterRequest) -> Self {
        Self {
            name: request.name,
            group: request.group,
            default_namespace: request.default_namespace,
            namespaces: request.namespaces,
            propagate_to_keys: request.propagate_to_keys,
            status: request.status,
            max_child_keys: request.max_child_keys,
            limits: LimitChange {
                global_qps: request.global_qps,
                rpm: request.rpm.map(u64::from).into(),
                tpm: request.tpm.map(u64::from).into(),
                rpd: request.rpd.map(u64::from).into(),
                tpd: request.tpd.map(u64::from).into(),
                max_concurrency: request.max_concurrency.into(),
            },
            monthly_budget: request.monthly_budget.map(|amount| amount.0).into(),
        }
    }
}

impl Answer for MasterResponse {}

impl Answer for MasterWithKeyResponse {
    fn hide_secret(&mut self) {
        self.master_key = None;
    }
}

impl From<Master> for MasterResponse {
    fn from(master: Master) -> Self {
        Self {
            id: master.id,
            name: master.name,
            group: master.group,
            prefix: master.prefix,
            default_namespace: master.default_namespace,
            namespaces: master.namespaces,
            epoch: master.epoch,
            status: master.status,
            max_child_keys: master.max_child_keys,
            global_qps: master.global_qps,
            rpm: master.rpm,
            tpm: master.tpm,
            rpd: master.rpd,
            tpd: master.tpd,
            max_concurrency: master.max_concurrency,
            monthly_budget: master.monthly_budget,
            created_at: master.created_at,
            updated_at: master.updated_at,
        }
    }
}

impl From<CreatedMaster> for MasterWithKeyResponse {
    fn from(created: CreatedMaster) -> Self {
        Self { master: created.master.into(), master_key: Some(created.master_key.expose_secret().to_owned()) }
    }
}
