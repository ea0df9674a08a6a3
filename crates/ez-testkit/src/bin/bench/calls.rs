//! Calls: the gateway beside nginx as a plain reverse proxy, in one run, against the same simulated
//! upstream. Absolute numbers belong to the machine; the ratios are what is compared over time.

use std::collections::HashSet;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use ez_testkit::load::{self, LoadOptions, LoadReport};
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use tokio::process::{Child, Command};

use crate::{Args, cores, median};

const PLAIN: &str = r#"{"model":"sim-large","messages":[{"role":"user","content":"A question of ordinary length, so that the body is about as large as a short chat call's usually is, some three hundred bytes with its JSON around it. The answer is simulated, and comes at once."}],"temperature":0.7,"max_tokens":256}"#;
const STREAM: &str = r#"{"model":"sim-large","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Stream."}]}"#;
/// Chunks of a stream.
const STREAM_TOKENS: u32 = 50;
const WARM_UP_REQUESTS: u64 = 500;
/// Pace of the streams whose chunk delay is measured.
const PACED_TOKENS_PER_SECOND: f64 = 100.0;

/// Something that calls can be sent through.
struct Route {
    name: &'static str,
    url: String,
    bearer: String,
    pid: Option<u32>,
}

impl Route {
    /// How many usage records a measurement through here must have left.
    fn accounted(&self, report: Option<&LoadReport>) -> u64 {
        match report {
            Some(report) if self.name == "ez-api" => report.requests + WARM_UP_REQUESTS,
            _ => 0,
        }
    }
}

/// Measures calls and streams, and counts that each left its record.
pub(crate) async fn measure_calls(args: &Args) -> anyhow::Result<()> {
    let upstream = SimUpstream::start(Behaviour::default()).await?;
    upstream.set_recording(false);
    let dir = tempfile::tempdir()?;
    let (nginx, nginx_url) = start_nginx(args, dir.path(), upstream.address().port()).await?;
    // The gateway in a process of its own, so that its cost is not mixed with the control plane's ingestion.
    let sandbox = Sandbox::start(SandboxOptions::new(&args.ez_api, Backends::Apart)).await?;
    let plan = TenantPlan {
        models: vec![("sim-large".to_owned(), "sim-large".to_owned())],
        ..TenantPlan::simple("bench", &upstream.openai_base_url())
    };
    let tenant = Tenant::create(&sandbox, &plan).await?;
    let path = "/v1/chat/completions";
    let routes = [
        Route { name: "direct", url: format!("{}{path}", upstream.base_url()), bearer: "sk-up-1".into(), pid: None },
        Route { name: "nginx", url: format!("{nginx_url}{path}"), bearer: "sk-up-1".into(), pid: nginx.id() },
        Route {
            name: "ez-api",
            url: format!("{}{path}", sandbox.gateway_url()),
            bearer: tenant.token.clone(),
            pid: sandbox.gateway_pid(),
        },
    ];
    println!(
        "{} cores, {} connections, {} s x {} rounds, median",
        cores(),
        args.connections,
        args.seconds,
        args.rounds
    );
    println!("ez-api: authentication, routing and the durable usage log on; nginx: plain reverse proxy, keep-alive\n");

    upstream.set(Behaviour { tokens: 64, ..Behaviour::default() });
    let mut calls = throughput(args, &routes, "plain, 0.3 kB request", PLAIN, None).await?;
    upstream.set(Behaviour { tokens: STREAM_TOKENS, ..Behaviour::default() });
    calls += throughput(args, &routes, "stream, 50 chunks at once", STREAM, Some("data: [DONE]")).await?;
    upstream.set(Behaviour {
        tokens: STREAM_TOKENS,
        tokens_per_second: Some(PACED_TOKENS_PER_SECOND),
        timestamps: true,
        ..Behaviour::default()
    });
    calls += chunk_delay(args, &routes).await?;
    account(&sandbox, calls).await?;

    drop(sandbox);
    stop(nginx).await
}

