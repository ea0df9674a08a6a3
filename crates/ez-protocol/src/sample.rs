//! The text of a streamed answer, as far as an estimate of its tokens needs it: a beginning, and how much there was.

use std::ops::ControlFlow;

use memchr::memmem;

use crate::scan;

/// The beginning of a text and the length of all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputSample {
    text: String,
    /// Bytes of the events that the sample was taken from.
    sampled_event_bytes: u64,
    /// Bytes of the events behind it, which were not looked into.
    later_event_bytes: u64,
}

/// Where an event keeps its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextPlace {
    /// Behind `choices` (chat and legacy completions).
    Choices,
    /// Behind `delta` (Anthropic, Responses, transcriptions).
    Delta,
    /// Behind `candidates` (Gemini).
    Candidates,
}

/// How much text is kept. Enough to know how many bytes make a token; a thousand streams keep 4 MiB.
const MAX_SAMPLE_BYTES: usize = 4 << 10;

impl OutputSample {
    /// The beginning of the text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How long the whole text is, bytes. Exact as long as the sample holds all of it; beyond, later events are taken to
    /// be as dense as the sampled ones, which saves looking into each.
    pub fn total_bytes(&self) -> u64 {
        let sampled = self.text.len() as u64;
        if self.later_event_bytes == 0 {
            return sampled;
        }
        let later =
            u128::from(self.later_event_bytes) * u128::from(sampled) / u128::from(self.sampled_event_bytes.max(1));
        sampled.saturating_add(u64::try_from(later).unwrap_or(u64::MAX))
    }

    /// Takes in the data of an event.
    pub(crate) fn note(&mut self, data: &[u8], place: TextPlace) {
        if self.text.len() >= MAX_SAMPLE_BYTES {
            self.later_event_bytes = self.later_event_bytes.saturating_add(data.len() as u64);
            return;
        }
        let anchor: &[u8] = match place {
            TextPlace::Choices => b"\"choices\"",
            TextPlace::Delta => b"\"delta\"",
            TextPlace::Candidates => b"\"candidates\"",
        };
        let Some(from) = memmem::find(data, anchor) else { return };
        let before = self.text.len();
        let mut read_to = data.len();
        scan::strings(&data[from..], |key, value| {
            if !is_text(key) {
                return ControlFlow::Continue(());
            }
            self.push(value);
            if self.text.len() < MAX_SAMPLE_BYTES {
                return ControlFlow::Continue(());
            }
            // The rest of a huge event counts as later text.
            read_to = value.as_ptr() as usize - data.as_ptr() as usize + value.len().min(MAX_SAMPLE_BYTES);
            ControlFlow::Break(())
        });
        if self.text.len() > before {
            self.sampled_event_bytes += read_to as u64;
            self.later_event_bytes += (data.len() - read_to) as u64;
        }
    }

    /// Adds a JSON string's text, up to the sample's bound.
    fn push(&mut self, written: &[u8]) {
        let room = MAX_SAMPLE_BYTES - self.text.len();
        if memchr::memchr(b'\\', written).is_none() {
            // A multi-byte character at the cut is left out, and so is what is no UTF-8.
            let cut = &written[..written.len().min(room)];
            let valid = std::str::from_utf8(cut).map_or_else(|e| e.valid_up_to(), str::len);
            self.text.push_str(std::str::from_utf8(&cut[..valid]).unwrap_or_default());
            if written.len() > room {
                self.fill();
            }
            return;
        }
        let quoted = [b"\"", written, b"\""].concat();
        let Ok(text) = serde_json::from_slice::<String>(&quoted) else { return };
        let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.text.push_str(&text[..end]);
        if end < text.len() {
            self.fill();
        }
    }

    /// Marks the sample as full where a character did not fit.
    fn fill(&mut self) {
        while self.text.len() < MAX_SAMPLE_BYTES {
            self.text.push(' ');
        }
    }
}

/// Keys that text stands under, in any protocol: what a model wrote, said, thought, or wants a tool to be called with.
fn is_text(key: &[u8]) -> bool {
    matches!(
        key,
        b"content"
            | b"text"
            | b"delta"
            | b"arguments"
            | b"partial_json"
            | b"thinking"
            | b"reasoning_content"
            | b"reasoning"
            | b"refusal"
            | b"name"
            | b"transcript"
    )
}
