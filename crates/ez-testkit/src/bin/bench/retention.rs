//! Log records, many of them made up by the database itself: how long lists take, and how long ingestion waits while the old
//! ones are dropped; on both databases.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use ez_testkit::database::TestDatabase;
use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions};
use http::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::ingestion::{INTERNAL_TOKEN, record};
use crate::{Args, median};

/// Of so many days are the old records.
const DAYS: i64 = 40;

/// Old records where many are asked for.
const LARGE_SQLITE: usize = 1_000_000;
const LARGE_POSTGRES: usize = 10_000_000;

/// Records of a batch that is handed in, and the pause between two.
const BATCH: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// What arrived in the last hour stays, and a little more, so that the others are all dropped at once.
const STAYS: TimeDelta = TimeDelta::hours(2);

/// How long ingestion is measured without the cleaner.
const BEFORE: Duration = Duration::from_secs(5);

/// Bound on the cleaner.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Readings of each list.
const READINGS: usize = 10;

/// Filters of lists, and what each asks for.
const LISTS: &[(&str, &str)] = &[
    ("first page of all", ""),
    ("deep in the list", "until={middle}"),
    ("of a master", "master_id=7"),
    ("of a child key", "key_id=77"),
    ("of a request", "request_id=req-12345"),
    ("failing ones", "status=5xx"),
    ("text of an error, frequent", "error=overloaded"),
    ("text of an error, without a hit", "error=%25%5F%5C"),
    ("of a model, without a hit", "model=none"),
    ("of a master and a model, without a hit", "master_id=7&model=none"),
    ("ten years, without a hit", "since=2019-01-01T00:00:00Z&group_id=99"),
];

/// Measures lists and retention on both databases.
pub(crate) async fn measure_retention(args: &Args) -> anyhow::Result<()> {
    let (sqlite, postgres) =
        if args.large { (LARGE_SQLITE, LARGE_POSTGRES) } else { (args.old_records, args.old_records) };
    for (title, records, database) in
        [("SQLite", sqlite, TestDatabase::sqlite()), ("PostgreSQL", postgres, TestDatabase::postgres().await)]
    {
        println!("\nlog records: {records} of {DAYS} days on {title}");
        measure(args, &database, records).await.with_context(|| title.to_owned())?;
    }
    Ok(())
}

