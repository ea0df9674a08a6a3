//! Calls that a public tool makes up from our own OpenAPI document: no 5xx, nobody does what is not theirs, and every
//! answer is as documented. What is held, and what of it is not: `tests/fuzz`.

use std::process::Output;
use std::time::{Duration, Instant};

use ez_testkit::sandbox::{Backends, Sandbox};
use rand::Rng;
use serde_json::json;
use tokio::process::Command;

use crate::options;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz");

/// Longest that a run may take beyond the time that it is given.
const GRACE: Duration = Duration::from_secs(300);

/// How much is tried.
#[derive(Debug, Clone, Copy)]
enum Extent {
    /// The same calls each time, so many made up for each operation.
    Short { examples: u32 },
    /// Other calls each time, for so long.
    Long { duration: Duration },
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_calls_embedded() {
    let short = Extent::Short { examples: 5 };
    fuzz(Backends::Embedded, [short, short, short]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_up_calls_scaled() {
    let short = Extent::Short { examples: 5 };
    fuzz(Backends::Scaled, [short, short, short]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_made_up_calls_embedded() {
    fuzz(Backends::Embedded, half_an_hour()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make soak"]
async fn soak_made_up_calls_scaled() {
    fuzz(Backends::Scaled, half_an_hour()).await;
}

/// Nobody, a master, the admin.
fn half_an_hour() -> [Extent; 3] {
    [5, 5, 20].map(|minutes| Extent::Long { duration: Duration::from_secs(minutes * 60) })
}

/// Once as nobody, once as a master on its own routes, once as the admin on all.
async fn fuzz(backends: Backends, [as_nobody, as_master, as_admin]: [Extent; 3]) {
    let sandbox = Sandbox::start(options(backends).set("EZ_TRUSTED_PROXIES", "127.0.0.1")).await.unwrap();
    let admin = sandbox.admin();
    let master = admin.post("/admin/masters", &json!({"name": "fuzzed"})).await.unwrap();
    let master_key = master["master_key"].as_str().unwrap();

    run(&sandbox, "nobody", None, as_nobody).await;
    let masters = admin.get("/admin/masters").await.unwrap();
    assert_eq!(masters["total"], 1, "nobody made something");
    run(&sandbox, "master", Some(master_key), as_master).await;
    run(&sandbox, "admin", Some(sandbox.admin_token()), as_admin).await;
    let last = admin.post("/admin/masters", &json!({"name": "last"})).await.unwrap();
    assert!(last["id"].as_i64() > Some(2), "the admin's run made no master, so it reached no rule: {last}");
}

#[expect(clippy::print_stdout, reason = "a long run tells its seed and how much it tried")]
async fn run(sandbox: &Sandbox, identity: &str, token: Option<&str>, extent: Extent) {
    let mut command = Command::new(python());
    command.args(["-m", "schemathesis.cli", "--config-file", &format!("{HERE}/schemathesis.toml"), "run"]);
    command.arg(format!("{}/openapi.json", sandbox.control_url())).args(["--no-color", "--checks", "all"]);
    let (seed, limit) = match extent {
        Extent::Short { examples } => {
            command.args(["--max-examples", &examples.to_string()]);
            (1, GRACE)
        }
        Extent::Long { duration } => {
            command.args(["--max-time", &duration.as_secs().to_string()]);
            (rand::rng().random_range(1..=u32::MAX), duration + GRACE)
        }
    };
    command.args(["--seed", &seed.to_string()]);
    if identity == "master" {
        command.args(["--include-path-regex", "^/v1/"]);
    }
    command.env("SCHEMATHESIS_HOOKS", format!("{HERE}/hooks.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("EZ_FUZZ_IDENTITY", identity);
    if let Some(token) = token {
        command.env("EZ_FUZZ_TOKEN", token);
    }
    // It keeps what it learned in the directory that it is started in.
    command.current_dir(sandbox.data_dir()).kill_on_drop(true);
    let started = Instant::now();
    let Output { status, stdout, stderr } = tokio::time::timeout(limit, command.output()).await.unwrap().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "as {identity}, seed {seed}:\n{text}");
    let count = text.lines().find(|line| line.contains(" generated, ")).unwrap_or_default().trim();
    assert!(count.contains("passed"), "as {identity}: {text}");
    println!("as {identity}, seed {seed}: {count} in {:?}", started.elapsed());
}

#[expect(clippy::disallowed_methods, reason = "`make test` tells where it put the tool")]
fn python() -> String {
    std::env::var("EZ_TEST_FUZZ_PYTHON").expect(
        "EZ_TEST_FUZZ_PYTHON is not set: run the tests through `make test` or `make fuzz`, which install the tool",
    )
}
