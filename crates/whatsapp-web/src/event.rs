//! What a session tells.

use std::fmt;
use std::time::Duration;

use crate::backlog::Weigh;

/// Somebody on the network, by what it says of them: the digits of their number, of their hidden id, or both.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    pub number: Option<String>,
    pub lid: Option<String>,
}

/// Nobody's number may reach a log.
impl fmt::Debug for Person {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Person")
    }
}

impl Person {
    fn weight(&self) -> usize {
        [&self.number, &self.lid].into_iter().flatten().map(String::len).sum()
    }
}

/// What happened on a session. Texts and codes are fit for a log; phones and accounts are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// To be shown as a QR code until the next one comes.
    Qr {
        code: String,
        valid_for: Duration,
    },
    /// No QR code is left, and none was asked for that is typed on the phone. Final: open another session for more.
    QrExhausted,
    /// To be typed on the phone, after [`Session::pair_by_phone`](crate::Session::pair_by_phone).
    PairingCode {
        code: String,
        valid_for: Duration,
    },
    PairingFailed {
        reason: String,
    },
    /// A phone has linked this device. The line comes [`Up`](Self::Up) after that.
    Linked {
        phone: String,
        lid: Option<String>,
    },
    /// Messages can be sent.
    Up,
    /// The line is lost. The session connects again by itself, unless an event before this one said why it ended.
    Down,
    /// The phone has unlinked this device, or (`code` 401) the network has. Final.
    LoggedOut {
        code: Option<u16>,
    },
    /// The network has ended the session, and not said that the device is unlinked: the next login finds out. Final.
    Expelled,
    /// Another process uses the same session. Final.
    Replaced,
    /// Final for this session; another may be opened when the ban is over.
    TemporarilyBanned {
        code: u32,
        expires_in: Option<Duration>,
    },
    /// The network has locked the account. Final.
    Banned {
        code: u16,
    },
    /// The network takes no client of this version any more. Final.
    Outdated,
    /// The network refuses this session, for a reason of its own. Final; another may be opened after a while.
    Refused {
        code: u16,
    },
    /// The session has ended and none of the final events said why. Open another one after a while.
    Stopped,
    /// Something failed that the session tries again by itself.
    Trouble {
        text: String,
    },
    /// The network has taken the message.
    Acked {
        id: String,
    },
    /// The network has refused the message: 463 new chats are closed to this account, 479 malformed, 404 nobody there.
    Nacked {
        id: String,
        code: String,
    },
    /// A person says that these messages were delivered to them; never our own account, and nobody in a group. `at`: Unix
    /// seconds, as they say. May come before the [`Acked`](Self::Acked) of the same message, and more than once.
    Delivered {
        ids: Vec<String>,
        at: i64,
        from: Person,
    },
    /// As [`Delivered`](Self::Delivered).
    Read {
        ids: Vec<String>,
        at: i64,
        from: Person,
    },
    /// Somebody wrote to us.
    Wrote {
        who: Person,
    },
}

impl Weigh for Event {
    fn weight(&self) -> Option<usize> {
        let own = size_of::<Self>();
        match self {
            Self::Delivered { ids, from, .. } | Self::Read { ids, from, .. } => {
                let ids = ids.iter().map(|id| size_of::<String>() + id.len()).sum::<usize>();
                Some(own + from.weight() + ids)
            }
            Self::Acked { id } => Some(own + id.len()),
            Self::Nacked { id, code } => Some(own + id.len() + code.len()),
            Self::Wrote { who } => Some(own + who.weight()),
            Self::Trouble { text } => Some(own + text.len()),
            // Of these the state of the channel is made.
            Self::Qr { .. }
            | Self::QrExhausted
            | Self::PairingCode { .. }
            | Self::PairingFailed { .. }
            | Self::Linked { .. }
            | Self::Up
            | Self::Down
            | Self::LoggedOut { .. }
            | Self::Expelled
            | Self::Replaced
            | Self::TemporarilyBanned { .. }
            | Self::Banned { .. }
            | Self::Outdated
            | Self::Refused { .. }
            | Self::Stopped => None,
        }
    }
}
