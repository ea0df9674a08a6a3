//! The smallest call in an upstream's own protocol: the URL, the sign-in and the body that a gateway would use.

use ez_contract::ProviderType;
use ez_contract::google::{vertex_base_url, vertex_parent};
use ez_contract::url_path::{UnsafeName, encoded, ends_with_version, gemini_model, segment, versioned, vertex_model};
use ez_store::provider_groups::ProviderGroup;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value as Json, json};
use url::Url;

use crate::ControlError;

/// Version of the Messages API, which its vendor wants named.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// How to ask an upstream.
pub(super) struct Ask {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Json,
}

/// The call for one token of `model`. `credential` is the secret, or the access token of a service account, whose own
/// project is `project`.
pub(super) fn ask(
    group: &ProviderGroup,
    credential: &str,
    project: Option<&str>,
    model: &str,
) -> Result<Ask, ControlError> {
    let bearer = format!("Bearer {credential}");
    let sign_in = match group.provider_type {
        ProviderType::Anthropic | ProviderType::Claude => header(HeaderName::from_static("x-api-key"), credential),
        ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio | ProviderType::VertexExpress => {
            header(HeaderName::from_static("x-goog-api-key"), credential)
        }
        ProviderType::Azure => header(HeaderName::from_static("api-key"), credential),
        _ => header(AUTHORIZATION, &bearer),
    };
    let mut headers = HeaderMap::from_iter([sign_in?]);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let body = match group.provider_type {
        ProviderType::Anthropic | ProviderType::Claude => {
            headers.insert("anthropic-version", ANTHROPIC_VERSION);
            json!({ "model": model, "max_tokens": 1, "messages": messages })
        }
        ProviderType::Gemini
        | ProviderType::Google
        | ProviderType::Aistudio
        | ProviderType::Vertex
        | ProviderType::VertexExpress => {
            let contents = json!([{ "role": "user", "parts": [{ "text": "Hi" }] }]);
            json!({ "contents": contents, "generationConfig": { "maxOutputTokens": 1 } })
        }
        // Its newer models take no `max_tokens`; servers alike know no other.
        ProviderType::Openai | ProviderType::Azure => {
            json!({ "model": model, "max_completion_tokens": 1, "messages": messages })
        }
        _ => json!({ "model": model, "max_tokens": 1, "messages": messages }),
    };
    Ok(Ask { url: url(group, project, model)?, headers, body })
}

/// Where a gateway would send it.
fn url(group: &ProviderGroup, project: Option<&str>, model: &str) -> Result<Url, ControlError> {
    let unsafe_name = |e: UnsafeName| ControlError::invalid("/model", e.to_string());
    let default = group.provider_type.default_base_url().unwrap_or_default();
    let base = if group.base_url.is_empty() { default } else { &group.base_url };
    let base = base.trim_end_matches('/');
    let text = match group.provider_type {
        ProviderType::Anthropic | ProviderType::Claude => format!("{}/messages", versioned(base, "v1")),
        ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio => {
            let model = gemini_model(model).map_err(unsafe_name)?;
            format!("{}/{model}:generateContent", versioned(base, "v1beta"))
        }
        ProviderType::VertexExpress => {
            let model = vertex_model(model).map_err(unsafe_name)?;
            format!("{}/{model}:generateContent", versioned(base, "v1"))
        }
        ProviderType::Vertex => {
            let (root, parent) = vertex(group, base == default, project).ok_or_else(|| {
                let remedy = "set google_project and google_location of the provider group";
                ControlError::conflict(format!("the Google project or location is missing or no such name; {remedy}"))
            })?;
            let base = root.as_deref().unwrap_or(base);
            let model = vertex_model(model).map_err(unsafe_name)?;
            format!("{}/{parent}/{model}:generateContent", versioned(base, "v1"))
        }
        ProviderType::Azure => azure(group, base, model).map_err(unsafe_name)?,
        _ => format!("{base}/chat/completions"),
    };
    let cannot_be_called = |_| ControlError::conflict("the provider group's base URL cannot be called; change it");
    Url::parse(&text).map_err(cannot_be_called)
}

/// The host of the location, unless a base URL was set, and what the model stands below.
fn vertex(group: &ProviderGroup, is_default: bool, project: Option<&str>) -> Option<(Option<String>, String)> {
    let own = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let location = own(&group.google_location);
    let location = location.as_deref().unwrap_or(group.provider_type.default_google_location());
    let project = own(&group.google_project).or_else(|| project.map(str::to_owned))?;
    let root = vertex_base_url(location)?;
    Some((is_default.then_some(root), vertex_parent(&project, location)?))
}

/// With an API version the deployment's URL, else the resource's own in OpenAI's form.
fn azure(group: &ProviderGroup, base: &str, model: &str) -> Result<String, UnsafeName> {
    let resource = base.strip_suffix("/v1").unwrap_or(base);
    let resource = resource.strip_suffix("/openai").unwrap_or(resource);
    Ok(match group.api_version.as_deref().filter(|version| !version.is_empty()) {
        Some(version) => {
            let (deployment, version) = (segment(model)?, encoded(version));
            format!("{resource}/openai/deployments/{deployment}/chat/completions?api-version={version}")
        }
        None if ends_with_version(base) => format!("{base}/chat/completions"),
        None => format!("{resource}/openai/v1/chat/completions"),
    })
}

fn header(name: HeaderName, value: &str) -> Result<(HeaderName, HeaderValue), ControlError> {
    let mut value = HeaderValue::from_str(value).map_err(|_| {
        ControlError::conflict("the API key's secret cannot be sent in a header; write the upstream's secret")
    })?;
    value.set_sensitive(true);
    Ok((name, value))
}
