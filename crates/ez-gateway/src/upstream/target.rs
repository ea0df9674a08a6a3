//! Where an API key's calls go: made once per snapshot, so that the common call only copies a reference.

use std::fmt::Write;

use ez_contract::google::{vertex_base_url, vertex_parent};
use ez_contract::reach::{Forbidden, Reach};
use ez_contract::snapshot::ProviderSnapshot;
use ez_contract::url_path::{UnsafeName, encoded, ends_with_version, gemini_model, segment, versioned, vertex_model};
use ez_contract::{Protocol, ProviderType};
use ez_protocol::Api;
use http::Uri;
use http::header::{HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};

use super::access_token::{TokenClient, TokenError};
use super::sign_in::SignIn;
use super::{offers, query};

/// Where an API key's calls go and how they sign in.
pub(crate) struct UpstreamTarget {
    scheme: Scheme,
    authority: Authority,
    layout: Layout,
    /// The paths of endpoints that name no model.
    fixed: Vec<(Api, PathAndQuery)>,
    sign_in: SignIn,
}

/// How a type's paths are laid out.
struct Layout {
    provider_type: ProviderType,
    /// The path of the base URL, without a slash at the end.
    base: String,
    /// `projects/{p}/locations/{l}` of Vertex.
    location: String,
    api_version: Option<String>,
}

/// Why a provider cannot be called.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("its base URL {0}")]
    Unreachable(Forbidden),
    #[error("its base URL is not a valid http(s) URL")]
    InvalidUrl,
    #[error("its secret cannot be sent in a header")]
    InvalidSecret,
    #[error("{0}")]
    ServiceAccount(#[from] ez_contract::google::ServiceAccountError),
    #[error("its Google project is not set, and its service account names none: set google_project")]
    NoGoogleProject,
    #[error("its Google project or location cannot stand in a URL: set google_project and google_location")]
    InvalidGoogleLocation,
    #[error("subscriptions of the type `{0}` are not called by this version")]
    Subscription(ProviderType),
}

/// The endpoints whose paths may be made ahead.
const WITHOUT_MODEL: [Api; 15] = [
    Api::ChatCompletions,
    Api::Completions,
    Api::Embeddings,
    Api::Rerank,
    Api::ImageGenerations,
    Api::ImageEdits,
    Api::ImageVariations,
    Api::Speech,
    Api::Transcriptions,
    Api::Translations,
    Api::Moderations,
    Api::Responses,
    Api::ResponsesInputTokens,
    Api::Messages,
    Api::MessagesCountTokens,
];

