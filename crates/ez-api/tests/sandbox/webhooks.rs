//! The log webhook of the real binary, heard by a receiver that checks signatures with the public library of the Standard
//! Webhooks project.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ez_contract::Clock;
use ez_testkit::clock::FakeClock;
use ez_testkit::http_client::HttpClient;
use ez_testkit::redis_server::RedisServer;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::logs::PLAIN;
use crate::{on_every_backend, options};

on_every_backend!(failing_calls_reach_a_receiver);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
const WEBHOOK: &str = "/admin/logs/webhook";

/// Bound on what comes about within seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// `tests/sdk/webhook_receiver.py`. Dropping it ends it.
struct Receiver {
    url: String,
    told: Arc<Mutex<Vec<Value>>>,
    _process: Child,
    _reading: JoinSet<()>,
}

impl Receiver {
    /// Knows [`SECRET`], and answers with these statuses, then with 204.
    async fn start(answers: &str) -> Self {
        let file = format!("{}/../../tests/sdk/webhook_receiver.py", env!("CARGO_MANIFEST_DIR"));
        let mut process = Command::new(crate::sdk::python())
            .args(["-B", &file])
            .env("EZ_WEBHOOK_SECRET", SECRET)
            .env("EZ_WEBHOOK_ANSWERS", answers)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("it tells its port");
        let told = Arc::new(Mutex::new(Vec::new()));
        let mut reading = JoinSet::new();
        let heard = told.clone();
        reading.spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                heard.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { url: format!("http://127.0.0.1:{port}/hook"), told, _process: process, _reading: reading }
    }

    fn told(&self) -> Vec<Value> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until it was asked this often.
    async fn wait(&self, sandbox: &Sandbox, times: usize) -> Vec<Value> {
        let heard = || async { Ok(self.told().len() >= times) };
        sandbox.eventually("the receiver hears of it", PATIENCE, heard).await.unwrap();
        self.told()
    }
}

/// With jobs that run often.
fn quick(options: SandboxOptions) -> SandboxOptions {
    options
        .set("EZ_WEBHOOK_ALLOW_PRIVATE", "true")
        .set("EZ_JOB_LOG_WEBHOOK_INTERVAL", "100ms")
        .set("EZ_JOB_WEBHOOK_DELIVERY_INTERVAL", "100ms")
}

async fn failing_calls_reach_a_receiver(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::status(503)).await.unwrap();
    let sandbox = Sandbox::start(quick(options(backends))).await.unwrap();
    let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
    let (admin, receiver) = (sandbox.admin(), Receiver::start("500").await);

    // The library refuses what was signed with another secret.
    admin.put(WEBHOOK, &json!({"url": receiver.url, "secret": OTHER_SECRET})).await.unwrap();
    let test = admin.post(&format!("{WEBHOOK}/test"), &json!({})).await.unwrap();
    assert_eq!((&test["ok"], &test["status"]), (&json!(false), &json!(401)), "{test}");
    assert_eq!(receiver.wait(&sandbox, 1).await[0]["refused"], "No matching signature found");

    let set = json!({"enabled": true, "secret": SECRET, "threshold": 3, "window": 600, "cooldown": 3600});
    admin.put(WEBHOOK, &set).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    for _ in 0..3 {
        assert!(gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap().status.is_server_error());
    }
    // The first answer is 500, so that it comes again some seconds later.
    let told = receiver.wait(&sandbox, 3).await;
    let (first, again) = (&told[1], &told[2]);
    assert_eq!((&first["answer"], &again["answer"]), (&json!(500), &json!(204)), "{told:?}");
    assert_eq!((&first["id"], &first["event"]), (&again["id"], &again["event"]), "the same event");
    assert_eq!((&first["path"], &first["event"]["type"]), (&json!("/hook"), &json!("log.errors")));
    let data = &first["event"]["data"];
    assert!(data["count"].as_u64().is_some_and(|count| count >= 3), "{data}");
    let id = data["sample"]["id"].as_str().unwrap();
    assert_eq!(data["sample"], admin.get(&format!("/admin/logs/{id}")).await.unwrap());

    let delivered = sandbox.eventually("the delivery is noted", PATIENCE, || async {
        Ok(admin.get(&format!("{WEBHOOK}/deliveries?limit=1")).await?["items"][0]["status"] == "delivered")
    });
    delivered.await.unwrap();
    let listed = admin.get(&format!("{WEBHOOK}/deliveries")).await.unwrap();
    let newest = &listed["items"][0];
    assert_eq!((&newest["event_id"], &newest["attempts"]), (&first["id"], &json!(2)), "{listed}");
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "that and the test: {listed}");
    let metrics = admin.call(Method::GET, "/metrics", "").await.unwrap().text();
    for line in
        ["ez_webhook_deliveries_total{outcome=\"retried\"} 1", "ez_webhook_deliveries_total{outcome=\"delivered\"} 1"]
    {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    for secret in [SECRET, OTHER_SECRET] {
        let log = sandbox.log(if backends == Backends::Apart { "control" } else { "all" }).unwrap();
        assert!(!log.contains(secret), "a secret in the log");
    }
}

