//! Upstream transport: where a provider's calls go, how they sign in, and the pooled client that carries them.

use std::time::Duration;

use bytes::Bytes;
use ez_contract::ProviderType;
use ez_contract::snapshot::ProviderSnapshot;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Where an API key's calls go and the header that signs them in. Made once per snapshot, not per call.
pub(crate) struct UpstreamTarget {
    chat_completions: Uri,
    auth: (HeaderName, HeaderValue),
}

/// Why a provider cannot be called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("its base URL is not a valid http(s) URL")]
    InvalidUrl,
    #[error("its secret cannot be sent in a header")]
    InvalidSecret,
    #[error(
        "deployment URLs of Azure are not supported yet: use the resource's /openai/v1 base URL without an API version"
    )]
    AzureDeployment,
}

impl UpstreamTarget {
    pub(crate) fn new(provider: &ProviderSnapshot, secret: &str) -> Result<Self, TargetError> {
        if provider.provider_type == ProviderType::Azure && provider.api_version.is_some() {
            return Err(TargetError::AzureDeployment);
        }
        let default = provider.provider_type.default_base_url().unwrap_or_default();
        let base = if provider.base_url.is_empty() { default } else { &provider.base_url };
        let url = format!("{}/chat/completions", base.trim_end_matches('/'));
        let chat_completions: Uri = url.parse().map_err(|_| TargetError::InvalidUrl)?;
        if chat_completions.host().is_none() || !matches!(chat_completions.scheme_str(), Some("http" | "https")) {
            return Err(TargetError::InvalidUrl);
        }
        Ok(Self { chat_completions, auth: auth_header(provider.provider_type, secret)? })
    }

    /// The URL of chat completions.
    pub(crate) fn chat_completions(&self) -> Uri {
        self.chat_completions.clone()
    }

    /// The header that signs a call in.
    pub(crate) fn auth(&self) -> (HeaderName, HeaderValue) {
        self.auth.clone()
    }
}

impl std::fmt::Debug for UpstreamTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamTarget").field("chat_completions", &self.chat_completions).finish_non_exhaustive()
    }
}

/// How each vendor wants its credential (facts/protocols.md, section 1).
fn auth_header(provider_type: ProviderType, secret: &str) -> Result<(HeaderName, HeaderValue), TargetError> {
    let (name, text) = match provider_type {
        ProviderType::Azure => (HeaderName::from_static("api-key"), secret.to_owned()),
        ProviderType::Anthropic | ProviderType::Claude => (HeaderName::from_static("x-api-key"), secret.to_owned()),
        ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio | ProviderType::VertexExpress => {
            (HeaderName::from_static("x-goog-api-key"), secret.to_owned())
        }
        ProviderType::Openai
        | ProviderType::Compatible
        | ProviderType::Vertex
        | ProviderType::Codex
        | ProviderType::ClaudeCode
        | ProviderType::GeminiCli
        | ProviderType::Antigravity => (AUTHORIZATION, format!("Bearer {secret}")),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| TargetError::InvalidSecret)?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// The pooled client that carries upstream calls.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Transport {
    /// HTTP/1.1 connections only: one HTTP/2 connection per host stalls calls past the vendor's stream limit (about
    /// 100), which a pool of HTTP/1.1 connections does not (facts/dependencies.md, 1.3).
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(connect_timeout));
        tcp.set_keepalive(Some(Duration::from_secs(60)));
        tcp.enforce_http(false);
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(512)
            .build(connector);
        Self { client }
    }

    /// Sends one request; the answer's body streams.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        self.client.request(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(provider_type: &str, base_url: &str) -> ProviderSnapshot {
        let json = include_str!("../../ez-contract/goldens/provider.json");
        let mut provider: ProviderSnapshot = serde_json::from_str(json).unwrap();
        provider.provider_type = provider_type.parse().unwrap();
        provider.base_url = base_url.to_owned();
        provider
    }

    #[test]
    fn urls_are_what_the_vendors_sdk_would_call() {
        let cases = [
            ("openai", "", "https://api.openai.com/v1/chat/completions"),
            ("compatible", "http://127.0.0.1:9/v1/", "http://127.0.0.1:9/v1/chat/completions"),
            ("compatible", "https://h/openai/v1", "https://h/openai/v1/chat/completions"),
        ];
        for (provider_type, base_url, expected) in cases {
            let target = UpstreamTarget::new(&provider(provider_type, base_url), "sk").unwrap();
            assert_eq!(target.chat_completions().to_string(), expected);
        }
        for bad in ["no url", "ftp://h/v1", "/v1"] {
            assert!(UpstreamTarget::new(&provider("compatible", bad), "sk").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_never_shows_in_debug_output() {
        let target = UpstreamTarget::new(&provider("openai", ""), "sk-canary").unwrap();
        assert!(!format!("{target:?} {:?}", target.auth()).contains("canary"));
        assert!(UpstreamTarget::new(&provider("openai", ""), "bad\nsecret").is_err());
    }
}
