//! Spans over OTLP: JSON over HTTP (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP"), in batches and off the path of calls.
//! The names of GenAI attributes are those of OpenTelemetry's semantic conventions, and stand here alone.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use ez_contract::ProviderType;
use ez_telemetry::metrics::SPANS_DROPPED;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::operation_word;
use super::trace::EndedSpan;
use crate::upstream::Transport;

/// Spans sent at once.
const BATCH: usize = 512;
/// How long a batch gathers.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bound on all that is sent when the process stops.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// `SPAN_KIND_SERVER` and `STATUS_CODE_ERROR`.
const KIND_SERVER: u8 = 2;
const STATUS_ERROR: u8 = 2;

/// Sends spans to a collector.
pub(crate) struct SpanExporter {
    pub(crate) transport: Transport,
    /// `…/v1/traces`.
    pub(crate) url: Uri,
    pub(crate) node_id: String,
    pub(crate) version: String,
}

/// Sends what has ended until `stop`, then what is left, within a bound on all of it. Spans that the collector does not
/// take are dropped and counted.
pub(crate) async fn export(exporter: SpanExporter, mut ended: mpsc::Receiver<EndedSpan>, stop: CancellationToken) {
    let end = TheEnd { stop: stop.clone(), at: OnceLock::new() };
    let (mut was_failing, mut is_last) = (false, false);
    while !is_last {
        is_last = tokio::select! {
            () = tokio::time::sleep(INTERVAL) => false,
            () = stop.cancelled() => true,
        };
        let mut is_full = true;
        while is_full {
            let batch: Vec<EndedSpan> = std::iter::from_fn(|| ended.try_recv().ok()).take(BATCH).collect();
            is_full = batch.len() == BATCH;
            if !batch.is_empty() {
                was_failing = exporter.send_or_drop(&batch, &end, was_failing).await;
            }
        }
    }
}

/// When the process waits no longer for a collector.
struct TheEnd {
    stop: CancellationToken,
    at: OnceLock<Instant>,
}

impl TheEnd {
    /// Waits for it; the same moment whoever asks.
    async fn come(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep_until(*self.at.get_or_init(|| Instant::now() + LAST_TIMEOUT)).await;
    }
}

impl SpanExporter {
    /// Whether it failed.
    async fn send_or_drop(&self, batch: &[EndedSpan], end: &TheEnd, was_failing: bool) -> bool {
        let sent = tokio::select! {
            biased;
            () = end.come() => Err("it did not answer before the process ended".to_owned()),
            sent = tokio::time::timeout(TIMEOUT, self.send(batch)) => {
                sent.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))
            }
        };
        let Err(reason) = sent else { return false };
        metrics::counter!(SPANS_DROPPED).increment(batch.len() as u64);
        if !was_failing {
            tracing::warn!(reason, "spans not taken by EZ_OTLP_ENDPOINT; they are dropped until it takes them");
        }
        true
    }

    async fn send(&self, batch: &[EndedSpan]) -> Result<(), String> {
        let mut request = Request::new(Full::new(Bytes::from(self.document(batch).to_string())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = self.transport.send(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        // Read to its end, so that the connection can be used again.
        Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|e| e.to_string())?;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    }

    fn document(&self, batch: &[EndedSpan]) -> Value {
        let resource = [
            text("service.name", "ez-api"),
            text("service.version", &self.version),
            text("service.instance.id", &self.node_id),
        ];
        json!({"resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{
                "scope": {"name": "ez-gateway", "version": self.version},
                "spans": batch.iter().map(span).collect::<Vec<_>>(),
            }],
        }]})
    }
}

