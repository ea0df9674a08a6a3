//! What is known of models: kinds, and the account of the published model hash (`meta:models_meta`).

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::status::words;

words! {
    /// What a model is for.
    ModelKind {
        /// Conversation, in whatever wire protocol.
        Chat = "chat",
        /// Embeddings.
        Embedding = "embedding",
        /// Reranking.
        Rerank = "rerank",
        /// Anything else.
        Other = "other",
    }
}

impl ModelKind {
    /// The kind that a word stands for: none means `chat`, one that is not known `other`.
    pub fn of(word: &str) -> Self {
        if word.is_empty() { Self::Chat } else { word.parse().unwrap_or(Self::Other) }
    }
}

/// Where the model catalogue came from that a model hash was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelsOrigin {
    /// The catalogue's version, in its source's own words.
    pub version: String,
    /// Name of the source.
    pub source: String,
    /// Where the source was published, or empty.
    pub upstream_url: String,
    /// What exactly was taken of it, or empty.
    pub upstream_ref: String,
}

/// `meta:models_meta`: which catalogue the published models were made with, and what they add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelsMeta {
    /// The catalogue's version.
    pub version: String,
    /// When the model hash or its origin last changed.
    pub updated_at: DateTime<Utc>,
    /// Name of the catalogue's source.
    pub source: String,
    /// [`models_checksum`] of the model hash.
    pub checksum: String,
    /// Where the source was published, or empty.
    pub upstream_url: String,
    /// What exactly was taken of it, or empty.
    pub upstream_ref: String,
}

impl ModelsMeta {
    /// The account of a model hash with this checksum.
    pub fn new(origin: ModelsOrigin, checksum: String, updated_at: DateTime<Utc>) -> Self {
        let ModelsOrigin { version, source, upstream_url, upstream_ref } = origin;
        Self { version, updated_at, source, checksum, upstream_url, upstream_ref }
    }

    /// Its origin alone.
    pub fn origin(&self) -> ModelsOrigin {
        ModelsOrigin {
            version: self.version.clone(),
            source: self.source.clone(),
            upstream_url: self.upstream_url.clone(),
            upstream_ref: self.upstream_ref.clone(),
        }
    }
}

/// Checksum of a model hash: lower-case hex SHA-256 over its keys in the order of their bytes, each followed by a line
/// feed, its payload, and a line feed. The entries must come in that order.
pub fn models_checksum<Key: AsRef<[u8]>, Payload: AsRef<[u8]>>(
    entries: impl IntoIterator<Item = (Key, Payload)>,
) -> String {
    let mut digest = Context::new(&SHA256);
    for (key, payload) in entries {
        for part in [key.as_ref(), b"\n", payload.as_ref(), b"\n"] {
            digest.update(part);
        }
    }
    hex::encode(digest.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_is_chat_and_an_unknown_one_other() {
        let cases = [
            ("", ModelKind::Chat),
            ("chat", ModelKind::Chat),
            ("embedding", ModelKind::Embedding),
            ("rerank", ModelKind::Rerank),
            ("other", ModelKind::Other),
            ("image", ModelKind::Other),
            ("Chat", ModelKind::Other),
        ];
        for (word, kind) in cases {
            assert_eq!(ModelKind::of(word), kind, "{word:?}");
        }
    }

    #[test]
    fn a_checksum_is_of_keys_and_payloads_each_on_a_line() {
        // What `printf 'ns.a\n{"x":1}\nns.b\n{}\n' | sha256sum` prints, and `sha256sum </dev/null`.
        let two = "21d64647a13c3d14a4425a62fd0347766b24a01ec134a2d1dd3158cfa1f6a316";
        assert_eq!(models_checksum([("ns.a", r#"{"x":1}"#), ("ns.b", "{}")]), two);
        let none: [(&str, &str); 0] = [];
        assert_eq!(models_checksum(none), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