/// The job's last run on a control plane that knows no others, as the shared state is away.
async fn last_run(control: &HttpClient) -> String {
    let jobs = control.get("/admin/jobs").await.unwrap();
    let job = jobs["items"].as_array().unwrap().iter().find(|job| job["name"] == "log-webhook").unwrap();
    job["last_run"]["started_at"].as_str().unwrap_or_default().to_owned()
}

/// Failing calls, as gateways hand them in.
async fn hand_in(control: &HttpClient, from: u32) {
    let gateway = HttpClient::new(control.base_url(), Some("sandbox-internal-token-0123456789"));
    let now = FakeClock::now().now();
    let records: Vec<Value> = (from..from + 5)
        .map(|number| {
            json!({
                "id": format!("log-{number}"), "request_id": "req-1", "created_at": now, "master_id": 1,
                "key_id": 1, "group_id": null, "api_key_id": null, "namespace": "default", "model": "m",
                "upstream_model": null, "protocol": "openai-chat", "provider_type": null, "status": 503, "error": "away",
                "stream": false, "ended_by": "upstream", "attempts": 1, "latency_ms": 1, "first_byte_ms": null,
                "input_tokens": null, "output_tokens": null, "cache_read_tokens": null, "cache_write_tokens": null,
                "reasoning_tokens": null, "usage_source": "unknown", "cost": null, "price_version": null,
                "client_ip": null, "request_bytes": 1, "response_bytes": 1,
            })
        })
        .collect();
    gateway.post("/internal/logs", &json!({"records": records})).await.unwrap();
}

/// While Redis is away nobody has a lease, and both count: the database lets one of them tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_control_planes_tell_once_a_cooldown() {
    let redis = RedisServer::start().await;
    let options = quick(options(Backends::Apart)).set("EZ_REDIS_URL", redis.url());
    let mut sandbox = Sandbox::start(options).await.unwrap();
    let (two, one) = (sandbox.add_control().await.unwrap(), sandbox.admin());
    let receiver = Receiver::start("").await;
    let set = json!({"enabled": true, "url": receiver.url, "secret": SECRET, "threshold": 3, "window": 600,
        "cooldown": 3600});
    one.put(WEBHOOK, &set).await.unwrap();

    redis.pause();
    hand_in(&one, 0).await;
    hand_in(&two, 100).await;
    receiver.wait(&sandbox, 1).await;
    for control in [&one, &two] {
        let before = last_run(control).await;
        let ran = || async { Ok(last_run(control).await != before) };
        sandbox.eventually("it counts again", PATIENCE, ran).await.unwrap();
    }
    redis.resume();
    hand_in(&two, 200).await;
    let before = last_run(&one).await;
    sandbox.eventually("they count again", PATIENCE, || async { Ok(last_run(&one).await != before) }).await.unwrap();

    let listed = one.get(&format!("{WEBHOOK}/deliveries")).await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["items"][0]["attempts"], 1, "{listed}");
    let told = receiver.told();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["event"]["type"], "log.errors");
}
