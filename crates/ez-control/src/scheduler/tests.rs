//! The scheduler's own clockwork, in paused time.

use std::sync::atomic::{AtomicU32, Ordering};

use ez_contract::secret::SecretKey;
use ez_state::SharedState;
use ez_store::{ConnectOptions, Store};
use ez_testkit::clock::FakeClock;
use ez_testkit::database::TestDatabase;

use super::*;
use crate::{ControlConfig, ControlParts};

const EVERY: Duration = Duration::from_secs(60);

/// Of first runs.
const SPREAD: Duration = Duration::from_secs(5);

/// Control planes on one database and one shared state, in paused time. The database is kept for its drop.
struct Planes {
    parts: Box<dyn Fn() -> ControlParts>,
    clock: FakeClock,
    _database: TestDatabase,
}

impl Planes {
    async fn new() -> Self {
        let database = TestDatabase::sqlite();
        let store = Store::connect(database.url(), ConnectOptions::default()).await.unwrap();
        store.migrate().await.unwrap();
        let (state, clock) = (SharedState::in_process(), FakeClock::now());
        let time = clock.clone();
        let parts = Box::new(move || ControlParts {
            store: store.clone(),
            state: state.clone(),
            clock: Arc::new(time.clone()),
            secret_key: Arc::new(SecretKey::from_bytes(&[7; 32]).unwrap()),
            config: ControlConfig { job_spread: SPREAD, ..ControlConfig::default() },
        });
        Self { parts, clock, _database: database }
    }

    async fn control(&self) -> Control {
        Control::prepare((self.parts)()).await.unwrap().0
    }

    /// Lets time pass, for the loops and on the clock alike.
    async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(500);
        let mut left = time;
        while !left.is_zero() {
            let now = step.min(left);
            self.clock.advance(now);
            sleep(now).await;
            left -= now;
        }
    }
}

fn start(schedulers: &[&Scheduler]) -> (JoinSet<()>, CancellationToken) {
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    for scheduler in schedulers {
        running.spawn((*scheduler).clone().run(stop.clone()));
    }
    (running, stop)
}

/// A job that counts its runs and never meets itself.
fn counting(runs: &Arc<AtomicU32>, takes: Duration) -> Job {
    let (runs, at_once) = (runs.clone(), Arc::new(AtomicU32::new(0)));
    Job::leased("count", EVERY, move |_| {
        let (runs, at_once) = (runs.clone(), at_once.clone());
        async move {
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "the job overlaps itself");
            sleep(takes).await;
            at_once.fetch_sub(1, Ordering::SeqCst);
            runs.fetch_add(1, Ordering::SeqCst);
            Ok(7_u64)
        }
    })
}

#[tokio::test]
async fn a_job_runs_shortly_after_the_start_and_then_at_its_interval() {
    let planes = Planes::new().await;
    let runs = Arc::default();
    let scheduler = Scheduler::with_jobs(planes.control().await, vec![counting(&runs, Duration::ZERO)]);
    assert_eq!(scheduler.list().await[0].next_run_at, None, "nothing runs it yet");
    tokio::time::pause();
    let (_running, _stop) = start(&[&scheduler]);
    planes.pass(SPREAD + Duration::from_secs(1)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    planes.pass(EVERY * 10).await;
    assert_eq!(runs.load(Ordering::SeqCst), 11);

    let status = scheduler.list().await.remove(0);
    let last = status.last_run.unwrap();
    assert_eq!((last.outcome, last.items, last.error), (JobOutcome::Succeeded, 7, None));
    assert_eq!(last.node_id, "control");
    let next = status.next_run_at.unwrap();
    assert!(next > ez_contract::Clock::now(&planes.clock) && next <= last.started_at + EVERY, "{next}");
}

#[tokio::test]
async fn several_control_planes_run_a_job_once_an_interval() {
    let planes = Planes::new().await;
    let runs = Arc::default();
    let job = counting(&runs, Duration::from_secs(20));
    let one = Scheduler::with_jobs(planes.control().await, vec![job.clone()]);
    let two = Scheduler::with_jobs(planes.control().await, vec![job]);
    tokio::time::pause();
    let (_running, _stop) = start(&[&one, &two]);
    // The run outlasts the lease, which is renewed.
    planes.pass(SPREAD + EVERY * 10).await;
    let count = runs.load(Ordering::SeqCst);
    assert!((10..=11).contains(&count), "{count} runs in ten intervals");
    assert_eq!(one.list().await[0].last_run, two.list().await[0].last_run, "each knows of the other's runs");
}

#[tokio::test]
async fn a_run_that_is_wanted_while_another_is_at_it_comes_after_that() {
    let planes = Planes::new().await;
    let runs = Arc::default();
    let takes = Duration::from_secs(100);
    let mut job = counting(&runs, takes);
    job.default_interval = Duration::from_secs(3_600);
    let one = Scheduler::with_jobs(planes.control().await, vec![job.clone()]);
    let two = Scheduler::with_jobs(planes.control().await, vec![job]);
    tokio::time::pause();
    let (_running, _stop) = start(&[&one]);
    planes.pass(SPREAD + Duration::from_secs(1)).await;
    let (_running_too, _stop_too) = start(&[&two]);
    planes.pass(SPREAD + Duration::from_secs(1)).await;
    two.want("count");
    planes.pass(Duration::from_secs(1)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 0, "the first run is still under way");
    planes.pass(takes + LEASE + takes + Duration::from_secs(10)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2, "what was wanted came after it");
    planes.pass(takes + LEASE * 2).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2, "and once");
}

