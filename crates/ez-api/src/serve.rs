//! `serve`: the whole object graph in one linear function; everything that can be wrong is found before a port is
//! bound.

use std::fs::DirBuilder;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::body::Body;
use axum::extract::ConnectInfo;
use ez_contract::Clock;
use ez_contract::secret::SecretKey;
use ez_control::scheduler::Scheduler;
use ez_control::{Control, ControlConfig, ControlParts, FirstRun, ingestion};
use ez_control_api::{
    ApiState, BuildInfo, EventStreams, ProcessInfo, Readiness, ServedSnapshot, public_router, router,
};
use ez_gateway::listener::{self, Bounds, Drain};
use ez_gateway::routing::{
    FollowerConfig, RoutingSnapshot, SavedSnapshot, SavedSnapshotError, SnapshotCell, SnapshotState, SnapshotWatch,
    follow, keep_saved,
};
use ez_gateway::usage_log::UsageLog;
use ez_gateway::{ControlLink, Gateway, GatewayParts, HttpControlLink, LentBody, client_ip};
use ez_state::SharedState;
use ez_store::{ConnectOptions, Store};
use ez_telemetry::metrics::Metrics;
use ipnet::IpNet;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::clock::SystemClock;
use crate::config::{Role, Settings};
use crate::direct_link::DirectLink;
use crate::life_cycle::{self, LifeCycle, Signals};
use crate::{open_files, readiness, secret_key};

/// How this build describes itself.
pub(crate) const BUILD: BuildInfo = BuildInfo {
    version: env!("EZ_BUILD_VERSION"),
    commit: env!("EZ_BUILD_COMMIT"),
    build_time: env!("EZ_BUILD_TIME"),
    repository: "https://github.com/ez-api/ez-api",
};

/// How often a gateway looks for a new snapshot without being told: bounds what a lost announcement costs.
const SNAPSHOT_POLL: Duration = Duration::from_secs(1);
const MIN_GATEWAY_WORKERS: usize = 2;
/// Admins, masters, gateways and health checks; far fewer than callers.
const MAX_CONTROL_CONNECTIONS: usize = 1_024;
/// How often histograms are folded; they keep every value until then.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
const CONTROL_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until a signal, then drains. The gateway has a runtime of its own, so that a heavy admin query cannot delay a
/// stream.
pub(crate) fn run(settings: Settings, role: Role) -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| anyhow!("TLS is already set up"))?;
    if role.has_gateway() {
        open_files::allow_for(settings.max_connections);
    }
    let metrics = Metrics::install()?;
    let control_runtime = Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build()?;
    // At least two, since a call that writes its record to a disk that hangs holds up one.
    let workers =
        std::thread::available_parallelism().map_or(MIN_GATEWAY_WORKERS, |cores| cores.get().max(MIN_GATEWAY_WORKERS));
    let gateway_runtime =
        Builder::new_multi_thread().worker_threads(workers).thread_name("gateway").enable_all().build()?;
    let served = control_runtime.block_on(serve(settings, role, metrics, gateway_runtime.handle()));
    for runtime in [gateway_runtime, control_runtime] {
        shut_down_runtime(runtime);
    }
    served
}

fn shut_down_runtime(runtime: Runtime) {
    runtime.shutdown_timeout(Duration::from_secs(1));
}

