//! Settlement: the account of a call, opened with its caller and closed exactly once, on end, error or cancel.

use std::sync::Arc;
use std::time::Duration;

use ez_contract::Operation;
use ez_contract::clock::Clock;
use ez_contract::request_body::RequestBody;
use ez_contract::usage::{EndedBy, TokenUsage, UsageRecord, UsageSource};
use ez_protocol::redact::redact;
use ez_telemetry::request_id::sortable_id;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authn::Caller;
use crate::failure::Blame;
use crate::health::Permit;
use crate::ingress::Arrival;
use crate::inspect::Inspected;
use crate::limits::{Charge, Limited, RateHeaders, Reservation};
use crate::live::{LiveBook, LiveCall};
use crate::metering::counts_input;
use crate::observe::{Observer, Trace};
use crate::plan::{Target, UpstreamChoice};
use crate::pricing::nanos_of;
use crate::refusal::Refusal;
use crate::routing::Model;
use crate::usage_log::{UsageLog, UsageLogError};

/// nginx's word for a client that left before its answer.
const STATUS_CLIENT_CLOSED: u16 = 499;
/// The status of a call that panicked before its client saw one; its connection is just closed.
const STATUS_INTERNAL: u16 = 500;
const MAX_ERROR_CHARS: usize = 500;

/// What is left of a call that was dropped.
pub(crate) struct Cancelled {
    record: UsageRecord,
    body: Option<Box<RequestBody>>,
}

/// Where accounts are settled.
pub(crate) struct Settler {
    usage_log: UsageLog,
    clock: Arc<dyn Clock>,
    cancelled: mpsc::UnboundedSender<Cancelled>,
    pub(crate) observer: Observer,
    live: Arc<LiveBook>,
    /// Set once calls are cut off because the process ends.
    cut_off: CancellationToken,
}

impl Settler {
    pub(crate) fn new(
        usage_log: UsageLog,
        clock: Arc<dyn Clock>,
        observer: Observer,
        live: Arc<LiveBook>,
        cut_off: CancellationToken,
    ) -> (Self, mpsc::UnboundedReceiver<Cancelled>) {
        let (cancelled, receiver) = mpsc::unbounded_channel();
        (Self { usage_log, clock, cancelled, observer, live, cut_off }, receiver)
    }
}

impl Settler {
    /// Refuses a call that could not be accounted for, before anything is spent on it.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        self.usage_log.check().map_err(|e| {
            // The log itself tells, once, that it fails.
            tracing::debug!(error = %e, "call refused");
            not_accountable()
        })
    }
}

/// What a client hears when its call cannot be accounted for.
pub(crate) fn not_accountable() -> Refusal {
    let message = "this gateway cannot account for calls at the moment: try again later";
    Refusal::internal("usage_log_unavailable", message).with_retry_after(Duration::from_secs(5))
}

/// Settles the accounts of cancelled calls until every call is gone.
pub(crate) async fn settle_cancelled(usage_log: UsageLog, mut cancelled: mpsc::UnboundedReceiver<Cancelled>) {
    while let Some(Cancelled { record, body }) = cancelled.recv().await {
        if usage_log.append_with_body(&record, body.as_deref()).await.is_err() {
            usage_log.hold(record);
        }
    }
}

/// The account of one call. Dropping it unsettled reports the call as cancelled.
pub(crate) struct Account {
    record: UsageRecord,
    /// What is kept of the request's body, where bodies are kept.
    body: Option<Box<RequestBody>>,
    arrived: Instant,
    settler: Arc<Settler>,
    operation: Option<Operation>,
    trace: Option<Trace>,
    /// Counts the call among those in flight until the account is gone.
    live: LiveCall,
    /// Of the attempt whose answer is under way to the client.
    permit: Option<Permit>,
    is_open: bool,
    /// What the call holds of its limits; given back with the account's end.
    reservation: Option<Reservation>,
    model: Option<Arc<Model>>,
    /// What the caller hears of its limits.
    rate: RateHeaders,
    /// About how many tokens the prompt has: what a client that left before the answer is charged.
    prompt_tokens: Option<u64>,
}

