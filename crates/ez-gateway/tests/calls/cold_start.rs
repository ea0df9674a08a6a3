//! Starts without the shared state: what was saved serves until the shared state answers, and no longer than allowed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ez_contract::secret::SecretKey;
use ez_contract::snapshot::{SnapshotChange, SnapshotEntry};
use ez_gateway::routing::{
    FollowerConfig, RoutingSnapshot, SavedSnapshot, SnapshotCell, SnapshotSource, SnapshotState, follow, keep_saved,
};
use ez_state::SharedState;
use ez_testkit::clock::FakeClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{provider, publish, token, token_entry};

const HOUR: Duration = Duration::from_secs(3_600);

/// The routing part of a gateway, on a data directory.
struct Follower {
    cell: Arc<SnapshotCell>,
    watch: watch::Receiver<Option<SnapshotState>>,
    clock: FakeClock,
    saved: SavedSnapshot,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Follower {
    fn start(dir: &Path, state: SharedState, max_age: Option<Duration>, clock: FakeClock) -> Self {
        let secret_key = Arc::new(SecretKey::from_bytes(&[7; 32]).unwrap());
        let saved = SavedSnapshot::new(dir.join("snapshot"), secret_key.clone());
        let now = ez_contract::Clock::now(&clock);
        let (snapshot, loaded) = match saved.load(now, max_age) {
            Ok((snapshot, loaded)) => (snapshot, Some(loaded)),
            Err(_) => (RoutingSnapshot::empty(), None),
        };
        let cell = Arc::new(SnapshotCell::from_pointee(snapshot));
        let (sender, watch) = watch::channel(loaded);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let poll_interval = Duration::from_millis(20);
        let config = FollowerConfig { state, secret_key, poll_interval, clock: Arc::new(clock.clone()), max_age };
        tasks.spawn(follow(config, cell.clone(), sender, stop.clone()));
        let saving = (saved.clone(), cell.clone(), watch.clone(), Arc::new(clock.clone()), stop.clone());
        tasks.spawn(keep_saved(saving.0, saving.1, saving.2, saving.3, saving.4));
        Self { cell, watch, clock, saved, tasks, stop }
    }

    async fn wait_for(&mut self, what: &str, is_so: impl Fn(&Option<SnapshotState>) -> bool) -> Option<SnapshotState> {
        let waited = tokio::time::timeout(Duration::from_secs(20), self.watch.wait_for(|state| is_so(state))).await;
        *waited.unwrap_or_else(|_| panic!("{what}")).unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(20), self.tasks.wait()).await.unwrap();
    }
}

/// A Redis that nobody answers for.
async fn unreachable_state() -> SharedState {
    SharedState::connect_redis("redis://127.0.0.1:1", "").await.unwrap()
}

async fn published_state() -> SharedState {
    let state = SharedState::in_process();
    let entries = vec![token_entry(token()), SnapshotEntry::Provider(provider(1, "http://127.0.0.1:1", "sk-up-1"))];
    publish(&state, entries.into_iter().map(SnapshotChange::Put).collect()).await;
    state
}

/// A data directory that a former run saved a snapshot in, and its version.
async fn former_run(dir: &Path, clock: &FakeClock) -> u64 {
    let mut follower = Follower::start(dir, published_state().await, None, clock.clone());
    let live = follower.wait_for("the snapshot is applied", Option::is_some).await.unwrap();
    assert_eq!(live.source, SnapshotSource::Live);
    follower.stop().await;
    live.version
}

#[tokio::test]
async fn what_was_applied_last_is_served_from_though_nothing_answers() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::now();
    let version = former_run(dir.path(), &clock).await;
    clock.advance(24 * HOUR);
    let follower = Follower::start(dir.path(), unreachable_state().await, None, clock);
    let state = follower.watch.borrow().unwrap();
    assert_eq!((state.version, state.source), (version, SnapshotSource::Disk));
    assert_eq!(follower.cell.load().version(), version);
    follower.stop().await;
}

#[tokio::test]
async fn the_shared_state_is_read_in_full_once_it_answers_whatever_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::now();
    former_run(dir.path(), &clock).await;
    // Another content under whatever version it gets, as after Redis came back with other data.
    let state = SharedState::in_process();
    publish(&state, vec![SnapshotChange::Put(token_entry(token()))]).await;
    let version = state.meta().await.unwrap().version;
    let mut follower = Follower::start(dir.path(), state, None, clock);
    let is_live = |state: &Option<SnapshotState>| state.is_some_and(|state| state.source == SnapshotSource::Live);
    let live = follower.wait_for("the shared state is read", is_live).await.unwrap();
    assert_eq!((live.version, follower.cell.load().version()), (version, version));
    follower.stop().await;
}

#[tokio::test]
async fn a_store_without_data_does_not_take_the_saved_snapshot_away() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::now();
    let version = former_run(dir.path(), &clock).await;
    let state = SharedState::in_process();
    let mut follower = Follower::start(dir.path(), state.clone(), None, clock);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(follower.watch.borrow().map(|state| state.source), Some(SnapshotSource::Disk));
    assert_eq!(follower.cell.load().version(), version);
    publish(&state, vec![SnapshotChange::Put(token_entry(token()))]).await;
    let is_live = |state: &Option<SnapshotState>| state.is_some_and(|state| state.source == SnapshotSource::Live);
    follower.wait_for("what is published then is served from", is_live).await;
    follower.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_nobody_confirms_is_given_up_after_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::now();
    former_run(dir.path(), &clock).await;
    clock.advance(HOUR / 2);
    let mut follower = Follower::start(dir.path(), unreachable_state().await, Some(HOUR), clock.clone());
    assert!(follower.watch.borrow().is_some(), "it is younger than an hour");
    follower.clock.advance(HOUR);
    follower.wait_for("it is given up", Option::is_none).await;
    assert_eq!(follower.cell.load().version(), 0);
    let refused = follower.saved.load(ez_contract::Clock::now(&clock), Some(HOUR)).unwrap_err().to_string();
    assert!(refused.contains("EZ_SNAPSHOT_MAX_AGE"), "{refused}");
    follower.stop().await;
}
