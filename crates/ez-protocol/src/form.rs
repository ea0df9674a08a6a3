//! Multipart forms (RFC 7578): finds the parts that routing needs where they stand, without copying the files beside
//! them.

use std::ops::Range;

use memchr::memmem;

/// What is wrong with a form. What is checked here must be what the upstream reads, so a form that another reader could
/// take differently is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a valid form: {0}")]
pub struct FormError(pub &'static str);

/// A named part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part<'f> {
    pub(crate) name: &'f str,
    /// Where its content stands.
    pub(crate) content: Range<usize>,
    pub(crate) is_file: bool,
    /// Whether its content is written in an encoding that some readers undo and some don't.
    is_encoded: bool,
    /// Whether its content is in a charset that is UTF-8 for ASCII alone.
    is_latin: bool,
}

/// More parts than any of these APIs takes.
const MAX_PARTS: usize = 256;
const MAX_PART_HEADER_BYTES: usize = 8 << 10;

/// Whether a content type is that of a form.
pub(crate) fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/form-data")
}

/// The parts of a form, in their order.
pub(crate) fn parts<'f>(content_type: &str, body: &'f [u8]) -> Result<Vec<Part<'f>>, FormError> {
    let boundary = boundary(content_type).ok_or(FormError("its content-type names no boundary"))?;
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let mut at = first_part(body, &delimiter)?;
    let finder = memmem::Finder::new(&delimiter);
    let line_starts = memmem::Finder::new(&delimiter[2..]);
    let mut parts = Vec::new();
    loop {
        if parts.len() == MAX_PARTS {
            return Err(FormError("it has too many parts"));
        }
        let headers = &body[at..body.len().min(at + MAX_PART_HEADER_BYTES)];
        // A part without headers has no name, and no use.
        let end = memmem::find(headers, b"\r\n\r\n").ok_or(FormError("a part's headers do not end"))?;
        let start = at + end + 4;
        let stop = start + finder.find(&body[start..]).ok_or(FormError("its last boundary is missing"))?;
        // Readers that take a bare LF or CR for the end of a line would see another part begin there.
        let is_torn = line_starts.find_iter(&body[at..stop]).any(|begin| matches!(body[at + begin - 1], b'\n' | b'\r'));
        if is_torn {
            return Err(FormError("a part holds a line that begins with its boundary"));
        }
        parts.push(part(&body[at..at + end], start..stop)?);
        let after = stop + delimiter.len();
        if let Some(epilogue) = body[after..].strip_prefix(b"--") {
            // Readers that do not take such a line for the last boundary would read on.
            let is_last = epilogue.iter().all(u8::is_ascii_whitespace);
            return if is_last { Ok(parts) } else { Err(FormError("something follows its last boundary")) };
        }
        at = after + line_end(&body[after..])?;
    }
}

/// The one part with this name. `None` where there is none.
pub(crate) fn text_part<'p, 'f>(
    body: &'f [u8],
    parts: &'p [Part<'f>],
    name: &'static str,
) -> Result<Option<(&'p Part<'f>, &'f str)>, FormError> {
    // Some readers trim a name, cut it at a NUL, or take `[…]` behind it for a list's mark.
    let essence = |part: &&Part<'f>| part.name.trim().split(['[', '\0']).next().unwrap_or_default().trim_end();
    let mut found = parts.iter().filter(|part| essence(part).eq_ignore_ascii_case(name));
    let Some(part) = found.next() else { return Ok(None) };
    let is_plain = !part.is_encoded && (!part.is_latin || body[part.content.clone()].is_ascii());
    if found.next().is_some() || part.name != name || !is_plain || part.is_file {
        return Err(FormError("`model` and `stream` must be given once, as plain text, and spelt exactly so"));
    }
    let text = std::str::from_utf8(&body[part.content.clone()]).map_err(|_| FormError("a text part is no UTF-8"))?;
    Ok(Some((part, text)))
}

/// The `boundary` of a content type. `None` where it has several, in whatever spelling (`boundary*`, RFC 2231).
fn boundary(content_type: &str) -> Option<&str> {
    let mut found = content_type.split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_boundary = name.trim().get(..8).is_some_and(|head| head.eq_ignore_ascii_case("boundary"));
        is_boundary.then_some((name.trim(), value.trim()))
    });
    let (_, value) = found.next().filter(|(name, _)| name.len() == 8)?;
    let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    // RFC 2046, section 5.1.1.
    let is_valid = !value.is_empty()
        && value.len() <= 70
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte));
    (is_valid && found.next().is_none()).then_some(value)
}