/// How a call ended.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) ended_by: EndedBy,
    pub(crate) error: Option<String>,
}

impl End {
    pub(crate) fn complete() -> Self {
        Self { ended_by: EndedBy::Complete, error: None }
    }

    pub(crate) fn client_left() -> Self {
        Self { ended_by: EndedBy::Client, error: Some("the client left before the call had ended".to_owned()) }
    }

    /// A fault of ours, found by unwinding.
    fn panicked() -> Self {
        Self { ended_by: EndedBy::Gateway, error: Some("an internal fault of the gateway ended the call".to_owned()) }
    }

    pub(crate) fn upstream(error: impl Into<String>) -> Self {
        Self { ended_by: EndedBy::Upstream, error: Some(error.into()) }
    }
}

impl Account {
    /// Opens the account of a call whose key is known. Boxed, as it passes through every stage.
    pub(crate) fn open(settler: Arc<Settler>, arrival: &Arrival, caller: &Caller, arrived: Instant) -> Box<Self> {
        let record = UsageRecord {
            id: sortable_id().to_string(),
            request_id: arrival.request_id.to_string(),
            created_at: settler.clock.now(),
            master_id: caller.master.id,
            key_id: caller.token.id,
            group_id: None,
            api_key_id: None,
            namespace: String::new(),
            model: String::new(),
            upstream_model: None,
            protocol: arrival.protocol,
            provider_type: None,
            status: 0,
            error: None,
            stream: false,
            ended_by: EndedBy::Client,
            attempts: 0,
            latency_ms: 0,
            first_byte_ms: None,
            tokens: TokenUsage::default(),
            usage_source: UsageSource::Unknown,
            cost: None,
            price_version: None,
            client_ip: Some(arrival.client_ip.to_string()),
            request_bytes: 0,
            response_bytes: 0,
        };
        settler.observer.in_flight().increment(1.0);
        let live = settler.live.begin(caller.master.id);
        Box::new(Self {
            record,
            body: None,
            arrived,
            settler,
            operation: arrival.route.operation(),
            trace: arrival.trace.clone(),
            live,
            permit: None,
            is_open: true,
            reservation: None,
            model: None,
            rate: RateHeaders::default(),
            prompt_tokens: None,
        })
    }

    /// Keeps a body with the record: a copy of its beginning, so that the rest need not stay in memory as long.
    pub(crate) fn keep_body(&mut self, body: &[u8], max_bytes: usize) {
        self.body = Some(Box::new(RequestBody::of(body, max_bytes)));
    }

    pub(crate) fn note_request(&mut self, inspected: &Inspected) {
        self.record.request_bytes = inspected.body.len() as u64;
        self.record.stream = inspected.peek.stream;
        if inspected.peek.stream {
            self.live.note_stream();
        }
        self.prompt_tokens = counts_input(inspected.api).then(|| inspected.peek.estimated_input_tokens());
        self.record.model.clone_from(&inspected.peek.model);
    }

    pub(crate) fn note_target(&mut self, target: &Target) {
        self.record.namespace.clone_from(&target.namespace);
        self.record.model.clone_from(&target.public_model);
    }

    /// Takes what the call reserved of its limits, and the model whose prices it pays.
    pub(crate) fn note_reservation(&mut self, reservation: Option<Reservation>, model: Option<Arc<Model>>) {
        self.rate = reservation.as_ref().map(Reservation::rate).unwrap_or_default();
        self.reservation = reservation;
        self.model = model;
    }

