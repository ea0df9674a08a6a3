//! Observation: what metrics, the access log and the trace get of a call, once, when it has ended.

mod call_metrics;
mod gen_ai;
mod histograms;
mod metric_export;
mod otlp;
mod span_export;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use ez_contract::{Operation, Protocol, ProviderType, UsageRecord};
use http::{HeaderMap, StatusCode};
use metrics::Gauge;
use tokio::sync::mpsc;

use call_metrics::CallMetrics;

pub(crate) use call_metrics::AttemptEnd;
pub(crate) use histograms::GenAiMetrics;
pub(crate) use metric_export::{MetricExporter, export_metrics};
pub(crate) use otlp::Collector;
pub(crate) use span_export::export_spans;
pub(crate) use trace::{EndedSpan, Trace};

/// Spans that wait for the exporter; beyond it they are dropped and counted, as no call waits for a collector.
const SPAN_QUEUE: usize = 2_048;

/// Tells of calls. Everything that it holds is made once, so that a call pays for additions alone.
pub(crate) struct Observer {
    metrics: CallMetrics,
    writes_access_log: bool,
    spans: Option<mpsc::Sender<EndedSpan>>,
    gen_ai: Option<Arc<GenAiMetrics>>,
}

impl Observer {
    /// Also returns what an exporter is to send, where there is one. `gen_ai` are the metrics that another one sends.
    pub(crate) fn new(
        writes_access_log: bool,
        exports_spans: bool,
        gen_ai: Option<Arc<GenAiMetrics>>,
    ) -> (Self, Option<mpsc::Receiver<EndedSpan>>) {
        let (spans, ended) = match exports_spans {
            true => {
                let (sender, receiver) = mpsc::channel(SPAN_QUEUE);
                (Some(sender), Some(receiver))
            }
            false => (None, None),
        };
        (Self { metrics: CallMetrics::new(), writes_access_log, spans, gen_ai }, ended)
    }

    /// Calls in flight.
    pub(crate) fn in_flight(&self) -> &Gauge {
        self.metrics.in_flight()
    }

    /// Notes an attempt that has ended.
    pub(crate) fn attempted(&self, provider_type: ProviderType, ended: AttemptEnd) {
        self.metrics.attempted(provider_type, ended);
    }

    /// Notes an answer on its way, whoever asked.
    pub(crate) fn answered(&self, protocol: Protocol, status: StatusCode) {
        self.metrics.answered(protocol, status.as_u16());
    }

    /// Begins the span of a call, where spans are exported: the upstream hears of it in place of the client's. Otherwise
    /// the client's passes as it came.
    pub(crate) fn begin_trace(&self, headers: &mut HeaderMap) -> Option<Trace> {
        self.spans.as_ref().map(|_| Trace::begin(headers))
    }

    /// Tells of a call that has ended.
    pub(crate) fn ended(&self, record: &UsageRecord, operation: Option<Operation>, trace: Option<&Trace>) {
        self.metrics.ended(record, operation);
        if let Some(gen_ai) = &self.gen_ai {
            gen_ai.note(record, operation);
        }
        if self.writes_access_log {
            write_access_line(record);
        }
        if let (Some(spans), Some(trace)) = (&self.spans, trace)
            && trace.is_sampled()
        {
            // Nothing is copied for a queue that has no room.
            match spans.try_reserve() {
                Ok(place) => place.send(EndedSpan { trace: trace.clone(), operation, record: record.clone() }),
                Err(_) => self.metrics.span_dropped(),
            }
        }
    }
}

/// The word for an operation in metrics and traces.
fn operation_word(operation: Option<Operation>) -> &'static str {
    operation.map_or("other", |operation| operation.scope().trim_end_matches(":*"))
}

/// The access log: one line for each call whose key is known.
fn write_access_line(record: &UsageRecord) {
    tracing::info!(
        target: "ez_access",
        request_id = record.request_id,
        master_id = record.master_id,
        key_id = record.key_id,
        model = record.model,
        upstream_model = record.upstream_model,
        provider_type = record.provider_type.map(|provider_type| provider_type.as_str()),
        group_id = record.group_id,
        protocol = record.protocol.as_str(),
        stream = record.stream,
        status = record.status,
        ended_by = record.ended_by.as_str(),
        attempts = record.attempts,
        first_byte_ms = record.first_byte_ms,
        latency_ms = record.latency_ms,
        input_tokens = record.tokens.input_tokens,
        output_tokens = record.tokens.output_tokens,
        usage_source = record.usage_source.as_str(),
        response_bytes = record.response_bytes,
        "call"
    );
}

/// Seconds from a call's milliseconds.
fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}
