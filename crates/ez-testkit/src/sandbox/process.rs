//! The processes: started, watched until they are ready, killed or asked to stop, and started again on the same data.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use http::Method;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::database::TestDatabase;
use crate::http_client::HttpClient;
use crate::redis_server::SharedRedis;

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const RESTART_ATTEMPTS: usize = 5;

/// What processes that share a database must be told alike, the key first; made up for the sandbox.
const SHARED_SETTINGS: &[(&str, &str)] = &[
    ("EZ_SECRET_KEY", "101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f"),
    ("EZ_ADMIN_TOKEN", "sandbox-admin-token-0123456789"),
    ("EZ_INTERNAL_TOKEN", "sandbox-internal-token-0123456789"),
];

/// Which backends a sandbox runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backends {
    /// Both planes in one process, on SQLite and in-process state.
    Embedded,
    /// Both planes in one process, on PostgreSQL and Redis.
    Scaled,
    /// Each plane in a process of its own, on PostgreSQL and Redis.
    Apart,
}

/// How a sandbox is started.
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// The built `ez-api`.
    pub binary: PathBuf,
    /// Backends.
    pub backends: Backends,
    /// Gateways, where each plane has processes of its own; else the one process is one.
    pub gateways: usize,
    /// More settings, by name.
    pub settings: Vec<(String, String)>,
}

impl SandboxOptions {
    /// `binary` on `backends` with its defaults.
    pub fn new(binary: impl Into<PathBuf>, backends: Backends) -> Self {
        let settings = match backends {
            Backends::Embedded => &[],
            Backends::Scaled => &SHARED_SETTINGS[..1],
            Backends::Apart => SHARED_SETTINGS,
        };
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { binary: binary.into(), backends, gateways: 1, settings }
    }

    /// A control plane and this many gateways, each a process of its own.
    pub fn apart(binary: impl Into<PathBuf>, gateways: usize) -> Self {
        assert!(gateways > 0, "a sandbox without a gateway has nothing to call");
        Self { gateways, ..Self::new(binary, Backends::Apart) }
    }

    /// With one more setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }
}

/// The running binary with its own data. Dropping it kills its processes and removes the data.
pub struct Sandbox {
    options: SandboxOptions,
    /// The control plane's process, then those of the gateways; one where both share it.
    nodes: Vec<Node>,
    control_url: String,
    admin_token: String,
    data_dir: TempDir,
    database: Option<TestDatabase>,
    redis: Option<SharedRedis>,
}

struct Node {
    role: &'static str,
    /// Of its data directory, its log and, among several gateways, of the node: the role, with a number from the second on.
    name: String,
    child: Option<Child>,
    /// Where its control listener is to be.
    control_listen: String,
    /// Empty for a control plane of its own.
    gateway_url: String,
    /// Of its own control listener.
    control_url: String,
}

impl Node {
    fn new(role: &'static str, number: usize) -> Self {
        let name = if number > 1 { format!("{role}-{number}") } else { role.to_owned() };
        let control_listen = "127.0.0.1:0".to_owned();
        Self { role, name, child: None, control_listen, gateway_url: String::new(), control_url: String::new() }
    }
}

/// What a process tells at its start.
#[derive(Debug, Default)]
struct Announcement {
    gateway_url: Option<String>,
    control_url: String,
    admin_token: Option<String>,
}

impl Sandbox {
    /// Starts the binary on free ports and waits until it is ready.
    pub async fn start(options: SandboxOptions) -> anyhow::Result<Self> {
        let (database, redis) = match options.backends {
            Backends::Embedded => (None, None),
            Backends::Scaled | Backends::Apart => {
                (Some(TestDatabase::postgres().await), Some(SharedRedis::for_this_test()))
            }
        };
        let nodes = match options.backends {
            Backends::Embedded | Backends::Scaled => vec![Node::new("all", 1)],
            Backends::Apart => {
                let gateways = (1..=options.gateways).map(|number| Node::new("gateway", number));
                [Node::new("control", 1)].into_iter().chain(gateways).collect()
            }
        };
        let given = options.settings.iter().find(|(name, _)| name == "EZ_ADMIN_TOKEN");
        let admin_token = given.map(|(_, token)| token.clone()).unwrap_or_default();
        let mut sandbox = Self {
            options,
            nodes,
            control_url: String::new(),
            admin_token,
            data_dir: tempfile::tempdir()?,
            database,
            redis,
        };
        sandbox.spawn_all().await?;
        Ok(sandbox)
    }

