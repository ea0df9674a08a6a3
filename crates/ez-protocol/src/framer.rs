//! Framing: cuts a streamed answer into events, in whatever frame its API sends them.

use bytes::Bytes;

use crate::api::Api;
use crate::json_array::ArrayFramer;
use crate::sse::{EventFramer, EventTooLarge};

/// Cuts a streamed answer into events, whose bytes together are what arrived.
#[derive(Debug)]
pub enum Framer {
    /// Server-sent events.
    Sse(EventFramer),
    /// The elements of one JSON array.
    JsonArray(ArrayFramer),
}

impl Framer {
    /// The framer for an answer of `api` with this content type, which refuses events larger than `max_event_bytes`.
    /// `None` where such an answer is no stream.
    pub fn of(api: Api, content_type: Option<&str>, max_event_bytes: usize) -> Option<Self> {
        let content_type = content_type.unwrap_or_default().trim_start();
        let starts_with =
            |essence: &str| content_type.get(..essence.len()).is_some_and(|head| head.eq_ignore_ascii_case(essence));
        if starts_with("text/event-stream") {
            return Some(Self::Sse(EventFramer::new(max_event_bytes)));
        }
        let is_array = api == Api::StreamGenerateContent && starts_with("application/json");
        is_array.then(|| Self::JsonArray(ArrayFramer::new(max_event_bytes)))
    }

    /// Takes in the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        match self {
            Self::Sse(framer) => framer.push(chunk),
            Self::JsonArray(framer) => framer.push(chunk),
        }
    }

    /// The next whole event, if one has arrived.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLarge> {
        match self {
            Self::Sse(framer) => framer.next_event(),
            Self::JsonArray(framer) => framer.next_event(),
        }
    }

    /// What is left when the stream has ended; see [`StreamReader::whole_tail`](crate::stream::StreamReader::whole_tail).
    pub fn finish(&mut self) -> Option<Bytes> {
        match self {
            Self::Sse(framer) => framer.finish(),
            Self::JsonArray(framer) => framer.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_follows_the_api_and_the_content_type() {
        let name = |api, content_type| match Framer::of(api, content_type, 1) {
            Some(Framer::Sse(_)) => "sse",
            Some(Framer::JsonArray(_)) => "array",
            None => "none",
        };
        let cases = [
            (Api::ChatCompletions, Some("text/event-stream; charset=utf-8"), "sse"),
            (Api::ChatCompletions, Some(" Text/Event-Stream"), "sse"),
            (Api::ChatCompletions, Some("application/json"), "none"),
            (Api::StreamGenerateContent, Some("text/event-stream"), "sse"),
            (Api::StreamGenerateContent, Some("application/json; charset=UTF-8"), "array"),
            (Api::StreamGenerateContent, Some("text/html"), "none"),
            (Api::GenerateContent, Some("application/json"), "none"),
            (Api::Speech, Some("audio/mpeg"), "none"),
            (Api::Speech, None, "none"),
        ];
        for (api, content_type, expected) in cases {
            assert_eq!(name(api, content_type), expected, "{api:?} {content_type:?}");
        }
    }
}
