//! Stored responses: calls by id, and responses that go on from another, reach the credential that knows it.

use bytes::Bytes;
use ez_contract::TokenDigest;
use ez_contract::snapshot::{Limits, MasterSnapshot, SnapshotEntry};
use ez_contract::usage::{EndedBy, UsageSource};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::support::{TestGateway, token, token_entry};

fn ask(gateway: &TestGateway, method: Method, path: &str) -> Request<Full<Bytes>> {
    let mut request = gateway.request(path, "");
    *request.method_mut() = method;
    request
}

#[tokio::test]
async fn calls_by_id_go_back_to_the_credential_that_made_the_response() {
    for stream in [false, true] {
        let gateway = TestGateway::start().await;
        let mut ids = Vec::new();
        // Two keys share the calls, so some of these are made by each.
        for _ in 0..12 {
            let body = json!({"model": "m", "input": "hi", "stream": stream}).to_string();
            let answer = gateway.call(gateway.request("/v1/responses", body)).await;
            let text = answer.text();
            let at = text.find("resp_").unwrap();
            ids.push(text[at..].split('"').next().unwrap().to_owned());
        }
        for id in &ids {
            let shown = gateway.call(ask(&gateway, Method::GET, &format!("/v1/responses/{id}"))).await;
            assert_eq!((shown.status, &shown.json()["id"]), (StatusCode::OK, &json!(id)), "{}", shown.text());
            let items =
                gateway.call(ask(&gateway, Method::GET, &format!("/v1/responses/{id}/input_items?limit=5"))).await;
            assert_eq!((items.status, &items.json()["object"]), (StatusCode::OK, &json!("list")));
            let next = json!({"model": "m", "input": "more", "previous_response_id": id}).to_string();
            let next = gateway.call(gateway.request("/v1/responses", next)).await;
            assert_eq!(next.status, StatusCode::OK, "{}", next.text());
            let cancelled = gateway.call(ask(&gateway, Method::POST, &format!("/v1/responses/{id}/cancel"))).await;
            assert_eq!(cancelled.json()["status"], "cancelled");
            let deleted = gateway.call(ask(&gateway, Method::DELETE, &format!("/v1/responses/{id}"))).await;
            assert_eq!(deleted.json()["deleted"], true, "{}", deleted.text());
        }
        let records = gateway.finish().await;
        assert_eq!(records.len(), 12 * 6);
        let (made, by_id): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.tokens.output_tokens == Some(16));
        assert_eq!((made.len(), by_id.len()), (24, 48), "what was charged once is not charged again");
        for record in by_id {
            let told = (record.ended_by, record.usage_source, record.tokens.input_tokens, record.model.as_str());
            assert_eq!(told, (EndedBy::Complete, UsageSource::Exact, Some(0), "m"));
        }
    }
}

