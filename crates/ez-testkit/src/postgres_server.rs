//! A PostgreSQL of a test's own, which it may stop or kill; tests that only need a database share the server of `make test`.

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
    process: Option<Child>,
    port: u16,
    programs: PathBuf,
    /// The user and the group that it runs as.
    owner: Option<(u32, u32)>,
    /// Of the database and its socket.
    directory: TempDir,
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
        let mut server = Self { process: None, port: 0, programs, owner, directory };
        let mut initdb = server.program("initdb");
        initdb.arg("--pgdata").arg(server.data()).args(["--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        let made = initdb.args(["--locale=C", "--no-sync"]).status().expect("initdb can be run");
        assert!(made.success(), "initdb failed in {}", server.data().display());
        for _ in 0..START_ATTEMPTS {
            server.port = free_port();
            if server.launch().await {
                return server;
            }
        }
        panic!("postgres does not start in {}", server.data().display());
    }

    /// Ends every process of the server at once (`kill -9`), whatever it is doing.
    pub fn kill(&mut self) {
        // It starts no further ones when it stands still.
        self.pause();
        let others = self.others();
        let Some(mut process) = self.process.take() else { return };
        self.signal("-KILL", &[others.as_slice(), &[process.id()]].concat());
        process.wait().expect("an own child can be waited for");
        let deadline = Instant::now() + STOP_TIMEOUT;
        while others.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            assert!(Instant::now() < deadline, "a process of the server outlives SIGKILL");
            std::thread::sleep(POLL);
        }
    }

    /// Kills it and starts it again on its data and its port; waits until it is ready, recovery included.
    pub async fn restart(&mut self) {
        self.kill();
        assert!(self.launch().await, "postgres does not start again on port {}", self.port);
    }

    /// Whether it became ready.
    async fn launch(&mut self) -> bool {
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-k"]).arg(self.directory.path());
        // A killed process loses nothing that it wrote, synced or not; but it may leave half a page.
        postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        let mut process = postgres.spawn().expect("postgres can be run");
        let is_ready = is_ready(&mut process, &self.data()).await;
        self.process = is_ready.then_some(process);
        is_ready
    }

    /// One of the server's programs, as its user and without input and output.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// `postgres://…` of its one database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops every process of the server, while its connections stay.
    pub fn pause(&self) {
        // The first one alone starts others: afterwards there are no new ones to miss.
        self.signal("-STOP", self.first().as_slice());
        self.signal("-STOP", &self.others());
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT", &self.others());
        self.signal("-CONT", self.first().as_slice());
    }

    fn first(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    fn others(&self) -> Vec<u32> {
        let Some(first) = self.first() else { return Vec::new() };
        let others = descendants(first).expect("processes can be listed");
        others.into_iter().map(|(pid, _)| pid).collect()
    }

    fn signal(&self, signal: &str, pids: &[u32]) {
        if pids.is_empty() {
            return;
        }
        let pids = pids.iter().map(u32::to_string);
        // One that ended by itself meanwhile needs no signal.
        let sent = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
        sent.expect("kill can be run");
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.resume();
        let Some(mut process) = self.process.take() else { return };
        self.signal("-QUIT", &[process.id()]);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while process.try_wait().expect("an own child can be waited for").is_none() {
            if Instant::now() >= deadline {
                process.kill().expect("an own child can be killed");
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

/// The first line of its file is its process, or one that was killed, and the eighth the server's own word on its state.
async fn is_ready(process: &mut Child, data: &Path) -> bool {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        if process.try_wait().expect("an own child can be waited for").is_some() {
            return false;
        }
        let file = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let is_its_own = file.lines().next() == Some(process.id().to_string().as_str());
        if is_its_own && file.lines().nth(7).is_some_and(|state| state.starts_with("ready")) {
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
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_is_killed_and_has_what_was_committed() {
        let mut server = PostgresServer::start().await;
        let url = server.url();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection.execute("CREATE TABLE kept (id bigint)").await.unwrap();
        for _ in 0..2 {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            connection.execute("INSERT INTO kept VALUES (1)").await.unwrap();
            let mut open = connection.begin().await.unwrap();
            open.execute("INSERT INTO kept VALUES (2)").await.unwrap();
            server.kill();
            open.execute("SELECT 1").await.unwrap_err();
            PgConnection::connect(&url).await.unwrap_err();
            server.restart().await;
        }
        assert_eq!(crate::database::count(&url, "SELECT sum(id)::bigint FROM kept").await, 2);
    }
}
