//! Live figures of two gateways on one Redis: what the control plane shows is what went on a second ago at most.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::logs::{PLAIN, STREAM};

/// The promise.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);
/// For what has no promise, or another.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long calls go on while the figures are looked at; less than the minute that they look back on.
const TRAFFIC: Duration = Duration::from_secs(4);
const CALLERS: usize = 2;

struct Fleet {
    upstream: SimUpstream,
    sandbox: Sandbox,
    tenant: Tenant,
}

impl Fleet {
    async fn start() -> Self {
        let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
        let sandbox = Sandbox::start(SandboxOptions::apart(env!("CARGO_BIN_EXE_ez-api"), 2)).await.unwrap();
        let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
        Self { upstream, sandbox, tenant }
    }

    async fn shown(&self) -> Value {
        self.sandbox.admin().get("/admin/realtime").await.unwrap()
    }

    /// Waits until the figures are these.
    async fn wait_for(&self, expected: &[(&str, u64)]) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown().await;
            if expected.iter().all(|(field, value)| shown[*field] == json!(value)) {
                return;
            }
            assert!(Instant::now() < give_up, "{expected:?} in {shown:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// When each call began, and when each was answered.
#[derive(Default)]
struct Calls {
    begun: Mutex<Vec<Instant>>,
    answered: Mutex<Vec<Instant>>,
}

async fn call_until(gateway: HttpClient, calls: Arc<Calls>, end: Instant) {
    while Instant::now() < end {
        calls.begun.lock().unwrap().push(Instant::now());
        let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        calls.answered.lock().unwrap().push(Instant::now());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn before(times: &Mutex<Vec<Instant>>, at: Instant) -> u64 {
    times.lock().unwrap().iter().filter(|time| **time <= at).count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_the_truth_of_a_second_ago_at_most() {
    let fleet = Fleet::start().await;
    fleet.wait_for(&[("gateways", 2), ("requests", 0)]).await;
    let (calls, end) = (Arc::<Calls>::default(), Instant::now() + TRAFFIC);
    let mut callers = JoinSet::new();
    for gateway in fleet.sandbox.every_gateway_as(&fleet.tenant.token) {
        for _ in 0..CALLERS {
            callers.spawn(call_until(gateway.clone(), calls.clone(), end));
        }
    }
    while Instant::now() < end {
        let asked = Instant::now();
        let shown = fleet.shown().await;
        let requests = shown["requests"].as_u64().unwrap();
        let (least, most) = match asked.checked_sub(SHOWN_WITHIN) {
            Some(second_ago) => (before(&calls.answered, second_ago), before(&calls.begun, Instant::now())),
            None => (0, before(&calls.begun, Instant::now())),
        };
        assert!((least..=most).contains(&requests), "{requests} shown, between {least} and {most} in truth");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    callers.join_all().await;
    let total = calls.answered.lock().unwrap().len() as u64;
    assert!(total > 20, "{total}");
    fleet.wait_for(&[("requests", total), ("in_flight", 0), ("gateways", 2)]).await;
    let shown = fleet.shown().await;
    let master = &shown["masters"][0];
    assert_eq!((&master["id"], &master["name"]), (&json!(fleet.tenant.master_id), &json!("acme")));
    for field in ["requests", "tokens", "qps", "limited_requests"] {
        assert_eq!(master[field], shown[field], "{field}");
    }
    let own = fleet.sandbox.control_as(&fleet.tenant.master_key).get("/v1/realtime").await.unwrap();
    assert_eq!((&own["requests"], &own["gateways"]), (&json!(total), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_shown_while_they_run_and_go_with_their_gateway() {
    let mut fleet = Fleet::start().await;
    fleet.upstream.set(Behaviour { tokens: 100_000, tokens_per_second: Some(20.0), ..Behaviour::default() });
    let gateways = fleet.sandbox.every_gateway_as(&fleet.tenant.token);
    let mut streams = Vec::new();
    for gateway in gateways.iter().cycle().take(5) {
        let mut stream = gateway.send(Method::POST, "/v1/chat/completions", STREAM).await.unwrap();
        assert!(stream.frame().await.unwrap().is_ok());
        streams.push(stream);
    }
    fleet.wait_for(&[("in_flight_streams", 5), ("in_flight", 5), ("requests", 5)]).await;
    // The last one of the first gateway.
    streams.pop();
    fleet.wait_for(&[("in_flight_streams", 4), ("in_flight", 4), ("requests", 5)]).await;

    fleet.sandbox.kill_gateway(2).await.unwrap();
    fleet.wait_for(&[("in_flight_streams", 2), ("in_flight", 2), ("requests", 3), ("gateways", 1)]).await;
    drop(streams);
    fleet.wait_for(&[("in_flight_streams", 0), ("in_flight", 0), ("requests", 3), ("gateways", 1)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_ends_its_event_streams_at_once() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut sandbox = crate::start(ez_testkit::sandbox::Backends::Embedded).await;
    let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
    let address = sandbox.control_url().strip_prefix("http://").unwrap().to_owned();
    let mut watching = TcpStream::connect(&address).await.unwrap();
    let (path, token) = ("/admin/realtime", sandbox.admin_token());
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\r\n"
    );
    watching.write_all(head.as_bytes()).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
    let mut told = String::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while !told.contains("\"requests\":1,") {
            let read = watching.read(&mut buffer).await.unwrap();
            assert!(read > 0, "{told}");
            told += std::str::from_utf8(&buffer[..read]).unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the call is told");
    assert!(told.starts_with("HTTP/1.1 200 ") && told.contains("content-type: text/event-stream"), "{told}");

    sandbox.terminate().await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, watching.read_to_end(&mut rest)).await.expect("the answer ends").unwrap();
    assert!(
        rest.ends_with(b"0\r\n\r\n"),
        "a whole answer, not one that was cut off: {}",
        String::from_utf8_lossy(&rest)
    );
    assert!(sandbox.wait().await.unwrap().success());
    assert!(!sandbox.log("all").unwrap().contains("drain deadline passed"));
}