#[tokio::test]
async fn a_failure_or_a_panic_is_recorded_and_stops_nothing() {
    let planes = Planes::new().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let turns = runs.clone();
    let job = Job::leased("fail", EVERY, move |_| {
        let turn = turns.fetch_add(1, Ordering::SeqCst);
        async move {
            match turn {
                0 => Err(ControlError::Unavailable("the disk is away".into())),
                1 => panic!("canary"),
                _ => Ok(Ran::Items(1)),
            }
        }
    });
    let counted = Arc::default();
    let scheduler = Scheduler::with_jobs(planes.control().await, vec![job, counting(&counted, Duration::ZERO)]);
    tokio::time::pause();
    let (_running, _stop) = start(&[&scheduler]);
    let mut seen = Vec::new();
    while runs.load(Ordering::SeqCst) < 3 {
        planes.pass(Duration::from_millis(500)).await;
        let last = scheduler.list().await.remove(0).last_run;
        if let Some(last) = last.filter(|last| seen.last() != Some(last)) {
            seen.push(last);
        }
    }
    let outcomes: Vec<_> = seen.iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [JobOutcome::Failed, JobOutcome::Panicked, JobOutcome::Succeeded]);
    assert!(seen[0].error.as_deref().unwrap().ends_with("the disk is away"), "{seen:?}");
    assert!(!format!("{seen:?}").contains("canary"), "a panic may say anything: {seen:?}");
    let between = (seen[1].started_at - seen[0].started_at).to_std().unwrap();
    assert!(between < LAST_RETRY + Duration::from_secs(2), "it is tried again soon, not after {between:?}");
    planes.pass(EVERY).await;
    assert!(counted.load(Ordering::SeqCst) > 0, "the other job runs on");
}

#[tokio::test]
async fn a_run_that_lost_its_lease_is_given_up() {
    let planes = Planes::new().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let begun = runs.clone();
    let job = Job::leased("hang", EVERY, move |_| {
        begun.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<Ran, ControlError>>()
    });
    let control = planes.control().await;
    let scheduler = Scheduler::with_jobs(control.clone(), vec![job]);
    tokio::time::pause();
    let (_running, _stop) = start(&[&scheduler]);
    while runs.load(Ordering::SeqCst) == 0 {
        planes.pass(Duration::from_millis(500)).await;
    }
    let (state, holder) = (control.state(), &control.publishing().holder);
    let held = state.acquire_lease("job:hang", holder, LEASE).await.unwrap().unwrap();
    assert_eq!(state.acquire_lease("job:hang", "another", LEASE).await.unwrap(), None, "it is held");
    assert!(state.release_lease(&held).await.unwrap());
    assert!(state.acquire_lease("job:hang", "another", LEASE * 100).await.unwrap().is_some());
    planes.pass(LEASE).await;
    let last = scheduler.list().await.remove(0).last_run.unwrap();
    assert_eq!((last.outcome, last.error.as_deref()), (JobOutcome::Failed, Some("another control plane took over")));
    assert_eq!(runs.load(Ordering::SeqCst), 1, "it is not begun again while the other has it");
}

