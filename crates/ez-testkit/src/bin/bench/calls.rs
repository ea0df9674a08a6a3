//! Calls: what they cost each route at full and at half load, and what each adds to a chunk of a stream.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use ez_testkit::load::{self, LoadOptions, LoadReport, forget_peak, process_usage};
use ez_testkit::upstream::Behaviour;
use serde_json::json;

use crate::figures::{CaseFigures, ChunkFigures, Figures, RouteChunkFigures, RouteFigures};
use crate::stage::{Route, Stage, Via};
use crate::{Args, median};

/// A body's usual sizes: a short question, an agent's first message, a long context.
const SMALL_BYTES: usize = 300;
const MIDDLE_BYTES: usize = 20_000;
const LARGE_BYTES: usize = 200_000;
/// Tokens of a plain answer, about 600 bytes.
const PLAIN_TOKENS: u32 = 64;
const WARM_UP_REQUESTS: u64 = 300;
const STREAM_END: &str = "data: [DONE]";

/// One kind of call.
struct Case {
    request_bytes: usize,
    /// Chunks of the streamed answer; `None` for a plain answer.
    chunks: Option<u32>,
}

const CASES: &[Case] = &[
    Case { request_bytes: SMALL_BYTES, chunks: None },
    Case { request_bytes: MIDDLE_BYTES, chunks: None },
    Case { request_bytes: LARGE_BYTES, chunks: None },
    Case { request_bytes: SMALL_BYTES, chunks: Some(50) },
    Case { request_bytes: MIDDLE_BYTES, chunks: Some(50) },
    Case { request_bytes: LARGE_BYTES, chunks: Some(50) },
    Case { request_bytes: SMALL_BYTES, chunks: Some(1_000) },
];

/// Streams whose chunks come one by one, as from a model.
struct Pace {
    chunks: u32,
    chunks_per_second: f64,
    connections: usize,
}

const PACES: &[Pace] = &[
    Pace { chunks: 50, chunks_per_second: 100.0, connections: 32 },
    Pace { chunks: 1_000, chunks_per_second: 500.0, connections: 8 },
];

impl Case {
    fn title(&self) -> String {
        let kib = self.request_bytes as f64 / 1e3;
        match self.chunks {
            None => format!("plain, {kib} kB request"),
            Some(chunks) => format!("stream, {kib} kB request, {chunks} chunks at once"),
        }
    }

    fn behaviour(&self) -> Behaviour {
        Behaviour { tokens: self.chunks.unwrap_or(PLAIN_TOKENS), ..Behaviour::default() }
    }

    fn options(&self, args: &Args, route: &Route) -> LoadOptions {
        LoadOptions {
            url: route.url.clone(),
            bearer: Some(route.bearer.clone()),
            headers: http::HeaderMap::new(),
            body: Some(request(self.request_bytes, self.chunks.is_some())),
            connections: args.connections,
            requests: None,
            duration: Some(Duration::from_secs(args.seconds)),
            rate: None,
            request_timeout: Duration::from_secs(30),
            warm_up_requests: WARM_UP_REQUESTS,
            stream: false,
            expected_tail: self.chunks.map(|_| STREAM_END.to_owned()),
            cpu_of: Vec::new(),
        }
    }
}

/// A chat request of about this size.
fn request(bytes: usize, stream: bool) -> Bytes {
    let question = "A question of ordinary length, whose answer is simulated and comes at once. ";
    let made = |text: &str| {
        let mut request = json!({
            "model": "sim-large", "messages": [{"role": "user", "content": text}], "temperature": 0.7, "max_tokens": 256,
        });
        if stream {
            request["stream"] = json!(true);
            request["stream_options"] = json!({"include_usage": true});
        }
        request.to_string()
    };
    let text_bytes = bytes.saturating_sub(made("").len());
    let mut text = question.repeat(text_bytes.div_ceil(question.len()));
    text.truncate(text_bytes);
    made(&text).into()
}

/// Measures every kind of call over every route.
pub(crate) async fn measure_calls(stage: &mut Stage, args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    for case in CASES.iter().filter(|case| case.title().contains(&args.case)) {
        let measured = measure_case(stage, args, case).await.with_context(|| case.title())?;
        measured.print();
        figures.cases.push(measured);
    }
    for pace in PACES {
        let Pace { chunks, chunks_per_second, connections } = pace;
        let title = format!("{connections} streams, {chunks} chunks at {chunks_per_second} per second");
        if title.contains(&args.case) {
            let measured = measure_chunks(stage, args, pace, title).await?;
            measured.print();
            figures.chunks.push(measured);
        }
    }
    Ok(())
}

