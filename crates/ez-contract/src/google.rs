//! Google service accounts: the file that an operator pastes, and the signed request that is exchanged for an access
//! token (RFC 7523; the vendor's "OAuth 2.0 for server to server applications").

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::reach::{Forbidden, Reach};
use crate::url_path::segment;

/// What an access token may be used for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where tokens are made unless the file says otherwise.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// How long an assertion may be exchanged; the vendor takes an hour at most.
const ASSERTION_SECONDS: i64 = 3_600;
/// Bytes of a location; its host name has two more parts.
const MAX_LOCATION_BYTES: usize = 40;

/// A service account that can sign.
pub struct ServiceAccount {
    client_email: String,
    private_key_id: Option<String>,
    project_id: Option<String>,
    token_uri: Url,
    key: RsaKeyPair,
}

/// Why a text is no service account that can sign. Never carries any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceAccountError {
    /// Not the JSON of one, or a field is missing.
    #[error("the secret is not a service account's JSON with `client_email` and `private_key`")]
    NotServiceAccount,
    /// The private key is damaged, or of another kind.
    #[error("the service account's `private_key` is not an RSA key in PEM form")]
    InvalidKey,
    /// The place where tokens are made is out of reach.
    #[error("the service account's `token_uri` {0}")]
    TokenUri(Forbidden),
    /// The signature failed (never seen in practice).
    #[error("the service account's key cannot sign")]
    CannotSign,
}

/// What a token endpoint answers with.
#[derive(Deserialize)]
pub struct TokenAnswer {
    /// The bearer token.
    pub access_token: String,
    /// Seconds that it can be used for.
    #[serde(default = "default_expires_in")]
    pub expires_in: u64,
}

#[derive(Deserialize)]
struct File {
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    project_id: Option<String>,
    token_uri: Option<String>,
}

impl ServiceAccount {
    /// Reads the file. The token endpoint that it names is held to what operators may set.
    pub fn parse(json: &str) -> Result<Self, ServiceAccountError> {
        let file: File = serde_json::from_str(json).map_err(|_| ServiceAccountError::NotServiceAccount)?;
        let token_uri = file.token_uri.as_deref().unwrap_or(TOKEN_URI);
        Ok(Self {
            key: read_key(&file.private_key).ok_or(ServiceAccountError::InvalidKey)?,
            token_uri: Reach::Operator.parse(token_uri).map_err(ServiceAccountError::TokenUri)?,
            client_email: file.client_email,
            private_key_id: file.private_key_id,
            project_id: file.project_id,
        })
    }

    /// The project that the account belongs to.
    pub fn project_id(&self) -> Option<&str> {
        self.project_id.as_deref()
    }

    /// Where a request is exchanged for a token.
    pub fn token_uri(&self) -> &Url {
        &self.token_uri
    }

    /// The form to send to the token endpoint, signed at `now`.
    pub fn token_request(&self, now: DateTime<Utc>) -> Result<String, ServiceAccountError> {
        let issued_at = now.timestamp();
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": self.private_key_id });
        let claims = json!({
            "iss": self.client_email,
            "scope": SCOPE,
            "aud": self.token_uri.as_str(),
            "iat": issued_at,
            "exp": issued_at + ASSERTION_SECONDS,
        });
        let encode = |part: String| URL_SAFE_NO_PAD.encode(part);
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| ServiceAccountError::CannotSign)?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={signed}.{signature}"))
    }
}

/// The base URL of Vertex AI for a location: a region (`europe-west4`), a multi-region (`us`, `eu`) or `global`. None where
/// the text is no location.
pub fn vertex_base_url(location: &str) -> Option<String> {
    // It becomes part of a host name, so it is held to the characters of one.
    let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_valid = !location.is_empty() && location.len() <= MAX_LOCATION_BYTES && location.bytes().all(is_label);
    is_valid.then(|| match location {
        "global" => "https://aiplatform.googleapis.com".to_owned(),
        "us" | "eu" => format!("https://aiplatform.{location}.rep.googleapis.com"),
        region => format!("https://{region}-aiplatform.googleapis.com"),
    })
}

