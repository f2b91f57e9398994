//! One connection, from its handshake to its end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep, timeout};
use tokio_websockets::{Message, ServerBuilder};
use wacore::handshake::NoiseCipher;
use wacore_binary::builder::NodeBuilder;

use crate::login;
use crate::network::{Connection, Network, Out, Slot};
use crate::noise::{Secured, handshake};
use crate::pairing;
use crate::stanza::brief;
use crate::wire::{Sink, Wire, frame};

/// How long a client may take to end after it was asked to.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub async fn serve(network: Arc<Network>, tcp: TcpStream) -> Result<()> {
    tcp.set_nodelay(true)?;
    let (_, socket) = ServerBuilder::new().accept(tcp).await?;
    let (mut sink, stream) = socket.split();
    let mut wire = Wire::new(stream);
    let Secured { payload, from_client, to_client } = handshake(&network, &mut sink, &mut wire).await?;
    let greeting_delay = {
        let mut state = network.lock();
        state.counters.connections += 1;
        state.connected_at.push(Instant::now());
        state.faults.greeting_delay
    };
    let (connection, out) = Connection::new();
    let writer = tokio::spawn(async move {
        sleep(greeting_delay).await;
        write(sink, &to_client, out).await
    });
    let ended = converse(&network, &mut wire, &from_client, &connection, &payload).await;
    network.lock().forget_connection(&connection);
    connection.close();
    drop(connection);
    // An unwritten stanza is part of the simulation.
    let _ = writer.await;
    ended
}

async fn write(mut sink: Sink, key: &NoiseCipher, mut out: UnboundedReceiver<Out>) -> Result<()> {
    let mut encrypted = 0;
    while let Some(Out::Stanza(node)) = out.recv().await {
        tracing::debug!(stanza = brief(&node.as_node_ref()), "sent");
        let cipher = key.encrypt_with_counter(encrypted, &wacore_binary::marshal(&node)?)?;
        encrypted += 1;
        sink.send(Message::binary(frame(&cipher))).await?;
    }
    Ok(sink.close().await?)
}

async fn converse(
    network: &Arc<Network>,
    wire: &mut Wire,
    key: &NoiseCipher,
    connection: &Connection,
    payload: &waproto::whatsapp::ClientPayload,
) -> Result<()> {
    if let Some(failure) = network.lock().faults.connect_failure.clone() {
        connection.send(login::failure(&failure));
    } else if let Some(number) = payload.username {
        let device = u16::try_from(payload.device.unwrap_or(0)).map_err(|_| anyhow!("a device past 65535"))?;
        let slot = Slot { phone: number.to_string(), device };
        if network.lock().faults.stalled_logins.contains(&slot.phone) {
            wire.drain().await;
            return Ok(());
        }
        let welcome = network.lock().log_in(&slot, connection);
        if welcome {
            return login::session(network, wire, key, connection, &slot).await;
        }
    } else {
        pairing::converse(network, wire, key, connection).await?;
    }
    let _ = timeout(CLOSE_TIMEOUT, wire.drain()).await;
    Ok(())
}

/// `<stream:error>` with a code. The network ends the connection after most of them.
pub fn stream_error(code: u16) -> wacore_binary::Node {
    NodeBuilder::new("stream:error").attr("code", code.to_string()).build()
}

/// `<stream:error>` with a conflict of this kind, which ends a connection.
pub fn conflict(code: Option<&str>, kind: &str) -> wacore_binary::Node {
    let mut error = NodeBuilder::new("stream:error");
    if let Some(code) = code {
        error = error.attr("code", code);
    }
    error.children([NodeBuilder::new("conflict").attr("type", kind).build()]).build()
}
