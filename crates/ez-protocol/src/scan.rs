//! Finds the top-level members of a JSON object and splices values into it, without building a document, so that
//! everything that was not asked for stays byte for byte what it was.

use std::ops::{ControlFlow, Range};

use bytes::{Bytes, BytesMut};

use crate::reference::may_refer;

/// A text that is no JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not valid JSON.
    #[error("the body is not valid JSON (near byte {offset})")]
    Malformed {
        /// Where it went wrong.
        offset: usize,
    },
    /// Valid JSON, but no object.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// An object with more members than any of these APIs has.
    #[error("the body has more than {MAX_MEMBERS} members: send what the API documents")]
    TooManyMembers,
}

/// A top-level member: where its key's text (without quotes) and its value stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key between its quotes, escapes as written.
    pub key: Range<usize>,
    /// The value, without white space around it.
    pub value: Range<usize>,
}

/// The most members of an object that are told apart: each takes memory many times its shortest text.
pub(crate) const MAX_MEMBERS: usize = 4_096;
/// How deeply values may nest; deeper ones are refused as malformed, so that no input can exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Encoded data inside a text: strings that are too long and too dense to be words, such as base64 images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blobs {
    /// How many.
    pub count: u64,
    /// Their bytes together.
    pub bytes: u64,
}

/// A string shorter than this is taken for words, whatever it holds.
const MIN_BLOB_BYTES: usize = 2 << 10;
/// How much of a long string must look encoded for the rest to be taken for it too.
const BLOB_PROBE_BYTES: usize = 512;

/// The top-level members of a JSON object in the order they stand in. Checks the whole text, nested values included.
pub fn members(text: &[u8]) -> Result<Vec<Member>, ScanError> {
    scan(text).map(|scan| scan.members)
}

/// What one pass over a JSON object tells.
pub(crate) struct Scan {
    pub(crate) members: Vec<Member>,
    /// What encoded data it holds.
    pub(crate) blobs: Blobs,
    /// Whether a member below the top level may be a [`crate::reference`].
    pub(crate) may_refer: bool,
}

/// The members of a JSON object, and what else is found in the same pass.
pub(crate) fn scan(text: &[u8]) -> Result<Scan, ScanError> {
    // JSON text is UTF-8; what is not would be refused upstream with a worse message.
    std::str::from_utf8(text).map_err(|e| ScanError::Malformed { offset: e.valid_up_to() })?;
    let mut cursor = Cursor::new(text);
    cursor.skip_space();
    if cursor.peek() != Some(b'{') {
        let is_json = cursor.skip_value(0).is_ok() && cursor.at_end();
        return Err(if is_json { ScanError::NotAnObject } else { cursor.fault() });
    }
    let mut members = Vec::with_capacity(16);
    let mut is_overfull = false;
    cursor.object(1, |key, value| {
        is_overfull |= members.len() == MAX_MEMBERS;
        if !is_overfull {
            members.push(Member { key, value });
        }
    })?;
    if is_overfull {
        return Err(ScanError::TooManyMembers);
    }
    if !cursor.at_end() {
        return Err(cursor.fault());
    }
    Ok(Scan { members, blobs: cursor.blobs, may_refer: cursor.may_refer })
}

/// Where the elements of a JSON array stand, at most `max` of them. `None` where the text up to there is no array.
pub fn elements(text: &[u8], max: usize) -> Option<Vec<Range<usize>>> {
    let mut cursor = Cursor::new(text);
    let mut found = Vec::new();
    cursor.skip_space();
    cursor.expect(b'[').ok()?;
    cursor.skip_space();
    if cursor.peek() == Some(b']') {
        return Some(found);
    }
    while found.len() < max {
        cursor.skip_space();
        let start = cursor.at;
        cursor.skip_value(1).ok()?;
        found.push(start..cursor.at);
        cursor.skip_space();
        match cursor.peek() {
            Some(b',') => cursor.at += 1,
            Some(b']') => break,
            _ => return None,
        }
    }
    Some(found)
}

