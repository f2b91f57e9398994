//! The connection that receives notifications of other nodes. `LISTEN` is a state of the connection, so it needs the database
//! itself, not a transaction pooler.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_postgres::AsyncMessage;

use crate::nodes::ListenEvent;
use crate::sqlkit::postgres::hosts::Hosts;

/// The wait before the next attempt to connect.
const RETRY: Duration = Duration::from_millis(500);
/// The interval of the check that a silent connection still works.
const ASK: Duration = Duration::from_secs(5);

/// Listens until the receiver is closed.
pub(super) async fn listen(url: String, events: mpsc::Sender<ListenEvent>) {
    while !events.is_closed() {
        if let Err(error) = once(&url, &events).await {
            tracing::warn!(error, "LISTEN connection down; polling every second");
        }
        if events.send(ListenEvent::Disconnected).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn once(url: &str, events: &mpsc::Sender<ListenEvent>) -> Result<(), String> {
    let describe = |error: tokio_postgres::Error| recado_domain::error_chain::causes(&error);
    let hosts = Hosts::parse(url, "").map_err(|error| error.to_string())?;
    let (client, mut connection) = hosts.connect().await.map_err(|error| format!("{error:#}"))?;
    let mut messages = Box::pin(stream::poll_fn(move |context| connection.poll_message(context)));
    let checks = async {
        client.batch_execute("LISTEN recado").await.map_err(describe)?;
        drop(events.send(ListenEvent::Connected).await);
        loop {
            tokio::time::sleep(ASK).await;
            let answer = tokio::time::timeout(ASK, client.batch_execute("SELECT 1")).await;
            answer.map_err(|_| "no answer".to_owned())?.map_err(describe)?;
        }
    };
    let receives = async {
        while let Some(message) = messages.next().await {
            if let AsyncMessage::Notification(note) = message.map_err(describe)?
                && events.send(ListenEvent::Payload(note.payload().to_owned())).await.is_err()
            {
                return Ok(());
            }
        }
        Err("the connection has ended".to_owned())
    };
    tokio::select! {
        ended = checks => ended,
        ended = receives => ended,
        () = events.closed() => Ok(()),
    }
}
