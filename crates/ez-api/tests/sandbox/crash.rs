//! kill -9 in the middle of the traffic: every call whose last byte the client got has exactly one record.

use std::collections::HashSet;
use std::time::Duration;

use ez_testkit::sandbox::{Backends, Sandbox, Tenant};
use ez_testkit::upstream::{Behaviour, SimUpstream};

use crate::traffic::{Traffic, assert_accounted_once};
use crate::{on_every_backend, start};

on_every_backend!(three_kills_in_the_middle_of_200_calls);

const CALLERS: usize = 200;

/// Until each caller has had an answer or so, on a busy machine.
const BUSY_WITHIN: Duration = Duration::from_secs(60);

/// From a restart until the records of the last round are in the database.
const ACCOUNTED_WITHIN: Duration = Duration::from_secs(60);

async fn three_kills_in_the_middle_of_200_calls(backends: Backends) {
    kill_again_and_again(backends, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_many_kills_embedded() {
    kill_again_and_again(Backends::Embedded, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_many_kills_scaled() {
    kill_again_and_again(Backends::Scaled, 30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_many_kills_apart() {
    kill_again_and_again(Backends::Apart, 30).await;
}

async fn kill_again_and_again(backends: Backends, kills: u64) {
    let behaviour = Behaviour { tokens: 20, tokens_per_second: Some(100.0), ..Behaviour::default() };
    let upstream = SimUpstream::start(behaviour).await.unwrap();
    upstream.set_recording(false);
    let mut sandbox = start(backends).await;
    let tenant = Tenant::create_with_every_protocol(&sandbox, &upstream).await.unwrap();
    let mut completed: HashSet<String> = HashSet::new();
    for round in 0..kills {
        let whole = call_until_killed(&mut sandbox, &tenant, round).await;
        completed.extend(whole);
        sandbox.restart().await.unwrap();
    }
    assert_accounted_once(&sandbox, &completed, ACCOUNTED_WITHIN).await;
}

/// 200 callers at once, of every protocol, plain and streaming; the process is killed while they are busy. Tells the
/// request ids of the calls whose last byte arrived.
async fn call_until_killed(sandbox: &mut Sandbox, tenant: &Tenant, round: u64) -> HashSet<String> {
    let traffic = Traffic::start(&[sandbox.gateway_as(&tenant.token)], CALLERS);
    let busy = sandbox.eventually("callers have had answers", BUSY_WITHIN, || async { Ok(traffic.whole() > CALLERS) });
    busy.await.unwrap();
    // In the middle of the next ones.
    tokio::time::sleep(Duration::from_millis(37 * (round % 10))).await;
    sandbox.kill().await.unwrap();
    let tally = traffic.stop().await;
    assert!(tally.failed.is_empty(), "round {round}: {} failed, first {:?}", tally.failed.len(), tally.failed.first());
    // The rest had just been answered.
    assert!(tally.cut.len() >= CALLERS / 2, "round {round}: {} callers were busy", tally.cut.len());
    tally.whole
}
