//! From method, path and headers to the vendor, the operation and the credential of a request.

use http::{HeaderMap, Method, header};

/// Whose dialect a request speaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Vendor {
    OpenAi,
    Anthropic,
    Gemini,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    Models,
    Chat,
    Completions,
    Responses,
    Embeddings,
    Rerank,
    Moderations,
    Images,
    Speech,
    /// Translations too.
    Transcriptions,
    Messages,
    CountMessageTokens,
    Generate,
    /// `sse` is false for the JSON array form.
    StreamGenerate {
        sse: bool,
    },
    CountTokens,
    EmbedContent,
    BatchEmbedContents,
}

/// Where a request goes.
pub(super) struct Route {
    pub(super) vendor: Vendor,
    pub(super) operation: Operation,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
}

/// A request that goes nowhere.
pub(super) struct NoRoute {
    pub(super) vendor: Vendor,
    /// 404, or 405 if only the method is wrong.
    pub(super) status: u16,
}

impl Route {
    pub(super) fn find(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Result<Self, NoRoute> {
        let vendor = guess_vendor(path, headers);
        let path = path.trim_end_matches('/');
        if path.ends_with("/models") {
            let route = Self { vendor, operation: Operation::Models, model: None };
            return if method == Method::GET { Ok(route) } else { Err(NoRoute { vendor, status: 405 }) };
        }
        let Some(route) = Self::find_post(path, query) else { return Err(NoRoute { vendor, status: 404 }) };
        if method == Method::POST { Ok(route) } else { Err(NoRoute { vendor: route.vendor, status: 405 }) }
    }

    fn find_post(path: &str, query: &str) -> Option<Self> {
        const BY_ENDING: [(&str, Vendor, Operation); 14] = [
            ("/chat/completions", Vendor::OpenAi, Operation::Chat),
            ("/completions", Vendor::OpenAi, Operation::Completions),
            ("/rerank", Vendor::OpenAi, Operation::Rerank),
            ("/moderations", Vendor::OpenAi, Operation::Moderations),
            ("/images/generations", Vendor::OpenAi, Operation::Images),
            ("/images/edits", Vendor::OpenAi, Operation::Images),
            ("/images/variations", Vendor::OpenAi, Operation::Images),
            ("/audio/speech", Vendor::OpenAi, Operation::Speech),
            ("/audio/transcriptions", Vendor::OpenAi, Operation::Transcriptions),
            ("/audio/translations", Vendor::OpenAi, Operation::Transcriptions),
            ("/responses", Vendor::OpenAi, Operation::Responses),
            ("/embeddings", Vendor::OpenAi, Operation::Embeddings),
            ("/v1/messages", Vendor::Anthropic, Operation::Messages),
            ("/v1/messages/count_tokens", Vendor::Anthropic, Operation::CountMessageTokens),
        ];
        for (ending, vendor, operation) in BY_ENDING {
            if path.ends_with(ending) {
                return Some(Self { vendor, operation, model: deployment(path) });
            }
        }
        let (model, verb) = path.rsplit_once("/models/")?.1.rsplit_once(':')?;
        let operation = match verb {
            "generateContent" => Operation::Generate,
            "streamGenerateContent" => Operation::StreamGenerate { sse: parameter(query, "alt") == Some("sse") },
            "countTokens" => Operation::CountTokens,
            "embedContent" => Operation::EmbedContent,
            "batchEmbedContents" => Operation::BatchEmbedContents,
            _ => return None,
        };
        Some(Self { vendor: Vendor::Gemini, operation, model: Some(percent_decoded(model)) })
    }
}

/// The credential of a request in any vendor's place, without its scheme.
pub(super) fn credential(headers: &HeaderMap, query: &str) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let from_headers =
        bearer.or_else(|| text("x-api-key")).or_else(|| text("x-goog-api-key")).or_else(|| text("api-key"));
    let found = from_headers.map(|key| key.trim().to_owned()).or_else(|| parameter(query, "key").map(percent_decoded));
    found.filter(|credential| !credential.is_empty())
}

/// For requests whose operation doesn't tell the vendor.
fn guess_vendor(path: &str, headers: &HeaderMap) -> Vendor {
    if path.contains("/openai") {
        Vendor::OpenAi
    } else if headers.contains_key("anthropic-version") || path.contains("/v1/messages") {
        Vendor::Anthropic
    } else if headers.contains_key("x-goog-api-key") || path.contains("/v1beta") {
        Vendor::Gemini
    } else {
        Vendor::OpenAi
    }
}

/// The model of a classic Azure path, `/openai/deployments/{model}/…`.
fn deployment(path: &str) -> Option<String> {
    let (_, after) = path.split_once("/deployments/")?;
    after.split('/').next().map(percent_decoded)
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escape = (*first == b'%').then(|| after.get(..2)).flatten();
        let decoded = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
