//! Messages that could not be read. The library asks the sender for them again, and most come within seconds. A message is
//! reported as unreadable if it has not come within a minute. Until then it is in the session's rows, so that neither a
//! crash nor another node forgets it.

use std::collections::BTreeMap;
use std::time::Duration;

use recado_domain::clock::{Millis, millis};
use recado_domain::ids::NetworkId;
use recado_domain::incoming::{Arrival, Content, Group, NewIncoming, SenderIds, UnsupportedReason, What};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use whatsapp_rust::wacore::time::now_millis;

use crate::storage::Storage;

/// How long the body of a message is waited for.
const WAIT: Duration = Duration::from_mins(1);
/// The most messages that wait. A further one is reported at once.
const MAX_WAITING: usize = 1_000;

/// A message that waits for its body.
#[derive(Clone, Serialize, Deserialize)]
struct Row {
    id: String,
    group: Option<String>,
    person: SenderIds,
    from_me: bool,
    sent_at: Millis,
    reason: UnsupportedReason,
    /// When it is reported.
    due: Millis,
}

/// Which message of which author in which chat. People may choose the same id.
pub struct Place {
    id: String,
    group: Option<String>,
    person: SenderIds,
}

impl Place {
    pub fn of(arrival: &Arrival) -> Self {
        Self {
            id: arrival.network_id.as_str().to_owned(),
            group: arrival.group.as_ref().map(|group| group.address.clone()),
            person: arrival.person.clone(),
        }
    }

    /// The author may be known by the number here, and by the hidden id there.
    fn is_of(&self, row: &Row) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| {
            one.as_ref().zip(other.as_ref()).is_some_and(|(one, other)| one != other)
        };
        let is_another = differ(&self.person.lid, &row.person.lid)
            || (differ(&self.person.phone, &row.person.phone) && self.person.lid != row.person.lid);
        self.id == row.id && self.group == row.group && !is_another
    }
}

/// The messages of a session that wait for their bodies.
pub struct Unreadable {
    storage: Storage,
    /// How long the body of a message is waited for.
    wait: Millis,
    /// The stored rows, by their keys; `None`: not read yet.
    waiting: Mutex<Option<BTreeMap<Vec<u8>, Row>>>,
}

impl Unreadable {
    pub fn new(storage: Storage) -> Self {
        Self { storage, wait: millis(WAIT), waiting: Mutex::default() }
    }

    /// Keeps a message that could not be read.
    pub async fn note(&self, arrival: &Arrival) {
        let Some(row) = Row::of(arrival, self.wait) else { return };
        let mut waiting = self.waiting.lock().await;
        let Some(known) = self.read(&mut waiting).await else { return };
        let key = row.key();
        if known.contains_key(&key) {
            return;
        }
        let row = if known.len() >= MAX_WAITING { Row { due: 0, ..row } } else { row };
        let stored = serde_json::to_vec(&row).unwrap_or_default();
        if let Err(error) = self.storage.put_unreadable(key.clone(), stored).await {
            // It stays in memory: only the end of the process would lose it.
            tracing::warn!(%error, "unreadable message could not be kept");
        }
        known.insert(key, row);
    }

    /// The messages whose time is over, oldest first.
    pub async fn due(&self) -> Vec<Arrival> {
        let mut waiting = self.waiting.lock().await;
        let Some(known) = self.read(&mut waiting).await else { return Vec::new() };
        let now = now_millis();
        // A clock that was set back must not delay them for longer than a message waits.
        let is_due = |row: &&Row| row.due <= now || row.due > now + self.wait;
        let mut due: Vec<_> = known.values().filter(is_due).collect();
        due.sort_by_key(|row| row.sent_at);
        due.into_iter().map(Row::arrival).collect()
    }

    /// Forgets messages that were stored.
    pub async fn forget(&self, stored: &[Place]) {
        let mut waiting = self.waiting.lock().await;
        let Some(known) = self.read(&mut waiting).await else { return };
        if known.is_empty() {
            return;
        }
        let is_stored = |row: &Row| stored.iter().any(|place| place.is_of(row));
        let gone: Vec<_> = known.iter().filter(|(_, row)| is_stored(row)).map(|(key, _)| key.clone()).collect();
        if gone.is_empty() {
            return;
        }
        if let Err(error) = self.storage.delete_unreadable(gone.clone()).await {
            // It is reported once more later, which changes nothing.
            tracing::warn!(%error, "unreadable message could not be forgotten");
        }
        known.retain(|key, _| !gone.contains(key));
    }

