//! kill -9 in the middle of the traffic: every call whose last byte the client got has exactly one record.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use tokio::task::JoinSet;

use crate::logs::{PLAIN, STREAM, all_logs};
use crate::{on_every_backend, start};

on_every_backend!(kill_in_the_middle_of_200_calls);

const CALLERS: usize = 200;

async fn kill_in_the_middle_of_200_calls(backends: Backends) {
    kill_again_and_again(backends, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_many_kills_embedded() {
    kill_again_and_again(Backends::Embedded, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_many_kills_scaled() {
    kill_again_and_again(Backends::Scaled, 25).await;
}

async fn kill_again_and_again(backends: Backends, kills: usize) {
    let behaviour = Behaviour { tokens: 20, tokens_per_second: Some(100.0), ..Behaviour::default() };
    let upstream = SimUpstream::start(behaviour).await.unwrap();
    upstream.set_recording(false);
    let mut sandbox = start(backends).await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let mut completed: HashSet<String> = HashSet::new();
    for kill in 0..kills {
        let whole = call_until_killed(&mut sandbox, &tenant, kill).await;
        assert!(whole.len() >= CALLERS / 2, "only {} calls were whole before the kill", whole.len());
        completed.extend(whole);
        sandbox.restart().await.unwrap();
    }
    let admin = sandbox.admin();
    let (admin, completed) = (&admin, &completed);
    let arrived = sandbox.eventually("every whole call has a record", Duration::from_secs(30), || async move {
        let records = all_logs(admin, "/admin/logs").await;
        let known: HashSet<_> =
            records.iter().map(|record| record["request_id"].as_str().unwrap().to_owned()).collect();
        Ok(completed.iter().all(|request_id| known.contains(request_id)))
    });
    arrived.await.unwrap();
    let mut counts: HashMap<String, u32> = HashMap::new();
    for record in all_logs(admin, "/admin/logs").await {
        let request_id = record["request_id"].as_str().unwrap().to_owned();
        if completed.contains(&request_id) {
            assert_eq!(record["ended_by"], "complete", "{record}");
        }
        *counts.entry(request_id).or_default() += 1;
    }
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    assert!(counts.len() >= completed.len());
}

/// 200 callers at once, plain and streaming; the process is killed while they are busy. Tells the request ids of the
/// calls whose last byte arrived.
async fn call_until_killed(sandbox: &mut Sandbox, tenant: &Tenant, round: usize) -> HashSet<String> {
    let whole: Arc<Mutex<HashSet<String>>> = Arc::default();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let gateway = sandbox.gateway_as(&tenant.token);
        let (whole, is_over) = (whole.clone(), is_over.clone());
        callers.spawn(async move {
            let body = if caller % 2 == 0 { STREAM } else { PLAIN };
            while !is_over.load(Ordering::SeqCst) {
                let Ok(answer) = gateway.call(Method::POST, "/v1/chat/completions", body).await else { break };
                let is_whole =
                    answer.status.is_success() && (body == PLAIN || answer.text().ends_with("data: [DONE]\n\n"));
                assert!(is_whole, "round {round}: {} {}", answer.status, answer.text());
                whole.lock().unwrap().insert(answer.header("x-request-id").unwrap().to_owned());
            }
        });
    }
    // Long enough for every caller to have had answers, and in the middle of the next.
    tokio::time::sleep(Duration::from_millis(1_500 + 37 * round as u64)).await;
    sandbox.kill().await.unwrap();
    is_over.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let whole = whole.lock().unwrap();
    whole.clone()
}
