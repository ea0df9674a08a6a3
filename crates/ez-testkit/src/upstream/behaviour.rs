//! What a simulated vendor does with a request: how much it says, how fast, and what goes wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Attentive;

/// How requests are answered. The JSON form uses the same names, durations in milliseconds with the suffix `_ms`; fields left out take the default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// Silence before the response headers. Vendors send the headers together with the first token.
    #[serde(rename = "first_byte_delay_ms", with = "milliseconds")]
    pub first_byte_delay: Duration,
    /// Silence between the headers of a stream and its first event.
    #[serde(rename = "first_event_delay_ms", with = "milliseconds")]
    pub first_event_delay: Duration,
    /// Output tokens of an answer, reasoning included. A stream sends one delta per visible token.
    pub tokens: u32,
    /// Pace of the output tokens; `None` is as fast as the socket takes them. A plain answer takes the time that its tokens would.
    /// The timer ticks once a millisecond: above 1000 a second several tokens share a tick.
    pub tokens_per_second: Option<f64>,
    /// Text of one token.
    pub token_text: String,
    /// Pads the text of a plain answer so that its body has this many bytes (a body that is longer already stays as it is).
    pub answer_bytes: Option<usize>,
    /// Puts `ts=<nanoseconds since the epoch>;` before the text of each streamed token, taken when the event is handed to the socket.
    pub timestamps: bool,
    /// Input tokens reported as read from the vendor's cache, at most all of them.
    pub cached_tokens: u32,
    /// Input tokens reported as written to the vendor's cache, at most what the cached ones leave.
    pub cache_write_tokens: u32,
    /// Output tokens reported as reasoning: part of `tokens`, never shown as text.
    pub reasoning_tokens: u32,
    /// Numbers per embedding when the request names no `dimensions`.
    pub embedding_dimensions: u32,
    /// Further headers of every answer, errors included, such as a vendor's rate limits.
    pub headers: BTreeMap<String, String>,
    /// The models that exist; empty accepts every model.
    pub models: Vec<String>,
    /// Chats are answered by what they hold and checked as their vendor checks them; of the fields above, those about what is
    /// said count for nothing then.
    pub attentive: Option<Attentive>,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

/// One way in which a vendor fails. In JSON: `{"kind": "status", "status": 429, "retry_after": 7}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// An error answer in the vendor's shape.
    Status {
        /// HTTP status.
        status: u16,
        /// `retry-after` in seconds (for Gemini `RetryInfo` in the body too, which is where Google puts it).
        #[serde(default)]
        retry_after: Option<u64>,
        /// The vendor's error code (OpenAI `code`, Anthropic `error.type`, Google `status`); by default what goes with the status.
        #[serde(default)]
        code: Option<String>,
        /// The message; by default what goes with the status.
        #[serde(default)]
        message: Option<String>,
        /// Sent as `text/html` in place of the vendor's shape, as load balancers in front of vendors do.
        #[serde(default)]
        html: Option<String>,
    },
    /// The first `after_bytes` of the body, then silence on an open connection.
    Stall {
        /// Body bytes sent before the silence; 0 sends the headers only.
        after_bytes: usize,
    },
    /// The connection is torn down (TCP RST on HTTP/1.1, RST_STREAM on HTTP/2).
    Reset {
        /// Body bytes sent before it; `None` resets before the headers.
        #[serde(default)]
        after_bytes: Option<usize>,
    },
    /// The body ends as if complete, but isn't. With neither limit a stream lacks its last event, a plain body its second half.
    Truncate {
        /// Events sent (streams only).
        #[serde(default)]
        after_events: Option<usize>,
        /// Body bytes sent; counts if `after_events` is absent or the answer isn't a stream.
        #[serde(default)]
        after_bytes: Option<usize>,
    },
    /// A 200 stream that carries an error and ends there. A plain request gets the error as its answer.
    ErrorInStream {
        /// Events before the error; 0 makes it the first event.
        #[serde(default)]
        after_events: usize,
        /// The status that the error would have had as an answer.
        status: u16,
        /// As in [`Fault::Status`].
        #[serde(default)]
        code: Option<String>,
        /// As in [`Fault::Status`].
        #[serde(default)]
        message: Option<String>,
    },
    /// The connection closes without a byte of answer, as when the vendor restarts.
    Close,
    /// The status line arrives at once, the rest of the headers after a delay. On HTTP/2 the connection is held up instead.
    SlowHeaders {
        /// The delay.
        #[serde(rename = "delay_ms", with = "milliseconds")]
        delay: Duration,
    },
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            first_byte_delay: Duration::ZERO,
            first_event_delay: Duration::ZERO,
            tokens: 16,
            tokens_per_second: None,
            token_text: "tok ".to_owned(),
            answer_bytes: None,
            timestamps: false,
            cached_tokens: 0,
            cache_write_tokens: 0,
            reasoning_tokens: 0,
            embedding_dimensions: 8,
            headers: BTreeMap::new(),
            models: Vec::new(),
            attentive: None,
            fault: None,
        }
    }
}

impl Behaviour {
    /// The default answer, failing in the given way.
    #[must_use]
    pub fn failing(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    /// A model that answers by what it is told.
    #[must_use]
    pub fn attentive() -> Self {
        Self { attentive: Some(Attentive::default()), ..Self::default() }
    }

    /// The default fault of a status: [`Fault::Status`] with nothing but the status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::failing(Fault::Status { status, retry_after: None, code: None, message: None, html: None })
    }

    /// Tokens that appear as text: all but the reasoning.
    #[must_use]
    pub fn visible_tokens(&self) -> u32 {
        self.tokens.saturating_sub(self.reasoning_tokens)
    }

    /// Time between two tokens.
    pub(super) fn token_gap(&self) -> Duration {
        match self.tokens_per_second {
            Some(rate) if rate > 0.0 => Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX),
            _ => Duration::ZERO,
        }
    }
}

/// Reads `250us`, `20ms`, `1.5s`, `2m` or a bare number of milliseconds.
///
/// # Errors
/// A sentence saying what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "us" => 1e-6,
        "" | "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(format!("unknown unit {unit:?}: us, ms, s or m is expected")),
    };
    let number: f64 = number.trim().parse().map_err(|_| format!("{text:?} isn't a duration such as 20ms"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| error.to_string())
}

/// Durations in JSON: a number of milliseconds, fractions allowed.
mod milliseconds {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64() * 1e3)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)? / 1e3).map_err(D::Error::custom)
    }
}
