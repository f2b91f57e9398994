//! The network options of a session.

use std::net::SocketAddr;

use crate::Logins;

/// The network options of a session, and how the phone shows the session.
#[derive(Clone, Debug)]
pub struct Options {
    /// `None` for WhatsApp's own address. Otherwise `ws://` and a loopback address with its port, for tests.
    pub url: Option<String>,
    /// The version of WhatsApp Web that the session presents. `None` for the current version, which is read from WhatsApp
    /// (or for a fixed one with a `url`).
    pub version: Option<(u32, u32, u32)>,
    /// The name in the list *Linked devices* on the phone.
    pub device_name: String,
    /// The login slots that all sessions of the process share.
    pub logins: Logins,
}

/// Why a session could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The rest of the address is omitted: an address that is not loopback is WhatsApp's own.
    #[error("the address must be ws:// with a loopback address and its port, as in ws://127.0.0.1:7701/ws/chat")]
    NotLoopback,
    #[error("this build is for tests: it reaches loopback addresses alone")]
    LoopbackOnly,
    /// The stored session is unreadable or inconsistent.
    #[error("the session could not be opened: {0}")]
    Storage(String),
}

impl Options {
    /// Whether a session can be opened with these options.
    pub fn check(&self) -> Result<(), OpenError> {
        self.endpoint().map(drop)
    }

    /// The address to connect to. `None` for the library's own.
    pub(crate) fn endpoint(&self) -> Result<Option<&str>, OpenError> {
        match self.url.as_deref() {
            Some(url) if is_loopback(url) => Ok(Some(url)),
            Some(_) => Err(OpenError::NotLoopback),
            None if cfg!(feature = "danger-loopback") => Err(OpenError::LoopbackOnly),
            None => Ok(None),
        }
    }
}

/// Whether the address is `ws://` and an IP literal of this machine. A host name is refused, because its DNS server decides
/// where it leads.
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
