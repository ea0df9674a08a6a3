//! Routes: what a path asks for, and whose protocol it is in.

use std::borrow::Cow;

use ez_contract::{Operation, Protocol};
use ez_protocol::Api;
use ez_protocol::error::FaultKind;
use http::{HeaderMap, Method, StatusCode};

use crate::refusal::Refusal;
use crate::stored::{StoredAction, is_id};

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A call to a model.
    Call {
        /// The endpoint.
        api: Api,
        /// The model, where the path names it.
        path_model: Option<String>,
    },
    /// The list of models, in whatever vendor's shape.
    ListModels,
    /// One model of that list.
    GetModel(String),
    /// A response that its vendor stores.
    Stored {
        /// Its id.
        id: String,
        /// What is asked of it.
        action: StoredAction,
    },
}

impl Route {
    /// The operation that a key's scopes must allow; `None` where any key may ask.
    pub(crate) fn operation(&self) -> Option<Operation> {
        match self {
            Self::Call { api, .. } => Some(api.operation()),
            Self::Stored { .. } => Some(Api::Responses.operation()),
            Self::ListModels | Self::GetModel(_) => None,
        }
    }
}

/// Paths that name their endpoint and nothing else.
const FIXED: &[(&str, Api)] = &[
    ("/v1/chat/completions", Api::ChatCompletions),
    ("/v1/messages", Api::Messages),
    ("/v1/responses", Api::Responses),
    ("/v1/responses/input_tokens", Api::ResponsesInputTokens),
    ("/v1/embeddings", Api::Embeddings),
    ("/v1/messages/count_tokens", Api::MessagesCountTokens),
    ("/v1/completions", Api::Completions),
    ("/v1/rerank", Api::Rerank),
    ("/v1/moderations", Api::Moderations),
    ("/v1/images/generations", Api::ImageGenerations),
    ("/v1/images/edits", Api::ImageEdits),
    ("/v1/images/variations", Api::ImageVariations),
    ("/v1/audio/speech", Api::Speech),
    ("/v1/audio/transcriptions", Api::Transcriptions),
    ("/v1/audio/translations", Api::Translations),
    // Clients whose base URL ends before `/v1`.
    ("/messages", Api::Messages),
    ("/messages/count_tokens", Api::MessagesCountTokens),
];

/// Gemini's methods, which stand behind the model's name and a colon.
const GEMINI_METHODS: &[(&str, Api)] = &[
    ("generateContent", Api::GenerateContent),
    ("streamGenerateContent", Api::StreamGenerateContent),
    ("countTokens", Api::CountTokens),
    ("embedContent", Api::EmbedContent),
    ("batchEmbedContents", Api::BatchEmbedContents),
];

/// What an unknown path is answered with.
const SERVED: &str = "POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/responses/input_tokens, /v1/messages, \
    /v1/messages/count_tokens, /v1/embeddings, /v1/rerank, /v1/moderations, /v1/images/{generations|edits|variations}, \
    /v1/audio/{speech|transcriptions|translations}, \
    /v1beta/models/{model}:{generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents}, \
    GET and DELETE /v1/responses/{id}, POST /v1/responses/{id}/cancel, GET /v1/responses/{id}/input_items, \
    and GET /v1/models, /v1/models/{model}, /v1beta/models";

/// Paths are quoted in refusals up to this many characters.
const MAX_QUOTED_CHARS: usize = 200;

/// A path that is served: what it asks for, in whose protocol where the path tells, and by which methods.
struct Place {
    protocol: Option<Protocol>,
    route: Route,
    allow: &'static str,
}