/// `projects/{project}/locations/{location}`, below which Vertex AI has its models. None where one cannot stand in a URL.
pub fn vertex_parent(project: &str, location: &str) -> Option<String> {
    vertex_base_url(location)?;
    Some(format!("projects/{}/locations/{location}", segment(project).ok()?))
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccount(…)")
    }
}

impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAnswer").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// What the vendor gives where it does not say.
const fn default_expires_in() -> u64 {
    3_600
}

/// An RSA key of a PEM text, in the form of PKCS#8 (what the vendor's files hold) or PKCS#1.
fn read_key(pem: &str) -> Option<RsaKeyPair> {
    let after = pem.split_once("-----BEGIN ")?.1;
    let (label, after) = after.split_once("-----")?;
    let encoded: String = after.split_once("-----END")?.0.split_whitespace().collect();
    let der = STANDARD.decode(encoded).ok()?;
    match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der).ok(),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn file(key: &RsaKeyPair, change: impl FnOnce(&mut Value)) -> String {
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(&*der));
        let mut file = json!({
            "type": "service_account", "client_email": "a@p.iam.gserviceaccount.com", "private_key": pem,
            "private_key_id": "kid-1", "project_id": "p", "token_uri": "https://oauth2.googleapis.com/token",
        });
        change(&mut file);
        file.to_string()
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_signed_with_the_accounts_key_for_its_token_endpoint() {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let account = ServiceAccount::parse(&file(&key, |_| ())).unwrap();
        assert_eq!(account.project_id(), Some("p"));
        let request = account.token_request(DateTime::from_timestamp(1_767_139_200, 0).unwrap()).unwrap();
        let token = request.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=");
        let (signed, signature) = token.unwrap().rsplit_once('.').unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(decoded(header), json!({ "alg": "RS256", "typ": "JWT", "kid": "kid-1" }));
        let expected = json!({
            "iss": "a@p.iam.gserviceaccount.com", "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": "https://oauth2.googleapis.com/token", "iat": 1_767_139_200, "exp": 1_767_142_800,
        });
        assert_eq!(decoded(claims), expected);
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    }

    #[test]
    fn each_location_has_its_host() {
        let cases = [
            ("global", Some("https://aiplatform.googleapis.com")),
            ("us", Some("https://aiplatform.us.rep.googleapis.com")),
            ("europe-west4", Some("https://europe-west4-aiplatform.googleapis.com")),
            ("", None),
            ("a.evil.test/", None),
            ("a@b", None),
        ];
        for (location, expected) in cases {
            assert_eq!(vertex_base_url(location).as_deref(), expected, "{location}");
        }
        assert_eq!(vertex_parent("example.com:p", "us").as_deref(), Some("projects/example.com%3Ap/locations/us"));
        assert_eq!((vertex_parent("..", "us"), vertex_parent("p", "../x")), (None, None));
    }

    #[test]
    fn what_cannot_sign_or_points_elsewhere_is_refused_without_a_word_of_it() {
        use ServiceAccountError::{InvalidKey, NotServiceAccount, TokenUri};
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let metadata = |file: &mut Value| file["token_uri"] = json!("http://169.254.169.254/token");
        let cases = [
            ("sk-canary".to_owned(), NotServiceAccount),
            ("{}".to_owned(), NotServiceAccount),
            (file(&key, |file| file["private_key"] = json!("canary")), InvalidKey),
            (
                file(&key, |file| file["private_key"] = json!("-----BEGIN EC KEY-----\nAA==\n-----END EC KEY-----")),
                InvalidKey,
            ),
            (file(&key, metadata), TokenUri(Forbidden::Metadata)),
        ];
        for (text, expected) in cases {
            let error = ServiceAccount::parse(&text).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("canary"));
        }
        assert_eq!(format!("{:?}", ServiceAccount::parse(&file(&key, |_| ())).unwrap()), "ServiceAccount(…)");
    }
}
