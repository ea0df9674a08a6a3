//! The `type` of an event, which nearly every vendor writes first.

use std::borrow::Cow;

use crate::scan;

/// The value of the top-level `type`; without a scan where it is the first member. `None` where there is none.
pub(crate) fn event_type(data: &[u8]) -> Option<Cow<'_, [u8]>> {
    if let Some(kind) = leading_type(data) {
        return Some(Cow::Borrowed(kind));
    }
    let members = scan::members(data).ok()?;
    let at = scan::value_of(data, &members, "type")?;
    let kind = serde_json::from_slice::<String>(&data[at]).ok()?;
    Some(Cow::Owned(kind.into_bytes()))
}

fn leading_type(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"type\"")?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr2(b'"', b'\\', value)?;
    (value[end] == b'"').then(|| &value[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_found_wherever_it_stands() {
        let cases: [(&str, Option<&str>); 7] = [
            (r#"{"type":"message_stop"}"#, Some("message_stop")),
            (r#"{ "type" : "ping", "x":1}"#, Some("ping")),
            (r#"{"x":{"type":"inner"},"type":"outer"}"#, Some("outer")),
            (r#"{"type":"mess\u0061ge"}"#, Some("message")),
            (r#"{"type":1}"#, None),
            (r#"{"x":1}"#, None),
            ("[DONE]", None),
        ];
        for (data, expected) in cases {
            assert_eq!(event_type(data.as_bytes()).as_deref(), expected.map(str::as_bytes), "{data}");
        }
    }
}
