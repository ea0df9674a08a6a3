//! Secrets in a document: what they must look like. No message repeats any of one.

use secrecy::{ExposeSecret, SecretString};

use super::findings::Findings;
use crate::api_keys::secret_fault;

/// Characters of a child token of another system.
const MAX_TOKEN_CHARS: usize = 500;

/// Below this many characters a token can be guessed.
const SAFE_TOKEN_CHARS: usize = 16;

/// What clients of New API put before the token that it issued.
const TOKEN_MARK: &str = "sk-";

/// Notes what is wrong with an upstream's secret.
pub(super) fn check_secret(secret: &SecretString, path: &str, findings: &mut Findings) {
    if let Some(fault) = secret_fault(secret) {
        findings.fault(path, fault);
    }
}

/// The part of a token that counts: gateways try what a client sends, then that without a leading `sk-`, so a client
/// that sends either is found by the digest of the bare token.
pub(super) fn bare_token<'a>(token: &'a str, path: &str, findings: &mut Findings) -> Option<&'a str> {
    let bare = token.strip_prefix(TOKEN_MARK).unwrap_or(token);
    if bare.is_empty() || bare.len() > MAX_TOKEN_CHARS || bare.bytes().any(|byte| !byte.is_ascii_graphic()) {
        let rule = "must be visible ASCII without spaces, with at most 500 characters after `sk-`";
        findings.fault(path, rule);
        return None;
    }
    if bare.len() < SAFE_TOKEN_CHARS {
        findings.warn(path, "the token is so short that it can be guessed; issue a new one soon");
    }
    Some(bare)
}

/// What of a bare token may be shown: a quarter of it at most.
pub(super) fn shown_prefix(bare: &str) -> String {
    let shown = (bare.len() / 4).min(6);
    format!("{TOKEN_MARK}{}", bare.chars().take(shown).collect::<String>())
}

/// A secret as it is kept and compared, without the white space around it.
pub(super) fn clear(secret: &SecretString) -> &str {
    secret.expose_secret().trim()
}
