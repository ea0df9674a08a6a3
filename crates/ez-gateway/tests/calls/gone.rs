//! Clients that leave in the middle of a stream: what becomes of the upstream, and what the call is charged.

use std::time::Duration;

use ez_contract::snapshot::{ClientGone, SnapshotEntry};
use ez_contract::usage::{EndedBy, UsageSource};
use ez_testkit::upstream::{Behaviour, Fault};
use http_body_util::BodyExt;

use crate::protocols::{STREAMS, with_every_vendor};
use crate::support::{TestGateway, binding};

/// Reads the beginning of a stream and leaves.
async fn leave(gateway: &TestGateway, path: &str, body: &'static str) {
    let mut response = gateway.send(gateway.request(path, body)).await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert!(first.is_data(), "{path}");
}

async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

fn slow(tokens: u32) -> Behaviour {
    Behaviour { tokens, tokens_per_second: Some(100.0), ..Behaviour::default() }
}

/// Lets clients of every model be drained for.
async fn draining() -> TestGateway {
    let gateway = with_every_vendor().await;
    let bindings = [("m", 10), ("claude", 11), ("gemini", 12)].map(|(name, id)| {
        let mut binding = binding(name, &[(id, name)]);
        binding.candidates[0].on_client_gone = Some(ClientGone::Drain);
        SnapshotEntry::Binding(binding)
    });
    gateway.apply(bindings.into()).await;
    gateway
}

#[tokio::test]
async fn a_drained_upstream_is_heard_to_its_end_and_charged_exactly() {
    for (path, body, _) in STREAMS {
        let gateway = draining().await;
        gateway.upstream.set(slow(30));
        leave(&gateway, path, body).await;
        eventually("the call is accounted for", || gateway.records.taken.lock().unwrap().len() == 1).await;
        let record = gateway.finish_with_one_record().await;
        let told = (record.ended_by, record.usage_source, record.tokens.output_tokens);
        assert_eq!(told, (EndedBy::Client, UsageSource::Exact, Some(30)), "{path}: {record:?}");
        assert!(record.response_bytes < 2_000, "what nobody got is not counted: {record:?}");
        assert!(record.is_failure() && record.error.is_some_and(|error| error.contains("client left")));
    }
}

#[tokio::test]
async fn whoever_leaves_before_the_first_byte_is_charged_the_prompt_whatever_the_policy() {
    for gateway in [with_every_vendor().await, draining().await] {
        let headers_only = Fault::Stall { after_bytes: 0 };
        gateway.upstream.set(Behaviour { fault: Some(headers_only), ..Behaviour::default() });
        for (left, (path, body, _)) in STREAMS.iter().enumerate() {
            let request = gateway.send(gateway.request(path, *body));
            tokio::select! {
                response = request => panic!("{path}: {response:?}"),
                () = eventually("the upstream is asked", || gateway.upstream.request_count() > left as u64) => {}
            }
            eventually("it is accounted for", || gateway.records.taken.lock().unwrap().len() > left).await;
        }
        let records = gateway.finish().await;
        assert_eq!(records.len(), STREAMS.len());
        for record in records {
            let told = (record.ended_by, record.status, record.attempts, record.usage_source);
            assert_eq!(told, (EndedBy::Client, 499, 1, UsageSource::Estimated), "{record:?}");
            assert!(record.tokens.input_tokens.is_some_and(|tokens| tokens > 0), "{record:?}");
            assert_eq!((record.tokens.output_tokens, record.response_bytes), (Some(0), 0), "{record:?}");
        }
    }
}

#[tokio::test]
async fn a_cancelled_upstream_is_let_go_at_once_and_what_was_seen_is_estimated() {
    for (path, body, _) in STREAMS {
        let gateway = with_every_vendor().await;
        gateway.upstream.set(Behaviour { token_text: "elephants ".into(), ..slow(1_000) });
        leave(&gateway, path, body).await;
        eventually("the upstream is let go", || gateway.upstream.aborted_count() == 1).await;
        let record = gateway.finish_with_one_record().await;
        let told = (record.ended_by, record.usage_source, record.status);
        assert_eq!(told, (EndedBy::Client, UsageSource::Estimated, 200), "{path}: {record:?}");
        let output = record.tokens.output_tokens.unwrap();
        assert!((0..200).contains(&output), "{path}: {output}");
        assert!(record.tokens.input_tokens.is_some_and(|tokens| tokens > 0), "{path}: {record:?}");
    }
}

#[tokio::test]
async fn a_drained_upstream_that_breaks_off_is_accounted_for_as_left() {
    let gateway = draining().await;
    let fault = Fault::Truncate { after_events: Some(20), after_bytes: None };
    gateway.upstream.set(Behaviour { fault: Some(fault), ..slow(60) });
    let (path, body, _) = STREAMS[0];
    leave(&gateway, path, body).await;
    eventually("the call is accounted for", || gateway.records.taken.lock().unwrap().len() == 1).await;
    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.ended_by, record.usage_source), (EndedBy::Client, UsageSource::Estimated), "{record:?}");
}

#[tokio::test]
async fn a_drained_upstream_that_never_closes_leaves_one_record_when_the_process_ends() {
    let gateway = draining().await;
    gateway.upstream.set(Behaviour { fault: Some(Fault::Stall { after_bytes: usize::MAX }), ..slow(30) });
    let (path, body, _) = STREAMS[0];
    leave(&gateway, path, body).await;
    eventually("the call is accounted for", || gateway.records.taken.lock().unwrap().len() == 1).await;
    // Cut off while the upstream's end is awaited.
    let record = gateway.finish_with_one_record().await;
    assert_eq!((record.ended_by, record.usage_source), (EndedBy::Client, UsageSource::Exact), "{record:?}");
}

#[test]
fn a_client_that_leaves_while_its_usage_is_estimated_is_charged_for_all_it_got() {
    // One blocking thread, which is kept busy: estimates wait.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let gateway = with_every_vendor().await;
        let fault = Fault::Truncate { after_events: Some(20), after_bytes: None };
        gateway.upstream.set(Behaviour { fault: Some(fault), token_text: "elephants ".into(), ..slow(60) });
        let (path, body, _) = STREAMS[3];
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let occupied = tokio::task::spawn_blocking(move || busy.recv().is_err());
        let mut response = gateway.send(gateway.request(path, body)).await;
        let mut received = 0;
        while let Ok(frame) = tokio::time::timeout(Duration::from_millis(300), response.body_mut().frame()).await {
            received += frame.expect("the end waits for the estimate").unwrap().into_data().unwrap().len();
        }
        assert!(received > 1_000, "{received}");
        drop(response);
        gateway.stop_serving().await;
        drop(free);
        assert!(occupied.await.unwrap());
        let record = gateway.finish_with_one_record().await;
        assert_eq!(record.usage_source, UsageSource::Estimated, "{record:?}");
        assert!(record.tokens.output_tokens.is_some_and(|tokens| tokens > 10), "{record:?}");
    });
}
