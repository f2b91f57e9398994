//! The headers of a file's bytes. Any person can send a file, so no browser may show it as a page, and its announced type is
//! passed on only if a browser runs nothing in files of this type.

use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
    IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName};
use recado_domain::incoming::Media;
use recado_domain::text;

use crate::media::Part;

/// The type of a file whose announced type is not in [`TYPES`].
const UNKNOWN: (&str, &str) = ("application/octet-stream", "");
/// Announced types that are passed on, and the ends of the names of such files. No browser runs anything in them.
const TYPES: [(&str, &str); 24] = [
    ("image/jpeg", ".jpg"),
    ("image/png", ".png"),
    ("image/webp", ".webp"),
    ("image/gif", ".gif"),
    ("video/mp4", ".mp4"),
    ("video/3gpp", ".3gp"),
    ("video/quicktime", ".mov"),
    ("video/webm", ".webm"),
    ("audio/aac", ".aac"),
    ("audio/amr", ".amr"),
    ("audio/mpeg", ".mp3"),
    ("audio/mp4", ".m4a"),
    ("audio/ogg", ".ogg"),
    ("audio/opus", ".opus"),
    ("audio/wav", ".wav"),
    ("text/plain", ".txt"),
    ("text/csv", ".csv"),
    ("application/pdf", ".pdf"),
    ("application/zip", ".zip"),
    ("application/msword", ".doc"),
    ("application/vnd.ms-excel", ".xls"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx"),
];

/// Most characters of a name that the sender gave.
const NAME: usize = 120;

/// The headers that every answer with bytes of the file has.
pub fn of(media: &Media, is_complete: bool) -> HeaderMap {
    let (kind, end) = safe_type(&media.about.mime_type);
    let given = media.about.file_name.as_ref().and_then(|name| given_name(name, end));
    let given = given.map(|name| format!("; filename*=UTF-8''{name}")).unwrap_or_default();
    let disposition = format!("attachment; filename=\"{}{end}\"{given}", media.id);
    let mut headers = HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("private")),
    ]);
    let mut put = |name: HeaderName, value: String| {
        // An id and digits are a valid value.
        headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
    };
    put(CONTENT_DISPOSITION, disposition);
    if let Some(hash) = media.about.sha256.as_ref().filter(|_| is_complete) {
        put(ETAG, format!("\"{hash}\""));
    }
    put(ACCEPT_RANGES, if is_complete { "bytes" } else { "none" }.to_owned());
    headers
}

/// The name that the sender gave, encoded as RFC 8187 has it. It ends as files of the type do, so that a name does not make a
/// program or a page of a file. `None`: there is no name, or the type is not passed on.
fn given_name(given: &str, end: &str) -> Option<String> {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let shown: String = last.chars().filter(|sign| !text::is_forbidden(*sign)).take(NAME).collect();
    let name = shown.trim().trim_start_matches('.');
    if name.is_empty() || end.is_empty() {
        return None;
    }
    let added = if name.to_ascii_lowercase().ends_with(end) { "" } else { end };
    let encoded = name.bytes().chain(added.bytes()).map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    Some(encoded.collect())
}

/// The type that is passed on, without its parameters.
fn safe_type(announced: &str) -> (&'static str, &'static str) {
    let kind = announced.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    TYPES.into_iter().find(|(safe, _)| *safe == kind).unwrap_or(UNKNOWN)
}

/// The one part of a file of this size that a call wants. `Err`: the file has no such part.
pub fn part(headers: &HeaderMap, size: u64, tag: Option<&HeaderValue>) -> Result<Option<Part>, u64> {
    let mut given = headers.get_all(RANGE).iter();
    let (Some(range), None) = (given.next(), given.next()) else { return Ok(None) };
    // A part of another version of the file is of no use.
    if headers.get(IF_RANGE).is_some_and(|known| Some(known) != tag) {
        return Ok(None);
    }
    let Some((first, last)) = range.to_str().ok().and_then(bounds) else { return Ok(None) };
    let part = match (first, last) {
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
        (None, Some(length)) => size.saturating_sub(length)..size,
        (None, None) => return Ok(None),
    };
    if part.is_empty() { Err(size) } else { Ok(Some(part)) }
}

/// The bounds of `bytes=FIRST-LAST`. Several parts are not offered, so such a header is ignored.
fn bounds(text: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        text => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().map(Some),
    };
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    let is_forward = first.zip(last).is_none_or(|(first, last)| first <= last);
    is_forward.then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_that_run_nothing_are_passed_on() {
        assert_eq!(safe_type("image/jpeg"), ("image/jpeg", ".jpg"));
        assert_eq!(safe_type("audio/ogg; codecs=opus"), ("audio/ogg", ".ogg"));
        assert_eq!(safe_type("IMAGE/PNG"), ("image/png", ".png"));
        for running in ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "text/javascript", "", "x"] {
            assert_eq!(safe_type(running), UNKNOWN, "{running}");
        }
    }

    #[test]
    fn a_given_name_is_encoded_and_ends_as_its_type() {
        for (given, end, name) in [
            ("boleto.pdf", ".pdf", Some("boleto.pdf")),
            ("Boleto de março.PDF", ".pdf", Some("Boleto%20de%20mar%C3%A7o.PDF")),
            ("boleto.pdf.exe", ".pdf", Some("boleto.pdf.exe.pdf")),
            ("pagina.html", ".pdf", Some("pagina.html.pdf")),
            ("../../etc/a\"b.pdf", ".pdf", Some("a%22b.pdf")),
            ("C:\\a.pdf", ".pdf", Some("a.pdf")),
            ("a\r\nSet-Cookie: x.pdf", ".pdf", Some("aSet-Cookie%3A%20x.pdf")),
            ("fdp.\u{202e}x.pdf", ".pdf", Some("fdp.x.pdf")),
            ("...", ".pdf", None),
            ("a.html", "", None),
        ] {
            assert_eq!(given_name(given, end).as_deref(), name, "{given}");
        }
    }

    #[test]
    fn a_part_is_inside_the_file() {
        let tag = HeaderValue::from_static("\"ab\"");
        let asked =
            |range: &str| part(&HeaderMap::from_iter([(RANGE, range.parse().expect("a value"))]), 10, Some(&tag));
        for (range, found) in [
            ("bytes=0-0", Ok(Some(0..1))),
            ("bytes=2-4", Ok(Some(2..5))),
            ("bytes=2-", Ok(Some(2..10))),
            ("bytes=2-99", Ok(Some(2..10))),
            ("bytes=-3", Ok(Some(7..10))),
            ("bytes=-99", Ok(Some(0..10))),
            ("bytes=0-18446744073709551615", Ok(Some(0..10))),
            ("bytes=10-", Err(10)),
            ("bytes=-0", Err(10)),
            ("bytes=4-2", Ok(None)),
            ("bytes=0-1,3-4", Ok(None)),
            ("bytes=-", Ok(None)),
            ("bytes=+1-2", Ok(None)),
            ("lines=0-1", Ok(None)),
        ] {
            assert_eq!(asked(range), found, "{range}");
        }
        let known = |value: &str| {
            let value = (IF_RANGE, value.parse().expect("a value"));
            part(&HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=1-2")), value]), 10, Some(&tag))
        };
        assert_eq!((known("\"ab\""), known("\"cd\"")), (Ok(Some(1..3)), Ok(None)));
    }
}
