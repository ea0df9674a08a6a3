//! `/admin/realtime`, `/admin/masters/{id}/realtime`, `/v1/realtime`: live figures, once or as events.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use ez_control::realtime::{self, Figures, MasterRealtime, NamedFigures, SystemRealtime};
use ez_control::sign_in::Principal;
use ez_control::{Control, ControlError, masters};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::event_stream::{EventStreams, Wanted, Watcher};
use crate::extract::{AdminCtx, MasterCtx, Path};
use crate::problem::ApiError;

/// Name of the events.
const EVENT: &str = "realtime";
/// How long a record waits for the figures that are embedded in it.
const EMBEDDED_TIMEOUT: Duration = Duration::from_millis(500);

/// Live figures, over all gateways.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LiveFigures)]
pub(crate) struct FiguresResponse {
    /// Calls of known keys that arrived within the last 60 seconds, refused ones included.
    requests: u64,
    /// Input and output tokens of calls that ended within the last 60 seconds, whenever they arrived.
    tokens: u64,
    /// Calls a second: those of the last 10 seconds by 10.
    #[schema(example = 2.4)]
    qps: f64,
    /// Whether a limit refused a call within the last 60 seconds.
    rate_limited: bool,
    /// Calls that a limit refused within the last 60 seconds.
    limited_requests: u64,
    /// Calls that have arrived and not ended.
    in_flight: u64,
    /// Of these, those that asked for a stream.
    in_flight_streams: u64,
}

/// What a master has at present. Figures are wrong by one second at most, those of a gateway that died by two.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MasterRealtime)]
pub(crate) struct MasterRealtimeResponse {
    /// The figures.
    #[serde(flatten)]
    figures: FiguresResponse,
    /// Gateways that tell of theirs.
    gateways: u64,
    /// When they were summed.
    as_of: DateTime<Utc>,
}

/// What the whole system has at present. Figures are wrong by one second at most, those of a gateway that died by two.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Realtime)]
pub(crate) struct SystemRealtimeResponse {
    /// The figures of all masters.
    #[serde(flatten)]
    figures: FiguresResponse,
    /// Gateways that tell of theirs.
    gateways: u64,
    /// When they were summed.
    as_of: DateTime<Utc>,
    /// The masters of which there is anything to tell, those with the most requests first: 1,000 of them.
    masters: Vec<NamedFiguresResponse>,
}

/// A master's part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RealtimeOfMaster)]
pub(crate) struct NamedFiguresResponse {
    /// The master.
    id: i64,
    /// Its name; `null` where it was deleted within the last minute.
    name: Option<String>,
    /// Its figures.
    #[serde(flatten)]
    figures: FiguresResponse,
}

/// Get live figures of the whole system.
///
/// With `Accept: text/event-stream` the answer goes on: an event `realtime` with the same JSON about every second, until
/// the process drains or the credential ends, and comments while there is nothing to tell.
#[utoipa::path(get, path = "/admin/realtime", tag = "realtime", operation_id = "get_realtime",
    security(("admin" = [])),
    responses((status = 200, description = "The figures.", content(
        (SystemRealtimeResponse = "application/json"),
        (String = "text/event-stream", example = "event: realtime\ndata: {}\n\n")))))]
pub(crate) async fn of_system(
    ctx: AdminCtx,
    State(streams): State<EventStreams>,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let watcher = Watcher { control: ctx.control, principal: Principal::Admin };
    let read = async |control: Control| {
        let system = realtime::of_system(&control).await?;
        Ok(SystemRealtimeResponse::from(&*system))
    };
    streams.answer(wanted, watcher, EVENT, read).await
}

/// Get live figures of a master.
///
/// With `Accept: text/event-stream` the answer goes on: an event `realtime` with the same JSON about every second, until
/// the process drains, the credential ends or the master is gone, and comments while there is nothing to tell.
#[utoipa::path(get, path = "/admin/masters/{id}/realtime", tag = "realtime", operation_id = "get_master_realtime",
    params(("id" = i64, Path, description = "Id of the master.")), security(("admin" = [])),
    responses((status = 200, description = "The figures.", content(
        (MasterRealtimeResponse = "application/json"),
        (String = "text/event-stream", example = "event: realtime\ndata: {}\n\n")))))]
pub(crate) async fn of_master(
    ctx: AdminCtx,
    Path(id): Path<i64>,
    State(streams): State<EventStreams>,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let watcher = Watcher { control: ctx.control, principal: Principal::Admin };
    let read = move |control: Control| async move {
        masters::get(&control, id).await?;
        figures_of(&control, id).await
    };
    streams.answer(wanted, watcher, EVENT, read).await
}

/// Get own live figures.
///
/// With `Accept: text/event-stream` the answer goes on: an event `realtime` with the same JSON about every second, until
/// the process drains or the credential ends, and comments while there is nothing to tell.
#[utoipa::path(get, path = "/v1/realtime", tag = "self", operation_id = "get_own_realtime", security(("master" = [])),
    responses((status = 200, description = "The figures.", content(
        (MasterRealtimeResponse = "application/json"),
        (String = "text/event-stream", example = "event: realtime\ndata: {}\n\n")))))]
pub(crate) async fn of_own(
    ctx: MasterCtx,
    State(streams): State<EventStreams>,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    let id = ctx.master.id;
    let watcher = Watcher { control: ctx.control, principal: Principal::Master(Box::new(ctx.master)) };
    let read = move |control: Control| async move { figures_of(&control, id).await };
    streams.answer(wanted, watcher, EVENT, read).await
}

/// The figures of a master as they are embedded in its record; none while the shared state does not answer.
pub(crate) async fn embedded(control: &Control, id: i64) -> Option<MasterRealtimeResponse> {
    timeout(EMBEDDED_TIMEOUT, figures_of(control, id)).await.ok()?.ok()
}

async fn figures_of(control: &Control, id: i64) -> Result<MasterRealtimeResponse, ControlError> {
    realtime::of_master(control, id).await.map(MasterRealtimeResponse::from)
}

impl From<Figures> for FiguresResponse {
    fn from(figures: Figures) -> Self {
        Self {
            requests: figures.requests,
            tokens: figures.tokens,
            qps: figures.qps,
            rate_limited: figures.limited_requests > 0,
            limited_requests: figures.limited_requests,
            in_flight: figures.in_flight,
            in_flight_streams: figures.in_flight_streams,
        }
    }
}

impl From<MasterRealtime> for MasterRealtimeResponse {
    fn from(realtime: MasterRealtime) -> Self {
        Self { figures: realtime.figures.into(), gateways: realtime.gateways, as_of: realtime.as_of }
    }
}

impl From<&SystemRealtime> for SystemRealtimeResponse {
    fn from(realtime: &SystemRealtime) -> Self {
        let named = |NamedFigures { id, name, figures }: &NamedFigures| NamedFiguresResponse {
            id: *id,
            name: name.clone(),
            figures: (*figures).into(),
        };
        Self {
            figures: realtime.figures.into(),
            gateways: realtime.gateways,
            as_of: realtime.as_of,
            masters: realtime.masters.iter().map(named).collect(),
        }
    }
}
