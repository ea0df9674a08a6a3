//! A gateway in the test's own process, between a simulated upstream and a control link that keeps what it gets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ez_contract::alerts::AlertFinding;
use ez_contract::flush::ApiKeyFlush;
use ez_contract::health::CredentialReport;
use ez_contract::secret::{SecretKey, SecretPlace};
use ez_contract::snapshot::{
    BindingSnapshot, Candidate, ClientGone, GatewayHeartbeat, Limits, MasterSnapshot, ProviderSnapshot, SnapshotChange,
    SnapshotEntry, TokenSnapshot,
};
use ez_contract::{Clock, TokenDigest, UsageRecord};
use ez_gateway::config::{GatewayConfig, HealthConfig, UpstreamConfig, UpstreamTls, UsageLogConfig};
use ez_gateway::control_link::{LinkFuture, RejectedRecord};
use ez_gateway::listener::{self, Bounds, Drain};
use ez_gateway::routing::{FollowerConfig, RoutingSnapshot, SnapshotCell, follow};
use ez_gateway::usage_log::{Disk, LocalDisk, UsageBatch, UsageLog};
use ez_gateway::{ControlLink, ControlLinkError, Gateway, GatewayParts, GatewayStops, GatewayTasks, IngestReport};
use ez_state::{Publication, Scope, SharedState};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// The clear token that every test calls with.
pub(crate) const TOKEN: &str = "sk-ez-test0token";
const SECRET_KEY: [u8; 32] = [7; 32];
const BOUNDS: Bounds = Bounds { name: "gateway", max_connections: 10_000 };

pub(crate) struct TestGateway {
    pub(crate) upstream: SimUpstream,
    pub(crate) address: SocketAddr,
    pub(crate) state: SharedState,
    pub(crate) records: Arc<RecordingLink>,
    snapshot: Arc<SnapshotCell>,
    pub(crate) stop: CancellationToken,
    stops: GatewayStops,
    tasks: TaskTracker,
    work: GatewayTasks,
    serving: TaskTracker,
    follower_stop: CancellationToken,
    _usage_dir: tempfile::TempDir,
}

/// A control plane that keeps every record it is given.
#[derive(Default)]
pub(crate) struct RecordingLink {
    pub(crate) taken: Mutex<Vec<UsageRecord>>,
    /// The JSON of these.
    pub(crate) taken_json: Mutex<Vec<serde_json::Value>>,
    /// The sizes of the batches that it was given.
    pub(crate) batches: Mutex<Vec<usize>>,
    pub(crate) heartbeats: Mutex<Vec<GatewayHeartbeat>>,
    pub(crate) reports: Mutex<Vec<CredentialReport>>,
    pub(crate) alerts: Mutex<Vec<AlertFinding>>,
    /// Every flush that it was given, also one that it was given before.
    pub(crate) flushes: Mutex<Vec<ApiKeyFlush>>,
    is_away: AtomicBool,
    loses_answers: AtomicBool,
    /// How often it still says that it is busy, and what pause it asks for then.
    pub(crate) busy: Mutex<(usize, Duration)>,
    /// When it was handed batches.
    pub(crate) asked_at: Mutex<Vec<Instant>>,
}

impl RecordingLink {
    /// Takes nothing, like a control plane that is down, until told otherwise.
    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// Takes flushes and does not answer, until told otherwise.
    pub(crate) fn set_losing_answers(&self, loses_answers: bool) {
        self.loses_answers.store(loses_answers, Ordering::SeqCst);
    }
}

