//! What a caller asks for besides the change itself: a dry run, the state of the record that the change is meant for, a
//! name for the request.

use std::sync::{Arc, OnceLock};

use axum::extract::MatchedPath;
use ez_contract::TokenDigest;
use ez_control::Expectation;
use ez_control::idempotency::NamedRequest;
use http::HeaderMap;
use http::request::Parts;
use url::form_urlencoded;

use crate::conventions::{DRY_RUN, IDEMPOTENCY_KEY, IF_MATCH, Taken};
use crate::openapi;
use crate::problem::{ApiError, FaultResponse};

/// Characters of a name for a request.
const MAX_KEY_CHARS: usize = 128;

/// Bytes of a path that takes such names: they are looked up together.
const MAX_ROUTE_BYTES: usize = 512;

/// What a caller asks for besides the change itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// Nothing is to be changed.
    pub(crate) dry_run: bool,
    /// The state of the record that the change is meant for.
    pub(crate) expectation: Option<Expectation>,
    named: Option<Named>,
}

/// A name for the request, and what tells it from others.
#[derive(Debug, Clone)]
struct Named {
    key: String,
    route: String,
    parameters: String,
    body: BodyDigest,
}

/// Digest of the request's body, once it was read: the body comes after everything else of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct BodyDigest(Arc<OnceLock<TokenDigest>>);

impl BodyDigest {
    /// Notes the body, where somebody wants to know of it.
    pub(super) fn note(digest: Option<&Self>, body: &[u8]) {
        if let Some(Self(digest)) = digest {
            digest.get_or_init(|| TokenDigest::of(&String::from_utf8_lossy(body)));
        }
    }
}

impl Wishes {
    /// Reads them. What a route does not take is refused: what a caller asks for is never silently ignored. All faults
    /// are told at once. Errors: 422.
    pub(crate) fn of(parts: &mut Parts) -> Result<Self, ApiError> {
        let taken = taken(parts);
        let mut faults = Vec::new();
        let query = parts.uri.query().unwrap_or_default();
        if !taken.parameters {
            refuse_parameters(query, taken, &mut faults);
        }
        let mut wishes = Self { dry_run: taken.dry_run && dry_run(query, &mut faults), ..Self::default() };
        if !parts.method.is_safe() {
            let headers = &parts.headers;
            if is_given(headers, IF_MATCH, taken.if_match, &mut faults) {
                wishes.expectation = expectation(headers, &mut faults);
            }
            if is_given(headers, IDEMPOTENCY_KEY, taken.idempotency_key, &mut faults) {
                wishes.named = named(parts, &mut faults);
            }
        }
        if !faults.is_empty() {
            return Err(ApiError::invalid(faults));
        }
        if let Some(named) = &wishes.named {
            parts.extensions.insert(named.body.clone());
        }
        Ok(wishes)
    }

    /// The request under its caller's name, where it has one. To be asked when the body was read. Errors: internal where
    /// it was not.
    pub(crate) fn named_request(&self) -> Result<Option<NamedRequest>, ApiError> {
        let Some(named) = &self.named else { return Ok(None) };
        let body = named.body.0.get().ok_or_else(|| {
            tracing::error!(route = named.route, "a route takes an Idempotency-Key and does not read its body");
            ApiError::internal()
        })?;
        let digest = TokenDigest::of(&format!("{}\n{body}", named.parameters));
        Ok(Some(NamedRequest { key: named.key.clone(), route: named.route.clone(), digest }))
    }
}

/// What the route of a request takes.
pub(super) fn taken(parts: &Parts) -> Taken {
    let route = parts.extensions.get::<MatchedPath>();
    route.map(|route| openapi::taken_by(&parts.method, route.as_str())).unwrap_or_default()
}

fn refuse_parameters(query: &str, taken: Taken, faults: &mut Vec<FaultResponse>) {
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if taken.dry_run && name == DRY_RUN {
            continue;
        }
        let others = if taken.dry_run { "takes `dry_run` alone" } else { "takes none" };
        add(faults, &name, format!("unknown parameter `{name}`: this route {others}"));
    }
}

