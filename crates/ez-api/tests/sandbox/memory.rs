//! Memory under load that does not end: plain calls, streams, large bodies and clients that leave, for ten minutes. Once it
//! is warm, a process needs no more than it needed then.

use std::time::{Duration, Instant};

use ez_testkit::http_client::HttpClient;
use ez_testkit::load::{self, LoadOptions, process_usage};
use ez_testkit::sandbox::{Backends, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{HeaderMap, Method};
use serde_json::json;
use tokio::task::JoinSet;

use crate::start;

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(600);
/// After this, pools, buffers and the allocator's own pages have the size that the load needs.
const WARM_UP: Duration = Duration::from_secs(120);
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// Growth from the mean of the first warm minute to that of the last minute that is still the allocator's to and fro.
const GROWTH_MAX_KIB: u64 = 16 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_memory_stays_flat_under_load() {
    let behaviour = Behaviour { tokens: 50, ..Behaviour::default() };
    let upstream = SimUpstream::start(behaviour).await.unwrap();
    upstream.set_recording(false);
    let sandbox = start(Backends::Apart).await;
    let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
    let url = format!("{}/v1/chat/completions", sandbox.gateway_url());
    let pids = [("gateway", sandbox.gateway_pid().unwrap()), ("control plane", sandbox.control_pid().unwrap())];

    let started = Instant::now();
    let mut loads = JoinSet::new();
    for (question_bytes, stream) in [(100, false), (100, true), (200_000, false), (20_000, true)] {
        let load = keep_calling(url.clone(), tenant.token.clone(), question_bytes, stream);
        loads.spawn(load);
    }
    let mut leaving = JoinSet::new();
    leaving.spawn(keep_leaving(sandbox.gateway_as(&tenant.token)));
    let mut samples = pids.map(|_| Vec::new());
    while started.elapsed() < LOAD {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        for ((_, pid), samples) in pids.iter().zip(&mut samples) {
            samples.push((started.elapsed(), process_usage(*pid).unwrap().rss_kib));
        }
    }
    drop(leaving);
    let calls: u64 = loads.join_all().await.into_iter().sum();
    for ((name, _), samples) in pids.iter().zip(&samples) {
        let first = mean(samples, WARM_UP);
        let last = mean(samples, LOAD - Duration::from_secs(60));
        println!("{name}: {first} KiB after {} s, {last} KiB at the end, {calls} calls", WARM_UP.as_secs());
        assert!(last <= first + GROWTH_MAX_KIB, "{name} grew from {first} KiB to {last} KiB: {samples:?}");
    }
}

/// The mean of the minute from `from` on.
fn mean(samples: &[(Duration, u64)], from: Duration) -> u64 {
    let minute = from..from + Duration::from_secs(60);
    let found: Vec<u64> = samples.iter().filter(|(at, _)| minute.contains(at)).map(|(_, kib)| *kib).collect();
    found.iter().sum::<u64>() / found.len() as u64
}

/// Calls for as long as the load lasts; tells how many were answered, every one of them well.
async fn keep_calling(url: String, bearer: String, question_bytes: usize, stream: bool) -> u64 {
    let question = "x".repeat(question_bytes);
    let body = json!({"model": "gpt-sim", "stream": stream, "messages": [{"role": "user", "content": question}]});
    let report = load::run(LoadOptions {
        url,
        bearer: Some(bearer),
        headers: HeaderMap::new(),
        body: Some(body.to_string().into()),
        connections: 4,
        requests: None,
        duration: Some(LOAD),
        // The same work every minute, whatever else the machine does.
        rate: Some(50.0),
        request_timeout: Duration::from_secs(30),
        warm_up_requests: 0,
        stream: false,
        expected_tail: stream.then(|| "data: [DONE]".to_owned()),
        cpu_of: Vec::new(),
    });
    let report = report.await.unwrap();
    assert_eq!(report.errors, 0, "{report:?}");
    report.requests
}

/// Opens streams and leaves them after their first bytes, until it is dropped.
async fn keep_leaving(gateway: HttpClient) {
    let body = json!({"model": "gpt-sim", "stream": true, "messages": [{"role": "user", "content": "Go on."}]});
    loop {
        let begun = gateway.send(Method::POST, "/v1/chat/completions", body.to_string()).await.unwrap();
        assert!(begun.status().is_success(), "{}", begun.status());
        drop(begun);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
