//! The pooled client that carries upstream calls: HTTP/2 where it is offered, without the stall of a shared connection,
//! and only to addresses that an operator may set.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connect::{Connector, Versions, connector};
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
    /// Agree on a version with each connection. One where only HTTP/1.1 is spoken, as its pool opens connections as
    /// needed.
    clients: Vec<PooledClient>,
    /// For hosts that are known to speak HTTP/2: calls that come at once wait for one connection, instead of opening one
    /// each and keeping one of them.
    http2_clients: Vec<PooledClient>,
    hosts: RwLock<HashMap<Authority, Arc<Host>>>,
}

type PooledClient = Client<Connector, Full<Bytes>>;

/// What is known of a host.
struct Host {
    /// Calls in flight, by client.
    in_flight: [AtomicUsize; CLIENTS],
    /// Whether its last new connection was one of HTTP/2.
    speaks_http2: AtomicBool,
}

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
        let versions = if config.http2 { Versions::Negotiated } else { Versions::Http1 };
        let any = connector(config, versions, connect_timeout);
        let clients = (0..if config.http2 { CLIENTS } else { 1 }).map(|_| builder.build(any.clone())).collect();
        builder.http2_only(true);
        let http2 = connector(config, Versions::Http2, connect_timeout);
        let http2_clients = (0..if config.http2 { CLIENTS } else { 0 }).map(|_| builder.build(http2.clone())).collect();
        Self(Arc::new(Pools { clients, http2_clients, hosts: RwLock::default() }))
    }

    /// Sends one request; the answer's body streams.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<UpstreamBody>, Error> {
        let place = self.0.place(request.uri());
        let response = self.0.client(&place).request(request).await;
        if let Some(host) = &place.host {
            host.learn(&response);
        }
        Ok(response?.map(|body| UpstreamBody { body, _place: place }))
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

    fn client(&self, place: &Place) -> &PooledClient {
        let speaks_http2 = place.host.as_ref().is_some_and(|host| host.speaks_http2.load(Ordering::Relaxed));
        if speaks_http2 { &self.http2_clients[place.client] } else { &self.clients[place.client] }
    }

    fn host(&self, authority: &Authority) -> Arc<Host> {
        if let Some(host) = self.hosts.read().unwrap_or_else(PoisonError::into_inner).get(authority) {
            return host.clone();
        }
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MAX_HOSTS {
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        hosts.entry(authority.clone()).or_default().clone()
    }
}

impl Default for Host {
    fn default() -> Self {
        Self { in_flight: [const { AtomicUsize::new(0) }; CLIENTS], speaks_http2: AtomicBool::new(false) }
    }
}

impl Host {
    /// Notes what a call tells of the version; where no connection came about, it is agreed on anew.
    fn learn(&self, outcome: &Result<Response<Incoming>, Error>) {
        let is_http2 = match outcome {
            Ok(response) => response.version() == Version::HTTP_2,
            Err(e) if e.is_connect() => false,
            Err(_) => return,
        };
        // Written rarely, as all calls to the host read it.
        if self.speaks_http2.load(Ordering::Relaxed) != is_http2 {
            self.speaks_http2.store(is_http2, Ordering::Relaxed);
        }
    }

    /// A place on the first client that has room, so that connections are used again; on the emptiest where none has.
    fn enter(self: Arc<Self>) -> Place {
        for (client, in_flight) in self.in_flight.iter().enumerate() {
            let enter = |count| (count < CALLS_PER_CONNECTION).then_some(count + 1);
            if in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enter).is_ok() {
                return Place { client, host: Some(self) };
            }
        }
        let emptiest = self.in_flight.iter().enumerate().min_by_key(|(_, count)| count.load(Ordering::Relaxed));
        let client = emptiest.map_or(0, |(client, _)| client);
        self.in_flight[client].fetch_add(1, Ordering::Relaxed);
        Place { client, host: Some(self) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(host) = &self.host {
            host.in_flight[self.client].fetch_sub(1, Ordering::Relaxed);
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
        let host = Arc::new(Host::default());
        let mut places: Vec<Place> = (0..300).map(|_| host.clone().enter()).collect();
        let on = |places: &[Place], client| places.iter().filter(|place| place.client == client).count();
        assert_eq!([on(&places, 0), on(&places, 3), on(&places, 4), on(&places, 5)], [64, 64, 44, 0]);
        drop(places.remove(0));
        assert_eq!(host.clone().enter().client, 0);

        places.extend((0..CLIENTS * CALLS_PER_CONNECTION).map(|_| host.clone().enter()));
        assert!((0..CLIENTS).all(|client| on(&places, client) >= CALLS_PER_CONNECTION));
        drop(places);
        assert!(host.in_flight.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }
}
