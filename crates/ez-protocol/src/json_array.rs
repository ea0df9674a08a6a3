//! Streamed JSON arrays: cuts Gemini's `[{...},\r\n{...}]` into its elements without copying or changing them.

use bytes::{Bytes, BytesMut};

use crate::sse::EventTooLarge;

/// Cuts a streamed array into pieces. A piece is an element with everything that stood before it (the opening bracket, a
/// comma, white space), so that the pieces together are byte for byte what arrived; the last one is the closing bracket.
/// An object that stands in no array is a piece too: errors may come so.
#[derive(Debug)]
pub struct ArrayFramer {
    buffer: BytesMut,
    /// Everything before this was looked at.
    searched: usize,
    /// How many brackets are open.
    depth: usize,
    /// How many are open between two elements: 1 inside the array, 0 where there is none.
    base_depth: usize,
    in_string: bool,
    max_element_bytes: usize,
}

impl ArrayFramer {
    /// A framer that refuses elements larger than `max_element_bytes`.
    pub fn new(max_element_bytes: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, depth: 0, base_depth: 0, in_string: false, max_element_bytes }
    }

    /// Takes in the next bytes of the stream.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole piece, if one has arrived.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLarge> {
        if let Some(end) = self.find_end() {
            self.searched = 0;
            return Ok(Some(self.buffer.split_to(end).freeze()));
        }
        if self.buffer.len() > self.max_element_bytes {
            return Err(EventTooLarge { max_event_bytes: self.max_element_bytes });
        }
        Ok(None)
    }

    /// What is left when the stream has ended: white space behind the array, or an element that was cut off.
    pub fn finish(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }

    fn find_end(&mut self) -> Option<usize> {
        let text = &self.buffer[..];
        while self.searched < text.len() {
            if self.in_string {
                let Some(stop) = memchr::memchr2(b'"', b'\\', &text[self.searched..]) else {
                    self.searched = text.len();
                    return None;
                };
                let stop = self.searched + stop;
                if text[stop] == b'"' {
                    self.in_string = false;
                    self.searched = stop + 1;
                } else if stop + 1 < text.len() {
                    self.searched = stop + 2;
                } else {
                    // What is escaped is still to come.
                    self.searched = stop;
                    return None;
                }
                continue;
            }
            let byte = text[self.searched];
            self.searched += 1;
            match byte {
                b'"' => self.in_string = true,
                b'[' if self.depth == 0 => (self.depth, self.base_depth) = (1, 1),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth <= self.base_depth {
                        self.base_depth = self.base_depth.min(self.depth);
                        return Some(self.searched);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Bytes> {
        let mut framer = ArrayFramer::new(1 << 20);
        let mut pieces = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            while let Some(piece) = framer.next_event().unwrap() {
                pieces.push(piece);
            }
        }
        pieces.extend(framer.finish());
        pieces
    }

    #[test]
    fn an_array_is_cut_into_its_elements() {
        let cases: [(&str, &[&str]); 6] = [
            (
                "[{\"a\":[1,{}]},\r\n{\"b\":\"}]\\\"{\"}\n]\n",
                &["[{\"a\":[1,{}]}", ",\r\n{\"b\":\"}]\\\"{\"}", "\n]", "\n"],
            ),
            ("[]", &["[]"]),
            (" [ {} , {} ] ", &[" [ {}", " , {}", " ]", " "]),
            ("{\"error\":{}}", &["{\"error\":{}}"]),
            ("[{\"cut\":\"of", &["[{\"cut\":\"of"]),
            ("[1,[2],3]", &["[1,[2]", ",3]"]),
        ];
        for (text, expected) in cases {
            let whole = cut(&[text.as_bytes()]);
            assert_eq!(whole, expected, "{text}");
            for at in 0..=text.len() {
                let (before, after) = text.as_bytes().split_at(at);
                assert_eq!(cut(&[before, after]), whole, "{text} cut at {at}");
            }
        }
    }

    #[test]
    fn a_long_element_in_small_pieces_is_searched_once_and_bounded() {
        let mut framer = ArrayFramer::new(16 << 20);
        framer.push(b"[{\"a\":\"");
        for _ in 0..(16 << 20) / 1_024 - 1 {
            framer.push(&[b'a'; 1_024]);
            assert_eq!(framer.next_event(), Ok(None));
        }
        framer.push(&[b'a'; 2_048]);
        assert_eq!(framer.next_event(), Err(EventTooLarge { max_event_bytes: 16 << 20 }));
    }

    proptest! {
        #[test]
        fn pieces_are_the_input_however_it_is_cut(
            text in r#"[\[\]{}",:a\\ \n]{0,60}"#,
            cuts in proptest::collection::vec(0_usize..60, 0..4),
        ) {
            let text = text.as_bytes();
            let whole = cut(&[text]);
            prop_assert_eq!(whole.concat(), text);
            let mut at: Vec<usize> = cuts.into_iter().map(|at| at.min(text.len())).collect();
            at.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for at in at.into_iter().chain([text.len()]) {
                chunks.push(&text[from..at]);
                from = at;
            }
            prop_assert_eq!(cut(&chunks), whole);
        }
    }
}
