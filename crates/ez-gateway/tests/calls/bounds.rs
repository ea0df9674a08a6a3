//! What callers may take of a gateway: connections, heads, and memory for what they do not read.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ez_gateway::LentBody;
use ez_gateway::listener::{self, Bounds, Drain};
use ez_testkit::upstream::Behaviour;
use http::{Request, Response};
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{TOKEN, TestGateway};

const ASK: &str = "GET / HTTP/1.1\r\nhost: gateway\r\n\r\n";

/// A listener that answers everything with `ok`.
struct Listener {
    address: SocketAddr,
    serving: TaskTracker,
    stop: CancellationToken,
}

impl Listener {
    async fn start(max_connections: usize) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let (serving, stop) = (TaskTracker::new(), CancellationToken::new());
        let drain = Drain { stop: stop.clone(), cut_off: CancellationToken::new(), timeout: Duration::from_secs(5) };
        let answer =
            |_: SocketAddr, _: Request<LentBody>| async { Response::new(Full::new(Bytes::from_static(b"ok"))) };
        serving.spawn(listener::serve(tcp, answer, Bounds { name: "test", max_connections }, drain));
        Self { address, serving, stop }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.close();
        tokio::time::timeout(Duration::from_secs(10), self.serving.wait()).await.unwrap();
    }
}

/// Sends a request and reads the answer up to `end`, or to the end of the connection.
async fn ask(stream: &mut TcpStream, request: &str, end: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4_096];
    while !String::from_utf8_lossy(&answer).contains(end) {
        match stream.read(&mut piece).await.unwrap() {
            0 => break,
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_to_try_again() {
    let listener = Listener::start(2).await;
    let mut first = listener.connect().await;
    let mut second = listener.connect().await;
    for stream in [&mut first, &mut second] {
        assert!(ask(stream, ASK, "ok").await.starts_with("HTTP/1.1 200"));
    }
    // A body that nobody reads must not cost the client its answer.
    let call =
        format!("POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: 100000\r\n\r\n{}", "a".repeat(100_000));
    let refused = ask(&mut listener.connect().await, &call, "\u{0}").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    let body: serde_json::Value = serde_json::from_str(refused.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["error"]["code"], "too_many_connections");
    assert!(ask(&mut first, ASK, "ok").await.starts_with("HTTP/1.1 200"), "those that are there go on");

    drop(second);
    let served = tokio::time::timeout(Duration::from_secs(10), async {
        while !ask(&mut listener.connect().await, ASK, "ok").await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    });
    served.await.expect("there is room again");
    drop(first);
    listener.stop().await;
}

#[tokio::test]
async fn heads_are_bounded_in_bytes_and_in_fields() {
    let listener = Listener::start(10).await;
    let fits = format!("GET / HTTP/1.1\r\nhost: g\r\nanthropic-beta: {}\r\n\r\n", "a".repeat(32 << 10));
    assert!(ask(&mut listener.connect().await, &fits, "ok").await.starts_with("HTTP/1.1 200"));
    let fields: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let too_large = [
        format!("GET / HTTP/1.1\r\nhost: g\r\nanthropic-beta: {}\r\n\r\n", "a".repeat(128 << 10)),
        format!("GET /{} HTTP/1.1\r\nhost: g\r\n\r\n", "a".repeat(128 << 10)),
        format!("GET / HTTP/1.1\r\nhost: g\r\n{fields}\r\n"),
    ];
    for request in too_large {
        let mut stream = listener.connect().await;
        // The listener may answer and close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned);
        assert!(matches!(status.as_deref(), None | Some("414" | "431")), "{status:?}");
    }
    listener.stop().await;
}

#[tokio::test]
async fn what_a_client_does_not_read_is_not_read_from_the_upstream() {
    let gateway = TestGateway::start().await;
    let huge = Behaviour { tokens: 60_000, token_text: "x".repeat(4_000), ..Behaviour::default() };
    gateway.upstream.set(huge);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    let body = r#"{"model":"m","stream":true,"messages":[]}"#;
    let call = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(ask(&mut stream, &call, "data: ").await.starts_with("HTTP/1.1 200"));
    // Long enough for all of it, 240 MB, to come if nothing held it back.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    drop(stream);
    let record = gateway.finish_with_one_record().await;
    // Sockets hold some megabytes on either side of the gateway; the gateway itself holds next to nothing.
    assert!((1..24 << 20).contains(&record.response_bytes), "{} bytes", record.response_bytes);
}