    /// Keeps the permit of the attempt whose answer the client gets, until the upstream is done with it.
    pub(crate) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
    }

    /// Notes that the answer under way broke by its credential's fault.
    pub(crate) fn note_broken(&mut self, blame: Blame) {
        if let Some(mut permit) = self.permit.take() {
            permit.failed(blame, None, &self.record.request_id);
        }
    }

    pub(crate) fn note_attempt(&mut self, choice: &UpstreamChoice) {
        let provider = &choice.upstream.snapshot;
        self.record.attempts += 1;
        self.record.group_id = Some(provider.group_id);
        self.record.api_key_id = Some(provider.id);
        self.record.provider_type = Some(provider.provider_type);
        self.record.upstream_model = Some(choice.upstream_model.clone());
        if let (Some(trace), Some(target)) = (&mut self.trace, &choice.upstream.target) {
            trace.note_server(target.host(), target.port());
        }
    }

    /// Notes the status that the client is about to see.
    pub(crate) fn note_status(&mut self, status: u16) {
        self.record.status = status;
    }

    pub(crate) fn note_tokens(&mut self, tokens: TokenUsage) {
        self.record.tokens = tokens;
        self.record.usage_source = UsageSource::Exact;
    }

    /// Notes what was used by an estimate, because the upstream did not tell.
    pub(crate) fn note_estimated(&mut self, tokens: TokenUsage) {
        self.record.tokens = tokens;
        self.record.usage_source = UsageSource::Estimated;
    }

    /// Notes body bytes handed to the client.
    pub(crate) fn note_sent(&mut self, bytes: usize) {
        self.record.response_bytes += bytes as u64;
        if self.record.first_byte_ms.is_none() && bytes > 0 {
            self.record.first_byte_ms = Some(self.elapsed_ms());
        }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.record.attempts
    }

    /// Notes that a limit refuses the call, and why.
    pub(crate) fn note_limited(&mut self, limited: Limited) -> Refusal {
        self.rate = limited.rate;
        self.live.note_limited();
        limited.refusal
    }

    /// What the caller hears of its limits, once they were asked.
    pub(crate) fn rate(&self) -> RateHeaders {
        self.rate
    }

    /// What the call cost, US dollars, once it is settled and where that is known.
    pub(crate) fn cost(&self) -> Option<&str> {
        self.record.cost.as_deref()
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.record.request_id
    }

    /// Closes the account. Once this succeeded, the record survives a kill of the process, and what the call still holds
    /// back may be released. Where it fails, the record is held in memory, and tells that the answer was withheld.
    pub(crate) async fn settle(&mut self, end: End) -> Result<(), UsageLogError> {
        // The upstream is done, so its slot is free for the next call though this client may still be reading.
        if let Some(mut permit) = self.permit.take()
            && end.ended_by == EndedBy::Complete
        {
            permit.succeeded();
        }
        self.close(end);
        let appended = self.settler.usage_log.append_with_body(&self.record, self.body.as_deref()).await;
        self.is_open = false;
        if appended.is_err() {
            let withheld = self.withheld();
            self.observe(&withheld);
            self.settler.usage_log.hold(withheld);
        } else {
            self.observe(&self.record);
        }
        appended
    }

    /// The record of a call whose end the client does not get, because it could not be accounted for in time.
    fn withheld(&self) -> UsageRecord {
        let mut record = self.record.clone();
        if record.ended_by == EndedBy::Complete {
            record.ended_by = EndedBy::Gateway;
            record.error = Some("the answer was withheld: the usage log could not be written".to_owned());
        }
        if !record.stream {
            record.status = not_accountable().fault.status;
            record.response_bytes = 0;
        }
        record
    }

    /// Closes the account of a refused call.
    pub(crate) async fn refuse(&mut self, refusal: &Refusal) -> Result<(), UsageLogError> {
        self.note_status(refusal.fault.status);
        let error = format!("{}: {}", refusal.fault.code, refusal.fault.message);
        if self.record.attempts == 0 {
            self.close(End { ended_by: refusal.ended_by(), error: Some(error) });
            self.settler.usage_log.append_refusal(&self.record, self.body.as_deref()).await;
            self.is_open = false;
            self.observe(&self.record);
            return Ok(());
        }
        self.settle(End { ended_by: refusal.ended_by(), error: Some(error) }).await
    }

    /// Tells metrics, access log and trace of the call.
    fn observe(&self, record: &UsageRecord) {
        self.settler.observer.ended(record, self.operation, self.trace.as_ref());
    }

    /// Puts a price on what was used, and settles the limits to it. Once: there is no reservation after.
    fn charge(&mut self) {
        let used_nothing = self.used_nothing();
        let record = &mut self.record;
        let prices = self.model.as_ref().and_then(|model| model.prices.as_ref());
        let priced = prices.and_then(|prices| Some((prices.cost(&record.tokens)?, prices.version())));
        if let Some((cost, version)) = priced {
            record.cost = Some(cost.to_string());
            record.price_version = Some(version.to_owned());
        }
        let TokenUsage { input_tokens, output_tokens, .. } = record.tokens;
        let counted = input_tokens.unwrap_or_default().saturating_add(output_tokens.unwrap_or_default());
        self.live.settle(counted);
        let Some(reservation) = self.reservation.take() else { return };
        let is_known = input_tokens.is_some() || output_tokens.is_some();
        reservation.settle(Charge {
            tokens: (is_known || used_nothing).then_some(counted),
            ledger_tokens: counted,
            nanos: priced.map_or(0, |(cost, _)| nanos_of(cost)),
        });
    }

    /// An upstream that refused, or was never tried, used nothing; of one that broke off nobody knows.
    fn used_nothing(&self) -> bool {
        let status = self.record.status;
        self.record.attempts == 0 || (status >= 400 && status != STATUS_CLIENT_CLOSED)
    }

    /// Whether it has not been settled.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The end of a call whose answer was dropped: its client left, the process cuts off what still runs, or it panicked.
    pub(crate) fn end_of_dropped(&self) -> End {
        if std::thread::panicking() {
            tracing::error!(request_id = self.record.request_id, "a call panicked");
            return End::panicked();
        }
        if !self.settler.cut_off.is_cancelled() {
            return End::client_left();
        }
        End { ended_by: EndedBy::Gateway, error: Some("the gateway stopped before the call had ended".to_owned()) }
    }

    /// Notes how the call ended.
    fn close(&mut self, end: End) {
        self.record.ended_by = end.ended_by;
        // Masters read this too, so it must not name the operator's accounts.
        self.record.error = end.error.map(|error| redact(&error).chars().take(MAX_ERROR_CHARS).collect());
        self.record.latency_ms = self.elapsed_ms();
        self.charge();
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.arrived.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settler.observer.in_flight().decrement(1.0);
        if !self.is_open {
            return;
        }
        let end = self.end_of_dropped();
        // Its vendor may charge for the prompt all the same.
        let is_used = !self.used_nothing() && self.record.usage_source == UsageSource::Unknown;
        if let Some(tokens) = self.prompt_tokens.filter(|_| is_used) {
            self.note_estimated(TokenUsage {
                input_tokens: Some(tokens),
                output_tokens: Some(0),
                ..TokenUsage::default()
            });
        }
        self.charge();
        if std::thread::panicking() && (self.record.status == 0 || !self.record.stream) {
            // Nothing of the answer got out.
            (self.record.status, self.record.response_bytes) = (STATUS_INTERNAL, 0);
        } else if self.record.status == 0 {
            self.record.status = STATUS_CLIENT_CLOSED;
        }
        let mut record = self.record.clone();
        record.ended_by = end.ended_by;
        record.error = end.error;
        record.latency_ms = self.elapsed_ms();
        self.observe(&record);
        if self.settler.cancelled.send(Cancelled { record, body: self.body.take() }).is_err() {
            tracing::error!(
                request_id = self.record.request_id,
                "usage record of a cancelled call lost: settlement has ended"
            );
        }
    }
}
