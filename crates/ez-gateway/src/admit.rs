//! Admission: refusals that need no body.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::Operation;
use ez_contract::access::ip_allowed;
use ez_contract::routing::DeadKey;
use ez_contract::snapshot::TokenSnapshot;
use ez_protocol::error::FaultKind;
use http::StatusCode;

use crate::authn::{Caller, unauthenticated};
use crate::refusal::Refusal;

/// Refuses a dead key, a suspended master, a foreign address, and a scope that the key lacks.
pub(crate) fn admit(
    caller: &Caller,
    client_ip: IpAddr,
    operation: Option<Operation>,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let Caller { token, master } = caller;
    if let Some(dead) = DeadKey::find(token, master, now.timestamp()) {
        return Err(match dead {
            DeadKey::Exhausted => exhausted(dead, token, now),
            _ => unauthenticated(dead.code(), dead.message()),
        });
    }
    if !ip_allowed(client_ip, &token.allow_ips, &token.deny_ips) {
        return Err(forbidden("ip_not_allowed", format!("this API key may not be used from {client_ip}")));
    }
    match operation {
        Some(operation) if !operation.is_allowed_by(&token.scopes) => {
            let scope = operation.scope();
            Err(forbidden("scope_not_allowed", format!("this API key lacks the scope `{scope}`")))
        }
        _ => Ok(()),
    }
}

/// A key whose quota the ledger has used up, told like one that a gateway counted: when it starts anew, if ever.
fn exhausted(dead: DeadKey, token: &TokenSnapshot, now: DateTime<Utc>) -> Refusal {
    let refusal = Refusal::limited(StatusCode::TOO_MANY_REQUESTS, FaultKind::RateLimit, dead.code(), dead.message());
    match token.quota.as_ref().and_then(|quota| quota.reset_at) {
        Some(at) => {
            let seconds = u64::try_from(at - now.timestamp()).unwrap_or_default();
            refusal.with_retry_after(Duration::from_secs(seconds.max(1)))
        }
        None => refusal,
    }
}

pub(crate) fn forbidden(code: &'static str, message: String) -> Refusal {
    Refusal::client(StatusCode::FORBIDDEN, FaultKind::Permission, code, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ez_contract::snapshot::{MasterSnapshot, Quota};
    use ez_contract::status::{KeyStatus, RecordStatus};
    use ez_contract::usage::EndedBy;

    use super::*;

    fn refused(change: impl FnOnce(&mut TokenSnapshot, &mut MasterSnapshot)) -> Option<(u16, String)> {
        refusal(change).map(|refusal| (refusal.fault.status, refusal.fault.code.to_owned()))
    }

    fn refusal(change: impl FnOnce(&mut TokenSnapshot, &mut MasterSnapshot)) -> Option<Refusal> {
        let token = include_str!("../../ez-contract/goldens/token.json");
        let master = include_str!("../../ez-contract/goldens/master.json");
        let mut token: TokenSnapshot = serde_json::from_str(token).unwrap();
        let mut master: MasterSnapshot = serde_json::from_str(master).unwrap();
        change(&mut token, &mut master);
        let caller = Caller { token: Arc::new(token), master: Arc::new(master) };
        let now = DateTime::from_timestamp(1_767_139_199, 0).unwrap();
        admit(&caller, "192.0.2.1".parse().unwrap(), Some(Operation::Chat), now).err()
    }

    #[test]
    fn an_exhausted_key_hears_when_its_quota_starts_anew() {
        for (reset_at, retry_after) in [(Some(1_767_139_259), Some(60)), (Some(1_767_139_000), Some(1)), (None, None)] {
            let refusal = refusal(|token, _| {
                token.status = KeyStatus::Exhausted;
                token.quota = Some(Quota { limit: 5, used: 5, reset_at });
            });
            let refusal = refusal.unwrap();
            assert_eq!(refusal.retry_after.map(|after| after.as_secs()), retry_after);
            assert_eq!(refusal.ended_by(), EndedBy::Limit);
        }
    }

    #[test]
    fn every_rule_refuses_with_its_own_reason() {
        assert_eq!(refused(|_, _| ()), None);
        type Change = fn(&mut TokenSnapshot, &mut MasterSnapshot);
        let cases: [(Change, u16, &str); 9] = [
            (|token, _| token.status = KeyStatus::Suspended, 401, "key_suspended"),
            (|token, _| token.status = KeyStatus::Expired, 401, "key_expired"),
            (|token, _| token.expires_at = Some(1_767_139_199), 401, "key_expired"),
            (|token, _| token.status = KeyStatus::Exhausted, 429, "insufficient_quota"),
            (|_, master| master.epoch = 2, 401, "key_revoked"),
            (|_, master| master.status = RecordStatus::Suspended, 401, "master_suspended"),
            (|token, _| token.deny_ips = vec!["192.0.2.0/24".into()], 403, "ip_not_allowed"),
            (|token, _| token.allow_ips = vec!["10.0.0.0/8".into()], 403, "ip_not_allowed"),
            (|token, _| token.scopes = vec!["embeddings:*".into()], 403, "scope_not_allowed"),
        ];
        for (change, status, code) in cases {
            assert_eq!(refused(change), Some((status, code.to_owned())));
        }
    }
}
