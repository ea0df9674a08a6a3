//! The listening side: accepts connections until dropped.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::body::Counters;
use super::connection::{SimConnection, SocketFault};
use super::script::{Record, Script};
use super::serve::{SimState, serve};
use super::stored::Stored;
use super::{Behaviour, RecordedRequest, Rule};

/// A running simulated vendor, HTTP/1.1 and HTTP/2 (prior knowledge) on one port. Dropping it closes the port and all connections.
pub struct SimUpstream {
    address: SocketAddr,
    state: Arc<SimState>,
    /// One task, which owns those of the connections: aborted when dropped.
    _accepting: JoinSet<()>,
}

impl SimUpstream {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port could be bound.
    pub async fn start(behaviour: Behaviour) -> io::Result<Self> {
        Self::start_on((Ipv4Addr::LOCALHOST, 0).into(), behaviour).await
    }

    /// Starts on a given address; port 0 is any free port.
    ///
    /// # Errors
    /// The address could not be bound.
    pub async fn start_on(address: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(SimState {
            script: Mutex::new(Script::new(behaviour)),
            record: Mutex::new(Record { enabled: true, requests: VecDeque::new() }),
            counters: Arc::new(Counters::default()),
            stored: Mutex::new(Stored::default()),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, _accepting: accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, without a slash at the end; the base of Anthropic and Gemini clients.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://127.0.0.1:PORT/v1`, the base of OpenAI clients.
    #[must_use]
    pub fn openai_base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Replaces the behaviour of requests that no rule matches; answers under way keep theirs.
    pub fn set(&self, behaviour: Behaviour) {
        self.state.script.lock().unwrap().set(behaviour);
    }

    /// Adds a rule after the others.
    pub fn rule(&self, rule: Rule) {
        self.state.script.lock().unwrap().add(rule);
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.state.script.lock().unwrap().clear();
    }

    /// The last 1,000 requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.record.lock().unwrap().requests.iter().cloned().collect()
    }

    /// Forgets the recorded requests; the counts stay.
    pub fn clear_requests(&self) {
        self.state.record.lock().unwrap().requests.clear();
    }

    /// Switches recording; off saves the copies of heads in benches.
    pub fn set_recording(&self, enabled: bool) {
        self.state.record.lock().unwrap().enabled = enabled;
    }

    /// Requests received so far, refused ones included.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.state.counters.requests.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connection_count(&self) -> u64 {
        self.state.counters.connections.load(Ordering::Relaxed)
    }

    /// Answers that the client left before their end.
    #[must_use]
    pub fn aborted_count(&self) -> u64 {
        self.state.counters.aborted.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, state: Arc<SimState>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error here is one connection that went away, or no descriptors: nothing to do but go on.
                if let Ok((stream, _)) = accepted {
                    state.counters.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(converse(stream, Arc::clone(&state)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, state: Arc<SimState>) {
    // Without it the kernel holds small events back.
    let _ = stream.set_nodelay(true);
    let socket = Arc::new(SocketFault::default());
    let connection = SimConnection::new(stream, Arc::clone(&socket));
    let service = service_fn(move |request| serve(Arc::clone(&state), Arc::clone(&socket), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(10_000);
    // The error is the client's going or a fault that was asked for.
    let _ = server.serve_connection(TokioIo::new(connection), service).await;
}
