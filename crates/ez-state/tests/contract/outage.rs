//! Redis only: the server dies, hangs, comes back, or was never there.

use std::time::{Duration, Instant};

use ez_state::{ConfigWatch, SharedState, StateError};
use ez_testkit::redis_server::RedisServer;
use tokio::time::timeout;

use crate::sample;

/// Bound of one operation, with some room for a loaded machine.
const OPERATION: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread")]
async fn operations_fail_in_time_while_redis_is_down_and_recover_at_once() {
    let mut server = RedisServer::start().await;
    let state = SharedState::connect_redis(&server.url(), "p:").await.unwrap();
    sample::publish(&state, sample::goldens()).await;
    let mut watch = state.subscribe();
    drain(&mut watch).await;

    server.kill();
    for _ in 0..3 {
        assert_unavailable(&state).await;
    }
    assert!(timeout(Duration::from_millis(300), watch.changed()).await.is_err(), "an outage is no news");

    server.restart().await;
    assert_eq!(state.meta().await.unwrap().version, 0, "the first operation succeeds, and the data is gone");
    timeout(Duration::from_secs(3), watch.changed()).await.expect("being connected again wakes the watch");
    drain(&mut watch).await;
    sample::publish_everything(&state, sample::goldens()).await;
    timeout(Duration::from_secs(1), watch.changed()).await.expect("publications wake the watch as before");
    assert_eq!(sample::held(state.read_snapshot().await.unwrap().entries), sample::held(sample::goldens()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_two_operations_is_not_noticed() {
    let mut server = RedisServer::start().await;
    let state = SharedState::connect_redis(&server.url(), "p:").await.unwrap();
    for _ in 0..3 {
        state.increment("login:ada", Duration::from_secs(60)).await.unwrap();
        server.restart().await;
        assert_eq!(state.increment("login:ada", Duration::from_secs(60)).await.unwrap(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_unavailable_and_then_serves_on() {
    let server = RedisServer::start().await;
    let state = SharedState::connect_redis(&server.url(), "p:").await.unwrap();
    state.ping().await.unwrap();
    server.pause();
    assert_unavailable(&state).await;
    let fresh = SharedState::connect_redis(&server.url(), "p:").await.unwrap();
    assert_unavailable(&fresh).await;
    server.resume();
    state.ping().await.unwrap();
    fresh.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_can_be_made_before_its_server() {
    let mut server = RedisServer::start().await;
    server.kill();
    let state = SharedState::connect_redis(&server.url(), "").await.unwrap();
    let mut watch = state.subscribe();
    assert_unavailable(&state).await;
    assert!(timeout(Duration::from_millis(300), watch.changed()).await.is_err());
    server.restart().await;
    state.ping().await.unwrap();
    timeout(Duration::from_secs(3), watch.changed()).await.expect("the first connection wakes the watch");
}

#[tokio::test]
async fn passwords_are_in_no_message() {
    let state = SharedState::connect_redis("redis://ada:hunter2@127.0.0.1:1/0", "p:").await.unwrap();
    let error = state.ping().await.unwrap_err();
    let shown = format!("{state:?} {:?} {error} {error:?}", state.subscribe());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("127.0.0.1:1"), "{shown}");
    for url in ["redis://ada:hunter2@", "ada:hunter2@host", "http://ada:hunter2@host/", "redis://ada:hunter2@h:port"] {
        let Err(error) = SharedState::connect_redis(url, "").await else { panic!("{url} cannot be used") };
        assert!(matches!(error, StateError::Backend(_)));
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && shown.contains("redis://"), "{shown}");
    }
}

async fn assert_unavailable(state: &SharedState) {
    let begun = Instant::now();
    let error = state.meta().await.expect_err("Redis is down");
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
    assert!(begun.elapsed() < OPERATION, "it took {:?}", begun.elapsed());
}

async fn drain(watch: &mut ConfigWatch) {
    while timeout(Duration::from_millis(300), watch.changed()).await.is_ok() {}
}
