//! What was measured: printed for people, and kept as JSON for comparisons.

use anyhow::ensure;
use serde::Serialize;

use crate::stage::Via;

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    cores: usize,
    connections: usize,
    seconds: u64,
    rounds: usize,
    pub(crate) cases: Vec<CaseFigures>,
    pub(crate) chunks: Vec<ChunkFigures>,
    pub(crate) idle: Vec<IdleFigures>,
    pub(crate) accounted: Accounted,
}

/// One kind of call, over every route.
#[derive(Debug, Serialize)]
pub(crate) struct CaseFigures {
    pub(crate) title: String,
    /// Requests per second of the measurements at half load: half of what the gateway answers at most.
    pub(crate) half_load_rps: f64,
    pub(crate) routes: Vec<RouteFigures>,
}

/// One kind of call over one route; medians over the rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RouteFigures {
    pub(crate) via: &'static str,
    pub(crate) requests_per_second: f64,
    /// Of the process in between.
    pub(crate) cpu_us_per_request: f64,
    pub(crate) half_load_cpu_us_per_request: f64,
    pub(crate) half_load_p50_us: f64,
    pub(crate) half_load_p99_us: f64,
    pub(crate) peak_rss_mib: f64,
}

/// Streams at a pace, over every route.
#[derive(Debug, Serialize)]
pub(crate) struct ChunkFigures {
    pub(crate) title: String,
    pub(crate) routes: Vec<RouteChunkFigures>,
}

/// Streams at a pace over one route; medians over the rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RouteChunkFigures {
    pub(crate) via: &'static str,
    /// From the upstream's write to the client's read.
    pub(crate) delay_p50_us: f64,
    pub(crate) delay_p99_us: f64,
    /// Of the process in between.
    pub(crate) cpu_us_per_chunk: f64,
}

/// What idle streams cost one route.
#[derive(Debug, Serialize)]
pub(crate) struct IdleFigures {
    pub(crate) via: &'static str,
    pub(crate) streams: usize,
    pub(crate) bytes_per_stream: f64,
    /// Resident memory before, with, and after them.
    pub(crate) rss_mib: [f64; 3],
}

/// Calls through the gateway, and their records in the database.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Accounted {
    pub(crate) calls: u64,
    pub(crate) records: u64,
    pub(crate) lost: i64,
    pub(crate) doubled: u64,
}

impl Figures {
    pub(crate) fn new(connections: usize, seconds: u64, rounds: usize) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            connections,
            seconds,
            rounds,
            cases: Vec::new(),
            chunks: Vec::new(),
            idle: Vec::new(),
            accounted: Accounted::default(),
        }
    }

    pub(crate) fn print_title(&self) {
        let Self { cores, connections, seconds, rounds, .. } = self;
        println!("{cores} cores, {connections} connections, {seconds} s x {rounds} rounds, median");
        println!("ez-api: authentication, limits, routing and the durable usage log on");
        println!("hyper: the least that a proxy written with hyper does; nginx: plain reverse proxy, keep-alive");
        println!(
            "load and upstream share the cores with what they measure: compare CPU rather than requests per second"
        );
    }

    pub(crate) fn print_accounted(&self) {
        let Accounted { calls, records, lost, doubled } = self.accounted;
        println!("\n{calls} calls through ez-api, {records} records in the database: {lost} lost, {doubled} doubled");
    }

    pub(crate) fn ensure_accounted(&self) -> anyhow::Result<()> {
        ensure!(self.accounted.lost == 0 && self.accounted.doubled == 0, "records were lost or doubled");
        Ok(())
    }
}

impl CaseFigures {
    pub(crate) fn print(&self) {
        println!("\n{}; half load is {:.0} req/s", self.title, self.half_load_rps);
        println!(
            "  {:<7} {:>9} {:>11} {:>12} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "req/s", "CPU us/req", "at half load", "p50 us", "p99 us", "added p50", "added p99", "peak MiB"
        );
        let Some(direct) = self.routes.first() else { return };
        for route in &self.routes {
            println!(
                "  {:<7} {:>9.0} {:>11.1} {:>12.1} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>9.1}",
                route.via,
                route.requests_per_second,
                route.cpu_us_per_request,
                route.half_load_cpu_us_per_request,
                route.half_load_p50_us,
                route.half_load_p99_us,
                route.half_load_p50_us - direct.half_load_p50_us,
                route.half_load_p99_us - direct.half_load_p99_us,
                route.peak_rss_mib,
            );
        }
        print_ratios("CPU per request", self.routes.iter().map(|route| (route.via, route.cpu_us_per_request)));
        let at_half_load = self.routes.iter().map(|route| (route.via, route.half_load_cpu_us_per_request));
        print_ratios("CPU per request at half load", at_half_load);
    }
}

impl ChunkFigures {
    pub(crate) fn print(&self) {
        println!("\n{}: from the upstream's write to the client's read", self.title);
        println!(
            "  {:<7} {:>9} {:>9} {:>9} {:>9} {:>13}",
            "", "p50 us", "p99 us", "added p50", "added p99", "CPU us/chunk"
        );
        let Some(direct) = self.routes.first() else { return };
        for route in &self.routes {
            println!(
                "  {:<7} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>13.2}",
                route.via,
                route.delay_p50_us,
                route.delay_p99_us,
                route.delay_p50_us - direct.delay_p50_us,
                route.delay_p99_us - direct.delay_p99_us,
                route.cpu_us_per_chunk,
            );
        }
        print_ratios("CPU per chunk", self.routes.iter().map(|route| (route.via, route.cpu_us_per_chunk)));
    }
}

impl IdleFigures {
    pub(crate) fn print_heading(streams: usize) {
        println!("\n{streams} idle streams: resident memory of the process in between");
        println!("  {:<7} {:>13} {:>11} {:>11} {:>11}", "", "bytes/stream", "before MiB", "with MiB", "after MiB");
    }

    pub(crate) fn print(&self) {
        let [before, with, after] = self.rss_mib;
        println!("  {:<7} {:>13.0} {before:>11.1} {with:>11.1} {after:>11.1}", self.via, self.bytes_per_stream);
    }
}

/// What the gateway costs in relation to the others.
fn print_ratios(what: &str, values: impl Iterator<Item = (&'static str, f64)>) {
    let values: Vec<_> = values.collect();
    let of = |via: Via| values.iter().find(|(name, _)| *name == via.name()).map_or(0.0, |(_, value)| *value);
    let gateway = of(Via::Gateway);
    let (hyper, nginx) = (of(Via::PassThrough), of(Via::Nginx));
    println!("  {what}: ez-api / hyper {:.2}, ez-api / nginx {:.2}", gateway / hyper, gateway / nginx);
}