/// Tells each string value of a JSON text with the key that last stood before it (its own, or that of its array), both as
/// written between their quotes. Stops where told to, or where the text is cut off. Checks nothing.
pub fn strings<'t>(text: &'t [u8], mut tell: impl FnMut(&'t [u8], &'t [u8]) -> ControlFlow<()>) {
    let mut key: &[u8] = b"";
    let mut at = 0;
    while let Some(open) = find_quote(&text[at..]) {
        let start = at + open + 1;
        let Some(end) = string_end(text, start) else { return };
        let string = &text[start..end];
        at = end + 1;
        let after = text[at..].iter().position(|byte| !byte.is_ascii_whitespace());
        if after.is_some_and(|distance| text[at + distance] == b':') {
            key = string;
        } else if tell(key, string).is_break() {
            return;
        }
    }
}

/// Where the quote stands that ends the string whose text begins at `start`.
pub(crate) fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let stop = at + find_special(text.get(at..)?)?;
        match text[stop] {
            b'"' => return Some(stop),
            b'\\' => at = stop + 2,
            _ => at = stop + 1,
        }
    }
}

/// Where the next quote stands. Between two strings there is mostly a mark or two, which a search would take longer to
/// start than to pass.
fn find_quote(text: &[u8]) -> Option<usize> {
    const NEAR_BYTES: usize = 8;
    let near = text.iter().take(NEAR_BYTES).position(|byte| *byte == b'"');
    near.or_else(|| memchr::memchr(b'"', text.get(NEAR_BYTES..)?).map(|at| NEAR_BYTES + at))
}

/// Where the first byte stands that a JSON string cannot hold as it is: a quote, a backslash or a control character. Eight
/// bytes at a time, because their ends and escapes mostly stand close together; and four times as many once they do not,
/// which compilers make wide instructions of, because a prompt is mostly long strings.
fn find_special(text: &[u8]) -> Option<usize> {
    let (blocks, _) = text.as_chunks::<BLOCK_BYTES>();
    let Some((first, further)) = blocks.split_first() else { return find_in_words(text) };
    if let Some(at) = find_in_words(first) {
        return Some(at);
    }
    // Without a branch and in bytes alone, which is what compilers can do for many bytes at once.
    let special = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    let plain = further.iter().position(|block| block.iter().fold(0, |found, byte| found | special(*byte)) != 0);
    let searched = BLOCK_BYTES * (1 + plain.unwrap_or(further.len()));
    find_in_words(&text[searched..]).map(|at| searched + at)
}

const BLOCK_BYTES: usize = 32;

const fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..0x20)
}

fn find_in_words(text: &[u8]) -> Option<usize> {
    const EACH: u64 = u64::MAX / 0xff;
    const HIGH_BITS: u64 = EACH * 0x80;
    // A byte's high bit is set where it was below `bound`; a borrow can only set bits above a byte that truly is.
    let below = |word: u64, bound: u64| word.wrapping_sub(EACH * bound) & !word & HIGH_BITS;
    let equal = |word: u64, byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(|byte| is_special(*byte)).map(|at| words.len() * 8 + at)
}

/// Whether a string is encoded data: base64, perhaps as a `data:` URL.
pub(crate) fn is_blob(string: &[u8]) -> bool {
    if string.len() < MIN_BLOB_BYTES {
        return false;
    }
    let head = &string[..BLOB_PROBE_BYTES];
    let encoded = match memchr::memchr(b',', head) {
        Some(comma) if head.starts_with(b"data:") => &head[comma + 1..],
        _ => head,
    };
    encoded.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\\'))
}

/// The value of the last member with this key, as the last one wins in every common JSON reader.
pub fn value_of(text: &[u8], members: &[Member], key: &str) -> Option<Range<usize>> {
    members.iter().rev().find(|member| &text[member.key.clone()] == key.as_bytes()).map(|member| member.value.clone())
}

