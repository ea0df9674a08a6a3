//! What every dialect needs to write an answer: the text, the usage, the ids.

use bytes::Bytes;

use super::Behaviour;
use super::attentive::Reply;
use super::body::Event;
use super::tools::ToolCall;

/// A behaviour with its texts ready for JSON.
pub(super) struct Plan {
    pub(super) behaviour: Behaviour,
    /// One token, escaped, without quotes.
    token: String,
    /// All visible tokens, escaped, without quotes.
    pub(super) text: String,
}

/// One answer to write.
pub(super) struct Job<'a> {
    pub(super) plan: &'a Plan,
    /// Number of the request within its upstream.
    pub(super) serial: u64,
    /// Seconds since the epoch.
    pub(super) created_at: u64,
    /// The model as the request named it, as a JSON string with quotes.
    pub(super) model: String,
    pub(super) usage: Usage,
    /// Whether a chat stream ends with usage.
    pub(super) include_usage: bool,
    /// Whether a Gemini stream is SSE rather than a JSON array.
    pub(super) sse: bool,
    pub(super) tool_call: Option<ToolCall>,
    /// What an attentive model says.
    pub(super) reply: Option<Reply>,
}

/// Token counts of an answer.
#[derive(Clone, Copy)]
pub(super) struct Usage {
    /// All input tokens, whatever their price.
    pub(super) input: u64,
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
    /// All output tokens, reasoning included.
    pub(super) output: u64,
    pub(super) reasoning: u64,
}

impl Plan {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let quoted = json_string(&behaviour.token_text);
        let token = quoted[1..quoted.len() - 1].to_owned();
        let text = token.repeat(behaviour.visible_tokens() as usize);
        Self { behaviour, token, text }
    }

    pub(super) fn usage(&self, input: u64) -> Usage {
        let cache_read = u64::from(self.behaviour.cached_tokens).min(input);
        Usage {
            input,
            cache_read,
            cache_write: u64::from(self.behaviour.cache_write_tokens).min(input - cache_read),
            output: u64::from(self.behaviour.tokens),
            reasoning: u64::from(self.behaviour.reasoning_tokens.min(self.behaviour.tokens)),
        }
    }
}

impl Job<'_> {
    /// An id of this answer; the same prefix gives the same id.
    pub(super) fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:024x}", self.serial)
    }

    /// One event with one token of text between the two parts.
    pub(super) fn token_event(&self, before: &str, after: &str) -> Event {
        let after_text = [&self.plan.token, after].concat();
        if self.plan.behaviour.timestamps {
            Event::stamped(before, &after_text)
        } else {
            Event::token([before, &after_text].concat())
        }
    }

    /// A plain answer with all the text between the two parts, padded to the size that the behaviour asks for.
    pub(super) fn whole(&self, before: &str, after: &str) -> Bytes {
        let text = &self.plan.text;
        let bare = before.len() + text.len() + after.len();
        let padding = self.plan.behaviour.answer_bytes.unwrap_or(0).saturating_sub(bare);
        let mut body = Vec::with_capacity(bare + padding);
        body.extend_from_slice(before.as_bytes());
        body.extend_from_slice(text.as_bytes());
        body.resize(body.len() + padding, b'x');
        body.extend_from_slice(after.as_bytes());
        body.into()
    }
}

/// A text as a JSON string, quotes included.
pub(super) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
