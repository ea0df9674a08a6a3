//! Spans over OTLP, in batches and off the path of calls.

use std::time::Duration;

use ez_telemetry::metrics::SPANS_DROPPED;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::otlp::{Collector, TheEnd, flag, fraction, nanos, number, text};
use super::trace::EndedSpan;
use super::{gen_ai, seconds};

/// Spans sent at once.
const BATCH: usize = 512;
/// How long a batch gathers that does not become full.
const INTERVAL: Duration = Duration::from_secs(2);
/// `SPAN_KIND_SERVER` and `STATUS_CODE_ERROR`.
const KIND_SERVER: u8 = 2;
const STATUS_ERROR: u8 = 2;

/// Sends what has ended until `stop`, then what is left, within a bound on all of it. Spans that the collector does not
/// take are dropped and counted.
pub(crate) async fn export_spans(collector: Collector, mut ended: mpsc::Receiver<EndedSpan>, stop: CancellationToken) {
    let end = TheEnd::after(stop.clone());
    let mut batch = Vec::with_capacity(BATCH);
    let mut was_failing = false;
    loop {
        gather(&mut ended, &mut batch, &stop).await;
        if !batch.is_empty() {
            was_failing = send_or_drop(&collector, &batch, &end, was_failing).await;
            batch.clear();
        } else if stop.is_cancelled() || ended.is_closed() {
            return;
        }
    }
}

/// Waits until the batch is full, its time is over, or nothing more is to come. Once it is to stop, it takes what is there.
async fn gather(ended: &mut mpsc::Receiver<EndedSpan>, batch: &mut Vec<EndedSpan>, stop: &CancellationToken) {
    let full = async {
        // None at all: whoever sends is gone.
        while batch.len() < BATCH && ended.recv_many(batch, BATCH - batch.len()).await > 0 {}
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = full => return,
        () = tokio::time::sleep(INTERVAL) => return,
    }
    batch.extend(std::iter::from_fn(|| ended.try_recv().ok()).take(BATCH - batch.len()));
}

/// Whether it failed.
async fn send_or_drop(collector: &Collector, batch: &[EndedSpan], end: &TheEnd, was_failing: bool) -> bool {
    let Err(reason) = collector.post(&document(collector, batch), end).await else { return false };
    metrics::counter!(SPANS_DROPPED).increment(batch.len() as u64);
    if !was_failing {
        tracing::warn!(reason, "spans not taken by EZ_OTLP_ENDPOINT; they are dropped until it takes them");
    }
    true
}

fn document(collector: &Collector, batch: &[EndedSpan]) -> Value {
    let spans: Vec<Value> = batch.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": collector.resource(),
        "scopeSpans": [{"scope": collector.scope(), "spans": spans}],
    }]})
}

fn span(ended: &EndedSpan) -> Value {
    let EndedSpan { trace, operation, record } = ended;
    let operation = gen_ai::operation_name(record, *operation);
    let latency = Duration::from_millis(record.latency_ms);
    let mut span = json!({
        "traceId": format!("{:032x}", trace.trace_id),
        "spanId": format!("{:016x}", trace.span_id),
        "name": format!("{operation} {}", record.model).trim_end(),
        "kind": KIND_SERVER,
        "startTimeUnixNano": nanos(record.created_at),
        "endTimeUnixNano": nanos(record.created_at + latency),
        "attributes": attributes(ended, operation),
    });
    if let Some(parent_id) = trace.parent_id {
        span["parentSpanId"] = format!("{parent_id:016x}").into();
    }
    if record.is_failure() {
        span["status"] = json!({"code": STATUS_ERROR, "message": record.error});
    }
    span
}

