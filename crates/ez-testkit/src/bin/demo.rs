//! The demo: both planes on the embedded default with a simulated vendor, from nothing to two answers and their
//! accounts.

#![allow(clippy::print_stdout, reason = "the demo tells its story on standard output")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use ez_testkit::sandbox::{Backends, Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use serde_json::{Value, json};

/// Shows the main job of ez-api without a vendor account.
#[derive(Debug, Parser)]
struct Args {
    /// The built ez-api.
    #[arg(long, value_name = "PATH")]
    ez_api: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    println!("1. A simulated vendor that speaks OpenAI's protocol");
    let behaviour = Behaviour { tokens: 8, token_text: "hello ".into(), ..Behaviour::default() };
    let upstream = SimUpstream::start(behaviour).await?;
    println!("   {}", upstream.openai_base_url());

    println!("2. ez-api, both planes in one process, on SQLite and in-process state");
    let mut sandbox = Sandbox::start(SandboxOptions::new(args.ez_api, Backends::Embedded)).await?;
    println!("   gateway {}   control {}", sandbox.gateway_url(), sandbox.control_url());

    println!("3. Through the admin API: provider group, two API keys, binding, master, child key");
    let plan = TenantPlan::simple("demo", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await?;
    println!("   child key {}… of master `demo`", &tenant.token[..12]);

    println!("4. POST {}/v1/chat/completions, plain", sandbox.gateway_url());
    let gateway = sandbox.gateway_as(&tenant.token);
    let mut request = json!({"model": "gpt-sim", "messages": [{"role": "user", "content": "Say hello."}]});
    let plain = gateway.call(Method::POST, "/v1/chat/completions", request.to_string()).await?;
    ensure!(plain.status.is_success(), "the plain call failed: {}", plain.text());
    println!("{}", pretty(&plain.json())?);

    println!("5. The same, streaming");
    request["stream"] = json!(true);
    let stream = gateway.call(Method::POST, "/v1/chat/completions", request.to_string()).await?;
    ensure!(stream.text().ends_with("data: [DONE]\n\n"), "the stream did not end well: {}", stream.text());
    println!("{}", indent(stream.text().trim_end()));

    println!("6. GET {}/admin/logs: the account of both calls", sandbox.control_url());
    for answer in [&plain, &stream] {
        let request_id = answer.header("x-request-id").context("an answer without a request id")?;
        println!("{}", pretty(&log_record(&sandbox, request_id).await?)?);
    }

    println!("7. SIGTERM: drain, flush, exit");
    sandbox.terminate().await?;
    let status = sandbox.wait().await?;
    ensure!(status.success(), "ez-api ended with {status}");
    println!("   exit code 0. Your turn: `make run`, then README.md.");
    Ok(())
}

async fn log_record(sandbox: &Sandbox, request_id: &str) -> anyhow::Result<Value> {
    let admin = sandbox.admin();
    let path = format!("/admin/logs?request_id={request_id}");
    let (admin, path) = (&admin, &path);
    let arrived = sandbox.eventually("the log record arrives", Duration::from_secs(10), || async move {
        Ok(admin.get(path).await?["items"].as_array().is_some_and(|items| !items.is_empty()))
    });
    arrived.await?;
    Ok(admin.get(path).await?["items"][0].clone())
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(indent(&serde_json::to_string_pretty(value)?))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n")
}
