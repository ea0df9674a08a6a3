//! Streams: what each event means to the gateway, in whatever protocol, and whether a stream has come to its end.

use bytes::Bytes;
use ez_contract::usage::TokenUsage;

use crate::answer::VendorError;
use crate::api::Api;
use crate::openai_chat::{self, ChatEvent};

/// What an event of a stream means to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The stream's proper end.
    Terminal,
    /// An error inside the stream.
    Error(VendorError),
    /// It reports usage. `usage_only` where it exists for that alone, and only because the gateway asked for it.
    Usage {
        /// Whether the event exists for the usage alone.
        usage_only: bool,
    },
    /// Content.
    Content,
    /// A comment, a keep-alive, or something unknown: it passes.
    Other,
}

/// Reads one stream, event by event.
#[derive(Debug, Clone)]
pub struct StreamReader {
    api: Api,
    tokens: Option<TokenUsage>,
}

impl StreamReader {
    /// A reader for an answer of `api`.
    pub fn new(api: Api) -> Self {
        Self { api, tokens: None }
    }

    /// Tells what the next event means.
    pub fn read(&mut self, event: &[u8]) -> Meaning {
        match openai_chat::classify(event) {
            ChatEvent::Done => Meaning::Terminal,
            ChatEvent::Error(error) => Meaning::Error(error),
            ChatEvent::Usage { tokens, usage_only } => {
                self.tokens = Some(tokens);
                Meaning::Usage { usage_only }
            }
            ChatEvent::Content => Meaning::Content,
            ChatEvent::Other => Meaning::Other,
        }
    }

    /// The usage that was reported so far.
    pub fn tokens(&self) -> Option<TokenUsage> {
        self.tokens
    }

    /// Whether a stream that ends here, without a terminal event, has come to its proper end.
    pub fn may_end(&self) -> bool {
        false
    }

    /// The event with the model that it names replaced; the same bytes where it names none.
    pub fn rename(&self, event: &Bytes, model: &str) -> Bytes {
        openai_chat::rename_model(event, model)
    }

    /// What stands behind the last blank line when a stream ends: some servers leave that line out after their last
    /// event, which is then completed here. `None` where the event itself was cut off; half an event must not be passed.
    pub fn whole_tail(&self, tail: &[u8]) -> Option<Bytes> {
        openai_chat::whole_tail(tail)
    }

    /// The API whose answer this is.
    pub fn api(&self) -> Api {
        self.api
    }
}
