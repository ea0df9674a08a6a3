//! Making credentials: master keys, child tokens, the first admin token.

use argon2::{Argon2, PasswordHash, PasswordHasher};
use ez_contract::TokenDigest;
use rand::distr::{Alphanumeric, SampleString};
use secrecy::{ExposeSecret, SecretString};

use crate::ControlError;

/// Letters and digits after a credential's prefix: 43 of 62 kinds are 256 bits. No `-` and no `_` among them, as the
/// gateway also tries what clients of other systems send: a token cut at a `-`.
const SECRET_LENGTH: usize = 43;

/// First characters of a credential that stay visible; at most 6 of them are random.
const SHOWN_LENGTH: usize = 12;

/// A new master key with all that is kept of it. Its hash is slow by design (Argon2id), so it is made before the
/// transaction that stores it begins.
#[derive(Debug)]
pub struct MasterKey {
    pub(crate) token: ClearToken,
    pub(crate) hash: String,
}

/// A new random token: to be shown once, and what is kept of it.
#[derive(Debug)]
pub(crate) struct ClearToken {
    pub(crate) clear: SecretString,
    pub(crate) digest: TokenDigest,
    pub(crate) prefix: String,
}

impl MasterKey {
    /// Makes a master key, `ez-mk-…`. Takes some tens of milliseconds of another thread.
    pub async fn generate() -> Result<Self, ControlError> {
        let token = ClearToken::generate("ez-mk-");
        let clear = token.clear.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let hash: Result<PasswordHash, _> = Argon2::default().hash_password(clear.expose_secret().as_bytes());
            hash.map(|hash| hash.to_string())
        });
        let hash = hashing.await.map_err(ControlError::internal)?.map_err(ControlError::internal)?;
        Ok(Self { token, hash })
    }
}

impl ClearToken {
    /// A child token, `sk-ez-…`. 256 random bits need no slow hash: its digest alone is kept.
    pub(crate) fn for_child_key() -> Self {
        Self::generate("sk-ez-")
    }

    /// An admin token, `ez-admin-…`.
    pub(crate) fn for_admin() -> Self {
        Self::generate("ez-admin-")
    }

    fn generate(kind: &str) -> Self {
        let clear = format!("{kind}{}", random_text());
        Self {
            digest: TokenDigest::of(&clear),
            prefix: clear.chars().take(SHOWN_LENGTH).collect(),
            clear: SecretString::from(clear),
        }
    }
}

/// 256 random bits as letters and digits.
pub(crate) fn random_text() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), SECRET_LENGTH)
}

#[cfg(test)]
mod tests {
    use argon2::PasswordVerifier;

    use super::*;

    #[tokio::test]
    async fn a_master_key_is_random_and_its_hash_is_argon2id_of_it() {
        let key = MasterKey::generate().await.unwrap();
        let clear = key.token.clear.expose_secret();
        assert!(clear.starts_with("ez-mk-") && clear.len() == 6 + SECRET_LENGTH, "{clear}");
        assert!(clear.starts_with(&key.token.prefix) && key.token.prefix.len() == SHOWN_LENGTH);
        assert!(key.hash.starts_with("$argon2id$"), "{}", key.hash);
        let hash = PasswordHash::new(&key.hash).unwrap();
        assert!(Argon2::default().verify_password(clear.as_bytes(), &hash).is_ok());
        assert!(!format!("{key:?}").contains(clear));
    }

    #[test]
    fn a_child_token_has_no_dash_after_its_prefix() {
        let token = ClearToken::for_child_key();
        let random = token.clear.expose_secret().strip_prefix("sk-ez-").unwrap();
        assert!(random.chars().all(|c| c.is_ascii_alphanumeric()), "{random}");
        assert_eq!(token.digest, TokenDigest::of(token.clear.expose_secret()));
    }
}
