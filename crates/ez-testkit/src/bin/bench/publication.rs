//! Publication: a large installation is imported beside the running server, published as a whole, changed key by key, and
//! listed; on both pairs of backends.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ez_testkit::load::process_usage;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{Args, median};

const MASTERS: usize = 100;
const GROUPS: usize = 20;
/// Of each group, each bound: 1,000 bindings.
const MODELS_OF_GROUP: usize = 50;

/// Changes of one key that are timed.
const CHANGES: usize = 20;
/// Readings of each page.
const READINGS: usize = 10;
const PAGE: usize = 200;

/// Bound on everything that is waited for.
const PATIENCE: Duration = Duration::from_secs(180);

/// Measures publication and lists on both pairs of backends.
pub(crate) async fn measure_publication(args: &Args) -> anyhow::Result<()> {
    let upstream = SimUpstream::start(Behaviour::default()).await?;
    let bindings = GROUPS * MODELS_OF_GROUP;
    println!("\npublication: {} child keys of {MASTERS} masters, {bindings} bindings", args.keys);
    let document = document(args.keys, &upstream.openai_base_url()).to_string();
    for (title, backends) in [
        ("one process, SQLite and in-process state", Backends::Embedded),
        ("planes apart, PostgreSQL and Redis", Backends::Apart),
    ] {
        println!("  {title}");
        measure(args, backends, &document).await.with_context(|| title.to_owned())?;
    }
    Ok(())
}

async fn measure(args: &Args, backends: Backends, document: &str) -> anyhow::Result<()> {
    let mut sandbox = Sandbox::start(SandboxOptions::new(&args.ez_api, backends)).await?;
    let file = sandbox.data_dir().join("installation.json");
    std::fs::write(&file, document)?;

    let begun = Instant::now();
    let imported = sandbox.run(&["import", &file.to_string_lossy(), "--include-bindings", "--json"], &[]).await?;
    ensure!(imported.status.success(), "import: {}", String::from_utf8_lossy(&imported.stderr));
    tell("import beside the running server", begun.elapsed());
    until_published(&sandbox).await?;
    tell("  until gateways serve it, import included", begun.elapsed());

    let compared = timed(sandbox.admin().post("/admin/sync/snapshot", &json!({}))).await?;
    tell("full comparison that finds nothing", compared);
    sandbox.kill().await?;
    forget_snapshot(&sandbox)?;
    let begun = Instant::now();
    sandbox.restart().await?;
    until_published(&sandbox).await?;
    tell("start with nothing published: full publication", begun.elapsed());

    measure_changes(&sandbox).await?;
    measure_lists(&sandbox, args.keys).await?;
    for (role, pid) in [("control plane", sandbox.control_pid()), ("gateway", sandbox.gateway_pid())] {
        if backends == Backends::Embedded && role == "gateway" {
            continue;
        }
        let peak = process_usage(pid.context("the process runs")?)?.peak_rss_kib;
        let what = if backends == Backends::Embedded { "both planes" } else { role };
        println!("    {:<52} {:>10.0} MiB", format!("peak resident memory, {what}"), peak as f64 / 1024.0);
    }
    Ok(())
}

