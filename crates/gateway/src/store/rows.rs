//! What the store takes and gives.

use std::fmt;
use std::time::Duration;

use recado_domain::api_key::{Environment, Grant};
use recado_domain::channel::{ChannelSettings, ChannelState, ChannelType};
use recado_domain::ids::{ApiKeyId, ChannelId, InstitutionId, MessageId, NetworkId};
use recado_domain::pacing::RecipientPacing;
use recado_domain::party::Party;
use recado_domain::phone::DefaultCountry;
use recado_domain::status::MessageStatus;

use crate::clock::Millis;

/// The store's own number of a channel. What callers know is its [`ChannelId`].
pub type ChannelKey = i64;
/// A message's place in the order of the queue.
pub type Seq = i64;
/// How often a channel has changed hands between nodes: what a node does under an epoch that has passed is refused. Where
/// one process has the store to itself it is not looked at.
pub type Epoch = i64;

/// Why the store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot write or read now; whether a write was kept is not known. It comes back by itself.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// More waits to be written than the store takes on.
    #[error("the store has too much to write")]
    Overloaded,
    /// The channel is another node's now, and nothing was done.
    #[error("the channel is held by another node")]
    Fenced,
    /// This one operation failed; its neighbours did not.
    #[error("the store refused the operation: {0}")]
    Refused(String),
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Institution {
    pub id: InstitutionId,
    pub name: String,
    pub default_country: DefaultCountry,
    pub created_at: Millis,
}

/// A key as it is kept: never in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub institution: InstitutionId,
    pub name: String,
    pub hash: [u8; 32],
    /// The part that may be shown.
    pub prefix: String,
    pub grant: Grant,
    /// The key that made this one; none where the operator did.
    pub parent: Option<ApiKeyId>,
    pub created_at: Millis,
    pub last_used_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub key: ChannelKey,
    pub institution: InstitutionId,
    pub environment: Environment,
    pub id: ChannelId,
    pub name: String,
    pub kind: ChannelType,
    pub state: ChannelState,
    pub state_reason: Option<String>,
    pub settings: ChannelSettings,
    /// How it is linked to its network: JSON, nothing secret.
    pub link: Option<String>,
    /// When its line was first up.
    pub connected_at: Option<Millis>,
    pub created_at: Millis,
    pub deleted_at: Option<Millis>,
    /// Until when its network lets it open no chats.
    pub restricted_until: Option<Millis>,
    /// Which of its sessions it has, where a phone links it.
    pub session: SessionNumber,
}

impl Channel {
    /// The state of a channel that no phone links, or none any more.
    pub fn unlinked(&self) -> ChannelState {
        if self.connected_at.is_some() { ChannelState::LoggedOut } else { ChannelState::Created }
    }
}

/// A channel to be made.
#[derive(Debug, Clone)]
pub struct NewChannel {
    pub institution: InstitutionId,
    pub environment: Environment,
    pub id: ChannelId,
    pub name: String,
    pub kind: ChannelType,
    pub state: ChannelState,
    pub now: Millis,
}

/// When the session of a linked phone may log in again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkRest {
    /// Not before the end of a ban.
    pub banned_until: Option<Millis>,
    pub logged_in_at: Option<Millis>,
}

/// How a channel is linked to its network.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    pub channel: ChannelKey,
    /// What may be shown, as JSON.
    pub details: String,
    /// The secrets, as [`KeyRing::seal`](crate::sealed::KeyRing::seal) gives them.
    pub sealed: Vec<u8>,
}

impl Link {
    /// Whether it leads to another number than a former link with these details. What else they say may change: Meta
    /// names a number's quality anew each time.
    pub fn is_of_another_number(&self, former: &str) -> bool {
        let number = |details: &str| {
            let details: serde_json::Value = serde_json::from_str(details).unwrap_or_default();
            NUMBERS.map(|name| details[name].clone())
        };
        number(&self.details) != number(former)
    }
}

/// What a link's details call the number, of a phone and at Meta.
const NUMBERS: [&str; 2] = ["phone", "phoneNumberId"];

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("channel", &self.channel).field("details", &self.details).finish_non_exhaustive()
    }
}