/// Finds what a request asks for. The protocol is that of the path or, where that does not tell, the one that the
/// headers imply: refusals are told in it too.
pub(crate) fn find(method: &Method, path: &str, headers: &HeaderMap) -> (Protocol, Result<Route, Refusal>) {
    let of_path = || protocol_by_prefix(path).unwrap_or_else(|| implied_by(headers));
    let decoded = match decode(path) {
        Ok(decoded) => decoded,
        Err(refusal) => return (of_path(), Err(refusal)),
    };
    let Some(place) = locate(&decoded, method) else {
        return (of_path(), Err(unknown_path(&decoded)));
    };
    let protocol = place.protocol.unwrap_or_else(|| implied_by(headers));
    if place.allow.split(", ").any(|allowed| allowed == method.as_str()) {
        return (protocol, Ok(place.route));
    }
    (protocol, Err(wrong_method(&decoded, method, place.allow)))
}

fn locate(path: &str, method: &Method) -> Option<Place> {
    if let Some((_, api)) = FIXED.iter().find(|(fixed, _)| *fixed == path) {
        return Some(call(*api, None));
    }
    if let Some(rest) = path.strip_prefix("/v1/responses/") {
        return stored(rest, method);
    }
    let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
    let is_gemini = match version {
        "v1" => false,
        "v1beta" | "v1beta1" => true,
        _ => return None,
    };
    let list_protocol = is_gemini.then_some(Protocol::Gemini);
    let rest = rest.strip_prefix("publishers/google/").unwrap_or(rest);
    if rest == "models" {
        return Some(Place { protocol: list_protocol, route: Route::ListModels, allow: "GET" });
    }
    let (name, is_tuned) = match rest.strip_prefix("models/") {
        Some(name) => (name, false),
        None => (rest.strip_prefix("tunedModels/").map(|_| rest)?, true),
    };
    if let Some((model, action)) = name.rsplit_once(':') {
        if let Some((_, api)) = GEMINI_METHODS.iter().find(|(known, _)| *known == action) {
            return (!model.is_empty()).then(|| call(*api, Some(model.to_owned())));
        }
        // A model's name may hold a colon, but only where it is asked for.
        if *method == Method::POST {
            return None;
        }
    }
    let is_model = !name.is_empty() && !is_tuned;
    is_model.then(|| Place { protocol: list_protocol, route: Route::GetModel(name.to_owned()), allow: "GET" })
}

/// What stands behind `/v1/responses/`.
fn stored(rest: &str, method: &Method) -> Option<Place> {
    let (id, suffix) = rest.split_once('/').map_or((rest, None), |(id, suffix)| (id, Some(suffix)));
    let (action, allow) = match suffix {
        None if *method == Method::DELETE => (StoredAction::Delete, "GET, DELETE"),
        None => (StoredAction::Get, "GET, DELETE"),
        Some("cancel") => (StoredAction::Cancel, "POST"),
        Some("input_items") => (StoredAction::ListInputItems, "GET"),
        Some(_) => return None,
    };
    let route = Route::Stored { id: id.to_owned(), action };
    is_id(id).then_some(Place { protocol: Some(Protocol::OpenaiResponses), route, allow })
}

fn call(api: Api, path_model: Option<String>) -> Place {
    Place { protocol: Some(api.protocol()), route: Route::Call { api, path_model }, allow: "POST" }
}

/// The protocol that a path looks like, though nothing may stand there.
fn protocol_by_prefix(path: &str) -> Option<Protocol> {
    let starts = |prefix: &str| path.starts_with(prefix);
    if starts("/v1beta") || GEMINI_METHODS.iter().any(|(method, _)| path.ends_with(method)) {
        Some(Protocol::Gemini)
    } else if starts("/v1/messages") || starts("/messages") {
        Some(Protocol::AnthropicMessages)
    } else if starts("/v1/responses") {
        Some(Protocol::OpenaiResponses)
    } else {
        None
    }
}

/// Whose client sends such headers.
fn implied_by(headers: &HeaderMap) -> Protocol {
    if headers.contains_key("anthropic-version") {
        Protocol::AnthropicMessages
    } else if headers.contains_key("x-goog-api-key") {
        Protocol::Gemini
    } else if headers.contains_key("x-api-key") {
        Protocol::AnthropicMessages
    } else {
        Protocol::OpenaiChat
    }
}

