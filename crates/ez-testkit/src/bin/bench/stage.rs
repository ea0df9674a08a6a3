//! The stage of a measurement: one simulated upstream, and what stands before it, each in a process of its own: nothing,
//! nginx, a minimal pass-through, the gateway.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use ez_testkit::load::process_usage;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Args;
use crate::figures::Accounted;

const CHAT: &str = "/v1/chat/completions";
/// One API key of the upstream, which the routes without a gateway send themselves.
const UPSTREAM_SECRET: &str = "sk-up-1";
/// For the last records to reach the database.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(60);
/// For the planes to hand on and take in the records of a measurement.
const SETTLE_PATIENCE: Duration = Duration::from_secs(120);
/// A plane that uses less of a core than this, over `SETTLE_WINDOW`, has nothing left to do.
const IDLE_SHARE: f64 = 0.1;
/// Longer than the pause in which the gateway lets a batch of records gather.
const SETTLE_WINDOW: Duration = Duration::from_millis(500);

/// What is measured, running.
pub(crate) struct Stage {
    pub(crate) upstream: SimUpstream,
    pub(crate) routes: [Route; 4],
    sandbox: Sandbox,
    nginx: Child,
    _pass_through: Child,
    _dir: TempDir,
    /// Calls that were sent through the gateway so far.
    gateway_calls: u64,
}

/// Something that calls can be sent through.
pub(crate) struct Route {
    pub(crate) via: Via,
    /// Of chat completions.
    pub(crate) url: String,
    pub(crate) bearer: String,
    /// The process in between; `None` where there is none.
    pub(crate) pid: Option<u32>,
}

/// What stands between the client and the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Nothing,
    Nginx,
    PassThrough,
    Gateway,
}

impl Via {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "direct",
            Self::Nginx => "nginx",
            Self::PassThrough => "hyper",
            Self::Gateway => "ez-api",
        }
    }
}

impl Stage {
    pub(crate) async fn start(args: &Args) -> anyhow::Result<Self> {
        let upstream = SimUpstream::start(Behaviour::default()).await?;
        upstream.set_recording(false);
        let dir = tempfile::tempdir()?;
        let (pass_through, pass_through_url) = start_pass_through(args, &upstream).await?;
        // The gateway in a process of its own, so that its cost is not mixed with the control plane's ingestion.
        let sandbox = Sandbox::start(SandboxOptions::new(&args.ez_api, Backends::Apart)).await?;
        let plan = TenantPlan {
            models: vec![("sim-large".to_owned(), "sim-large".to_owned())],
            // Never reached, but counted like any others.
            key: json!({
                "global_qps": 1_000_000, "rpm": 1_000_000_000, "tpm": 1_000_000_000_000_u64, "rpd": 1_000_000_000_000_u64,
                "max_concurrency": 1_000_000,
            }),
            ..TenantPlan::simple("bench", &upstream.openai_base_url())
        };
        let tenant = Tenant::create(&sandbox, &plan).await?;
        // Last, because of all these only nginx outlives a failure here.
        let (nginx, nginx_url) = start_nginx(&args.nginx, dir.path(), upstream.address().port()).await?;
        let route = |via, base: &str, bearer: &str, pid| Route {
            via,
            url: format!("{base}{CHAT}"),
            bearer: bearer.to_owned(),
            pid,
        };
        let routes = [
            route(Via::Nothing, &upstream.base_url(), UPSTREAM_SECRET, None),
            route(Via::Nginx, &nginx_url, UPSTREAM_SECRET, nginx.id()),
            route(Via::PassThrough, &pass_through_url, UPSTREAM_SECRET, pass_through.id()),
            route(Via::Gateway, sandbox.gateway_url(), &tenant.token, sandbox.gateway_pid()),
        ];
        Ok(Self { upstream, routes, sandbox, nginx, _pass_through: pass_through, _dir: dir, gateway_calls: 0 })
    }

