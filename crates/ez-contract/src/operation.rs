//! What a client asks a model to do, and the scope of a child key that allows it.

/// One kind of call. Its scope is what a child key's `scopes` must contain (control plane, "Records").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A conversation turn in any chat protocol, or counting its tokens.
    Chat,
    /// Legacy text completion.
    Completions,
    /// Embeddings.
    Embeddings,
    /// Image generation and editing.
    Images,
    /// Speech and transcription.
    Audio,
    /// Reranking.
    Rerank,
    /// Moderation.
    Moderations,
}

impl Operation {
    /// The scope that allows this operation.
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Chat => "chat:*",
            Self::Completions => "completions:*",
            Self::Embeddings => "embeddings:*",
            Self::Images => "images:*",
            Self::Audio => "audio:*",
            Self::Rerank => "rerank:*",
            Self::Moderations => "moderations:*",
        }
    }

    /// Whether a key with these scopes may do this. Empty scopes mean all.
    pub fn is_allowed_by(self, scopes: &[String]) -> bool {
        scopes.is_empty() || scopes.iter().any(|scope| scope == "*" || scope == self.scope())
    }
}

/// Every scope that a child key may carry.
pub const SCOPES: &[&str] =
    &["*", "chat:*", "completions:*", "embeddings:*", "images:*", "audio:*", "rerank:*", "moderations:*"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_allow_what_they_name() {
        let chat_only = vec!["chat:*".to_owned()];
        assert!(Operation::Chat.is_allowed_by(&chat_only));
        assert!(!Operation::Embeddings.is_allowed_by(&chat_only));
        assert!(Operation::Embeddings.is_allowed_by(&["*".to_owned()]));
        assert!(Operation::Embeddings.is_allowed_by(&[]));
    }
}
