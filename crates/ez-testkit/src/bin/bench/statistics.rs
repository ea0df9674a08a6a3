//! Statistics: a month of log records is made up by the database itself, rolled up by the product, and asked for over HTTP;
//! on both databases.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use chrono::DateTime;
use ez_testkit::database::TestDatabase;
use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions};
use http::Method;
use serde_json::Value;
use tokio::time::sleep;

use crate::retention::now;
use crate::{Args, median};

/// The records are of the last so many whole days, UTC: roll-ups of hours that are older would be dropped meanwhile.
const DAYS: i64 = 30;
/// Microseconds.
const HOUR: i64 = 3_600_000_000;

/// Readings of each question.
const READINGS: usize = 10;

/// Rows on SQLite where many are asked for.
const LARGE_SQLITE_ROWS: i64 = 1_000_000;

/// Bound on rolling everything up.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What is asked, and how it is called; `{1}` is the first of the days.
const QUESTIONS: &[(&str, &str)] = &[
    ("dashboard, 30 days", "dashboard/summary?since={1}T00:00:00Z&until={31}T00:00:00Z"),
    ("dashboard, all time", "dashboard/summary?period=all"),
    ("dashboard, ends within hours", "dashboard/summary?since={2}T03:30:00Z&until={29}T17:20:00Z"),
    ("by model", "logs/stats?group_by=model"),
    ("by master", "logs/stats?group_by=master"),
    ("by master, ends within hours", "logs/stats?group_by=master&since={2}T03:30:00Z&until={29}T17:20:00Z"),
    ("by key", "logs/stats?group_by=key"),
    ("by key, 30 days by day", "logs/stats?group_by=key&since={1}T00:00:00Z&until={31}T00:00:00Z"),
    ("by provider", "logs/stats?group_by=provider"),
    ("by day", "logs/stats?group_by=day"),
    ("by hour, 30 days", "logs/stats?group_by=hour&since={1}T00:00:00Z&until={31}T00:00:00Z"),
    ("by minute, 6 hours", "logs/stats?group_by=minute&since={15}T06:00:00Z&until={15}T12:00:00Z"),
    ("by model, of a master", "logs/stats?group_by=model&master_id=7"),
    ("by day, of a key", "logs/stats?group_by=day&key_id=77"),
    ("by day, of a key and model", "logs/stats?group_by=day&key_id=77&model=model-7"),
];

/// Measures statistics on both databases.
pub(crate) async fn measure_statistics(args: &Args) -> anyhow::Result<()> {
    let sqlite = if args.large { LARGE_SQLITE_ROWS } else { args.rows };
    let postgres = if args.large { 10 * LARGE_SQLITE_ROWS } else { args.rows };
    for (title, rows, database) in
        [("SQLite", sqlite, TestDatabase::sqlite()), ("PostgreSQL", postgres, TestDatabase::postgres().await)]
    {
        println!("\nstatistics: {rows} log records of 100 masters, 1000 keys, 20 models on {title}");
        let is_postgres = title == "PostgreSQL";
        measure(args, &database, rows, is_postgres).await.with_context(|| title.to_owned())?;
    }
    Ok(())
}