    /// The rows, read at the first use; `None` if the store does not answer.
    async fn read<'a>(
        &self,
        waiting: &'a mut Option<BTreeMap<Vec<u8>, Row>>,
    ) -> Option<&'a mut BTreeMap<Vec<u8>, Row>> {
        if waiting.is_none() {
            let stored = self.storage.unreadable().await.ok()?;
            let read = |(key, bytes): (Vec<u8>, Vec<u8>)| Some((key, serde_json::from_slice(&bytes).ok()?));
            *waiting = Some(stored.into_iter().filter_map(read).collect());
        }
        waiting.as_mut()
    }
}

impl Row {
    fn of(arrival: &Arrival, wait: Millis) -> Option<Self> {
        let What::Message(new) = &arrival.what else { return None };
        let Content::Unsupported { reason } = new.content else { return None };
        // What may be seen once never comes.
        let wait = if reason == UnsupportedReason::Undecryptable { wait } else { 0 };
        Some(Self {
            id: arrival.network_id.as_str().to_owned(),
            group: arrival.group.as_ref().map(|group| group.address.clone()),
            person: arrival.person.clone(),
            from_me: arrival.from_me,
            sent_at: arrival.sent_at,
            reason,
            due: now_millis() + wait,
        })
    }

    fn key(&self) -> Vec<u8> {
        let chat = self.group.clone().unwrap_or_default();
        crate::storage::key_of(&[chat.as_bytes(), self.person.address().as_bytes(), self.id.as_bytes()])
    }

    fn arrival(&self) -> Arrival {
        let reason = self.reason;
        Arrival {
            network_id: NetworkId::from_stored(self.id.clone()),
            group: self.group.clone().map(|address| Group { address, name: None }),
            person: self.person.clone(),
            from_me: self.from_me,
            sent_at: self.sent_at,
            what: What::Message(Box::new(NewIncoming::new(Content::Unsupported { reason }, ""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::incoming::{Envelope, unreadable};
    use crate::memory_rows::MemoryRows;

    fn message(id: &str, reason: UnsupportedReason) -> Arrival {
        let of = Envelope { id: id.to_owned(), person: SenderIds::of_lid("900"), sent_at: 7, ..Envelope::default() };
        unreadable(&of, reason)
    }

    /// The messages of these rows, which wait for so long.
    fn on(rows: &Arc<MemoryRows>, wait: Millis) -> Unreadable {
        Unreadable { wait, ..Unreadable::new(Storage::new(rows.clone())) }
    }

    #[tokio::test]
    async fn a_message_is_reported_when_its_time_is_over_also_after_a_restart() {
        let rows = Arc::new(MemoryRows::default());
        let (patient, hasty) = (on(&rows, 60_000), |rows| on(rows, -1));
        patient.note(&message("3EB0A", UnsupportedReason::Undecryptable)).await;
        assert!(patient.due().await.is_empty());
        hasty(&rows).note(&message("3EB0B", UnsupportedReason::Undecryptable)).await;
        let due = on(&rows, 60_000).due().await;
        assert_eq!(due.iter().map(|arrival| arrival.network_id.as_str()).collect::<Vec<_>>(), ["3EB0B"]);
        assert_eq!((&due[0].person, due[0].sent_at), (&SenderIds::of_lid("900"), 7));
    }

    #[tokio::test]
    async fn a_message_that_came_is_not_reported() {
        let rows = Arc::new(MemoryRows::default());
        let waiting = on(&rows, -1);
        waiting.note(&message("3EB0A", UnsupportedReason::Undecryptable)).await;
        waiting.forget(&[Place::of(&message("3EB0OTHER", UnsupportedReason::Undecryptable))]).await;
        let other = Arrival { person: SenderIds::of_lid("901"), ..message("3EB0A", UnsupportedReason::Undecryptable) };
        waiting.forget(&[Place::of(&other)]).await;
        assert_eq!(waiting.due().await.len(), 1);
        waiting.forget(&[Place::of(&message("3EB0A", UnsupportedReason::Undecryptable))]).await;
        assert!(waiting.due().await.is_empty());
        assert!(on(&rows, -1).due().await.is_empty(), "nor after a restart");
    }

    #[tokio::test]
    async fn what_may_be_seen_once_is_reported_at_once() {
        let waiting = on(&Arc::new(MemoryRows::default()), 60_000);
        waiting.note(&message("3EB0A", UnsupportedReason::ViewOnce)).await;
        assert_eq!(waiting.due().await.len(), 1);
    }
}