/// Every call that reached the upstream through the gateway has one record in the database.
async fn account(sandbox: &Sandbox, gateway_calls: u64) -> anyhow::Result<()> {
    let admin = sandbox.admin();
    let mut request_ids = HashSet::new();
    let mut records = 0_u64;
    let mut cursor = String::new();
    // The last batch is under way when the load ends.
    tokio::time::sleep(Duration::from_secs(3)).await;
    loop {
        let page = admin.get(&format!("/admin/logs?limit=200{cursor}")).await?;
        for record in page["items"].as_array().context("a page of log records")? {
            records += 1;
            request_ids.insert(record["request_id"].as_str().unwrap_or_default().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let lost = gateway_calls as i64 - request_ids.len() as i64;
    let doubled = records - request_ids.len() as u64;
    println!(
        "\n{gateway_calls} calls through ez-api, {records} records in the database: {lost} lost, {doubled} doubled"
    );
    ensure!(lost == 0 && doubled == 0, "records were lost or doubled");
    Ok(())
}

/// Requests per second and CPU per request of every route, and the ratios. Tells how many calls went through ez-api.
async fn throughput(
    args: &Args,
    routes: &[Route],
    title: &str,
    body: &'static str,
    tail: Option<&str>,
) -> anyhow::Result<u64> {
    println!("{title}");
    println!("  {:<8} {:>10} {:>14} {:>10} {:>10}", "", "req/s", "CPU us/req", "p50 us", "p99 us");
    let mut medians = Vec::new();
    let mut calls = 0;
    for route in routes {
        let options = options(args, route, body, tail);
        let mut reports = Vec::new();
        for _ in 0..args.rounds {
            reports.push(measure(options.clone()).await?);
            calls += route.accounted(reports.last());
        }
        let rps = median(reports.iter().map(|report| report.rps));
        let cpu =
            median(reports.iter().map(|report| report.processes.first().map_or(0.0, |cost| cost.cpu_us_per_request)));
        let quantile = |pick: fn(&load::Distribution) -> f64| {
            median(reports.iter().filter_map(|report| report.latency_us.as_ref().map(pick)))
        };
        println!(
            "  {:<8} {rps:>10.0} {cpu:>14.1} {:>10.0} {:>10.0}",
            route.name,
            quantile(|d| d.p50),
            quantile(|d| d.p99)
        );
        medians.push((rps, cpu));
    }
    let ((nginx_rps, nginx_cpu), (ez_rps, ez_cpu)) = (medians[1], medians[2]);
    println!(
        "  ez-api / nginx: {:.2} of the requests per second, {:.2} of the CPU per request\n",
        ez_rps / nginx_rps,
        ez_cpu / nginx_cpu
    );
    Ok(calls)
}

/// How much later a chunk arrives than it would without anything in between.
async fn chunk_delay(args: &Args, routes: &[Route]) -> anyhow::Result<u64> {
    println!(
        "stream, {STREAM_TOKENS} chunks at {PACED_TOKENS_PER_SECOND} per second: from upstream's write to client's read"
    );
    println!("  {:<8} {:>10} {:>10}", "", "p50 us", "p99 us");
    let mut medians = Vec::new();
    let mut calls = 0;
    for route in routes {
        let options = LoadOptions { stream: true, ..options(args, route, STREAM, Some("data: [DONE]")) };
        let mut delays = Vec::new();
        for _ in 0..args.rounds {
            let report = measure(options.clone()).await?;
            calls += route.accounted(Some(&report));
            delays.push(report.chunk_delay_us.context("the streams carry stamps")?);
        }
        let p50 = median(delays.iter().map(|delay| delay.p50));
        let p99 = median(delays.iter().map(|delay| delay.p99));
        println!("  {:<8} {p50:>10.0} {p99:>10.0}", route.name);
        medians.push((p50, p99));
    }
    for (index, name) in [(1, "nginx"), (2, "ez-api")] {
        let (p50, p99) = (medians[index].0 - medians[0].0, medians[index].1 - medians[0].1);
        println!("  added by {name}: p50 {p50:.0} us, p99 {p99:.0} us per chunk");
    }
    Ok(calls)
}

fn options(args: &Args, route: &Route, body: &'static str, tail: Option<&str>) -> LoadOptions {
    LoadOptions {
        url: route.url.clone(),
        bearer: Some(route.bearer.clone()),
        headers: http::HeaderMap::new(),
        body: Some(Bytes::from_static(body.as_bytes())),
        connections: args.connections,
        requests: None,
        duration: Some(Duration::from_secs(args.seconds)),
        request_timeout: Duration::from_secs(30),
        warm_up_requests: WARM_UP_REQUESTS,
        stream: false,
        expected_tail: tail.map(str::to_owned),
        cpu_of: route.pid.into_iter().collect(),
    }
}

async fn measure(options: LoadOptions) -> anyhow::Result<LoadReport> {
    let report = load::run(options).await?;
    ensure!(
        report.errors == 0,
        "{} of {} requests failed: {:?} {:?}",
        report.errors,
        report.requests,
        report.statuses,
        report.first_error
    );
    Ok(report)
}

async fn start_nginx(args: &Args, dir: &std::path::Path, upstream_port: u16) -> anyhow::Result<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let here = dir.display();
    let config = format!(
        "worker_processes auto;\npid {here}/nginx.pid;\nerror_log {here}/error.log;\nevents {{ worker_connections 4096; }}\n\
         http {{\n  access_log off;\n  tcp_nodelay on;\n  keepalive_requests 10000000;\n\
         client_body_temp_path {here}/body;\n  proxy_temp_path {here}/proxy;\n  fastcgi_temp_path {here}/fastcgi;\n\
         uwsgi_temp_path {here}/uwsgi;\n  scgi_temp_path {here}/scgi;\n\
         upstream sim {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 10000000; }}\n\
         server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://sim;\n      proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n      proxy_buffering off;\n    }}\n  }}\n}}\n"
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut nginx = Command::new(&args.nginx);
    nginx
        .arg("-c")
        .arg(&path)
        .arg("-p")
        .arg(dir)
        .args(["-g", "daemon off;"])
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let child = nginx.spawn().context("nginx cannot be started: `make bench` installs it where it may")?;
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok((child, format!("http://127.0.0.1:{port}")));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    anyhow::bail!("nginx did not start: {}", std::fs::read_to_string(dir.join("error.log")).unwrap_or_default())
}

/// SIGTERM, so that the master ends its workers.
async fn stop(mut nginx: Child) -> anyhow::Result<()> {
    let pid = nginx.id().context("nginx runs")?;
    Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
    nginx.wait().await?;
    Ok(())
}
