//! Why an answer of Gemini's ends, in its words and in the intermediate form's.

use super::super::event::FinishReason;

/// What a `finishReason` means; `None` where it says that there is none yet.
pub(super) fn read_reason(word: &str) -> Option<FinishReason> {
    Some(match word {
        "" | "FINISH_REASON_UNSPECIFIED" => return None,
        "STOP" => FinishReason::Stop,
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::Refused,
        // `MALFORMED_FUNCTION_CALL`, `OTHER`, `LANGUAGE`, `TOO_MANY_TOOL_CALLS` …, and what is newer than this list.
        _ => FinishReason::Failed,
    })
}

/// The `finishReason` to write. Gemini has one word for every good end.
pub(super) const fn reason_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length | FinishReason::ContextFull => "MAX_TOKENS",
        FinishReason::Refused => "SAFETY",
        FinishReason::Stop
        | FinishReason::StopSequence
        | FinishReason::ToolCalls
        | FinishReason::Paused
        | FinishReason::Failed => "STOP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let cases = [
            ("STOP", Some(FinishReason::Stop)),
            ("MAX_TOKENS", Some(FinishReason::Length)),
            ("SPII", Some(FinishReason::Refused)),
            ("MALFORMED_FUNCTION_CALL", Some(FinishReason::Failed)),
            ("NEWER_THAN_THIS", Some(FinishReason::Failed)),
            ("FINISH_REASON_UNSPECIFIED", None),
        ];
        for (word, expected) in cases {
            assert_eq!(read_reason(word), expected, "{word}");
        }
        for word in ["STOP", "MAX_TOKENS", "SAFETY"] {
            assert_eq!(read_reason(word).map(reason_word), Some(word));
        }
    }
}
