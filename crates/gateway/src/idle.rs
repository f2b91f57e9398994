//! Closes conversations in which nothing was said for as long as their channels want, and those of deleted channels.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::Millis;
use recado_store::{Conversations, StoreError};

use crate::directory::Directory;
use crate::gateway::Gateway;
use crate::periodic::on_first_node;

/// The wait between two searches for idle conversations.
const SEARCH_EVERY: Duration = Duration::from_mins(5);
/// The pause between two batches of a channel, in which other writes run.
const PAUSE: Duration = Duration::from_millis(50);
const HOUR: Millis = 60 * 60 * 1_000;

/// Closes idle conversations until the server stops.
pub async fn close_conversations(gateway: Arc<Gateway>) {
    let failed = |error| tracing::warn!(%error, "idle conversations not closed; the next search continues");
    on_first_node(gateway, SEARCH_EVERY, close_now, failed).await;
}

async fn close_now(gateway: Arc<Gateway>) -> Result<(), StoreError> {
    // A channel whose conversations cannot be closed keeps those of no other open.
    let of_deleted = close_of_deleted(&*gateway.store, gateway.clock.now()).await;
    close_idle(&*gateway.store, &gateway.directory, gateway.clock.now()).await?;
    of_deleted
}

/// Closes what a deletion left: it closes only some conversations, so that its caller has an answer.
async fn close_of_deleted<S>(store: &S, now: Millis) -> Result<(), StoreError>
where
    S: Conversations + ?Sized,
{
    while let Some(channel) = store.deleted_channel_with_conversations().await? {
        // None: the channel was created again in the meantime.
        while store.close_of_deleted(channel, now).await? > 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Closes what is idle at this time on all channels; how many conversations there were.
async fn close_idle<S>(store: &S, directory: &Directory, now: Millis) -> Result<usize, StoreError>
where
    S: Conversations + ?Sized,
{
    let mut all = 0;
    for entry in directory.channels() {
        let Some(hours) = entry.settings().common().close_after_hours.filter(|_| !entry.is_deleted()) else { continue };
        loop {
            let closed = store.close_idle(entry.via.key, now - Millis::from(hours) * HOUR, now).await?;
            if closed == 0 {
                break;
            }
            all += closed;
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use recado_domain::api_key::Environment;
    use recado_domain::channel::ChannelChange;
    use recado_domain::conversation::{ConversationQuery, Status};
    use recado_domain::field_errors::FieldErrors;
    use recado_domain::incoming::{Arrival, Arrivals, Content, NewIncoming, SenderIds, What};
    use recado_store::fixtures::{Ground, MINUTE, NOW, SqliteFile};
    use serde_json::json;

    use super::*;

    async fn write(ground: &Ground, channel: i64, id: &str, at: Millis) {
        let what = What::Message(Box::new(NewIncoming::new(Content::text(), "Oi")));
        let person = SenderIds::of_phone(&format!("55119888877{:02}", id.len()));
        let network_id = id.parse().expect("an id");
        let arrival = Arrival { network_id, group: None, person, from_me: false, sent_at: at, what };
        let arrivals = Arrivals { channel, number: None, business: None, windowed: false, arrivals: vec![arrival] };
        ground.store.receive(arrivals, at).await.expect("stored");
    }

    #[tokio::test]
    async fn conversations_of_deleted_channels_are_closed() {
        let ground = Ground::on(SqliteFile::new()).await;
        let channels = [ground.channel("um").await, ground.channel("dois").await, ground.channel("tres").await];
        for channel in channels {
            write(&ground, channel, "A", NOW).await;
            write(&ground, channel, "BB", NOW).await;
        }
        for channel in &channels[..2] {
            ground.delete_channel(*channel, NOW).await;
        }
        close_of_deleted(&*ground.store, NOW).await.expect("closed");
        let query = ConversationQuery::of((ground.institution, Environment::Live), NOW, 100);
        let all = ground.store.conversations(query).await.expect("read").conversations;
        let open: Vec<_> = all.iter().filter(|one| one.status != Status::Closed).map(|one| one.channel).collect();
        assert_eq!(open, [channels[2], channels[2]]);
    }

    #[tokio::test]
    async fn conversations_are_closed_after_the_hours_of_their_channel() {
        let ground = Ground::on(SqliteFile::new()).await;
        let (quick, never) = (ground.channel("rapido").await, ground.channel("nunca").await);
        let channel = ground.store.channel(quick).await.expect("read").expect("a channel");
        let mut change = ChannelChange::default();
        change.settings.insert("closeAfterHours".to_owned(), json!(2));
        let settings = channel.settings.changed(&change, &mut FieldErrors::default());
        assert!(ground.store.update_channel(quick, channel.name, settings).await.expect("stored"));
        let directory = Directory::new(vec![], &ground.store.channels().await.expect("read"));
        for channel in [quick, never] {
            write(&ground, channel, "A", NOW).await;
            write(&ground, channel, "BB", NOW + MINUTE).await;
        }
        let closed = async |now| close_idle(&*ground.store, &directory, now).await.expect("closed");
        assert_eq!(closed(NOW + 2 * HOUR).await, 0, "not before its time");
        assert_eq!(closed(NOW + 2 * HOUR + 1).await, 1);
        assert_eq!(closed(NOW + 2 * HOUR + MINUTE + 1).await, 1);
        let query = ConversationQuery::of((ground.institution, Environment::Live), NOW, 100);
        let all = ground.store.conversations(query).await.expect("read").conversations;
        let open: Vec<_> = all.iter().filter(|one| one.status != Status::Closed).map(|one| one.channel).collect();
        assert_eq!(open, [never, never]);
    }
}
