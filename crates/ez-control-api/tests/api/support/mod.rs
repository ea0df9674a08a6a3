//! A control plane with its routes, and the people who call them.

mod answer;
mod backends;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use chrono::DateTime;
use ez_contract::secret::SecretKey;
use ez_control::scheduler::Scheduler;
use ez_control::{Control, ControlConfig, ControlParts};
use ez_control_api::{ApiState, BuildInfo, EventStreams, ProcessInfo, Readiness, router};
use ez_telemetry::metrics::Metrics;
use ez_testkit::clock::FakeClock;
use ez_testkit::redis_server::RedisServer;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) use answer::Answer;
use backends::Backends;

pub(crate) const ADMIN_TOKEN: &str = "test-admin-token";
pub(crate) const INTERNAL_TOKEN: &str = "test-internal-token";
pub(crate) const METRICS_TOKEN: &str = "test-metrics-token";

/// A control plane of its own for one test.
pub(crate) struct TestApp {
    router: Router,
    pub(crate) control: Control,
    pub(crate) scheduler: Scheduler,
    pub(crate) clock: FakeClock,
    pub(crate) readiness: Readiness,
    pub(crate) process: ProcessInfo,
    /// Ends answers that go on.
    pub(crate) drain: CancellationToken,
    next_client: AtomicU32,
    // Last, so that what is connected to them is gone before they are.
    backends: Arc<Backends>,
}

/// A request under way.
pub(crate) struct Call<'a> {
    app: &'a TestApp,
    request: http::request::Builder,
    body: Body,
    client: SocketAddr,
}

impl TestApp {
    /// On SQLite and in-process state.
    pub(crate) async fn embedded() -> Self {
        Self::on(Arc::new(Backends::embedded().await), config()).await
    }

    /// On PostgreSQL and Redis.
    pub(crate) async fn scaled_out() -> Self {
        Self::on(Arc::new(Backends::scaled_out().await), config()).await
    }

    /// On SQLite and a Redis that the test may kill.
    pub(crate) async fn over(redis: &RedisServer) -> Self {
        Self::on(Arc::new(Backends::over(redis).await), config()).await
    }

    /// Another process of the same system, configured so.
    pub(crate) async fn beside(&self, config: ControlConfig) -> Self {
        Self::on(self.backends.clone(), config).await
    }

    async fn on(backends: Arc<Backends>, config: ControlConfig) -> Self {
        let clock = FakeClock::at(DateTime::from_timestamp(1_767_225_600, 0).unwrap());
        let (control, _) = Control::prepare(ControlParts {
            store: backends.store.clone(),
            state: backends.state.clone(),
            clock: Arc::new(clock.clone()),
            secret_key: Arc::new(SecretKey::from_bytes(&[7; 32]).unwrap()),
            config,
        })
        .await
        .unwrap();
        let readiness = Readiness::new();
        let process = ProcessInfo {
            build: BuildInfo {
                version: "1.2.3",
                commit: "0123abc",
                build_time: "2026-01-01T00:00:00Z",
                repository: "https://example.org/ez-api",
            },
            role: "all",
            started_at: clock_time(&clock),
            clock: Arc::new(clock.clone()),
            metrics: Metrics::detached(),
            metrics_tokens: vec![METRICS_TOKEN.into()],
            readiness: readiness.clone(),
            served_snapshot: Arc::new(|| None),
        };
        let scheduler = Scheduler::new(control.clone());
        let drain = CancellationToken::new();
        let router = router(ApiState {
            control: control.clone(),
            scheduler: scheduler.clone(),
            process: process.clone(),
            streams: EventStreams::new(drain.clone()),
        });
        Self { router, control, scheduler, clock, readiness, process, drain, next_client: AtomicU32::new(1), backends }
    }

