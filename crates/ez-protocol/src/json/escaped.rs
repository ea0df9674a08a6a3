//! Text as it stands between the quotes of a JSON string, so that it can go from one document into another without being
//! read and written anew.

use std::borrow::Cow;

/// The inside of a JSON string, escapes as they were written. Two of them put together are the inside of a string, too,
/// even where a character is cut in two (`\ud83d` and `\ude00` in two fragments of a stream).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Escaped<'a>(Cow<'a, str>);

impl<'a> Escaped<'a> {
    /// No text.
    pub const EMPTY: Escaped<'static> = Escaped(Cow::Borrowed(""));

    /// What stands between the quotes of a string of a valid JSON text.
    pub(super) fn as_written(inside: &'a str) -> Self {
        Self(Cow::Borrowed(inside))
    }

    /// A text, with escapes where JSON needs them; borrowed where it needs none.
    pub fn of(text: &'a str) -> Self {
        if !text.bytes().any(needs_escape) {
            return Self(Cow::Borrowed(text));
        }
        let mut inside = String::with_capacity(text.len() + text.len() / 8 + 8);
        escape_into(text, &mut inside);
        Self(Cow::Owned(inside))
    }

    /// A text of its own, with escapes where JSON needs them.
    pub fn of_owned(text: String) -> Escaped<'static> {
        match Escaped::of(&text).0 {
            Cow::Owned(inside) => Escaped(Cow::Owned(inside)),
            Cow::Borrowed(_) => Escaped(Cow::Owned(text)),
        }
    }

    /// The inside of the JSON string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is exactly `text`, which must need no escapes.
    pub fn is(&self, text: &str) -> bool {
        self.0 == text || (self.0.contains('\\') && self.text() == text)
    }

    /// The text itself. Halves of surrogate pairs, which no text can hold, become U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        if self.0.contains('\\') { Cow::Owned(unescape(&self.0)) } else { Cow::Borrowed(&self.0) }
    }

    /// The text itself, for as long as its document.
    pub fn into_text(self) -> Cow<'a, str> {
        if self.0.contains('\\') { Cow::Owned(unescape(&self.0)) } else { self.0 }
    }

    /// Puts another text behind this one.
    pub fn push(&mut self, more: &Escaped<'_>) {
        if !more.is_empty() {
            self.0.to_mut().push_str(&more.0);
        }
    }

    /// Takes off the first half of a character that is cut in two at the end (`\ud83d`), for the text that holds the other
    /// half. Not every reader of JSON takes one without the other.
    pub fn take_cut_end(&mut self) -> Option<Escaped<'static>> {
        const ESCAPE_BYTES: usize = "\\ud83d".len();
        let at = self.0.len().checked_sub(ESCAPE_BYTES)?;
        let (before, end) = (self.0.get(..at)?, self.0.get(at..)?);
        let digits = end.strip_prefix("\\u")?;
        let is_half = matches!(u32::from_str_radix(digits, 16), Ok(0xd800..0xdc00));
        // The backslash itself may be escaped, and the rest mere letters.
        let escapes = before.bytes().rev().take_while(|byte| *byte == b'\\').count();
        if !is_half || !escapes.is_multiple_of(2) {
            return None;
        }
        let half = Escaped(Cow::Owned(end.to_owned()));
        match &mut self.0 {
            Cow::Borrowed(text) => self.0 = Cow::Borrowed(text.get(..at)?),
            Cow::Owned(text) => text.truncate(at),
        }
        Some(half)
    }

    /// The same, borrowed from this.
    pub fn borrowed(&self) -> Escaped<'_> {
        Escaped(Cow::Borrowed(&self.0))
    }

    /// The same, kept apart from its document.
    pub fn into_owned(self) -> Escaped<'static> {
        Escaped(Cow::Owned(self.0.into_owned()))
    }
}

const fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | ..0x20)
}

fn escape_into(text: &str, out: &mut String) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| needs_escape(*byte)) {
        out.push_str(&text[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            _ => {
                out.push_str("\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.push_str(&text[copied..]);
}

/// Reads the inside of a valid JSON string.
fn unescape(inside: &str) -> String {
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or(b'\\');
        rest = rest.get(at + 2..).unwrap_or_default();
        match escape {
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'u' => {
                let (character, read) = unicode_escape(rest);
                out.push(character);
                rest = rest.get(read..).unwrap_or_default();
            }
            other => out.push(char::from(other)),
        }
    }
    out.push_str(rest);
    out
}

/// The character of an escape whose four digits stand at the beginning of `rest`, and how many bytes of it were read.
fn unicode_escape(rest: &str) -> (char, usize) {
    let unit = |digits: Option<&str>| digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let Some(first) = unit(rest.get(..4)) else { return (char::REPLACEMENT_CHARACTER, 4) };
    if let Some(character) = char::from_u32(first) {
        return (character, 4);
    }
    let second = rest.get(4..).and_then(|rest| rest.strip_prefix("\\u")).and_then(|rest| unit(rest.get(..4)));
    match (first, second) {
        (0xd800..0xdc00, Some(second @ 0xdc00..0xe000)) => {
            let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10)
        }
        _ => (char::REPLACEMENT_CHARACTER, 4),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_read_as_json_has_them() {
        let cases = [
            (r"a\nb\t\r\b\f\/\\\u0041", "a\nb\t\r\u{8}\u{c}/\\A"),
            (r#"\"é\u00e9"#, "\"éé"),
            (r"\ud83d\ude00", "\u{1f600}"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ud83dx\ude00", "\u{fffd}x\u{fffd}"),
            (r"\ud83d\u0041", "\u{fffd}A"),
        ];
        for (inside, text) in cases {
            assert_eq!(Escaped::as_written(inside).text(), text, "{inside}");
        }
        assert!(Escaped::as_written("plain").is("plain") && Escaped::as_written(r"pl\u0061in").is("plain"));
    }

    #[test]
    fn a_character_cut_in_two_is_whole_again() {
        let mut text = Escaped::as_written(r"\ud83d");
        text.push(&Escaped::as_written(r"\ude00"));
        assert_eq!(text.text(), "\u{1f600}");
    }

    #[test]
    fn the_half_of_a_character_is_taken_off_the_end() {
        let cases = [
            (r"a\ud83d", "a", Some(r"\ud83d")),
            (r"\uD83D", "", Some(r"\uD83D")),
            (r"\\\ud83d", r"\\", Some(r"\ud83d")),
            (r"\\ud83d", r"\\ud83d", None),
            (r"\ud83d\ude00", r"\ud83d\ude00", None),
            (r"\ude00", r"\ude00", None),
            (r"\u00e9", r"\u00e9", None),
            ("é\u{1f600}", "é\u{1f600}", None),
            ("ud83d", "ud83d", None),
            ("", "", None),
        ];
        for (inside, rest, half) in cases {
            for mut text in [Escaped::as_written(inside), Escaped::as_written(inside).into_owned()] {
                let taken = text.take_cut_end();
                assert_eq!((text.as_str(), taken.as_ref().map(Escaped::as_str)), (rest, half), "{inside}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_reads_the_same(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let escaped = Escaped::of(&text);
            prop_assert_eq!(&serde_json::from_str::<String>(&format!("\"{}\"", escaped.as_str())).unwrap(), &text);
            prop_assert!(escaped.text() == text.as_str());
            prop_assert!(Escaped::of_owned(text.clone()).text() == text.as_str());
        }
    }
}