    /// Where the gateway serves; the first one, where there are several.
    pub fn gateway_url(&self) -> &str {
        self.gateways().next().map_or("", |gateway| &gateway.gateway_url)
    }

    /// Where the control plane serves.
    pub fn control_url(&self) -> &str {
        &self.control_url
    }

    /// The admin token: configured, or as the first start printed it.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Where the processes keep their data and their logs.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// The id of the process that runs the gateway; the first one, where there are several.
    pub fn gateway_pid(&self) -> Option<u32> {
        self.gateways().next()?.child.as_ref()?.id()
    }

    /// The id of the process that runs the control plane.
    pub fn control_pid(&self) -> Option<u32> {
        self.nodes.first()?.child.as_ref()?.id()
    }

    /// The processes that serve calls.
    fn gateways(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role != "control")
    }

    /// Its Redis and prefix, where it has the one that all tests share.
    pub fn redis(&self) -> Option<&SharedRedis> {
        self.redis.as_ref()
    }

    /// What the process of this name (`all`, `control`, `gateway`, `gateway-2`…) has logged so far.
    pub fn log(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.log_path(name))?)
    }

    /// Changes a setting for processes that are started from now on; `None` leaves it out.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        self.options.settings.retain(|(set, _)| set != name);
        self.options.settings.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// A client of the control plane, signed in as admin.
    pub fn admin(&self) -> HttpClient {
        HttpClient::new(&self.control_url, Some(&self.admin_token))
    }

    /// A client of the control plane with another token.
    pub fn control_as(&self, bearer: &str) -> HttpClient {
        HttpClient::new(&self.control_url, Some(bearer))
    }

    /// A client of the gateway with a child key.
    pub fn gateway_as(&self, token: &str) -> HttpClient {
        HttpClient::new(self.gateway_url(), Some(token))
    }

    /// A client of each gateway with a child key.
    pub fn every_gateway_as(&self, token: &str) -> Vec<HttpClient> {
        self.gateways().map(|gateway| HttpClient::new(&gateway.gateway_url, Some(token))).collect()
    }

    /// Starts one more control plane beside the first, where each plane has processes of its own; a client of it, signed in
    /// as admin.
    pub async fn add_control(&mut self) -> anyhow::Result<HttpClient> {
        let number = 1 + self.nodes.iter().filter(|node| node.role == "control").count();
        let first_url = self.control_url.clone();
        self.nodes.push(Node::new("control", number));
        self.spawn(self.nodes.len() - 1).await?;
        let url = std::mem::replace(&mut self.control_url, first_url);
        Ok(HttpClient::new(&url, Some(&self.admin_token)))
    }

    /// Kills every process at once, as a crash or `kill -9` does.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        kill(&mut self.nodes).await
    }

    /// Kills the process that runs the control plane.
    pub async fn kill_control(&mut self) -> anyhow::Result<()> {
        kill(&mut self.nodes[..1]).await
    }

    /// Kills the process of one gateway, counted from 1.
    pub async fn kill_gateway(&mut self, number: usize) -> anyhow::Result<()> {
        let mut gateways = self.nodes.iter_mut().filter(|node| node.role != "control");
        let gateway =
            number.checked_sub(1).and_then(|before| gateways.nth(before)).context("there is such a gateway")?;
        kill(std::slice::from_mut(gateway)).await
    }

    /// Sends SIGTERM to the process that runs the gateway.
    pub async fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.gateway_pid().context("the process does not run")?;
        let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        if sent.success() { Ok(()) } else { bail!("SIGTERM was not sent") }
    }

    /// Waits until the process that runs the gateway has ended by itself.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let gateway = self.nodes.iter_mut().find(|node| node.role != "control");
        ended(gateway.context("there is a process")?).await
    }

    /// Waits until the process that runs the control plane has ended by itself.
    pub async fn wait_for_control(&mut self) -> anyhow::Result<ExitStatus> {
        ended(self.nodes.first_mut().context("there is a process")?).await
    }

    /// Starts what does not run again on the same data, on new ports.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.spawn_all().await
    }

    /// Starts the processes of gateways that do not run, and no other.
    pub async fn restart_gateway(&mut self) -> anyhow::Result<()> {
        for index in 0..self.nodes.len() {
            if self.nodes[index].role != "control" {
                self.spawn(index).await?;
            }
        }
        Ok(())
    }

    /// Starts the process that runs the control plane again, where gateways that still run look for it.
    pub async fn restart_control(&mut self) -> anyhow::Result<()> {
        let control = self.nodes.first_mut().context("there is a process")?;
        control.control_listen = self.control_url.trim_start_matches("http://").to_owned();
        let mut started = self.spawn(0).await;
        for _ in 1..RESTART_ATTEMPTS {
            if started.is_ok() {
                break;
            }
            // Somebody's connection may have got its port meanwhile.
            sleep(Duration::from_secs(1)).await;
            started = self.spawn(0).await;
        }
        started
    }

    /// The URL of its database.
    pub fn database_url(&self) -> String {
        let set = self.options.settings.iter().find(|(name, _)| name == "EZ_DATABASE_URL");
        match (set, &self.database) {
            (Some((_, url)), _) => url.clone(),
            (None, Some(database)) => database.url().to_owned(),
            (None, None) => format!("sqlite://{}", self.data_dir.path().join("all/ez-api.db").display()),
        }
    }

    /// A client of the control listener of the process that runs the gateway (the first one, where there are several),
    /// signed in as admin.
    pub fn gateway_process(&self) -> HttpClient {
        let url = self.gateways().next().map_or("", |gateway| &gateway.control_url);
        HttpClient::new(url, Some(&self.admin_token))
    }

    /// The same of each gateway.
    pub fn every_gateway_process(&self) -> Vec<HttpClient> {
        self.gateways().map(|gateway| HttpClient::new(&gateway.control_url, Some(&self.admin_token))).collect()
    }

    /// Keeps asking until `done` says yes.
    pub async fn eventually<F: Future<Output = anyhow::Result<bool>>>(
        &self,
        what: &str,
        within: Duration,
        done: impl Fn() -> F,
    ) -> anyhow::Result<()> {
        let give_up = Instant::now() + within;
        while !done().await? {
            if Instant::now() >= give_up {
                bail!("not within {within:?}: {what}");
            }
            sleep(Duration::from_millis(25)).await;
        }
        Ok(())
    }

    async fn spawn_all(&mut self) -> anyhow::Result<()> {
        for index in 0..self.nodes.len() {
            self.spawn(index).await?;
        }
        Ok(())
    }

    /// Starts a process, unless it runs, and waits until it is ready.
    async fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        if self.nodes[index].child.is_some() {
            return Ok(());
        }
        let node = &self.nodes[index];
        let log_path = self.log_path(&node.name);
        let log = std::fs::File::options().create(true).append(true).open(&log_path)?;
        let mut child = self.command(node).stderr(log).spawn()?;
        let stdout = child.stdout.take().context("the process has an output")?;
        let expects_token = self.admin_token.is_empty();
        let announced =
            tokio::time::timeout(START_TIMEOUT, read_announcement(BufReader::new(stdout), expects_token)).await;
        let announced = match announced {
            Ok(Ok(announced)) => announced,
            failed => {
                let log = std::fs::read_to_string(log_path).unwrap_or_default();
                bail!("the process did not start: {failed:?}\n{log}")
            }
        };
        let node = &mut self.nodes[index];
        node.child = Some(child);
        node.gateway_url = announced.gateway_url.unwrap_or_default();
        let own_control_url = announced.control_url;
        node.control_url.clone_from(&own_control_url);
        if node.role != "gateway" {
            self.control_url.clone_from(&own_control_url);
        }
        if let Some(token) = announced.admin_token {
            self.admin_token = token;
        }
        self.wait_until_ready(&own_control_url).await
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.data_dir.path().join(format!("{name}.log"))
    }

    async fn wait_until_ready(&self, control_url: &str) -> anyhow::Result<()> {
        let client = HttpClient::new(control_url, None);
        self.eventually("the process is ready", START_TIMEOUT, || async {
            Ok(client.call(Method::GET, "/readyz", "").await.is_ok_and(|answer| answer.status.is_success()))
        })
        .await
    }

    /// Runs another command of the binary beside the processes, with their settings and further ones, and waits for it.
    pub async fn run(&self, args: &[&str], further: &[(&str, &str)]) -> anyhow::Result<Output> {
        let role = self.nodes.first().context("there is a process")?.role;
        let mut command = self.bare_command(role);
        command.args(args).args(["--data-dir".as_ref(), self.data_dir.path().join(role).as_os_str()]);
        command.envs(further.iter().copied()).stderr(Stdio::piped());
        Ok(command.output().await?)
    }

    fn command(&self, node: &Node) -> Command {
        let mut command = self.bare_command(node.role);
        command.args(["serve", "--role", node.role]);
        command.args(["--data-dir".as_ref(), self.data_dir.path().join(&node.name).as_os_str()]);
        if self.options.gateways > 1 {
            command.env("EZ_NODE_ID", &node.name);
        }
        command.args(["--gateway-listen", "127.0.0.1:0", "--control-listen", &node.control_listen]);
        command
    }

    /// The binary with the settings of a role and no arguments.
    fn bare_command(&self, role: &str) -> Command {
        let mut command = Command::new(&self.options.binary);
        // Settings of the shell that runs the tests must not leak in.
        command.env_clear().env("PATH", "/usr/bin:/bin");
        if let (Some(database), Some(redis)) = (&self.database, &self.redis) {
            command.env("EZ_REDIS_URL", &redis.url).env("EZ_REDIS_PREFIX", &redis.prefix);
            if role == "gateway" {
                command.env("EZ_CONTROL_URL", &self.control_url);
            } else {
                command.env("EZ_DATABASE_URL", database.url());
            }
        }
        command.envs(self.options.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        command
    }
}

