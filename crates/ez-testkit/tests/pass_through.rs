//! The pass-through that the gateway is measured against: bytes both ways, plain and streaming.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::process::Stdio;
use std::time::Duration;

use ez_testkit::http_client::HttpClient;
use ez_testkit::load::{self, LoadOptions};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{HeaderMap, Method};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const CHAT: &str = "/v1/chat/completions";

/// The program, and where it listens.
async fn start(upstream: &SimUpstream) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pass-through"));
    command.args(["--to", &upstream.address().to_string()]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    (child, first.strip_prefix("listening on ").unwrap().to_owned())
}

#[tokio::test]
async fn request_and_answer_pass_unchanged() {
    let upstream = SimUpstream::start(Behaviour { tokens: 5, ..Behaviour::default() }).await.unwrap();
    let (_child, url) = start(&upstream).await;
    let client = HttpClient::new(&url, Some("sk-a"));
    for stream in [false, true] {
        let body =
            json!({"model": "m-1", "stream": stream, "messages": [{"role": "user", "content": "x".repeat(100_000)}]});
        let answer = client.call(Method::POST, CHAT, body.to_string()).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
        assert_eq!(answer.header("openai-version"), Some("2020-10-01"));
        assert_eq!(answer.text().ends_with("data: [DONE]\n\n"), stream, "{}", answer.text());
        let asked = upstream.requests().pop().unwrap();
        assert_eq!((asked.path.as_str(), asked.credential.as_deref()), (CHAT, Some("sk-a")));
        assert_eq!(asked.body, body.to_string());
    }
}

#[tokio::test]
async fn connections_to_the_upstream_are_kept() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let (_child, url) = start(&upstream).await;
    let report = load::run(LoadOptions {
        url: format!("{url}{CHAT}"),
        bearer: Some("sk-a".to_owned()),
        headers: HeaderMap::new(),
        body: Some(json!({"model": "m-1", "messages": []}).to_string().into()),
        connections: 2,
        requests: Some(200),
        duration: None,
        rate: None,
        request_timeout: Duration::from_secs(5),
        warm_up_requests: 0,
        stream: false,
        expected_tail: None,
        cpu_of: Vec::new(),
    });
    assert_eq!(report.await.unwrap().errors, 0);
    assert!(upstream.connection_count() < 20, "{} connections for 200 requests", upstream.connection_count());
}
