//! `/admin/sync`: publication of the snapshot that the gateways route from.

use chrono::{DateTime, Utc};
use ez_contract::snapshot::{GatewayHeartbeat, SnapshotKind, SnapshotMeta};
use ez_control::publisher::{self, ReconcileReport, Repair};
use ez_control::sync::{self, SyncStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::extract::{AdminCtx, Json, NoBody};
use crate::problem::ApiError;
use crate::words;
use crate::writing::Record;

/// How far what is published is behind what is stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SyncStatus)]
pub(crate) struct SyncStatusResponse {
    /// The published snapshot; `null` where the shared state cannot be reached.
    snapshot: Option<SnapshotResponse>,
    /// Why the shared state cannot be reached: snapshot and gateways are unknown then.
    state_error: Option<String>,
    /// Committed changes that are not published yet.
    outbox_depth: u64,
    /// Age of the oldest of them, seconds.
    oldest_entry_age_seconds: Option<u64>,
    /// The gateways that were heard of lately.
    gateways: Vec<GatewayResponse>,
    /// The last full comparison, by whichever control plane; `null` before the first.
    last_reconcile: Option<ReconcileResponse>,
}

/// The published snapshot.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Snapshot)]
pub(crate) struct SnapshotResponse {
    /// Rises with every publication; 0 before the first one.
    version: u64,
    /// Version of the contract between the planes.
    contract_version: String,
    /// When it was published.
    published_at: Option<DateTime<Utc>>,
    /// How long ago, seconds.
    age_seconds: Option<u64>,
    /// The control plane that published it.
    publisher: String,
}

/// A gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Gateway)]
pub(crate) struct GatewayResponse {
    /// Its name.
    node_id: String,
    /// Version of its build.
    version: String,
    /// The snapshot that it serves from.
    snapshot_version: u64,
    /// Usage records that it still has to hand over.
    usage_log_depth: u64,
    /// When it was last heard of.
    seen_at: DateTime<Utc>,
}

/// A full comparison of what is published with what is stored.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reconcile)]
pub(crate) struct ReconcileResponse {
    /// When it ended.
    finished_at: DateTime<Utc>,
    /// The control plane that compared.
    node_id: String,
    /// The snapshot's version then.
    version: u64,
    /// Entries of the snapshot.
    entries: usize,
    /// Records that cannot be read and are therefore missing in the snapshot; the log names them.
    unreadable: usize,
    /// Whether there was no whole snapshot before (the first start, lost or damaged data), so that all was published.
    rebuilt: bool,
    /// How many entries had drifted and were mended.
    repairs: usize,
    /// The first hundred of them.
    repaired: Vec<RepairResponse>,
}

/// A mended entry of the snapshot.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Repair)]
pub(crate) struct RepairResponse {
    /// Kind of the entry.
    #[schema(value_type = words::SnapshotKind)]
    kind: SnapshotKind,
    /// Id of the entry.
    id: String,
    /// `missing`, `differs` or `surplus`.
    drift: &'static str,
}

/// Get the state of publication.
#[utoipa::path(get, path = "/admin/sync/status", tag = "sync", operation_id = "get_sync_status",
    security(("admin" = [])),
    responses((status = 200, description = "The state of publication.", body = SyncStatusResponse)))]
pub(crate) async fn status(ctx: AdminCtx) -> Result<Json<SyncStatusResponse>, ApiError> {
    let status = sync::status(&ctx.control).await?;
    Ok(Json(status.into()))
}

/// Rebuild the snapshot.
///
/// Compares everything published with everything stored, publishes what differs, and tells what that was. A dry run
/// compares, and tells what would be published.
#[utoipa::path(post, path = "/admin/sync/snapshot", tag = "sync", operation_id = "rebuild_snapshot",
    security(("admin" = [])),
    responses((status = 200, description = "Rebuilt and published.", body = ReconcileResponse)))]
pub(crate) async fn rebuild(ctx: AdminCtx, NoBody: NoBody) -> Result<Record<ReconcileResponse>, ApiError> {
    let is_dry_run = ctx.is_dry_run();
    let report = match is_dry_run {
        true => publisher::compare(&ctx.control).await?,
        false => publisher::reconcile(&ctx.control).await?,
    };
    Ok(Record::untagged(report.into()).in_dry_run(is_dry_run))
}

impl From<SyncStatus> for SyncStatusResponse {
    fn from(status: SyncStatus) -> Self {
        let age_seconds = status.age.map(|age| age.as_secs());
        Self {
            snapshot: status.snapshot.map(|meta| SnapshotResponse::new(meta, age_seconds)),
            state_error: status.state_error,
            outbox_depth: status.outbox_depth,
            oldest_entry_age_seconds: status.oldest_entry_age.map(|age| age.as_secs()),
            gateways: status.gateways.into_iter().map(GatewayResponse::from).collect(),
            last_reconcile: status.last_reconcile.map(ReconcileResponse::from),
        }
    }
}

impl SnapshotResponse {
    fn new(meta: SnapshotMeta, age_seconds: Option<u64>) -> Self {
        Self {
            version: meta.version,
            contract_version: meta.contract_version,
            published_at: meta.published_at,
            age_seconds,
            publisher: meta.publisher,
        }
    }
}

impl From<GatewayHeartbeat> for GatewayResponse {
    fn from(heartbeat: GatewayHeartbeat) -> Self {
        let GatewayHeartbeat { node_id, version, snapshot_version, usage_log_depth, seen_at } = heartbeat;
        Self { node_id, version, snapshot_version, usage_log_depth, seen_at }
    }
}

impl From<ReconcileReport> for ReconcileResponse {
    fn from(report: ReconcileReport) -> Self {
        Self {
            finished_at: report.finished_at,
            node_id: report.node_id,
            version: report.version,
            entries: report.entries,
            unreadable: report.unreadable,
            rebuilt: report.rebuilt,
            repairs: report.repairs,
            repaired: report.repaired.into_iter().map(RepairResponse::from).collect(),
        }
    }
}

impl From<Repair> for RepairResponse {
    fn from(repair: Repair) -> Self {
        Self { kind: repair.kind, id: repair.id, drift: repair.drift.as_str() }
    }
}