async fn kill(nodes: &mut [Node]) -> anyhow::Result<()> {
    for node in nodes.iter_mut() {
        node.child.as_mut().with_context(|| format!("{} does not run", node.name))?.start_kill()?;
    }
    for node in nodes {
        if let Some(mut child) = node.child.take() {
            child.wait().await?;
        }
    }
    Ok(())
}

async fn ended(node: &mut Node) -> anyhow::Result<ExitStatus> {
    let mut child = node.child.take().context("the process does not run")?;
    let ended = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await;
    Ok(ended.context("the process did not end in time")??)
}

/// Reads the lines that tell people where to go. The token comes last, and only at the first start.
async fn read_announcement(
    output: BufReader<tokio::process::ChildStdout>,
    expects_token: bool,
) -> anyhow::Result<Announcement> {
    let mut lines = output.lines();
    let mut announced = Announcement::default();
    while let Some(line) = lines.next_line().await? {
        let value = |prefix: &str| Some(line.strip_prefix(prefix)?.split_whitespace().next()?.to_owned());
        if let Some(url) = value("gateway: ") {
            announced.gateway_url = Some(url);
        } else if let Some(url) = value("control: ") {
            announced.control_url = url;
        } else if let Some(token) = value("admin token: ") {
            announced.admin_token = Some(token);
        }
        let has_token = !expects_token || announced.admin_token.is_some();
        if !announced.control_url.is_empty() && has_token {
            return Ok(announced);
        }
    }
    bail!("the process ended before it told its addresses")
}
