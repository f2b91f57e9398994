//! How a session reaches the network.

use std::net::SocketAddr;

use crate::Logins;

/// How a session reaches the network, and how the phone shows it.
#[derive(Clone, Debug)]
pub struct Options {
    /// None: WhatsApp's own address. Otherwise `ws://` and a loopback address with its port, for tests.
    pub url: Option<String>,
    /// The version of WhatsApp Web to say we are. None: the current one, asked of WhatsApp once a day; with a `url`, a
    /// fixed one.
    pub version: Option<(u32, u32, u32)>,
    /// The name under *linked devices* on the phone.
    pub device_name: String,
    /// The turns to connect that all sessions of the process share.
    pub logins: Logins,
}

/// Why a session could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The rest of the address has no place here: what is not loopback is WhatsApp's own.
    #[error("the address must be ws:// with a loopback address and its port, as in ws://127.0.0.1:7701/ws/chat")]
    NotLoopback,
    #[error("this build is for tests: it reaches loopback addresses alone")]
    LoopbackOnly,
    /// The stored session could not be read, or does not fit together.
    #[error("the session could not be opened: {0}")]
    Storage(String),
}

impl Options {
    /// Whether a session can be opened with this.
    pub fn check(&self) -> Result<(), OpenError> {
        self.endpoint().map(drop)
    }

    /// The address to dial; none is the library's own.
    pub(crate) fn endpoint(&self) -> Result<Option<&str>, OpenError> {
        match self.url.as_deref() {
            Some(url) if is_loopback(url) => Ok(Some(url)),
            Some(_) => Err(OpenError::NotLoopback),
            None if cfg!(feature = "danger-loopback") => Err(OpenError::LoopbackOnly),
            None => Ok(None),
        }
    }
}

/// Whether the address is `ws://` and an IP literal of this machine. No name: a name is what its server says it is.
fn is_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("ws://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_literals_are_dialled() {
        for good in ["ws://127.0.0.1:7701/ws/chat", "ws://[::1]:7701", "ws://127.9.9.9:1/?a=b"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "wss://127.0.0.1:7701/ws/chat",
            "ws://localhost:7701/",
            "ws://127.0.0.1/",
            "ws://127.0.0.1:80@example.com/",
            "ws://127.0.0.1:80\\@example.com/",
            "ws://example.com:80/127.0.0.1:80",
            "ws://10.0.0.1:80/",
            "ws://0.0.0.0:80/",
            "ws://[::ffff:10.0.0.1]:80/",
            " ws://127.0.0.1:80/",
            "http://127.0.0.1:80/",
            "",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
