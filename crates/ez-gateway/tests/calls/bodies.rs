//! Request bodies: with the records of calls while the flag is on, and nowhere otherwise.

use std::time::Duration;

use bytes::Bytes;
use ez_contract::request_body::KEEPS_REQUEST_BODIES;
use ez_contract::snapshot::SnapshotEntry;
use ez_testkit::upstream::{Behaviour, Fault};
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::TestGateway;

const PLAIN: &str = "{\"model\": \"m\",\n\t\"messages\": [{\"role\": \"user\", \"content\": \"canary \u{fc}\"}]}";
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"canary"}]}"#;

async fn switch(gateway: &TestGateway, is_on: bool) {
    gateway.apply(vec![SnapshotEntry::Feature(KEEPS_REQUEST_BODIES.to_owned(), is_on)]).await;
}

/// A gateway that keeps bodies.
async fn keeping() -> TestGateway {
    let gateway = TestGateway::start().await;
    switch(&gateway, true).await;
    gateway
}

/// Ends the gateway; the body of each of its records, in their order.
async fn bodies(gateway: TestGateway) -> Vec<Option<Value>> {
    let link = gateway.records.clone();
    gateway.finish().await;
    link.taken_json.lock().unwrap().iter().map(|record| record.get("request_body").cloned()).collect()
}

fn text(content: &str) -> Option<Value> {
    Some(json!({"content": content, "encoding": "text", "bytes": content.len(), "truncated": false}))
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn bodies_are_kept_while_the_flag_is_on_and_as_they_came() {
    let gateway = TestGateway::start().await;
    gateway.chat(PLAIN).await;
    switch(&gateway, true).await;
    gateway.chat(PLAIN).await;
    gateway.chat(STREAM).await;
    switch(&gateway, false).await;
    gateway.chat(PLAIN).await;
    assert_eq!(bodies(gateway).await, [None, text(PLAIN), text(STREAM), None]);
}

#[tokio::test]
async fn bodies_of_refused_and_broken_calls_are_kept_too() {
    let gateway = keeping().await;
    let unknown = r#"{"model":"nobody's","messages":[]}"#;
    let broken = r#"{"model":"#;
    gateway.chat(unknown).await;
    gateway.chat(broken).await;
    gateway.upstream.set(Behaviour::failing(Fault::Truncate { after_events: Some(1), after_bytes: None }));
    gateway.chat(STREAM).await;
    gateway.upstream.set(Behaviour::failing(Fault::Stall { after_bytes: 0 }));
    let asked = gateway.upstream.request_count();
    tokio::select! {
        response = gateway.send(gateway.request("/v1/chat/completions", PLAIN)) => panic!("{response:?}"),
        () = eventually("the upstream is asked", || gateway.upstream.request_count() > asked) => {}
    }
    eventually("the client's leaving is accounted for", || gateway.records.taken.lock().unwrap().len() == 4).await;
    assert_eq!(bodies(gateway).await, [text(unknown), text(broken), text(STREAM), text(PLAIN)]);
}

#[tokio::test]
async fn forms_and_large_bodies_are_kept_in_part() {
    let gateway = keeping().await;
    let form = |sound: &[u8]| {
        let head = b"--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n\
            --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\n";
        Bytes::from([&head[..], sound, b"\r\n--b--\r\n"].concat())
    };
    let call = async |body: Bytes| {
        let mut request = gateway.request("/v1/audio/transcriptions", body);
        let content_type = HeaderValue::from_static("multipart/form-data; boundary=b");
        request.headers_mut().insert(CONTENT_TYPE, content_type);
        gateway.send(request).await.into_body().collect().await.unwrap();
    };
    let binary = form(&[0, 1, 0xff]);
    call(binary.clone()).await;
    // More than the test's gateway keeps, and a character over the end of that.
    let long = format!(r#"{{"model":"m","messages":[],"x":"{}"}}"#, "\u{fc}".repeat(2_000));
    gateway.chat(long.clone()).await;
    let kept = bodies(gateway).await;
    let kept: Vec<&Value> = kept.iter().flatten().collect();
    let of_form = (&kept[0]["encoding"], &kept[0]["bytes"], &kept[0]["truncated"]);
    assert_eq!(of_form, (&json!("base64"), &json!(binary.len()), &json!(false)));
    let beginning: String = long
        .chars()
        .take_while({
            let mut bytes = 0;
            move |char| {
                bytes += char.len_utf8();
                bytes <= 1_000
            }
        })
        .collect();
    assert!((999..=1_000).contains(&beginning.len()));
    let expected = json!({"content": beginning, "encoding": "text", "bytes": long.len(), "truncated": true});
    assert_eq!(kept[1], &expected);
}

#[tokio::test]
async fn a_log_that_fills_up_keeps_its_room_for_records() {
    let gateway = TestGateway::start_with(|config| {
        config.log_body_max_bytes = 100_000;
        config.usage_log.max_bytes = 400_000;
        config.usage_log.segment_bytes = 50_000;
    })
    .await;
    switch(&gateway, true).await;
    gateway.records.set_away(true);
    let body = format!(r#"{{"model":"m","messages":[],"x":"{}"}}"#, "a".repeat(90_000));
    for _ in 0..20 {
        assert_eq!(gateway.chat(body.clone()).await.status, http::StatusCode::OK, "no call is refused for bodies");
    }
    gateway.records.set_away(false);
    let kept = bodies(gateway).await;
    let with_body = kept.iter().filter(|body| body.is_some()).count();
    assert_eq!((kept.len(), with_body), (20, 3), "up to half of the log");
}
