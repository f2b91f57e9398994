//! Messages that the gateway's store refuses for good, because of their content, or because of a fault of this version. They
//! are acknowledged to the network, which would otherwise deliver them again at each login, and kept in the session's rows until
//! the store takes them: they are passed again when the session opens, and every ten minutes.

use std::collections::BTreeMap;
use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::Instant;
use whatsapp_rust::wacore::time::{now_millis, now_secs};
use whatsapp_rust::waproto::codec::message_decode;
use whatsapp_rust::waproto::whatsapp as wa;

use crate::incoming::{self, Envelope, Inbound};
use crate::storage::Storage;

/// The wait between two tries.
const RETRY: Duration = Duration::from_mins(10);
/// How long a message is kept. A version that can store it should be there by then.
const KEPT: Duration = Duration::from_hours(30 * 24);
/// The seconds after which a row is deleted in any case.
const ENDED: i64 = 31 * 24 * 60 * 60;
/// The most messages of a session that are kept, and their bytes. A further one is not acknowledged, so the network keeps it.
const MOST: usize = 1_000;
const MOST_BYTES: usize = 16 << 20;

/// The refused messages of a session.
pub struct Refused {
    storage: Storage,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The lengths of the kept rows, by their keys; `None`: not read yet.
    kept: Option<BTreeMap<Vec<u8>, usize>>,
    /// When the next try is due; `None`: now.
    next: Option<Instant>,
}

/// A kept message.
pub struct Kept {
    pub row: RowOf,
    pub inbound: Inbound,
}

/// The row of a kept message.
pub struct RowOf {
    key: Vec<u8>,
    since: Millis,
}

/// Why a message cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotKept;

impl Refused {
    pub fn new(storage: Storage) -> Self {
        Self { storage, state: Mutex::default() }
    }

    /// Keeps a message with its envelope.
    pub async fn keep(&self, message: &wa::Message, of: &Envelope, now: Instant) -> Result<(), NotKept> {
        let mut state = self.state.lock().await;
        let kept = self.read(&mut state).await?;
        let (key, row) = (key(of), row(message, of, now_millis()));
        let bytes: usize = kept.values().sum();
        if !kept.contains_key(&key) && (kept.len() >= MOST || bytes + row.len() > MOST_BYTES) {
            return Err(NotKept);
        }
        let length = row.len();
        self.storage.put_refused(key.clone(), row).await.map_err(|_| NotKept)?;
        kept.insert(key, length);
        state.next.get_or_insert(now + RETRY);
        Ok(())
    }

    /// The kept messages, oldest first, if a try is due. The next one is due later.
    pub async fn due(&self, now: Instant) -> Vec<Kept> {
        let mut state = self.state.lock().await;
        if state.next.is_some_and(|next| next > now) {
            return Vec::new();
        }
        let is_empty = self.read(&mut state).await.is_ok_and(|kept| kept.is_empty());
        if is_empty {
            return Vec::new();
        }
        state.next = Some(now + RETRY);
        // Rows that this version cannot read end as well, a day after the others.
        if self.storage.delete_refused_before(now_secs() - ENDED).await.is_ok() {
            state.kept = None;
        }
        self.all().await
    }

    /// The kept messages, oldest first.
    pub async fn all(&self) -> Vec<Kept> {
        let Ok(rows) = self.storage.refused().await else { return Vec::new() };
        let mut all: Vec<_> = rows.into_iter().filter_map(|(key, row)| read_row(key, &row)).collect();
        all.sort_by_key(|kept| kept.row.since);
        all
    }

    /// Forgets a message that was stored, or whose time is over.
    pub async fn forget(&self, message: &RowOf) {
        let mut state = self.state.lock().await;
        if self.storage.delete_refused(message.key.clone()).await.is_ok()
            && let Ok(kept) = self.read(&mut state).await
        {
            kept.remove(&message.key);
        }
    }

    /// The lengths of the rows, read at the first use.
    async fn read<'a>(&self, state: &'a mut State) -> Result<&'a mut BTreeMap<Vec<u8>, usize>, NotKept> {
        if state.kept.is_none() {
            let rows = self.storage.refused().await.map_err(|_| NotKept)?;
            state.kept = Some(rows.into_iter().map(|(key, row)| (key, row.len())).collect());
        }
        state.kept.as_mut().ok_or(NotKept)
    }
}

impl RowOf {
    /// Whether the message was kept for long enough.
    pub fn is_given_up(&self) -> bool {
        now_millis() - self.since >= millis(KEPT)
    }
}

/// A hash: the key is stored in clear, so it must not name people.
fn key(of: &Envelope) -> Vec<u8> {
    let (chat, author) = (of.group.clone().unwrap_or_default(), of.person.address());
    Sha256::digest(crate::storage::key_of(&[chat.as_bytes(), author.as_bytes(), of.id.as_bytes()])).to_vec()
}

