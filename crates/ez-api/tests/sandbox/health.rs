//! What one gateway learns of an upstream's API keys steers the others within a second, with nothing but Redis between
//! them.

use std::time::Duration;

use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Sandbox, SandboxOptions, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, Fault, Rule, SimUpstream};
use http::Method;

use crate::logs::PLAIN;

/// Within this every gateway knows what one has met.
const SHARED_WITHIN: Duration = Duration::from_secs(1);

/// Calls until a draw between two API keys must have met the bad one.
const TRIES: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_that_one_gateway_met_dead_or_exhausted_is_avoided_by_the_other() {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let mut sandbox = Sandbox::start(SandboxOptions::apart(env!("CARGO_BIN_EXE_ez-api"), 2)).await.unwrap();
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let secrets = vec!["sk-up-dead".to_owned(), "sk-up-exhausted".to_owned(), "sk-up-well".to_owned()];
    let tenant = Tenant::create(&sandbox, &TenantPlan { secrets, ..plan }).await.unwrap();
    sandbox.kill_control().await.unwrap();
    upstream.rule(Rule::any(Behaviour::status(401)).credential("sk-up-dead"));
    let exhausted = Fault::Status { status: 429, retry_after: Some(60), code: None, message: None, html: None };
    upstream.rule(Rule::any(Behaviour::failing(exhausted)).credential("sk-up-exhausted"));

    let [first, second] = <[HttpClient; 2]>::try_from(sandbox.every_gateway_as(&tenant.token)).ok().unwrap();
    let mut calls = 0;
    while !["sk-up-dead", "sk-up-exhausted"].iter().all(|secret| was_asked(&upstream, secret)) {
        call(&first).await;
        calls += 1;
        assert!(calls < TRIES, "the first gateway meets both");
    }
    // The promise is about time, so there is nothing else to wait for; a call before would teach the second gateway.
    tokio::time::sleep(SHARED_WITHIN).await;
    upstream.clear_requests();
    for _ in 0..TRIES {
        call(&second).await;
    }
    for secret in ["sk-up-dead", "sk-up-exhausted"] {
        assert!(!was_asked(&upstream, secret), "the second gateway asked with {secret}");
    }
    assert!(was_asked(&upstream, "sk-up-well"));
}

async fn call(gateway: &HttpClient) {
    let answer = gateway.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap();
    assert!(answer.status.is_success(), "another API key serves: {}", answer.text());
}

fn was_asked(upstream: &SimUpstream, secret: &str) -> bool {
    upstream.requests().iter().any(|request| request.credential.as_deref() == Some(secret))
}
