//! The listener: accepts connections as far as there is room for them, bounds what each may take, and drains them at the
//! end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ez_telemetry::metrics::{CONNECTIONS, CONNECTIONS_REFUSED};
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::lent_body::{LentBody, lend};

/// Bound on the head of a request, and on the pause before the next one on a kept connection. Longer than the idle
/// timeout of common load balancers (60 s), which would otherwise send a call into a connection that just closed.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(75);
/// Bound on a client that takes no more of its answer: it holds an upstream connection and its buffers meanwhile.
const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Bound on the head of a request, and on what is read or written ahead on a connection, bytes: agents send long lists of
/// `anthropic-beta`, and nothing near this. A head has at most 100 fields, which is the server's own bound.
const MAX_BUFFER_BYTES: usize = 64 << 10;
/// Calls at once over one HTTP/2 connection.
const MAX_CONCURRENT_STREAMS: u32 = 128;
/// Connections that are being refused at once; further ones are just closed.
const MAX_REFUSALS: usize = 256;
/// Bound on telling a connection that there is no room for it.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How much a refused client may send that is thrown away, bytes. Unread bytes would make its system drop the answer.
const MAX_REFUSED_BYTES: usize = 256 << 10;
/// Pause after a failed accept, which mostly means that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// When a listener ends.
#[derive(Debug, Clone)]
pub struct Drain {
    /// Stop accepting.
    pub stop: CancellationToken,
    /// Set when what still runs is cut off: after `timeout`, or by someone in a hurry.
    pub cut_off: CancellationToken,
    /// How long requests in flight may take to end.
    pub timeout: Duration,
}

/// What a listener takes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Whose listener this is, for metrics: `gateway` or `control`.
    pub name: &'static str,
    /// Connections at once; further ones are refused with 503.
    pub max_connections: usize,
}

/// Serves every request with `answer` until `drain.stop`, then lets those in flight end for at most `drain.timeout`;
/// what runs longer is cut off.
pub async fn serve<F, A, B>(listener: TcpListener, answer: F, bounds: Bounds, drain: Drain)
where
    F: Fn(SocketAddr, Request<LentBody>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    let http1_timer = TokioTimer::new();
    server.http1().timer(http1_timer).header_read_timeout(HEADER_READ_TIMEOUT).max_buf_size(MAX_BUFFER_BYTES);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_header_list_size(MAX_BUFFER_BYTES as u32)
        .max_send_buf_size(MAX_BUFFER_BYTES);
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let refusals = TaskTracker::new();
    let open = metrics::gauge!(CONNECTIONS, "listener" => bounds.name);
    let refused = metrics::counter!(CONNECTIONS_REFUSED, "listener" => bounds.name);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.stop.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!(error = %e, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Without this, small writes wait for acknowledgements (Nagle's algorithm) and streams stutter by 40 ms.
        if let Err(e) = stream.set_nodelay(true) {
            tracing::debug!(error = %e, "connection gone before it was served");
            continue;
        }
        open.set(connections.len() as f64);
        if connections.len() >= bounds.max_connections {
            refused.increment(1);
            if refusals.len() < MAX_REFUSALS {
                refusals.spawn(tokio::time::timeout(REFUSAL_TIMEOUT, refuse(stream)));
            }
            continue;
        }
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer.clone();
            async move { Ok::<_, Infallible>(answer_one(answer, peer, request).await) }
        });
        let (server, watcher, drain) = (server.clone(), graceful.watcher(), drain.clone());
        connections.spawn(async move {
            // The server reads the first bytes without a bound, to tell HTTP/1 from HTTP/2.
            let has_spoken = tokio::select! {
                readable = tokio::time::timeout(HEADER_READ_TIMEOUT, stream.readable()) => matches!(readable, Ok(Ok(()))),
                () = drain.stop.cancelled() => false,
            };
            if !has_spoken {
                return;
            }
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(WRITE_STALL_TIMEOUT));
            let connection = server.serve_connection(TokioIo::new(Box::pin(stream)), service).into_owned();
            tokio::select! {
                ended = watcher.watch(connection) => {
                    if let Err(e) = ended {
                        tracing::debug!(error = %e, "connection ended with an error");
                    }
                }
                () = drain.cut_off.cancelled() => {}
            }
        });
    }
    drop(listener);
    connections.close();
    tokio::select! {
        () = graceful.shutdown() => {}
        () = drain.cut_off.cancelled() => {}
        () = tokio::time::sleep(drain.timeout) => {
            tracing::warn!(connections = connections.len(), "drain deadline passed; what still runs is cut off");
        }
    }
    drain.cut_off.cancel();
    connections.wait().await;
}

/// Tells a client that there is no room for it, in words that SDKs of every protocol take for a reason to try again.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    const BODY: &str = r#"{"type":"error","error":{"type":"overloaded_error","code":"too_many_connections","message":"this server has as many connections as it may have: try again in a moment"}}"#;
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{BODY}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    let mut unread = stream.take(MAX_REFUSED_BYTES as u64);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Answers one request, and reads what a refusal left of its body.
async fn answer_one<F, A, B>(answer: F, peer: SocketAddr, request: Request<Incoming>) -> Response<B>
where
    F: Fn(SocketAddr, Request<LentBody>) -> A,
    A: Future<Output = Response<B>>,
{
    // A client that waits for `100 Continue` has sent nothing yet, and must not be asked to.
    let waits_for_leave = request.headers().contains_key(EXPECT);
    let (head, body) = request.into_parts();
    let (lent, lender) = lend(body);
    let mut response = answer(peer, Request::from_parts(head, lent)).await;
    let status = response.status();
    let is_refusal = status.is_client_error() || status.is_server_error();
    if is_refusal && !lender.is_at_end() && (waits_for_leave || !lender.discard(status).await) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
