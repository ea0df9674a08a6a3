//! A PostgreSQL of a test's own, which it may stop; tests that only need a database share the server of `make test`.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::load::descendants;
use crate::redis_server::free_port;

/// For a server to become ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// For a server to end by itself before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A chosen port may be taken by the time it is bound.
const START_ATTEMPTS: usize = 8;
const POLL: Duration = Duration::from_millis(20);
/// Where Debian keeps the server's programs, in a directory for each version.
const DEBIAN_HOME: &str = "/usr/lib/postgresql";

/// A PostgreSQL with an empty database that ends with this value.
#[derive(Debug)]
pub struct PostgresServer {
    process: Child,
    port: u16,
    /// Of the database and its socket.
    _directory: TempDir,
}

impl PostgresServer {
    /// Makes a database, starts a server on a free port and waits until it is ready. Panics where that fails: a test is
    /// never skipped.
    pub async fn start() -> Self {
        let programs = find_programs();
        let owner = find_owner();
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        if let Some((user, group)) = owner {
            chown(directory.path(), Some(user), Some(group)).expect("root may give a directory away");
        }
        let program = |name: &str| {
            let mut command = Command::new(programs.join(name));
            if let Some((user, group)) = owner {
                command.uid(user).gid(group);
            }
            command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let data = directory.path().join("data");
        let mut initdb = program("initdb");
        initdb.arg("--pgdata").arg(&data).args(["--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        let made = initdb.args(["--locale=C", "--no-sync"]).status().expect("initdb can be run");
        assert!(made.success(), "initdb failed in {}", data.display());
        for _ in 0..START_ATTEMPTS {
            let port = free_port();
            let mut postgres = program("postgres");
            postgres.arg("-D").arg(&data).args(["-p", &port.to_string(), "-k"]).arg(directory.path());
            postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "full_page_writes=off"]);
            let mut process = postgres.spawn().expect("postgres can be run");
            if is_ready(&mut process, &data).await {
                return Self { process, port, _directory: directory };
            }
        }
        panic!("postgres does not start in {}", data.display());
    }

    /// `postgres://…` of its one database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops every process of the server, while its connections stay.
    pub fn pause(&self) {
        // The first one alone starts others: afterwards there are no new ones to miss.
        self.signal("-STOP", &[self.process.id()]);
        self.signal("-STOP", &self.others());
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT", &self.others());
        self.signal("-CONT", &[self.process.id()]);
    }

    fn others(&self) -> Vec<u32> {
        let others = descendants(self.process.id()).expect("processes can be listed");
        others.into_iter().map(|(pid, _)| pid).collect()
    }

    fn signal(&self, signal: &str, pids: &[u32]) {
        let pids = pids.iter().map(u32::to_string);
        // One that ended by itself meanwhile needs no signal.
        let sent = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
        sent.expect("kill can be run");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.resume();
        self.signal("-QUIT", &[self.process.id()]);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.process.try_wait().expect("an own child can be waited for").is_none() {
            if Instant::now() >= deadline {
                self.process.kill().expect("an own child can be killed");
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Where the server's programs are. Debian leaves them out of the search path.
fn find_programs() -> PathBuf {
    let versions = fs::read_dir(DEBIAN_HOME).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found
        .sort_unstable_by_key(|path| path.to_string_lossy().chars().filter_map(|c| c.to_digit(10)).collect::<Vec<_>>());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).chain(found.into_iter().rev());
    let is_it = |directory: &PathBuf| directory.join("initdb").exists() && directory.join("postgres").exists();
    all.find(is_it).expect("PostgreSQL is not installed: `make test` installs it")
}

/// The user and the group to run as: the server refuses to run as root.
fn find_owner() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().expect("id can be run");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    let of = |user: &str| Some((number(&["-u", user])?, number(&["-g", user])?));
    of("postgres").or_else(|| of("nobody"))
}

/// The eighth line of its file is the server's own word on its state.
async fn is_ready(process: &mut Child, data: &Path) -> bool {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if process.try_wait().expect("an own child can be waited for").is_some() {
            return false;
        }
        let file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if file.lines().nth(7).is_some_and(|state| state.starts_with("ready")) {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnection;
    use sqlx::{Connection, Executor};

    use super::PostgresServer;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_answers_stands_still_and_goes_on() {
        let server = PostgresServer::start().await;
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        connection.execute("SELECT 1").await.unwrap();
        server.pause();
        let newcomer = tokio::time::timeout(Duration::from_millis(300), PgConnection::connect(&server.url())).await;
        assert!(newcomer.is_err(), "nobody is let in");
        let answer = tokio::time::timeout(Duration::from_millis(300), connection.execute("SELECT 1"));
        assert!(answer.await.is_err(), "nobody is answered");
        server.resume();
        let mut newcomer = PgConnection::connect(&server.url()).await.unwrap();
        newcomer.execute("SELECT 1").await.unwrap();
    }
}
