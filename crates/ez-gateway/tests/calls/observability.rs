//! What a call leaves behind besides its record: metrics, a line of the access log, a span.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ez_gateway::LentBody;
use ez_gateway::listener::{self, Bounds, Drain};
use ez_testkit::upstream::{Behaviour, Fault, Rule};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::TestGateway;

const PLAIN: &str = r#"{"model":"alias","messages":[{"role":"user","content":"hi"}]}"#;
const STREAM: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Everything runs on the test's own thread, so a recorder of that thread sees all of it and nothing else.
#[tokio::test]
async fn calls_are_counted_and_timed_by_protocol_operation_and_outcome() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let gateway = TestGateway::start().await;
    gateway.upstream.set(Behaviour { tokens: 16, tokens_per_second: Some(200.0), ..Behaviour::default() });
    for body in [STREAM, STREAM, PLAIN] {
        assert_eq!(gateway.chat(body).await.status, StatusCode::OK);
    }
    gateway.upstream.rule(Rule::any(Behaviour::status(503)));
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gateway.chat(PLAIN.replace("alias", "unknown")).await.status, StatusCode::NOT_FOUND);
    let mut stranger = gateway.request("/v1/chat/completions", PLAIN);
    stranger.headers_mut().insert("authorization", "Bearer sk-ez-nobody".parse().unwrap());
    assert_eq!(gateway.call(stranger).await.status, StatusCode::UNAUTHORIZED);
    let records = gateway.finish().await;
    assert_eq!(records.len(), 5);
    let output_tokens: u64 = records.iter().filter_map(|record| record.tokens.output_tokens).sum();

    let text = metrics.render();
    let labels = r#"protocol="openai-chat",operation="chat""#;
    for line in [
        r#"ez_gateway_calls_total{protocol="openai-chat",status="2xx"} 3"#.to_owned(),
        r#"ez_gateway_calls_total{protocol="openai-chat",status="4xx"} 2"#.to_owned(),
        r#"ez_gateway_calls_total{protocol="openai-chat",status="5xx"} 1"#.to_owned(),
        format!(r#"ez_gateway_requests_total{{{labels},status="2xx",ended_by="complete"}} 3"#),
        format!(r#"ez_gateway_requests_total{{{labels},status="5xx",ended_by="upstream"}} 1"#),
        format!(r#"ez_gateway_requests_total{{{labels},status="4xx",ended_by="gateway"}} 1"#),
        format!(r#"ez_gateway_tokens_total{{{labels},direction="output"}} {output_tokens}"#),
        format!(r#"ez_gateway_call_duration_seconds_count{{{labels}}} 4"#),
        format!(r#"ez_gateway_first_byte_seconds_count{{{labels}}} 3"#),
        format!(r#"ez_gateway_output_token_seconds_count{{{labels}}} 2"#),
        "ez_gateway_in_flight 0".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    // 200 tokens a second take 5 ms each.
    let sum =
        text.lines().find_map(|line| line.strip_prefix(&format!("ez_gateway_output_token_seconds_sum{{{labels}}} ")));
    let seconds: f64 = sum.unwrap().parse().unwrap();
    assert!((0.006..0.1).contains(&seconds), "two streams at 5 ms a token: {seconds}");
    assert!(!text.contains("sk-") && !text.contains("sim#"), "no key and no account in {text}");
}

#[tokio::test]
async fn every_attempt_is_counted_with_how_it_ended() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let gateway = TestGateway::start().await;
    let page = |status| {
        let html = Some("<html>of a proxy</html>".to_owned());
        Behaviour::failing(Fault::Status { status, retry_after: None, code: None, message: None, html })
    };
    for (behaviour, status) in [
        (page(400), StatusCode::BAD_REQUEST),
        (Behaviour::status(400), StatusCode::BAD_REQUEST),
        (Behaviour::status(503), StatusCode::SERVICE_UNAVAILABLE),
        (Behaviour::default(), StatusCode::OK),
    ] {
        gateway.upstream.rule(Rule::any(behaviour).times(1));
        assert_eq!(gateway.chat(PLAIN).await.status, status);
    }
    gateway.finish().await;
    let text = metrics.render();
    for (outcome, attempts) in [("refused", 1), ("failed", 1), ("delivered", 2)] {
        let line = format!(r#"ez_gateway_attempts_total{{provider_type="openai",outcome="{outcome}"}} {attempts}"#);
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_call_leaves_one_access_line_where_that_is_wanted() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    for (access_log, expected) in [(false, 0), (true, 2)] {
        lines.0.lock().unwrap().clear();
        let gateway = TestGateway::start_with(|config| config.access_log = access_log).await;
        let answer = gateway.chat(PLAIN).await;
        let request_id = answer.header("x-request-id").unwrap().to_owned();
        gateway.chat(PLAIN.replace("alias", "unknown")).await;
        let records = gateway.finish().await;
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let logged: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let access: Vec<&Value> = logged.iter().filter(|line| line["target"] == "ez_access").collect();
        assert_eq!(access.len(), expected, "{text}");
        let Some(line) = access.first() else { continue };
        let record = records.iter().find(|record| record.request_id == request_id).unwrap();
        for (field, value) in [
            ("request_id", json!(request_id)),
            ("level", json!("INFO")),
            ("master_id", json!(record.master_id)),
            ("key_id", json!(record.key_id)),
            ("model", json!("alias")),
            ("upstream_model", json!("up-model")),
            ("provider_type", json!("openai")),
            ("status", json!(200)),
            ("ended_by", json!("complete")),
            ("latency_ms", json!(record.latency_ms)),
            ("first_byte_ms", json!(record.first_byte_ms)),
            ("input_tokens", json!(record.tokens.input_tokens)),
            ("output_tokens", json!(record.tokens.output_tokens)),
        ] {
            assert_eq!(line[field], value, "{field} in {line}");
        }
    }
}

/// A collector that keeps what it is sent.
struct Collector {
    url: String,
    /// Each with the path that it came to.
    documents: Arc<Mutex<Vec<(String, Value)>>>,
    serving: TaskTracker,
    stop: CancellationToken,
}

impl Collector {
    async fn start() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", tcp.local_addr().unwrap());
        let documents: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (serving, stop) = (TaskTracker::new(), CancellationToken::new());
        let drain = Drain { stop: stop.clone(), cut_off: CancellationToken::new(), timeout: Duration::from_secs(1) };
        let kept = documents.clone();
        let answer = move |_: SocketAddr, request: Request<LentBody>| {
            let kept = kept.clone();
            async move {
                assert_eq!(request.headers()["content-type"], "application/json");
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                kept.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
                Response::new(Full::new(Bytes::from_static(b"{}")))
            }
        };
        let bounds = Bounds { name: "collector", max_connections: 10 };
        serving.spawn(listener::serve(tcp, answer, bounds, drain));
        Self { url, documents, serving, stop }
    }

    /// Where a signal goes.
    fn signal(&self, path: &str) -> http::Uri {
        format!("{}{path}", self.url).parse().unwrap()
    }

    /// The documents that came to `path`, and no other did.
    async fn finish(self, path: &str) -> Vec<Value> {
        self.stop.cancel();
        self.serving.close();
        self.serving.wait().await;
        let documents = std::mem::take(&mut *self.documents.lock().unwrap());
        let of_path = |(came_to, document): (String, Value)| {
            assert_eq!(came_to, path);
            document
        };
        documents.into_iter().map(of_path).collect()
    }

    async fn finish_with_spans(self) -> Vec<Value> {
        let spans =
            |document: &Value| document["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
        self.finish("/v1/traces").await.iter().flat_map(spans).collect()
    }
}

/// Names and values of a span's attributes.
fn attributes(span: &Value) -> Vec<(&str, &Value)> {
    let listed = span["attributes"].as_array().unwrap().iter();
    listed.map(|attribute| (attribute["key"].as_str().unwrap(), any_value(&attribute["value"]))).collect()
}

/// What an attribute says, whatever its type.
fn any_value(value: &Value) -> &Value {
    value.as_object().unwrap().values().next().unwrap()
}

#[tokio::test]
async fn a_call_is_one_span_between_the_clients_and_the_upstreams() {
    let collector = Collector::start().await;
    let url = collector.signal("/v1/traces");
    let gateway = TestGateway::start_with(|config| config.otlp_traces = Some(url)).await;
    let traced = |body: &'static str, parent: &str| {
        let mut request = gateway.request("/v1/chat/completions", body);
        request.headers_mut().insert("traceparent", parent.parse().unwrap());
        request
    };
    gateway.call(traced(PLAIN, PARENT)).await;
    gateway.call(traced(STREAM, &PARENT.replace("-01", "-00"))).await;
    gateway.upstream.rule(Rule::any(Behaviour::status(503)));
    gateway.chat(PLAIN).await;
    let told: Vec<String> =
        gateway.upstream.requests().iter().map(|sent| sent.header("traceparent").unwrap().to_owned()).collect();
    let upstream_port = gateway.upstream.address().port();
    let records = gateway.finish().await;
    let spans = collector.finish_with_spans().await;
    assert_eq!(spans.len(), 2, "the client did not want the second one: {spans:#?}");

    let span = &spans[0];
    assert_eq!(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(span["parentSpanId"], "b7ad6b7169203331");
    let own = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", span["spanId"].as_str().unwrap());
    assert_eq!(told[0], own, "the upstream hears of the call's own span");
    assert!(told[1].ends_with("-00") && told[1] != PARENT.replace("-01", "-00"), "{}", told[1]);
    assert_eq!(span["name"], "chat alias");
    let attributes_of_first = attributes(span);
    let record = records.iter().find(|record| !record.stream && record.status == 200).unwrap();
    for (key, value) in [
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("openai")),
        ("gen_ai.request.model", json!("alias")),
        ("gen_ai.response.model", json!("up-model")),
        ("gen_ai.usage.input_tokens", json!(record.tokens.input_tokens.unwrap().to_string())),
        ("gen_ai.usage.output_tokens", json!(record.tokens.output_tokens.unwrap().to_string())),
        ("server.address", json!("127.0.0.1")),
        ("server.port", json!(upstream_port.to_string())),
        ("http.response.status_code", json!("200")),
    ] {
        assert!(attributes_of_first.contains(&(key, &value)), "{key}={value} in {attributes_of_first:?}");
    }
    let nanos = |field: &str| span[field].as_str().unwrap().parse::<i64>().unwrap();
    assert_eq!(nanos("endTimeUnixNano") - nanos("startTimeUnixNano"), record.latency_ms as i64 * 1_000_000);

    let failed = &spans[1];
    assert_eq!((&failed["status"]["code"], failed.get("parentSpanId")), (&json!(2), None));
    assert!(attributes(failed).contains(&("error.type", &json!("503"))), "{failed}");
    assert_ne!(failed["traceId"], span["traceId"]);
}

#[tokio::test]
async fn spans_tell_of_streams_caches_and_calls_that_no_provider_had() {
    let collector = Collector::start().await;
    let url = collector.signal("/v1/traces");
    let gateway = TestGateway::start_with(|config| config.otlp_traces = Some(url)).await;
    gateway.upstream.set(Behaviour { cached_tokens: 1, reasoning_tokens: 3, ..Behaviour::default() });
    let usage = STREAM.replace("\"stream\":true", "\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    gateway.chat(usage).await;
    gateway.chat(PLAIN.replace("alias", "unknown")).await;
    let records = gateway.finish().await;
    let spans = collector.finish_with_spans().await;
    let streamed = attributes(&spans[0]);
    let record = records.iter().find(|record| record.stream).unwrap();
    for (key, value) in [
        ("gen_ai.request.stream", json!(true)),
        ("gen_ai.response.time_to_first_chunk", json!(record.first_byte_ms.unwrap() as f64 / 1_000.0)),
        ("gen_ai.usage.cache_read.input_tokens", json!("1")),
        ("gen_ai.usage.reasoning.output_tokens", json!("3")),
    ] {
        assert!(streamed.contains(&(key, &value)), "{key}={value} in {streamed:?}");
    }
    let refused = attributes(&spans[1]);
    assert!(refused.contains(&("gen_ai.provider.name", &json!("ez-api"))), "{refused:?}");
    assert!(!refused.iter().any(|(key, _)| ["gen_ai.request.stream", "server.address"].contains(key)), "{refused:?}");
}

/// The data points of a metric, with their attributes sorted by name.
fn points<'d>(document: &'d Value, name: &str) -> Vec<(Vec<(&'d str, &'d Value)>, &'d Value)> {
    let metrics = document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let metric =
        metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("{name} in {document:#}"));
    assert_eq!(metric["histogram"]["aggregationTemporality"], 2);
    let points = metric["histogram"]["dataPoints"].as_array().unwrap().iter();
    points
        .map(|point| {
            let buckets = point["bucketCounts"].as_array().unwrap();
            assert_eq!(buckets.len(), point["explicitBounds"].as_array().unwrap().len() + 1);
            let counted: u64 = buckets.iter().map(|bucket| bucket.as_str().unwrap().parse::<u64>().unwrap()).sum();
            assert_eq!(point["count"], counted.to_string());
            let mut attributes = attributes(point);
            attributes.sort_by_key(|(name, _)| *name);
            (attributes, point)
        })
        .collect()
}

#[tokio::test]
async fn gen_ai_metrics_go_to_a_collector_where_that_is_wanted() {
    let collector = Collector::start().await;
    let url = collector.signal("/v1/metrics");
    let gateway = TestGateway::start_with(|config| config.otlp_metrics = Some(url)).await;
    for body in [PLAIN, PLAIN, STREAM] {
        assert_eq!(gateway.chat(body).await.status, StatusCode::OK);
    }
    assert_eq!(gateway.chat(PLAIN.replace("alias", "unknown")).await.status, StatusCode::NOT_FOUND);
    gateway.upstream.rule(Rule::any(Behaviour::status(503)));
    assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let records = gateway.finish().await;
    let documents = collector.finish("/v1/metrics").await;
    let document = documents.last().expect("what was counted is told at the end");
    let instance = attributes(&document["resourceMetrics"][0]["resource"]);
    assert!(instance.contains(&("service.instance.id", &json!("test"))), "{instance:?}");

    let (chat, openai, alias) = (json!("chat"), json!("openai"), json!("alias"));
    let (m, upstream_model, failure) = (json!("m"), json!("up-model"), json!("503"));
    let durations = points(document, "gen_ai.server.request.duration");
    let shown: Vec<(Vec<(&str, &Value)>, &Value)> =
        durations.iter().map(|(attributes, point)| (attributes.clone(), &point["count"])).collect();
    let of = |model, response| {
        vec![
            ("gen_ai.operation.name", &chat),
            ("gen_ai.provider.name", &openai),
            ("gen_ai.request.model", model),
            ("gen_ai.response.model", response),
        ]
    };
    let (once, twice) = (json!("1"), json!("2"));
    let mut failed = of(&alias, &upstream_model);
    failed.insert(0, ("error.type", &failure));
    let expected = [(of(&alias, &upstream_model), &twice), (failed, &once), (of(&m, &m), &once)];
    assert_eq!(shown, expected, "no series of a model that there is not");

    let exact = |direction: fn(&ez_contract::UsageRecord) -> Option<u64>| {
        let successes = records.iter().filter(|record| record.status == 200);
        successes.filter_map(direction).sum::<u64>() as f64
    };
    let tokens = points(document, "gen_ai.client.token.usage");
    for (kind, total) in
        [("input", exact(|record| record.tokens.input_tokens)), ("output", exact(|record| record.tokens.output_tokens))]
    {
        let of_kind = tokens.iter().filter(|(attributes, _)| attributes.contains(&("gen_ai.token.type", &json!(kind))));
        assert_eq!(of_kind.map(|(_, point)| point["sum"].as_f64().unwrap()).sum::<f64>(), total, "{kind}");
    }
    for streamed in ["gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"] {
        let points = points(document, streamed);
        assert_eq!(points.len(), 1, "{streamed} is of streams");
        assert_eq!((&points[0].0, &points[0].1["count"]), (&of(&m, &m), &once));
    }
}

#[tokio::test]
async fn without_an_exporter_the_clients_context_passes_as_it_came() {
    let gateway = TestGateway::start().await;
    let mut request = gateway.request("/v1/chat/completions", PLAIN);
    request.headers_mut().insert("traceparent", PARENT.parse().unwrap());
    assert_eq!(gateway.call(request).await.status, StatusCode::OK);
    gateway.chat(PLAIN).await;
    let told: Vec<Option<String>> =
        gateway.upstream.requests().iter().map(|sent| sent.header("traceparent").map(str::to_owned)).collect();
    assert_eq!(told, [Some(PARENT.to_owned()), None]);
    gateway.finish().await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_no_call() {
    let gateway = TestGateway::start_with(|config| {
        config.otlp_traces = Some("http://127.0.0.1:1/v1/traces".parse().unwrap());
    })
    .await;
    for _ in 0..20 {
        assert_eq!(gateway.chat(PLAIN).await.status, StatusCode::OK);
    }
    assert_eq!(gateway.finish().await.len(), 20);
}
