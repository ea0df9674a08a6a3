//! Upstream types: each gets its URL, its sign-in and its headers, and service accounts get their tokens.

use std::time::{Duration, Instant};

use ez_contract::snapshot::{ProviderSnapshot, SnapshotEntry};
use ez_testkit::google::{TokenBehaviour, TokenEndpoint, service_account};
use http::StatusCode;

use crate::support::{Answer, TestGateway, binding, provider};

const CHAT: &str = r#"{"model":"typed","messages":[{"role":"user","content":"hi"}]}"#;

/// An upstream of a type that speaks OpenAI's chat protocol, too, behind the model `typed`.
async fn bind(gateway: &TestGateway, upstream: ProviderSnapshot) {
    let typed = binding("typed", &[(upstream.id, "up/model")]);
    gateway.apply(vec![SnapshotEntry::Provider(upstream), SnapshotEntry::Binding(typed)]).await;
}

fn typed(provider_type: &str, base_url: &str, secret: &str) -> ProviderSnapshot {
    let protocols = vec!["openai-chat".parse().unwrap()];
    ProviderSnapshot {
        provider_type: provider_type.parse().unwrap(),
        protocols,
        google_project: String::new(),
        ..provider(9, base_url, secret)
    }
}

#[tokio::test]
async fn each_type_is_called_where_and_as_its_vendor_wants_it() {
    let gateway = TestGateway::start().await;
    let base = gateway.upstream.base_url();
    let cases = [
        ("openai", "/v1", None, "/v1/chat/completions", "", "authorization"),
        ("compatible", "/api/v3", None, "/api/v3/chat/completions", "", "authorization"),
        ("anthropic", "", None, "/v1/chat/completions", "", "authorization"),
        ("claude", "/v1", None, "/v1/chat/completions", "", "authorization"),
        ("gemini", "", None, "/v1beta/openai/chat/completions", "", "authorization"),
        ("google", "/v1beta", None, "/v1beta/openai/chat/completions", "", "authorization"),
        ("azure", "", None, "/openai/v1/chat/completions", "", "api-key"),
        (
            "azure",
            "/openai/v1",
            Some("2026-01-01"),
            "/openai/deployments/up%2Fmodel/chat/completions",
            "api-version=2026-01-01",
            "api-key",
        ),
    ];
    for (provider_type, path, version, expected_path, expected_query, header) in cases {
        let mut upstream = typed(provider_type, &format!("{base}{path}"), "sk-typed");
        upstream.api_version = version.map(str::to_owned);
        bind(&gateway, upstream).await;
        let mut request = gateway.request("/v1/chat/completions?key=sk-client&beta=true", CHAT);
        for (name, value) in [("anthropic-beta", "b"), ("openai-beta", "o"), ("openai-organization", "mine")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = gateway.call(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{provider_type}: {}", answer.text());
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!((sent.path.as_str(), sent.query.as_str()), (expected_path, expected_query), "{provider_type}");
        let credentials: Vec<_> = ["authorization", "api-key", "x-api-key", "x-goog-api-key"]
            .into_iter()
            .filter(|name| sent.header(name).is_some())
            .collect();
        assert_eq!(credentials, [header], "{provider_type}");
        assert_eq!(sent.credential.as_deref(), Some("sk-typed"), "{provider_type}");
        assert_eq!(sent.json()["model"], "up/model", "{provider_type}");
        let vendors = ["anthropic-beta", "openai-beta", "openai-organization"].map(|name| sent.header(name));
        assert_eq!(vendors, [None, Some("o"), None], "{provider_type}");
    }
}

/// A call in a protocol of its own: the client's path, the vendor's, the vendor's query, and where the credential stands.
struct Native {
    provider_type: &'static str,
    base: &'static str,
    client: &'static str,
    path: &'static str,
    query: &'static str,
    header: &'static str,
}

const fn native(
    (provider_type, base): (&'static str, &'static str),
    client: &'static str,
    (path, query): (&'static str, &'static str),
    header: &'static str,
) -> Native {
    Native { provider_type, base, client, path, query, header }
}

const NATIVE: [Native; 11] = [
    native(("anthropic", ""), "/v1/messages?beta=true&key=x", ("/v1/messages", "beta=true"), "x-api-key"),
    native(("claude", "/v1"), "/v1/messages/count_tokens", ("/v1/messages/count_tokens", ""), "x-api-key"),
    native(("compatible", "/anthropic"), "/v1/messages", ("/anthropic/v1/messages", ""), "x-api-key"),
    native(
        ("gemini", ""),
        "/v1beta/models/typed:generateContent?key=x&fields=candidates",
        ("/v1beta/models/up%2Fmodel:generateContent", ""),
        "x-goog-api-key",
    ),
    native(
        ("google", "/v1beta"),
        "/v1beta/models/typed:streamGenerateContent?alt=sse",
        ("/v1beta/models/up%2Fmodel:streamGenerateContent", "alt=sse"),
        "x-goog-api-key",
    ),
    native(
        ("aistudio", "/p"),
        "/v1/models/typed:countTokens",
        ("/p/v1beta/models/up%2Fmodel:countTokens", ""),
        "x-goog-api-key",
    ),
    native(
        ("vertex-express", ""),
        "/v1beta/models/typed:generateContent",
        ("/v1/publishers/google/models/up%2Fmodel:generateContent", ""),
        "x-goog-api-key",
    ),
    native(
        ("vertex", ""),
        "/v1beta/models/typed:streamGenerateContent?alt=sse",
        (
            "/v1/projects/test-project/locations/global/publishers/google/models/up%2Fmodel:streamGenerateContent",
            "alt=sse",
        ),
        "authorization",
    ),
    native(("openai", "/v1"), "/v1/responses", ("/v1/responses", ""), "authorization"),
    native(("azure", ""), "/v1/responses", ("/openai/v1/responses", ""), "api-key"),
    native(("azure", "/openai"), "/v1/embeddings", ("/openai/v1/embeddings", ""), "api-key"),
];

#[tokio::test]
async fn each_protocol_is_spoken_where_its_vendor_has_it() {
    let endpoint = TokenEndpoint::start().await;
    let gateway = TestGateway::start().await;
    let base = gateway.upstream.base_url();
    for Native { provider_type, base: below, client, path, query, header } in NATIVE {
        let account = service_account(&endpoint.url());
        let secret = if provider_type == "vertex" { account.as_str() } else { "sk-typed" };
        let mut upstream = typed(provider_type, &format!("{base}{below}"), secret);
        let all = ["openai-chat", "openai-responses", "anthropic-messages", "gemini"];
        upstream.protocols = all.map(|protocol| protocol.parse().unwrap()).into();
        bind(&gateway, upstream).await;
        let body = r#"{"model":"typed","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"input":"hi",
            "contents":[{"parts":[{"text":"hi"}]}]}"#;
        let mut request = gateway.request(client, body);
        for (name, value) in [("anthropic-beta", "b"), ("openai-beta", "o"), ("x-goog-api-client", "g")] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = gateway.call(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{provider_type} {client}: {}", answer.text());
        let sent = gateway.upstream.requests().pop().unwrap();
        assert_eq!((sent.path.as_str(), sent.query.as_str()), (path, query), "{provider_type}");
        let credential = if provider_type == "vertex" { "token-1" } else { "sk-typed" };
        assert!(sent.header(header).is_some_and(|value| value.ends_with(credential)), "{provider_type}");
        let is_anthropic = path.contains("/messages");
        assert_eq!(sent.header("anthropic-version"), is_anthropic.then_some("2023-06-01"), "{provider_type}");
        let expected = match path {
            _ if is_anthropic => [Some("b"), None, None],
            _ if path.contains("/models/") => [None, None, Some("g")],
            _ => [None, Some("o"), None],
        };
        let vendors = ["anthropic-beta", "openai-beta", "x-goog-api-client"].map(|name| sent.header(name));
        assert_eq!(vendors, expected, "{provider_type} {client}");
    }
}

#[tokio::test]
async fn a_models_name_reaches_no_other_endpoint() {
    let gateway = TestGateway::start().await;
    let base = gateway.upstream.base_url();
    let upstream = ProviderSnapshot { protocols: Vec::new(), ..typed("gemini", &base, "sk-typed") };
    for (upstream_model, expected) in [
        ("m?alt=x#y", Some("/v1beta/models/m%3Falt%3Dx%23y:generateContent")),
        ("m:countTokens", Some("/v1beta/models/m%3AcountTokens:generateContent")),
        ("../../v1/files", None),
        ("..", None),
        // More refusals than a credential may fail in a row: they say nothing of it.
        ("..", None),
        ("..", None),
        ("..", None),
        ("..", None),
        ("fine", Some("/v1beta/models/fine:generateContent")),
    ] {
        let entry = binding("typed", &[(upstream.id, upstream_model)]);
        gateway.apply(vec![SnapshotEntry::Provider(upstream.clone()), SnapshotEntry::Binding(entry)]).await;
        gateway.upstream.clear_requests();
        let answer = gateway.call(gateway.request("/v1beta/models/typed:generateContent", r#"{"contents":[]}"#)).await;
        let path = gateway.upstream.requests().pop().map(|sent| sent.path);
        assert_eq!(path.as_deref(), expected, "{upstream_model}: {}", answer.text());
        let refused =
            expected.is_none().then(|| (503, answer.json()["error"]["status"].as_str() == Some("UNAVAILABLE")));
        assert_eq!(refused.unwrap_or((200, true)), (answer.status.as_u16(), true), "{}", answer.text());
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_called_is_told_apart_from_one_that_speaks_otherwise() {
    let gateway = TestGateway::start().await;
    let refused = async |upstream: ProviderSnapshot, path: &str| {
        bind(&gateway, upstream).await;
        let answer = gateway.call(gateway.request(path, CHAT)).await;
        (answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let base = gateway.upstream.base_url();
    let other = ProviderSnapshot { protocols: Vec::new(), ..typed("anthropic", &base, "sk") };
    let (chat, moderations) = ("/v1/chat/completions", "/v1/moderations");
    assert_eq!(refused(other, moderations).await, (400, "unsupported_protocol".to_owned()));
    let express = typed("vertex-express", &base, "sk");
    assert_eq!(refused(express, chat).await, (400, "unsupported_endpoint".to_owned()));
    for base_url in ["http://169.254.169.254/v1", "http://metadata.google.internal/v1", "ftp://h"] {
        assert_eq!(
            refused(typed("compatible", base_url, "sk"), chat).await,
            (503, "no_provider".to_owned()),
            "{base_url}"
        );
    }
    assert_eq!(gateway.upstream.request_count(), 0);
}

/// A gateway whose model `typed` is served by a service account that signs in at `endpoint`.
async fn vertex(endpoint: &TokenEndpoint) -> TestGateway {
    let gateway = TestGateway::start().await;
    let base = gateway.upstream.base_url();
    bind(&gateway, typed("vertex", &base, &service_account(&endpoint.url()))).await;
    gateway
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_service_account_signs_in_once_for_all_calls() {
    let endpoint = TokenEndpoint::start().await;
    endpoint.set(TokenBehaviour { delay: Duration::from_millis(50), ..TokenBehaviour::default() });
    let gateway = vertex(&endpoint).await;
    let answers = futures_util::future::join_all((0..20).map(|_| gateway.chat(CHAT))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK), "{}", answers[0].text());
    let sent = gateway.upstream.requests();
    assert_eq!(sent.len(), 20);
    for request in sent {
        assert_eq!(request.path, "/v1/projects/test-project/locations/global/endpoints/openapi/chat/completions");
        assert_eq!(request.header("authorization"), Some("Bearer token-1"));
    }
    let claims = endpoint.claims();
    assert_eq!((endpoint.asked(), claims.len()), (1, 1));
    assert_eq!(claims[0]["iss"], "tester@test-project.iam.gserviceaccount.com");
    assert_eq!(claims[0]["aud"].as_str(), Some(endpoint.url().as_str()));

    // What changes beside the secret does not end its token; another secret has none yet.
    let base = gateway.upstream.base_url();
    let mut heavier = typed("vertex", &base, &service_account(&endpoint.url()));
    heavier.weight = Some(5);
    bind(&gateway, heavier).await;
    assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK);
    assert_eq!(endpoint.asked(), 1);
    bind(&gateway, typed("vertex", &base, &format!("{} ", service_account(&endpoint.url())))).await;
    assert_eq!(gateway.chat(CHAT).await.status, StatusCode::OK);
    assert_eq!(endpoint.asked(), 2);
}

#[tokio::test]
async fn a_token_is_renewed_while_calls_go_on() {
    let endpoint = TokenEndpoint::start().await;
    endpoint.set(TokenBehaviour { expires_in: 2, ..TokenBehaviour::default() });
    let gateway = vertex(&endpoint).await;
    let began = Instant::now();
    let used = |token: &str| {
        let bearer = format!("Bearer {token}");
        gateway.upstream.requests().iter().any(|request| request.header("authorization") == Some(&bearer))
    };
    while !used("token-3") {
        let answer = gateway.chat(CHAT).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(20), "no third token after {} exchanges", endpoint.asked());
    }
    assert!(used("token-1") && used("token-2"));
    // Each token was used for half of its life at least.
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    assert_eq!(endpoint.asked(), 3);
}

#[tokio::test]
async fn a_service_account_without_a_token_fails_over_and_says_why() {
    let endpoint = TokenEndpoint::start().await;
    endpoint.set(TokenBehaviour { status: 400, ..TokenBehaviour::default() });
    let gateway = vertex(&endpoint).await;
    let refused = gateway.chat(CHAT).await;
    assert_eq!(code(&refused), (503, "upstream_credential_refused".to_owned()));
    assert!(!refused.text().contains("invalid_grant"), "{}", refused.text());
    assert_eq!(gateway.upstream.request_count(), 0);

    // The other credential of the same model serves.
    let both = binding("typed", &[(9, "m"), (1, "m")]);
    let mut first = typed("vertex", &gateway.upstream.base_url(), &format!(" {}", service_account(&endpoint.url())));
    first.weight = Some(1_000_000);
    gateway.apply(vec![SnapshotEntry::Provider(first), SnapshotEntry::Binding(both)]).await;
    let served = gateway.chat(CHAT).await;
    assert_eq!((served.status, served.header("x-ez-attempts")), (StatusCode::OK, Some("2")), "{}", served.text());
}

#[tokio::test]
async fn a_token_endpoint_in_trouble_is_no_dead_credential() {
    let endpoint = TokenEndpoint::start().await;
    endpoint.set(TokenBehaviour { status: 503, ..TokenBehaviour::default() });
    let gateway = vertex(&endpoint).await;
    let answers = futures_util::future::join_all((0..5).map(|_| gateway.chat(CHAT))).await;
    for answer in &answers {
        assert_eq!(code(answer), (502, "upstream_unreachable".to_owned()));
    }
    assert_eq!(endpoint.asked(), 1, "a failure stands for a moment");

    endpoint.set(TokenBehaviour::default());
    let began = Instant::now();
    while gateway.chat(CHAT).await.status != StatusCode::OK {
        assert!(began.elapsed() < Duration::from_secs(10), "the endpoint is not asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(endpoint.asked(), 2);
}
