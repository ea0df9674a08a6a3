//! The simulated LLM vendor as a process of its own.

use std::future::pending;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use ez_testkit::upstream::{Behaviour, Fault, SimUpstream, parse_duration};

/// Simulates OpenAI, Anthropic and Gemini on one port. Steered while running by PUT /_sim/behaviour, POST and DELETE /_sim/rules; watched by
/// GET /_sim/requests and /_sim/stats.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 is any free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The whole behaviour as JSON; the flags below change single fields of it.
    #[arg(long, value_name = "JSON", value_parser = read_json::<Behaviour>)]
    behaviour: Option<Behaviour>,
    /// Output tokens of an answer.
    #[arg(long)]
    tokens: Option<u32>,
    /// Pace of the output tokens; without it as fast as possible.
    #[arg(long)]
    tokens_per_second: Option<f64>,
    /// Time between two tokens, another way to say the pace.
    #[arg(long, value_parser = parse_duration, conflicts_with = "tokens_per_second")]
    gap: Option<Duration>,
    /// Silence before the headers of an answer, such as 20ms.
    #[arg(long, value_parser = parse_duration)]
    latency: Option<Duration>,
    /// Bytes of text of one token.
    #[arg(long)]
    token_bytes: Option<usize>,
    /// Size that plain answers are padded to, in bytes.
    #[arg(long)]
    answer_bytes: Option<usize>,
    /// Put the time of sending into each streamed token.
    #[arg(long)]
    timestamps: bool,
    /// Input tokens reported as read from the cache.
    #[arg(long)]
    cached_tokens: Option<u32>,
    /// Output tokens reported as reasoning.
    #[arg(long)]
    reasoning_tokens: Option<u32>,
    /// The models that exist, separated by commas; without it all do.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// What goes wrong, such as {"kind":"status","status":429}.
    #[arg(long, value_name = "JSON", value_parser = read_json::<Fault>)]
    fault: Option<Fault>,
    /// Don't keep requests for GET /_sim/requests.
    #[arg(long)]
    no_recording: bool,
    /// Threads that serve.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

impl Arguments {
    fn behaviour(&self) -> Behaviour {
        let mut behaviour = self.behaviour.clone().unwrap_or_default();
        let gap_rate = self.gap.filter(|gap| !gap.is_zero()).map(|gap| 1.0 / gap.as_secs_f64());
        behaviour.tokens = self.tokens.unwrap_or(behaviour.tokens);
        behaviour.tokens_per_second = self.tokens_per_second.or(gap_rate).or(behaviour.tokens_per_second);
        behaviour.first_byte_delay = self.latency.unwrap_or(behaviour.first_byte_delay);
        if let Some(bytes) = self.token_bytes {
            behaviour.token_text = "x".repeat(bytes);
        }
        behaviour.answer_bytes = self.answer_bytes.or(behaviour.answer_bytes);
        behaviour.timestamps |= self.timestamps;
        behaviour.cached_tokens = self.cached_tokens.unwrap_or(behaviour.cached_tokens);
        behaviour.reasoning_tokens = self.reasoning_tokens.unwrap_or(behaviour.reasoning_tokens);
        if !self.models.is_empty() {
            behaviour.models.clone_from(&self.models);
        }
        behaviour.fault = self.fault.clone().or(behaviour.fault);
        behaviour
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = if arguments.threads <= 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads).enable_all().build()?
    };
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let started = SimUpstream::start_on(arguments.listen, arguments.behaviour()).await;
    let upstream = started.with_context(|| format!("can't listen on {}", arguments.listen))?;
    upstream.set_recording(!arguments.no_recording);
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {}", upstream.base_url())?;
    stdout.flush()?;
    drop(stdout);
    pending().await
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
