//! Addresses and URLs in settings.

use std::net::{SocketAddr, ToSocketAddrs};

use recado_providers::outbound::BaseUrl;

/// An address to listen on. A name, such as `localhost:8080`, is the first of its addresses, and an IPv4 one if there is one.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let found: Vec<_> =
        text.to_socket_addrs().map_err(|error| format!("an address with a port is needed: {error}"))?.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| "this name has no address".to_owned())
}

/// Where other nodes reach this one, without a slash at the end.
pub fn node_url(text: &str) -> Result<String, String> {
    BaseUrl::parse("the URL", text).map(|url| url.text).map_err(|error| format!("{error:#}"))
}

/// The text of the URL, without a slash at the end.
pub fn public_url(text: &str) -> Result<String, String> {
    BaseUrl::parse("--public-url", text).map(|url| url.text).map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_name() {
        assert_eq!(address("127.0.0.1:8080"), Ok(([127, 0, 0, 1], 8080).into()));
        assert_eq!(address("localhost:8080"), Ok(([127, 0, 0, 1], 8080).into()));
        for bad in ["localhost", "8080", "", "no such name.invalid:1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_is_reached_by_http() {
        assert_eq!(node_url("http://10.0.0.5:8080/"), Ok("http://10.0.0.5:8080".to_owned()));
        for bad in ["ftp://x", "10.0.0.5:8080", "http://", "http://a@b"] {
            assert!(node_url(bad).is_err(), "{bad}");
        }
    }
}
