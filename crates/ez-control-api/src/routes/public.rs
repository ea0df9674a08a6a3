//! What anyone may ask a process: whether it is up, what it is, its documentation; and its metrics.

use axum::extract::{FromRef, FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use chrono::SubsecRound;
use ez_control::sign_in::{self, Principal};
use ez_control::sync;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use crate::extract::{Json, bearer, origin};
use crate::openapi;
use crate::problem::{ApiError, FaultResponse, ProblemKind};
use crate::state::PublicState;

/// How the process is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Status)]
pub(crate) struct StatusResponse {
    /// `ok`, or `starting` while a part of the process does not work.
    status: &'static str,
    /// Seconds since it started.
    uptime_seconds: u64,
    /// When it started.
    started_at: chrono::DateTime<chrono::Utc>,
    /// Version of the build.
    version: &'static str,
    /// `all`, `control` or `gateway`.
    role: &'static str,
}

/// What the process is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = About)]
pub(crate) struct AboutResponse {
    /// Name of the program.
    name: &'static str,
    /// What it is for.
    description: &'static str,
    /// Version of the build.
    version: &'static str,
    /// Commit that it was built from.
    commit: &'static str,
    /// When it was built, RFC 3339.
    build_time: &'static str,
    /// Where its source is.
    repository: &'static str,
}

/// A process that is up.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthResponse {
    /// `ok`.
    status: &'static str,
}

/// A process that wants traffic.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ready)]
pub(crate) struct ReadyResponse {
    /// `ok`.
    status: &'static str,
    /// The snapshot that its gateway serves from; absent where it has no gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<ServedSnapshotResponse>,
}

/// The snapshot that a gateway serves from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServedSnapshot)]
pub(crate) struct ServedSnapshotResponse {
    /// Its version.
    version: u64,
    /// `live`, or `disk` where it was saved by a former run and the shared state was not reached yet.
    source: &'static str,
    /// Seconds since the shared state last said that nothing newer is published.
    age_seconds: u64,
}

/// How the process is.
#[utoipa::path(get, path = "/status", tag = "public", operation_id = "get_status",
    responses((status = 200, description = "The state of the process.", body = StatusResponse)))]
pub(crate) async fn status(State(state): State<PublicState>) -> Json<StatusResponse> {
    let process = &state.process;
    let uptime = process.clock.now().signed_duration_since(process.started_at);
    Json(StatusResponse {
        status: if process.readiness.list_waiting().is_empty() { "ok" } else { "starting" },
        uptime_seconds: u64::try_from(uptime.num_seconds()).unwrap_or(0),
        started_at: process.started_at.trunc_subsecs(6),
        version: process.build.version,
        role: process.role,
    })
}

/// What the process is.
#[utoipa::path(get, path = "/about", tag = "public", operation_id = "get_about",
    responses((status = 200, description = "The build.", body = AboutResponse)))]
pub(crate) async fn about(State(state): State<PublicState>) -> Json<AboutResponse> {
    let build = state.process.build;
    Json(AboutResponse {
        name: "ez-api",
        description: "LLM API gateway platform",
        version: build.version,
        commit: build.commit,
        build_time: build.build_time,
        repository: build.repository,
    })
}

/// Whether the process is up.
#[utoipa::path(get, path = "/healthz", tag = "public", operation_id = "get_health",
    responses((status = 200, description = "It is up.", body = HealthResponse)))]
pub(crate) async fn healthz() -> Json<HealthResponse> {
    Json(HealthResponse { status: "ok" })
}

/// Whether the process wants traffic.
///
/// It does when each listener of its role serves, a first snapshot, even an empty one, is applied, and calls can be accounted
/// for in the usage log. A gateway that cannot reach the shared state after its start serves from the snapshot on its disk,
/// and says so here.
#[utoipa::path(get, path = "/readyz", tag = "public", operation_id = "get_readiness",
    responses(
        (status = 200, description = "It does.", body = ReadyResponse),
        (status = 503, description = "It does not: `errors` names each part that does not work.",
            body = crate::problem::ProblemResponse, content_type = "application/problem+json"),
    ))]
pub(crate) async fn readyz(State(state): State<PublicState>) -> Result<Json<ReadyResponse>, ApiError> {
    let process = &state.process;
    let waiting = process.readiness.list_waiting();
    if waiting.is_empty() {
        let snapshot = (process.served_snapshot)().map(|served| ServedSnapshotResponse {
            version: served.version,
            source: served.source,
            age_seconds: process
                .clock
                .now()
                .signed_duration_since(served.confirmed_at)
                .num_seconds()
                .try_into()
                .unwrap_or(0),
        });
        return Ok(Json(ReadyResponse { status: "ok", snapshot }));
    }
    let names = waiting.iter().map(|(part, _)| *part).collect::<Vec<_>>().join(", ");
    let faults = waiting
        .into_iter()
        .map(|(part, reason)| FaultResponse { pointer: format!("/{part}"), message: reason })
        .collect();
    Err(ApiError::new(ProblemKind::NotReady, format!("not ready yet: {names}")).with_faults(faults))
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "public", operation_id = "get_openapi",
    responses((status = 200, description = "The OpenAPI document of the control plane.", body = serde_json::Value)))]
pub(crate) async fn openapi_json() -> Response {
    ([(CONTENT_TYPE, "application/json")], openapi::openapi_text()).into_response()
}

/// The metrics of the process, in Prometheus' text exposition.
#[utoipa::path(get, path = "/metrics", tag = "public", operation_id = "get_metrics",
    security(("metrics" = []), ("admin" = [])),
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(state): State<PublicState>, MetricsAccess: MetricsAccess) -> Response {
    if let Some(control) = &state.control {
        sync::sample(control).await;
    }
    let exposition = state.process.metrics.render();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], exposition).into_response()
}

/// A request that may read the metrics.
pub(crate) struct MetricsAccess;

impl<S: Send + Sync> FromRequestParts<S> for MetricsAccess
where
    PublicState: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let PublicState { process, control } = PublicState::from_ref(state);
        let token = bearer(parts)?;
        let is_known = |known: &SecretString| bool::from(known.expose_secret().as_bytes().ct_eq(token.as_bytes()));
        if process.metrics_tokens.iter().any(is_known) {
            return Ok(Self);
        }
        let Some(control) = control else {
            return Err(ApiError::new(
                ProblemKind::Unauthenticated,
                "this token is not known here: use EZ_METRICS_TOKEN",
            ));
        };
        match sign_in::authenticate(&control, token, &origin(parts)).await? {
            Principal::Admin => Ok(Self),
            Principal::Master(_) => Err(ApiError::new(ProblemKind::Forbidden, "metrics are for operators")),
        }
    }
}
