//! What other nodes tell: the one connection that keeps something of its own, so it needs the database itself, not a
//! pooler.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_postgres::AsyncMessage;

use crate::nodes::Heard;
use crate::sqlkit::postgres::hosts::Hosts;

/// The wait before a lost connection is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How often a connection that says nothing is asked whether it still is one.
const ASK: Duration = Duration::from_secs(5);

/// Listens until nobody hears any more.
pub(super) async fn listen(url: String, heard: mpsc::Sender<Heard>) {
    while !heard.is_closed() {
        if let Err(error) = once(&url, &heard).await {
            tracing::warn!(error, "LISTEN connection down; polling every second");
        }
        if heard.send(Heard::End).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn once(url: &str, heard: &mpsc::Sender<Heard>) -> Result<(), String> {
    let in_words = |error: tokio_postgres::Error| recado_domain::error_chain::causes(&error);
    let hosts = Hosts::parse(url, "").map_err(|error| error.to_string())?;
    let (client, mut connection) = hosts.connect().await.map_err(|error| format!("{error:#}"))?;
    let mut messages = Box::pin(stream::poll_fn(move |context| connection.poll_message(context)));
    let asks = async {
        client.batch_execute("listen recado").await.map_err(in_words)?;
        drop(heard.send(Heard::Begin).await);
        loop {
            tokio::time::sleep(ASK).await;
            let answer = tokio::time::timeout(ASK, client.batch_execute("select 1")).await;
            answer.map_err(|_| "no answer".to_owned())?.map_err(in_words)?;
        }
    };
    let receives = async {
        while let Some(message) = messages.next().await {
            if let AsyncMessage::Notification(note) = message.map_err(in_words)?
                && heard.send(Heard::Text(note.payload().to_owned())).await.is_err()
            {
                return Ok(());
            }
        }
        Err("the connection has ended".to_owned())
    };
    tokio::select! {
        ended = asks => ended,
        ended = receives => ended,
        () = heard.closed() => Ok(()),
    }
}
