//! Rotation of child keys: a new token, while the old one works on for a while.

use std::time::Duration;

use ez_store::child_keys::{self as stored, ChildKey};

use crate::child_keys::{IssuedChildKey, require_with_master};
use crate::credentials::ClearToken;
use crate::error::Faults;
use crate::{ControlError, Tenant, Write};

/// How long the old token works on where a request does not say.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(60 * 60);

/// How long it may work on at most.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Gives a child key a new token. The old one works on for `overlap`, or not at all where that is zero; the one before
/// the old one, of a rotation that was still under way, ends at once.
///
/// Errors: `NotFound`; `Invalid` for an overlap of more than 30 days; `Conflict` for a key that died with its master's
/// epoch.
pub async fn rotate(write: &Write, tenant: Tenant, id: i64, overlap: Duration) -> Result<IssuedChildKey, ControlError> {
    let (master, before) = require_with_master(write, tenant, id).await?;
    if overlap > MAX_OVERLAP {
        let mut faults = Faults::default();
        let rule = format!("must be at most {} (30 days); 0 ends the old token at once", MAX_OVERLAP.as_secs());
        faults.add("/overlap_seconds", rule);
        faults.into_result()?;
    }
    if before.issued_at_epoch < master.epoch {
        let message = "the key was revoked with all keys that its master had issued until then; issue a new one";
        return Err(ControlError::conflict(message));
    }
    let token = ClearToken::for_child_key();
    let keeps_old = !overlap.is_zero();
    let after = ChildKey {
        // It was the old token's.
        token_hash: None,
        token_digest: token.digest,
        prefix: token.prefix,
        previous_digest: keeps_old.then_some(before.token_digest),
        previous_expires_at: keeps_old.then(|| write.now() + overlap),
        updated_at: write.now(),
        ..before.clone()
    };
    stored::update(write.tx(), &after).await?;
    write.record("rotate", Some(&before), Some(&after), &[]).await?;
    Ok(IssuedChildKey { key: after, token: token.clear })
}
