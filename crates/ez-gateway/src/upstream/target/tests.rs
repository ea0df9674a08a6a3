use http::header::AUTHORIZATION;

use super::*;

fn provider(provider_type: &str, base_url: &str) -> ProviderSnapshot {
    let json = include_str!("../../../../ez-contract/goldens/provider.json");
    let mut provider: ProviderSnapshot = serde_json::from_str(json).unwrap();
    provider.provider_type = provider_type.parse().unwrap();
    provider.base_url = base_url.to_owned();
    provider
}

fn target(provider_type: &str, base_url: &str) -> UpstreamTarget {
    UpstreamTarget::new(&provider(provider_type, base_url), "sk").unwrap()
}

fn url(target: &UpstreamTarget, api: Api, model: &str, query: &str) -> String {
    target.url(api, model, query).unwrap().to_string()
}

#[test]
fn urls_are_what_the_vendors_sdk_would_call() {
    use Api::{
        ChatCompletions, CountTokens, Embeddings, GenerateContent, ImageEdits, Messages, MessagesCountTokens,
        Moderations, Rerank, Responses, Speech, StreamGenerateContent,
    };
    let cases = [
        ("openai", "", ChatCompletions, "https://api.openai.com/v1/chat/completions"),
        ("openai", "", Moderations, "https://api.openai.com/v1/moderations"),
        ("openai", "", Responses, "https://api.openai.com/v1/responses"),
        ("compatible", "http://127.0.0.1:9/v1/", ChatCompletions, "http://127.0.0.1:9/v1/chat/completions"),
        ("compatible", "https://h/openai/v1", ImageEdits, "https://h/openai/v1/images/edits"),
        ("compatible", "https://h", Rerank, "https://h/rerank"),
        ("compatible", "https://[fd00::1]:8443/v1", Speech, "https://[fd00::1]:8443/v1/audio/speech"),
        ("compatible", "https://h/anthropic", Messages, "https://h/anthropic/v1/messages"),
        ("compatible", "http://0x7f000001:9/v1", Embeddings, "http://127.0.0.1:9/v1/embeddings"),
        ("anthropic", "", Messages, "https://api.anthropic.com/v1/messages"),
        ("claude", "https://h/v1", MessagesCountTokens, "https://h/v1/messages/count_tokens"),
        ("anthropic", "https://h/proxy", ChatCompletions, "https://h/proxy/v1/chat/completions"),
        ("gemini", "", GenerateContent, "https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"),
        ("google", "https://h/v1beta", CountTokens, "https://h/v1beta/models/m:countTokens"),
        ("aistudio", "https://h/x/", StreamGenerateContent, "https://h/x/v1beta/models/m:streamGenerateContent"),
        ("gemini", "https://h", ChatCompletions, "https://h/v1beta/openai/chat/completions"),
        (
            "vertex-express",
            "",
            GenerateContent,
            "https://aiplatform.googleapis.com/v1/publishers/google/models/m:generateContent",
        ),
        (
            "azure",
            "https://r.openai.azure.com",
            ChatCompletions,
            "https://r.openai.azure.com/openai/v1/chat/completions",
        ),
        ("azure", "https://h/openai", Responses, "https://h/openai/v1/responses"),
        ("azure", "https://h/openai/v1", Embeddings, "https://h/openai/v1/embeddings"),
    ];
    for (provider_type, base_url, api, expected) in cases {
        assert_eq!(url(&target(provider_type, base_url), api, "m", ""), expected, "{provider_type} {base_url}");
    }
}

#[test]
fn bad_base_urls_make_no_target() {
    for bad in
        ["no url", "ftp://h/v1", "/v1", "http://169.254.169.254/v1", "http://metadata.google.internal", "https://a:b@h"]
    {
        assert!(UpstreamTarget::new(&provider("compatible", bad), "sk").is_err(), "{bad}");
    }
    let error = UpstreamTarget::new(&provider("codex", ""), "sk").unwrap_err();
    assert_eq!(error, TargetError::Subscription(ProviderType::Codex));
}