impl ControlLink for RecordingLink {
    fn heartbeat<'a>(&'a self, heartbeat: &'a GatewayHeartbeat) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            self.heartbeats.lock().unwrap().push(heartbeat.clone());
            Ok(())
        })
    }

    fn report<'a>(&'a self, reports: &'a [CredentialReport]) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            if self.is_away.load(Ordering::SeqCst) {
                return Err(ControlLinkError::Unreachable("away".into()));
            }
            self.reports.lock().unwrap().extend_from_slice(reports);
            Ok(())
        })
    }

    fn report_alerts<'a>(&'a self, alerts: &'a [AlertFinding]) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            if self.is_away.load(Ordering::SeqCst) {
                return Err(ControlLinkError::Unreachable("away".into()));
            }
            self.alerts.lock().unwrap().extend_from_slice(alerts);
            Ok(())
        })
    }

    fn flush_api_keys<'a>(&'a self, flush: &'a ApiKeyFlush) -> LinkFuture<'a, ()> {
        Box::pin(async move {
            if self.is_away.load(Ordering::SeqCst) {
                return Err(ControlLinkError::Unreachable("away".into()));
            }
            self.flushes.lock().unwrap().push(flush.clone());
            if self.loses_answers.load(Ordering::SeqCst) {
                return Err(ControlLinkError::Unreachable("the answer is lost".into()));
            }
            Ok(())
        })
    }

    /// Takes every record of the known shape, and rejects the others.
    fn ingest<'a>(&'a self, batch: &'a UsageBatch) -> LinkFuture<'a, IngestReport> {
        Box::pin(async move {
            if self.is_away.load(Ordering::SeqCst) {
                return Err(ControlLinkError::Unreachable("away".into()));
            }
            self.asked_at.lock().unwrap().push(Instant::now());
            let (times, retry_after) = *self.busy.lock().unwrap();
            if times > 0 {
                self.busy.lock().unwrap().0 -= 1;
                return Err(ControlLinkError::Busy { retry_after });
            }
            self.batches.lock().unwrap().push(batch.len());
            let mut report = IngestReport::default();
            for (index, json) in (0..).zip(batch.records()) {
                match serde_json::from_slice(json) {
                    Ok(record) => {
                        report.accepted += 1;
                        self.taken.lock().unwrap().push(record);
                        self.taken_json.lock().unwrap().push(serde_json::from_slice(json).unwrap());
                    }
                    Err(e) => {
                        let rejected = RejectedRecord { index, id: String::new(), reason: e.to_string() };
                        report.rejected.push(rejected);
                    }
                }
            }
            Ok(report)
        })
    }
}

struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the gateway under test runs in real time")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl TestGateway {
    /// A gateway with two API keys (`sk-up-1`, `sk-up-2`) in one group, model `m` asked upstream as `m`, and model
    /// `alias` asked as `up-model`.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        Self::start_publishing(true, Arc::new(LocalDisk), change).await
    }

    /// A gateway whose usage log is on a disk that may fail.
    pub(crate) async fn start_on(disk: Arc<dyn Disk>) -> Self {
        Self::start_publishing(true, disk, |_| ()).await
    }

    /// The same with other settings.
    pub(crate) async fn start_on_with(disk: Arc<dyn Disk>, change: impl FnOnce(&mut GatewayConfig)) -> Self {
        Self::start_publishing(true, disk, change).await
    }

    /// A gateway that nothing was published for.
    pub(crate) async fn start_before_publication() -> Self {
        Self::start_publishing(false, Arc::new(LocalDisk), |_| ()).await
    }

    async fn start_publishing(
        is_published: bool,
        disk: Arc<dyn Disk>,
        change: impl FnOnce(&mut GatewayConfig),
    ) -> Self {
        Self::start_whole(SharedState::in_process(), is_published, disk, change).await
    }

    /// A gateway on a state that others share; `is_published` is for the first of them.
    pub(crate) async fn start_sharing(
        state: SharedState,
        is_published: bool,
        change: impl FnOnce(&mut GatewayConfig),
    ) -> Self {
        Self::start_whole(state, is_published, Arc::new(LocalDisk), change).await
    }

    async fn start_whole(
        state: SharedState,
        is_published: bool,
        disk: Arc<dyn Disk>,
        change: impl FnOnce(&mut GatewayConfig),
    ) -> Self {
        let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
        let usage_dir = tempfile::tempdir().unwrap();
        let mut config = config(usage_dir.path());
        change(&mut config);
        let entries = entries(&upstream.openai_base_url());
        if is_published {
            publish(&state, entries.into_iter().map(SnapshotChange::Put).collect()).await;
        }

        let tasks = TaskTracker::new();
        let serving = TaskTracker::new();
        let cell = Arc::new(SnapshotCell::from_pointee(RoutingSnapshot::empty()));
        let (snapshot_state, mut snapshot_watch) = watch::channel(None);
        let follower_stop = CancellationToken::new();
        let follower = FollowerConfig {
            state: state.clone(),
            secret_key: Arc::new(SecretKey::from_bytes(&SECRET_KEY).unwrap()),
            poll_interval: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
            max_age: None,
        };
        tasks.spawn(follow(follower, cell.clone(), snapshot_state, follower_stop.clone()));
        if is_published || state.meta().await.unwrap().version > 0 {
            snapshot_watch.wait_for(Option::is_some).await.unwrap();
        }

        let (usage_log, _threads) = UsageLog::open_on(config.usage_log.clone(), disk).unwrap();
        let records = Arc::new(RecordingLink::default());
        let stops = GatewayStops::default();
        let parts = GatewayParts {
            config,
            snapshot: cell.clone(),
            snapshot_watch,
            usage_log,
            state: state.clone(),
            control_link: records.clone(),
            clock: Arc::new(SystemClock),
        };
        let work = GatewayTasks::default();
        let gateway = Gateway::start(parts, &stops, &work);
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let stop = CancellationToken::new();
        let drain = Drain { stop: stop.clone(), cut_off: stops.cut_off.clone(), timeout: Duration::from_millis(500) };
        serving.spawn(listener::serve(tcp, move |peer, request| gateway.clone().answer(peer, request), BOUNDS, drain));
        Self {
            upstream,
            address,
            state,
            snapshot: cell,
            records,
            stop,
            stops,
            tasks,
            work,
            serving,
            follower_stop,
            _usage_dir: usage_dir,
        }
    }

    /// Waits until the gateway routes by what was published last.
    pub(crate) async fn caught_up(&self) {
        let published = self.state.meta().await.unwrap().version;
        let applied = async {
            while self.snapshot.load().version() != published {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), applied).await.expect("the publication is applied");
    }

    /// Sends requests one after the other; their statuses.
    pub(crate) async fn statuses(requests: Vec<Request<Full<Bytes>>>) -> Vec<StatusCode> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut statuses = Vec::with_capacity(requests.len());
        for request in requests {
            let (parts, body) = client.request(request).await.unwrap().into_parts();
            body.collect().await.expect("a whole body");
            statuses.push(parts.status);
        }
        statuses
    }

    /// Publishes changes, and waits until the gateway routes by them.
    pub(crate) async fn apply(&self, entries: Vec<SnapshotEntry>) {
        let version = self.snapshot.load().version();
        publish(&self.state, entries.into_iter().map(SnapshotChange::Put).collect()).await;
        while self.snapshot.load().version() == version {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap()
    }

    pub(crate) fn request(&self, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap()
    }

    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> Answer {
        let (parts, body) = self.send(request).await.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn chat(&self, body: impl Into<Bytes>) -> Answer {
        self.call(self.request("/v1/chat/completions", body)).await
    }

    /// Takes no more calls, and waits until the connections of all are gone.
    pub(crate) async fn stop_serving(&self) {
        self.stop.cancel();
        self.serving.close();
        self.serving.wait().await;
    }

    /// Stops the gateway as the life cycle does, and tells every record it made.
    pub(crate) async fn finish(self) -> Vec<UsageRecord> {
        self.stop_serving().await;
        self.follower_stop.cancel();
        let ended = async |tasks: &TaskTracker| {
            tasks.close();
            tokio::time::timeout(Duration::from_secs(10), tasks.wait()).await.expect("background work ends");
        };
        ended(&self.work.settling).await;
        self.stops.shipping.cancel();
        ended(&self.work.shipping).await;
        ended(&self.tasks).await;
        self.records.taken.lock().unwrap().clone()
    }

    /// The only record of a test with one call.
    pub(crate) async fn finish_with_one_record(self) -> UsageRecord {
        let records = self.finish().await;
        assert_eq!(records.len(), 1, "{records:#?}");
        records.into_iter().next().unwrap()
    }
}

pub(crate) async fn publish(state: &SharedState, changes: Vec<SnapshotChange>) {
    let at = DateTime::from_timestamp(1_767_139_200, 0).unwrap();
    state.publish("test", at, Publication { changes, scope: Scope::Changes, base: None }).await.unwrap();
}

/// A key without limits.
pub(crate) fn token() -> TokenSnapshot {
    let golden = include_str!("../../../ez-contract/goldens/token.json");
    let golden = serde_json::from_str(golden).unwrap();
    TokenSnapshot { expires_at: None, limits: Limits::default(), quota: None, ..golden }
}

/// Its master, without limits.
pub(crate) fn master() -> MasterSnapshot {
    let golden = include_str!("../../../ez-contract/goldens/master.json");
    let golden = serde_json::from_str(golden).unwrap();
    MasterSnapshot { limits: Limits::default(), monthly_budget: None, ..golden }
}

pub(crate) fn token_entry(token: TokenSnapshot) -> SnapshotEntry {
    SnapshotEntry::Token(TokenDigest::of(TOKEN), token)
}

pub(crate) fn provider(id: i64, base_url: &str, secret: &str) -> ProviderSnapshot {
    let golden = include_str!("../../../ez-contract/goldens/provider.json");
    let uuid = Uuid::from_u128(id as u128);
    let key = SecretKey::from_bytes(&SECRET_KEY).unwrap();
    ProviderSnapshot {
        id,
        name: format!("sim#{id}"),
        provider_type: "openai".parse().unwrap(),
        base_url: base_url.to_owned(),
        api_key: key.seal(secret, SecretPlace::api_key(uuid, "api_key"), [id as u8; 12]).unwrap(),
        uuid: Some(uuid),
        ..serde_json::from_str(golden).unwrap()
    }
}

pub(crate) fn binding(public_model: &str, upstreams: &[(i64, &str)]) -> BindingSnapshot {
    let golden = include_str!("../../../ez-contract/goldens/binding.json");
    let golden: BindingSnapshot = serde_json::from_str(golden).unwrap();
    let upstreams = upstreams.iter().map(|(id, model)| (*id, (*model).to_owned())).collect();
    let candidates = vec![Candidate { upstreams, on_client_gone: None, ..golden.candidates[0].clone() }];
    BindingSnapshot { namespace: "default".into(), public_model: public_model.to_owned(), candidates, ..golden }
}

fn entries(base_url: &str) -> Vec<SnapshotEntry> {
    vec![
        SnapshotEntry::Master(master()),
        token_entry(token()),
        SnapshotEntry::Provider(provider(1, base_url, "sk-up-1")),
        SnapshotEntry::Provider(provider(2, base_url, "sk-up-2")),
        SnapshotEntry::Binding(binding("m", &[(1, "m"), (2, "m")])),
        SnapshotEntry::Binding(binding("alias", &[(1, "up-model")])),
    ]
}

fn config(usage_dir: &std::path::Path) -> GatewayConfig {
    GatewayConfig {
        node_id: "test".into(),
        version: "0".into(),
        max_body_bytes: 1 << 20,
        max_answer_bytes: 1 << 20,
        max_attempts: 3,
        connect_timeout: Duration::from_secs(2),
        first_byte_timeout: Duration::from_millis(700),
        idle_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_secs(20),
        on_client_gone: ClientGone::Cancel,
        passes_vendor_objects: false,
        trusted_proxies: Vec::new(),
        access_log: false,
        log_body_max_bytes: 1_000,
        stats_flush_interval: Duration::from_millis(20),
        otlp_traces: None,
        otlp_metrics: None,
        health: HealthConfig::default(),
        upstream: UpstreamConfig { tls: UpstreamTls::new(None).unwrap(), http2: true },
        usage_log: UsageLogConfig {
            dir: usage_dir.to_owned(),
            fsync_interval: Duration::from_millis(50),
            max_bytes: 1 << 30,
            segment_bytes: 1 << 20,
            queue_capacity: 1_000,
            ship_batch: 100,
            ship_interval: Duration::from_millis(5),
            write_timeout: Duration::from_secs(5),
        },
    }
}
