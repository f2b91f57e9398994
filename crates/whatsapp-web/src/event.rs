//! The events that a session reports.

use std::fmt;
use std::time::Duration;

use recado_domain::incoming::SenderIds;
use recado_domain::transient::TransientState;

use crate::backlog::Weigh;

/// A person on the network, named by the digits of the number, of the hidden id, or of both.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    pub number: Option<String>,
    pub lid: Option<String>,
}

/// The number must not reach a log.
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

/// An event of a session. Its texts and codes may be logged. Its phones and accounts must not be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A QR code to show until the next one comes.
    Qr {
        code: String,
        valid_for: Duration,
    },
    /// The QR codes are used up, and no code to type was requested. Final: open another session for more codes.
    QrExhausted,
    /// A code to type on the phone, after [`Session::pair_by_phone`](crate::Session::pair_by_phone).
    PairingCode {
        code: String,
        valid_for: Duration,
    },
    PairingFailed {
        reason: String,
    },
    /// A phone has linked this device. [`Up`](Self::Up) follows when the session has connected.
    Linked {
        phone: String,
        lid: Option<String>,
    },
    /// The session is connected: messages can be sent.
    Up,
    /// The connection is lost. The session reconnects by itself, unless an earlier event named the reason for its end.
    Down,
    /// The phone unlinked this device, or the network did (`code` 401). Final.
    LoggedOut {
        code: Option<u16>,
    },
    /// The network ended the session without reporting that the device is unlinked. The next login shows whether it is.
    /// Final.
    Expelled,
    /// Another process uses the same session. Final.
    Replaced,
    /// The account is banned for some time. Final for this session; another session may be opened after the ban.
    TemporarilyBanned {
        code: u32,
        expires_in: Option<Duration>,
    },
    /// The network has locked the account. Final.
    Banned {
        code: u16,
    },
    /// The network no longer accepts a client of this version. Final.
    Outdated,
    /// The network refuses this session for another reason. Final; another session may be opened after a while.
    Refused {
        code: u16,
    },
    /// The session ended without a final event that names the reason. Open another session after a while.
    Stopped,
    /// A failure after which the session retries by itself.
    Trouble {
        text: String,
    },
    /// The network has accepted the message.
    Acked {
        id: String,
    },
    /// The network has refused the message: 463 means that the account may not open new chats, 479 malformed, 404 no such
    /// account.
    Nacked {
        id: String,
        code: String,
    },
    /// A person reports that these messages were delivered. The person is never our own account or a member of a group. `at`
    /// is the Unix time in seconds, as the person states it. The event may come before [`Acked`](Self::Acked) of the same
    /// message, and more than once.
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
    /// A person wrote to this account.
    Wrote {
        who: Person,
    },
    /// What a person does for the moment, if the network says it: it says it to accounts that are online. `group` is the address
    /// of the group in which the person types.
    Seen {
        who: SenderIds,
        group: Option<String>,
        state: TransientState,
    },
}

impl Weigh for Event {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Seen { .. })
    }

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
            Self::Seen { who, group, .. } => {
                let texts = [&who.phone, &who.lid, &who.user_id, group];
                Some(own + texts.into_iter().flatten().map(String::len).sum::<usize>())
            }
            Self::Trouble { text } => Some(own + text.len()),
            // The channel's state follows from these events.
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
