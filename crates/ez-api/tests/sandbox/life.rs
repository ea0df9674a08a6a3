//! The life of the process: a wrong setting stops it before a port is bound, SIGTERM lets streams end, and a restart
//! goes on where it stopped.

use std::process::Stdio;
use std::time::Duration;

use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::Method;
use http_body_util::BodyExt;
use tokio::process::Command;

use crate::logs::{PLAIN, STREAM, wait_for_logs};
use crate::{on_every_backend, options, start};

on_every_backend!(sigterm_drains_streams_and_exits_0, a_restart_serves_what_was_there);

async fn sigterm_drains_streams_and_exits_0(backends: Backends) {
    let slow = Behaviour { tokens: 40, tokens_per_second: Some(40.0), ..Behaviour::default() };
    let upstream = SimUpstream::start(slow).await.unwrap();
    let mut sandbox = start(backends).await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    let response = gateway.send(Method::POST, "/v1/chat/completions", STREAM).await.unwrap();
    sandbox.terminate().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let refused = sandbox.gateway_as(&tenant.token).send(Method::GET, "/v1/models", "").await;
    assert!(refused.is_err(), "no new connection is accepted while draining");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"), "the stream in flight ended well");
    let status = sandbox.wait().await.unwrap();
    assert_eq!(status.code(), Some(0));
    sandbox.restart().await.unwrap();
    let records = wait_for_logs(&sandbox, 1).await;
    assert_eq!(records[0]["ended_by"], "complete");
}

async fn a_restart_serves_what_was_there(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut sandbox = start(backends).await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    sandbox.kill().await.unwrap();
    sandbox.restart().await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    let served = sandbox.eventually("the key works again", Duration::from_secs(10), || {
        let gateway = gateway.clone();
        async move {
            let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await?;
            Ok(answer.status.is_success())
        }
    });
    served.await.unwrap();
}

#[tokio::test]
async fn a_drain_deadline_cuts_off_what_runs_too_long() {
    let slow = Behaviour { tokens: 1_000, tokens_per_second: Some(20.0), ..Behaviour::default() };
    let upstream = SimUpstream::start(slow).await.unwrap();
    let mut sandbox = Sandbox::start(options(Backends::Embedded).set("EZ_DRAIN_TIMEOUT", "500ms")).await.unwrap();
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let gateway = sandbox.gateway_as(&tenant.token);
    let response = gateway.send(Method::POST, "/v1/chat/completions", STREAM).await.unwrap();
    sandbox.terminate().await.unwrap();
    assert!(response.into_body().collect().await.is_err(), "the stream is cut off, not ended");
    assert_eq!(sandbox.wait().await.unwrap().code(), Some(0));
    sandbox.restart().await.unwrap();
    let records = wait_for_logs(&sandbox, 1).await;
    assert_eq!(records[0]["ended_by"], "gateway");
}

#[tokio::test]
async fn a_wrong_setting_stops_the_start_before_a_port_is_bound() {
    let occupied = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    type Settings = &'static [(&'static str, &'static str)];
    let cases: [(Settings, &[&str]); 5] = [
        (&[("EZ_MAX_ATTEMPTS", "none")], &["EZ_MAX_ATTEMPTS", "from 1 to 20"]),
        (&[("EZ_IDLE_TIMEOUT", "5")], &["EZ_IDLE_TIMEOUT", "500ms, 30s, 5m, 1h"]),
        (&[("EZ_SECRET_KEY", "short")], &["EZ_SECRET_KEY", "32 bytes"]),
        (&[("EZ_DATABASE_URL", "mysql://h/d")], &["EZ_DATABASE_URL", "postgres://", "sqlite://"]),
        (
            &[("EZ_GATEWAY_LISTEN", "here"), ("EZ_LOG_FORMAT", "xml")],
            &["EZ_GATEWAY_LISTEN", "EZ_LOG_FORMAT", "console or json"],
        ),
    ];
    for (settings, expected) in cases {
        // The ports are taken, so reaching the binding would show another error.
        let taken = occupied.local_addr().unwrap().to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_ez-api"))
            .env_clear()
            .env("EZ_DATA_DIR", data_dir.path())
            .env("EZ_CONTROL_LISTEN", &taken)
            .env("EZ_GATEWAY_LISTEN", &taken)
            .envs(settings.iter().copied())
            .arg("serve")
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for word in expected {
            assert!(text.contains(word), "{word} in {text}");
        }
        assert!(!text.contains("cannot be bound"), "{text}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_setting() {
    let occupied = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let data_dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ez-api"))
        .env_clear()
        .env("EZ_DATA_DIR", data_dir.path())
        .env("EZ_CONTROL_LISTEN", occupied.local_addr().unwrap().to_string())
        .env("EZ_GATEWAY_LISTEN", "127.0.0.1:0")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("EZ_CONTROL_LISTEN") && text.contains("cannot be bound"), "{text}");
}
