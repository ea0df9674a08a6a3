//! Test calls against a simulated vendor.

use ez_contract::provider::ProviderType;
use ez_contract::status::ApiKeyStatus;
use ez_control::api_keys::ChangeApiKey;
use ez_control::provider_groups::CreateProviderGroup;
use ez_control::test_call::{self, TestCall};
use ez_control::{ControlError, api_keys, audit};
use ez_testkit::google::{TokenBehaviour, TokenEndpoint, service_account};
use ez_testkit::upstream::{Behaviour, Fault, SimUpstream};

use crate::support::{Plane, assert_not_found, conflict, openai_group, pointers, secret_in};

impl Plane {
    /// An API key with the secret `sk-upstream` in a group of this type at this URL.
    async fn upstream(&self, provider_type: ProviderType, base_url: &str) -> i64 {
        let name = format!("{provider_type} at {base_url}");
        let group = CreateProviderGroup {
            provider_type,
            base_url: Some(base_url.to_owned()),
            models: Some(vec!["model-1".to_owned(), "model-2".to_owned()]),
            ..openai_group(&name)
        };
        let group = self.try_group(group).await.unwrap();
        self.api_key(group.id).await.id
    }

    async fn try_test_call(&self, id: i64, model: Option<&str>) -> Result<TestCall, ControlError> {
        test_call::run(&self.control, id, model.map(str::to_owned)).await
    }
}

pub(crate) async fn each_type_is_asked_in_its_own_protocol(plane: Plane) {
    use ProviderType::{Aistudio, Anthropic, Azure, Claude, Compatible, Gemini, Google, Openai, VertexExpress};
    let vendor = SimUpstream::start(Behaviour::default()).await.unwrap();
    let bare = vendor.base_url();
    let with = |path: &str| format!("{bare}{path}");
    let cases = [
        (Openai, with("/v1"), "/v1/chat/completions", "authorization"),
        (Compatible, with("/api/v1"), "/api/v1/chat/completions", "authorization"),
        (Azure, with("/openai/v1"), "/openai/v1/chat/completions", "api-key"),
        (Azure, with("/resource"), "/resource/openai/v1/chat/completions", "api-key"),
        (Anthropic, bare.clone(), "/v1/messages", "x-api-key"),
        (Claude, with("/v1"), "/v1/messages", "x-api-key"),
        (Gemini, bare.clone(), "/v1beta/models/model-1:generateContent", "x-goog-api-key"),
        (Google, with("/v1beta"), "/v1beta/models/model-1:generateContent", "x-goog-api-key"),
        (Aistudio, with("/proxy"), "/proxy/v1beta/models/model-1:generateContent", "x-goog-api-key"),
        (VertexExpress, bare.clone(), "/v1/publishers/google/models/model-1:generateContent", "x-goog-api-key"),
    ];
    for (provider_type, base_url, path, header) in cases {
        vendor.clear_requests();
        let id = plane.upstream(provider_type, &base_url).await;
        let call = plane.try_test_call(id, None).await.unwrap();
        assert!(call.ok, "{provider_type}: {call:?}");
        assert_eq!(
            (call.status, call.model.as_str(), call.message.as_str()),
            (Some(200), "model-1", "the upstream answered")
        );
        let asked = vendor.requests().remove(0);
        assert_eq!(asked.path, path, "{provider_type}");
        assert!(asked.header(header).is_some_and(|sent| sent.ends_with("sk-upstream")), "{provider_type}");
        let body = asked.body.as_ref();
        let tokens = ["\"max_tokens\":1", "\"max_completion_tokens\":1", "\"maxOutputTokens\":1"];
        let body = std::str::from_utf8(body).unwrap();
        assert!(tokens.iter().any(|limit| body.contains(limit)), "{provider_type}: {body}");
    }
    let id = plane.upstream(Azure, &with("/deployed")).await;
    plane.sql("UPDATE provider_groups SET api_version = '2026-01-01' WHERE base_url LIKE '%/deployed'").await;
    assert!(plane.try_test_call(id, Some("model-2")).await.unwrap().ok);
    let asked = vendor.requests().pop().unwrap();
    assert_eq!(asked.path, "/deployed/openai/deployments/model-2/chat/completions");
    assert_eq!(asked.query, "api-version=2026-01-01");
}

