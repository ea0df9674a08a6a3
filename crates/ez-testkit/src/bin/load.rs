//! The load generator as a process of its own; prints its report as one JSON object.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Parser;
use ez_testkit::load::{LoadOptions, run};
use ez_testkit::upstream::parse_duration;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

/// Sends requests to this host as fast as they are answered. Ends by --requests or --duration, whichever comes first.
#[derive(Parser)]
struct Arguments {
    /// http://127.0.0.1:PORT/v1/chat/completions or the like; nothing but the loopback interface is accepted.
    url: String,
    /// Sent as bearer token.
    #[arg(long, default_value = "sk-load")]
    key: String,
    /// A further header, `name: value`; repeatable.
    #[arg(long, value_name = "HEADER", value_parser = read_header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// File with the request body; without it a chat request is made.
    #[arg(long)]
    body: Option<PathBuf>,
    /// Size of the made request's text in bytes.
    #[arg(long, default_value_t = 64)]
    text_bytes: usize,
    /// Model of the made request.
    #[arg(long, default_value = "sim-model")]
    model: String,
    /// Send GET without a body.
    #[arg(long, conflicts_with = "body")]
    get: bool,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests in all.
    #[arg(long)]
    requests: Option<u64>,
    /// How long, such as 10s.
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Requests per second, evenly spaced; without it each connection sends its next when the last is answered.
    #[arg(long)]
    rate: Option<f64>,
    /// How long one request may take.
    #[arg(long, value_parser = parse_duration, default_value = "30s")]
    request_timeout: Duration,
    /// Requests before the measurement.
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
    /// Ask for a stream (in the made request) and measure it.
    #[arg(long)]
    stream: bool,
    /// Fail unless the upstream's stamps arrive (sim-upstream --timestamps).
    #[arg(long, requires = "stream")]
    timestamps: bool,
    /// What a whole answer ends with, such as 'data: [DONE]'.
    #[arg(long)]
    expect_tail: Option<String>,
    /// Process whose CPU time per request and memory are reported; repeatable.
    #[arg(long, value_name = "PID")]
    cpu_of: Vec<u32>,
    /// Threads that send.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

impl Arguments {
    fn options(&self) -> anyhow::Result<LoadOptions> {
        let body = match &self.body {
            _ if self.get => None,
            Some(path) => {
                let bytes = std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))?;
                Some(Bytes::from(bytes))
            }
            None => Some(self.made_body()),
        };
        Ok(LoadOptions {
            url: self.url.clone(),
            bearer: Some(self.key.clone()),
            headers: self.header.iter().cloned().collect::<HeaderMap>(),
            body,
            connections: self.connections,
            requests: self.requests,
            duration: self.duration,
            rate: self.rate,
            request_timeout: self.request_timeout,
            warm_up_requests: self.warm_up,
            stream: self.stream,
            expected_tail: self.expect_tail.clone(),
            cpu_of: self.cpu_of.clone(),
        })
    }

    fn made_body(&self) -> Bytes {
        let text = "x".repeat(self.text_bytes);
        let mut request = json!({"model": self.model, "messages": [{"role": "user", "content": text}]});
        if self.stream {
            request["stream"] = json!(true);
        }
        request.to_string().into()
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = arguments.options()?;
    let runtime = if arguments.threads <= 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads).enable_all().build()?
    };
    let report = runtime.block_on(run(options))?;
    writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&report)?)?;
    anyhow::ensure!(!arguments.timestamps || report.chunks > 0, "no stamps arrived");
    Ok(())
}

fn read_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is `name: value`")?;
    let name = name.trim().parse().map_err(|error| format!("{name:?}: {error}"))?;
    let value = value.trim().parse().map_err(|error| format!("{value:?}: {error}"))?;
    Ok((name, value))
}