/// Where the first part's headers begin.
fn first_part(body: &[u8], delimiter: &[u8]) -> Result<usize, FormError> {
    let dash_boundary = &delimiter[2..];
    if !body.starts_with(dash_boundary) {
        return Err(FormError("it does not begin with its boundary"));
    }
    Ok(dash_boundary.len() + line_end(&body[dash_boundary.len()..])?)
}

/// How long the rest of a boundary's line is.
fn line_end(rest: &[u8]) -> Result<usize, FormError> {
    let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if rest[padding..].starts_with(b"\r\n") { Ok(padding + 2) } else { Err(FormError("a boundary's line is broken")) }
}

fn part(headers: &[u8], content: Range<usize>) -> Result<Part<'_>, FormError> {
    let headers = std::str::from_utf8(headers).map_err(|_| FormError("a part's headers are no UTF-8"))?;
    let (mut name, mut is_file, mut is_encoded, mut is_latin) = (None, false, false, false);
    for line in headers.split("\r\n") {
        // A bare LF or CR would end the line for some readers; one that begins with white space goes on with the line
        // before for others.
        let is_whole = |key: &str| {
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            !key.is_empty() && key.bytes().all(is_name) && !line.contains(['\n', '\r', '\0'])
        };
        let Some((key, value)) = line.split_once(':').filter(|(key, _)| is_whole(key)) else {
            return Err(FormError("a part's headers are broken"));
        };
        if key.eq_ignore_ascii_case("content-transfer-encoding") {
            is_encoded |= !["7bit", "8bit", "binary"].iter().any(|plain| value.trim().eq_ignore_ascii_case(plain));
        }
        if key.eq_ignore_ascii_case("content-type") {
            let content_type = value.trim().to_ascii_lowercase();
            // Old forms nest files so, and some readers still look inside.
            if content_type.starts_with("multipart/") || content_type.starts_with("message/") {
                return Err(FormError("a part is a form of its own"));
            }
            is_encoded |=
                !charsets(&content_type).all(|charset| is_plain_charset(charset) || is_latin_charset(charset));
            is_latin |= charsets(&content_type).any(is_latin_charset);
        }
        if key.eq_ignore_ascii_case("content-disposition") {
            let disposition = disposition(value)?;
            if name.replace(disposition.0).is_some() {
                return Err(FormError("a part has two dispositions"));
            }
            is_file = disposition.1;
        }
    }
    let name = name.ok_or(FormError("a part has no name"))?;
    Ok(Part { name, content, is_file, is_encoded, is_latin })
}

/// The charsets that a content type in lower case names.
fn charsets(content_type: &str) -> impl Iterator<Item = &str> {
    content_type.match_indices("charset").map(|(at, word)| {
        let value = content_type[at + word.len()..].split(';').next().unwrap_or_default();
        value.trim_matches([' ', '=', '"', '\''])
    })
}

/// Whether readers that decode a charset find the same as those that don't.
fn is_plain_charset(charset: &str) -> bool {
    matches!(charset, "utf-8" | "utf8" | "us-ascii")
}

/// What Java's clients name where nobody tells them.
fn is_latin_charset(charset: &str) -> bool {
    charset == "iso-8859-1"
}

/// Whether every reader takes a name for the same: no escapes, encoded words or quotes.
fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|byte| byte == b' ' || (byte.is_ascii_graphic() && !b"%\\\"'`".contains(&byte)))
        && !name.contains("=?")
        // Names the charset of all other parts (HTML forms).
        && name.trim() != "_charset_"
}