/// Counts the sessions that a channel has had. Each linking has another number than the one before it, and so has each
/// channel that is made anew.
pub type SessionNumber = i64;

/// One session of a channel.
pub type SessionOf = (ChannelKey, SessionNumber);

/// As what a node speaks for a channel: who holds it by now under another epoch, or has another session of it, is not
/// overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub channel: ChannelKey,
    pub epoch: Epoch,
    pub session: SessionNumber,
}

/// What tells a row of a session from all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    pub channel: ChannelKey,
    pub session: SessionNumber,
    pub kind: u8,
    pub key: Vec<u8>,
}

impl SessionKey {
    /// The first key behind all that begin so; `None` where none is behind them.
    pub(super) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
        let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
        let mut behind = prefix[..=last].to_vec();
        behind[last] += 1;
        Some(behind)
    }
}

/// A row of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRow {
    pub of: SessionKey,
    /// As [`KeyRing::seal`](crate::sealed::KeyRing::seal) gives it.
    pub sealed: Vec<u8>,
}

impl fmt::Debug for SessionRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRow").field("of", &self.of).finish_non_exhaustive()
    }
}

/// A change of a session.
#[derive(Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// Writes a row, or replaces it. The stamp is in Unix seconds, 0 is never old.
    Put {
        kind: u8,
        key: Vec<u8>,
        sealed: Vec<u8>,
        stamp: i64,
    },
    Delete {
        kind: u8,
        key: Vec<u8>,
    },
    DeletePrefix {
        kind: u8,
        prefix: Vec<u8>,
    },
    /// Of a kind, what has an older stamp.
    DeleteBefore {
        kind: u8,
        stamp: i64,
    },
}

impl fmt::Debug for SessionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, kind) = match self {
            Self::Put { kind, .. } => ("Put", kind),
            Self::Delete { kind, .. } => ("Delete", kind),
            Self::DeletePrefix { kind, .. } => ("DeletePrefix", kind),
            Self::DeleteBefore { kind, .. } => ("DeleteBefore", kind),
        };
        f.debug_struct(name).field("kind", kind).finish_non_exhaustive()
    }
}

/// What the network said of a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAccount {
    /// `None`: it is not on WhatsApp.
    pub account: Option<String>,
    /// The account's hidden id, where the network told it.
    pub lid: Option<String>,
    pub checked_at: Millis,
    /// When the first of the last messages to the number was sent that nobody said to have, of those that the last check
    /// was too early to doubt.
    pub unconfirmed_at: Option<Millis>,
}

impl KnownAccount {
    /// How long nobody has to say that they have a message until the account that it went to is doubted.
    pub const CONFIRMED_WITHIN: Duration = Duration::from_hours(24);
}

/// A message to be stored and queued.
#[derive(Debug, Clone)]
pub struct NewMessage {
    pub id: MessageId,
    pub channel: ChannelKey,
    pub network_id: String,
    /// Digits of the recipient's number.
    pub recipient: String,
    /// The content as JSON, as `message::Content` writes it.
    pub payload: String,
    pub card: String,
    pub card_account: CardAccount,
    pub scenario: Option<String>,
    pub accepted_at: Millis,
    pub expires_at: Millis,
    /// At so many open messages on the channel it takes no more.
    pub backlog_cap: usize,
    pub idempotency: Option<Idempotency>,
}

/// The account that stands in a card's `waid`, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardAccount {
    pub digits: String,
    /// The network named it; else the typed digits stand in.
    pub known: bool,
}

/// The card that was really sent, where it became another after its message was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentCard {
    pub card: String,
    pub account: CardAccount,
}

/// What makes a repeated call recognisable.
#[derive(Debug, Clone)]
pub struct Idempotency {
    pub institution: InstitutionId,
    pub environment: Environment,
    pub route: &'static str,
    pub key: String,
    pub fingerprint: [u8; 32],
    /// The fingerprint that a version before this one stored of the same call.
    pub earlier_fingerprint: [u8; 32],
    /// Uses of the key before this time are forgotten.
    pub forget_before: Millis,
}

