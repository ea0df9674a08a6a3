//! The control plane dies at each step between the commit of a change and the end of its publication: what was
//! committed reaches the gateway all the same, and nobody sees an older state after a newer one.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use ez_contract::snapshot::SnapshotEntry;
use ez_state::fail_point::FailPoint;
use ez_state::{SharedState, SnapshotImage, StateError};
use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::logs::PLAIN;
use crate::{on_every_backend, start};

/// From the start of a new process until its gateway serves what was committed. A turn of the dead one ends by itself
/// within this.
const CONVERGENCE: Duration = Duration::from_secs(15);

/// Models of the tenant: one publication of all of them takes several writes.
const MODELS: usize = 300;

/// What aborting a process looks like from outside.
const SIGABRT: i32 = 6;

on_every_backend!(every_death_while_publishing_heals);

/// The steps that a change passes. In one process there is no state to write to by steps: it dies with the process, and
/// the start that makes it anew passes the publisher's turn.
fn steps(backends: Backends) -> Vec<FailPoint> {
    match backends {
        Backends::Embedded => vec![FailPoint::Committed, FailPoint::Read, FailPoint::Announced],
        Backends::Scaled | Backends::Apart => FailPoint::ALL.into(),
    }
}

async fn every_death_while_publishing_heals(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut sandbox = start(backends).await;
    let mut plan = TenantPlan::simple("acme", &base_url(&upstream, 0));
    plan.models.extend((1..MODELS).map(|number| (format!("m-{number}"), "sim-large".to_owned())));
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let steps = steps(backends);
    let (mut watching, done) = (JoinSet::new(), CancellationToken::new());
    if let Some(shared) = sandbox.redis() {
        let state = SharedState::connect_redis(&shared.url, &shared.prefix).await.unwrap();
        watching.spawn(watch(state, steps.len(), done.clone()));
    }

    for (round, point) in (1..).zip(steps) {
        settle(&sandbox).await;
        sandbox.kill().await.unwrap();
        sandbox.set("EZ_TEST_FAIL_POINT", Some(point.as_str()));
        sandbox.restart().await.unwrap();
        move_upstream(&sandbox, &tenant, &base_url(&upstream, round)).await;
        let status = sandbox.wait_for_control().await.unwrap();
        assert_eq!(status.signal(), Some(SIGABRT), "it died at {}", point.as_str());

        sandbox.set("EZ_TEST_FAIL_POINT", None);
        let restarted = Instant::now();
        sandbox.restart().await.unwrap();
        let path = format!("/r{round}/v1/chat/completions");
        let gateway = &sandbox.gateway_as(&tenant.token);
        let (path, upstream) = (&path, &upstream);
        let rest = CONVERGENCE.saturating_sub(restarted.elapsed());
        let what = format!("recovered from {}", point.as_str());
        let served = sandbox.eventually(&what, rest, || async move {
            let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await?;
            assert!(answer.status.is_success(), "calls go on: {}", answer.text());
            Ok(upstream.requests().last().is_some_and(|request| request.path == *path))
        });
        served.await.unwrap();
        assert_as_stored(&sandbox, point).await;
    }
    done.cancel();
    while let Some(ended) = watching.join_next().await {
        ended.unwrap();
    }
}

/// The upstream as a base URL that tells the round.
fn base_url(upstream: &SimUpstream, round: u32) -> String {
    format!("{}/r{round}/v1", upstream.base_url())
}

/// The round that a base URL tells.
fn round_of(base_url: &str) -> u32 {
    let round = base_url.split("/r").last().and_then(|rest| rest.split('/').next());
    round.and_then(|round| round.parse().ok()).unwrap_or_else(|| panic!("no round in {base_url}"))
}

/// A change that touches the tenant's API keys and all its models. The answer may die with the process.
async fn move_upstream(sandbox: &Sandbox, tenant: &Tenant, base_url: &str) {
    let path = format!("/admin/provider-groups/{}", tenant.group_id);
    let change = json!({ "base_url": base_url }).to_string();
    if let Ok(answer) = sandbox.admin().call(Method::PUT, &path, change).await {
        assert!(answer.status.is_success(), "{}", answer.text());
    }
}

async fn settle(sandbox: &Sandbox) {
    let admin: &HttpClient = &sandbox.admin();
    let settled = sandbox.eventually("the outbox is empty", CONVERGENCE, || async move {
        Ok(admin.get("/admin/sync/status").await?["outbox_depth"] == 0)
    });
    settled.await.unwrap();
}

/// What is published is what is stored, and the full comparison at the start found nothing that had been forgotten.
async fn assert_as_stored(sandbox: &Sandbox, point: FailPoint) {
    settle(sandbox).await;
    let admin: &HttpClient = &sandbox.admin();
    let compared = sandbox.eventually("everything was compared at the start", CONVERGENCE, || async move {
        Ok(!admin.get("/admin/sync/status").await?["last_reconcile"].is_null())
    });
    compared.await.unwrap();
    let at_start = admin.get("/admin/sync/status").await.unwrap()["last_reconcile"].clone();
    let now = admin.post("/admin/sync/snapshot", &json!({})).await.unwrap();
    for report in [at_start, now] {
        assert_eq!(report["repaired"], json!([]), "after {}", point.as_str());
    }
}

/// Reads what is published again and again: whole, at versions that rise, and never older than it was.
async fn watch(state: SharedState, rounds: usize, done: CancellationToken) {
    let (mut last, mut last_round) = (SnapshotImage::default(), 0);
    while !done.is_cancelled() {
        match state.read_snapshot().await {
            Ok(image) => {
                let (version, before) = (image.meta.version, last.meta.version);
                assert!(version >= before, "version {version} after {before}");
                assert!(version > before || image.entries == last.entries, "version {version} changed its content");
                let seen: Vec<u32> = image.entries.iter().filter_map(round_of_provider).collect();
                assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "half of a change: {seen:?}");
                let round = seen.first().copied().unwrap_or_default();
                assert!(round >= last_round, "{round} after {last_round}");
                (last, last_round) = (image, round);
            }
            // A publication is under way, or was left half-way.
            Err(error) => assert_eq!(error, StateError::Unsettled),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(usize::try_from(last_round), Ok(rounds), "it saw the last round");
}

fn round_of_provider(entry: &SnapshotEntry) -> Option<u32> {
    match entry {
        SnapshotEntry::Provider(provider) => Some(round_of(&provider.base_url)),
        _ => None,
    }
}
