//! What the network does wrong, or refuses.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// For a count in [`Faults`]: every message from now on.
pub const ALL: u32 = u32::MAX;

/// How messages and connections are treated from now on. The default is a network that does all it should.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Messages that are refused.
    pub refusal: Option<Refusal>,
    /// How many of the next messages get no ack, while the connection stays.
    pub swallow_acks: u32,
    /// How many of the next messages end the connection instead of being acked.
    pub hang_up_before_ack: u32,
    /// Whether a message that gets no ack by the two above reaches its recipient all the same. Its receipts then wait for
    /// the sender's next connection where it hung up.
    pub take_unacked: bool,
    /// Acks come this much later. Where receipts do not, they come first.
    #[serde(with = "millis", rename = "ack_delay_ms")]
    pub ack_delay: Duration,
    /// Nobody confirms anything.
    pub no_receipts: bool,
    /// Nobody says that they read; they still say that it was delivered.
    pub no_read: bool,
    /// How often each receipt comes again.
    pub extra_receipts: u32,
    /// Receipts come this much later, on whatever connection the sender then has.
    #[serde(with = "millis", rename = "receipt_delay_ms")]
    pub receipt_delay: Duration,
    /// How many codes to scan a connection may show, one after the other; a real network gives six.
    pub codes: Option<usize>,
    /// The error that is answered to who asks for a code to type.
    pub phone_code_error: Option<u16>,
    /// How many of the next questions for a code to type get no answer.
    pub swallow_phone_codes: u32,
    /// The error that is answered to who asks for the keys of others.
    pub keys_error: Option<u16>,
    /// Accounts, as digits, whose keys are never told: who asks for them is answered with an error.
    pub untold_keys: Vec<String>,
    /// Numbers, as digits, of which nothing is said to who asks for their accounts.
    pub untold_accounts: Vec<String>,
    /// Accounts, as digits, of which no device and no key is known.
    pub no_devices: Vec<String>,
    /// Accounts, as digits, whose logins get no answer.
    pub stalled_logins: Vec<String>,
    /// Accounts, as digits, that are named by their LID alone where they write.
    pub hidden: Vec<String>,
    /// How many of the next devices that ask to be unlinked get no answer, and stay linked.
    pub swallow_log_outs: u32,
    /// Connections are refused.
    pub connect_failure: Option<ConnectFailure>,
    /// A pause before the first stanza of a connection and before the end of the offline queue. Not a fault, but what a
    /// real network does; Baileys 6 loses an instant first stanza.
    #[serde(with = "millis", rename = "greeting_delay_ms")]
    pub greeting_delay: Duration,
}

/// Messages answered with an ack that carries an error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// `463` for an account that may not open new chats, `479` for a malformed message.
    pub code: u16,
    /// How many of the next messages; [`ALL`] for every one.
    pub times: u32,
    /// Accounts, as digits. Only messages to these are refused; none named means to anybody.
    #[serde(default)]
    pub to: Vec<String>,
}

/// What is said instead of a welcome: `<failure reason=… code=… expire=…>`. Attributes as in `WAWebHandleFailure`, by
/// `wacore::stanza::connect_failure`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectFailure {
    /// 401 logged out, 402 banned for a time, 403 banned, 405 outdated, 406 account locked, 503 unavailable.
    pub reason: u16,
    /// Why a 402 was given: 101 for messages to too many strangers.
    #[serde(default)]
    pub code: Option<u32>,
    /// How many seconds a 402 lasts.
    #[serde(default)]
    pub expire: Option<u64>,
}

impl ConnectFailure {
    pub fn new(reason: u16) -> Self {
        Self { reason, code: None, expire: None }
    }

    /// A ban for a time, for writing to too many people.
    pub fn ban_for(seconds: u64) -> Self {
        Self { reason: 402, code: Some(101), expire: Some(seconds) }
    }
}

/// What becomes of one message.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    Refuse(u16),
    NoAck { taken: bool, hang_up: bool },
}

impl Faults {
    /// The fate of a message to this account; counts it.
    pub fn judge(&mut self, to: &str) -> Verdict {
        let taken = self.take_unacked;
        if spend(&mut self.hang_up_before_ack) {
            return Verdict::NoAck { taken, hang_up: true };
        }
        if spend(&mut self.swallow_acks) {
            return Verdict::NoAck { taken, hang_up: false };
        }
        if let Some(refusal) = &mut self.refusal
            && (refusal.to.is_empty() || refusal.to.iter().any(|account| account == to))
            && spend(&mut refusal.times)
        {
            return Verdict::Refuse(refusal.code);
        }
        Verdict::Take
    }
}

impl Faults {
    /// Whether a wish to be unlinked is not heard; counts it.
    pub fn swallows_log_out(&mut self) -> bool {
        spend(&mut self.swallow_log_outs)
    }
}

/// Takes one of a count; `ALL` lasts for ever.
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