    /// A request, of a client of its own where [`Call::from`] does not name one: limits by address stay out of the way.
    pub(crate) fn call(&self, method: Method, path: &str) -> Call<'_> {
        let host = self.next_client.fetch_add(1, Ordering::Relaxed);
        let client = SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + host), 4711));
        Call { app: self, request: Request::builder().method(method).uri(path), body: Body::empty(), client }
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.call(Method::GET, path).token(token).send().await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path).token(token).json(&body).send().await
    }

    pub(crate) async fn put(&self, token: &str, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path).token(token).json(&body).send().await
    }

    pub(crate) async fn delete(&self, token: &str, path: &str) -> Answer {
        self.call(Method::DELETE, path).token(token).send().await
    }

    /// Every row of every table: equal where nothing changed.
    pub(crate) async fn dump(&self) -> String {
        self.backends.database.dump().await
    }

    /// Runs a statement behind the control plane's back.
    pub(crate) async fn sql(&self, statement: &str) {
        self.backends.database.execute(statement).await;
    }

    /// How many rows a table has. Panics where there is no such table.
    pub(crate) async fn rows(&self, table: &str) -> i64 {
        self.backends.database.count(&format!("SELECT count(*) FROM {table}")).await
    }

    /// A new master; its id and its key.
    pub(crate) async fn master(&self, name: &str) -> (i64, String) {
        let created = self.post(ADMIN_TOKEN, "/admin/masters", json!({"name": name})).await.created();
        (created["id"].as_i64().unwrap(), created["master_key"].as_str().unwrap().to_owned())
    }

    /// A new provider group that serves `gpt-4o` and `gpt-4o-mini`; its id.
    pub(crate) async fn provider_group(&self, name: &str) -> i64 {
        let group = json!({"name": name, "type": "openai", "models": ["gpt-4o", "gpt-4o-mini"]});
        let created = self.post(ADMIN_TOKEN, "/admin/provider-groups", group).await.created();
        created["id"].as_i64().unwrap()
    }
}

impl Call<'_> {
    pub(crate) fn token(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header(CONTENT_TYPE.as_str(), "application/json").body(body.to_string())
    }

    pub(crate) fn body(self, body: impl Into<Body>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn from(self, client: SocketAddr) -> Self {
        Self { client, ..self }
    }

    /// An answer of which the body is still to come.
    pub(crate) async fn open(self) -> Response<Body> {
        let mut request = self.request.body(self.body).unwrap();
        request.extensions_mut().insert(ConnectInfo(self.client));
        self.app.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(self) -> Answer {
        let (parts, body) = self.open().await.into_parts();
        Answer::new(parts, body.collect().await.unwrap().to_bytes())
    }
}

/// Settings of a control plane of these tests.
pub(crate) fn config() -> ControlConfig {
    ControlConfig {
        node_id: "control-1".to_owned(),
        admin_token: Some(ADMIN_TOKEN.into()),
        jwt_secret: Some("test-jwt-secret-of-thirty-two-bytes".into()),
        internal_token: Some(INTERNAL_TOKEN.into()),
        ..ControlConfig::default()
    }
}

pub(crate) fn clock_time(clock: &FakeClock) -> DateTime<chrono::Utc> {
    ez_contract::Clock::now(clock)
}

/// A usage record as a gateway hands it in, with `overrides` in place of the sample's fields.
pub(crate) fn usage_record(id: &str, overrides: Value) -> Value {
    let mut record = json!({
        "id": id, "request_id": "req-1", "created_at": "2026-01-01T00:00:00Z", "master_id": 2, "key_id": 5,
        "group_id": 7, "api_key_id": 42, "namespace": "default", "model": "gpt-4o",
        "upstream_model": "gpt-4o-2025-01-01", "protocol": "openai-chat", "provider_type": "openai", "status": 200,
        "error": null, "stream": true, "ended_by": "complete", "attempts": 1, "latency_ms": 900, "first_byte_ms": 120,
        "input_tokens": 10, "output_tokens": 20, "cache_read_tokens": null, "cache_write_tokens": null,
        "reasoning_tokens": null, "usage_source": "exact", "cost": null, "price_version": null,
        "client_ip": "192.0.2.1", "request_bytes": 300, "response_bytes": 4000,
    });
    for (field, value) in overrides.as_object().unwrap() {
        record[field] = value.clone();
    }
    record
}
