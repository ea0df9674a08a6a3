//! Masters of older systems: rows with a hash of the master key and no digest. A key is found by trying the hashes, and
//! its digest is then kept, so that this happens once for each.
//!
//! Trying is slow by design, so it is bounded: at most 100 rows a look-up, one look-up at a time in a process, and over
//! all processes 3 a minute from one address and 10 in all. A look-up that found nothing is followed, for the same
//! key, by one over the next 100 rows. What is beyond the bounds is answered like a wrong key.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use ez_store::masters::{self as stored, Master};
use secrecy::{ExposeSecret, SecretString};

use super::key_hash;
use crate::{Actor, Control, ControlError, Origin, masters};

/// Rows that one look-up tries.
const MAX_ROWS: u64 = 100;

/// Longest key that is looked for; no system makes longer ones.
const MAX_KEY_BYTES: usize = 512;

/// How long it is remembered that no row lacks a digest.
const NONE_LASTS: Duration = Duration::from_secs(60);

/// Keys for which the place of the next look-up is remembered; beyond that all begin anew.
const MAX_PLACES: usize = 1000;

/// What this process remembers about older rows.
#[derive(Default)]
pub(crate) struct Legacy {
    turn: Arc<tokio::sync::Mutex<()>>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Until when no row is known to lack a digest.
    none_until: Option<DateTime<Utc>>,
    /// By the digest of a key that was not found: the id after which its next look-up begins.
    places: HashMap<TokenDigest, i64>,
}

impl Legacy {
    /// The master with this key among rows without a digest; its row has one from now on. `None` as well where the
    /// bounds do not allow to look.
    pub(crate) async fn find(
        &self,
        control: &Control,
        key: &str,
        origin: &Origin,
    ) -> Result<Option<Master>, ControlError> {
        if key.len() > MAX_KEY_BYTES
            || !self.may_exist(control).await?
            || !control.attempts().may_try_hashes(control, origin).await
        {
            return Ok(None);
        }
        let digest = TokenDigest::of(key);
        let turn = self.turn.clone().lock_owned().await;
        // Whoever had the turn before may have looked for the same key.
        if let Some(master) = stored::get_by_digest(control.store(), &digest).await? {
            return Ok(Some(master));
        }
        let rows = stored::list_without_digest(control.store(), self.place(&digest), MAX_ROWS).await?;
        let is_last = (rows.len() as u64) < MAX_ROWS;
        let next = rows.last().filter(|_| !is_last).map_or(0, |(id, _)| *id);
        let key = SecretString::from(key);
        let trying = tokio::task::spawn_blocking(move || {
            let found = rows.into_iter().find(|(_, hash)| key_hash::is_of(hash, key.expose_secret()));
            // Ends here and not with the request, which may be gone while the hashes are still being tried.
            drop(turn);
            found
        });
        match trying.await.map_err(ControlError::internal)? {
            Some((id, hash)) => adopt(control, id, &hash, digest, origin).await,
            None => {
                self.remember_place(digest, next);
                Ok(None)
            }
        }
    }

    /// Whether any row lacks a digest; that none does is remembered for a while.
    async fn may_exist(&self, control: &Control) -> Result<bool, ControlError> {
        let now = control.now();
        // An end that is further away than it ever was set comes of a clock that was set back.
        if self.memory().none_until.is_some_and(|until| now < until && until <= now + NONE_LASTS) {
            return Ok(false);
        }
        let exists = !stored::list_without_digest(control.store(), 0, 1).await?.is_empty();
        self.memory().none_until = (!exists).then(|| now + NONE_LASTS);
        Ok(exists)
    }

    fn place(&self, digest: &TokenDigest) -> i64 {
        self.memory().places.get(digest).copied().unwrap_or(0)
    }

    fn remember_place(&self, digest: TokenDigest, after_id: i64) {
        let mut memory = self.memory();
        if memory.places.len() >= MAX_PLACES {
            memory.places.clear();
        }
        if after_id == 0 {
            memory.places.remove(&digest);
        } else {
            memory.places.insert(digest, after_id);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Legacy").finish_non_exhaustive()
    }
}

async fn adopt(
    control: &Control,
    id: i64,
    hash: &str,
    digest: TokenDigest,
    origin: &Origin,
) -> Result<Option<Master>, ControlError> {
    let write = control.write(Actor { origin: origin.clone(), ..Actor::system() }).await?;
    match masters::keep_digest(&write, id, hash, digest).await {
        Ok(Some(master)) => {
            write.commit().await?;
            Ok(Some(master))
        }
        Ok(None) => Ok(None),
        // Another row has the same key and was found a moment ago: that one it is.
        Err(ControlError::Conflict { .. }) => {
            drop(write);
            Ok(stored::get_by_digest(control.store(), &digest).await?)
        }
        Err(error) => Err(error),
    }
}
