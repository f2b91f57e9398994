//! Reactions to messages that calls sent. The rows of these messages belong to the queue, so a reaction is stored as a vote: the
//! last one of each person counts, and it is merged, erased and purged with the votes of the person.

use std::collections::{BTreeSet, HashMap};

use recado_domain::channel::ChannelKey;
use recado_domain::ids::is_account;
use recado_domain::incoming::Reaction;
use recado_domain::phone::forms;

use super::changed::{About, By, ME};
use super::{Receiving, json, to_json};
use crate::sqlkit::both::{Executor, List, Read, Row, values};

/// The most reactions that are read for one page of messages.
const AT_ONCE: i64 = 1_000;
/// What a vote that is a reaction has before the network id of its message. No network id has a space.
const REACTION: &str = "reaction ";

/// Stores a reaction, or its removal; `false` if a later one of the person is stored, or the same. A vote has the emoji, and nothing
/// after a removal, because an earlier reaction can arrive later. The number of the person is read from the contact, so that no
/// vote has it after an erasure.
pub(super) async fn keep<E: Executor>(
    of: &Receiving<'_, E>,
    about: &About,
    by: &By<'_>,
    emoji: Option<&str>,
) -> Result<bool, E::Error> {
    let sql = "INSERT INTO poll_votes (channel_key, poll, voter, options, at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (channel_key, poll, voter) DO UPDATE SET options = excluded.options, at = excluded.at
                   WHERE poll_votes.at <= excluded.at AND poll_votes.options <> excluded.options";
    let said: Vec<&str> = emoji.into_iter().collect();
    let (place, said, at) = (format!("{REACTION}{}", about.network_id), to_json(&said), by.arrival.sent_at);
    if by.contact().is_some() {
        // The person may have reacted before there was a contact.
        let names = [by.phone(), Some(by.arrival.person.address())].into_iter().flatten();
        let names: BTreeSet<String> = names.flat_map(|name| forms(&name)).collect();
        for name in names {
            let sql = "DELETE FROM poll_votes WHERE channel_key = ?1 AND poll = ?2 AND voter = ?3 AND at <= ?4";
            of.db.run(sql, values![of.channel, place, name, at]).await?;
        }
    }
    Ok(of.db.run(sql, values![of.channel, place, by.voter(), said, at]).await? > 0)
}

/// The reactions to messages that calls sent, each with the network id of its message, the oldest first. If there are very many,
/// the newest.
pub(crate) async fn of_messages<E: Executor>(
    db: &E,
    channel: ChannelKey,
    network_ids: &[String],
) -> Result<Vec<(String, Reaction)>, E::Error> {
    if network_ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT poll, voter, options, at FROM poll_votes WHERE channel_key = ?1 AND {} AND options <> '[]'
         ORDER BY at DESC, voter DESC LIMIT ?3",
        E::any("poll", 2)
    );
    let places = List(network_ids.iter().map(|id| format!("{REACTION}{id}")).collect::<Vec<_>>());
    let mut found = db.rows(&sql, values![channel, places, AT_ONCE], reaction).await?;
    found.reverse();
    let contacts: BTreeSet<_> = found.iter().filter_map(|(_, reaction)| reaction.contact).collect();
    let mut numbers = HashMap::new();
    for contact in contacts {
        let sql = "SELECT coalesce(account, phone) AS number FROM contacts WHERE id = ?1";
        let number = db.row(sql, values![&contact.as_bytes()[..]], |row| row.get::<Option<String>>("number")).await?;
        numbers.extend(number.map(|number| (contact, number)));
    }
    for (_, reaction) in &mut found {
        match reaction.contact.map(|contact| numbers.get(&contact)) {
            Some(Some(number)) => reaction.from.clone_from(number),
            // The contact was deleted.
            Some(None) => reaction.contact = None,
            None => {}
        }
    }
    Ok(found)
}

fn reaction(row: &Row<'_>) -> Read<(String, Reaction)> {
    let (place, voter): (String, String) = (row.get("poll")?, row.get("voter")?);
    let emoji = json::<Vec<String>>(row, "options")?.into_iter().next();
    let id = place.strip_prefix(REACTION).unwrap_or(&place).to_owned();
    let from = Some(&voter).filter(|voter| is_account(voter)).cloned();
    let reaction = Reaction { contact: voter.parse().ok(), is_me: voter == ME, from, emoji, at: row.get("at")? };
    Ok((id, reaction))
}