fn dry_run(query: &str, faults: &mut Vec<FaultResponse>) -> bool {
    let given: Vec<_> =
        form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == DRY_RUN).map(|(_, value)| value).collect();
    match given.as_slice() {
        [] => return false,
        [value] if value == "true" => return true,
        [value] if value == "false" => return false,
        [_] => add(faults, DRY_RUN, "must be true or false".to_owned()),
        _ => add(faults, DRY_RUN, "must be given once".to_owned()),
    }
    false
}

fn is_given(headers: &HeaderMap, name: &str, is_taken: bool, faults: &mut Vec<FaultResponse>) -> bool {
    let is_given = headers.contains_key(name);
    if is_given && !is_taken {
        let message = format!("this route does not take the header `{name}`: send the request without it");
        add(faults, &name.to_lowercase(), message);
    }
    is_given && is_taken
}

fn expectation(headers: &HeaderMap, faults: &mut Vec<FaultResponse>) -> Option<Expectation> {
    let mut lines = headers.get_all(IF_MATCH).iter().map(|line| line.to_str().ok());
    let text = lines.try_fold(String::new(), |text, line| Some(text + line? + ","));
    let parsed = text.as_deref().and_then(|text| match text.trim_end_matches(',').trim() {
        "*" => Some(Expectation::Any),
        tags => strong_tags(tags).map(Expectation::OneOf),
    });
    if parsed.is_none() {
        let message = "must be `*`, or ETags as they came, in their quotes and with commas between them";
        add(faults, "if-match", message.to_owned());
    }
    parsed
}

/// The tags of a list, in which at least one stands. Weak ones are left out: they match nothing.
fn strong_tags(text: &str) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |rest| (true, rest));
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if tag.chars().any(char::is_whitespace) {
            return None;
        }
        if !is_weak {
            tags.push(tag.to_owned());
        }
        let after = after.trim_start();
        if after.is_empty() {
            return Some(tags);
        }
        // Lists may have empty elements.
        rest = after.strip_prefix(',')?.trim_start_matches([',', ' ', '\t']);
        if rest.is_empty() {
            return Some(tags);
        }
    }
}

fn named(parts: &Parts, faults: &mut Vec<FaultResponse>) -> Option<Named> {
    let pointer = IDEMPOTENCY_KEY.to_lowercase();
    let lines: Vec<_> = parts.headers.get_all(IDEMPOTENCY_KEY).iter().collect();
    let is_name = |line: &[u8]| (1..=MAX_KEY_CHARS).contains(&line.len()) && line.iter().all(u8::is_ascii_graphic);
    let key = match lines.as_slice() {
        [line] if is_name(line.as_bytes()) => String::from_utf8_lossy(line.as_bytes()).into_owned(),
        _ => {
            add(faults, &pointer, format!("must be given once, as 1 to {MAX_KEY_CHARS} visible ASCII characters"));
            return None;
        }
    };
    let route = parts.uri.path();
    if route.len() > MAX_ROUTE_BYTES {
        add(faults, &pointer, format!("cannot go with a path of more than {MAX_ROUTE_BYTES} bytes: shorten the path"));
        return None;
    }
    let query = parts.uri.query().unwrap_or_default();
    let pairs = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != DRY_RUN);
    let parameters = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    Some(Named { key, route: route.to_owned(), parameters, body: BodyDigest::default() })
}

fn add(faults: &mut Vec<FaultResponse>, name: &str, message: String) {
    faults.push(FaultResponse { pointer: format!("/{name}"), message });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_tags_are_read_as_they_may_be_written() {
        let read = |text: &str| strong_tags(text).map(|tags| tags.join("|"));
        assert_eq!(read("\"a\"").as_deref(), Some("a"));
        assert_eq!(read("\"a,b\" , W/\"c\",,\t\"d\"").as_deref(), Some("a,b|d"));
        assert_eq!(read("W/\"c\"").as_deref(), Some(""));
        for broken in ["", "a", "\"a", "\"a\"\"b\"", "\"a b\"", "w/\"a\"", "\"a\",b", "*,\"a\""] {
            assert_eq!(read(broken), None, "{broken}");
        }
    }
}
