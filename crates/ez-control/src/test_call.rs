//! Test calls: the smallest real call to an upstream with one of its API keys.

use std::time::Duration;

use bytes::Bytes;
use ez_contract::ProviderType;
use ez_store::api_keys::ApiKey;
use ez_store::provider_groups::{self, ProviderGroup};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use url::Url;

use crate::error::Faults;
use crate::outbound::{self, OutboundAnswer, OutboundRequest, Reach};
use crate::vendor_words::message_of;
use crate::{Control, ControlError, Write, api_keys, checks};

/// Bound on the whole call. Reasoning models take their time for a single token, too.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer to one token is far smaller.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Version of the Messages API, which its vendor wants named.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// What became of a test call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestCall {
    /// Whether the upstream answered with success.
    pub ok: bool,
    /// The HTTP status that it answered with; none where it did not answer.
    pub status: Option<u16>,
    /// From sending to the end of the answer.
    pub latency_ms: u64,
    /// The upstream model that was asked for.
    pub model: String,
    /// What happened, and the vendor's message without what it may give away.
    pub message: String,
}

/// How to ask an upstream.
struct Ask {
    url: Url,
    sign_in: (HeaderName, String),
    extra: Option<(&'static str, &'static str)>,
    body: Json,
}

/// Calls an upstream for one token with an API key, whatever its state, which stays as it is. `model` is the first of the
/// provider group where absent. Errors: `NotFound`; `Invalid` without a model; `Conflict` for a credential that no call can
/// be made with.
pub async fn run(control: &Control, id: i64, model: Option<String>) -> Result<TestCall, ControlError> {
    let mut faults = Faults::default();
    if let Some(model) = &model {
        checks::required_text(&mut faults, "/model", model);
    }
    faults.into_result()?;
    let api_key = api_keys::get(control, id).await?;
    let group = provider_groups::get(control.store(), api_key.group_id).await?;
    let group = group.ok_or_else(|| ControlError::not_found("provider group", api_key.group_id))?;
    let Some(model) = model.or_else(|| group.models.first().cloned()) else {
        let name = &group.name;
        return Err(ControlError::invalid("/model", format!("is required, as the provider group `{name}` names none")));
    };
    let secret = secret(control, &group, &api_key)?;
    let Ask { url, sign_in, extra, body } = ask(&group, secret.expose_secret(), &model)?;
    let request = OutboundRequest {
        method: Method::POST,
        url,
        headers: headers(sign_in, extra)?,
        body: Bytes::from(body.to_string()),
        reach: Reach::Operator,
        timeout: TIMEOUT,
        max_answer_bytes: MAX_ANSWER_BYTES,
    };
    let began = Instant::now();
    let outcome = outbound::send(request).await;
    let latency_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, message) = match &outcome {
        Ok(OutboundAnswer { status, body }) => (Some(*status), told(*status, body, secret.expose_secret())),
        Err(error) => (None, error.to_string()),
    };
    let ok = status.is_some_and(|status| status.is_success());
    Ok(TestCall { ok, status: status.map(|status| status.as_u16()), latency_ms, model, message })
}

/// Notes a test call in the audit. Errors: `NotFound`.
pub async fn record(write: &Write, id: i64, call: &TestCall) -> Result<(), ControlError> {
    let api_key = api_keys::get(write.control(), id).await?;
    let outcome = json!({ "model": call.model, "ok": call.ok, "status": call.status, "latency_ms": call.latency_ms });
    write.record_use("test", &api_key, outcome).await
}

fn secret(control: &Control, group: &ProviderGroup, api_key: &ApiKey) -> Result<SecretString, ControlError> {
    let provider_type = group.provider_type;
    if provider_type.is_oauth() || provider_type == ProviderType::Vertex {
        let message = format!("API keys of the type `{provider_type}` cannot be tested yet; call a model of theirs");
        return Err(ControlError::conflict(message));
    }
    api_keys::open(control, api_key).ok_or_else(|| {
        ControlError::conflict("the API key's secret cannot be opened with this EZ_SECRET_KEY; write it again")
    })
}

