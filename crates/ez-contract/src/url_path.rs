//! Names in the paths of upstream URLs: encoded so that no name, whoever chose it, leads to another endpoint than the one
//! that is meant. Both planes call upstreams by these.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters (RFC 3986, 2.3) and the `@` of Google's versions.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// Bytes of a name. Vendors' longest have about 100.
const MAX_NAME_BYTES: usize = 512;

/// A name that cannot stand in a path: empty, too long, with control characters, or with `.` or `..` as a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name cannot stand in the path of a URL")]
pub struct UnsafeName;

/// A name as one segment, encoded once. Parts of dots are refused rather than encoded, as URL parsers and proxies
/// resolve them in every spelling.
pub fn segment(name: &str) -> Result<String, UnsafeName> {
    let is_dots = |part: &str| part == "." || part == "..";
    let is_unsafe = name.is_empty()
        || name.len() > MAX_NAME_BYTES
        || name.chars().any(char::is_control)
        || name.split(['/', '\\']).any(is_dots);
    if is_unsafe { Err(UnsafeName) } else { Ok(encoded(name).to_string()) }
}

/// A text as it stands in a segment or in the value of a parameter.
pub fn encoded(text: &str) -> impl Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

/// A model of the Gemini API as its resource: `models/{m}`, or `tunedModels/{m}` where it says so.
pub fn gemini_model(model: &str) -> Result<String, UnsafeName> {
    match model.strip_prefix("tunedModels/") {
        Some(tuned) => Ok(format!("tunedModels/{}", segment(tuned)?)),
        None => Ok(format!("models/{}", segment(model.strip_prefix("models/").unwrap_or(model))?)),
    }
}

/// A model of Vertex AI as its resource below a location: the vendor's own unless it names another publisher or a
/// deployed endpoint.
pub fn vertex_model(model: &str) -> Result<String, UnsafeName> {
    if let Some(endpoint) = model.strip_prefix("endpoints/") {
        return Ok(format!("endpoints/{}", segment(endpoint)?));
    }
    let published = model.strip_prefix("publishers/").and_then(|rest| rest.split_once("/models/"));
    let (publisher, name) = published.unwrap_or_else(|| ("google", model.strip_prefix("models/").unwrap_or(model)));
    Ok(format!("publishers/{}/models/{}", segment(publisher)?, segment(name)?))
}

/// A base URL, or its path, with a version at its end: its own (`v1`, `v1beta`, `v2alpha1`) where it has one.
pub fn versioned(base: &str, version: &str) -> String {
    if ends_with_version(base) { base.to_owned() } else { format!("{base}/{version}") }
}

/// Whether a base URL, or its path, names a version at its end.
pub fn ends_with_version(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn names_are_encoded_once_and_resources_are_kept() {
        assert_eq!(gemini_model("gemini-2.5-pro").as_deref(), Ok("models/gemini-2.5-pro"));
        assert_eq!(gemini_model("models/gemini-2.5-pro").as_deref(), Ok("models/gemini-2.5-pro"));
        assert_eq!(gemini_model("tunedModels/mine-1").as_deref(), Ok("tunedModels/mine-1"));
        assert_eq!(gemini_model("a/b?c#d%2e:e f").as_deref(), Ok("models/a%2Fb%3Fc%23d%252e%3Ae%20f"));
        assert_eq!(vertex_model("gemini-1.5-pro@001").as_deref(), Ok("publishers/google/models/gemini-1.5-pro@001"));
        assert_eq!(vertex_model("publishers/meta/models/llama").as_deref(), Ok("publishers/meta/models/llama"));
        assert_eq!(vertex_model("endpoints/123").as_deref(), Ok("endpoints/123"));
        for bad in [
            "",
            "..",
            ".",
            "models/..",
            "a/../b",
            "a\\..\\b",
            "tunedModels/..",
            "a\r\nb",
            "a\0",
            "publishers/../models/x",
        ] {
            assert!(gemini_model(bad).is_err() || vertex_model(bad).is_err(), "{bad:?}");
        }
        assert_eq!(segment(&"a".repeat(513)), Err(UnsafeName));
    }

    #[test]
    fn versions_are_known_by_their_form() {
        assert_eq!(versioned("https://h", "v1"), "https://h/v1");
        assert_eq!(versioned("https://h/v1beta", "v1"), "https://h/v1beta");
        for (path, expected) in [("/v1", true), ("/a/v1beta", true), ("/v1/a", false), ("", false), ("/vault", false)] {
            assert_eq!(ends_with_version(path), expected, "{path}");
        }
    }

    proptest! {
        /// Names of the characters that attacks are made of, and any others.
        #[test]
        fn no_name_reaches_another_endpoint(name in "([./\\\\%?#:;&=@a\u{e9}\r\n\t 2eEfF]{0,24}|.{0,24})") {
            for resource in [gemini_model(&name), vertex_model(&name), segment(&name).map(|name| format!("models/{name}"))] {
                let Ok(resource) = resource else { continue };
                let path = format!("/v1beta/{resource}:generateContent");
                let url = Url::parse(&format!("https://host{path}?alt=sse")).unwrap();
                // No parser resolves, cuts or re-encodes it.
                prop_assert_eq!(url.path(), path.as_str());
                prop_assert_eq!(url.query(), Some("alt=sse"));
                prop_assert_eq!(url.fragment(), None);
                prop_assert!(http::Uri::try_from(path.as_str()).is_ok());
                let segments = resource.split('/').count();
                prop_assert!(segments == 2 || (segments == 4 && resource.starts_with("publishers/")), "{}", resource);
                prop_assert!(resource.split('/').all(|segment| !matches!(segment, "" | "." | "..")), "{}", resource);
            }
        }
    }
}
