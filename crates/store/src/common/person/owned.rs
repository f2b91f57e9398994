//! The data of a person in one environment of one institution. Indexes lead to it, so that the call of one institution reads
//! nothing of the others.

use std::collections::{BTreeMap, HashMap};

use recado_domain::channel::ChannelKey;
use recado_domain::clock::{Clock, Millis};
use recado_domain::ids::MessageId;
use recado_domain::message::Seq;

use super::{Asked, most};
use crate::clock::SystemClock;
use crate::common::inbox;
use crate::person::{PLACES, Person, PersonPage, PersonRow, Place};
use crate::sql::{OPEN, PAST};
use crate::sqlkit::both::{Executor, List, Row, values};

impl<E: Executor> Asked<'_, E> {
    /// What selects the messages to the person from each index that leads to them. `?1` are the numbers, `?2` the channels.
    fn of_indexes() -> [String; 3] {
        let (by_recipient, by_account) = (E::any("recipient", 1), E::any("account", 1));
        let of_channels = E::any("channel_key", 2);
        [
            ("messages_past_by_recipient", format!("{PAST} AND {by_recipient}")),
            ("messages_open", format!("{OPEN} AND {by_recipient}")),
            // The network reported another account than the typed number.
            ("messages_by_account", format!("account <> recipient AND {by_account}")),
        ]
        .map(|(index, theirs)| format!("FROM messages{} WHERE {theirs} AND {of_channels}", E::index(index)))
    }

    /// Every name of the person that messages and networks know.
    pub(super) async fn names_of_owner(&self, person: &Person) -> Result<PersonPage, E::Error> {
        let mut names = inbox::person::names(self.db, person).await?;
        for column in ["phone", "account"] {
            let sql = format!(
                "SELECT phone, account, lid || '@lid' AS hidden FROM accounts WHERE {} AND {}",
                E::any(column, 1),
                E::any("channel_key", 2)
            );
            let read = |row: &Row<'_>| {
                let (phone, account): (Option<String>, Option<String>) = (row.get("phone")?, row.get("account")?);
                Ok([phone, account, row.get("hidden")?])
            };
            let found = self.db.rows(&sql, values![self.numbers, self.channels], read).await?;
            names.extend(found.into_iter().flatten().flatten());
        }
        let read = |row: &Row<'_>| Ok([row.get::<Option<String>>("recipient")?, row.get("account")?]);
        for from in Self::of_indexes() {
            let sql = format!("SELECT DISTINCT recipient, account {from}");
            let found = self.db.rows(&sql, values![self.numbers, self.channels], read).await?;
            names.extend(found.into_iter().flatten().flatten());
        }
        Ok(PersonPage { rows: names.into_iter().map(PersonRow::Name).collect(), next: None })
    }

    /// Where the messages to the person are, with their idempotency keys.
    pub(super) async fn places_of_owner(&self, person: &Person) -> Result<PersonPage, E::Error> {
        let read = |row: &Row<'_>| {
            let (channel, seq) = (row.get("channel_key")?, row.get("seq")?);
            Ok(Place { channel, seq, id: MessageId::from_bytes(row.bytes("id")?), key: None })
        };
        let mut found: BTreeMap<Seq, Place> = BTreeMap::new();
        for from in Self::of_indexes() {
            // `+ 0` keeps the planner off the primary key, which leads through the messages of all channels.
            let sql = format!("SELECT channel_key, seq, id {from} AND seq + 0 > ?3 ORDER BY seq + 0 LIMIT ?4");
            let limit = most(PLACES);
            let places = self.db.rows(&sql, values![self.numbers, self.channels, self.after, limit], read).await?;
            found.extend(places.into_iter().map(|place| (place.seq, place)));
        }
        // To a number that the person had before. It may be another person's, so only what belongs to the conversations.
        for former in inbox::person::former(self.db, person).await? {
            let addresses = List(former.addresses);
            for (index, which) in [("messages_past_by_recipient", PAST), ("messages_open", OPEN)] {
                let sql = format!(
                    "SELECT channel_key, seq, id FROM messages{}
                     WHERE channel_key = ?1 AND {which} AND {} AND conversation_id = ?3 AND seq + 0 > ?4
                     ORDER BY seq + 0 LIMIT ?5",
                    E::index(index),
                    E::any("recipient", 2)
                );
                let limit = most(PLACES);
                let asked = values![former.channel, addresses, former.conversation, self.after, limit];
                let places = self.db.rows(&sql, asked, read).await?;
                found.extend(places.into_iter().map(|place| (place.seq, place)));
            }
        }
        let mut places: Vec<_> = found.into_values().take(PLACES).collect();
        let next = places.last().map(|last| last.seq).filter(|_| places.len() == PLACES);
        let keys = self.keys_of(&places).await?;
        places.iter_mut().for_each(|place| place.key = keys.get(&place.id).copied());
        Ok(PersonPage { rows: places.into_iter().map(PersonRow::Place).collect(), next })
    }

    /// The idempotency keys of these messages. No index leads from a message to its key, so the keys of the institution are
    /// searched, but only for messages that are as new as the oldest key.
    async fn keys_of(&self, places: &[Place]) -> Result<HashMap<MessageId, i64>, E::Error> {
        let sql = "SELECT created_at FROM idempotency_keys ORDER BY n LIMIT 1";
        let oldest: Option<Millis> = self.db.row(sql, values![], |row| row.get("created_at")).await?;
        // After a clock that was ahead, the times decide nothing.
        let now = SystemClock.now();
        let may_have_one =
            |place: &&Place| oldest.is_some_and(|oldest| oldest > now || accepted_at(place.id) + SLACK >= oldest);
        let recent: Vec<_> = places.iter().filter(may_have_one).map(|place| place.seq).collect();
        let Some((institution, environment)) = self.owner.as_ref().filter(|_| !recent.is_empty()) else {
            return Ok(HashMap::new());
        };
        let sql = format!(
            "SELECT k.n, k.message_id FROM idempotency_keys k {} messages m ON m.id = k.message_id
             WHERE k.institution_id = ?1 AND k.environment = ?2 AND {}",
            E::JOIN_IN_ORDER,
            E::any("m.seq", 3)
        );
        let read = |row: &Row<'_>| Ok((MessageId::from_bytes(row.bytes("message_id")?), row.get("n")?));
        let keys = self.db.rows(&sql, values![*institution, *environment, List(recent)], read).await?;
        Ok(keys.into_iter().collect())
    }
}

/// The time in the id.
fn accepted_at(id: MessageId) -> Millis {
    let mut time = [0; 8];
    time[2..].copy_from_slice(&id.as_bytes()[..6]);
    Millis::from_be_bytes(time)
}

/// The channels of the person's institution, the deleted ones too.
pub(super) fn channels(channels: &[ChannelKey]) -> PersonPage {
    PersonPage { rows: channels.iter().copied().map(PersonRow::Channel).collect(), next: None }
}

/// How much the clocks of nodes may differ.
const SLACK: Millis = 3_600_000;
