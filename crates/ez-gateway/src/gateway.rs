//! The gateway as one object: what a call needs, and the background work that belongs to it.

use std::net::SocketAddr;
use std::sync::Arc;

use ez_contract::clock::Clock;
use ez_state::SharedState;
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::attempts::flush_attempts;
use crate::call::{self, AnswerBody};
use crate::config::GatewayConfig;
use crate::control_link::ControlLink;
use crate::counters;
use crate::faults::{FaultReporter, report_faults};
use crate::gauges::{Sampled, keep_gauges};
use crate::health::{HealthBook, Sharer, report_bans, share};
use crate::heartbeat::{Heart, beat};
use crate::lent_body::LentBody;
use crate::limits::{self, Ledger, Limiter};
use crate::live::{LiveBook, Teller, tell};
use crate::observe::{Collector, GenAiMetrics, MetricExporter, Observer, export_metrics, export_spans};
use crate::relay::Abandonment;
use crate::routing::{SnapshotCell, SnapshotWatch};
use crate::settle::{Settler, settle_cancelled};
use crate::stored::ResponseOwners;
use crate::upstream::{TokenClient, Transport};
use crate::usage_log::{self, UsageLog};

/// What calls share.
pub struct Gateway {
    pub(crate) config: GatewayConfig,
    pub(crate) snapshot: Arc<SnapshotCell>,
    pub(crate) transport: Transport,
    /// Fetches the access tokens of service accounts.
    pub(crate) tokens: TokenClient,
    pub(crate) settler: Arc<Settler>,
    pub(crate) limiter: Arc<Limiter>,
    /// What becomes of the upstreams of clients that left.
    pub(crate) abandonment: Abandonment,
    pub(crate) health: Arc<HealthBook>,
    /// Who made stored responses.
    pub(crate) responses: Arc<ResponseOwners>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What a gateway is built from.
pub struct GatewayParts {
    /// Validated settings.
    pub config: GatewayConfig,
    /// Where the follower puts the newest snapshot.
    pub snapshot: Arc<SnapshotCell>,
    /// What the follower tells of it.
    pub snapshot_watch: SnapshotWatch,
    /// The durable usage log, opened.
    pub usage_log: UsageLog,
    /// What gateways share: limits, and the health of credentials.
    pub state: SharedState,
    /// Takes the usage records.
    pub control_link: Arc<dyn ControlLink>,
    /// Tells the time of usage records.
    pub clock: Arc<dyn Clock>,
}

/// When the background work of a gateway ends.
#[derive(Debug, Clone, Default)]
pub struct GatewayStops {
    /// Cut off calls still running: set when the drain deadline has passed.
    pub cut_off: CancellationToken,
    /// Ship what is left and end: set when every call is gone.
    pub shipping: CancellationToken,
}

/// The background work of a gateway.
#[derive(Debug, Clone, Default)]
pub struct GatewayTasks {
    /// Settles cancelled calls, leases limits, sends heartbeats, spans and metrics, samples gauges, shares and reports the
    /// health of credentials, reports faults, tells live figures.
    pub settling: TaskTracker,
    /// Hands usage records and counts of attempts to the control plane.
    pub shipping: TaskTracker,
}

impl Gateway {
    /// Builds the gateway and starts its background work: settlement ends by itself once every call is gone, shipping
    /// when `stops.shipping` is set, which must come after.
    pub fn start(parts: GatewayParts, stops: &GatewayStops, tasks: &GatewayTasks) -> Arc<Self> {
        let GatewayParts { config, snapshot, snapshot_watch, usage_log, state, control_link, clock } = parts;
        counters::show();
        let gen_ai = config.otlp_metrics.as_ref().map(|_| Arc::<GenAiMetrics>::default());
        let (observer, spans) = Observer::new(config.access_log, config.otlp_traces.is_some(), gen_ai.clone());
        let live = Arc::new(LiveBook::new());
        let (settler, cancelled) =
            Settler::new(usage_log.clone(), clock.clone(), observer, live.clone(), stops.cut_off.clone());
        tasks.settling.spawn(settle_cancelled(usage_log.clone(), cancelled));
        let limiter =
            limits::start(state.clone(), Ledger::of(&usage_log, &clock), &tasks.settling, stops.cut_off.clone());
        let teller = Teller { book: live, state: state.clone(), node_id: config.node_id.clone() };
        tasks.settling.spawn(tell(teller, stops.cut_off.clone()));
        let heart = Heart {
            node_id: config.node_id.clone(),
            version: config.version.clone(),
            snapshot: snapshot.clone(),
            usage_log: usage_log.clone(),
            control_link: control_link.clone(),
            clock: clock.clone(),
        };
        tasks.settling.spawn(beat(heart, stops.cut_off.clone()));
        let responses = ResponseOwners::start(state.clone(), &tasks.settling, stops.cut_off.clone());
        let health = Arc::new(HealthBook::new(config.health.clone(), clock.clone()));
        let sharer = Sharer { book: health.clone(), state, snapshot: snapshot.clone() };
        tasks.settling.spawn(share(sharer, stops.cut_off.clone()));
        tasks.settling.spawn(report_bans(health.clone(), control_link.clone(), stops.cut_off.clone()));
        let sampled = Sampled { usage_log: usage_log.clone(), snapshot: snapshot_watch, clock: clock.clone() };
        tasks.settling.spawn(keep_gauges(sampled, stops.cut_off.clone()));
        let reporter = FaultReporter {
            node_id: config.node_id.clone(),
            usage_log: usage_log.clone(),
            control_link: control_link.clone(),
        };
        tasks.settling.spawn(report_faults(reporter, stops.cut_off.clone()));
        let attempts = health.attempts().clone();
        let interval = config.stats_flush_interval;
        tasks.shipping.spawn(flush_attempts(attempts, control_link.clone(), interval, stops.shipping.clone()));
        tasks.shipping.spawn(usage_log::ship(usage_log, control_link, stops.shipping.clone()));
        let abandonment = Abandonment::new(config.on_client_gone, tasks.settling.clone(), stops.cut_off.clone());
        let transport = Transport::new(&config.upstream, config.connect_timeout);
        let collector = |url: &http::Uri| Collector {
            transport: transport.clone(),
            url: url.clone(),
            node_id: config.node_id.clone(),
            version: config.version.clone(),
        };
        if let (Some(url), Some(spans)) = (&config.otlp_traces, spans) {
            tasks.settling.spawn(export_spans(collector(url), spans, stops.cut_off.clone()));
        }
        if let (Some(url), Some(metrics)) = (&config.otlp_metrics, gen_ai) {
            let exporter = MetricExporter { collector: collector(url), metrics, clock: clock.clone() };
            tasks.settling.spawn(export_metrics(exporter, stops.cut_off.clone()));
        }
        let tokens = TokenClient {
            transport: transport.clone(),
            clock: clock.clone(),
            tasks: tasks.settling.clone(),
            stop: stops.cut_off.clone(),
        };
        Arc::new(Self {
            config,
            snapshot,
            transport,
            tokens,
            settler: Arc::new(settler),
            limiter,
            abandonment,
            health,
            responses,
            clock,
        })
    }

    /// Answers one request: what the gateway's listener serves.
    pub async fn answer(self: Arc<Self>, peer: SocketAddr, request: Request<LentBody>) -> Response<AnswerBody> {
        call::answer(self, peer, request).await
    }
}
