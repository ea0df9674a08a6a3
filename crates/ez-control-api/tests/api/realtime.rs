//! Live figures: summed over gateways, shown to those whom they belong to, once and as events.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use ez_contract::live::{LiveFigures, LiveReport};
use ez_testkit::redis_server::RedisServer;
use futures_util::StreamExt;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{ADMIN_TOKEN, TestApp};

const LONG: Duration = Duration::from_secs(600);
/// Generous: events come every second, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn figures(requests: u64, streams: u64) -> LiveFigures {
    LiveFigures {
        requests,
        recent_requests: requests / 2,
        tokens: 100 * requests,
        limited_requests: u64::from(requests > 10),
        in_flight: streams + 1,
        in_flight_streams: streams,
    }
}

/// Tells the figures of a gateway.
async fn tell(app: &TestApp, node_id: &str, masters: &[(i64, LiveFigures)], others: LiveFigures) {
    let masters = masters.iter().copied().collect::<BTreeMap<_, _>>();
    let report = LiveReport { node_id: node_id.to_owned(), masters, others };
    app.control.state().report_live(node_id, &report, LONG).await.unwrap();
}

/// What was read a moment ago may be shown for another moment.
async fn wait_for(app: &TestApp, token: &str, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let shown = app.get(token, path).await.ok();
        if is_right(&shown) {
            return shown;
        }
        assert!(Instant::now() < give_up, "{path}: {shown:#}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn figures_are_summed_over_gateways_and_shown_to_their_own(app: TestApp) {
    let (first_id, first) = app.master("first-master").await;
    let (second_id, second) = app.master("second-master").await;
    let before = app.get(ADMIN_TOKEN, &format!("/admin/masters/{first_id}")).await;
    let tag = before.header("etag").to_owned();
    let nothing = before.ok()["realtime"].clone();
    insta::assert_json_snapshot!("realtime_of_a_master_without_calls", nothing);

    let of_nobody = 999_999;
    tell(&app, "gw-1", &[(first_id, figures(12, 2)), (second_id, figures(4, 0))], figures(2, 0)).await;
    tell(&app, "gw-2", &[(first_id, figures(8, 1)), (of_nobody, figures(1, 0))], LiveFigures::default()).await;

    let system = wait_for(&app, ADMIN_TOKEN, "/admin/realtime", |shown| shown["gateways"] == 2).await;
    insta::assert_json_snapshot!("realtime", system, {".masters[].id" => "[id]"});
    let path = format!("/admin/masters/{first_id}/realtime");
    let of_first = wait_for(&app, ADMIN_TOKEN, &path, |shown| shown["requests"] == 20).await;
    assert_eq!((&of_first["qps"], &of_first["in_flight_streams"]), (&json!(1.0), &json!(3)));
    assert_eq!(app.get(&first, "/v1/realtime").await.ok(), of_first);
    let of_second = app.get(&second, "/v1/realtime").await.ok();
    assert_eq!((&of_second["requests"], &of_second["rate_limited"]), (&json!(4), &json!(false)));

    let record = app.get(ADMIN_TOKEN, &format!("/admin/masters/{first_id}")).await;
    assert_eq!(record.header("etag"), tag, "the tag is that of the record");
    let record = record.ok();
    assert_eq!((&record["realtime"], &record["id"]), (&of_first, &json!(first_id)));
    app.get(ADMIN_TOKEN, "/admin/masters/999999/realtime").await.problem(StatusCode::NOT_FOUND);

    app.control.state().remove_live("gw-1").await.unwrap();
    wait_for(&app, ADMIN_TOKEN, "/admin/realtime", |shown| {
        (&shown["gateways"], &shown["requests"]) == (&json!(1), &json!(9))
    })
    .await;
}

/// An answer that goes on.
struct Events {
    body: BodyDataStream,
    text: String,
}

impl Events {
    async fn open(app: &TestApp, token: &str, path: &str) -> Self {
        let response = open(app, token, path).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event or comment; `None` at the end of the stream.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(event);
            }
            let more = timeout(PATIENCE, self.body.next()).await.expect("an event comes, or the end");
            self.text += std::str::from_utf8(&more?.unwrap()).unwrap();
        }
    }

    /// Reads until an event tells this.
    async fn until(&mut self, is_right: impl Fn(&Value) -> bool) -> Value {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let told = self.next().await.expect("the stream goes on");
            if let Some(json) = told.strip_prefix("event: realtime\ndata: ") {
                let json: Value = serde_json::from_str(json).unwrap();
                if is_right(&json) {
                    return json;
                }
            }
            assert!(Instant::now() < give_up, "{told}");
        }
    }

    async fn ended(mut self) {
        let give_up = Instant::now() + PATIENCE;
        while let Some(told) = self.next().await {
            assert!(Instant::now() < give_up, "{told}");
        }
        assert_eq!(self.text, "", "nothing is cut in half");
    }
}

