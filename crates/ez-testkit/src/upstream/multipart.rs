//! Forms, as far as the simulation reads them: the text of named parts.

use super::request::Ask;

/// The request in a form's parts; a form without parts that are known is a request without fields.
pub(super) fn read(content_type: &str, body: &[u8]) -> Ask<'static> {
    let boundary = content_type.split("boundary=").nth(1).map(|rest| rest.split(';').next().unwrap_or(rest));
    let boundary = boundary.unwrap_or_default().trim_matches('"');
    let text = String::from_utf8_lossy(body);
    let separator = format!("--{boundary}");
    let field = |name: &str| {
        let label = format!("name=\"{name}\"");
        let parts = text.split(&separator);
        let heads_and_values = parts.filter_map(|part| part.split_once("\r\n\r\n"));
        heads_and_values
            .filter(|(head, _)| head.contains(&label))
            .map(|(_, value)| value.trim_end_matches("\r\n").to_owned())
            .next()
    };
    Ask {
        is_form: true,
        model: field("model"),
        stream: field("stream").map(|value| value == "true"),
        response_format: field("response_format").map(Into::into),
        ..Ask::default()
    }
}