async fn measure(args: &Args, database: &TestDatabase, rows: i64, is_postgres: bool) -> anyhow::Result<()> {
    let options = SandboxOptions::new(&args.ez_api, Backends::Embedded)
        .set("EZ_DATABASE_URL", database.url())
        .set("EZ_SECRET_KEY", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
        .set("EZ_LOG_MAX_RECORDS", (100 * LARGE_SQLITE_ROWS).to_string())
        .set("EZ_LOG_RETENTION_DAYS", "3650")
        .set("EZ_JOB_ROLLUPS_INTERVAL", "24h");
    let sandbox = Sandbox::start(options).await?;
    let first_at = now().timestamp_micros() / (24 * HOUR) * 24 * HOUR - DAYS * 24 * HOUR;
    let begun = Instant::now();
    make_up(database, first_at, rows, is_postgres).await;
    tell("made up", rows, begun.elapsed());
    let begun = Instant::now();
    roll_up(&sandbox.admin(), rows).await?;
    tell("rolled up", rows, begun.elapsed());
    for (title, path) in QUESTIONS {
        let path = format!("/admin/{}", on_days_from(first_at, path));
        let mut readings = Vec::new();
        for _ in 0..READINGS {
            let begun = Instant::now();
            sandbox.admin().get(&path).await.with_context(|| path.clone())?;
            readings.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let most = readings.iter().copied().fold(0.0, f64::max);
        println!("    {title:<40} {:>8.1} ms, at most {most:.1} ms", median(readings.into_iter()));
    }
    let all = sandbox.admin().get("/admin/dashboard/summary?period=all").await?;
    ensure!(all["requests"]["total"] == rows, "{} calls of {rows} are told", all["requests"]["total"]);
    Ok(())
}

/// Has the job run until nothing is left.
async fn roll_up(admin: &HttpClient, rows: i64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut items = 0;
    while items < rows {
        ensure!(begun.elapsed() < PATIENCE, "{items} of {rows} were rolled up");
        // It answers before the end where the run takes long, and refuses to begin another.
        let before = last_run(admin).await?["started_at"].clone();
        admin.call(Method::POST, "/admin/jobs/rollups/run", "").await?;
        let run = loop {
            let run = last_run(admin).await?;
            if !run.is_null() && run["started_at"] != before {
                break run;
            }
            sleep(Duration::from_millis(50)).await;
        };
        ensure!(run["error"].is_null(), "{run}");
        items += run["items"].as_i64().unwrap_or_default();
    }
    Ok(())
}

async fn last_run(admin: &HttpClient) -> anyhow::Result<Value> {
    let jobs = admin.get("/admin/jobs").await?;
    let mut jobs = jobs["items"].as_array().into_iter().flatten();
    Ok(jobs.find(|job| job["name"] == "rollups").map_or(Value::Null, |job| job["last_run"].clone()))
}

/// A question with the dates of its days.
fn on_days_from(first_at: i64, path: &str) -> String {
    (1..=DAYS + 1).fold(path.to_owned(), |path, day| {
        let date = DateTime::from_timestamp_micros(first_at + (day - 1) * 24 * HOUR).unwrap_or_default();
        path.replace(&format!("{{{day}}}"), &date.format("%Y-%m-%d").to_string())
    })
}

fn tell(title: &str, rows: i64, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("    {title:<40} {seconds:>8.1} s, {:.0} records/s", rows as f64 / seconds);
}

/// Fills the table of log records, each hour of which is a batch that is to be rolled up.
async fn make_up(database: &TestDatabase, first_at: i64, rows: i64, is_postgres: bool) {
    let hours = DAYS * 24;
    for hour in 0..hours {
        let (first, last) = (hour * rows / hours, (hour + 1) * rows / hours);
        if is_postgres && hour % 24 == 0 {
            let from = first_at + hour * HOUR;
            let name = DateTime::from_timestamp_micros(from).unwrap_or_default().format("%Y%m%d");
            let to = from + 24 * HOUR;
            let partition =
                format!("CREATE TABLE IF NOT EXISTS logs_{name} PARTITION OF logs FOR VALUES FROM ({from}) TO ({to})");
            database.execute(&partition).await;
        }
        database.execute(&hour_of_records(first_at, hour, first, last)).await;
    }
    database.execute("ANALYZE").await;
}

/// Statements that store records of these numbers, spread over an hour. What looks random is made of the number.
fn hour_of_records(first_at: i64, hour: i64, first: i64, last: i64) -> String {
    let begin = first_at + hour * HOUR;
    let end = begin + HOUR - 1;
    let step = HOUR / (last - first).max(1);
    let doublings: String = (1..=20)
        .map(|halvings| {
            format!("WHEN latency < {} THEN {} + (latency >> {halvings}) ", 64_i64 << halvings, 32 * halvings)
        })
        .collect();
    format!(
        "INSERT INTO log_batches (id, first_at, last_at) VALUES ({id}, {begin}, {end}); \
         INSERT INTO logs (id, request_id, created_at, master_id, key_id, group_id, api_key_id, namespace, model, \
         upstream_model, protocol, provider_type, status, error, stream, ended_by, attempts, latency_ms, first_byte_ms, \
         input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, usage_source, cost, \
         price_version, client_ip, request_bytes, response_bytes, batch_id, latency_bin, cost_nanos, cost_attos, cost_rest) \
         SELECT 'made-up-' || i, 'request-' || i, {begin} + (i - {first}) * {step}, 1 + h % 100, \
         1 + h % 100 + 100 * (h / 100 % 10), 1 + h % 10, 1 + h % 50, 'default', 'model-' || (h / 1000 % 20), \
         'upstream-' || (h / 1000 % 20), 'openai-chat', 'openai', CASE WHEN h % 50 = 0 THEN 500 ELSE 200 END, \
         CASE WHEN h % 50 = 0 THEN 'upstream_error: it failed' END, TRUE, \
         CASE WHEN h % 50 = 0 THEN 'upstream' ELSE 'complete' END, 1, latency, latency / 4, \
         h % 5000, h % 700, h % 300, 0, h % 90, 'exact', '0.00' || (1000000 + h % 9000000), 'made-up', '192.0.2.1', \
         2000, 4000, {id}, CASE WHEN latency < 64 THEN latency {doublings}ELSE 1343 END, \
         (1000000 + h % 9000000), 0, 0 \
         FROM (SELECT i, h, 20 + (h / 7 % 1000) * (1 + h % 11 * (h % 3)) AS latency FROM ( \
         WITH RECURSIVE numbers(i) AS (SELECT CAST({first} AS bigint) UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {last}) \
         SELECT i, (i * 2654435761) % 1000003 AS h FROM numbers) AS made_up) AS records WHERE i < {last}",
        id = hour + 1,
    )
}
