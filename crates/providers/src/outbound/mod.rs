//! The shared parts of calls to other servers: the address and TLS. Calls to URLs that callers or
//! networks supply go through [`client`].

pub mod address;
pub mod client;
pub mod url;

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::http::Uri;
use rustls::{ClientConfig, RootCertStore};

/// The base URL of another server: a scheme, a host, and optionally a port and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Without a slash at the end.
    pub text: String,
    /// Without the port.
    pub host: String,
    /// Whether the scheme is https.
    pub secure: bool,
    /// Whether the host is this machine, so that no network is crossed.
    pub loopback: bool,
}

impl BaseUrl {
    /// Parses a typed URL. Errors name it by `name`, such as the flag.
    pub fn parse(name: &str, typed: &str) -> Result<Self> {
        let text = typed.trim_end_matches('/');
        let uri: Uri = text.parse().with_context(|| format!("{typed} is no URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => bail!("{name} must begin with https:// or http://"),
        };
        let host = uri.host().unwrap_or_default();
        if host.is_empty()
            || uri.query().is_some()
            || text.contains('#')
            || uri.authority().is_some_and(|part| part.as_str().contains('@'))
        {
            bail!("{name} is a scheme, a host and perhaps a port and a path: https://recado.example.com");
        }
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        Ok(Self { text: text.to_owned(), host: host.to_owned(), secure, loopback })
    }

    /// TLS with the system's certificate authorities.
    pub fn tls(&self) -> Result<ClientConfig> {
        tls(self.secure)
    }
}

/// TLS with the system's certificate authorities, or for a server that is reached without TLS.
fn tls(secure: bool) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!("this system has no CA certificates (package ca-certificates): no https without them");
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}