fn attributes(ended: &EndedSpan, operation: &str) -> Vec<Value> {
    let EndedSpan { trace, record, .. } = ended;
    let mut attributes = vec![
        text(gen_ai::OPERATION_NAME, operation),
        text(gen_ai::PROVIDER_NAME, gen_ai::provider_name(record.provider_type)),
        text(gen_ai::REQUEST_MODEL, &record.model),
        number(gen_ai::HTTP_STATUS, u64::from(record.status)),
        text("ez.request_id", &record.request_id),
        text("ez.ended_by", record.ended_by.as_str()),
        number("ez.attempts", u64::from(record.attempts)),
        number("ez.master_id", record.master_id.unsigned_abs()),
        number("ez.key_id", record.key_id.unsigned_abs()),
    ];
    if record.stream {
        attributes.push(flag(gen_ai::REQUEST_STREAM, true));
        attributes.extend(record.first_byte_ms.map(|ms| fraction(gen_ai::TIME_TO_FIRST_CHUNK, seconds(ms))));
    }
    attributes.extend(record.upstream_model.as_deref().map(|model| text(gen_ai::RESPONSE_MODEL, model)));
    let tokens = &record.tokens;
    let counts = [
        (gen_ai::INPUT_TOKENS, tokens.input_tokens),
        (gen_ai::OUTPUT_TOKENS, tokens.output_tokens),
        (gen_ai::CACHE_READ_TOKENS, tokens.cache_read_tokens),
        (gen_ai::CACHE_WRITE_TOKENS, tokens.cache_write_tokens),
        (gen_ai::REASONING_TOKENS, tokens.reasoning_tokens),
    ];
    attributes.extend(counts.into_iter().filter_map(|(name, count)| Some(number(name, count?))));
    if let Some((host, port)) = &trace.server {
        attributes.push(text(gen_ai::SERVER_ADDRESS, host));
        attributes.push(number(gen_ai::SERVER_PORT, u64::from(*port)));
    }
    attributes.extend(gen_ai::error_type(record).map(|kind| text(gen_ai::ERROR_TYPE, &kind.to_string())));
    attributes
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::time::Instant;

    use super::super::Trace;
    use super::super::otlp::LAST_TIMEOUT;
    use super::*;
    use crate::config::{UpstreamConfig, UpstreamTls};
    use crate::upstream::Transport;

    fn ended() -> EndedSpan {
        let record = serde_json::from_str(include_str!("../../../ez-contract/goldens/usage_record.json")).unwrap();
        EndedSpan { trace: Trace::begin(&mut HeaderMap::new()), operation: None, record }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_goes_at_once_and_another_when_its_time_is_over() {
        let (sender, mut spans) = mpsc::channel(2 * BATCH);
        for span in std::iter::repeat_with(ended).take(BATCH + 3) {
            assert!(sender.try_send(span).is_ok());
        }
        let (started, stop) = (Instant::now(), CancellationToken::new());
        let mut batch = Vec::new();
        gather(&mut spans, &mut batch, &stop).await;
        assert_eq!((batch.len(), started.elapsed()), (BATCH, Duration::ZERO));
        batch.clear();
        gather(&mut spans, &mut batch, &stop).await;
        assert_eq!((batch.len(), started.elapsed() >= INTERVAL), (3, true));
    }

    #[tokio::test]
    async fn a_collector_that_never_answers_holds_up_the_end_for_a_bounded_time() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let _guard = metrics::set_default_local_recorder(&recorder);
        // Connections are made, and nobody reads from them.
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", tcp.local_addr().unwrap()).parse().unwrap();
        let tls = UpstreamTls::new(None).unwrap();
        let transport = Transport::new(&UpstreamConfig { tls, http2: false }, Duration::from_secs(10));
        let collector = Collector { transport, url, node_id: "test".to_owned(), version: "0".to_owned() };
        let (sender, ended) = mpsc::channel(4 * BATCH);
        for span in std::iter::repeat_with(self::ended).take(4 * BATCH) {
            assert!(sender.try_send(span).is_ok());
        }
        let stop = CancellationToken::new();
        let started = Instant::now();
        let ending = async {
            // While the first batch is on its way.
            tokio::time::sleep(Duration::from_millis(100)).await;
            stop.cancel();
        };
        tokio::join!(export_spans(collector, ended, stop.clone()), ending);
        let took = started.elapsed();
        assert!(took < LAST_TIMEOUT + Duration::from_secs(3), "{took:?}");
        let dropped = format!("ez_spans_dropped_total {}", 4 * BATCH);
        assert!(metrics.render().contains(&dropped), "{}", metrics.render());
    }
}