/// From the answer of a change of one key to the gateway that heeds it.
async fn measure_changes(sandbox: &Sandbox) -> anyhow::Result<()> {
    let admin = sandbox.admin();
    let gateway = sandbox.gateway_as(&token(0));
    let listed = admin.get("/admin/keys?limit=1").await?;
    let id = listed["items"][0]["id"].as_i64().context("the first key")?;
    let published_before = version(sandbox).await?;
    let mut delays = Vec::new();
    for change in 0..CHANGES {
        let (status, expected) = match change % 2 {
            0 => ("suspended", StatusCode::UNAUTHORIZED),
            _ => ("active", StatusCode::OK),
        };
        admin.put(&format!("/admin/keys/{id}"), &json!({ "status": status })).await?;
        let begun = Instant::now();
        while gateway.call(Method::GET, "/v1/models", "").await?.status != expected {
            ensure!(begun.elapsed() < PATIENCE, "the gateway never heeded the change");
            sleep(Duration::from_micros(200)).await;
        }
        delays.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let publications = version(sandbox).await? - published_before;
    let most = delays.iter().copied().fold(0.0, f64::max);
    let title = format!("one changed key: answer to gateway ({publications} publications)");
    println!("    {title:<52} {:>10.1} ms, at most {most:.1} ms", median(delays.into_iter()));
    Ok(())
}

async fn measure_lists(sandbox: &Sandbox, keys: usize) -> anyhow::Result<()> {
    let last = keys.div_ceil(PAGE);
    for (title, query) in [
        ("list of keys, first page of 200", "page=1".to_owned()),
        ("list of keys, last page of 200", format!("page={last}")),
        ("list of keys, newest first", "sort=-created_at".to_owned()),
        ("list of keys of a master", "master_id=1".to_owned()),
        ("list of keys, search without a hit", "search=no-such-key".to_owned()),
    ] {
        let mut readings = Vec::new();
        for _ in 0..READINGS {
            let path = format!("/admin/keys?limit={PAGE}&{query}");
            readings.push(timed(sandbox.admin().get(&path)).await?.as_secs_f64() * 1e3);
        }
        println!("    {title:<52} {:>10.1} ms", median(readings.into_iter()));
    }
    Ok(())
}

/// Waits until everything committed is published and the gateway serves that: not what it saved on its disk.
async fn until_published(sandbox: &Sandbox) -> anyhow::Result<()> {
    let (admin, first, last) = (sandbox.admin(), sandbox.gateway_as(&token(0)), sandbox.gateway_as(&token(1)));
    let process = sandbox.gateway_process();
    let published = || async {
        let status = admin.get("/admin/sync/status").await?;
        let version = status["snapshot"]["version"].as_u64().unwrap_or(0);
        let held = process.get("/readyz").await?["snapshot"].clone();
        let is_live = held["source"] == "live" && held["version"] == version;
        let mut served = status["outbox_depth"] == 0 && version > 0 && is_live;
        for client in [&first, &last] {
            served = served && client.call(Method::GET, "/v1/models", "").await?.status.is_success();
        }
        Ok(served)
    };
    sandbox.eventually("everything is published", PATIENCE, published).await
}

/// What a Redis that was lost and came back empty knows.
fn forget_snapshot(sandbox: &Sandbox) -> anyhow::Result<()> {
    let Some(redis) = sandbox.redis() else { return Ok(()) };
    let script = "local c = '0' repeat local r = redis.call('SCAN', c, 'MATCH', ARGV[1], 'COUNT', 10000) c = r[1] \
                  for _, k in ipairs(r[2]) do redis.call('UNLINK', k) end until c == '0' return 1";
    let pattern = format!("{}*", redis.prefix);
    let output =
        std::process::Command::new("redis-cli").args(["-u", &redis.url, "EVAL", script, "0", &pattern]).output()?;
    ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

async fn version(sandbox: &Sandbox) -> anyhow::Result<u64> {
    let status = sandbox.admin().get("/admin/sync/status").await?;
    status["snapshot"]["version"].as_u64().context("the version of the snapshot")
}

async fn timed(request: impl Future<Output = anyhow::Result<Value>>) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    request.await?;
    Ok(begun.elapsed())
}

fn tell(title: &str, took: Duration) {
    println!("    {title:<52} {:>10.2} s", took.as_secs_f64());
}

fn token(place: usize) -> String {
    format!("sk-bench{place:07}")
}

/// An installation as another system exports it.
fn document(keys: usize, base_url: &str) -> Value {
    let model = |group: usize, place: usize| format!("model-{group}-{place}");
    let models = |group: usize| (0..MODELS_OF_GROUP).map(|place| model(group, place)).collect::<Vec<_>>();
    let providers: Vec<Value> = (0..GROUPS)
        .map(|group| {
            json!({
                "original_id": group, "name": format!("upstream-{group}"), "type": "openai", "base_url": base_url,
                "api_key": format!("sk-up-{group}"), "models": models(group), "primary_group": "default",
                "all_groups": ["default"], "weight": 1, "priority": 0, "status": "active", "auto_ban": true,
            })
        })
        .collect();
    let masters: Vec<Value> =
        (0..MASTERS).map(|master| json!({ "name": format!("team-{master}"), "namespaces": ["default"] })).collect();
    let child_keys: Vec<Value> = (0..keys)
        .map(|key| {
            json!({
                "master_ref": format!("team-{}", key % MASTERS), "original_token": token(key), "status": "active",
                "scopes": ["chat:*"], "namespaces": ["default"], "unlimited_quota": true,
                "_token_plaintext_available": true,
            })
        })
        .collect();
    let bindings: Vec<Value> = (0..GROUPS)
        .flat_map(models)
        .map(|model| json!({ "namespace": "default", "route_group": "default", "model": model, "status": "active" }))
        .collect();
    json!({
        "version": "1.0.0", "source": { "type": "newapi" },
        "data": { "providers": providers, "masters": masters, "keys": child_keys, "bindings": bindings },
        "warnings": [],
    })
}
