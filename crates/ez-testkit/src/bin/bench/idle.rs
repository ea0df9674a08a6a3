//! Idle streams: what a stream costs that was opened, has begun, and says nothing.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use ez_testkit::load::process_usage;
use ez_testkit::upstream::Behaviour;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::figures::IdleFigures;
use crate::stage::{Route, Stage};

/// The first token comes at once, the second after this; no stream lives that long here.
const SECONDS_TO_SECOND_TOKEN: f64 = 3_600.0;
/// Opened at once; more would measure the queue of the listening socket.
const OPENED_AT_ONCE: usize = 64;
/// For what is done in the background after the last stream was opened or has ended.
const SETTLING: Duration = Duration::from_secs(3);
const BODY: &str = r#"{"model":"sim-large","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Wait."}]}"#;

/// An open stream with the task that moves its bytes.
struct IdleStream {
    _body: Incoming,
    /// One task, aborted when dropped.
    _driver: JoinSet<()>,
}

/// Measures what so many idle streams cost each process in between.
pub(crate) async fn measure_idle(stage: &mut Stage, streams: usize) -> anyhow::Result<Vec<IdleFigures>> {
    stage.upstream.set(Behaviour {
        tokens: 2,
        tokens_per_second: Some(1.0 / SECONDS_TO_SECOND_TOKEN),
        ..Behaviour::default()
    });
    IdleFigures::print_heading(streams);
    let mut figures = Vec::new();
    for index in 0..stage.routes.len() {
        let route = &stage.routes[index];
        let (via, Some(pid)) = (route.via, route.pid) else { continue };
        // Some calls first, so that what is made once is not counted.
        let warm = open_many(route, OPENED_AT_ONCE).await?;
        drop(warm);
        tokio::time::sleep(SETTLING).await;
        let before = process_usage(pid)?.rss_kib;
        let open = open_many(route, streams).await.with_context(|| format!("idle streams through {}", via.name()))?;
        tokio::time::sleep(SETTLING).await;
        let with = process_usage(pid)?.rss_kib;
        drop(open);
        tokio::time::sleep(SETTLING).await;
        let after = process_usage(pid)?.rss_kib;
        stage.note_calls(via, (streams + OPENED_AT_ONCE) as u64);
        let measured = IdleFigures {
            via: via.name(),
            streams,
            bytes_per_stream: (with as f64 - before as f64) * 1024.0 / streams as f64,
            rss_mib: [before, with, after].map(|kib| kib as f64 / 1024.0),
        };
        measured.print();
        figures.push(measured);
    }
    Ok(figures)
}

async fn open_many(route: &Route, streams: usize) -> anyhow::Result<Vec<IdleStream>> {
    let mut open = Vec::with_capacity(streams);
    let mut opening = JoinSet::new();
    for _ in 0..streams {
        if opening.len() >= OPENED_AT_ONCE {
            open.push(opening.join_next().await.context("one is under way")???);
        }
        let address = route.url.strip_prefix("http://").and_then(|url| url.split('/').next()).unwrap_or_default();
        opening.spawn(open_one(address.to_owned(), route.url.clone(), route.bearer.clone()));
    }
    while let Some(opened) = opening.join_next().await {
        open.push(opened??);
    }
    Ok(open)
}

/// Opens a stream and reads up to its first token.
async fn open_one(address: String, url: String, bearer: String) -> anyhow::Result<IdleStream> {
    let stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    // Its errors reach the request that is on it.
    driver.spawn(async move {
        let _ = connection.await;
    });
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.strip_prefix("http://").and_then(|url| url.find('/').map(|at| &url[at..])).unwrap_or("/"))
        .header(header::HOST, address)
        .header(header::AUTHORIZATION, format!("Bearer {bearer}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from_static(BODY.as_bytes())))?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "a stream was refused with {}", response.status());
    let mut body = response.into_body();
    let mut begun = Vec::new();
    while !begun.windows(4).any(|window| window == b"tok ") {
        let frame = body.frame().await.context("the stream ended before its first token")??;
        begun.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    Ok(IdleStream { _body: body, _driver: driver })
}