async fn serve(mut settings: Settings, role: Role, metrics: Metrics, calls_on: &Handle) -> anyhow::Result<()> {
    let life_cycle = LifeCycle::default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let readiness = Readiness::new();
    make_data_dir(&settings.data_dir)?;
    let secret_key = Arc::new(match settings.secret_key.take() {
        Some(key) => key,
        None => secret_key::load_or_create(&settings.data_dir)?,
    });
    let state = open_state(&settings).await?;

    let plane = match role.has_control() {
        true => Some(open_control(&settings, state.clone(), clock.clone(), secret_key.clone()).await?),
        false => None,
    };
    let usage = match role.has_gateway() {
        true => Some((UsageLog::open(settings.gateway.usage_log.clone())?, control_link(&settings, plane.as_ref())?)),
        false => None,
    };
    let control_tcp = bind(settings.control_listen, "EZ_CONTROL_LISTEN").await?;
    let gateway_tcp = match role.has_gateway() {
        true => Some(bind(settings.gateway_listen, "EZ_GATEWAY_LISTEN").await?),
        false => None,
    };
    let urls = Urls::of(role, &control_tcp, gateway_tcp.as_ref())?;

    let mut usage_threads = Vec::new();
    let mut snapshot_watch = None;
    if let Some(((usage_log, threads), control_link)) = usage {
        usage_threads = threads;
        let saved = saved_snapshot(&settings, &secret_key);
        let (snapshot, loaded) = load_snapshot(saved.as_ref(), &settings, &*clock);
        let snapshot = Arc::new(SnapshotCell::from_pointee(snapshot));
        let (state_sender, watch) = watch::channel(loaded);
        snapshot_watch = Some(watch.clone());
        let follower = FollowerConfig {
            state: state.clone(),
            secret_key,
            poll_interval: SNAPSHOT_POLL,
            clock: clock.clone(),
            max_age: settings.snapshot_max_age,
        };
        life_cycle.others.spawn(follow(follower, snapshot.clone(), state_sender, life_cycle.background.clone()));
        readiness::tell_snapshot(&readiness, &watch);
        life_cycle.others.spawn(readiness::keep_telling_snapshot(readiness.clone(), watch.clone()));
        let telling = readiness::keep_telling_usage_log(readiness.clone(), usage_log.clone(), life_cycle.stop.clone());
        life_cycle.others.spawn(telling);
        if let Some(saved) = saved {
            let stop = life_cycle.background.clone();
            life_cycle.others.spawn(keep_saved(saved, snapshot.clone(), watch.clone(), clock.clone(), stop));
        }
        let config = settings.gateway.clone();
        let clock = clock.clone();
        let parts = GatewayParts { config, snapshot, snapshot_watch: watch, usage_log, state, control_link, clock };
        let gateway = Gateway::start(parts, &life_cycle.gateway, &life_cycle.work);
        let drain = Drain {
            stop: life_cycle.stop.clone(),
            cut_off: life_cycle.gateway.cut_off.clone(),
            timeout: settings.drain_timeout,
        };
        if let Some(tcp) = gateway_tcp {
            let bounds = Bounds { name: "gateway", max_connections: settings.max_connections };
            let answer = move |peer, request| gateway.clone().answer(peer, request);
            life_cycle.calls.spawn_on(listener::serve(tcp, answer, bounds, drain), calls_on);
        }
    }

    life_cycle.others.spawn(keep_up_metrics(metrics.clone(), life_cycle.background.clone()));
    let process = ProcessInfo {
        build: BUILD,
        role: role.as_str(),
        started_at: clock.now(),
        clock,
        metrics,
        metrics_tokens: settings.metrics_token.iter().chain(&settings.admin_token).cloned().collect(),
        readiness: readiness.clone(),
        served_snapshot: Arc::new(move || served_snapshot(snapshot_watch.as_ref())),
    };
    let (store, first_run, app) = match plane {
        Some(Plane { control, store, first_run }) => {
            let scheduler = Scheduler::new(control.clone());
            life_cycle.others.spawn(scheduler.clone().run(life_cycle.background.clone()));
            life_cycle.others.spawn(ingestion::run(control.clone(), life_cycle.background.clone()));
            let streams = EventStreams::new(life_cycle.stop.clone());
            (Some(store), first_run, router(ApiState { control, scheduler, process, streams }))
        }
        None => (None, FirstRun { admin_token: None }, public_router(process)),
    };
    let trusted_proxies = settings.gateway.trusted_proxies.clone();
    life_cycle.control.spawn(serve_control(control_tcp, app, trusted_proxies, &life_cycle));

    let signals = Signals::watch()?;
    announce(&urls, &first_run);
    life_cycle.run_to_end(signals, || readiness.set_waiting("process", "it is draining and about to stop")).await;
    life_cycle::join(usage_threads, life_cycle::FLUSH_TIMEOUT).await;
    if let Some(store) = store {
        store.close().await.context("the database cannot be closed")?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// What a control plane is made of.
struct Plane {
    control: Control,
    store: Store,
    first_run: FirstRun,
}

async fn open_control(
    settings: &Settings,
    state: SharedState,
    clock: Arc<dyn Clock>,
    secret_key: Arc<SecretKey>,
) -> anyhow::Result<Plane> {
    let store = open_store(settings).await?;
    store.migrate().await.context("the database cannot be migrated")?;
    let config = ControlConfig {
        node_id: settings.gateway.node_id.clone(),
        admin_token: settings.admin_token.clone(),
        jwt_secret: settings.jwt_secret.clone(),
        internal_token: settings.internal_token.clone(),
        outbox_batch_size: settings.outbox_batch_size,
        outbox_max_retries: settings.outbox_max_retries,
        job_intervals: settings.job_intervals.clone(),
        log_body_max_bytes: settings.gateway.log_body_max_bytes,
        log_retention: settings.log_retention,
        upstream_tls: Some(settings.gateway.upstream.tls.client_config()),
        log_batch_size: settings.gateway.usage_log.ship_batch,
        log_flush_interval: settings.gateway.usage_log.ship_interval,
        log_queue_capacity: settings.gateway.usage_log.queue_capacity,
        webhook_allow_private: settings.webhook_allow_private,
        ..ControlConfig::default()
    };
    let parts = ControlParts { store: store.clone(), state, clock, secret_key, config };
    let (control, first_run) = Control::prepare(parts).await.context("the control plane cannot be prepared")?;
    Ok(Plane { control, store, first_run })
}

/// Opens the database: the one that is configured, else an SQLite file in the data directory.
pub(crate) async fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    let embedded = format!("sqlite://{}?mode=rwc", settings.data_dir.join("ez-api.db").display());
    let url = settings.database_url.as_ref().map_or(embedded.as_str(), ExposeSecret::expose_secret);
    Store::connect(url, ConnectOptions::default()).await.context("EZ_DATABASE_URL: the database cannot be opened")
}

pub(crate) async fn open_state(settings: &Settings) -> anyhow::Result<SharedState> {
    let Some(url) = &settings.redis_url else { return Ok(SharedState::in_process()) };
    let state = SharedState::connect_redis(url.expose_secret(), &settings.redis_prefix).await;
    state.context("EZ_REDIS_URL: Redis cannot be used")
}

fn control_link(settings: &Settings, plane: Option<&Plane>) -> anyhow::Result<Arc<dyn ControlLink>> {
    if let Some(plane) = plane {
        return Ok(Arc::new(DirectLink(plane.control.clone())));
    }
    let (Some(url), Some(token)) = (&settings.control_url, &settings.internal_token) else {
        return Err(anyhow!("EZ_CONTROL_URL and EZ_INTERNAL_TOKEN are needed for a gateway of its own"));
    };
    Ok(Arc::new(HttpControlLink::new(url, token.expose_secret(), settings.gateway.upstream.tls.clone())?))
}

/// Only for its owner: it holds digests, sealed secrets and clients' addresses.
pub(crate) fn make_data_dir(dir: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("EZ_DATA_DIR: {} cannot be made", dir.display()))
}

