//! A bounded load generator for one host: so many connections, each sending its next request when the last one is answered, or, where a
//! rate is asked for, when one is due.
//!
//! It talks to 127.0.0.1 and `[::1]` only, and ends by count and by time whatever it is asked for.

mod connection;
mod pace;
mod process;
mod samples;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use serde::Serialize;
use tokio::task::JoinSet;

pub(crate) use process::descendants;
pub use process::{ProcessUsage, forget_peak, process_usage};
pub use samples::Distribution;

use connection::Worker;
use pace::Pace;
use samples::Samples;

/// The most requests of one run.
pub const REQUESTS_MAX: u64 = 10_000_000;
/// The longest run.
pub const DURATION_MAX: Duration = Duration::from_secs(600);
/// The most connections of one run.
pub const CONNECTIONS_MAX: usize = 4_096;
/// The most requests per second that can be asked for.
pub const RATE_MAX: f64 = 1e6;
/// Requests of a run that names neither a number nor a duration.
const REQUESTS_DEFAULT: u64 = 1_000;

/// What to send, how much of it, and what to measure.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// `http://127.0.0.1:PORT/path`.
    pub url: String,
    /// Sent as `authorization: Bearer …`.
    pub bearer: Option<String>,
    /// Further headers.
    pub headers: HeaderMap,
    /// The body of every request, sent by `POST`; without one `GET` is sent.
    pub body: Option<Bytes>,
    /// Connections, each with one request at a time; at most [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Requests in all, at most [`REQUESTS_MAX`]. With neither this nor `duration`: 1,000.
    pub requests: Option<u64>,
    /// Requests are started for this long, at most [`DURATION_MAX`].
    pub duration: Option<Duration>,
    /// Requests per second, evenly spaced, at most [`RATE_MAX`]; times are then measured from when a request was due, so that what waits
    /// for a free connection counts. Without it a connection starts its next request when the last one is answered.
    pub rate: Option<f64>,
    /// A request that isn't answered whole within this counts as an error.
    pub request_timeout: Duration,
    /// Requests sent before the measurement, not counted.
    pub warm_up_requests: u64,
    /// Whether to measure streams: the time to the first byte and, if the upstream stamps its tokens, the delay of each.
    pub stream: bool,
    /// An answer whose last bytes (white space aside) aren't these counts as an error, such as `data: [DONE]`.
    pub expected_tail: Option<String>,
    /// Processes whose CPU time and memory are measured over the run, their descendants included.
    pub cpu_of: Vec<u32>,
}

/// What came of a run. Times are in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// Requests finished, the failed ones included.
    pub requests: u64,
    /// Requests without a whole answer of status 2xx.
    pub errors: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// The first failure of the run that wasn't a status.
    pub first_error: Option<String>,
    /// Wall-clock time.
    pub seconds: f64,
    /// Answers without error per second.
    pub rps: f64,
    /// Body bytes received.
    pub bytes: u64,
    /// From sending the request (with a rate: from when it was due) to the last byte of the answer, answers without error only.
    pub latency_us: Option<Distribution>,
    /// From sending the request to the first body byte; streams only.
    pub first_byte_us: Option<Distribution>,
    /// From the stamp of a token to its receipt; stamped streams only.
    pub chunk_delay_us: Option<Distribution>,
    /// Stamps found; more than the samples of `chunk_delay_us` if there were too many to keep.
    pub chunks: u64,
    /// CPU time and memory of the processes asked for.
    pub processes: Vec<ProcessCost>,
}

/// What a run cost a process and its descendants.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProcessCost {
    /// The process.
    pub pid: u32,
    /// CPU time over the run. The kernel counts in steps of 10 ms: runs of several seconds make it exact.
    pub cpu_us: u64,
    /// CPU time per finished request.
    pub cpu_us_per_request: f64,
    /// The most resident memory that it has had since its start or since [`forget_peak`].
    pub peak_rss_kib: u64,
    /// Resident memory at the end of the run.
    pub rss_kib: u64,
}

/// What the connections of a run share.
struct Run {
    address: SocketAddr,
    target: Target,
    options: LoadOptions,
    /// Requests left to start.
    tickets: AtomicU64,
    pace: Option<Pace>,
    ends_at: Instant,
}

/// A request, ready to be sent again and again.
struct Target {
    path: Uri,
    headers: HeaderMap,
    body: Option<Bytes>,
}

/// What one connection has seen.
#[derive(Default)]
struct Tally {
    requests: u64,
    errors: u64,
    statuses: BTreeMap<u16, u64>,
    first_error: Option<String>,
    bytes: u64,
    chunks: u64,
    latency: Samples,
    first_byte: Samples,
    chunk_delay: Samples,
}

/// Runs a load to its end.
///
/// # Errors
/// The options are out of bounds, the URL isn't a loopback address, or a process to be measured can't be read. Failing requests are no error
/// but counted.
pub async fn run(options: LoadOptions) -> anyhow::Result<LoadReport> {
    check(&options)?;
    let uri: Uri = options.url.parse().context("the URL can't be read")?;
    let address = loopback_address(&uri)?;
    let target = Target::new(&uri, address, &options)?;
    if options.warm_up_requests > 0 {
        let requests = Some(options.warm_up_requests);
        let warm_up = LoadOptions { requests, duration: None, rate: None, ..options.clone() };
        let target = Target::new(&uri, address, &options)?;
        drive(Arc::new(Run::new(address, target, warm_up)?)).await;
    }
    let before = usages(&options.cpu_of)?;
    let started = Instant::now();
    let run = Arc::new(Run::new(address, target, options)?);
    let tally = drive(Arc::clone(&run)).await;
    let seconds = started.elapsed().as_secs_f64();
    let after = usages(&run.options.cpu_of)?;
    let costs = costs(&run.options.cpu_of, tally.requests, &before, &after);
    Ok(tally.report(seconds, costs))
}