    /// Notes calls that were sent through `via`.
    pub(crate) fn note_calls(&mut self, via: Via, calls: u64) {
        if via == Via::Gateway {
            self.gateway_calls += calls;
        }
    }

    /// Waits until both planes are done with the calls so far, so that no measurement shares the machine with the records
    /// of the one before.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let pids = [self.sandbox.gateway_pid(), self.sandbox.control_pid()];
        let used = || -> anyhow::Result<Duration> {
            pids.iter().flatten().try_fold(Duration::ZERO, |sum, pid| Ok(sum + process_usage(*pid)?.cpu_time))
        };
        let give_up = Instant::now() + SETTLE_PATIENCE;
        let mut before = used()?;
        loop {
            tokio::time::sleep(SETTLE_WINDOW).await;
            let after = used()?;
            let share = after.saturating_sub(before).as_secs_f64() / SETTLE_WINDOW.as_secs_f64();
            if share < IDLE_SHARE || Instant::now() >= give_up {
                return Ok(());
            }
            before = after;
        }
    }

    /// Compares the calls sent through the gateway with the records in the database, once those have arrived.
    pub(crate) async fn account(&self) -> anyhow::Result<Accounted> {
        let give_up = Instant::now() + ACCOUNT_PATIENCE;
        loop {
            let accounted = self.read_records().await?;
            if accounted.lost <= 0 || Instant::now() >= give_up {
                return Ok(accounted);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn read_records(&self) -> anyhow::Result<Accounted> {
        let admin = self.sandbox.admin();
        let mut request_ids = HashSet::new();
        let mut records = 0_u64;
        let mut cursor = String::new();
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
        Ok(Accounted {
            calls: self.gateway_calls,
            records,
            lost: self.gateway_calls as i64 - request_ids.len() as i64,
            doubled: records - request_ids.len() as u64,
        })
    }

    /// Ends what does not end by being dropped: nginx's workers outlive a master that was killed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.nginx.id().context("nginx runs")?;
        Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        self.nginx.wait().await?;
        Ok(())
    }
}

async fn start_pass_through(args: &Args, upstream: &SimUpstream) -> anyhow::Result<(Child, String)> {
    let program = match &args.pass_through {
        Some(path) => path.clone(),
        None => built_beside("pass-through")?,
    };
    let mut command = Command::new(&program);
    command.args(["--to", &upstream.address().to_string()]).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("{} cannot be started", program.display()))?;
    let mut lines = BufReader::new(child.stdout.take().context("it has an output")?).lines();
    let first = lines.next_line().await?.unwrap_or_default();
    let url = first.strip_prefix("listening on ").context("the pass-through tells where it listens")?;
    Ok((child, url.to_owned()))
}

/// A program that was built with this one.
fn built_beside(name: &str) -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

async fn start_nginx(program: &Path, dir: &Path, upstream_port: u16) -> anyhow::Result<(Child, String)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let here = dir.display();
    let config = format!(
        "worker_processes auto;\nworker_rlimit_nofile 16384;\npid {here}/nginx.pid;\nerror_log {here}/error.log;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n  access_log off;\n  tcp_nodelay on;\n  keepalive_requests 10000000;\n  client_max_body_size 32m;\n\
         client_body_temp_path {here}/body;\n  proxy_temp_path {here}/proxy;\n  fastcgi_temp_path {here}/fastcgi;\n\
         uwsgi_temp_path {here}/uwsgi;\n  scgi_temp_path {here}/scgi;\n\
         upstream sim {{ server 127.0.0.1:{upstream_port}; keepalive 256; keepalive_requests 10000000; }}\n\
         server {{\n    listen 127.0.0.1:{port};\n    location / {{\n      proxy_pass http://sim;\n      proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\";\n      proxy_buffering off;\n      proxy_request_buffering off;\n    }}\n  }}\n}}\n"
    );
    let path = dir.join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut nginx = Command::new(program);
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
