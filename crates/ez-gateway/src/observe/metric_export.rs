//! GenAI metrics over OTLP: all that was counted since the start, again and again, so that a collector that was away misses
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use ez_contract::Clock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::gen_ai::{self, Instrument};
use super::histograms::{Attributes, GenAiMetrics, Histogram, Series};
use super::otlp::{Collector, TheEnd, flag, nanos, text};

const INTERVAL: Duration = Duration::from_secs(10);
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u8 = 2;

/// What is exported, and where to.
pub(crate) struct MetricExporter {
    pub(crate) collector: Collector,
    pub(crate) metrics: Arc<GenAiMetrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Tells what there is until `stop`, and a last time then, within a bound.
pub(crate) async fn export_metrics(exporter: MetricExporter, stop: CancellationToken) {
    let end = TheEnd::after(stop.clone());
    let started_at = nanos(exporter.clock.now());
    let (mut was_failing, mut is_last) = (false, false);
    while !is_last {
        is_last = tokio::select! {
            () = tokio::time::sleep(INTERVAL) => false,
            () = stop.cancelled() => true,
        };
        let series = exporter.metrics.snapshot();
        if series.is_empty() {
            continue;
        }
        let document = exporter.document(&series, &started_at);
        let told = exporter.collector.post(&document, &end).await;
        if let Err(reason) = &told
            && !was_failing
        {
            tracing::warn!(reason, "metrics not taken by EZ_OTLP_ENDPOINT; they are told again");
        }
        was_failing = told.is_err();
    }
}

impl MetricExporter {
    fn document(&self, series: &[(Series, Histogram)], started_at: &str) -> Value {
        let now = nanos(self.clock.now());
        let metric = |instrument: Instrument| {
            let of_it = series.iter().filter(|(series, _)| series.instrument == instrument);
            let points: Vec<Value> =
                of_it.map(|(series, histogram)| point(series, histogram, started_at, &now)).collect();
            (!points.is_empty()).then(|| {
                json!({
                    "name": instrument.name(),
                    "unit": instrument.unit(),
                    "histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": points},
                })
            })
        };
        let metrics: Vec<Value> = Instrument::ALL.into_iter().filter_map(metric).collect();
        json!({"resourceMetrics": [{
            "resource": self.collector.resource(),
            "scopeMetrics": [{"scope": self.collector.scope(), "metrics": metrics}],
        }]})
    }
}

fn point(series: &Series, histogram: &Histogram, started_at: &str, now: &str) -> Value {
    let attributes = series.of.as_ref().map_or_else(|| vec![flag(gen_ai::OVERFLOW, true)], attributes);
    let buckets: Vec<String> = histogram.buckets.iter().map(u64::to_string).collect();
    json!({
        "attributes": attributes,
        "startTimeUnixNano": started_at,
        "timeUnixNano": now,
        "count": histogram.count.to_string(),
        "sum": histogram.sum,
        "bucketCounts": buckets,
        "explicitBounds": series.instrument.bounds(),
    })
}

fn attributes(of: &Attributes) -> Vec<Value> {
    let mut attributes = vec![
        text(gen_ai::OPERATION_NAME, of.operation),
        text(gen_ai::PROVIDER_NAME, of.provider),
        text(gen_ai::REQUEST_MODEL, &of.request_model),
    ];
    attributes.extend(of.response_model.as_deref().map(|model| text(gen_ai::RESPONSE_MODEL, model)));
    attributes.extend(of.error_type.map(|kind| text(gen_ai::ERROR_TYPE, &kind.to_string())));
    attributes.extend(of.token_type.map(|kind| text(gen_ai::TOKEN_TYPE, kind)));
    attributes
}
