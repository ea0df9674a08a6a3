//! How many input tokens a request has: a fixed function of its text, so that tests can foretell usage.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// Bytes of text that make one token.
const TEXT_BYTES_PER_TOKEN: u64 = 4;

/// Input tokens of a request body in any of the dialects: a quarter of the bytes of its text, rounded up, at least 1; 0 if the body isn't JSON.
///
/// Text is every string found under the keys `messages`, `content`, `contents`, `parts`, `text`, `input`, `system`, `instructions`, `output`,
/// `arguments`, `prompt`, `query` or `documents`, directly or in arrays. A number there (a token of an embedding request) counts as one token. Images, tool definitions and
/// the arguments of calls that are objects count nothing.
#[must_use]
pub fn input_tokens(body: &[u8]) -> u64 {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    match (TextBytes { counted: false }).deserialize(&mut deserializer) {
        Ok(text_bytes) => text_bytes.div_ceil(TEXT_BYTES_PER_TOKEN).max(1),
        Err(_) => 0,
    }
}

/// Sums the bytes of text in a JSON value without building it.
struct TextBytes {
    counted: bool,
}

/// Reads an object key and says whether text stands under it.
struct TextKey;

impl<'de> DeserializeSeed<'de> for TextBytes {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextBytes {
    type Value = u64;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(if self.counted { text.len() as u64 } else { 0 })
    }

    fn visit_u64<E>(self, _: u64) -> Result<u64, E> {
        Ok(if self.counted { TEXT_BYTES_PER_TOKEN } else { 0 })
    }

    fn visit_i64<E>(self, _: i64) -> Result<u64, E> {
        Ok(if self.counted { TEXT_BYTES_PER_TOKEN } else { 0 })
    }

    fn visit_f64<E>(self, _: f64) -> Result<u64, E> {
        Ok(if self.counted { TEXT_BYTES_PER_TOKEN } else { 0 })
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(text_bytes) = items.next_element_seed(TextBytes { counted: self.counted })? {
            sum += text_bytes;
        }
        Ok(sum)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<u64, A::Error> {
        let mut sum = 0;
        while let Some(counted) = entries.next_key_seed(TextKey)? {
            sum += entries.next_value_seed(TextBytes { counted })?;
        }
        Ok(sum)
    }
}

impl<'de> DeserializeSeed<'de> for TextKey {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for TextKey {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(matches!(
            key,
            "messages"
                | "content"
                | "contents"
                | "parts"
                | "text"
                | "input"
                | "system"
                | "instructions"
                | "output"
                | "arguments"
                | "prompt"
                | "query"
                | "documents"
        ))
    }
}
