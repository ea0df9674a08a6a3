//! Authentication: the digest of the credential, looked up in the snapshot.

use std::sync::Arc;

use ez_contract::TokenDigest;
use ez_contract::snapshot::{MasterSnapshot, TokenSnapshot};
use ez_protocol::error::FaultKind;
use ez_telemetry::metrics::GATEWAY_UNKNOWN_KEYS;
use http::StatusCode;

use crate::ingress::Credential;
use crate::refusal::Refusal;
use crate::routing::RoutingSnapshot;

/// A known child key and its master, dead or alive.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) token: Arc<TokenSnapshot>,
    pub(crate) master: Arc<MasterSnapshot>,
}

/// Finds whose key this is.
pub(crate) fn identify(snapshot: &RoutingSnapshot, credential: Option<&Credential>) -> Result<Caller, Refusal> {
    let Some(credential) = credential else {
        metrics::counter!(GATEWAY_UNKNOWN_KEYS).increment(1);
        return Err(unauthenticated(
            "missing_api_key",
            "no API key was sent: put yours in `Authorization: Bearer …`, `x-api-key` or `x-goog-api-key`",
        ));
    };
    let token = spellings(credential.as_str()).find_map(|clear| snapshot.token(&TokenDigest::of(clear)));
    // A key whose master is missing cannot be accounted for, so it is as good as unknown.
    token
        .and_then(|token| {
            let master = snapshot.master(token.master_id)?;
            Some(Caller { token: token.clone(), master: master.clone() })
        })
        .ok_or_else(|| {
            metrics::counter!(GATEWAY_UNKNOWN_KEYS).increment(1);
            unauthenticated("invalid_api_key", "this API key is not known here: check it, or ask for a new one")
        })
}

pub(crate) fn unauthenticated(code: &'static str, message: &str) -> Refusal {
    Refusal::client(StatusCode::UNAUTHORIZED, FaultKind::Authentication, code, message)
}

/// How a token may have been sent: as it is, and as clients of New API send it (gateway, step 2).
fn spellings(clear: &str) -> impl Iterator<Item = &str> {
    let bare = clear.strip_prefix("sk-");
    let cut = bare.and_then(|bare| bare.split_once('-')).map(|(head, _)| head);
    [Some(clear), bare, cut].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::spellings;

    #[test]
    fn new_api_spellings_are_tried_after_the_token_as_sent() {
        assert_eq!(spellings("sk-abc-7").collect::<Vec<_>>(), ["sk-abc-7", "abc-7", "abc"]);
        assert_eq!(spellings("sk-abc").collect::<Vec<_>>(), ["sk-abc", "abc"]);
        assert_eq!(spellings("abc-7").collect::<Vec<_>>(), ["abc-7"]);
    }
}
