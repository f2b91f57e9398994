//! Deletes the content of received messages that their channels do not keep.

use std::sync::Arc;
use std::time::Duration;

use recado_domain::clock::Millis;
use recado_domain::ids::MediaId;
use recado_domain::incoming::ContentsDeleted;
use recado_store::{Inbox, StoreError};
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::periodic::{on_first_node, rest_after};

/// The wait between two searches.
const SEARCH_EVERY: Duration = Duration::from_mins(5);

/// Deletes content until the server stops.
pub async fn delete(gateway: Arc<Gateway>) {
    let failed = |error| tracing::warn!(%error, "content not deleted; the next search continues");
    on_first_node(gateway, SEARCH_EVERY, delete_now, failed).await;
}

async fn delete_now(gateway: Arc<Gateway>) -> Result<(), StoreError> {
    let unlink = |files| async {
        if let Err(fault) = gateway.media.delete(files).await {
            tracing::warn!(?fault, "files of deleted content not deleted; the next purge does that");
        }
    };
    delete_due(&*gateway.store, gateway.clock.now(), unlink).await
}

/// Deletes all content that is due at this time. `unlink` deletes the bytes of files.
async fn delete_due<S, F>(store: &S, now: Millis, unlink: impl Fn(Vec<MediaId>) -> F) -> Result<(), StoreError>
where
    S: Inbox + ?Sized,
    F: Future<Output = ()>,
{
    loop {
        let began = Instant::now();
        let ContentsDeleted { looked, files } = store.delete_contents(now).await?;
        if looked == 0 {
            return Ok(());
        }
        if !files.is_empty() {
            unlink(files).await;
        }
        rest_after(began).await;
    }
}

#[cfg(test)]
mod tests {
    use recado_domain::channel::ChannelChange;
    use recado_domain::field_errors::FieldErrors;
    use recado_domain::incoming::{
        Arrival, Arrivals, CONTENT_FETCHED, Content, IncomingQuery, NewIncoming, NewMedia, SenderIds, What,
    };
    use std::sync::Mutex;

    use recado_store::fixtures::{Ground, NOW, SqliteFile};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn all_content_that_is_due_is_deleted() {
        let ground = Ground::on(SqliteFile::new()).await;
        let (mut keys, mut files) = (Vec::new(), Vec::new());
        for id in ["vendas", "loja"] {
            let key = ground.channel(id).await;
            let channel = ground.store.channel(key).await.expect("read").expect("a channel");
            let mut change = ChannelChange::default();
            change.settings.insert("keepText".to_owned(), json!(false));
            let settings = channel.settings.changed(&change, &mut FieldErrors::default());
            assert!(ground.store.update_channel(key, channel.name, settings).await.expect("stored"));
            let arrivals = (0..2).map(|n| Arrival {
                network_id: format!("A{n}").parse().expect("an id"),
                group: None,
                person: SenderIds::of_phone("5511988887777"),
                from_me: false,
                sent_at: NOW,
                what: What::Message(Box::new(NewIncoming {
                    media: Some(NewMedia::default()),
                    ..NewIncoming::new(Content::text(), "Oi")
                })),
            });
            let arrivals = arrivals.collect();
            let batch = Arrivals { channel: key, number: None, business: None, windowed: false, arrivals };
            for received in ground.store.receive(batch, NOW).await.expect("stored") {
                let message = ground.store.incoming(key, received.message.expect("one")).await.expect("read");
                files.extend(message.and_then(|message| message.media).map(|media| media.id));
            }
            keys.push(key);
        }
        let unlinked = Mutex::new(Vec::new());
        let unlink = |files: Vec<MediaId>| {
            unlinked.lock().expect("no panic").extend(files);
            std::future::ready(())
        };
        delete_due(&*ground.store, NOW + CONTENT_FETCHED, unlink).await.expect("deleted");
        let mut unlinked = unlinked.into_inner().expect("no panic");
        unlinked.sort_unstable();
        files.sort_unstable();
        assert_eq!((unlinked.len(), unlinked), (4, files), "their bytes go as well");
        for channel in keys {
            let query = IncomingQuery { channel, before: None, from: None, limit: 9 };
            let messages = ground.store.incoming_page(query).await.expect("read").messages;
            assert_eq!(messages.iter().map(|message| &*message.body.text).collect::<Vec<_>>(), ["", ""]);
        }
    }
}
