//! The listener: accepts connections, bounds their heads, and drains them at the end.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::lent_body::{LentBody, lend};

/// Bound on the head of a request, and on the pause before the next one on a kept connection. Longer than the idle
/// timeout of common load balancers (60 s), which would otherwise send a call into a connection that just closed.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(75);
/// Bound on a client that takes no more of its answer: it holds an upstream connection and its buffers meanwhile.
const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(120);
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

/// Serves every request with `answer` until `drain.stop`, then lets those in flight end for at most `drain.timeout`;
/// what runs longer is cut off.
pub async fn serve<F, A, B>(listener: TcpListener, answer: F, drain: Drain)
where
    F: Fn(SocketAddr, Request<LentBody>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).keep_alive(true);
    server.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(30)));
    let graceful = GracefulShutdown::new();
    let connections = TaskTracker::new();
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