/// The smallest call in the upstream's own protocol.
fn ask(group: &ProviderGroup, secret: &str, model: &str) -> Result<Ask, ControlError> {
    let provider_type = group.provider_type;
    let default = provider_type.default_base_url().unwrap_or_default();
    let base = if group.base_url.is_empty() { default } else { &group.base_url };
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let bearer = (AUTHORIZATION, format!("Bearer {secret}"));
    let plain = |name| (HeaderName::from_static(name), secret.to_owned());
    let gemini = || {
        json!({ "contents": [{ "role": "user", "parts": [{ "text": "Hi" }] }],
            "generationConfig": { "maxOutputTokens": 1 } })
    };
    let generate = format!("{}:generateContent", model.trim_start_matches("models/"));
    let (url, sign_in, extra, body) = match provider_type {
        ProviderType::Anthropic | ProviderType::Claude => {
            let body = json!({ "model": model, "max_tokens": 1, "messages": messages });
            let version = Some(("anthropic-version", ANTHROPIC_VERSION));
            (url(base, &["v1"], &["messages"])?, plain("x-api-key"), version, body)
        }
        ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio => {
            (url(base, &["v1beta"], &["models", &generate])?, plain("x-goog-api-key"), None, gemini())
        }
        ProviderType::VertexExpress => {
            let path = ["publishers", "google", "models", &generate];
            (url(base, &["v1"], &path)?, plain("x-goog-api-key"), None, gemini())
        }
        ProviderType::Azure => {
            let body = json!({ "model": model, "max_completion_tokens": 1, "messages": messages });
            (azure_url(group, base, model)?, plain("api-key"), None, body)
        }
        // Its newer models take no `max_tokens`; servers alike know no other.
        ProviderType::Openai => {
            let body = json!({ "model": model, "max_completion_tokens": 1, "messages": messages });
            (url(base, &[], &["chat", "completions"])?, bearer, None, body)
        }
        _ => {
            let body = json!({ "model": model, "max_tokens": 1, "messages": messages });
            (url(base, &[], &["chat", "completions"])?, bearer, None, body)
        }
    };
    Ok(Ask { url, sign_in, extra, body })
}

/// `path` below a base URL; `version` comes before it unless the base ends with a version already.
fn url(base: &str, version: &[&str], path: &[&str]) -> Result<Url, ControlError> {
    let mut url = Url::parse(base).map_err(ControlError::internal)?;
    let last = url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let has_version = last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let version = if has_version { &[] } else { version };
    match url.path_segments_mut() {
        Ok(mut segments) => drop(segments.pop_if_empty().extend(version.iter().chain(path))),
        Err(()) => return Err(ControlError::conflict("the provider group's base URL cannot be called; change it")),
    }
    Ok(url)
}

/// With an API version the deployment's URL, else the resource's own in OpenAI's form.
fn azure_url(group: &ProviderGroup, base: &str, model: &str) -> Result<Url, ControlError> {
    let Some(version) = &group.api_version else { return url(base, &[], &["chat", "completions"]) };
    let resource = base.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/openai");
    let mut url = url(resource, &[], &["openai", "deployments", model, "chat", "completions"])?;
    url.query_pairs_mut().append_pair("api-version", version);
    Ok(url)
}

fn headers(
    (name, value): (HeaderName, String),
    extra: Option<(&'static str, &'static str)>,
) -> Result<HeaderMap, ControlError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some((name, value)) = extra {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut value = HeaderValue::from_str(&value).map_err(|_| {
        ControlError::conflict("the API key's secret cannot be sent in a header; write the upstream's secret")
    })?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(headers)
}

/// What a status means, and what the vendor says of it.
fn told(status: StatusCode, body: &[u8], secret: &str) -> String {
    let meaning = match status.as_u16() {
        200..300 => return "the upstream answered".to_owned(),
        300..400 => "the upstream redirects: set the base URL to where it does",
        400 | 422 => "the upstream refuses the request",
        401 | 403 => "the upstream refuses the credential",
        402 => "the upstream wants to be paid",
        404 => "the upstream does not know the model or the URL",
        429 => "the upstream limits this credential at the moment",
        _ => "the upstream failed",
    };
    match message_of(body, secret) {
        Some(said) => format!("{meaning}: {said}"),
        None => meaning.to_owned(),
    }
}
