//! The webhook's secret, and signing with it.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

/// What every such secret begins with.
const PREFIX: &str = "whsec_";

/// Bytes of a secret, from the specification.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;

/// Bytes of a secret that is made here: as long as the signature.
const LENGTH_MADE: usize = 32;

/// A key that signs.
pub(super) struct SigningKey(hmac::Key);

/// A new secret, `whsec_…`.
pub(super) fn generate() -> SecretString {
    let bytes: [u8; LENGTH_MADE] = rand::random();
    SecretString::from(format!("{PREFIX}{}", STANDARD.encode(bytes)))
}

impl SigningKey {
    /// Reads a secret; none where it is not one.
    pub(super) fn parse(secret: &SecretString) -> Option<Self> {
        let bytes = STANDARD.decode(secret.expose_secret().strip_prefix(PREFIX)?).ok()?;
        LENGTHS.contains(&bytes.len()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of the header `webhook-signature`. `timestamp` is the attempt's, in Unix seconds.
    pub(super) fn sign(&self, event_id: &str, timestamp: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{event_id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of the specification's own libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = SigningKey::parse(&SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_24_to_64_bytes_behind_its_prefix() {
        let of = |length: usize| SecretString::from(format!("whsec_{}", STANDARD.encode(vec![7; length])));
        for (length, is_one) in [(23, false), (24, true), (64, true), (65, false)] {
            assert_eq!(SigningKey::parse(&of(length)).is_some(), is_one, "{length}");
        }
        for wrong in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"] {
            assert!(SigningKey::parse(&SecretString::from(wrong)).is_none(), "{wrong}");
        }
        let (one, other) = (generate(), generate());
        assert!(SigningKey::parse(&one).is_some());
        assert_ne!(one.expose_secret(), other.expose_secret());
    }
}
