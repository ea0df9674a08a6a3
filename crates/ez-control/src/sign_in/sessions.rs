//! Sessions: JWTs signed with HS256 and nothing else, good for an hour.

use std::time::Duration;

use chrono::{DateTime, Utc};
use ez_contract::TokenDigest;
use ez_store::masters::Master;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::ControlError;

/// How long a session is good for.
pub(crate) const SESSION_LENGTH: Duration = Duration::from_secs(60 * 60);

const ISSUER: &str = "ez-api";

/// Issues and verifies sessions.
pub(crate) struct Sessions {
    secret: SecretString,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

/// What a session says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    iat: i64,
    exp: i64,
    #[serde(flatten)]
    subject: Subject,
}

/// Whose session it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub(crate) enum Subject {
    /// Dies with the admin token that bought it.
    Admin {
        /// See [`Sessions::mark`].
        credential: String,
    },
    /// Dies with the master key that bought it, and when the master's epoch moves on.
    Master {
        /// The master.
        master_id: i64,
        /// Its epoch at sign-in.
        epoch: i64,
        /// See [`Sessions::mark`].
        credential: String,
    },
}

impl Claims {
    pub(crate) fn admin(credential: String, now: DateTime<Utc>) -> Self {
        Self::new(Subject::Admin { credential }, now)
    }

    pub(crate) fn master(master: &Master, credential: String, now: DateTime<Utc>) -> Self {
        Self::new(Subject::Master { master_id: master.id, epoch: master.epoch, credential }, now)
    }

    fn new(subject: Subject, now: DateTime<Utc>) -> Self {
        Self { iss: ISSUER.to_owned(), iat: now.timestamp(), exp: (now + SESSION_LENGTH).timestamp(), subject }
    }

    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl Sessions {
    pub(crate) fn new(secret: SecretString) -> Self {
        let key = secret.expose_secret().as_bytes();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss"]);
        // The library asks the system's clock; this is checked against ours.
        validation.validate_exp = false;
        let (encoding, decoding) = (EncodingKey::from_secret(key), DecodingKey::from_secret(key));
        Self { secret, encoding, decoding, validation }
    }

    /// What ties a session to the credential that bought it. The secret is part of it: who comes upon a session, long after
    /// its end perhaps, must have nothing to try guesses at the credential on.
    pub(crate) fn mark(&self, digest: &TokenDigest) -> String {
        let mark = TokenDigest::of(&format!("{}\n{digest}", self.secret.expose_secret()));
        format!("{:.16}", mark.to_string())
    }

    /// Whether a bearer token has the form of a session; no other credential has it.
    pub(crate) fn looks_like_one(bearer: &str) -> bool {
        bearer.starts_with("eyJ") && bearer.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    pub(crate) fn issue(&self, claims: &Claims) -> Result<SecretString, ControlError> {
        let token = encode(&Header::new(Algorithm::HS256), claims, &self.encoding).map_err(ControlError::internal)?;
        Ok(SecretString::from(token))
    }

    /// What a session says, if it is ours and has not ended.
    pub(crate) fn verify(&self, bearer: &str, now: DateTime<Utc>) -> Option<Claims> {
        let claims = decode::<Claims>(bearer, &self.decoding, &self.validation).ok()?.claims;
        (claims.exp > now.timestamp()).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(secret: &str) -> Sessions {
        Sessions::new(SecretString::from(secret))
    }

    #[test]
    fn a_session_is_good_for_an_hour_under_its_secret() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let token = sessions("one").issue(&Claims::admin("mark".to_owned(), now)).unwrap();
        let token = token.expose_secret();
        assert!(Sessions::looks_like_one(token));
        let verify = |secret: &str, after: u64| sessions(secret).verify(token, now + Duration::from_secs(after));
        assert!(matches!(verify("one", 0).unwrap().subject(), Subject::Admin { credential } if credential == "mark"));
        assert!(verify("one", 3599).is_some());
        assert!(verify("one", 3600).is_none());
        assert!(verify("two", 0).is_none());
    }

    #[test]
    fn a_mark_is_of_its_credential_and_tells_nothing_of_it() {
        let (first, second) = (TokenDigest::of("first"), TokenDigest::of("second"));
        let mark = sessions("one").mark(&first);
        assert_eq!((mark.len(), &mark), (16, &sessions("one").mark(&first)));
        assert_ne!(mark, sessions("one").mark(&second));
        assert_ne!(mark, sessions("two").mark(&first), "without the secret no guess can be tried on it");
        assert!(!first.to_string().contains(&mark));
    }

    #[test]
    fn another_algorithm_is_refused_whatever_the_token_says() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let claims = Claims::admin("mark".to_owned(), now);
        let key = EncodingKey::from_secret(b"one");
        let hs512 = encode(&Header::new(Algorithm::HS512), &claims, &key).unwrap();
        assert!(sessions("one").verify(&hs512, now).is_none());

        // {"alg":"none","typ":"JWT"} and no signature, with the claims of a good one.
        let good = sessions("one").issue(&claims).unwrap();
        let payload = good.expose_secret().split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
        assert!(Sessions::looks_like_one(&unsigned));
        assert!(sessions("one").verify(&unsigned, now).is_none());
    }
}
