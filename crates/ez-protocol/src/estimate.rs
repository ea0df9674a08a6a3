//! Estimates: how many tokens a text makes, where no vendor reports it. Counted with a real tokenizer from the beginning
//! of the text and scaled to its length.

use tiktoken_rs::CoreBPE;

use crate::sample::TextSample;

/// What an image or another file is taken for, tokens: vendors count some hundreds to some thousands.
pub(crate) const TOKENS_PER_BLOB: u64 = 1_000;
/// Bytes of text that make a token, as a rule of thumb for all tokenizers and most languages.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

/// About how many tokens this text makes for `model` (the upstream's name). OpenAI's models are counted with their own
/// tokenizer, all others with that of its newer ones, since theirs are not public; those of Anthropic come out some tenths
/// too low.
///
/// A count takes some tenths of a millisecond. The first one of a process loads the tokenizer, which takes about 150 ms
/// and keeps about 43 MiB (half of that again for models before GPT-4o): not on a thread that serves calls.
pub fn tokens(model: &str, sample: &TextSample) -> u64 {
    let files = sample.blobs().saturating_mul(TOKENS_PER_BLOB);
    text_tokens(model, sample.text(), sample.total_bytes()).saturating_add(files)
}

fn text_tokens(model: &str, text: &str, total_bytes: u64) -> u64 {
    if total_bytes == 0 {
        return 0;
    }
    if text.is_empty() {
        return total_bytes.div_ceil(BYTES_PER_TOKEN);
    }
    let counted = tokenizer(model).count_ordinary(text).max(1) as u128;
    let scaled = (counted * u128::from(total_bytes)).div_ceil(text.len() as u128);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn tokenizer(model: &str) -> &'static CoreBPE {
    if is_before_gpt_4o(model) { tiktoken_rs::cl100k_base_singleton() } else { tiktoken_rs::o200k_base_singleton() }
}

/// Whether a model counts with `cl100k_base` (tiktoken's table of models).
fn is_before_gpt_4o(model: &str) -> bool {
    // `openai/gpt-4`, `ft:gpt-3.5-turbo:…`.
    let name = model.rsplit('/').next().unwrap_or_default();
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let is_gpt_4 = name.strip_prefix("gpt-4").is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', ':']));
    is_gpt_4 || ["gpt-3.5", "gpt-35", "text-embedding-"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn models_are_counted_with_their_tokenizer() {
        for model in ["gpt-4", "gpt-4-turbo", "openai/gpt-4-0613", "ft:gpt-3.5-turbo:x", "text-embedding-3-small"] {
            assert!(is_before_gpt_4o(model), "{model}");
        }
        for model in ["gpt-4o", "gpt-4.1", "gpt-5", "o3", "claude-sonnet-4-5", "gemini-2.5-pro", ""] {
            assert!(!is_before_gpt_4o(model), "{model}");
        }
        // The newer tokenizer knows these words whole.
        let text = "\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c} hello!";
        assert_eq!(text_tokens("gpt-4o", text, text.len() as u64), 5);
        assert_eq!(text_tokens("gpt-4", text, text.len() as u64), 8);
    }

    #[test]
    fn a_sample_stands_for_the_whole_text() {
        assert_eq!(text_tokens("m", "", 0), 0);
        assert_eq!(text_tokens("m", "", 9), 3);
        assert_eq!(text_tokens("m", "hello world", 11), 2);
        assert_eq!(text_tokens("m", "hello world", 11_000), 2_000);
        assert_eq!(text_tokens("m", "hello world", u64::MAX), 3_353_953_467_947_191_203);
    }

    #[test]
    fn files_count_a_flat_figure() {
        let image = "iVBORw0KGgoA".repeat(1_000);
        let body = format!(r#"{{"messages":[{{"content":[{{"url":"{image}"}},{{"text":"hello world"}}]}}]}}"#);
        assert_eq!(tokens("m", &TextSample::of_prompt(body.as_bytes())), 1_002);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_count_more_tokens_than_bytes(
            text in prop_oneof![".{0,200}", "[ \n\t]{0,4096}", "[A-Z]{0,4096}", "[\u{300}-\u{36f}a]{0,800}", "['a-zA-Z0-9 \r\n]{0,2000}"],
        ) {
            for model in ["gpt-4", "gpt-5"] {
                prop_assert!(text_tokens(model, &text, text.len() as u64) <= text.len() as u64);
            }
        }
    }
}