fn span(ended: &EndedSpan) -> Value {
    let EndedSpan { trace, operation, record } = ended;
    let started_nanos = record.created_at.timestamp_nanos_opt().unwrap_or_default();
    let nanos = i64::try_from(record.latency_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let operation = match operation_word(*operation) {
        "completions" => "text_completion",
        word => word,
    };
    let mut attributes = vec![
        text("gen_ai.operation.name", operation),
        text("gen_ai.request.model", &record.model),
        number("http.response.status_code", u64::from(record.status)),
        text("ez.request_id", &record.request_id),
        text("ez.ended_by", record.ended_by.as_str()),
        number("ez.attempts", u64::from(record.attempts)),
        number("ez.master_id", record.master_id.unsigned_abs()),
        number("ez.key_id", record.key_id.unsigned_abs()),
    ];
    attributes
        .extend(record.provider_type.map(|provider_type| text("gen_ai.provider.name", provider_name(provider_type))));
    attributes.extend(record.upstream_model.as_deref().map(|model| text("gen_ai.response.model", model)));
    attributes.extend(record.tokens.input_tokens.map(|count| number("gen_ai.usage.input_tokens", count)));
    attributes.extend(record.tokens.output_tokens.map(|count| number("gen_ai.usage.output_tokens", count)));
    attributes.extend(trace.server_address.as_deref().map(|host| text("server.address", host)));
    let mut span = json!({
        "traceId": format!("{:032x}", trace.trace_id),
        "spanId": format!("{:016x}", trace.span_id),
        "name": format!("{operation} {}", record.model).trim_end(),
        "kind": KIND_SERVER,
        "startTimeUnixNano": started_nanos.to_string(),
        "endTimeUnixNano": started_nanos.saturating_add(nanos).to_string(),
    });
    if let Some(parent_id) = trace.parent_id {
        span["parentSpanId"] = format!("{parent_id:016x}").into();
    }
    if record.is_failure() {
        let kind = if record.status >= 400 { record.status.to_string() } else { record.ended_by.to_string() };
        attributes.push(text("error.type", &kind));
        span["status"] = json!({"code": STATUS_ERROR, "message": record.error});
    }
    span["attributes"] = attributes.into();
    span
}

/// The conventions' word for a vendor; ours where they have none.
fn provider_name(provider_type: ProviderType) -> &'static str {
    match provider_type {
        ProviderType::Anthropic | ProviderType::Claude | ProviderType::ClaudeCode => "anthropic",
        ProviderType::Openai | ProviderType::Codex => "openai",
        ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio | ProviderType::GeminiCli => "gcp.gemini",
        ProviderType::Vertex | ProviderType::VertexExpress => "gcp.vertex_ai",
        ProviderType::Azure => "azure.ai.openai",
        other => other.as_str(),
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// 64-bit integers are texts in OTLP's JSON.
fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::super::Trace;
    use super::*;
    use crate::config::{UpstreamConfig, UpstreamTls};

    #[tokio::test]
    async fn a_collector_that_never_answers_holds_up_the_end_for_a_bounded_time() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        // Connections are made, and nobody reads from them.
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", tcp.local_addr().unwrap()).parse().unwrap();
        let tls = UpstreamTls::new(None).unwrap();
        let transport = Transport::new(&UpstreamConfig { tls, http2: false }, TIMEOUT);
        let exporter = SpanExporter { transport, url, node_id: "test".to_owned(), version: "0".to_owned() };
        let (sender, ended) = mpsc::channel(4 * BATCH);
        let record: ez_contract::UsageRecord =
            serde_json::from_str(include_str!("../../../ez-contract/goldens/usage_record.json")).unwrap();
        let trace = Trace::begin(&mut HeaderMap::new());
        for _ in 0..4 * BATCH {
            let span = EndedSpan { trace: trace.clone(), operation: None, record: record.clone() };
            assert!(sender.try_send(span).is_ok());
        }
        let stop = CancellationToken::new();
        let started = Instant::now();
        let ending = async {
            // While the first batch is on its way.
            tokio::time::sleep(INTERVAL + Duration::from_millis(100)).await;
            stop.cancel();
        };
        tokio::join!(export(exporter, ended, stop.clone()), ending);
        let took = started.elapsed();
        assert!(took < INTERVAL + LAST_TIMEOUT + Duration::from_secs(3), "{took:?}");
        let dropped = format!("ez_spans_dropped_total {}", 4 * BATCH);
        assert!(metrics.render().contains(&dropped), "{}", metrics.render());
    }
}
