//! Ingestion: batches of usage records as gateways hand them in, over HTTP into the database; on both databases.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use ez_contract::UsageRecord;
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::usage::{EndedBy, TokenUsage, UsageSource};
use ez_testkit::http_client::HttpClient;
use ez_testkit::load::process_usage;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions};
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{Args, median};

const BATCH: usize = 500;
const GATEWAYS: usize = 4;
const MASTERS: usize = 10;
const KEYS_OF_MASTER: usize = 10;
pub(crate) const INTERNAL_TOKEN: &str = "bench-internal-token-0123456789";

/// What came of a number of batches.
struct Measured {
    took: Duration,
    cpu: Duration,
    /// Milliseconds from the request to the answer of each batch.
    waits: Vec<f64>,
}

/// Measures ingestion on both databases.
pub(crate) async fn measure_ingestion(args: &Args) -> anyhow::Result<()> {
    let keys = MASTERS * KEYS_OF_MASTER;
    println!("\ningestion: {} records of {keys} child keys, in batches of {BATCH} over HTTP", args.records);
    for (title, backends) in [
        ("SQLite, each transaction forced to the disk", Backends::Embedded),
        ("PostgreSQL, which forces nothing to the disk here", Backends::Apart),
    ] {
        println!("  {title}");
        measure(args, backends).await.with_context(|| title.to_owned())?;
    }
    Ok(())
}

async fn measure(args: &Args, backends: Backends) -> anyhow::Result<()> {
    let options = SandboxOptions::new(&args.ez_api, backends).set("EZ_INTERNAL_TOKEN", INTERNAL_TOKEN);
    let sandbox = Sandbox::start(options).await?;
    let keys = make_keys(&sandbox.admin()).await?;
    let batches = |count: usize| (0..count).map(|_| batch(&keys)).collect::<anyhow::Result<Vec<Bytes>>>();
    // The first ones make tables and statements.
    hand_in(&sandbox, &batches(10)?, GATEWAYS, BATCH).await?;
    let all = batches(args.records.div_ceil(BATCH))?;
    tell(&format!("{GATEWAYS} gateways at once"), &hand_in(&sandbox, &all, GATEWAYS, BATCH).await?);
    tell("  the same records again", &hand_in(&sandbox, &all, GATEWAYS, 0).await?);
    tell("one gateway", &hand_in(&sandbox, &batches(all.len().div_ceil(GATEWAYS))?, 1, BATCH).await?);
    Ok(())
}

/// Masters with child keys; their ids.
async fn make_keys(admin: &HttpClient) -> anyhow::Result<Vec<(i64, i64)>> {
    let mut keys = Vec::new();
    for number in 0..MASTERS {
        let master = admin.post("/admin/masters", &json!({ "name": format!("team-{number}") })).await?;
        let master_id = master["id"].as_i64().context("the id of a master")?;
        for _ in 0..KEYS_OF_MASTER {
            let key = admin.post(&format!("/admin/masters/{master_id}/keys"), &json!({})).await?;
            keys.push((master_id, key["id"].as_i64().context("the id of a key")?));
        }
    }
    Ok(keys)
}

/// Hands batches in, each gateway one after the other, and checks that of each so many records are new.
async fn hand_in(sandbox: &Sandbox, batches: &[Bytes], gateways: usize, new: usize) -> anyhow::Result<Measured> {
    let pid = sandbox.control_pid().context("the control plane runs")?;
    let left = Arc::new(Mutex::new(VecDeque::from(batches.to_vec())));
    let (cpu_before, begun) = (process_usage(pid)?.cpu_time, Instant::now());
    let mut handing = JoinSet::new();
    for _ in 0..gateways {
        let (control, left) = (sandbox.control_as(INTERNAL_TOKEN), left.clone());
        handing.spawn(async move {
            let mut waits = Vec::new();
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some(batch) = next() {
                let asked = Instant::now();
                let answer = control.call(Method::POST, "/internal/logs", batch).await?;
                ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
                let accepted = answer.json()["accepted"].as_u64();
                ensure!(accepted == Some(new as u64), "{accepted:?} of a batch are new, and not {new}");
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(handed_in) = handing.join_next().await {
        waits.extend(handed_in??);
    }
    let took = begun.elapsed();
    Ok(Measured { took, cpu: process_usage(pid)?.cpu_time - cpu_before, waits })
}

fn tell(title: &str, measured: &Measured) {
    let records = (measured.waits.len() * BATCH) as f64;
    let most = measured.waits.iter().copied().fold(0.0, f64::max);
    println!(
        "    {title:<26} {:>8.0} records/s, {:>5.1} µs of CPU of the control plane each, a batch {:>6.1} ms, at most {most:.1} ms",
        records / measured.took.as_secs_f64(),
        measured.cpu.as_secs_f64() * 1e6 / records,
        median(measured.waits.iter().copied()),
    );
}

/// A batch of new records, by turns of each key.
#[expect(clippy::disallowed_methods, reason = "records are of now, as the server that takes them sees it")]
fn batch(keys: &[(i64, i64)]) -> anyhow::Result<Bytes> {
    let now = chrono::Utc::now();
    let records: Vec<UsageRecord> = (0..BATCH)
        .map(|number| {
            let (master_id, key_id) = keys.get(number % keys.len()).copied().unwrap_or_default();
            record(master_id, key_id, now)
        })
        .collect();
    Ok(serde_json::to_vec(&json!({ "records": records }))?.into())
}

/// A record of a call that succeeded.
pub(crate) fn record(master_id: i64, key_id: i64, created_at: chrono::DateTime<chrono::Utc>) -> UsageRecord {
    UsageRecord {
        id: Uuid::now_v7().to_string(),
        request_id: Uuid::now_v7().to_string(),
        created_at,
        master_id,
        key_id,
        group_id: Some(1),
        api_key_id: Some(2),
        namespace: "default".to_owned(),
        model: "gpt-4.1".to_owned(),
        upstream_model: Some("gpt-4.1-2025-04-14".to_owned()),
        protocol: Protocol::OpenaiChat,
        provider_type: Some(ProviderType::Openai),
        status: 200,
        error: None,
        stream: true,
        ended_by: EndedBy::Complete,
        attempts: 1,
        latency_ms: 2_345,
        first_byte_ms: Some(234),
        tokens: TokenUsage { input_tokens: Some(1_234), output_tokens: Some(321), ..TokenUsage::default() },
        usage_source: UsageSource::Exact,
        cost: Some("0.005036".to_owned()),
        price_version: Some("2026-11-01".to_owned()),
        client_ip: Some("192.0.2.17".to_owned()),
        request_bytes: 5_678,
        response_bytes: 12_345,
    }
}