#[test]
fn deployments_of_azure_have_a_version_and_responses_no_deployment() {
    for base_url in ["https://h", "https://h/openai", "https://h/openai/v1"] {
        let mut azure = provider("azure", base_url);
        azure.api_version = Some("2026-01-01-preview".to_owned());
        let target = UpstreamTarget::new(&azure, "sk").unwrap();
        let version = "?api-version=2026-01-01-preview";
        let chat = "https://h/openai/deployments/my%20dep/chat/completions";
        assert_eq!(url(&target, Api::ChatCompletions, "my dep", ""), format!("{chat}{version}"));
        assert_eq!(url(&target, Api::Responses, "dep", ""), format!("https://h/openai/responses{version}"));
        let stored = target.response_url("resp_1", None, "include%5B%5D=a").unwrap();
        assert_eq!(stored.to_string(), format!("https://h/openai/responses/resp_1{version}&include%5B%5D=a"));
    }
    let mut openai = provider("openai", "https://h/v1");
    openai.api_version = Some("2026-01-01".to_owned());
    let target = UpstreamTarget::new(&openai, "sk").unwrap();
    assert_eq!(url(&target, Api::ChatCompletions, "m", ""), "https://h/v1/chat/completions");
}

#[test]
fn stored_responses_are_named_in_the_path() {
    let target = target("openai", "");
    let cases = [
        ("resp_1", None, "", "https://api.openai.com/v1/responses/resp_1"),
        ("resp_bGl0ZQ==", None, "", "https://api.openai.com/v1/responses/resp_bGl0ZQ%3D%3D"),
        ("resp_1", Some("cancel"), "key=sk", "https://api.openai.com/v1/responses/resp_1/cancel"),
        ("r/../x?y", Some("input_items"), "", ""),
        ("r/x?y", Some("input_items"), "limit=2", "https://api.openai.com/v1/responses/r%2Fx%3Fy/input_items?limit=2"),
    ];
    for (id, action, query, expected) in cases {
        let found = target.response_url(id, action, query).map(|url| url.to_string()).unwrap_or_default();
        assert_eq!(found, expected, "{id}");
    }
}

#[test]
fn clients_parameters_pass_where_they_are_known() {
    let gemini = target("gemini", "https://h");
    let stream = "https://h/v1beta/models/m:streamGenerateContent";
    assert_eq!(url(&gemini, Api::StreamGenerateContent, "m", "alt=sse&key=sk"), format!("{stream}?alt=sse"));
    let anthropic = target("anthropic", "https://h");
    assert_eq!(url(&anthropic, Api::Messages, "m", "beta=true"), "https://h/v1/messages?beta=true");
    assert_eq!(url(&anthropic, Api::Messages, "m", "key=sk"), "https://h/v1/messages");
}

#[test]
fn a_models_name_leads_nowhere_else() {
    let gemini = target("gemini", "https://h");
    let found = url(&gemini, Api::GenerateContent, "x:countTokens?a#b/c", "");
    assert_eq!(found, "https://h/v1beta/models/x%3AcountTokens%3Fa%23b%2Fc:generateContent");
    assert_eq!(gemini.url(Api::GenerateContent, "../../v1/files", ""), Err(UrlError::UnsafeName(UnsafeName)));
    // Where the path names no model, any name is as good.
    assert!(target("openai", "").url(Api::ChatCompletions, "../x", "").is_ok());
}