impl Idempotency {
    /// Whether the stored fingerprint is that of this call.
    pub fn is_of(&self, fingerprint: &[u8]) -> bool {
        fingerprint == self.fingerprint || fingerprint == self.earlier_fingerprint
    }
}

/// What became of an enqueue. Only `Accepted` stored a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    Accepted,
    /// The same call was accepted before, as this message.
    Replayed(MessageId),
    /// The idempotency key was used before, with other content.
    KeyReused,
    /// The channel's state does not accept.
    NotConnected,
    /// The channel's backlog is at its cap.
    QueueFull,
    /// The channel was deleted.
    NoChannel,
}

/// What becomes of a message whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// It is sent again: the network recognises a re-send, so that what became of the lost one does not matter.
    SendAgain,
    /// It is `UNKNOWN`; after that many milliseconds without word of the network it is queued again, though it may
    /// double. `None`: never.
    Unknown(Option<Millis>),
}

impl Unanswered {
    /// When a message that becomes `UNKNOWN` now is queued again.
    pub fn resend_at(self, now: Millis) -> Option<Millis> {
        match self {
            Self::SendAgain => None,
            Self::Unknown(wait) => wait.map(|wait| now + wait),
        }
    }
}

/// What a claim knows of `SENDING` rows that its asker does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// Somebody may have them in hand until their claim runs out.
    Claimed,
    /// They are of a process that ended: nobody has them, and nobody knows how far they came.
    OfTheDead,
    /// They are of a claim whose answer was lost: they were never sent.
    NeverSent,
}

/// A dispatcher's question for work on a channel.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    pub channel: ChannelKey,
    /// Under which the asker holds the channel.
    pub epoch: Epoch,
    /// At most so many messages.
    pub limit: usize,
    /// Messages of this channel that the asker has in hand; any other `SENDING` row is an orphan.
    pub held: Vec<Seq>,
    pub orphans: Orphans,
    pub unanswered: Unanswered,
    pub now: Millis,
    pub claimed_until: Millis,
    /// The channel's rest after this claim, in milliseconds.
    pub rest: Millis,
    /// How often one recipient is written to, where each is a line of its own.
    pub recipient_pacing: Option<RecipientPacing>,
    /// Chats that the channel may open within 24 hours, where it opens chats.
    pub new_recipients_per_day: Option<u32>,
}

impl ClaimRequest {
    /// Whether orphans are queued again; else their fate is `UNKNOWN`.
    pub fn gives_back_orphans(&self) -> bool {
        self.orphans == Orphans::NeverSent || self.unanswered == Unanswered::SendAgain
    }
}

/// The answer to a [`ClaimRequest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// Now `SENDING`, in the order of the queue.
    pub messages: Vec<Claimed>,
    /// Ask again at this time, if nothing else happens before; `None` when nothing waits for a time.
    pub next_at: Option<Millis>,
    /// The first message waits until then, and holds all that stand behind it: what is accepted meanwhile changes nothing.
    pub holds_all: bool,
}

/// What became of claimed messages of a channel.
#[derive(Debug, Clone)]
pub struct Outcomes {
    pub channel: ChannelKey,
    /// Under which whoever claimed them holds the channel.
    pub epoch: Epoch,
    pub settled: Vec<(Seq, Settlement)>,
    /// The channel sends nothing before this time; a later one that was set before stands.
    pub rest_until: Option<Millis>,
    pub now: Millis,
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub seq: Seq,
    pub id: MessageId,
    pub network_id: String,
    pub recipient: String,
    pub payload: String,
    pub card: String,
    /// The account of the card's phone, where the network named it.
    pub card_account: Option<String>,
    pub scenario: Option<String>,
    /// This attempt's number, from 1.
    pub attempts: u32,
    /// How many earlier attempts failed by the message's own trouble.
    pub failures: u32,
    /// How many met a recipient for whom the network took nothing more.
    pub recipient_holds: u32,
    /// It is sent again though the network may have it, by the channel's policy.
    pub resent: bool,
    /// An earlier attempt had no answer: its card may have arrived.
    pub unanswered: bool,
}