impl UpstreamTarget {
    pub(crate) fn new(provider: &ProviderSnapshot, secret: &str) -> Result<Self, TargetError> {
        let provider_type = provider.provider_type;
        if provider_type.is_oauth() {
            return Err(TargetError::Subscription(provider_type));
        }
        let sign_in = SignIn::new(provider_type, secret)?;
        let base = base_url(provider)?;
        let url = Reach::Operator.parse(&base).map_err(TargetError::Unreachable)?;
        let uri: Uri = base.trim_end_matches('/').parse().map_err(|_| TargetError::InvalidUrl)?;
        let (Some(authority), Some("http" | "https")) = (uri.authority(), uri.scheme_str()) else {
            return Err(TargetError::InvalidUrl);
        };
        // What is connected to is what was checked: the parsers write some hosts differently.
        let host = url.host_str().ok_or(TargetError::InvalidUrl)?;
        let authority = match authority.port() {
            Some(port) => format!("{host}:{port}").parse().map_err(|_| TargetError::InvalidUrl)?,
            None => host.parse().map_err(|_| TargetError::InvalidUrl)?,
        };
        let layout = Layout {
            provider_type,
            base: uri.path().trim_end_matches('/').to_owned(),
            location: vertex_location(provider, &sign_in)?,
            api_version: provider.api_version.clone().filter(|version| !version.is_empty()),
        };
        let scheme = if url.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP };
        let fixed = WITHOUT_MODEL.iter().filter(|api| offers(provider_type, **api) && !layout.names_model(**api));
        let fixed = fixed.map(|api| Ok((*api, path_and_query(layout.path(*api, "")?)?)));
        let fixed = fixed.collect::<Result<_, UrlError>>().map_err(|_| TargetError::InvalidUrl)?;
        Ok(Self { scheme, authority, layout, fixed, sign_in })
    }

    /// The host that its calls go to.
    pub(crate) fn host(&self) -> &str {
        self.authority.host()
    }

    /// The port that its calls go to.
    pub(crate) fn port(&self) -> u16 {
        let default = if self.scheme == Scheme::HTTPS { 443 } else { 80 };
        self.authority.port_u16().unwrap_or(default)
    }

    /// The URL of an endpoint. `client_query` is the client's, as it came; what the vendor does not know stays here.
    pub(crate) fn url(&self, api: Api, upstream_model: &str, client_query: &str) -> Result<Uri, UrlError> {
        let fixed = self.fixed.iter().find(|(fixed, _)| *fixed == api).map(|(_, path)| path);
        match fixed {
            Some(path) if client_query.is_empty() => self.uri(path.clone()),
            _ => {
                let mut path = self.layout.path(api, upstream_model)?;
                query::append(&mut path, client_query, |name, value| query::passes_to(api, name, value));
                self.uri(path_and_query(path)?)
            }
        }
    }

    /// The URL of a stored response, or of `action` on it (`cancel`, `input_items`).
    pub(crate) fn response_url(&self, id: &str, action: Option<&str>, client_query: &str) -> Result<Uri, UrlError> {
        let mut path = self.layout.response_path(id, action)?;
        query::append(&mut path, client_query, query::passes_to_response);
        self.uri(path_and_query(path)?)
    }

    /// The header that signs a call in. It is at hand but for service accounts, whose token is fetched first where
    /// there is none.
    pub(crate) async fn sign_in(
        &self,
        protocol: Protocol,
        tokens: &TokenClient,
    ) -> Result<(HeaderName, HeaderValue), TokenError> {
        match &self.sign_in {
            SignIn::Secret(secret) => Ok(secret.header(self.layout.provider_type, protocol)),
            SignIn::ServiceAccount(account) => account.bearer(tokens).await,
        }
    }

    /// Whether it signs in with tokens that end, so that a refusal may be about a token, not about the credential.
    pub(crate) fn signs_in_with_tokens(&self) -> bool {
        matches!(self.sign_in, SignIn::ServiceAccount(_))
    }

    /// Drops a token that the vendor refused before its end.
    pub(crate) fn forget_token(&self) {
        if let SignIn::ServiceAccount(account) = &self.sign_in {
            account.forget();
        }
    }

    /// Takes over the tokens of the target that this one comes after, where both are of one secret.
    pub(crate) fn keep_tokens_of(&mut self, previous: &Self) {
        if let (SignIn::ServiceAccount(own), SignIn::ServiceAccount(kept)) = (&mut self.sign_in, &previous.sign_in) {
            *own = kept.clone();
        }
    }

    fn uri(&self, path: PathAndQuery) -> Result<Uri, UrlError> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).map_err(|_| UrlError::Invalid)
    }
}

impl std::fmt::Debug for UpstreamTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamTarget")
            .field("authority", &self.authority)
            .field("base", &self.layout.base)
            .finish_non_exhaustive()
    }
}

/// Why there is no URL for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// The model or the response id.
    #[error(transparent)]
    UnsafeName(#[from] UnsafeName),
    /// The parts do not make a URL.
    #[error("its URL is not valid: check the base URL")]
    Invalid,
}

impl Layout {
    /// Whether the path of an endpoint names the model.
    fn names_model(&self, api: Api) -> bool {
        match api.protocol() {
            Protocol::Gemini => true,
            Protocol::OpenaiResponses | Protocol::AnthropicMessages => false,
            Protocol::OpenaiChat => self.deployment_version().is_some(),
        }
    }

    /// The path of an endpoint with the query that belongs to it.
    fn path(&self, api: Api, model: &str) -> Result<String, UnsafeName> {
        match api {
            Api::GenerateContent => self.gemini(model, "generateContent"),
            Api::StreamGenerateContent => self.gemini(model, "streamGenerateContent"),
            Api::CountTokens => self.gemini(model, "countTokens"),
            Api::EmbedContent => self.gemini(model, "embedContent"),
            Api::BatchEmbedContents => self.gemini(model, "batchEmbedContents"),
            Api::Messages => Ok(format!("{}/messages", self.versioned("v1"))),
            Api::MessagesCountTokens => Ok(format!("{}/messages/count_tokens", self.versioned("v1"))),
            Api::ChatCompletions => self.openai("chat/completions", model),
            Api::Completions => self.openai("completions", model),
            Api::Embeddings => self.openai("embeddings", model),
            Api::Rerank => self.openai("rerank", model),
            Api::ImageGenerations => self.openai("images/generations", model),
            Api::ImageEdits => self.openai("images/edits", model),
            Api::ImageVariations => self.openai("images/variations", model),
            Api::Speech => self.openai("audio/speech", model),
            Api::Transcriptions => self.openai("audio/transcriptions", model),
            Api::Translations => self.openai("audio/translations", model),
            Api::Moderations => self.openai("moderations", model),
            Api::Responses => Ok(self.responses("")),
            Api::ResponsesInputTokens => Ok(self.responses("/input_tokens")),
        }
    }