async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("{setting}: {address} cannot be bound; choose another address, or stop what uses it"))
}

async fn keep_up_metrics(metrics: Metrics, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(METRICS_UPKEEP)).await.is_some() {
        metrics.keep_up();
    }
}

/// Where the snapshot is saved. One process on its own has no use for it: its control plane publishes before it serves.
fn saved_snapshot(settings: &Settings, secret_key: &Arc<SecretKey>) -> Option<SavedSnapshot> {
    settings.redis_url.as_ref()?;
    Some(SavedSnapshot::new(settings.data_dir.join("snapshot"), secret_key.clone()))
}

/// The snapshot that a former run saved, to serve from until the shared state is reached.
fn load_snapshot(
    saved: Option<&SavedSnapshot>,
    settings: &Settings,
    clock: &dyn Clock,
) -> (RoutingSnapshot, Option<SnapshotState>) {
    match saved.map(|saved| saved.load(clock.now(), settings.snapshot_max_age)) {
        Some(Ok((snapshot, state))) => {
            tracing::info!(version = state.version, confirmed_at = %state.confirmed_at, "saved snapshot loaded");
            return (snapshot, Some(state));
        }
        Some(Err(SavedSnapshotError::Missing)) | None => {}
        Some(Err(e)) => tracing::warn!(error = %e, "saved snapshot ignored; waiting for the shared state"),
    }
    (RoutingSnapshot::empty(), None)
}