#[tokio::test]
async fn a_response_is_its_masters_alone() {
    const STRANGER: &str = "sk-ez-stranger";
    let gateway = TestGateway::start().await;
    let mut key = token();
    (key.id, key.master_id) = (77, 3);
    let master = include_str!("../../../ez-contract/goldens/master.json");
    let master = MasterSnapshot { id: 3, ..serde_json::from_str(master).unwrap() };
    gateway.apply(vec![SnapshotEntry::Master(master), SnapshotEntry::Token(TokenDigest::of(STRANGER), key)]).await;

    let made = gateway.call(gateway.request("/v1/responses", r#"{"model":"alias","input":"hi"}"#)).await.json();
    let id = made["id"].as_str().unwrap();
    let shown = gateway.call(ask(&gateway, Method::GET, &format!("/v1/responses/{id}"))).await;
    assert_eq!((shown.status, &shown.json()["model"]), (StatusCode::OK, &json!("alias")), "{}", shown.text());

    let asked_before = gateway.upstream.request_count();
    let as_stranger = |mut request: Request<Full<Bytes>>| {
        request.headers_mut().insert("authorization", format!("Bearer {STRANGER}").parse().unwrap());
        request
    };
    for (method, suffix) in
        [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/cancel"), (Method::GET, "/input_items")]
    {
        let answer = gateway.call(as_stranger(ask(&gateway, method, &format!("/v1/responses/{id}{suffix}")))).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (404, &json!("response_not_found")));
    }
    let next = json!({"model": "m", "input": "more", "previous_response_id": id}).to_string();
    let answer = gateway.call(as_stranger(gateway.request("/v1/responses", next))).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (400, &json!("previous_response_not_found")));
    assert_eq!(gateway.upstream.request_count(), asked_before, "nothing reaches the vendor");
    let unknown = gateway.call(ask(&gateway, Method::GET, "/v1/responses/resp_none")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    gateway.finish().await;
}

#[tokio::test]
async fn calls_by_id_count_as_calls_and_use_no_tokens() {
    let gateway = TestGateway::start().await;
    let mut key = token();
    key.limits = Limits { rpd: Some(3), tpd: Some(100_000), concurrency: Some(1), ..Limits::default() };
    gateway.apply(vec![token_entry(key)]).await;
    let made = gateway.call(gateway.request("/v1/responses", r#"{"model":"m","input":"hi"}"#)).await.json();
    let used = made["usage"]["total_tokens"].as_u64().unwrap();
    let path = format!("/v1/responses/{}", made["id"].as_str().unwrap());
    for left in ["1", "0"] {
        let shown = gateway.call(ask(&gateway, Method::GET, &path)).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.text());
        assert_eq!(shown.header("x-ratelimit-remaining-requests"), Some(left));
        assert_eq!(shown.header("x-ratelimit-remaining-tokens"), Some((100_000 - used).to_string().as_str()));
    }
    let asked_before = gateway.upstream.request_count();
    let refused = gateway.call(ask(&gateway, Method::DELETE, &path)).await;
    let code = &refused.json()["error"]["code"];
    assert_eq!((refused.status.as_u16(), code), (429, &json!("rate_limit_exceeded")), "{}", refused.text());
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(gateway.upstream.request_count(), asked_before, "nothing reaches the vendor");
    let records = gateway.finish().await;
    let limited: Vec<_> = records.iter().filter(|record| record.ended_by == EndedBy::Limit).collect();
    assert_eq!((records.len(), limited.len(), limited[0].model.as_str()), (4, 1, ""), "nothing was looked up for it");
}

#[tokio::test]
async fn ids_that_no_vendor_makes_are_not_looked_up_and_reach_nobody() {
    let gateway = TestGateway::start().await;
    for id in ["a/b", "..", "a\u{0}b", "résp", "a b", &"a".repeat(257), &"a".repeat(600)] {
        let body = json!({"model": "m", "input": "hi", "previous_response_id": id}).to_string();
        let answer = gateway.call(gateway.request("/v1/responses", body)).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status.as_u16(), &error["param"]), (400, &json!("previous_response_id")), "{id:?}: {error}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches the vendor");
    gateway.finish().await;
}

#[tokio::test]
async fn nothing_is_made_in_the_background_where_nobody_would_pay_for_it() {
    let gateway = TestGateway::start().await;
    for stream in [false, true] {
        let body = json!({"model": "m", "input": "hi", "background": true, "stream": stream}).to_string();
        let refused = gateway.call(gateway.request("/v1/responses", body)).await;
        let error = refused.json()["error"].clone();
        assert_eq!((refused.status.as_u16(), &error["param"]), (400, &json!("background")), "{error}");
        assert!(error["message"].as_str().unwrap().contains("leave it out, and set `stream` to true"), "{error}");
    }
    assert_eq!(gateway.upstream.request_count(), 0, "nothing reaches the vendor");
    let plain = json!({"model": "m", "input": "hi", "background": false}).to_string();
    assert_eq!(gateway.call(gateway.request("/v1/responses", plain)).await.status, StatusCode::OK);
    gateway.finish().await;
}
