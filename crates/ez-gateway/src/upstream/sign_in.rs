//! How each vendor wants its credential (facts/protocols.md, section 1).

use std::sync::Arc;

use ez_contract::google::ServiceAccount;
use ez_contract::{Protocol, ProviderType};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::access_token::AccessTokens;
use super::target::TargetError;

/// What an upstream's calls sign in with.
pub(super) enum SignIn {
    Secret(Secret),
    ServiceAccount(Arc<AccessTokens>),
}

/// A secret in both forms that a header may want.
pub(super) struct Secret {
    plain: HeaderValue,
    bearer: HeaderValue,
}

impl SignIn {
    pub(super) fn new(provider_type: ProviderType, secret: &str) -> Result<Self, TargetError> {
        if provider_type == ProviderType::Vertex {
            return Ok(Self::ServiceAccount(Arc::new(AccessTokens::new(ServiceAccount::parse(secret)?))));
        }
        let bearer = bearer(secret).ok_or(TargetError::InvalidSecret)?;
        let plain = sensitive(secret).ok_or(TargetError::InvalidSecret)?;
        Ok(Self::Secret(Secret { plain, bearer }))
    }
}

impl Secret {
    /// The header for a call in this protocol: a vendor that speaks several takes each SDK's own.
    pub(super) fn header(&self, provider_type: ProviderType, protocol: Protocol) -> (HeaderName, HeaderValue) {
        let plain = |name| (HeaderName::from_static(name), self.plain.clone());
        match (provider_type, protocol) {
            (ProviderType::Azure, _) => plain("api-key"),
            (ProviderType::VertexExpress, _) | (_, Protocol::Gemini) => plain("x-goog-api-key"),
            (_, Protocol::AnthropicMessages) => plain("x-api-key"),
            (_, Protocol::OpenaiChat | Protocol::OpenaiResponses) => (AUTHORIZATION, self.bearer.clone()),
        }
    }
}

/// `Bearer …`; none where the secret cannot stand in a header.
pub(super) fn bearer(secret: &str) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {secret}"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
