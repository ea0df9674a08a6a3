//! Hygiene: what an upstream reads is what was checked here, and its words name no account of its own.

use ez_testkit::upstream::{Behaviour, Fault};
use http::StatusCode;

use crate::support::TestGateway;

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn a_body_that_an_upstream_would_decode_is_refused() {
    let gateway = TestGateway::start().await;
    for coding in ["gzip", "br", "identity, deflate", "utf-7"] {
        let mut request = gateway.request("/v1/chat/completions", CHAT);
        request.headers_mut().insert("content-encoding", coding.parse().unwrap());
        let answer = gateway.call(request).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{coding}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "unsupported_content_encoding", "{coding}");
        assert!(error["message"].as_str().unwrap().contains("without `content-encoding`"), "{error}");
    }
    assert_eq!(gateway.upstream.requests().len(), 0);
    let mut plain = gateway.request("/v1/chat/completions", CHAT);
    plain.headers_mut().insert("content-encoding", "identity".parse().unwrap());
    assert_eq!(gateway.call(plain).await.status, StatusCode::OK);
    let sent = gateway.upstream.requests().pop().unwrap();
    assert_eq!(sent.header("content-encoding"), None);
    assert_eq!(gateway.finish().await.len(), 5);
}

#[tokio::test]
async fn a_body_goes_out_as_what_it_was_read_as() {
    let gateway = TestGateway::start().await;
    let types: [&[u8]; 3] = [b"multipart/form-data; boundary=x", b"multipart/form-data; boundary=\xe9", b"text/plain"];
    for content_type in types {
        let mut request = gateway.request("/v1/chat/completions", CHAT);
        request.headers_mut().insert("content-type", http::HeaderValue::from_bytes(content_type).unwrap());
        assert_eq!(gateway.call(request).await.status, StatusCode::OK, "{content_type:?}");
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!(sent.header("content-type"), Some("application/json"), "{content_type:?}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn what_a_vendor_says_of_its_own_account_reaches_neither_client_nor_record() {
    for (status, said) in [
        (400, "model `projects/canary-1/locations/eu/models/m` was not found"),
        (400, "organization (3b1f7f40-0a1b-4c2d-8e3f-0123456789ab) sent too much"),
        (429, "Quota exceeded for consumer 'project_number:999000111'."),
        (500, "canary-2@acme.iam.gserviceaccount.com failed"),
    ] {
        let gateway = TestGateway::start().await;
        let message = Some(said.to_owned());
        gateway.upstream.set(Behaviour::failing(Fault::Status {
            status,
            retry_after: None,
            code: None,
            message,
            html: None,
        }));
        let answer = gateway.chat(CHAT).await;
        assert!(answer.text().contains("[removed]"), "{}", answer.text());
        let record = gateway.finish_with_one_record().await;
        let told = format!("{} {:?}", answer.text(), record);
        for secret in ["canary", "3b1f7f40", "999000111"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}
