//! The origin of a web page.

use std::str::FromStr;

use axum::http::{HeaderValue, Uri};

/// The origin of a page, as a browser sends it: a scheme, a host, and a port that is not the scheme's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(pub HeaderValue);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(typed: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "an origin is a scheme, a host and perhaps a port, such as https://app.example.com; \
            * and null are none";
        let text = typed.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://").ok_or(WRONG)?;
        let port = match scheme {
            "https" => ":443",
            "http" => ":80",
            _ => return Err(WRONG),
        };
        let host = rest.strip_suffix(port).unwrap_or(rest);
        let origin = format!("{scheme}://{host}");
        let whole = |uri: Uri| uri.authority().is_some_and(|part| part == host && !host.contains('@'));
        if host.contains('*') || !origin.parse().is_ok_and(whole) {
            return Err(WRONG);
        }
        HeaderValue::from_str(&origin).map(Self).map_err(|_| WRONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_the_form_that_a_browser_sends() {
        for (typed, sent) in [
            ("https://app.example.com", "https://app.example.com"),
            ("HTTPS://App.Example.com:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(typed.parse(), Ok(Origin(HeaderValue::from_static(sent))), "{typed}");
        }
        for wrong in [
            "*",
            "null",
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://*.example.com",
            "https://a@b.example.com",
            "ftp://example.com",
            "https://é.example.com",
            "https://a.example.com b",
            "https://a.example.com?x",
            "https://a.example.com#x",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
