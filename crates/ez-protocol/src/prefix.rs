//! The stable prefix of a conversation: what its calls have in common from turn to turn, so that they can be sent where
//! the vendor's prompt cache is warm.

use std::ops::{ControlFlow, Range};

use crate::api::Api;
use crate::scan::{self, Member};

/// How much of each section is read. Tools and system prompts run to hundreds of kilobytes and are the same for all
/// users of an agent; what tells conversations apart stands early.
const MAX_SECTION_BYTES: usize = 32 << 10;
/// How many turns are looked through for the first of the user's.
const MAX_LEADING_TURNS: usize = 8;

/// A hash of what the calls of one conversation have in common: the first words of the user, the system prompt, the
/// tools. `None` where the API knows no conversations or the body holds nothing of the kind. The same on every node and in every
/// version; white space, cache marks, and whether a text is a string or a list of one part make no difference, because
/// clients change those from turn to turn.
pub fn stable_prefix(api: Api, body: &[u8]) -> Option<u64> {
    let (turns_key, fixed_keys): (&str, &[&str]) = match api {
        Api::ChatCompletions => ("messages", &["tools"]),
        Api::Responses => ("input", &["instructions", "tools"]),
        Api::Messages => ("messages", &["system", "tools"]),
        Api::GenerateContent | Api::StreamGenerateContent => {
            ("contents", &["systemInstruction", "system_instruction", "cachedContent", "tools"])
        }
        _ => return None,
    };
    let members = scan::members(body).ok()?;
    let turns_at = scan::value_of(body, &members, turns_key)?;
    let mut hash = StableHash::default();
    for section in leading_turns(&body[turns_at]) {
        hash.add_section(section);
    }
    for key in fixed_keys {
        if let Some(at) = scan::value_of(body, &members, key) {
            hash.add_section(&body[at]);
        }
    }
    hash.finish()
}

/// What stands before the first turn of the user, and that turn. A text alone is that turn.
fn leading_turns(turns: &[u8]) -> Vec<&[u8]> {
    let Some(ranges) = scan::elements(turns, MAX_LEADING_TURNS) else { return vec![turns] };
    let is_users = |range: &Range<usize>| {
        let turn = &turns[range.clone()];
        let members: Vec<Member> = scan::members(turn).unwrap_or_default();
        // Gemini lets the role of a single turn be left out.
        scan::value_of(turn, &members, "role").is_none_or(|at| &turn[at] == b"\"user\"")
    };
    let upto = ranges.iter().position(is_users).map_or(ranges.len(), |first| first + 1);
    ranges[..upto].iter().map(|range| &turns[range.clone()]).collect()
}

/// A multiplying hash, eight bytes at a time. Nothing is lost if somebody makes two prefixes collide.
#[derive(Default)]
struct StableHash {
    state: u64,
    has_text: bool,
}

impl StableHash {
    /// Adds the texts of a section: its strings, without the words that only tell their kind.
    fn add_section(&mut self, section: &[u8]) {
        let mut left = MAX_SECTION_BYTES;
        scan::strings(section, |key, value| {
            if matches!(key, b"type" | b"role" | b"ttl" | b"id" | b"status") {
                return ControlFlow::Continue(());
            }
            let taken = &value[..value.len().min(left)];
            left -= taken.len();
            self.add(taken);
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    fn add(&mut self, text: &[u8]) {
        self.has_text |= !text.is_empty();
        let (words, rest) = text.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
        self.mix(text.len() as u64);
    }

    fn mix(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(self) -> Option<u64> {
        let mixed = (self.state ^ (self.state >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.has_text.then_some(mixed ^ (mixed >> 32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(api: Api, bodies: &[&str]) -> bool {
        let hashes: Vec<_> = bodies.iter().map(|body| stable_prefix(api, body.as_bytes()).expect("a prefix")).collect();
        hashes.iter().all(|hash| *hash == hashes[0])
    }

    #[test]
    fn the_turns_of_one_conversation_have_one_prefix() {
        let cases: [(Api, &[&str]); 4] = [
            (
                Api::ChatCompletions,
                &[
                    r#"{"model":"m","messages":[{"role":"system","content":"be kind"},{"role":"user","content":"hi"}],"tools":[]}"#,
                    r#"{"model":"n","stream":true,"messages": [{"role":"system","content":"be kind"}, {"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":"yes?"},{"role":"user","content":"more"}]}"#,
                ],
            ),
            (
                Api::Messages,
                &[
                    r#"{"system":"s","messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"5m"}}]}]}"#,
                    r#"{"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"x"}]}"#,
                ],
            ),
            (
                Api::Responses,
                &[
                    r#"{"instructions":"s","input":"hi"}"#,
                    r#"{"instructions":"s","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]},{"type":"function_call_output","output":"x"}]}"#,
                ],
            ),
            (
                Api::StreamGenerateContent,
                &[
                    r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"parts":[{"text":"hi"}]}]}"#,
                    r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]},{"role":"model","parts":[]}],"system_instruction":{"parts":[{"text":"s"}]}}"#,
                ],
            ),
        ];
        for (api, bodies) in cases {
            assert!(same(api, bodies), "{api:?}");
        }
    }

    #[test]
    fn conversations_are_told_apart() {
        let bodies = [
            r#"{"messages":[{"role":"user","content":"hi"}]}"#,
            r#"{"messages":[{"role":"user","content":"hi!"}]}"#,
            r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}]}"#,
            r#"{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#,
            r#"{"messages":[{"role":"user","content":"h"},{"role":"user","content":"i"}]}"#,
        ];
        let mut hashes: Vec<_> =
            bodies.iter().map(|body| stable_prefix(Api::ChatCompletions, body.as_bytes()).unwrap()).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), bodies.len());
    }

    #[test]
    fn a_prefix_is_the_same_in_every_version() {
        let body = br#"{"messages":[{"role":"user","content":"hello, world"}]}"#;
        assert_eq!(stable_prefix(Api::ChatCompletions, body), Some(1_760_310_064_121_183_232));
    }

    #[test]
    fn what_is_no_conversation_has_no_prefix() {
        assert_eq!(stable_prefix(Api::Embeddings, br#"{"input":"hi"}"#), None);
        assert_eq!(stable_prefix(Api::ChatCompletions, br#"{"model":"m"}"#), None);
        assert_eq!(stable_prefix(Api::ChatCompletions, br#"{"messages":[]}"#), None);
        assert_eq!(stable_prefix(Api::ChatCompletions, b"[]"), None);
    }

    #[test]
    fn only_a_bounded_part_of_each_section_is_read() {
        let body =
            |tail: &str| format!(r#"{{"messages":[{{"role":"user","content":"{}{tail}"}}]}}"#, "a".repeat(40_000));
        let (one, other) = (body("x"), body("y"));
        assert!(same(Api::ChatCompletions, &[&one, &other]));
    }
}
