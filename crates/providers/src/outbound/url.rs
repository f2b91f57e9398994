//! URLs that callers supply: `https`, or `http` where the operator allows the address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use axum::http::Uri;

/// Most bytes of a URL.
pub const LENGTH: usize = 2_048;
/// Most bytes of a host's name.
const HOST_LENGTH: usize = 253;

/// A URL whose text is in order. Where its host leads to is known when it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetUrl {
    uri: Uri,
    pub host: Host,
    pub port: u16,
    pub secure: bool,
}

/// Where a URL leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Also one that was written in another notation: `2130706433`, `0x7f.1`, `127.1`.
    Address(IpAddr),
    Name(String),
}

/// The text is no URL that may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no URL that may be called")]
pub struct BadUrl;

impl TargetUrl {
    /// Reads a URL. A fragment is not sent, so it is left out.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        if text.len() > LENGTH || !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('\\') {
            return Err(BadUrl);
        }
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let uri: Uri = text.parse().map_err(|_| BadUrl)?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(BadUrl),
        };
        let authority = uri.authority().ok_or(BadUrl)?;
        if authority.as_str().contains('@') {
            return Err(BadUrl);
        }
        let port = match authority.as_str().strip_prefix(authority.host()).ok_or(BadUrl)? {
            "" if secure => 443,
            "" => 80,
            port => number_of_port(port).ok_or(BadUrl)?,
        };
        if !is_port(port) {
            return Err(BadUrl);
        }
        let host = Host::parse(authority.host())?;
        Ok(Self { uri, host, port, secure })
    }

    /// The path and the query, as the request line names them.
    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// The host as the header `Host` names it.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// The host alone, for people.
    pub fn host_text(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }
}

/// Whether a port may be called. Below 1024 are the ports of other services, such as mail.
pub fn is_port(port: u16) -> bool {
    matches!(port, 80 | 443 | 1_024..)
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, BadUrl> {
        if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return address.parse().map(|address| Self::Address(IpAddr::V6(address))).map_err(|_| BadUrl);
        }
        // A browser takes a host whose last part is a number for an address.
        let name = text.strip_suffix('.').unwrap_or(text);
        let last = name.rsplit('.').next().unwrap_or_default();
        if number(last).is_some() || last.bytes().all(|byte| byte.is_ascii_digit()) {
            return ipv4(name).map(|address| Self::Address(address.into())).ok_or(BadUrl);
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let fits = name.len() <= HOST_LENGTH && name.split('.').all(is_label);
        if fits { Ok(Self::Name(name.to_ascii_lowercase())) } else { Err(BadUrl) }
    }
}

/// The number of a port such as `:443`.
fn number_of_port(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(':')?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A number as the C library writes addresses: decimal, octal with `0`, hexadecimal with `0x`.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text {
        _ if text.len() > 1 && (text.starts_with("0x") || text.starts_with("0X")) => (&text[2..], 16),
        _ if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() {
        return (radix == 16).then_some(0);
    }
    let fits = digits.chars().all(|digit| digit.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| fits)
}

/// An address of IPv4 in any notation: one to four numbers, of which the last one fills what is left.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    if first.len() > 3 || first.iter().any(|number| *number > 255) {
        return None;
    }
    let left = 8 * (4 - first.len());
    if *last >= 1 << left {
        return None;
    }
    let start = (0..).zip(first).fold(0, |sum, (place, number)| sum | number << (24 - 8 * place));
    u32::try_from(start | last).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Option<Host> {
        TargetUrl::parse(text).ok().map(|url| url.host)
    }

    #[test]
    fn a_url_has_a_scheme_a_host_and_a_port_that_may_be_called() {
        let url = TargetUrl::parse("https://Example.com:8443/a/b?c=d#e").expect("a URL");
        assert_eq!((url.port, url.secure, url.path(), url.authority()), (8443, true, "/a/b?c=d", "Example.com:8443"));
        assert_eq!(url.host, Host::Name("example.com".to_owned()));
        assert_eq!(url.to_string(), "https://example.com:8443/a/b?c=d".replace("example", "Example"));
        let bare = TargetUrl::parse("http://example.com").expect("a URL");
        assert_eq!((bare.port, bare.secure, bare.path()), (80, false, "/"));
        for bad in [
            "",
            "example.com",
            "/path",
            "ftp://example.com",
            "file:///etc/passwd",
            "gopher://example.com",
            "https://",
            "https://user@example.com",
            "https://user:pw@example.com/",
            "https://example.com:22/",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://example.com:/",
            "https://example.com:+443/",
            "https://example.com:443:443/",
            "https://[2606:4700::1111]x/",
            "https://[2606:4700::1111]x:443/",
            "https://[fe80::1%25eth0]/",
            "https://[1.1.1.1]/",
            "https://exa mple.com",
            "https://example.com\\@evil.com",
            "https://example.com\r\nx: y",
            "https://ex\u{e4}mple.com",
            "https://a..b/",
            "https://%31%32%37.0.0.1/",
            "https://[::1",
        ] {
            assert_eq!(TargetUrl::parse(bad), Err(BadUrl), "{bad}");
        }
        assert!(TargetUrl::parse(&format!("https://example.com/{}", "x".repeat(LENGTH))).is_err());
    }

    #[test]
    fn every_notation_of_an_address_is_an_address() {
        let loopback = Some(Host::Address([127, 0, 0, 1].into()));
        for text in [
            "127.0.0.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f000001",
            "0X7F.1",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "017700000001",
            "0x7f.0x0.0x0.0x1",
            "0177.0x0.1",
        ] {
            assert_eq!(host(&format!("http://{text}/")), loopback, "{text}");
        }
        assert_eq!(host("http://0/"), Some(Host::Address([0, 0, 0, 0].into())));
        assert_eq!(
            host("http://[::ffff:127.0.0.1]/"),
            Some(Host::Address("::ffff:127.0.0.1".parse().expect("an address")))
        );
        for bad in ["256.0.0.1", "1.2.3.4.5", "4294967296", "127.0.0.08", "127.0.0.256", "127.0.65536", "127.16777216"]
        {
            assert_eq!(host(&format!("http://{bad}/")), None, "{bad}");
        }
    }
}
