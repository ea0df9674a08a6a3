//! The route table.

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware;
use axum::routing::get;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::edge::edge;
use crate::openapi;
use crate::routes::{
    access, alert_reports, alert_thresholds, alerts, api_key_batches, api_key_stats, api_keys, audit, auth, bindings,
    catalogue, credential_reports, dashboard, docs, features, flushes, internal, jobs, keys, log_bodies, log_deletion,
    logs, masters, models, namespaces, provider_groups, providers, public, realtime, resolve, rotation, statistics,
    sync, test_call, tokens, webhooks,
};
use crate::state::{ApiState, ProcessInfo, PublicState};

/// Largest request body, except where a route says otherwise.
const MAX_BODY_BYTES: usize = 2 << 20;

/// All routes of a control plane. Serve it with `into_make_service_with_connect_info::<SocketAddr>`: limits on failed
/// sign-ins and audit want the peer's address.
pub fn router(state: ApiState) -> Router {
    finish(table().split_for_parts().0.with_state(state))
}

/// The public routes alone, for a process that is a gateway only.
pub fn public_router(process: ProcessInfo) -> Router {
    let state = PublicState { process, control: None };
    finish(public_table::<PublicState>().split_for_parts().0.with_state(state))
}

/// Every route of the control plane with its documentation; paths stand at the handlers.
pub(crate) fn table() -> OpenApiRouter<ApiState> {
    public_table()
        .routes(routes!(auth::login))
        // /v1: a master's own.
        .routes(routes!(tokens::get_self))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::get, tokens::update, tokens::delete))
        .routes(routes!(rotation::rotate_token))
        .routes(routes!(logs::list_own))
        .routes(routes!(statistics::get_own))
        .routes(routes!(realtime::of_own))
        // /admin
        .routes(routes!(masters::list, masters::create))
        .routes(routes!(masters::get, masters::update, masters::delete))
        .routes(routes!(realtime::of_master))
        .routes(routes!(masters::revoke_keys))
        .routes(routes!(masters::rotate_key))
        .routes(routes!(access::get_of_master, access::update_of_master))
        .routes(routes!(keys::list_of_master, keys::create_for_master))
        .routes(routes!(keys::list))
        .routes(routes!(keys::get, keys::update, keys::delete))
        .routes(routes!(rotation::rotate_key))
        .routes(routes!(access::get_of_key, access::update_of_key))
        .routes(routes!(namespaces::list, namespaces::create))
        .routes(routes!(namespaces::get, namespaces::update, namespaces::delete))
        .routes(routes!(provider_groups::list, provider_groups::create))
        .routes(routes!(provider_groups::get, provider_groups::update, provider_groups::delete))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::get, api_keys::update, api_keys::delete))
        .routes(routes!(api_key_batches::create))
        .routes(routes!(api_key_batches::set_status))
        .routes(routes!(test_call::test))
        .routes(routes!(api_key_stats::summary))
        .routes(routes!(providers::create_preset))
        .routes(routes!(providers::create_custom))
        .routes(routes!(bindings::list, bindings::create))
        .routes(routes!(bindings::get, bindings::update, bindings::delete))
        .routes(routes!(resolve::resolve))
        .routes(routes!(models::list, models::create))
        .routes(
            routes!(catalogue::status, catalogue::renew, catalogue::reset)
                .layer(DefaultBodyLimit::max(catalogue::MAX_BODY_BYTES)),
        )
        .routes(routes!(catalogue::list))
        .routes(routes!(models::get, models::update, models::delete))
        .routes(routes!(features::get, features::update))
        .routes(routes!(logs::list, log_deletion::delete))
        .routes(routes!(statistics::get))
        .routes(routes!(logs::get))
        .routes(routes!(dashboard::summary))
        .routes(routes!(log_bodies::get))
        .routes(routes!(webhooks::get, webhooks::update))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::list_deliveries))
        .routes(routes!(alerts::list, alerts::create))
        .routes(routes!(alerts::stats))
        .routes(routes!(alert_thresholds::get, alert_thresholds::update))
        .routes(routes!(alerts::get))
        .routes(routes!(alerts::acknowledge))
        .routes(routes!(alerts::resolve))
        .routes(routes!(alerts::dismiss))
        .routes(routes!(realtime::of_system))
        .routes(routes!(sync::status))
        .routes(routes!(sync::rebuild))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::run))
        .routes(routes!(audit::list))
        // /internal: gateways only.
        .routes(routes!(internal::ingest).layer(DefaultBodyLimit::max(internal::MAX_LOG_BODY_BYTES)))
        .routes(routes!(internal::heartbeat))
        .routes(routes!(credential_reports::report))
        .routes(routes!(flushes::flush_api_keys))
        .routes(routes!(flushes::flush_keys))
        .routes(routes!(alert_reports::report))
}

fn public_table<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    PublicState: FromRef<S>,
{
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(public::status))
        .routes(routes!(public::about))
        .routes(routes!(public::healthz))
        .routes(routes!(public::readyz))
        .routes(routes!(public::openapi_json))
        .routes(routes!(docs::page))
        .route("/docs/", get(docs::page))
        .route(docs::FILE_ROUTE, get(docs::file))
        .routes(routes!(public::metrics))
}

fn finish(routes: Router) -> Router {
    routes.layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).layer(middleware::from_fn(edge))
}