    fn gemini(&self, model: &str, method: &str) -> Result<String, UnsafeName> {
        Ok(match self.provider_type {
            ProviderType::Vertex => {
                let root = self.versioned("v1");
                format!("{root}/{}/{}:{method}", self.location, vertex_model(model)?)
            }
            ProviderType::VertexExpress => {
                format!("{}/{}:{method}", self.versioned("v1"), vertex_model(model)?)
            }
            _ => format!("{}/{}:{method}", self.versioned("v1beta"), gemini_model(model)?),
        })
    }

    fn openai(&self, endpoint: &str, model: &str) -> Result<String, UnsafeName> {
        Ok(match (self.provider_type, self.deployment_version()) {
            (ProviderType::Azure, Some(version)) => {
                let (resource, deployment) = (self.azure_resource(), segment(model)?);
                format!("{resource}/openai/deployments/{deployment}/{endpoint}?api-version={}", encoded(version))
            }
            _ => format!("{}/{endpoint}", self.openai_root()),
        })
    }

    /// Responses are no deployment's, even where the URL has an API version.
    fn responses(&self, rest: &str) -> String {
        match self.deployment_version() {
            Some(version) => {
                format!("{}/openai/responses{rest}?api-version={}", self.azure_resource(), encoded(version))
            }
            None => format!("{}/responses{rest}", self.openai_root()),
        }
    }

    fn response_path(&self, id: &str, action: Option<&str>) -> Result<String, UnsafeName> {
        let mut rest = format!("/{}", segment(id)?);
        if let Some(action) = action {
            // A `String` takes every write.
            let _ = write!(rest, "/{action}");
        }
        Ok(self.responses(&rest))
    }

    /// Where OpenAI's endpoints are: at the base URL, but for vendors whose own API is there.
    fn openai_root(&self) -> String {
        match self.provider_type {
            ProviderType::Azure if ends_with_version(&self.base) => self.base.clone(),
            ProviderType::Azure => format!("{}/openai/v1", self.azure_resource()),
            ProviderType::Anthropic | ProviderType::Claude => self.versioned("v1"),
            ProviderType::Gemini | ProviderType::Google | ProviderType::Aistudio => {
                format!("{}/openai", self.versioned("v1beta"))
            }
            ProviderType::Vertex => format!("{}/{}/endpoints/openapi", self.versioned("v1"), self.location),
            _ => self.base.clone(),
        }
    }

    /// The base URL's path with a version at its end.
    fn versioned(&self, version: &str) -> String {
        versioned(&self.base, version)
    }

    /// The path of an Azure resource, whichever of its URLs the base URL is.
    fn azure_resource(&self) -> &str {
        let base = self.base.strip_suffix("/v1").unwrap_or(&self.base);
        base.strip_suffix("/openai").unwrap_or(base)
    }

    /// The API version that makes Azure's URLs those of deployments.
    fn deployment_version(&self) -> Option<&str> {
        self.api_version.as_deref().filter(|_| self.provider_type == ProviderType::Azure)
    }
}

fn path_and_query(path: String) -> Result<PathAndQuery, UrlError> {
    PathAndQuery::try_from(path).map_err(|_| UrlError::Invalid)
}

/// The base URL of a provider. Vertex has a host per location unless a base URL was set.
fn base_url(provider: &ProviderSnapshot) -> Result<String, TargetError> {
    let default = provider.provider_type.default_base_url().unwrap_or_default();
    let is_default = provider.base_url.is_empty() || provider.base_url == default;
    if !is_default {
        return Ok(provider.base_url.clone());
    }
    if provider.provider_type != ProviderType::Vertex {
        return Ok(default.to_owned());
    }
    vertex_base_url(google_location(provider)).ok_or(TargetError::InvalidGoogleLocation)
}

fn google_location(provider: &ProviderSnapshot) -> &str {
    match provider.google_location.as_str() {
        "" => provider.provider_type.default_google_location(),
        location => location,
    }
}

/// `projects/{p}/locations/{l}` for Vertex, else nothing.
fn vertex_location(provider: &ProviderSnapshot, sign_in: &SignIn) -> Result<String, TargetError> {
    let SignIn::ServiceAccount(account) = sign_in else { return Ok(String::new()) };
    let own = Some(provider.google_project.as_str()).filter(|project| !project.is_empty());
    let project = own.or_else(|| account.project_id()).ok_or(TargetError::NoGoogleProject)?;
    vertex_parent(project, google_location(provider)).ok_or(TargetError::InvalidGoogleLocation)
}

#[cfg(test)]
mod tests;