async fn measure(args: &Args, database: &TestDatabase, records: usize) -> anyhow::Result<()> {
    let options = SandboxOptions::new(&args.ez_api, Backends::Embedded)
        .set("EZ_DATABASE_URL", database.url())
        .set("EZ_SECRET_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
        .set("EZ_INTERNAL_TOKEN", INTERNAL_TOKEN)
        .set("EZ_LOG_FLUSH_INTERVAL", "1ms")
        .set("EZ_LOG_MAX_RECORDS", "0")
        .set("EZ_LOG_RETENTION_DAYS", "0");
    let sandbox = Sandbox::start(options).await?;
    let now = now();
    make_up(&sandbox, database, now, records).await?;
    measure_lists(&sandbox.admin(), now).await?;

    let gateway = sandbox.control_as(INTERNAL_TOKEN);
    let quiet = hand_in_until(&gateway, async |begun| Ok(begun.elapsed() > BEFORE)).await?;
    tell("ingestion alone", &quiet);
    let begun = Instant::now();
    let before = now - STAYS;
    let path = format!("/admin/logs?before={}", before.timestamp());
    let answer = sandbox.admin().call(Method::DELETE, &path, "").await?;
    ensure!(answer.status.is_success(), "{}", answer.text());
    let admin = sandbox.admin();
    let clean = async |_| oldest_is_from(&admin, before).await;
    let meanwhile = hand_in_until(&gateway, clean).await?;
    tell("ingestion while they are dropped", &meanwhile);
    println!("    {:<40} {:>8.1} s", "dropped", begun.elapsed().as_secs_f64());
    Ok(())
}

async fn measure_lists(admin: &HttpClient, now: DateTime<Utc>) -> anyhow::Result<()> {
    let middle = (now - TimeDelta::days(DAYS / 2)).timestamp().to_string();
    for (title, filter) in LISTS {
        let path = format!("/admin/logs?limit=100&{}", filter.replace("{middle}", &middle));
        let mut readings = Vec::new();
        for _ in 0..READINGS {
            let begun = Instant::now();
            admin.get(&path).await.with_context(|| path.clone())?;
            readings.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let most = readings.iter().copied().fold(0.0, f64::max);
        println!("    {title:<40} {:>8.1} ms, at most {most:.1} ms", median(readings.into_iter()));
    }
    Ok(())
}

/// Hands small batches in until `is_over`; how long each took, in milliseconds.
async fn hand_in_until(
    gateway: &HttpClient,
    is_over: impl AsyncFn(Instant) -> anyhow::Result<bool>,
) -> anyhow::Result<Vec<f64>> {
    let (begun, mut waits, mut looked) = (Instant::now(), Vec::new(), Instant::now());
    loop {
        let records: Vec<_> = (0..BATCH).map(|number| record(1, number as i64 + 1, now())).collect();
        let batch = serde_json::to_vec(&json!({ "records": records }))?;
        let asked = Instant::now();
        let answer = gateway.call(Method::POST, "/internal/logs", batch).await?;
        waits.push(asked.elapsed().as_secs_f64() * 1e3);
        ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
        ensure!(begun.elapsed() < PATIENCE, "it does not end");
        sleep(PAUSE).await;
        if looked.elapsed() > Duration::from_millis(200) {
            if is_over(begun).await? {
                return Ok(waits);
            }
            looked = Instant::now();
        }
    }
}

/// Whether what stands arrived at this time or later.
async fn oldest_is_from(admin: &HttpClient, from: DateTime<Utc>) -> anyhow::Result<bool> {
    let page: Value = admin.get(&format!("/admin/logs?limit=1&until={}", from.timestamp())).await?;
    Ok(page["items"].as_array().is_some_and(Vec::is_empty))
}

fn tell(title: &str, waits: &[f64]) {
    let mut sorted = waits.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: usize| sorted.get((sorted.len() * share / 1000).min(sorted.len() - 1)).copied().unwrap_or_default();
    println!(
        "    {title:<40} {:>8.1} ms a batch of {BATCH}, 99 % {:.1} ms, 99.9 % {:.1} ms, at most {:.1} ms of {}",
        at(500),
        at(990),
        at(999),
        at(1_000),
        sorted.len(),
    );
}

/// Lets the database make up records of 50 masters with 500 keys, one in ten of them failing.
async fn make_up(sandbox: &Sandbox, database: &TestDatabase, now: DateTime<Utc>, records: usize) -> anyhow::Result<()> {
    // Makes the days.
    let days: Vec<_> = (0..=DAYS).map(|day| record(1, 1, now - TimeDelta::days(day))).collect();
    let gateway = sandbox.control_as(INTERNAL_TOKEN);
    let answer = gateway.call(Method::POST, "/internal/logs", serde_json::to_vec(&json!({ "records": days }))?).await?;
    ensure!(answer.status.is_success(), "{}", answer.text());
    // As if they were rolled up: what is not does not go.
    database.execute("DELETE FROM log_batches").await;
    let (from, apart) = ((now - TimeDelta::days(DAYS)).timestamp_micros(), DAYS * 86_400_000_000 / records as i64);
    let begun = Instant::now();
    let statement = format!(
        "INSERT INTO logs (id, request_id, created_at, master_id, key_id, group_id, namespace, model, protocol, status, \
         error, stream, ended_by, attempts, latency_ms, input_tokens, output_tokens, usage_source, cost, request_bytes, \
         response_bytes, batch_id, latency_bin) \
         WITH RECURSIVE numbers(n) AS (SELECT CAST(0 AS bigint) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {records}) \
         SELECT 'old-' || (10000000000 + n), 'req-' || n, {from} + n * {apart}, n % 50 + 1, n % 500 + 1, n % 10 + 1, \
         'default', 'model-' || (n % 20), 'openai-chat', CASE WHEN n % 10 = 0 THEN 503 ELSE 200 END, \
         CASE WHEN n % 10 = 0 THEN 'the upstream is overloaded' END, true, 'complete', 1, 1234, 1000, 200, 'exact', \
         '0.0051', 5000, 9000, 0, 260 FROM numbers"
    );
    database.execute(&statement).await;
    println!("    {:<40} {:>8.1} s", "made up", begun.elapsed().as_secs_f64());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "records are of now, as the server that takes them sees it")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}