#[test]
fn each_vendor_gets_the_header_of_its_sdk() {
    let cases = [
        ("openai", "", Protocol::OpenaiChat, "authorization", "Bearer sk"),
        ("compatible", "https://h", Protocol::OpenaiResponses, "authorization", "Bearer sk"),
        ("compatible", "https://h", Protocol::AnthropicMessages, "x-api-key", "sk"),
        ("azure", "https://h", Protocol::OpenaiChat, "api-key", "sk"),
        ("anthropic", "", Protocol::AnthropicMessages, "x-api-key", "sk"),
        ("claude", "", Protocol::OpenaiChat, "authorization", "Bearer sk"),
        ("gemini", "", Protocol::Gemini, "x-goog-api-key", "sk"),
        ("aistudio", "", Protocol::OpenaiChat, "authorization", "Bearer sk"),
        ("vertex-express", "", Protocol::Gemini, "x-goog-api-key", "sk"),
    ];
    for (provider_type, base_url, protocol, name, value) in cases {
        let SignIn::Secret(secret) = target(provider_type, base_url).sign_in else { panic!("{provider_type}") };
        let header = secret.header(provider_type.parse().unwrap(), protocol);
        assert_eq!((header.0.as_str(), header.1.as_bytes()), (name, value.as_bytes()), "{provider_type}");
        assert!(header.1.is_sensitive());
    }
}

#[test]
fn a_secret_never_shows_in_debug_output() {
    let target = UpstreamTarget::new(&provider("openai", ""), "sk-canary").unwrap();
    let SignIn::Secret(secret) = &target.sign_in else { panic!("no secret") };
    let (name, value) = secret.header(ProviderType::Openai, Protocol::OpenaiChat);
    assert_eq!(name, AUTHORIZATION);
    assert!(!format!("{target:?} {value:?}").contains("canary"));
    let error = UpstreamTarget::new(&provider("openai", ""), "canary\nsecret").unwrap_err();
    assert!(!error.to_string().contains("canary"));
}

mod vertex {
    use ez_testkit::google::service_account;

    use super::*;

    fn vertex(project: &str, location: &str, base_url: &str) -> Result<UpstreamTarget, TargetError> {
        let mut provider = provider("vertex", base_url);
        provider.google_project = project.to_owned();
        provider.google_location = location.to_owned();
        UpstreamTarget::new(&provider, &service_account("https://oauth2.googleapis.com/token"))
    }

    #[test]
    fn each_location_has_its_host() {
        let path = |location| format!("/v1/projects/p/locations/{location}/publishers/google/models/m:generateContent");
        let cases = [
            ("", "aiplatform.googleapis.com", "global"),
            ("global", "aiplatform.googleapis.com", "global"),
            ("us", "aiplatform.us.rep.googleapis.com", "us"),
            ("eu", "aiplatform.eu.rep.googleapis.com", "eu"),
            ("europe-west4", "europe-west4-aiplatform.googleapis.com", "europe-west4"),
        ];
        for (location, host, named) in cases {
            let target = vertex("p", location, "").unwrap();
            let expected = format!("https://{host}{}", path(named));
            assert_eq!(url(&target, Api::GenerateContent, "m", ""), expected);
        }
        let elsewhere = vertex("p", "us", "https://private.example/").unwrap();
        assert_eq!(url(&elsewhere, Api::GenerateContent, "m", ""), format!("https://private.example{}", path("us")));
        let chat = "https://private.example/v1/projects/p/locations/us/endpoints/openapi/chat/completions";
        assert_eq!(url(&elsewhere, Api::ChatCompletions, "google/m", ""), chat);
    }

    #[test]
    fn the_project_is_the_groups_or_that_of_the_file() {
        let target = vertex("", "global", "").unwrap();
        assert!(url(&target, Api::CountTokens, "m", "").contains("/projects/test-project/"));
        for (project, location) in [("..", "us"), ("p", "us.evil.test/"), ("p", "a@b"), ("p", "..")] {
            assert_eq!(
                vertex(project, location, "").unwrap_err(),
                TargetError::InvalidGoogleLocation,
                "{project} {location}"
            );
        }
        assert!(matches!(
            UpstreamTarget::new(&provider("vertex", ""), "sk-no-file").unwrap_err(),
            TargetError::ServiceAccount(_)
        ));
    }
}
