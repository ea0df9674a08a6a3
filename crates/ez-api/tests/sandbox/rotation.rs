//! A child key changes its token under way: clients have time to change over, and not longer.

use std::time::Duration;

use ez_testkit::http_client::HttpClient;
use ez_testkit::sandbox::{Backends, Tenant, TenantPlan};
use ez_testkit::upstream::{Behaviour, SimUpstream};
use http::{Method, StatusCode};
use serde_json::json;

use crate::logs::PLAIN;
use crate::{on_every_backend, start};

on_every_backend!(old_and_new_token_are_served_until_the_overlap_ends);

async fn old_and_new_token_are_served_until_the_overlap_ends(backends: Backends) {
    let upstream = SimUpstream::start(Behaviour::default()).await.unwrap();
    let sandbox = start(backends).await;
    let plan = TenantPlan::simple("acme", &upstream.openai_base_url());
    let tenant = Tenant::create(&sandbox, &plan).await.unwrap();
    let path = format!("/admin/keys/{}/rotate", tenant.key_id);
    let rotated = sandbox.admin().post(&path, &json!({"overlap_seconds": 6})).await.unwrap();

    let old = &sandbox.gateway_as(&tenant.token);
    let new = &sandbox.gateway_as(rotated["token"].as_str().unwrap());
    let status =
        async |client: &HttpClient| client.call(Method::POST, "/v1/chat/completions", PLAIN).await.unwrap().status;
    let served = sandbox.eventually("the new token is served", Duration::from_secs(5), || async move {
        Ok(new.call(Method::POST, "/v1/chat/completions", PLAIN).await?.status.is_success())
    });
    served.await.unwrap();
    assert_eq!(status(old).await, StatusCode::OK, "so is the old one, for a while");

    let ended = sandbox.eventually("the old token has ended", Duration::from_secs(15), || async move {
        Ok(old.call(Method::POST, "/v1/chat/completions", PLAIN).await?.status == StatusCode::UNAUTHORIZED)
    });
    ended.await.unwrap();
    assert_eq!(status(new).await, StatusCode::OK);
}
