//! The faults and refusals of the network.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// For a count in [`Faults`]: every further message.
pub const ALL: u32 = u32::MAX;

/// The treatment of messages and connections from now on. The default is a network without faults.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Messages that are refused.
    pub refusal: Option<Refusal>,
    /// The number of messages without an ack, while the connection stays.
    pub swallow_acks: u32,
    /// The number of messages that end the connection instead of being acked.
    pub hang_up_before_ack: u32,
    /// Whether a message without an ack is delivered to its recipient all the same. If the connection was closed, its
    /// receipts wait for the sender's next connection.
    pub deliver_unacked: bool,
    /// The delay of acks. Receipts without this delay come first.
    #[serde(with = "millis", rename = "ack_delay_ms")]
    pub ack_delay: Duration,
    /// No recipient sends receipts.
    pub no_receipts: bool,
    /// No recipient sends read receipts. They still send delivery receipts.
    pub no_read: bool,
    /// How often each receipt is repeated.
    pub extra_receipts: u32,
    /// The delay of receipts, which go to the sender's connection at that time.
    #[serde(with = "millis", rename = "receipt_delay_ms")]
    pub receipt_delay: Duration,
    /// The number of QR codes that a connection may show in sequence; a real network permits six.
    pub codes: Option<usize>,
    /// The error for a request for a code to type.
    pub phone_code_error: Option<u16>,
    /// The number of requests for a code to type that get no answer.
    pub swallow_phone_codes: u32,
    /// The error for a request for the keys of others.
    pub keys_error: Option<u16>,
    /// Accounts, as digits, whose keys are never given: a request for them gets an error.
    pub withheld_keys: Vec<String>,
    /// Numbers, as digits, that are left out of answers about accounts.
    pub withheld_accounts: Vec<String>,
    /// Accounts, as digits, without devices and keys.
    pub no_devices: Vec<String>,
    /// Accounts, as digits, whose logins get no answer.
    pub stalled_logins: Vec<String>,
    /// Accounts, as digits, whose messages name them only by their LID.
    pub hidden: Vec<String>,
    /// Accounts, as digits, whose messages come from their LID, and name the number beside it.
    pub by_lid: Vec<String>,
    /// How often each message to a linked device is repeated, with the same cipher text.
    pub extra_messages: u32,
    /// The seed of the order of the messages that waited for a device, if it is not the order in which they were sent.
    pub shuffle: Option<u64>,
    /// The number of messages that a linked device cannot decrypt.
    pub garbled: u32,
    /// Phones send nothing again that a device could not decrypt.
    pub no_retries: bool,
    /// The status of every answer of the media host, instead of a file.
    pub media_status: Option<u16>,
    /// The delay of every answer of the media host.
    #[serde(with = "millis", rename = "media_delay_ms")]
    pub media_delay: Duration,
    /// What an account's phone answers to a request for a file that the media host lost.
    pub reupload: Reupload,
    /// The number of unlink requests that get no answer, and have no effect.
    pub swallow_log_outs: u32,
    /// Connections are refused.
    pub connect_failure: Option<ConnectFailure>,
    /// A pause before the first stanza of a connection and before the end of the offline queue. A real network has this
    /// pause, too; Baileys 6 loses a first stanza that comes at once.
    #[serde(with = "millis", rename = "greeting_delay_ms")]
    pub greeting_delay: Duration,
}

/// Messages that are answered with an error ack.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// `463` for an account that may not open new chats, `479` for a malformed message.
    pub code: u16,
    /// The number of messages; [`ALL`] for every one.
    pub times: u32,
    /// Accounts, as digits, to which messages are refused; empty for every account.
    #[serde(default)]
    pub to: Vec<String>,
}

/// The answer instead of a welcome: `<failure reason=… code=… expire=…>`. Attributes as in `WAWebHandleFailure`, by
/// `wacore::stanza::connect_failure`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectFailure {
    /// 401 logged out, 402 banned for a time, 403 banned, 405 outdated, 406 account locked, 503 unavailable.
    pub reason: u16,
    /// The cause of a 402: 101 for messages to too many unknown recipients.
    #[serde(default)]
    pub code: Option<u32>,
    /// The duration of a 402 in seconds.
    #[serde(default)]
    pub expire: Option<u64>,
}

impl ConnectFailure {
    pub fn new(reason: u16) -> Self {
        Self { reason, code: None, expire: None }
    }

    /// A temporary ban for writing to too many people.
    pub fn ban_for(seconds: u64) -> Self {
        Self { reason: 402, code: Some(101), expire: Some(seconds) }
    }
}

/// A phone's answer to a request to upload a file again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reupload {
    #[default]
    Done,
    /// The phone does not have the file any more.
    Gone,
    /// The phone is off.
    Silence,
}

/// The treatment of one message.
#[derive(Debug, PartialEq, Eq)]
pub enum Treatment {
    Take,
    Refuse(u16),
    NoAck { delivered: bool, hang_up: bool },
}

impl Faults {
    /// The treatment of a message to this account; counts it.
    pub fn next(&mut self, to: &str) -> Treatment {
        let delivered = self.deliver_unacked;
        if spend(&mut self.hang_up_before_ack) {
            return Treatment::NoAck { delivered, hang_up: true };
        }
        if spend(&mut self.swallow_acks) {
            return Treatment::NoAck { delivered, hang_up: false };
        }
        if let Some(refusal) = &mut self.refusal
            && (refusal.to.is_empty() || refusal.to.iter().any(|account| account == to))
            && spend(&mut refusal.times)
        {
            return Treatment::Refuse(refusal.code);
        }
        Treatment::Take
    }
}

impl Faults {
    /// Whether an unlink request is ignored; counts it.
    pub fn swallows_log_out(&mut self) -> bool {
        spend(&mut self.swallow_log_outs)
    }
}

/// Uses one of a count; `ALL` is never used up.
pub fn spend(count: &mut u32) -> bool {
    let some = *count > 0;
    if some && *count != ALL {
        *count -= 1;
    }
    some
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