/// The address of a URL if it is `http` on the loopback interface, named by number: a name could be resolved to anything.
///
/// # Errors
/// It is anything else.
pub fn loopback_address(uri: &Uri) -> anyhow::Result<SocketAddr> {
    ensure!(uri.scheme_str() == Some("http"), "only http:// URLs are loaded");
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let Ok(ip) = host.parse::<IpAddr>() else { bail!("{host:?} isn't 127.0.0.1 or [::1]") };
    ensure!(ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST, "{ip} isn't 127.0.0.1 or [::1]");
    Ok(SocketAddr::new(ip, uri.port_u16().unwrap_or(80)))
}

impl Run {
    fn new(address: SocketAddr, target: Target, options: LoadOptions) -> anyhow::Result<Self> {
        let unbounded = options.duration.is_none();
        let requests = options.requests.unwrap_or(if unbounded { REQUESTS_DEFAULT } else { REQUESTS_MAX });
        let ends_at = Instant::now() + options.duration.unwrap_or(DURATION_MAX);
        let pace = options.rate.map(|rate| Pace::start(rate, ends_at)).transpose()?;
        Ok(Self { address, target, options, tickets: AtomicU64::new(requests), pace, ends_at })
    }

    /// Waits until a request may start and tells since when it is due; `None` when the run is over.
    async fn next_start(&self) -> Option<Instant> {
        let due = match &self.pace {
            Some(pace) => pace.next().await?,
            None => Instant::now(),
        };
        let taken = self.tickets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        (taken.is_ok() && Instant::now() < self.ends_at).then_some(due)
    }
}

impl Target {
    fn new(uri: &Uri, address: SocketAddr, options: &LoadOptions) -> anyhow::Result<Self> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let mut headers = options.headers.clone();
        headers.insert(header::HOST, HeaderValue::from_str(&address.to_string())?);
        if let Some(bearer) = &options.bearer {
            let value =
                HeaderValue::from_str(&format!("Bearer {bearer}")).context("the bearer key isn't a header value")?;
            headers.insert(header::AUTHORIZATION, value);
        }
        if options.body.is_some() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Self { path, headers, body: options.body.clone() })
    }
}

impl Tally {
    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.bytes += other.bytes;
        self.chunks += other.chunks;
        self.first_error = self.first_error.take().or(other.first_error);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.latency.merge(other.latency);
        self.first_byte.merge(other.first_byte);
        self.chunk_delay.merge(other.chunk_delay);
    }

    fn report(self, seconds: f64, costs: Vec<ProcessCost>) -> LoadReport {
        let requests = self.requests;
        LoadReport {
            requests,
            errors: self.errors,
            statuses: self.statuses,
            first_error: self.first_error,
            seconds,
            rps: (requests - self.errors) as f64 / seconds.max(f64::EPSILON),
            bytes: self.bytes,
            latency_us: self.latency.distribution(),
            first_byte_us: self.first_byte.distribution(),
            chunk_delay_us: self.chunk_delay.distribution(),
            chunks: self.chunks,
            processes: costs,
        }
    }
}

async fn drive(run: Arc<Run>) -> Tally {
    let mut workers = JoinSet::new();
    for _ in 0..run.options.connections {
        workers.spawn(Worker::new(Arc::clone(&run)).work());
    }
    let mut tally = Tally::default();
    while let Some(finished) = workers.join_next().await {
        tally.merge(finished.expect("a connection's task panicked"));
    }
    tally
}

fn check(options: &LoadOptions) -> anyhow::Result<()> {
    let connections = options.connections;
    ensure!((1..=CONNECTIONS_MAX).contains(&connections), "connections must be from 1 to {CONNECTIONS_MAX}");
    let requests = options.requests.unwrap_or(0).max(options.warm_up_requests);
    ensure!(requests <= REQUESTS_MAX, "at most {REQUESTS_MAX} requests");
    let longest = options.duration.unwrap_or_default().max(options.request_timeout);
    ensure!(longest <= DURATION_MAX, "at most {} s for the run and for a request", DURATION_MAX.as_secs());
    let is_possible = options.rate.is_none_or(|rate| rate > 0.0 && rate <= RATE_MAX);
    ensure!(is_possible, "the rate must be more than 0 and at most {RATE_MAX} requests per second");
    Ok(())
}

fn usages(pids: &[u32]) -> anyhow::Result<Vec<ProcessUsage>> {
    pids.iter().map(|pid| process_usage(*pid).with_context(|| format!("process {pid} can't be read"))).collect()
}

fn costs(pids: &[u32], requests: u64, before: &[ProcessUsage], after: &[ProcessUsage]) -> Vec<ProcessCost> {
    let measured = pids.iter().zip(before.iter().zip(after));
    measured
        .map(|(pid, (before, after))| {
            let cpu_time = after.cpu_time.saturating_sub(before.cpu_time);
            ProcessCost {
                pid: *pid,
                cpu_us: u64::try_from(cpu_time.as_micros()).unwrap_or(u64::MAX),
                cpu_us_per_request: cpu_time.as_secs_f64() * 1e6 / requests.max(1) as f64,
                peak_rss_kib: after.peak_rss_kib,
                rss_kib: after.rss_kib,
            }
        })
        .collect()
}
