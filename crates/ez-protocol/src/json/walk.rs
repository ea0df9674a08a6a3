//! Walks over JSON that was checked as a whole before: what lies inside of a value that is passed over is not checked once
//! more at each level above it, only its end is looked for.

use std::ops::Range;

use crate::scan;

/// Tells the members of an object in their order: where the key stands between its quotes, and the value. Whether it is an
/// object.
pub(super) fn members(text: &[u8], mut tell: impl FnMut(Range<usize>, Range<usize>)) -> bool {
    if text.first() != Some(&b'{') {
        return false;
    }
    let mut at = after_space(text, 1);
    while text.get(at) == Some(&b'"') {
        let key_end = string_end(text, at);
        let colon = after_space(text, key_end + 1);
        let start = after_space(text, colon + 1);
        let end = value_end(text, start);
        tell(at + 1..key_end, start..end);
        at = after_separator(text, end);
    }
    true
}

/// Tells the elements of an array in their order. Whether it is an array.
pub(super) fn elements(text: &[u8], mut tell: impl FnMut(Range<usize>)) -> bool {
    if text.first() != Some(&b'[') {
        return false;
    }
    let mut start = after_space(text, 1);
    while text.get(start).is_some_and(|byte| *byte != b']') {
        let end = value_end(text, start);
        tell(start..end);
        start = after_separator(text, end);
    }
    true
}

fn after_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the next member or element starts, or the bracket stands that closes all.
fn after_separator(text: &[u8], value_end: usize) -> usize {
    let at = after_space(text, value_end);
    if text.get(at) == Some(&b',') { after_space(text, at + 1) } else { at }
}

/// Where the closing quote stands of the string that opens at `quote`.
fn string_end(text: &[u8], quote: usize) -> usize {
    scan::string_end(text, quote + 1).unwrap_or(text.len())
}

/// Where the value ends that starts at `start`.
fn value_end(text: &[u8], start: usize) -> usize {
    match text.get(start) {
        Some(b'"') => (string_end(text, start) + 1).min(text.len()),
        Some(b'{' | b'[') => nested_end(text, start),
        _ => {
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
            let rest = text.get(start..).unwrap_or_default();
            (start + rest.iter().position(is_end).unwrap_or(rest.len())).min(text.len())
        }
    }
}

/// Where the array or object ends whose bracket stands at `start`.
fn nested_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Both walks must tell what the checking scan tells of the same text.
    fn check(text: &str) {
        let bytes = text.as_bytes();
        let mut found = Vec::new();
        if members(bytes, |key, value| found.push((key, value))) {
            let expected = scan::members(bytes).unwrap();
            assert_eq!(found, expected.into_iter().map(|m| (m.key, m.value)).collect::<Vec<_>>(), "{text}");
            found.into_iter().for_each(|(_, value)| check(&text[value]));
        }
        let mut found = Vec::new();
        if elements(bytes, |element| found.push(element)) {
            assert_eq!(Some(&found), scan::elements(bytes, usize::MAX).as_ref(), "{text}");
            found.into_iter().for_each(|element| check(&text[element]));
        }
    }

    #[test]
    fn a_walk_tells_what_the_scan_tells() {
        for text in [
            "{}",
            "{ }",
            "[ ]",
            r#"{"a" : "}\"]\\" , "b":[1 ,{"c":null}, [ ] ,"x"] ,"c\"":-1.5e+3, "d":true }"#,
            "[\n1,\r\n\t2 , {\"a\":{}},\"\\\\\",[[]]\n]",
            r#"{"a":{"b":{"c":["{",{"d":"[" } ] } } }"#,
        ] {
            check(text);
        }
        assert!(!members(b"[]", |_, _| ()) && !elements(b"{}", |_| ()) && !members(b"", |_, _| ()));
    }

    #[test]
    fn what_is_cut_off_ends_where_the_text_ends() {
        let whole = br#"{"a":[1,{"b":"c"}],"d":"e"}"#;
        for end in 0..whole.len() {
            members(&whole[..end], |key, value| assert!(key.end <= end && value.end <= end));
        }
    }

    proptest! {
        #[test]
        fn it_does_for_whatever_is_valid(text in r#"[ {}\[\]",:0-9a-z\\tfu\n]{0,40}"#) {
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                check(text.trim_ascii());
            }
        }
    }
}
