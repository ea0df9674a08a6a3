//! Sync: how far gateways are behind the database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::snapshot::{GatewayHeartbeat, SnapshotMeta};
use ez_state::StateError;
use ez_store::{StoreError, outbox};
use ez_telemetry::metrics::{
    DATABASE_UP, GATEWAYS_SEEN, OUTBOX_DEPTH, OUTBOX_OLDEST, PUBLISHED_VERSION, SHARED_STATE_UP,
};
use metrics::gauge;
use tokio::time::timeout;

use crate::publisher::{self, ReconcileReport};
use crate::{Control, ControlError};

/// How long a reader of the metrics is made to wait.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the publication of changes stands.
#[derive(Debug, Clone, PartialEq)]
pub struct SyncStatus {
    /// The snapshot that is published; none while the shared state does not answer. Version 0: nothing was published.
    pub snapshot: Option<SnapshotMeta>,
    /// How long ago that was.
    pub age: Option<Duration>,
    /// Why the shared state does not answer.
    pub state_error: Option<String>,
    /// Changes that wait to be published.
    pub outbox_depth: u64,
    /// How long the oldest of them has waited.
    pub oldest_entry_age: Option<Duration>,
    /// Gateways heard of lately, by node id.
    pub gateways: Vec<GatewayHeartbeat>,
    /// What the last full comparison found, by whichever process.
    pub last_reconcile: Option<ReconcileReport>,
}

/// Tells where publication stands. Answers while the shared state is down. Errors: `Unavailable` (the database).
pub async fn status(control: &Control) -> Result<SyncStatus, ControlError> {
    let now = control.now();
    let outbox_depth = outbox::depth(control.store()).await?;
    let oldest_entry_at = outbox::oldest_at(control.store()).await?;
    let (snapshot, gateways, state_error) = match read_state(control).await {
        Ok((meta, gateways)) => (Some(meta), gateways, None),
        Err(error) => (None, Vec::new(), Some(error.to_string())),
    };
    Ok(SyncStatus {
        age: snapshot.as_ref().and_then(|meta| meta.published_at).map(|at| age(at, now)),
        snapshot,
        state_error,
        outbox_depth,
        oldest_entry_age: oldest_entry_at.map(|at| age(at, now)),
        gateways,
        last_reconcile: publisher::last_report(control).await,
    })
}

/// Looks at what operators watch of publication and its servers, for whoever reads the metrics next. Answers within
/// [`SAMPLE_TIMEOUT`]; what does not answer by then counts as down, and what it would have told stays as it was.
pub async fn sample(control: &Control) {
    let database = timeout(SAMPLE_TIMEOUT, async {
        let depth = outbox::depth(control.store()).await?;
        Ok::<_, StoreError>((depth, outbox::oldest_at(control.store()).await?))
    });
    let (database, state) = tokio::join!(database, timeout(SAMPLE_TIMEOUT, read_state(control)));
    let (database, state) = (database.ok().and_then(Result::ok), state.ok().and_then(Result::ok));
    let up = |is_up: bool| f64::from(u8::from(is_up));
    gauge!(DATABASE_UP).set(up(database.is_some()));
    gauge!(SHARED_STATE_UP).set(up(state.is_some()));
    if let Some((depth, oldest_at)) = database {
        let now = control.now();
        gauge!(OUTBOX_DEPTH).set(depth as f64);
        gauge!(OUTBOX_OLDEST).set(oldest_at.map_or(0.0, |at| age(at, now).as_secs_f64()));
    }
    if let Some((meta, gateways)) = state {
        gauge!(PUBLISHED_VERSION).set(meta.version as f64);
        gauge!(GATEWAYS_SEEN).set(gateways.len() as f64);
    }
}

/// Keeps a gateway's heartbeat, stamped with the time now. Errors: `Unavailable`.
pub async fn heartbeat(control: &Control, heartbeat: GatewayHeartbeat) -> Result<(), ControlError> {
    let heartbeat = GatewayHeartbeat { seen_at: control.now(), ..heartbeat };
    Ok(control.state().report_gateway(&heartbeat, control.config().gateway_ttl).await?)
}

async fn read_state(control: &Control) -> Result<(SnapshotMeta, Vec<GatewayHeartbeat>), StateError> {
    let meta = control.state().meta().await?;
    let gateways = control.state().list_gateways().await?;
    Ok((meta, gateways))
}

/// Time since `at`; none where another node's clock is ahead.
fn age(at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - at).to_std().unwrap_or_default()
}