/// The path with its escapes resolved, once. Refuses what servers read differently: dot segments, empty segments,
/// backslashes, control characters, broken escapes.
fn decode(path: &str) -> Result<Cow<'_, str>, Refusal> {
    let decoded = if path.contains('%') { Cow::Owned(unescape(path).ok_or_else(trick)?) } else { Cow::Borrowed(path) };
    let has_bad_character = decoded.chars().any(|c| c == '\\' || c.is_control());
    let mut segments = decoded.split('/').skip(1);
    let has_bad_segment = decoded.len() > 1 && segments.any(|segment| matches!(segment, "" | "." | ".."));
    if has_bad_character || has_bad_segment { Err(trick()) } else { Ok(decoded) }
}

/// Resolves `%XX`; `None` where one is broken or the result is not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let [high, low, after @ ..] = after else { return None };
            let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit(high)? << 4 | digit(low)?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn trick() -> Refusal {
    let message = "the path holds an empty or dot segment, a backslash, a control character or a broken escape: \
        send it as the vendor's SDK does, and check the base URL for a slash too many";
    Refusal::client(StatusCode::BAD_REQUEST, FaultKind::InvalidRequest, "invalid_path", message)
}

fn unknown_path(path: &str) -> Refusal {
    let message = format!("nothing is served at `{}`: this gateway serves {SERVED}", quoted(path));
    Refusal::client(StatusCode::NOT_FOUND, FaultKind::NotFound, "unknown_path", message)
}

fn wrong_method(path: &str, method: &Method, allow: &'static str) -> Refusal {
    let message = format!("`{}` takes {allow}, not {method}", quoted(path));
    Refusal::client(StatusCode::METHOD_NOT_ALLOWED, FaultKind::InvalidRequest, "method_not_allowed", message)
        .with_allow(allow)
}

