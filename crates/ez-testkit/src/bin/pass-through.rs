//! The least that a proxy written with hyper does, as a process of its own: what the gateway is measured against. A server,
//! a pooled client, and bytes both ways; no authentication, no routing, no account. Allocator and threads are the gateway's.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Passes every request to one server, and its answer back.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 is any free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where requests go, such as 127.0.0.1:8080.
    #[arg(long)]
    to: Authority,
}

type Upstream = Client<HttpConnector, Incoming>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.with_context(|| format!("can't listen on {}", arguments.listen))?;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on http://{}", listener.local_addr()?)?;
    stdout.flush()?;
    drop(stdout);

    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let upstream = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(converse(stream, upstream.clone(), arguments.to.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, upstream: Upstream, to: Authority) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| pass(upstream.clone(), to.clone(), request));
    // The error is the client's going, or the upstream's.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn pass(upstream: Upstream, to: Authority, mut request: Request<Incoming>) -> Result<Response<Incoming>, Error> {
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(to);
    target.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    // All its parts are there, so it is one.
    *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
    request.headers_mut().remove(header::HOST);
    upstream.request(request).await
}