fn served_snapshot(watch: Option<&SnapshotWatch>) -> Option<ServedSnapshot> {
    let state = *watch?.borrow();
    state.map(|state| ServedSnapshot {
        version: state.version,
        source: state.source.as_str(),
        confirmed_at: state.confirmed_at,
    })
}

fn serve_control(
    tcp: TcpListener,
    app: axum::Router,
    trusted_proxies: Vec<IpNet>,
    life_cycle: &LifeCycle,
) -> impl Future<Output = ()> + use<> {
    let drain = Drain {
        stop: life_cycle.control_stop.clone(),
        cut_off: life_cycle.background.child_token(),
        timeout: CONTROL_DRAIN_TIMEOUT,
    };
    let answer = move |peer: SocketAddr, request: http::Request<LentBody>| {
        let app = app.clone();
        // Sign-in limits and audit are about the client, not about the proxy that all clients share.
        let client = client_ip(peer.ip(), request.headers(), &trusted_proxies);
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, peer.port())));
            match app.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    listener::serve(tcp, answer, Bounds { name: "control", max_connections: MAX_CONTROL_CONNECTIONS }, drain)
}

struct Urls {
    control: String,
    gateway: Option<String>,
}

impl Urls {
    fn of(role: Role, control: &TcpListener, gateway: Option<&TcpListener>) -> anyhow::Result<Self> {
        let control = url_of(control.local_addr()?);
        let gateway = gateway.map(TcpListener::local_addr).transpose()?.map(url_of);
        tracing::info!(role = role.as_str(), version = BUILD.version, control, gateway, "listening");
        Ok(Self { control, gateway })
    }
}

/// A URL that works from this machine, also where the listener takes every address.
fn url_of(address: SocketAddr) -> String {
    let host = match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => "[::1]".to_owned(),
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    };
    format!("http://{host}:{}", address.port())
}

/// Tells people where to go: to standard output, apart from the logs. The token is shown here and nowhere else.
fn announce(urls: &Urls, first_run: &FirstRun) {
    if let Err(e) = write_announcement(urls, first_run) {
        tracing::warn!(error = %e, "the addresses cannot be written to standard output");
    }
}

fn write_announcement(urls: &Urls, first_run: &FirstRun) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ez-api {}", BUILD.version)?;
    if let Some(gateway) = &urls.gateway {
        writeln!(out, "gateway: {gateway}   (base URL of an OpenAI SDK: {gateway}/v1)")?;
    }
    writeln!(out, "control: {}", urls.control)?;
    if let Some(token) = &first_run.admin_token {
        writeln!(out, "admin token: {}   (shown only now: keep it)", token.expose_secret())?;
    }
    out.flush()
}