fn quoted(path: &str) -> String {
    path.chars().take(MAX_QUOTED_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn found(method: &str, path: &str) -> (Protocol, Result<Route, (u16, &'static str)>) {
        let (protocol, route) = find(&method.parse().unwrap(), path, &HeaderMap::new());
        (protocol, route.map_err(|refusal| (refusal.fault.status, refusal.fault.code)))
    }

    #[test]
    fn every_path_of_the_specification_leads_to_its_endpoint() {
        for (path, api) in FIXED {
            let expected = Route::Call { api: *api, path_model: None };
            assert_eq!(found("POST", path), (api.protocol(), Ok(expected)), "{path}");
        }
        let gemini = |api, model: &str| Route::Call { api, path_model: Some(model.to_owned()) };
        for version in ["v1", "v1beta", "v1beta1"] {
            for (method, api) in GEMINI_METHODS {
                let path = format!("/{version}/models/gemini-2.5-pro:{method}");
                assert_eq!(found("POST", &path), (Protocol::Gemini, Ok(gemini(*api, "gemini-2.5-pro"))), "{path}");
            }
        }
        for (name, model) in [
            ("models/org%2Fm", "org/m"),
            ("models/org/m", "org/m"),
            ("models/m%3A8b", "m:8b"),
            ("models/a%20b", "a b"),
            ("publishers/google/models/m", "m"),
            ("tunedModels/t-1", "tunedModels/t-1"),
        ] {
            let path = format!("/v1beta/{name}:generateContent");
            let expected = gemini(Api::GenerateContent, model);
            assert_eq!(found("POST", &path), (Protocol::Gemini, Ok(expected)), "{path}");
        }
        let escaped = found("POST", "/v1beta/models/m%3AgenerateContent");
        assert_eq!(escaped, (Protocol::Gemini, Ok(gemini(Api::GenerateContent, "m"))));
    }

    #[test]
    fn model_lists_are_in_the_protocol_that_path_and_headers_imply() {
        type Sent = &'static [(&'static str, &'static str)];
        let cases: [(&str, Sent, Protocol); 6] = [
            ("/v1/models", &[], Protocol::OpenaiChat),
            ("/v1/models", &[("x-api-key", "k")], Protocol::AnthropicMessages),
            ("/v1/models", &[("anthropic-version", "2023-06-01")], Protocol::AnthropicMessages),
            ("/v1/models", &[("x-goog-api-key", "k")], Protocol::Gemini),
            ("/v1beta/models", &[("x-api-key", "k")], Protocol::Gemini),
            ("/v1/nothing", &[("anthropic-version", "2023-06-01")], Protocol::AnthropicMessages),
        ];
        for (path, pairs, expected) in cases {
            assert_eq!(find(&Method::GET, path, &headers(pairs)).0, expected, "{path} {pairs:?}");
        }
        assert_eq!(found("GET", "/v1/models").1, Ok(Route::ListModels));
        for (path, model) in [("/v1/models/a/b", "a/b"), ("/v1beta/models/m:8b", "m:8b"), ("/v1/models/a%2Fb", "a/b")] {
            assert_eq!(found("GET", path).1, Ok(Route::GetModel(model.to_owned())), "{path}");
        }
    }

    #[test]
    fn path_tricks_are_refused() {
        for path in [
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "/v1/./models",
            "//v1/models",
            "/v1//models",
            "/v1/models/",
            "/v1beta/models/a%2F..%2Fb:generateContent",
            "/v1beta/models/a%2f%2fb:generateContent",
            "/v1beta/models/a%00:generateContent",
            "/v1beta/models/a%5C..%5Cb:generateContent",
            "/v1beta/models/a\\b:generateContent",
            "/v1beta/models/a%0d%0ax:generateContent",
            "/v1beta/models/a%zz:generateContent",
            "/v1beta/models/a%f:generateContent",
            "/v1beta/models/%ff:generateContent",
        ] {
            assert_eq!(found("POST", path).1, Err((400, "invalid_path")), "{path}");
        }
        let twice = found("POST", "/v1beta/models/%252e%252e:generateContent").1;
        let literal = Route::Call { api: Api::GenerateContent, path_model: Some("%2e%2e".to_owned()) };
        assert_eq!(twice, Ok(literal), "escapes are resolved once");
    }

    #[test]
    fn what_is_not_served_says_what_is() {
        for path in ["/", "/v1/nothing", "/v1beta/models/m:predict", "/v1beta/models/:generateContent", "/v2/models"] {
            assert_eq!(found("POST", path).1, Err((404, "unknown_path")), "{path}");
        }
        let message = find(&Method::POST, "/v1/nothing", &HeaderMap::new()).1.unwrap_err().fault.message;
        for (path, _) in FIXED.iter().filter(|(path, _)| !path.starts_with("/messages")) {
            let tail = path.rsplit('/').next().unwrap();
            assert!(message.contains(tail), "{path}: {message}");
        }
        for (method, path, action) in [
            ("GET", "/v1/responses/resp_1", StoredAction::Get),
            ("DELETE", "/v1/responses/resp_1", StoredAction::Delete),
            ("POST", "/v1/responses/resp_1/cancel", StoredAction::Cancel),
            ("GET", "/v1/responses/resp_1/input_items", StoredAction::ListInputItems),
        ] {
            let expected = Route::Stored { id: "resp_1".to_owned(), action };
            assert_eq!(found(method, path), (Protocol::OpenaiResponses, Ok(expected)), "{method} {path}");
        }
        for (method, path, allow) in [
            ("POST", "/v1/responses/resp_1", "GET, DELETE"),
            ("GET", "/v1/responses/resp_1/cancel", "POST"),
            ("GET", "/v1/chat/completions", "POST"),
            ("GET", "/v1beta/models/m:generateContent", "POST"),
            ("POST", "/v1/models", "GET"),
            ("DELETE", "/v1/models/m", "GET"),
        ] {
            let refusal = find(&method.parse().unwrap(), path, &HeaderMap::new()).1.unwrap_err();
            assert_eq!((refusal.fault.status, refusal.allow), (405, Some(allow)), "{method} {path}");
        }
    }
}
