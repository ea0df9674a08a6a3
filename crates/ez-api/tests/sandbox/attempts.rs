//! Attempts by API key: in the totals of the API keys and their group, each once, also across a stop.

use std::time::Duration;

use ez_testkit::sandbox::{Backends, Sandbox, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, Rule, SimUpstream};
use http::Method;
use serde_json::{Value, json};

use crate::logs::{PLAIN, STREAM, wait_for_logs};
use crate::{on_every_backend, options};

on_every_backend!(attempts_are_counted_once);

const CALLS: u64 = 20;

async fn attempts_are_counted_once(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let settings = options(backends).set("EZ_STATS_FLUSH_INTERVAL", "100ms").set("EZ_BREAKER_FAILURES", "1000");
    let mut sandbox = Sandbox::start(settings).await.unwrap();
    let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
    upstream.rule(Rule::any(Behaviour::status(503)).credential("sk-up-1"));
    let summed = async |sandbox: &Sandbox| {
        let sums = sandbox.admin().get("/admin/api-keys/stats/summary").await.unwrap();
        ["total_requests", "success_requests", "failure_requests"].map(|name| sums[name].as_u64().unwrap())
    };
    let make_calls = async |sandbox: &Sandbox| {
        let gateway = sandbox.gateway_as(&tenant.token);
        for call in 0..CALLS {
            let body = if call % 2 == 0 { PLAIN } else { STREAM };
            let answer = gateway.call(Method::POST, "/v1/chat/completions", body).await.unwrap();
            assert!(answer.status.is_success(), "{}", answer.text());
        }
    };
    let attempts = |records: &[Value]| records.iter().map(|record| record["attempts"].as_u64().unwrap()).sum::<u64>();

    make_calls(&sandbox).await;
    let made = attempts(&wait_for_logs(&sandbox, CALLS as usize).await);
    assert!(made > CALLS, "some were tried with the key that fails");
    let all = [made, CALLS, made - CALLS];
    let (sandbox_now, summed_now) = (&sandbox, &summed);
    let counted = sandbox.eventually("the attempts are counted", Duration::from_secs(20), || async move {
        Ok(summed_now(sandbox_now).await == all)
    });
    counted.await.unwrap();

    // What no interval flushes any more, the end does.
    sandbox.set("EZ_STATS_FLUSH_INTERVAL", Some("1h"));
    sandbox.terminate().await.unwrap();
    assert!(sandbox.wait().await.unwrap().success());
    sandbox.restart().await.unwrap();
    make_calls(&sandbox).await;
    sandbox.terminate().await.unwrap();
    assert!(sandbox.wait().await.unwrap().success());
    sandbox.restart().await.unwrap();
    let made = attempts(&wait_for_logs(&sandbox, 2 * CALLS as usize).await);
    assert_eq!(summed(&sandbox).await, [made, 2 * CALLS, made - 2 * CALLS]);

    let keys = sandbox.admin().get("/admin/api-keys").await.unwrap();
    let failed = |key: &Value| key["failure_requests"].as_u64().unwrap();
    let mut failures: Vec<u64> = keys["items"].as_array().unwrap().iter().map(failed).collect();
    failures.sort_unstable();
    assert_eq!(failures, [0, made - 2 * CALLS]);
    let group = sandbox.admin().get(&format!("/admin/provider-groups/{}", tenant.group_id)).await.unwrap();
    assert_eq!(json!([group["total_requests"], group["success_requests"]]), json!([made, 2 * CALLS]));
}
