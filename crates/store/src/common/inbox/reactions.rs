//! Reactions to messages that calls sent. The rows of these messages belong to the queue, so a reaction is stored as a vote: the
//! last one of each person counts, and it is merged, erased and purged with the votes of the person.

use recado_domain::channel::ChannelKey;
use recado_domain::incoming::Reaction;

use super::changed::{About, By, ME};
use super::{Receiving, json, to_json};
use crate::sqlkit::both::{Executor, List, Read, Row, values};

/// The most reactions that are read for one page of messages.
const AT_ONCE: i64 = 5_000;
/// What a vote that is a reaction has before the network id of its message. No network id has a space.
const REACTION: &str = "reaction ";

/// Stores a reaction, or its removal; `false` if a later one of the person is stored, or the same. A vote has the emoji and the
/// number of the person, and none of them after a removal, because an earlier reaction can arrive later.
pub(super) async fn keep<E: Executor>(
    of: &Receiving<'_, E>,
    about: &About,
    by: &By<'_>,
    emoji: Option<&str>,
) -> Result<bool, E::Error> {
    let said: Vec<String> = match emoji {
        Some(emoji) => [Some(emoji.to_owned()), by.phone()].into_iter().flatten().collect(),
        None => Vec::new(),
    };
    let sql = "INSERT INTO poll_votes (channel_key, poll, voter, options, at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (channel_key, poll, voter) DO UPDATE SET options = excluded.options, at = excluded.at
                   WHERE poll_votes.at <= excluded.at AND poll_votes.options <> excluded.options";
    let (place, said, at) = (format!("{REACTION}{}", about.network_id), to_json(&said), by.arrival.sent_at);
    Ok(of.db.run(sql, values![of.channel, place, by.voter(), said, at]).await? > 0)
}

/// The reactions to messages that calls sent, each with the network id of its message, the oldest first.
pub(crate) async fn of_messages<E: Executor>(
    db: &E,
    channel: ChannelKey,
    network_ids: &[String],
) -> Result<Vec<(String, Reaction)>, E::Error> {
    if network_ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT poll, voter, options, at FROM poll_votes WHERE channel_key = ?1 AND {} ORDER BY at, voter LIMIT ?3",
        E::any("poll", 2)
    );
    let places = List(network_ids.iter().map(|id| format!("{REACTION}{id}")).collect::<Vec<_>>());
    let found = db.rows(&sql, values![channel, places, AT_ONCE], reaction).await?;
    Ok(found.into_iter().filter(|(_, reaction)| reaction.emoji.is_some()).collect())
}

fn reaction(row: &Row<'_>) -> Read<(String, Reaction)> {
    let (place, voter): (String, String) = (row.get("poll")?, row.get("voter")?);
    let mut said = json::<Vec<String>>(row, "options")?.into_iter();
    let (emoji, from) = (said.next(), said.next());
    let id = place.strip_prefix(REACTION).unwrap_or(&place).to_owned();
    let reaction = Reaction { contact: voter.parse().ok(), is_me: voter == ME, from, emoji, at: row.get("at")? };
    Ok((id, reaction))
}