/// The length of the envelope in four bytes, the envelope with the time as JSON, the message.
fn row(message: &wa::Message, of: &Envelope, since: Millis) -> Vec<u8> {
    let envelope = serde_json::to_vec(&(since, of)).unwrap_or_default();
    let length = u32::try_from(envelope.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &envelope, &incoming::kept(message)].concat()
}

/// A row that cannot be read is left as it is, for another version.
fn read_row(key: Vec<u8>, row: &[u8]) -> Option<Kept> {
    let (length, rest) = row.split_first_chunk()?;
    let (envelope, message) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let (since, envelope): (Millis, Envelope) = serde_json::from_slice(envelope).ok()?;
    let inbound = incoming::read(&message_decode(message).ok()?, &envelope)?;
    Some(Kept { row: RowOf { key, since }, inbound })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use recado_domain::incoming::{SenderIds, What};
    use whatsapp_rust::buffa::MessageField;

    use super::*;
    use crate::memory_rows::MemoryRows;

    fn message(text: &str) -> wa::Message {
        wa::Message { conversation: Some(text.to_owned()), ..wa::Message::default() }
    }

    fn envelope(id: &str) -> Envelope {
        Envelope { id: id.to_owned(), person: SenderIds::of_lid("900"), sent_at: 7_000, ..Envelope::default() }
    }

    fn text(kept: &Kept) -> Option<&str> {
        match &kept.inbound {
            Inbound::Arrival(arrival) => match &arrival.what {
                What::Message(new) => Some(&new.text),
                _ => None,
            },
            Inbound::Vote(_) | Inbound::Read(_) => None,
        }
    }

    fn texts(kept: &[Kept]) -> Vec<&str> {
        kept.iter().filter_map(text).collect()
    }

    #[tokio::test]
    async fn a_refused_message_is_tried_again_until_it_is_stored() {
        let rows = Arc::new(MemoryRows::default());
        let (refused, now) = (Refused::new(Storage::new(rows.clone())), Instant::now());
        assert!(refused.due(now).await.is_empty());
        refused.keep(&message("um"), &envelope("3EB0A"), now).await.expect("kept");
        refused.keep(&message("um"), &envelope("3EB0A"), now).await.expect("the same one");
        assert!(refused.due(now).await.is_empty(), "not at once");
        let now = now + RETRY;
        let due = refused.due(now).await;
        assert_eq!(texts(&due), ["um"]);
        let Inbound::Arrival(arrival) = &due[0].inbound else { panic!("a message") };
        assert_eq!(
            (arrival.network_id.as_str(), arrival.sent_at, &arrival.person),
            ("3EB0A", 7_000, &SenderIds::of_lid("900"))
        );
        assert!(!due[0].row.is_given_up());
        assert!(refused.due(now).await.is_empty(), "each time once");
        let reopened = Refused::new(Storage::new(rows.clone()));
        assert_eq!(texts(&reopened.due(now).await), ["um"], "when the session opens");
        reopened.forget(&due[0].row).await;
        assert!(reopened.due(now + RETRY).await.is_empty());
        assert!(Refused::new(Storage::new(rows)).due(now).await.is_empty());
    }

    #[test]
    fn nothing_is_kept_of_what_may_be_seen_once() {
        let text = wa::message::ExtendedTextMessage {
            text: Some("segredo".to_owned()),
            view_once: Some(true),
            ..Default::default()
        };
        let once = wa::Message { extended_text_message: MessageField::some(text), ..wa::Message::default() };
        let row = row(&once, &envelope("3EB0A"), 1);
        assert!(!String::from_utf8_lossy(&row).contains("segredo"));
        let Some(Kept { inbound: Inbound::Arrival(arrival), .. }) = read_row(Vec::new(), &row) else {
            panic!("a message")
        };
        let What::Message(new) = arrival.what else { panic!("a message") };
        assert_eq!(new.content.name(), "unsupported");
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_ends() {
        let rows = Arc::new(MemoryRows::default());
        let (refused, now) = (Refused::new(Storage::new(rows.clone())), Instant::now());
        for n in 0..MOST {
            refused.keep(&message("x"), &envelope(&format!("3EB0{n}")), now).await.expect("kept");
        }
        assert_eq!(refused.keep(&message("x"), &envelope("3EB0MORE"), now).await, Err(NotKept));
        refused.keep(&message("x"), &envelope("3EB00"), now).await.expect("the same one again");
        let large = Refused::new(Storage::new(Arc::new(MemoryRows::default())));
        assert_eq!(large.keep(&message(&"x".repeat(MOST_BYTES)), &envelope("3EB0A"), now).await, Err(NotKept));
        let full = Arc::new(MemoryRows::default());
        full.refuse(true);
        assert_eq!(Refused::new(Storage::new(full)).keep(&message("x"), &envelope("3EB0A"), now).await, Err(NotKept));
        let old = read_row(Vec::new(), &row(&message("x"), &envelope("3EB0A"), now_millis() - millis(KEPT)));
        assert!(old.expect("read").row.is_given_up());
        assert!(read_row(Vec::new(), b"of another version").is_none());
    }
}