#[tokio::test]
async fn a_run_whose_lease_is_gone_ends_and_leaves_none_behind() {
    let planes = Planes::new().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let begun = runs.clone();
    let job = Job::leased("hang", EVERY, move |_| {
        begun.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<Ran, ControlError>>()
    });
    let control = planes.control().await;
    tokio::time::pause();
    let stop = CancellationToken::new();
    let lose = async {
        while runs.load(Ordering::SeqCst) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        // As where the shared state lost its data.
        let (state, holder) = (control.state(), &control.publishing().holder);
        let held = state.acquire_lease("job:hang", holder, LEASE).await.unwrap().unwrap();
        assert!(state.release_lease(&held).await.unwrap());
    };
    let (run, ()) = tokio::join!(run::run(&control, &job, &stop), lose);
    assert_eq!((run.outcome, run.error.as_deref()), (JobOutcome::Failed, Some("its lease was lost meanwhile")));
    assert!(control.state().acquire_lease("job:hang", "another", LEASE).await.unwrap().is_some(), "it is free");
}

#[tokio::test]
async fn a_clock_ahead_does_not_hide_what_others_did_since() {
    let planes = Planes::new().await;
    let runs = Arc::default();
    let job = counting(&runs, Duration::ZERO);
    let ahead = Scheduler::with_jobs(planes.control().await, vec![job.clone()]);
    let mut parts = (planes.parts)();
    let behind = FakeClock::now();
    planes.clock.advance(Duration::from_secs(3600));
    parts.clock = Arc::new(behind);
    parts.config.node_id = "behind".to_owned();
    let right = Scheduler::with_jobs(Control::prepare(parts).await.unwrap().0, vec![job]);
    tokio::time::pause();
    let (_running, _stop) = start(&[&ahead]);
    planes.pass(SPREAD + Duration::from_secs(1)).await;
    assert_eq!(ahead.list().await[0].last_run.as_ref().unwrap().node_id, "control");
    let (_running_too, _stop_too) = start(&[&right]);
    planes.pass(SPREAD + Duration::from_secs(1)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(ahead.list().await[0].last_run.as_ref().unwrap().node_id, "behind");
}

#[tokio::test]
async fn a_stop_waits_for_a_run_but_not_for_ever() {
    let planes = Planes::new().await;
    let runs: Arc<AtomicU32> = Arc::default();
    let begun = runs.clone();
    let job = Job::leased("hang", EVERY, move |_| {
        begun.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<Ran, ControlError>>()
    });
    let scheduler = Scheduler::with_jobs(planes.control().await, vec![job]);
    tokio::time::pause();
    let (mut running, stop) = start(&[&scheduler]);
    while runs.load(Ordering::SeqCst) == 0 {
        planes.pass(Duration::from_millis(500)).await;
    }
    stop.cancel();
    let stopped = Instant::now();
    while running.join_next().await.is_some() {}
    assert!(stopped.elapsed() < Duration::from_secs(4), "{:?}", stopped.elapsed());
    let last = scheduler.list().await.remove(0).last_run.unwrap();
    assert_eq!(last.outcome, JobOutcome::Failed);
}

#[test]
fn waits_double_up_to_five_seconds() {
    let waits: Vec<u128> = [1, 2, 3, 6, 7, 1000, u32::MAX].map(|n| backoff(n).as_millis()).into();
    assert_eq!(waits, [100, 200, 400, 3200, 5000, 5000, 5000]);
}

#[tokio::test]
async fn publishing_is_retried_promptly_so_often_and_then_at_its_interval() {
    let planes = Planes::new().await;
    let control = planes.control().await;
    let scheduler = Scheduler::new(control.clone());
    let slot = scheduler.0.slots.iter().find(|slot| slot.job.name == SYNC_OUTBOX).unwrap();
    let wait = |failures| scheduler.wait_after(slot, JobOutcome::Failed, failures).as_millis();
    assert_eq!([1, 2, 4, 5, 8, 9, 100].map(wait), [100, 200, 800, 1000, 1000, 1000, 1000]);
    let mut parts = (planes.parts)();
    parts.config.outbox_max_retries = 2;
    parts.config.job_intervals.insert(SYNC_OUTBOX, Duration::from_secs(3600));
    let scheduler = Scheduler::new(Control::prepare(parts).await.unwrap().0);
    let slot = scheduler.0.slots.iter().find(|slot| slot.job.name == SYNC_OUTBOX).unwrap();
    let wait = |failures| scheduler.wait_after(slot, JobOutcome::Failed, failures).as_millis();
    assert_eq!([1, 2, 3, 100].map(wait), [100, 200, 3_600_000, 3_600_000]);
    assert_eq!(scheduler.wait_after(slot, JobOutcome::Skipped, 0), BUSY_RETRY);
}
