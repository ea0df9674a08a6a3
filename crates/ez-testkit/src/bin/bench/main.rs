//! The figures that are compared over time. Absolute numbers belong to the machine; ratios within one run are what counts.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod calls;
mod publication;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures ez-api.
#[derive(Debug, Parser)]
struct Args {
    /// The release build of ez-api.
    #[arg(long, value_name = "PATH")]
    ez_api: PathBuf,
    /// nginx.
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// Measure one part alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Seconds per measurement of calls.
    #[arg(long, default_value_t = 5)]
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
    /// Child keys of the measurement of publication.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Calls beside nginx.
    Calls,
    /// Publication of many keys, and lists of them.
    Publication,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.large {
        args.seconds = 60;
    }
    if args.only != Some(Part::Publication) {
        calls::measure_calls(&args).await?;
    }
    if args.only != Some(Part::Calls) {
        publication::measure_publication(&args).await?;
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