/// What a claimed message becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The network acknowledged it; the account is the recipient as the network knows it, and the remote id the
    /// message as the network calls it.
    Sent {
        account: Option<String>,
        remote_id: Option<NetworkId>,
        /// The card that was sent, where it is not the one that the message has.
        card: Option<SentCard>,
    },
    Failed {
        code: String,
        message: String,
    },
    /// The network refused it for now: try this message again, in its place.
    Retry {
        run_at: Millis,
    },
    /// The same, but no answer came: its card may have arrived.
    RetryUnanswered {
        run_at: Millis,
    },
    /// The line broke before the answer, which is no fault of the message: try it again in its place. Its card may have
    /// arrived.
    Interrupted {
        run_at: Millis,
    },
    /// The network lets the channel open no chat with this recipient, nor with others: until then new recipients wait,
    /// and this one is new from now on.
    ChatRefused {
        until: Millis,
        reason: String,
    },
    /// The network takes nothing more for this recipient for now; that is no fault of the message.
    HoldRecipient {
        until: Millis,
    },
    /// The channel is in trouble: hold its line, and try this message again then.
    HoldChannel {
        until: Millis,
    },
    /// The network takes nothing from the channel until a person has done something: pause it, for this reason. The
    /// message keeps its place.
    PauseChannel {
        reason: String,
    },
    /// Handed over, and nobody can tell; at that time it is queued again. The channel may be held for a while, because
    /// nothing is answered any more.
    Unknown {
        resend_at: Option<Millis>,
        hold: Option<Millis>,
    },
}

/// The network's word on a message that it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub channel: ChannelKey,
    pub of: Named,
    /// `Sent`, `Delivered`, `Read`, or `Failed`.
    pub status: MessageStatus,
    pub at: Millis,
    /// Whose word it is, where that is a person's: it counts only if the message was sent to them. `None`: the network's
    /// own.
    pub from: Option<Party>,
    /// The recipient as the network knows it.
    pub account: Option<String>,
    /// Code and text, where it failed.
    pub error: Option<(String, String)>,
    /// Why the channel is paused with it: the network takes nothing more until a person has done something. A receipt
    /// that moves no message pauses nothing.
    pub pauses: Option<String>,
}

/// How a network names a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By the network id that we gave it.
    NetworkId(NetworkId),
    /// By an id of its own, and by our message id where it hands that back.
    RemoteId { remote_id: NetworkId, ours: Option<MessageId> },
}

/// A message with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub seq: Seq,
    pub id: MessageId,
    pub channel: ChannelKey,
    pub network_id: String,
    /// The network's own id, where it takes none of ours.
    pub remote_id: Option<String>,
    pub status: MessageStatus,
    pub recipient: String,
    pub account: Option<String>,
    pub payload: String,
    pub card: String,
    pub card_account: CardAccount,
    pub attempts: u32,
    pub error: Option<(String, String)>,
    pub expires_at: Millis,
    /// When each state was reached, by the state's number.
    pub reached: [Option<Millis>; MessageStatus::ALL.len()],
}

/// A page of a channel's messages, newest first.
#[derive(Debug, Clone)]
pub struct MessageQuery {
    pub channel: ChannelKey,
    pub status: Option<MessageStatus>,
    pub recipient: Option<String>,
    /// Only messages before this one.
    pub before: Option<MessageId>,
    pub limit: usize,
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub messages: Vec<Message>,
    /// Where the next page begins, if there is more.
    pub next: Option<MessageId>,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    Done,
    TooLate,
    NoMessage,
}

/// Whether the store works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Up,
    /// It does not, for this reason; it keeps trying to come back.
    Down(String),
}

/// Which old rows go.
#[derive(Debug, Clone, Copy)]
pub struct PurgeRequest {
    /// The time of the purge.
    pub now: Millis,
    /// Messages that reached their last state before this time.
    pub finished_before: Millis,
    /// Idempotency keys used before this time.
    pub used_before: Millis,
    /// Only messages behind this one; 0 at first.
    pub after: Seq,
}
