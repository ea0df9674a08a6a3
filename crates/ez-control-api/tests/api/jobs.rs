//! What the scheduler runs.

use std::time::Duration;

use ez_control::publisher;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{ADMIN_TOKEN, Answer, TestApp};

fn start(app: &TestApp) -> (JoinSet<()>, CancellationToken) {
    let (mut running, stop) = (JoinSet::new(), CancellationToken::new());
    running.spawn(app.scheduler.clone().run(stop.clone()));
    (running, stop)
}

async fn run(app: &TestApp, name: &str) -> Answer {
    app.post(ADMIN_TOKEN, &format!("/admin/jobs/{name}/run"), Value::Null).await
}

pub(crate) async fn jobs_are_listed_and_run_on_request(app: TestApp) {
    run(&app, "nothing").await.problem(StatusCode::NOT_FOUND);
    run(&app, "full-reconcile").await.problem(StatusCode::SERVICE_UNAVAILABLE);
    insta::assert_json_snapshot!("jobs_before_the_start", app.get(ADMIN_TOKEN, "/admin/jobs").await.ok());

    let (mut running, stop) = start(&app);
    let ran = async {
        loop {
            // Before the loop is there it is 503, while it runs by itself 409.
            let answer = run(&app, "full-reconcile").await;
            if answer.status == StatusCode::OK {
                return answer.ok();
            }
            tokio::task::yield_now().await;
        }
    };
    let ran = tokio::time::timeout(Duration::from_secs(20), ran).await.expect("it runs");
    insta::assert_json_snapshot!("job_run", ran, {".last_run.duration_ms" => "[time]", ".next_run_at" => "[time]"});
    let listed = app.get(ADMIN_TOKEN, "/admin/jobs").await.ok();
    let listed = listed["items"].as_array().unwrap().iter().find(|job| job["name"] == "full-reconcile").unwrap();
    assert_eq!(listed["last_run"]["outcome"], "succeeded");
    stop.cancel();
    running.join_next().await.unwrap().unwrap();

    let audited = app.get(ADMIN_TOKEN, "/admin/audit").await.ok();
    let newest = &audited["items"][0];
    assert_eq!((&newest["action"], &newest["record_kind"]), (&json!("run"), &json!("job")), "{newest}");
    assert_eq!(newest["after"], json!({"name": "full-reconcile"}));
}

pub(crate) async fn a_job_that_runs_elsewhere_is_a_conflict(app: TestApp) {
    publisher::publish_due(&app.control).await.unwrap();
    let lease = app.control.state().acquire_lease("publisher", "another", Duration::from_secs(600)).await.unwrap();
    app.master("waiting").await;
    let (mut running, stop) = start(&app);
    let refused = async {
        loop {
            let answer = run(&app, "sync-outbox").await;
            if answer.status == StatusCode::CONFLICT {
                return answer.problem(StatusCode::CONFLICT);
            }
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text());
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.expect("it is refused");
    assert!(refused["detail"].as_str().unwrap().contains("sync-outbox is running already"), "{refused}");
    app.control.state().release_lease(&lease.unwrap()).await.unwrap();
    stop.cancel();
    running.join_next().await.unwrap().unwrap();
}
