//! What the gateway can be told, already validated.

use std::path::PathBuf;
use std::time::Duration;

use ez_contract::snapshot::ClientGone;
use ipnet::IpNet;

pub use crate::upstream::{UpstreamTls, UpstreamTlsError};

/// Settings of the data plane.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Name of this process among gateways.
    pub node_id: String,
    /// Version of this build, for heartbeats.
    pub version: String,
    /// Largest request body, bytes.
    pub max_body_bytes: usize,
    /// Largest plain answer and largest streamed event taken from an upstream, bytes.
    pub max_answer_bytes: usize,
    /// Upstream attempts per call.
    pub max_attempts: usize,
    /// Bound on connecting to an upstream.
    pub connect_timeout: Duration,
    /// Bound from sending a request to the head of its answer.
    pub first_byte_timeout: Duration,
    /// Bound on silence within an answer.
    pub idle_timeout: Duration,
    /// Bound on a whole call.
    pub call_timeout: Duration,
    /// What becomes of the upstream of a client that left in the middle of its stream, where its binding does not say.
    pub on_client_gone: ClientGone,
    /// Whether requests may name what a vendor keeps for its account, which all keys share.
    pub passes_vendor_objects: bool,
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each call with a known key leaves a line in the process log.
    pub access_log: bool,
    /// How often the counts of attempts by API key go to the control plane.
    pub stats_flush_interval: Duration,
    /// The most that is kept of a request body while bodies are kept, bytes.
    pub log_body_max_bytes: usize,
    /// Where spans go, as `…/v1/traces`; none are made without it.
    pub otlp_traces: Option<http::Uri>,
    /// Where GenAI metrics go, as `…/v1/metrics`; none are counted without it.
    pub otlp_metrics: Option<http::Uri>,
    /// Health of upstream credentials, and how calls are spread over them.
    pub health: HealthConfig,
    /// Connections to upstreams.
    pub upstream: UpstreamConfig,
    /// The durable usage log.
    pub usage_log: UsageLogConfig,
}

/// Settings of upstream health and of the pick.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// Failures in a row that open a credential's circuit breaker.
    pub breaker_failures: u32,
    /// How long a breaker is open the first time; each further time in a row doubles it.
    pub breaker_open: Duration,
    /// The longest that a breaker is open.
    pub breaker_max: Duration,
    /// Calls that may wait for a slot of one credential.
    pub queue: usize,
    /// How long a call waits for a slot.
    pub queue_timeout: Duration,
    /// Which calls keep to one credential.
    pub affinity: Affinity,
}

/// What calls of one conversation are told by, so that they keep to one credential and find its vendor's prompt cache
/// warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Nothing: each call is on its own.
    Off,
    /// The header `x-ez-session`.
    Header,
    /// That header, else what the turns of a conversation have in common.
    Prefix,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            breaker_failures: 5,
            breaker_open: Duration::from_secs(1),
            breaker_max: Duration::from_secs(60),
            queue: 100,
            queue_timeout: Duration::from_secs(10),
            affinity: Affinity::Off,
        }
    }
}

/// Settings of connections to upstreams.
#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// Whom they trust.
    pub tls: UpstreamTls,
    /// Whether HTTP/2 is spoken where it is offered; HTTP/1.1 otherwise.
    pub http2: bool,
}

/// Settings of the durable usage log.
#[derive(Debug, Clone)]
pub struct UsageLogConfig {
    /// Directory of its segments.
    pub dir: PathBuf,
    /// How often written records are forced to the disk, for power loss; a killed process loses nothing anyway.
    pub fsync_interval: Duration,
    /// Calls are refused while unshipped segments hold more, bytes.
    pub max_bytes: u64,
    /// A segment is closed when it is larger, bytes.
    pub segment_bytes: u64,
    /// Records taken up and not yet written.
    pub queue_capacity: usize,
    /// Records per batch to the control plane.
    pub ship_batch: usize,
    /// How long the shipper lets a batch gather.
    pub ship_interval: Duration,
    /// How long a call waits for its record to be written before the disk counts as failing.
    pub write_timeout: Duration,
}
