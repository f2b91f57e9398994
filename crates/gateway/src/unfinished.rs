//! Marks and moves the rows that transactions left because there were too many: of conversations that were read, and of people
//! who were found to be one.

use std::sync::Arc;
use std::time::Duration;

use recado_store::{Conversations, StoreError};
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::periodic::{on_first_node, rest_after};

/// The wait between two searches.
const SEARCH_EVERY: Duration = Duration::from_secs(15);

/// Finishes what was left until the server stops.
pub async fn finish(gateway: Arc<Gateway>) {
    let failed = |error| tracing::warn!(%error, "marks and moves of messages not finished; the next search continues");
    on_first_node(gateway, SEARCH_EVERY, finish_now, failed).await;
}

async fn finish_now(gateway: Arc<Gateway>) -> Result<(), StoreError> {
    finish_all(&*gateway.store).await
}

/// Finishes all that was left.
async fn finish_all<S>(store: &S) -> Result<(), StoreError>
where
    S: Conversations + ?Sized,
{
    loop {
        let began = Instant::now();
        if !store.finish_left().await? {
            return Ok(());
        }
        rest_after(began).await;
    }
}

#[cfg(test)]
mod tests {
    use recado_domain::api_key::Environment;
    use recado_domain::conversation::ConversationQuery;
    use recado_domain::incoming::{ARRIVALS_AT_ONCE, Arrival, Arrivals, Content, NewIncoming, SenderIds, What};
    use recado_store::fixtures::{Ground, NOW, SqliteFile};

    use super::*;

    #[tokio::test]
    async fn everything_that_was_left_is_finished() {
        const ALL: usize = 2_100;
        let ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel("vendas").await;
        let arrivals = (0..ALL).map(|n| Arrival {
            network_id: format!("A{n}").parse().expect("an id"),
            group: None,
            person: SenderIds::of_phone("5511988887777"),
            from_me: false,
            sent_at: NOW,
            what: What::Message(Box::new(NewIncoming::new(Content::text(), "Oi"))),
        });
        let arrivals: Vec<_> = arrivals.collect();
        for some in arrivals.chunks(ARRIVALS_AT_ONCE) {
            let arrivals = some.to_vec();
            let batch = Arrivals { channel, number: None, business: None, windowed: false, arrivals };
            ground.store.receive(batch, NOW).await.expect("stored");
        }
        let owner = (ground.institution, Environment::Live);
        let query = ConversationQuery::of(owner, NOW, 9);
        let conversation = ground.store.conversations(query).await.expect("read").conversations.remove(0);
        let read = ground.store.read_conversation(owner, conversation.id, NOW).await.expect("stored");
        assert_eq!(read.expect("it is there").conversation.unread, 0);
        assert!(ground.store.finish_left().await.expect("stored"), "one transaction does not mark all of them");
        finish_all(&*ground.store).await.expect("finished");
        assert!(!ground.store.finish_left().await.expect("stored"));
    }
}
