//! What a file is by the ending of its address, for those who do not tell.

/// The types that Gemini reads, by their endings.
const TYPES: [(&str, &str); 24] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("pdf", "application/pdf"),
    ("json", "application/json"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("csv", "text/csv"),
    ("html", "text/html"),
    ("xml", "text/xml"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
    ("aac", "audio/aac"),
    ("m4a", "audio/mp4"),
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("webm", "video/webm"),
    ("mpeg", "video/mpeg"),
];

/// The type of what stands at an address, where its path ends like a file that is known.
pub(super) fn type_of_url(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next()?;
    let (_, rest) = path.split_once("://").unwrap_or(("", path));
    let (_, file) = rest.rsplit_once('/')?;
    let (_, ending) = file.rsplit_once('.')?;
    TYPES.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known)).map(|(_, media_type)| *media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_tell_types() {
        let cases = [
            ("https://x.test/a/photo.JPG?size=1.png", Some("image/jpeg")),
            ("https://x.test/report.pdf#page=2", Some("application/pdf")),
            ("https://x.test/photo", None),
            ("https://x.test/a.unknown", None),
            ("https://x.png", None),
            ("", None),
        ];
        for (url, expected) in cases {
            assert_eq!(type_of_url(url), expected, "{url}");
        }
    }
}
