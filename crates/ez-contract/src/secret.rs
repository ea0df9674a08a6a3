//! The secret envelope: how upstream credentials are encrypted in the database and in snapshots.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

const PREFIX: &str = "enc:v1:";

/// The key that encrypts every secret of an installation: 32 bytes from `EZ_SECRET_KEY`, in hex or base64.
pub struct SecretKey(LessSafeKey);

/// What ties a ciphertext to its place, so that a row's secret cannot be moved into another row or field.
/// Written `<table>:<uuid>:<field>`; the uuid is a column that each secret-bearing record is created with.
#[derive(Debug, Clone, Copy)]
pub struct SecretPlace<'a> {
    /// Table of the record.
    pub table: &'a str,
    /// The record's uuid.
    pub uuid: Uuid,
    /// The field.
    pub field: &'a str,
}

impl<'a> SecretPlace<'a> {
    /// A field of an API key.
    pub fn api_key(uuid: Uuid, field: &'a str) -> Self {
        Self { table: "api_keys", uuid, field }
    }
}

impl fmt::Display for SecretPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.table, self.uuid, self.field)
    }
}

/// Why a secret could not be sealed or opened. Never carries the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The key is not 32 bytes in hex or base64.
    #[error("the secret key is not 32 bytes in hex (64 digits) or base64")]
    InvalidKey,
    /// The text is not an envelope.
    #[error("the stored secret is not of the form enc:v1:<base64>")]
    NotAnEnvelope,
    /// Wrong key, wrong place, or damaged ciphertext.
    #[error("the stored secret cannot be decrypted: wrong EZ_SECRET_KEY, or damaged data")]
    CannotDecrypt,
    /// The cipher refused (never seen in practice).
    #[error("the secret cannot be encrypted")]
    CannotEncrypt,
}

impl SecretKey {
    /// Reads a key from 64 hex digits or base64 of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let bytes = hex::decode(text).ok().or_else(|| STANDARD.decode(text).ok()).ok_or(SecretError::InvalidKey)?;
        Self::from_bytes(&bytes)
    }

    /// A key from its 32 raw bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        let unbound = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| SecretError::InvalidKey)?;
        Ok(Self(LessSafeKey::new(unbound)))
    }

    /// Encrypts `clear` for `place`. The nonce must be fresh and random for every call.
    pub fn seal(&self, clear: &str, place: SecretPlace<'_>, nonce: [u8; NONCE_LEN]) -> Result<String, SecretError> {
        let mut sealed = clear.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.to_string().as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SecretError::CannotEncrypt)?;
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        Ok(format!("{PREFIX}{}", STANDARD.encode(bytes)))
    }

    /// Decrypts an envelope made for `place`.
    pub fn open(&self, envelope: &str, place: SecretPlace<'_>) -> Result<String, SecretError> {
        let encoded = envelope.strip_prefix(PREFIX).ok_or(SecretError::NotAnEnvelope)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::NotAnEnvelope)?;
        let (nonce, ciphertext) = bytes.split_at_checked(NONCE_LEN).ok_or(SecretError::NotAnEnvelope)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SecretError::NotAnEnvelope)?;
        let mut buffer = ciphertext.to_vec();
        let clear = self
            .0
            .open_in_place(nonce, Aad::from(place.to_string().as_bytes()), &mut buffer)
            .map_err(|_| SecretError::CannotDecrypt)?;
        String::from_utf8(clear.to_vec()).map_err(|_| SecretError::CannotDecrypt)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn opens_only_with_its_key_in_its_place() {
        let key = SecretKey::parse(KEY).unwrap();
        let place = SecretPlace::api_key(Uuid::from_u128(7), "api_key");
        let envelope = key.seal("sk-123", place, [9; NONCE_LEN]).unwrap();
        assert!(envelope.starts_with("enc:v1:") && !envelope.contains("sk-123"));
        assert_eq!(key.open(&envelope, place).as_deref(), Ok("sk-123"));

        let elsewhere = SecretPlace::api_key(Uuid::from_u128(8), "api_key");
        assert_eq!(key.open(&envelope, elsewhere), Err(SecretError::CannotDecrypt));
        let other_key = SecretKey::from_bytes(&[1; 32]).unwrap();
        assert_eq!(other_key.open(&envelope, place), Err(SecretError::CannotDecrypt));
        assert_eq!(key.open("sk-123", place), Err(SecretError::NotAnEnvelope));
    }

    #[test]
    fn keys_are_read_from_hex_and_base64_only_in_full_length() {
        let base64 = STANDARD.encode([3; 32]);
        assert!(SecretKey::parse(&base64).is_ok());
        for bad in ["", "00", &KEY[..62], "not a key"] {
            assert!(matches!(SecretKey::parse(bad), Err(SecretError::InvalidKey)), "{bad}");
        }
    }
}
