//! Gemini: what each chunk of a stream means, and whether all of its candidates have come to their end.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::answer::VendorError;
use crate::usage::GeminiUsage;
use crate::vendor_error::read_error;

/// What a chunk means.
#[derive(Debug, Clone)]
pub(crate) enum GeminiEvent {
    /// An error object in place of a chunk.
    Error(VendorError),
    /// A chunk of the answer; it may report usage.
    Chunk(Option<GeminiUsage>),
    /// No object: it passes.
    Other,
}

/// Which candidates were seen, and which of them told why they ended. A stream whose candidates all have is complete;
/// there is no terminal event.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Candidates {
    seen: u64,
    finished: u64,
    /// The prompt was refused, which is an answer without candidates.
    blocked: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    usage_metadata: Option<GeminiUsage>,
    candidates: Option<Vec<Candidate>>,
    prompt_feedback: Option<PromptFeedback>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    index: Option<u32>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PromptFeedback {
    block_reason: Option<String>,
}

impl Candidates {
    /// Whether the answer is complete as far as it has come.
    pub(crate) fn all_finished(self) -> bool {
        self.blocked || (self.seen != 0 && self.seen == self.finished)
    }

    fn note(&mut self, chunk: &Chunk<'_>) {
        for candidate in chunk.candidates.iter().flatten() {
            // No model makes more than a few; what does not fit is not told apart.
            let bit = 1_u64 << candidate.index.unwrap_or(0).min(63);
            self.seen |= bit;
            if candidate.finish_reason.as_deref().is_some_and(|reason| reason != "FINISH_REASON_UNSPECIFIED") {
                self.finished |= bit;
            }
        }
        self.blocked |= chunk.prompt_feedback.as_ref().is_some_and(|feedback| feedback.block_reason.is_some());
    }
}

/// Tells what a chunk means and notes how far its candidates have come. Every chunk may tell both usage and an end, so
/// each is read once; its content is passed over.
pub(crate) fn classify(data: &[u8], candidates: &mut Candidates) -> GeminiEvent {
    if data.first() != Some(&b'{') {
        return GeminiEvent::Other;
    }
    let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return GeminiEvent::Chunk(None) };
    if let Some(error) = chunk.error.and_then(|error| read_error(error.get())) {
        return GeminiEvent::Error(error);
    }
    candidates.note(&chunk);
    GeminiEvent::Chunk(chunk.usage_metadata.filter(|usage| usage.tells_any()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_complete_once_every_candidate_told_its_reason() {
        let mut candidates = Candidates::default();
        let mut read = |data: &str| {
            classify(data.as_bytes(), &mut candidates);
            candidates.all_finished()
        };
        assert!(!read(r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#));
        assert!(!read(r#"{"candidates":[{"index":1,"content":{"parts":[{"text":"b"}]}}]}"#));
        assert!(!read(r#"{"candidates":[{"index":1,"finishReason":"STOP"}]}"#));
        assert!(!read(r#"{"candidates":[{"finishReason":null}],"promptFeedback":{}}"#));
        assert!(read(r#"{"candidates":[{"finishReason":"MAX_TOKENS"}]}"#));
    }

    #[test]
    fn a_blocked_prompt_is_a_complete_answer() {
        let mut candidates = Candidates::default();
        let event = classify(
            br#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":8}}"#,
            &mut candidates,
        );
        assert!(matches!(event, GeminiEvent::Chunk(Some(_))));
        assert!(candidates.all_finished());
    }

    #[test]
    fn errors_and_chunks_are_told_apart() {
        let mut candidates = Candidates::default();
        let mut read = |data: &str| classify(data.as_bytes(), &mut candidates);
        let error = r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#;
        assert!(matches!(read(error), GeminiEvent::Error(error) if error.status == Some(503)));
        let quoted =
            r#"{"candidates":[{"content":{"parts":[{"text":"\"error\""}]}}],"usageMetadata":{"trafficType":"X"}}"#;
        assert!(matches!(read(quoted), GeminiEvent::Chunk(None)));
        assert!(matches!(read("[DONE]"), GeminiEvent::Other));
        assert!(matches!(read("{cut"), GeminiEvent::Chunk(None)));
    }
}
