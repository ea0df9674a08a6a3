//! `doctor`: a healthy installation is told so, and what fails is named with what to do.

use ez_testkit::redis_server::RedisServer;
use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use serde_json::Value;

use crate::transfer::text;
use crate::{on_every_backend, options, start};

on_every_backend!(a_healthy_installation_is_told_so);

/// Runs the doctor on the addresses of the sandbox; its exit code and its findings.
async fn examine(sandbox: &Sandbox, further: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
    let (control, gateway) = (sandbox.control_url(), sandbox.gateway_url());
    let [control, gateway] = [control, gateway].map(|url| url.strip_prefix("http://").unwrap());
    let args = ["doctor", "--json", "--control-listen", control, "--gateway-listen", gateway];
    let output = sandbox.run(&args, further).await.unwrap();
    assert!(!text(&output).contains("canary"), "{}", text(&output));
    let told: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    assert_eq!(told["healthy"] == true, output.status.code() == Some(0));
    (output.status.code(), told["checks"].as_array().unwrap().clone())
}

/// Whether there is a finding of this check and level with these words.
#[track_caller]
fn assert_found(findings: &[Value], check: &str, level: &str, words: &str) {
    let is_it = |finding: &&Value| {
        finding["check"] == check && finding["level"] == level && finding["found"].as_str().unwrap().contains(words)
    };
    assert!(findings.iter().any(|finding| is_it(&finding)), "{check} {level} {words}: {findings:#?}");
}

async fn tenant(sandbox: &Sandbox, upstream: &SimUpstream) {
    let base_url = upstream.openai_base_url();
    let plan = TenantPlan { secrets: vec!["sk-canary-up".to_owned()], ..TenantPlan::simple("acme", &base_url) };
    Tenant::create(sandbox, &plan).await.unwrap();
}

async fn a_healthy_installation_is_told_so(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    tenant(&sandbox, &upstream).await;
    let (code, findings) = examine(&sandbox, &[]).await;
    assert_eq!(code, Some(0), "{findings:#?}");
    let shares = backends != Backends::Embedded;
    for (check, words) in [
        ("configuration", "every setting is valid"),
        ("data directory", "is closed to others"),
        ("listener", "EZ_CONTROL_LISTEN: ez-api serves at"),
        ("listener", "EZ_GATEWAY_LISTEN: ez-api serves at"),
        ("database", "answers"),
        ("database", "its schema is this build's"),
        ("database", "it takes writes"),
        ("secret key", "opens all"),
        ("redis", if shares { "it takes writes with the prefix" } else { "is not used" }),
        ("snapshot", if shares { "version" } else { "in the process that serves" }),
        ("upstream", "takes connections (acme-upstream)"),
    ] {
        assert_found(&findings, check, "ok", words);
    }
    if shares {
        assert_found(&findings, "clock", "ok", "the database and this host");
        assert_found(&findings, "clock", "ok", "Redis and this host");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_secret_key_and_a_dead_upstream_are_failures() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(Backends::Embedded).await;
    tenant(&sandbox, &upstream).await;
    let (code, findings) = examine(&sandbox, &[("EZ_SECRET_KEY", &"00".repeat(32))]).await;
    assert_eq!(code, Some(1));
    assert_found(&findings, "secret key", "fail", "2 of 2 stored secrets cannot be opened");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let group = serde_json::json!({"name": "dead", "type": "compatible", "base_url": format!("http://{closed}/v1")});
    sandbox.admin().post("/admin/provider-groups", &group).await.unwrap();
    let (code, findings) = examine(&sandbox, &[]).await;
    assert_eq!(code, Some(1));
    assert_found(&findings, "upstream", "fail", &format!("http://{closed} cannot be reached (dead)"));
    assert_found(&findings, "upstream", "ok", "takes connections (acme-upstream)");

    let (code, findings) = examine(&sandbox, &[("EZ_MAX_ATTEMPTS", "0"), ("EZ_TYPO", "1")]).await;
    assert_eq!(code, Some(1));
    assert_found(&findings, "configuration", "fail", "EZ_MAX_ATTEMPTS");
    assert_found(&findings, "configuration", "warn", "EZ_TYPO");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_of_its_own_is_examined_alone() {
    let sandbox = start(Backends::Apart).await;
    for (control_url, level) in [(sandbox.control_url(), "ok"), ("http://127.0.0.1:1", "fail")] {
        let args = ["doctor", "--json", "--role", "gateway", "--control-listen", "127.0.0.1:0"];
        let further = [("EZ_CONTROL_URL", control_url)];
        let output = sandbox.run(&args, &further).await.unwrap();
        let told: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        assert_found(told["checks"].as_array().unwrap(), "control plane", level, "EZ_CONTROL_URL");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_redis_is_a_failure_and_the_rest_is_looked_at() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut redis = RedisServer::start().await;
    let options = options(Backends::Scaled).set("EZ_REDIS_URL", redis.url());
    let sandbox = Sandbox::start(options).await.unwrap();
    tenant(&sandbox, &upstream).await;
    redis.kill();
    let (code, findings) = examine(&sandbox, &[]).await;
    assert_eq!(code, Some(1));
    assert_found(&findings, "redis", "fail", "unavailable");
    assert_found(&findings, "snapshot", "fail", "cannot be read");
    assert_found(&findings, "database", "ok", "it takes writes");
    assert_found(&findings, "secret key", "ok", "opens all");
}