/// A key that different readers would take differently: twice, in another case, or written with escapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` must be given once, and spelt exactly so")]
pub struct AmbiguousKey(pub &'static str);

/// The value of `key`, where every JSON reader would find the same one. What is checked here must be what the upstream
/// reads, so a second member that some reader could take for `key` is refused.
pub fn unambiguous_value(
    text: &[u8],
    members: &[Member],
    key: &'static str,
) -> Result<Option<Range<usize>>, AmbiguousKey> {
    let mut found = None;
    for member in members {
        let written = &text[member.key.clone()];
        let is_exact = written == key.as_bytes();
        if !is_exact && !reads_like(written, key) {
            continue;
        }
        if !is_exact || found.is_some() {
            return Err(AmbiguousKey(key));
        }
        found = Some(member.value.clone());
    }
    Ok(found)
}

/// Whether a reader that resolves escapes, ignores case (Go's does so for all of Unicode) or stops at a NUL would take
/// `written` for `key`.
fn reads_like(written: &[u8], key: &str) -> bool {
    if written.is_ascii() && !written.contains(&b'\\') {
        return written.eq_ignore_ascii_case(key.as_bytes());
    }
    let quoted = [b"\"", written, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|read| {
        let read = read.split('\0').next().unwrap_or_default();
        let folded = |text: &str| text.to_uppercase().to_lowercase();
        folded(read) == folded(key)
    })
}

/// Replaces ranges of `text`. The replacements must not overlap; they are applied in order of their position.
pub fn splice(text: &[u8], mut replacements: Vec<(Range<usize>, Vec<u8>)>) -> Bytes {
    replacements.sort_by_key(|(range, _)| range.start);
    let added: usize = replacements.iter().map(|(_, with)| with.len()).sum();
    let mut out = BytesMut::with_capacity(text.len() + added);
    let mut copied = 0;
    for (range, with) in replacements {
        out.extend_from_slice(&text[copied..range.start]);
        out.extend_from_slice(&with);
        copied = range.end;
    }
    out.extend_from_slice(&text[copied..]);
    out.freeze()
}

struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
    /// What encoded data was passed over.
    blobs: Blobs,
    /// Whether a member that was passed over may be a reference.
    may_refer: bool,
    /// Whether the string that was passed over last has escapes.
    has_escapes: bool,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t [u8]) -> Self {
        Self { text, at: 0, blobs: Blobs::default(), may_refer: false, has_escapes: false }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn fault(&self) -> ScanError {
        ScanError::Malformed { offset: self.at }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn at_end(&mut self) -> bool {
        self.skip_space();
        self.at == self.text.len()
    }

    fn expect(&mut self, byte: u8) -> Result<(), ScanError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    /// Reads an object from its opening brace on, telling each member.
    fn object(&mut self, depth: usize, mut tell: impl FnMut(Range<usize>, Range<usize>)) -> Result<(), ScanError> {
        self.expect(b'{')?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            let key_quote = self.at;
            self.skip_string()?;
            let key = key_quote + 1..self.at - 1;
            // A key that stands in escapes may be any.
            self.may_refer |= depth > 1 && self.has_escapes;
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            let start = self.at;
            self.skip_value(depth)?;
            self.may_refer |= may_refer(&self.text[key.clone()], &self.text[start..self.at], depth);
            tell(key, start..self.at);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault()),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), ScanError> {
        self.expect(b'[')?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_space();
            self.skip_value(depth)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault()),
            }
        }
    }

    fn skip_value(&mut self, depth: usize) -> Result<(), ScanError> {
        if depth >= MAX_DEPTH {
            return Err(self.fault());
        }
        match self.peek() {
            Some(b'{') => self.object(depth + 1, |_, _| ()),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.skip_string(),
            Some(b't') => self.skip_word(b"true"),
            Some(b'f') => self.skip_word(b"false"),
            Some(b'n') => self.skip_word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            _ => Err(self.fault()),
        }
    }

    fn skip_word(&mut self, word: &[u8]) -> Result<(), ScanError> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.fault())
        }
    }

    fn skip_string(&mut self) -> Result<(), ScanError> {
        self.expect(b'"')?;
        self.has_escapes = false;
        let start = self.at;
        loop {
            let Some(stop) = find_special(&self.text[self.at..]) else {
                self.at = self.text.len();
                return Err(self.fault());
            };
            self.at += stop;
            match self.text[self.at] {
                b'"' => break,
                b'\\' => self.at += 1,
                _ => return Err(self.fault()),
            }
            self.has_escapes = true;
            self.skip_escape()?;
        }
        let string = &self.text[start..self.at];
        self.at += 1;
        if is_blob(string) {
            self.blobs.count += 1;
            self.blobs.bytes += string.len() as u64;
        }
        Ok(())
    }

    /// Reads what follows a backslash.
    fn skip_escape(&mut self) -> Result<(), ScanError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.get(self.at + 1..self.at + 5).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.fault());
                }
                self.at += 5;
            }
            _ => return Err(self.fault()),
        }
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), ScanError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.skip_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        Ok(())
    }

    fn skip_digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.fault()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys_and_values(text: &str) -> Result<Vec<(String, String)>, ScanError> {
        let found = members(text.as_bytes())?;
        let part = |range: &Range<usize>| text[range.clone()].to_owned();
        Ok(found.iter().map(|member| (part(&member.key), part(&member.value))).collect())
    }

    #[test]
    fn members_are_found_where_they_stand() {
        let found = keys_and_values(r#" {"model" : "a\"b", "n":-1.5e+3,"x":{"model":[1,{"y":null}]} } "#).unwrap();
        let expected = [("model", r#""a\"b""#), ("n", "-1.5e+3"), ("x", r#"{"model":[1,{"y":null}]}"#)];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn members_are_bounded_in_number() {
        let object = |count: usize| format!("{{{}}}", vec![r#""":0"#; count].join(","));
        assert_eq!(members(object(MAX_MEMBERS).as_bytes()).map(|members| members.len()), Ok(MAX_MEMBERS));
        assert_eq!(members(object(MAX_MEMBERS + 1).as_bytes()), Err(ScanError::TooManyMembers));
    }

    #[test]
    fn a_key_that_some_reader_takes_for_another_is_ambiguous() {
        for text in
            ["{\"\u{17f}tream\":true}", r#"{"\u017ftream":true}"#, r#"{"stream\u0000x":true}"#, r#"{"STREAM":true}"#]
        {
            let found = unambiguous_value(text.as_bytes(), &members(text.as_bytes()).unwrap(), "stream");
            assert_eq!(found, Err(AmbiguousKey("stream")), "{text}");
        }
        let other = "{\"str\u{e9}am\":1,\"streams\":2}".as_bytes();
        assert_eq!(unambiguous_value(other, &members(other).unwrap(), "stream"), Ok(None));
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        let text = br#"{"model":"a","model":"b"}"#;
        let value = value_of(text, &members(text).unwrap(), "model").unwrap();
        assert_eq!(&text[value], br#""b""#);
    }

    #[test]
    fn keys_that_readers_could_take_differently_are_refused() {
        let value = |text: &str| {
            let found = unambiguous_value(text.as_bytes(), &members(text.as_bytes()).unwrap(), "model");
            found.map(|range| range.map(|range| text[range].to_owned()))
        };
        assert_eq!(value(r#"{"model":1,"models":2,"x":{"model":3}}"#), Ok(Some("1".to_owned())));
        assert_eq!(value(r#"{"x":1}"#), Ok(None));
        for text in
            [r#"{"model":1,"model":2}"#, r#"{"model":1,"Model":2}"#, r#"{"model":1,"mod\u0065l":2}"#, r#"{"MODEL":1}"#]
        {
            assert_eq!(value(text), Err(AmbiguousKey("model")), "{text}");
        }
    }

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(keys_and_values("[1]"), Err(ScanError::NotAnObject));
        assert_eq!(keys_and_values("12"), Err(ScanError::NotAnObject));
        assert_eq!(keys_and_values(r#"{"a":1,}"#), Err(ScanError::Malformed { offset: 7 }));
        assert_eq!(keys_and_values(""), Err(ScanError::Malformed { offset: 0 }));
        let deep = "[".repeat(100_000);
        assert!(matches!(keys_and_values(&format!(r#"{{"a":{deep}"#)), Err(ScanError::Malformed { .. })));
    }

    #[test]
    fn elements_are_found_where_they_stand() {
        let found = |text: &str, max| {
            let ranges = elements(text.as_bytes(), max)?;
            Some(ranges.into_iter().map(|range| text[range].to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(found(" [ ]", 9), Some(vec![]));
        assert_eq!(found(r#"[1, {"a":[2]} ,"x]"]"#, 9).unwrap(), ["1", r#"{"a":[2]}"#, r#""x]""#]);
        assert_eq!(found("[1,2,oops", 2).unwrap(), ["1", "2"], "what is not asked for is not read");
        assert_eq!(found(r#"{"a":1}"#, 9), None);
        assert_eq!(found("[1,2", 9), None);
    }

    #[test]
    fn strings_are_told_with_their_keys() {
        let text = br#"{"a":"x\"y","b":["p","q"],"c":{"d" : "z"},"cut":"of"#;
        let mut told = Vec::new();
        strings(text, |key, value| {
            told.push((std::str::from_utf8(key).unwrap(), std::str::from_utf8(value).unwrap()));
            ControlFlow::Continue(())
        });
        assert_eq!(told, [("a", r#"x\"y"#), ("b", "p"), ("b", "q"), ("d", "z")]);
    }

    #[test]
    fn encoded_data_is_told_from_words() {
        let blobs = |value: &str| scan(format!(r#"{{"x":"{value}"}}"#).as_bytes()).unwrap().blobs;
        let image = "iVBORw0KGgo/+A".repeat(400);
        assert_eq!(blobs(&image), Blobs { count: 1, bytes: image.len() as u64 });
        assert_eq!(blobs(&format!("data:image/png;base64,{image}")).count, 1);
        assert_eq!(blobs("iVBORw0KGgo=").count, 0, "a short one counts as words");
        assert_eq!(blobs(&"word after word, ".repeat(400)).count, 0);
        assert_eq!(blobs(&"\u{5b57}".repeat(2_000)).count, 0);
    }

    proptest! {
        #[test]
        fn accepts_exactly_what_serde_json_accepts_and_never_panics(text in r#"[ {}\[\]",:0-9a-z\\.eE+\-ntfu\n]{0,40}"#) {
            let ours = members(text.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            // serde_json refuses numbers beyond f64 and lone surrogates, which are valid JSON text.
            match (&ours, &theirs) {
                (Ok(_), Ok(value)) => prop_assert!(value.is_object()),
                (Err(ScanError::NotAnObject), Ok(value)) => prop_assert!(!value.is_object()),
                (Err(_), Ok(_)) => prop_assert!(false, "refused valid JSON {text}"),
                (Ok(_), Err(e)) => {
                    let text = e.to_string();
                    prop_assert!(text.contains("out of range") || text.contains("surrogate"), "{text}");
                }
                (Err(_), Err(_)) => {}
            }
        }

        #[test]
        fn the_first_special_byte_is_found(text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'a'), Just(0x1f), Just(0x20), Just(b'"')], 0..40), plain in 0..120_usize) {
            let text = [vec![b'a'; plain], text].concat();
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | ..0x20));
            prop_assert_eq!(find_special(&text), expected);
        }

        #[test]
        fn reads_every_object_that_serde_json_writes(
            map in proptest::collection::btree_map("[a-z]{1,6}", ".{0,12}", 0..8),
        ) {
            let text = serde_json::to_string(&map).unwrap();
            let found = keys_and_values(&text).unwrap();
            let expected: Vec<_> =
                map.iter().map(|(key, value)| (key.clone(), serde_json::to_string(value).unwrap())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = members(&bytes);
            let _ = elements(&bytes, 4);
            strings(&bytes, |_, _| ControlFlow::Continue(()));
        }
    }
}