/// The name that a part's disposition gives, and whether it is a file.
fn disposition(value: &str) -> Result<(&str, bool), FormError> {
    const BROKEN: FormError = FormError("a part's disposition is broken");
    let mut rest = value.trim().strip_prefix("form-data").ok_or(BROKEN)?;
    let (mut name, mut is_file) = (None, false);
    while let Some(parameters) = rest.trim_start().strip_prefix(';') {
        let (key, after) = parameters.split_once('=').ok_or(BROKEN)?;
        let key = key.trim();
        let text;
        if let Some(quoted) = after.strip_prefix('"') {
            let bytes = quoted.as_bytes();
            let mut end = 0;
            while *bytes.get(end).ok_or(BROKEN)? != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            text = quoted.get(..end).ok_or(BROKEN)?;
            rest = quoted.get(end + 1..).ok_or(BROKEN)?;
        } else {
            let end = after.find(';').unwrap_or(after.len());
            text = after[..end].trim();
            rest = &after[end..];
            // White space before a quote hides it from some readers.
            if text.contains('"') {
                return Err(BROKEN);
            }
        }
        // Readers that know no escapes see the text end at an escaped quote, and parameters behind it.
        let is_plain = !text.contains('\\');
        let is_file_name = key.eq_ignore_ascii_case("filename") || key.eq_ignore_ascii_case("filename*");
        if !is_plain && (!is_file_name || text.contains(';')) {
            return Err(BROKEN);
        }
        if is_file_name {
            is_file = true;
        } else if key.eq_ignore_ascii_case("name") {
            if name.replace(text).is_some() || !is_plain_name(text) {
                return Err(BROKEN);
            }
        } else if key.eq_ignore_ascii_case("name*") {
            return Err(BROKEN);
        }
    }
    let is_read_whole = rest.trim().is_empty();
    name.filter(|_| is_read_whole).map(|name| (name, is_file)).ok_or(BROKEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn read(body: &str) -> Result<Vec<(String, String, bool)>, FormError> {
        let found = parts(TYPE, body.as_bytes())?;
        Ok(found.into_iter().map(|p| (p.name.to_owned(), body[p.content].to_owned(), p.is_file)).collect())
    }

    #[test]
    fn parts_are_found_where_they_stand() {
        let body = "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\" name=x.mp3\"\r\n\
            Content-Type: audio/mpeg\r\n\r\n\0\r\n--X\r\n\r\n--XX  \r\ncontent-disposition: form-data;name=model\r\n\r\nwhisper\r\n--XX--\r\n";
        let expected =
            [("file".to_owned(), "\0\r\n--X\r\n".to_owned(), true), ("model".to_owned(), "whisper".to_owned(), false)];
        assert_eq!(read(body).unwrap(), expected);
    }

    #[test]
    fn boundaries_are_read_as_they_are_sent() {
        assert_eq!(boundary("multipart/form-data; boundary=XX"), Some("XX"));
        assert_eq!(boundary("multipart/form-data;charset=utf-8; Boundary=\"a b'\""), Some("a b'"));
        for broken in [
            "multipart/form-data",
            "x; boundary=",
            "x; boundary=a; boundary=b",
            "x; boundary=\"a\u{e9}\"",
            "x; boundary=a; boundary*=utf-8''b",
            "x; Boundary*0=a",
        ] {
            assert_eq!(boundary(broken), None, "{broken}");
        }
        assert!(is_form("Multipart/Form-Data; boundary=x"));
        assert!(!is_form("application/json"));
    }

    #[test]
    fn forms_that_readers_could_take_differently_are_refused() {
        let part = |headers: &str| format!("--XX\r\n{headers}\r\n\r\nv\r\n--XX--");
        let cases = [
            "".to_owned(),
            "--XX--".to_owned(),
            "preamble\r\n--XX\r\n\r\n".to_owned(),
            "--XX\nContent-Disposition: form-data; name=a\n\nv\n--XX--".to_owned(),
            part("Content-Type: text/plain"),
            part("Content-Disposition: form-data; name=\"a"),
            part("Content-Disposition: form-data; name=\"a\" x"),
            part("Content-Disposition: form-data; name=a; name=b"),
            part("Content-Disposition: form-data; name*=utf-8''a"),
            part("Content-Disposition: form-data; name=\"mod%65l\""),
            part("Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"),
            part("Content-Disposition: form-data; name=a\nContent-Disposition: form-data; name=b"),
            part("Content-Disposition: attachment; name=a"),
            part("Content-Disposition: form-data; name= \"model\""),
            part("Content-Disposition: form-data; name='model'"),
            part("Content-Disposition: form-data; name=\"=?utf-8?B?bW9kZWw=?=\""),
            part("Content-Disposition: form-data; name=\"_charset_\""),
            part("Content-Disposition: form-data; name=\"mod\u{435}l\""),
            part("Content-Disposition: form-data; name=a\r\nContent-Type: multipart/mixed; boundary=YY"),
            part("Content-Disposition: form-data; name=a\r\nContent-Type: Message/RFC822"),
            part("Content-Disposition: form-data; name=a\r\n ; name=\"model\"; x=\":\""),
            part("Content-Disposition : form-data; name=a"),
            part("Content-Disposition: form-data; name=a; x=\"\\\"; name=model; y=\""),
            part("Content-Disposition: form-data; name=a; filename=\"\\\"; name=model; y=\""),
            part(
                "Content-Disposition: form-data; name=a\r\n\r\nv\n--XX\nContent-Disposition: form-data; name=model\n\nx",
            ),
            part("Content-Disposition: form-data; name=a\r\n\r\nv\r--XX\r\nContent-Disposition: form-data; name=model"),
            part("Content-Disposition: form-data; name=a\r\n\r\n--XX\r\nContent-Disposition: form-data; name=model"),
            part("Content-Disposition: form-data; name=a")
                + "x\r\n--XX\r\nContent-Disposition: form-data; name=model\r\n\r\nx\r\n--XX--",
            "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nv".to_owned(),
            "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--XXY--".to_owned(),
        ];
        for body in cases {
            assert!(read(&body).is_err(), "{body:?}");
        }
        let many = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n".repeat(MAX_PARTS + 1) + "--XX--";
        assert_eq!(read(&many), Err(FormError("it has too many parts")));
    }

    #[test]
    fn a_text_part_is_given_once_and_plainly() {
        let find = |headers: &[&str]| {
            let mut body = String::new();
            for headers in headers {
                body += &format!("--XX\r\n{headers}\r\n\r\nm\r\n");
            }
            body += "--XX--";
            let parts = parts(TYPE, body.as_bytes()).unwrap();
            text_part(body.as_bytes(), &parts, "model").map(|found| found.map(|(_, text)| text.to_owned()))
        };
        let named = |name: &str| format!("Content-Disposition: form-data; name=\"{name}\"");
        assert_eq!(find(&[&named("model"), &named("prompt")]), Ok(Some("m".to_owned())));
        assert_eq!(find(&[&named("prompt")]), Ok(None));
        assert!(find(&[&named("model"), &named("model")]).is_err());
        for twin in ["Model", " model", "model ", "model[]", "model[0]"] {
            assert!(find(&[&named("model"), &named(twin)]).is_err(), "{twin}");
        }
        assert!(find(&[&(named("model") + "\r\nContent-Transfer-Encoding: quoted-printable")]).is_err());
        assert!(find(&[&(named("model") + "; filename=\"x\"")]).is_err());
        assert!(find(&[&named("model"), &(named("model") + "; filename=\"x\"")]).is_err());
        let typed = |content_type: &str| named("model") + "\r\nContent-Type: " + content_type;
        for plain in ["text/plain", "text/plain; charset=UTF-8", "text/plain;charset=\"us-ascii\""] {
            assert_eq!(find(&[&typed(plain)]), Ok(Some("m".to_owned())), "{plain}");
        }
        assert_eq!(find(&[&typed("text/plain; charset=ISO-8859-1")]), Ok(Some("m".to_owned())), "Apache HttpClient");
        let latin = format!("--XX\r\n{}\r\n\r\n\u{e9}\r\n--XX--", typed("text/plain; charset=ISO-8859-1"));
        let parts = parts(TYPE, latin.as_bytes()).unwrap();
        assert!(text_part(latin.as_bytes(), &parts, "model").is_err(), "read as two characters by some");
        for decoded in ["text/plain; charset=utf-16", "text/plain; charset*=utf-7", "text/plain; x=y; charset = ibm037"]
        {
            assert!(find(&[&typed(decoded)]).is_err(), "{decoded}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            content_type in ".{0,40}",
            body in proptest::collection::vec(any::<u8>(), 0..200),
            text in r#"(--XX|\r\n|\n|-|"|\\|;|=|:|form-data|name|Content-Disposition| |a){0,40}"#,
        ) {
            let _ = parts(&content_type, &body);
            let _ = parts(TYPE, &body);
            if let Ok(found) = parts(TYPE, text.as_bytes()) {
                for part in found {
                    prop_assert!(part.content.end <= text.len());
                }
            }
        }
    }
}
