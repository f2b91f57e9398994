//! The session of a linked device: welcome or refusal, the offline queue, and its later stanzas.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use wacore::handshake::NoiseCipher;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};

use crate::clock::unix_seconds;
use crate::connection::conflict;
use crate::faults::ConnectFailure;
use crate::network::{Connection, Network, Slot, State, Typing};
use crate::stanza::{HOST, attr, brief};
use crate::wire::Wire;
use crate::{iq, messages, receipts};

/// The answer instead of a welcome; attributes as `wacore::stanza::connect_failure` reads them.
pub fn failure(failure: &ConnectFailure) -> Node {
    let mut node = NodeBuilder::new("failure").attr("reason", failure.reason.to_string());
    if let Some(code) = failure.code {
        node = node.attr("code", code.to_string());
    }
    if let Some(seconds) = failure.expire {
        node = node.attr("expire", seconds.to_string());
    }
    node.build()
}

/// Handles the stanzas of a linked device, until the connection ends.
pub async fn session(
    network: &Arc<Network>,
    wire: &mut Wire,
    key: &NoiseCipher,
    connection: &Connection,
    slot: &Slot,
) -> Result<()> {
    loop {
        let bytes = wire.stanza(key).await?;
        let node = wacore_binary::marshal::unmarshal_ref(&bytes)?;
        tracing::debug!(stanza = brief(&node), "received");
        if let Some(trace) = &mut network.lock().trace {
            trace.push(format!("{}:{} {}", slot.phone, slot.device, brief(&node)));
        }
        match node.tag.as_ref() {
            "iq" => {
                iq::answer(network, &node, connection, slot);
                if attr(&node, "xmlns") == "passive" && node.get_optional_child("active").is_some() {
                    activate(network, connection, slot).await?;
                }
            }
            "message" if messages::accept(network, &node, connection, slot)? == messages::Then::HangUp => return Ok(()),
            "receipt" => receipts::accept(&mut network.lock(), &node, connection, slot),
            "ack" if attr(&node, "class") == "message" => {
                let by = format!("ack {}", attr(&node, "error"));
                network.lock().acknowledge(slot, &[attr(&node, "id")], by.trim_end());
            }
            "presence" => network.lock().note_presence(&node, slot),
            "chatstate" => network.lock().note_typing(&node, slot),
            _ => {}
        }
    }
}

/// Sends a device that now receives messages what waited for it.
async fn activate(network: &Arc<Network>, connection: &Connection, slot: &Slot) -> Result<()> {
    let (count, pause) = {
        let mut state = network.lock();
        let pause = state.faults.greeting_delay;
        let device = state.devices.get_mut(slot).context("the device was unlinked")?;
        let waiting = std::mem::take(&mut device.queue);
        // Messages wait until they are acknowledged.
        device.queue = waiting.iter().filter(|stanza| stanza.tag == "message").cloned().collect();
        let count = waiting.len();
        if count > 0 {
            connection.send(preview(count, device.queue.len()));
        }
        // From here on new stanzas are sent after the queue.
        device.active = true;
        for mut stanza in state.arranged(waiting) {
            stanza.attrs.insert("offline", "0");
            connection.send(stanza);
        }
        (count, pause)
    };
    if count > 0 {
        // Baileys 6 withholds a queued message that it is still decrypting when the end of the queue is announced.
        tokio::time::sleep(pause).await;
    }
    let end = NodeBuilder::new("offline").attr("count", count.to_string()).build();
    connection.send(NodeBuilder::new("ib").children([end]).build());
    network.lock().share_key_once(slot);
    Ok(())
}

fn preview(count: usize, messages: usize) -> Node {
    let preview = NodeBuilder::new("offline_preview")
        .attr("count", count.to_string())
        .attr("message", messages.to_string())
        .attr("receipt", (count - messages).to_string());
    NodeBuilder::new("ib").children([preview.build()]).build()
}

impl State {
    /// Welcomes a linked device and replaces its former connection, or reports that it is not linked.
    pub fn log_in(&mut self, slot: &Slot, connection: &Connection) -> bool {
        let Some(device) = self.devices.get_mut(slot) else {
            connection.send(failure(&ConnectFailure::new(401)));
            return false;
        };
        device.active = false;
        device.shown_online = false;
        if let Some(former) = device.connection.replace(connection.clone()) {
            former.send(conflict(None, "replaced"));
            former.close();
        }
        let welcome = NodeBuilder::new("success")
            .attr("t", unix_seconds().to_string())
            .attr("lid", device.lid.clone())
            .attr("props", "1");
        connection.send(welcome.build());
        true
    }

    /// Forgets a connection that has ended.
    pub fn forget_connection(&mut self, connection: &Connection) {
        self.codes_shown.retain(|_, shown_on| !shown_on.is(connection));
        self.code_offers.retain(|offer| !offer.connection.is(connection));
        self.linking.retain(|(linking, _)| !linking.is(connection));
        for device in self.devices.values_mut() {
            if device.connection.as_ref().is_some_and(|current| current.is(connection)) {
                device.connection = None;
                device.active = false;
            }
        }
    }

    /// Sends a stanza to an account's linked devices.
    pub fn send_to_devices(&mut self, number: &str, stanza: &Node) {
        for (_, device) in self.devices_of(number) {
            if let Some(connection) = &device.connection {
                connection.send(stanza.clone());
            }
        }
    }

    /// Closes the connections of an account's linked devices, optionally after a last stanza.
    pub fn end_connections(&mut self, number: &str, last_word: Option<&Node>) {
        for (_, device) in self.devices_of(number) {
            device.active = false;
            if let Some(connection) = device.connection.take() {
                if let Some(word) = last_word {
                    connection.send(word.clone());
                }
                connection.close();
            }
        }
    }

    fn note_presence(&mut self, node: &NodeRef<'_>, slot: &Slot) {
        self.counters.presences += 1;
        if let Some(device) = self.devices.get_mut(slot) {
            device.shown_online = attr(node, "type") == "available";
        }
    }

    fn note_typing(&mut self, node: &NodeRef<'_>, slot: &Slot) {
        let to = attr(node, "to");
        let to = to.parse().ok().and_then(|jid| self.number_of(&jid)).unwrap_or(to);
        let on = node.get_optional_child("composing").is_some();
        self.typing.push(Typing { from: slot.phone.clone(), to, on });
    }
}

/// An answer of the network itself.
pub fn result(id: &str) -> NodeBuilder {
    NodeBuilder::new("iq").attr("from", HOST).attr("id", id).attr("type", "result")
}
