//! The figures that are compared over time. Absolute numbers belong to the machine; ratios within one run are what counts.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod calls;
mod figures;
mod idle;
mod ingestion;
mod publication;
mod retention;
mod stage;
mod statistics;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use figures::Figures;
use stage::Stage;

/// Measures ez-api.
#[derive(Debug, Parser)]
struct Args {
    /// The release build of ez-api.
    #[arg(long, value_name = "PATH")]
    ez_api: PathBuf,
    /// The pass-through; by default the one that was built with this bench.
    #[arg(long, value_name = "PATH")]
    pass_through: Option<PathBuf>,
    /// nginx.
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// Measure one part alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Measure only the calls whose title contains this, such as `plain` or `1000 chunks`.
    #[arg(long, default_value = "")]
    case: String,
    /// Seconds per measurement of calls.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Times that each measurement of calls is repeated; the median is told.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A minute per measurement of calls: millions of calls and of rows.
    #[arg(long)]
    large: bool,
    /// Connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Streams that are held open without a byte passing.
    #[arg(long, default_value_t = 5_000)]
    idle_streams: usize,
    /// Child keys of the measurement of publication.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// Log records of the measurement of statistics.
    #[arg(long, default_value_t = 200_000)]
    rows: i64,
    /// Usage records of the measurement of ingestion.
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// Old log records of the measurement of lists and retention.
    #[arg(long, default_value_t = 300_000)]
    old_records: usize,
    /// Write the figures of calls and idle streams to this file too, as JSON.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Calls beside nginx and a pass-through.
    Calls,
    /// Memory of idle streams.
    Idle,
    /// Publication of many keys, and lists of them.
    Publication,
    /// Statistics over many log records, on both databases.
    Statistics,
    /// Usage records into the database.
    Ingestion,
    /// Lists of log records, and ingestion while old ones are dropped.
    Retention,
}

impl Args {
    fn measures(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.large {
        args.seconds = 60;
    }
    if args.measures(Part::Calls) || args.measures(Part::Idle) {
        let mut stage = Stage::start(&args).await?;
        let measured = measure_on(&mut stage, &args).await;
        stage.stop().await?;
        measured?;
    }
    if args.measures(Part::Publication) {
        publication::measure_publication(&args).await?;
    }
    if args.measures(Part::Statistics) {
        statistics::measure_statistics(&args).await?;
    }
    if args.measures(Part::Ingestion) {
        ingestion::measure_ingestion(&args).await?;
    }
    if args.measures(Part::Retention) {
        retention::measure_retention(&args).await?;
    }
    Ok(())
}

async fn measure_on(stage: &mut Stage, args: &Args) -> anyhow::Result<()> {
    let mut figures = Figures::new(args.connections, args.seconds, args.rounds);
    figures.print_title();
    if args.measures(Part::Calls) {
        calls::measure_calls(stage, args, &mut figures).await?;
    }
    if args.measures(Part::Idle) {
        figures.idle = idle::measure_idle(stage, args.idle_streams).await?;
    }
    figures.accounted = stage.account().await?;
    figures.print_accounted();
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)?;
    }
    figures.ensure_accounted()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