async fn measure_case(stage: &mut Stage, args: &Args, case: &Case) -> anyhow::Result<CaseFigures> {
    stage.upstream.set(case.behaviour());
    for route in &stage.routes {
        if let Some(pid) = route.pid {
            // Where the kernel does not let it, the peak is that since the start.
            let _ = forget_peak(pid);
        }
    }
    let full_load = measure_rounds(stage, args.rounds, |route| case.options(args, route)).await?;
    let half_load_rps = full_load.last().map(|measured| rps(measured)).unwrap_or_default() / 2.0;
    let half_load =
        measure_rounds(stage, 1, |route| LoadOptions { rate: Some(half_load_rps), ..case.options(args, route) });
    let half_load = half_load.await?;
    let measured = stage.routes.iter().zip(full_load.iter().zip(&half_load));
    let routes = measured.map(|(route, (full, half))| RouteFigures {
        via: route.via.name(),
        requests_per_second: rps(full),
        cpu_us_per_request: cpu(full),
        half_load_cpu_us_per_request: cpu(half),
        half_load_p50_us: quantile(half, |latency| latency.p50),
        half_load_p99_us: quantile(half, |latency| latency.p99),
        peak_rss_mib: median(half.iter().map(|measured| measured.peak_rss_mib)),
    });
    Ok(CaseFigures { title: case.title(), half_load_rps, routes: routes.collect() })
}

/// How much later a chunk arrives than it would without anything in between.
async fn measure_chunks(stage: &mut Stage, args: &Args, pace: &Pace, title: String) -> anyhow::Result<ChunkFigures> {
    stage.upstream.set(Behaviour {
        tokens: pace.chunks,
        tokens_per_second: Some(pace.chunks_per_second),
        timestamps: true,
        ..Behaviour::default()
    });
    let case = Case { request_bytes: SMALL_BYTES, chunks: Some(pace.chunks) };
    let seconds = f64::from(pace.chunks) / pace.chunks_per_second;
    let streams_each = (args.seconds as f64 / seconds).ceil().max(1.0);
    let options = |route: &Route| LoadOptions {
        stream: true,
        connections: pace.connections,
        requests: Some(pace.connections as u64 * streams_each as u64),
        duration: None,
        warm_up_requests: 0,
        ..case.options(args, route)
    };
    let measured = measure_rounds(stage, 1, options).await?;
    let mut routes = Vec::new();
    for (route, measured) in stage.routes.iter().zip(&measured) {
        let report = &measured.first().context("it was measured")?.report;
        let delay = report.chunk_delay_us.context("the streams carry stamps")?;
        routes.push(RouteChunkFigures {
            via: route.via.name(),
            delay_p50_us: delay.p50,
            delay_p99_us: delay.p99,
            cpu_us_per_chunk: cpu(measured) / f64::from(pace.chunks),
        });
    }
    Ok(ChunkFigures { title, routes })
}

/// What one load through one route has shown.
struct Measured {
    report: LoadReport,
    /// Microseconds of the process in between, for each request.
    cpu_us_per_request: f64,
    /// Of the process in between.
    peak_rss_mib: f64,
}

/// Measures every route once a round, so that what disturbs the machine for a while disturbs all of them. What a process
/// does for its calls after their end, such as handing on their records, counts as their cost.
async fn measure_rounds(
    stage: &mut Stage,
    rounds: usize,
    options: impl Fn(&Route) -> LoadOptions,
) -> anyhow::Result<Vec<Vec<Measured>>> {
    let mut measured: Vec<Vec<Measured>> = stage.routes.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (index, measured) in measured.iter_mut().enumerate() {
            let route = &stage.routes[index];
            let (via, pid, options) = (route.via, route.pid, options(route));
            let warm_up_requests = options.warm_up_requests;
            let before = pid.map(process_usage).transpose()?;
            let report = load::run(options).await?;
            let requests = report.requests + warm_up_requests;
            stage.note_calls(via, requests);
            ensure!(
                report.errors == 0,
                "{} of {} requests through {} failed: {:?} {:?}",
                report.errors,
                report.requests,
                via.name(),
                report.statuses,
                report.first_error
            );
            if via == Via::Gateway {
                stage.settle().await?;
            }
            let after = pid.map(process_usage).transpose()?;
            let (cpu_time, peak_rss_kib) = match before.zip(after) {
                Some((before, after)) => (after.cpu_time.saturating_sub(before.cpu_time), after.peak_rss_kib),
                None => (Duration::ZERO, 0),
            };
            measured.push(Measured {
                report,
                cpu_us_per_request: cpu_time.as_secs_f64() * 1e6 / requests as f64,
                peak_rss_mib: peak_rss_kib as f64 / 1024.0,
            });
        }
    }
    Ok(measured)
}

/// Microseconds per request of the process in between.
fn cpu(measured: &[Measured]) -> f64 {
    median(measured.iter().map(|measured| measured.cpu_us_per_request))
}

fn rps(measured: &[Measured]) -> f64 {
    median(measured.iter().map(|measured| measured.report.rps))
}

fn quantile(measured: &[Measured], pick: fn(&load::Distribution) -> f64) -> f64 {
    median(measured.iter().filter_map(|measured| measured.report.latency_us.as_ref().map(pick)))
}
