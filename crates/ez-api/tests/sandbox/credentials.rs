//! An upstream credential dies, and comes back: what gateways learn of it reaches the operator, and the other way round.

use std::time::Duration;

use ez_testkit::sandbox::{Backends, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, Rule, SimUpstream};
use http::{Method, StatusCode};
use serde_json::json;

use crate::logs::PLAIN;
use crate::{on_every_backend, start};

const CALL: &str = "/v1/chat/completions";

on_every_backend!(a_dead_credential_is_switched_off_with_its_evidence_and_used_again_once_activated);

async fn a_dead_credential_is_switched_off_with_its_evidence_and_used_again_once_activated(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let tenant = Tenant::create(&sandbox, &TenantPlan::simple("acme", &upstream.openai_base_url())).await.unwrap();
    let (admin, app) = (&sandbox.admin(), &sandbox.gateway_as(&tenant.token));
    let call = async || app.call(Method::POST, CALL, PLAIN).await.unwrap().status;

    upstream.rule(Rule::any(Behaviour::status(401)).credential("sk-up-1"));
    let keys = &format!("/admin/api-keys?group_id={}", tenant.group_id);
    let banned = async || -> anyhow::Result<Option<serde_json::Value>> {
        let keys = admin.get(keys).await?;
        let keys = keys["items"].as_array().cloned().unwrap_or_default();
        Ok(keys.into_iter().find(|key| key["status"] == "auto_disabled"))
    };
    let reported = sandbox.eventually("the operator sees the dead credential", Duration::from_secs(10), || async {
        assert_eq!(call().await, StatusCode::OK, "no call suffers, as the other credential serves");
        Ok(banned().await?.is_some())
    });
    reported.await.unwrap();
    let key = banned().await.unwrap().unwrap();
    let reason = key["ban_reason"].as_str().unwrap();
    assert!(reason.contains("refuses this credential") && reason.contains("status 401"), "{reason}");
    assert!(reason.contains("requests "), "{reason}");

    upstream.clear_rules();
    upstream.clear_requests();
    admin.put(&format!("/admin/api-keys/{}", key["id"]), &json!({"status": "active"})).await.unwrap();
    let used = sandbox.eventually("it is used again", Duration::from_secs(10), || async {
        assert_eq!(call().await, StatusCode::OK);
        Ok(upstream.requests().iter().any(|request| request.credential.as_deref() == Some("sk-up-1")))
    });
    used.await.unwrap();
}
