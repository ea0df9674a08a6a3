//! The pooled client that carries upstream calls: HTTP/2 where it is offered, without the stall of a shared connection,
//! and only to addresses that an operator may set.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connect::{Connector, connector};
use crate::config::UpstreamConfig;

/// Calls that share a connection of HTTP/2. Vendors take about 100 at once and more would wait in line, while a library
/// client opens one connection per host (facts/dependencies.md, 1.3); so a host gets another client where one has as many.
const CALLS_PER_CONNECTION: usize = 64;
/// Connections of HTTP/2 per host; beyond 4,096 calls at once to one host they share again.
const CLIENTS: usize = 64;
/// Bytes of a stream that may wait for a slow client, and those of all streams together: one that does not read never
/// holds up the others of its connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * CALLS_PER_CONNECTION as u32;
/// Bytes of an answer's head.
const MAX_HEAD_BYTES: u32 = 64 << 10;
/// Idle connections are closed before most servers close them.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Idle connections of HTTP/1.1 that are kept per host.
const POOL_MAX_IDLE_PER_HOST: usize = 512;
/// A connection of HTTP/2 with calls on it is asked for a sign of life this often, and is dead without one in time.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Hosts whose counts are kept before those without calls are forgotten.
const MAX_HOSTS: usize = 1_024;

/// The client that carries upstream calls. Clones share it.
#[derive(Clone)]
pub(crate) struct Transport(Arc<Pools>);

struct Pools {
    /// One where only HTTP/1.1 is spoken, as its pool opens connections as needed.
    clients: Vec<Client<Connector, Full<Bytes>>>,
    hosts: RwLock<HashMap<Authority, Arc<Host>>>,
}

/// Calls in flight to a host, by client.
struct Host([AtomicUsize; CLIENTS]);

/// A call's place on a client, held until its answer has ended.
struct Place {
    client: usize,
    host: Option<Arc<Host>>,
}

/// The body of an upstream's answer.
pub(crate) struct UpstreamBody {
    body: Incoming,
    _place: Place,
}

impl Transport {
    pub(crate) fn new(config: &UpstreamConfig, connect_timeout: Duration) -> Self {
        let connector = connector(config, connect_timeout);
        let count = if config.http2 { CLIENTS } else { 1 };
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(MAX_HEAD_BYTES)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            // A call that never left, because its pooled connection had been closed, goes out on another. Nothing that
            // may have been read by the upstream is sent twice.
            .retry_canceled_requests(true);
        let clients = (0..count).map(|_| builder.build(connector.clone())).collect();
        Self(Arc::new(Pools { clients, hosts: RwLock::default() }))
    }

    /// Sends one request; the answer's body streams.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<UpstreamBody>, Error> {
        let place = self.0.place(request.uri());
        let response = self.0.clients[place.client].request(request).await?;
        Ok(response.map(|body| UpstreamBody { body, _place: place }))
    }
}

impl Pools {
    fn place(&self, uri: &Uri) -> Place {
        // HTTP/2 is agreed on within TLS alone.
        let shared = uri.authority().filter(|_| self.clients.len() > 1 && uri.scheme() == Some(&Scheme::HTTPS));
        match shared {
            Some(authority) => self.host(authority).enter(),
            None => Place { client: 0, host: None },
        }
    }

    fn host(&self, authority: &Authority) -> Arc<Host> {
        if let Some(host) = self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(authority) {
            return host.clone();
        }
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MAX_HOSTS {
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        hosts
            .entry(authority.clone())
            .or_insert_with(|| Arc::new(Host([const { AtomicUsize::new(0) }; CLIENTS])))
            .clone()
    }
}

impl Host {
    /// A place on the first client that has room, so that connections are used again; on the emptiest where none has.
    fn enter(self: Arc<Self>) -> Place {
        for (client, in_flight) in self.0.iter().enumerate() {
            let enter = |count| (count < CALLS_PER_CONNECTION).then_some(count + 1);
            if in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok() {
                return Place { client, host: Some(self) };
            }
        }
        let emptiest = self.0.iter().enumerate().min_by_key(|(_, count)| count.load(Ordering::Relaxed));
        let client = emptiest.map_or(0, |(client, _)| client);
        self.0[client].fetch_add(1, Ordering::Relaxed);
        Place { client, host: Some(self) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            host.0[self.client].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_fill_one_connection_before_the_next_and_give_their_places_back() {
        let host = Arc::new(Host([const { AtomicUsize::new(0) }; CLIENTS]));
        let mut places: Vec<Place> = (0..300).map(|_| host.clone().enter()).collect();
        let on = |places: &[Place], client| places.iter().filter(|place| place.client == client).count();
        assert_eq!([on(&places, 0), on(&places, 3), on(&places, 4), on(&places, 5)], [64, 64, 44, 0]);
        drop(places.remove(0));
        assert_eq!(host.clone().enter().client, 0);

        places.extend((0..CLIENTS * CALLS_PER_CONNECTION).map(|_| host.clone().enter()));
        assert!((0..CLIENTS).all(|client| on(&places, client) >= CALLS_PER_CONNECTION));
        drop(places);
        assert!(host.0.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }
}
