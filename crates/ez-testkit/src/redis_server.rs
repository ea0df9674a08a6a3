//! Redis for tests: the shared throw-away server, and servers of a test's own that it may kill.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use uuid::Uuid;

/// For a server to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A chosen port may be taken by the time it is bound.
const START_ATTEMPTS: usize = 8;

/// A place in the shared test server that no other test sees.
#[derive(Debug, Clone)]
pub struct SharedRedis {
    /// `redis://…` of the server that `make test` started.
    pub url: String,
    /// Prefix for every key and channel of this test.
    pub prefix: String,
}

impl SharedRedis {
    /// A place of its own for the calling test. Panics where the server is missing: a test is never skipped.
    #[expect(clippy::disallowed_methods, reason = "tests are told of their servers by the environment")]
    pub fn for_this_test() -> Self {
        let Ok(url) = std::env::var("EZ_TEST_REDIS_URL") else {
            panic!("EZ_TEST_REDIS_URL is not set: run the tests through `make test`, which starts throw-away servers");
        };
        Self { url, prefix: format!("test:{}:", Uuid::new_v4().simple()) }
    }
}

/// A Redis process without persistence that ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Child>,
    port: u16,
    directory: TempDir,
}

impl RedisServer {
    /// Starts a server on a free port and waits until it answers.
    pub async fn start() -> Self {
        for _ in 0..START_ATTEMPTS {
            let directory = tempfile::tempdir().expect("a temporary directory can be made");
            let mut server = Self { process: None, port: free_port(), directory };
            if server.launch().await {
                return server;
            }
        }
        panic!("redis-server does not start; is it installed?");
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends the process at once (`kill -9`); its data is gone.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("an own child can be killed");
            process.wait().expect("an own child can be waited for");
        }
    }

    /// Starts an empty server on the same port.
    pub async fn restart(&mut self) {
        self.kill();
        assert!(self.launch().await, "redis-server does not start again on port {}", self.port);
    }

    /// Stops the process from answering, while its connections stay.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it answer again.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Edits its data the way that an operator does by hand, with `redis-cli`, and tells what that answered.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-u", &self.url()]).args(arguments).output();
        let output = output.expect("redis-cli is installed with the server");
        assert!(output.status.success(), "redis-cli {arguments:?} failed");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    async fn launch(&mut self) -> bool {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let pid = process.id();
        self.process = Some(process);

        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            let process = self.process.as_mut().expect("it was started above");
            if process.try_wait().expect("an own child can be waited for").is_some() {
                break;
            }
            if answering_process(self.port) == Some(pid) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.kill();
        false
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("the server runs").id();
        let status = Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill can be run");
        assert!(status.success(), "kill {signal} {pid} failed");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port can be found");
    listener.local_addr().expect("a listener has an address").port()
}

/// The process id that the Redis at a port says it has: another server may have got the port first.
fn answering_process(port: u16) -> Option<u32> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    connection.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    connection.write_all(b"INFO server\r\nQUIT\r\n").ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    answer.lines().find_map(|line| line.strip_prefix("process_id:"))?.trim().parse().ok()
}
