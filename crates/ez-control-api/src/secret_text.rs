//! A secret in a request: readable once, by whoever asks for it by name.

use std::fmt;

use secrecy::SecretString;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};

/// A secret text in a request. Neither `Debug` nor a refusal shows it, not even where it came with a wrong type.
#[derive(Debug, Clone)]
pub(crate) struct SecretText(pub(crate) SecretString);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

impl utoipa::PartialSchema for SecretText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
            .write_only(true)
            .into()
    }
}

impl ToSchema for SecretText {}

struct SecretVisitor;

/// Refuses a value of a wrong type in words that do not repeat it, as serde's own would.
macro_rules! refuse {
    ($($visit:ident $ty:ty),+) => {
        $(fn $visit<E: Error>(self, _: $ty) -> Result<SecretText, E> {
            Err(E::custom("must be a text"))
        })+
    };
}

impl Visitor<'_> for SecretVisitor {
    type Value = SecretText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
        Ok(SecretText(SecretString::from(text)))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<SecretText, E> {
        Ok(SecretText(SecretString::from(text)))
    }

    refuse!(visit_bool bool, visit_i64 i64, visit_u64 u64, visit_f64 f64);
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::SecretText;

    #[test]
    fn neither_debug_nor_refusal_shows_it() {
        let secret: SecretText = serde_json::from_str("\"sk-1\"").unwrap();
        assert_eq!(secret.0.expose_secret(), "sk-1");
        assert!(!format!("{secret:?}").contains("sk-1"));
        let refused = serde_json::from_str::<SecretText>("4711").unwrap_err().to_string();
        assert!(!refused.contains("4711"), "{refused}");
    }
}