pub(crate) async fn a_refusal_is_told_without_what_it_gives_away(plane: Plane) {
    let refusal = |status, message: &str| {
        Behaviour::failing(Fault::Status {
            status,
            retry_after: None,
            code: None,
            message: Some(message.to_owned()),
            html: None,
        })
    };
    let vendor = SimUpstream::start(refusal(401, "bad key sk-upstream, see https://v.test")).await.unwrap();
    let id = plane.upstream(ProviderType::Openai, &vendor.openai_base_url()).await;
    let before = api_keys::get(&plane.control, id).await.unwrap();
    let depth = plane.outbox_depth().await;
    let call = plane.try_test_call(id, None).await.unwrap();
    assert_eq!((call.ok, call.status), (false, Some(401)));
    assert_eq!(call.message, "the upstream refuses the credential: bad key [removed], see [removed]");

    let write = plane.write().await;
    test_call::record(&write, id, &call).await.unwrap();
    write.commit().await.unwrap();
    let audited = audit::list(&plane.control, None, 1).await.unwrap().items.remove(0).entry;
    assert_eq!((audited.action.as_str(), audited.record_id), ("test", Some(id)));
    assert_eq!(audited.after.unwrap()["status"], 401);
    assert_eq!(api_keys::get(&plane.control, id).await.unwrap(), before, "a test changes nothing");
    assert_eq!(plane.outbox_depth().await, depth);

    vendor.set(refusal(500, "no"));
    assert_eq!(plane.try_test_call(id, None).await.unwrap().message, "the upstream failed: no");
    vendor.set(Behaviour::failing(Fault::Close));
    let call = plane.try_test_call(id, None).await.unwrap();
    assert_eq!((call.ok, call.status), (false, None));
    let off = ChangeApiKey { status: Some(ApiKeyStatus::ManualDisabled), ..ChangeApiKey::default() };
    plane.change_api_key(id, off).await;
    vendor.set(Behaviour::default());
    assert!(plane.try_test_call(id, None).await.unwrap().ok, "it is tested before it is switched on");
}

pub(crate) async fn what_cannot_be_called_is_refused_before(plane: Plane) {
    assert_not_found(plane.try_test_call(999, None).await);
    let none = CreateProviderGroup { models: None, ..openai_group("no models") };
    let group = plane.try_group(none).await.unwrap();
    let id = plane.api_key(group.id).await.id;
    assert_eq!(pointers(plane.try_test_call(id, None).await), ["/model"]);
    assert_eq!(pointers(plane.try_test_call(id, Some("")).await), ["/model"]);

    let vertex = CreateProviderGroup { provider_type: ProviderType::Vertex, ..openai_group("vertex") };
    let group = plane.try_group(vertex).await.unwrap();
    let account = secret_in(group.id, "{\"type\": \"service_account\"}");
    let id = plane.try_api_key(account).await.unwrap().id;
    let (message, _) = conflict(plane.try_test_call(id, None).await);
    assert!(message.contains("`client_email` and `private_key`"), "{message}");

    let group = plane.group("openai").await;
    let id = plane.api_key(group.id).await.id;
    plane.sql("UPDATE api_keys SET api_key = 'enc:v1:AAAA'").await;
    let (message, _) = conflict(plane.try_test_call(id, None).await);
    assert!(message.contains("cannot be opened"), "{message}");
}

pub(crate) async fn a_service_account_signs_in_first(plane: Plane) {
    let vendor = SimUpstream::start(Behaviour::default()).await.unwrap();
    let endpoint = TokenEndpoint::start().await;
    let vertex = CreateProviderGroup {
        provider_type: ProviderType::Vertex,
        base_url: Some(vendor.base_url()),
        google_location: Some("europe-west4".to_owned()),
        models: Some(vec!["gemini-a".to_owned()]),
        ..openai_group("vertex")
    };
    let group = plane.try_group(vertex).await.unwrap();
    let account = secret_in(group.id, &service_account(&endpoint.url()));
    let id = plane.try_api_key(account).await.unwrap().id;
    let call = plane.try_test_call(id, None).await.unwrap();
    assert_eq!((call.ok, call.status), (true, Some(200)), "{call:?}");
    let asked = vendor.requests().remove(0);
    let parent = "/v1/projects/test-project/locations/europe-west4";
    assert_eq!(asked.path, format!("{parent}/publishers/google/models/gemini-a:generateContent"));
    assert_eq!(asked.header("authorization"), Some("Bearer token-1"));

    assert_eq!(pointers(plane.try_test_call(id, Some("../x")).await), ["/model"]);
    endpoint.set(TokenBehaviour { status: 400, ..TokenBehaviour::default() });
    let call = plane.try_test_call(id, None).await.unwrap();
    assert_eq!((call.ok, call.status), (false, None));
    let expected = "the service account gets no access token: its token endpoint answers 400: invalid_grant";
    assert_eq!(call.message, expected);
    assert_eq!(vendor.requests().len(), 1);
}
