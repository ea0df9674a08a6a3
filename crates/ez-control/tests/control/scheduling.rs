//! The scheduler over real backends: runs that were asked for, and what the processes know of each other's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ez_contract::status::KeyStatus;
use ez_control::child_keys::CreateChildKey;
use ez_control::scheduler::{FULL_RECONCILE, Job, JobOutcome, SYNC_OUTBOX, Scheduler, jobs};
use ez_control::{Actor, Control, ControlError, audit};
use ez_store::{ActorKind, RecordKind, child_keys};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Plane, assert_not_found, conflict, origin};

/// After its first run nothing runs by itself within a test.
const NEVER: Duration = Duration::from_secs(24 * 3600);

fn admin() -> Actor {
    Actor::admin(origin())
}

/// Schedulers of two control planes, both running.
async fn two_running(plane: &Plane, job: &Job) -> (Scheduler, Scheduler, JoinSet<()>, CancellationToken) {
    let other = plane.another().await;
    let scheduler = |control: Control| Scheduler::with_jobs(control, vec![job.clone()]);
    let (one, two) = (scheduler(plane.control.clone()), scheduler(other));
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    for scheduler in [&one, &two] {
        running.spawn(scheduler.clone().run(stop.clone()));
        // Its first run is over when the next one is far away.
        let far = plane.control.now() + NEVER / 2;
        until(async || scheduler.list().await[0].next_run_at.is_some_and(|next| next > far)).await;
    }
    (one, two, running, stop)
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it comes about");
}

pub(crate) async fn a_run_that_was_asked_for_is_waited_for_and_never_overlaps(plane: Plane) {
    // Open for the first runs.
    let (gate, is_running) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicBool::new(false)));
    let (opens, runs) = (gate.clone(), is_running.clone());
    let job = Job::leased("gated", NEVER, move |_| {
        let (opens, runs) = (opens.clone(), runs.clone());
        async move {
            assert!(!runs.swap(true, Ordering::SeqCst), "the job overlaps itself");
            opens.acquire().await.unwrap().forget();
            runs.store(false, Ordering::SeqCst);
            Ok(7_u64)
        }
    });
    let idle = Scheduler::with_jobs(plane.control.clone(), vec![job.clone()]);
    let outcome = idle.run_now("gated", &admin()).await;
    assert!(matches!(outcome, Err(ControlError::Unavailable(_))), "nothing runs it: {outcome:?}");

    let (one, two, mut running, stop) = two_running(&plane, &job).await;
    assert_not_found(one.run_now("nothing", &admin()).await);
    let asking = async {
        let ran = one.run_now("gated", &admin()).await.unwrap();
        let run = ran.last_run.unwrap();
        assert_eq!((run.outcome, run.items, run.error), (JobOutcome::Succeeded, 7, None));
    };
    let asking_too = async {
        until(async || is_running.load(Ordering::SeqCst)).await;
        assert!(one.list().await[0].is_running);
        for scheduler in [&one, &two] {
            let (message, _) = conflict(scheduler.run_now("gated", &admin()).await);
            assert!(message.contains("the job gated is running already"), "{message}");
        }
        gate.add_permits(1);
    };
    tokio::join!(asking, asking_too);

    let entries = audit::list(&plane.control, None, 10).await.unwrap().items;
    let entry = &entries.last().unwrap().entry;
    assert_eq!((entry.action.as_str(), entry.record_kind), ("run", RecordKind::Job));
    assert_eq!((entry.actor_kind, entry.after.as_ref().unwrap()["name"].as_str()), (ActorKind::Admin, Some("gated")));

    stop.cancel();
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    let outcome = one.run_now("gated", &admin()).await;
    assert!(matches!(outcome, Err(ControlError::Unavailable(_))), "it stopped: {outcome:?}");
}

pub(crate) async fn what_a_job_did_last_is_known_everywhere(plane: Plane) {
    let fails = Arc::new(AtomicBool::new(false));
    let will_fail = fails.clone();
    let job = Job::leased("fail", NEVER, move |_| {
        let fails = will_fail.load(Ordering::SeqCst);
        async move { if fails { Err(ControlError::Unavailable("the disk is away".into())) } else { Ok(1_u64) } }
    });
    let (one, two, _running, stop) = two_running(&plane, &job).await;
    plane.clock.advance(Duration::from_secs(1));
    fails.store(true, Ordering::SeqCst);
    let told = one.run_now("fail", &admin()).await.unwrap().last_run.unwrap();
    assert_eq!((told.outcome, told.items), (JobOutcome::Failed, 0));
    assert!(told.error.as_deref().unwrap().ends_with("the disk is away"), "{told:?}");
    assert_eq!((told.node_id.as_str(), told.started_at), ("control", plane.control.now()));
    assert_eq!(two.list().await[0].last_run, Some(told));
    stop.cancel();

    // What another version noted is as good as nothing.
    plane.control.state().put_job_note("fail", "{\"from\":\"the future\"}").await.unwrap();
    let own = two.list().await.remove(0).last_run.unwrap();
    assert_eq!((own.outcome, own.items), (JobOutcome::Succeeded, 1), "it remembers its own");
}

pub(crate) async fn the_jobs_of_the_product_run(plane: Plane) {
    let scheduler = Scheduler::new(plane.control.clone());
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    running.spawn(scheduler.clone().run(stop.clone()));
    // Each runs by itself within a moment of the start.
    until(async || scheduler.list().await.iter().all(|job| job.last_run.is_some() && !job.is_running)).await;
    let listed = scheduler.list().await;
    let names: Vec<&str> = listed.iter().map(|job| job.name).collect();
    assert_eq!(names, jobs().iter().map(Job::name).collect::<Vec<_>>());
    for job in &listed {
        let run = job.last_run.as_ref().unwrap();
        assert_eq!((run.outcome, &run.error), (JobOutcome::Succeeded, &None), "{}", job.name);
        assert!(job.next_run_at.is_some_and(|next| next <= run.started_at + job.interval), "{job:?}");
    }
    // Its own tick may be at it.
    let ran = async |name: &str| loop {
        match scheduler.run_now(name, &admin()).await {
            Ok(status) => return status.last_run.unwrap(),
            Err(ControlError::Conflict { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    for name in [SYNC_OUTBOX, FULL_RECONCILE] {
        assert_eq!(ran(name).await.outcome, JobOutcome::Succeeded, "{name}");
    }
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}

pub(crate) async fn what_is_due_is_done_by_itself(plane: Plane) {
    let master = plane.master("acme").await.master;
    let expires_at = Some(plane.control.now() + Duration::from_secs(60));
    let new = CreateChildKey { expires_at, ..CreateChildKey::default() };
    let key = plane.try_key(master.id, new).await.unwrap().key;
    plane.clock.advance(Duration::from_secs(61));
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    running.spawn(Scheduler::new(plane.control.clone()).run(stop.clone()));
    let status = async || child_keys::get(plane.control.store(), key.id).await.unwrap().unwrap().status;
    until(async || status().await == KeyStatus::Expired).await;
    // The job's own commit wakes the publisher.
    until(async || plane.outbox_depth().await == 0).await;
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}