async fn open(app: &TestApp, token: &str, path: &str) -> Response<Body> {
    app.call(Method::GET, path).token(token).header("accept", "text/event-stream").open().await
}

pub(crate) async fn events_follow_the_figures_until_the_process_drains(app: TestApp) {
    let (id, key) = app.master("acme").await;
    let of_master = format!("/admin/masters/{id}/realtime");
    let mut streams = Vec::new();
    for (token, path) in
        [(ADMIN_TOKEN, "/admin/realtime"), (ADMIN_TOKEN, of_master.as_str()), (key.as_str(), "/v1/realtime")]
    {
        let mut events = Events::open(&app, token, path).await;
        assert_eq!(events.until(|_| true).await["requests"], 0, "{path}: the first event comes at once");
        streams.push((events, path));
    }
    tell(&app, "gw-1", &[(id, figures(6, 1))], LiveFigures::default()).await;
    for (events, path) in &mut streams {
        let told = events.until(|told| told["requests"] == 6).await;
        assert_eq!(told.get("masters").is_some(), *path == "/admin/realtime");
    }
    app.drain.cancel();
    for (events, _) in streams {
        events.ended().await;
    }
    Events::open(&app, ADMIN_TOKEN, "/admin/realtime").await.ended().await;
}

pub(crate) async fn events_end_with_what_let_them_begin(app: TestApp) {
    let (id, key) = app.master("acme").await;
    let session = app.call(Method::POST, "/auth/login").json(&json!({"token": key})).send().await.ok();
    let session = session["access_token"].as_str().unwrap();
    let (doomed_id, _) = app.master("doomed").await;
    let (admin, own, of_session, of_doomed) = (
        Events::open(&app, ADMIN_TOKEN, "/admin/realtime").await,
        Events::open(&app, &key, "/v1/realtime").await,
        Events::open(&app, session, "/v1/realtime").await,
        Events::open(&app, ADMIN_TOKEN, &format!("/admin/masters/{doomed_id}/realtime")).await,
    );
    app.post(ADMIN_TOKEN, &format!("/admin/masters/{id}/rotate-key"), json!({})).await.ok();
    app.delete(ADMIN_TOKEN, &format!("/admin/masters/{doomed_id}")).await.gone();
    let before = app.rows("audit").await;
    assert!(before > 0, "what was done so far is audited");
    own.ended().await;
    of_session.ended().await;
    of_doomed.ended().await;
    assert_eq!(app.rows("audit").await, before, "a dead credential that was watched with is no guess");
    let mut admin = admin;
    for _ in 0..5 {
        admin.next().await.expect("the admin's goes on");
    }
}

pub(crate) async fn streams_are_bounded(app: TestApp) {
    let (_, key) = app.master("acme").await;
    let (_, other) = app.master("other").await;
    let mut open_ones = Vec::new();
    for _ in 0..16 {
        open_ones.push(Events::open(&app, &key, "/v1/realtime").await);
    }
    let refused = open(&app, &key, "/v1/realtime").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "5");
    open_ones.push(Events::open(&app, &other, "/v1/realtime").await);
    app.get(&key, "/v1/realtime").await.ok();
    drop(open_ones);
    Events::open(&app, &key, "/v1/realtime").await;
}

#[tokio::test]
async fn an_outage_of_the_shared_state_hides_figures_and_nothing_else() {
    let mut redis = RedisServer::start().await;
    let app = TestApp::over(&redis).await;
    let (id, key) = app.master("acme").await;
    tell(&app, "gw-1", &[(id, figures(6, 1))], LiveFigures::default()).await;
    let mut events = Events::open(&app, &key, "/v1/realtime").await;
    assert_eq!(events.until(|_| true).await["requests"], 6);
    redis.kill();
    let give_up = Instant::now() + PATIENCE;
    while app.get(&key, "/v1/realtime").await.status == StatusCode::OK {
        assert!(Instant::now() < give_up, "figures of a state that is gone");
        sleep(Duration::from_millis(20)).await;
    }
    for (token, path) in [(ADMIN_TOKEN, "/admin/realtime"), (key.as_str(), "/v1/realtime")] {
        let problem = app.get(token, path).await.problem(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(problem["code"], "unavailable");
        assert_eq!(open(&app, token, path).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let record = app.get(ADMIN_TOKEN, &format!("/admin/masters/{id}")).await.ok();
    assert_eq!((&record["realtime"], &record["name"]), (&Value::Null, &json!("acme")));
    while !events.next().await.expect("the stream goes on").starts_with(':') {
        assert!(Instant::now() < give_up + PATIENCE, "no comment stands for what is not there");
    }
    redis.restart().await;
    tell(&app, "gw-1", &[(id, figures(8, 1))], LiveFigures::default()).await;
    events.until(|told| told["requests"] == 8).await;
}
