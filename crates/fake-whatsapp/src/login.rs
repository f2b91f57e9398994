//! The session of a linked device: welcome or refusal, the queue, and what it then says.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use wacore::handshake::NoiseCipher;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};

use crate::clock::unix_seconds;
use crate::connection::conflict;
use crate::faults::ConnectFailure;
use crate::network::{Line, Network, Slot, State, Typing};
use crate::stanza::{HOST, attr, brief};
use crate::wire::Wire;
use crate::{iq, messages, receipts};

/// Said instead of a welcome; attributes as `wacore::stanza::connect_failure` reads them.
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

/// All that a linked device says, until the connection ends.
pub async fn session(
    network: &Arc<Network>,
    wire: &mut Wire,
    key: &NoiseCipher,
    line: &Line,
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
                iq::answer(network, &node, line, slot);
                if attr(&node, "xmlns") == "passive" && node.get_optional_child("active").is_some() {
                    activate(network, line, slot).await?;
                }
            }
            "message" if messages::take(network, &node, line, slot)? == messages::Then::HangUp => return Ok(()),
            "receipt" => receipts::take(&mut network.lock(), &node, line, slot),
            "presence" => network.lock().note_presence(&node, slot),
            "chatstate" => network.lock().note_typing(&node, slot),
            _ => {}
        }
    }
}

/// Gives a device that takes messages now what waited for it.
async fn activate(network: &Arc<Network>, line: &Line, slot: &Slot) -> Result<()> {
    let (count, pause) = {
        let mut state = network.lock();
        let pause = state.faults.greeting_delay;
        let device = state.devices.get_mut(slot).context("the device was unlinked")?;
        let waiting = std::mem::take(&mut device.queue);
        // Messages wait on until they are confirmed.
        device.queue = waiting.iter().filter(|stanza| stanza.tag == "message").cloned().collect();
        let count = waiting.len();
        if count > 0 {
            line.send(preview(count, device.queue.len()));
        }
        for mut stanza in waiting {
            stanza.attrs.insert("offline", "0");
            line.send(stanza);
        }
        // From here on what comes goes out behind the queue.
        device.active = true;
        (count, pause)
    };
    if count > 0 {
        // Baileys 6 holds back a queued message that it still deciphers when the end of the queue is announced.
        tokio::time::sleep(pause).await;
    }
    let end = NodeBuilder::new("offline").attr("count", count.to_string()).build();
    line.send(NodeBuilder::new("ib").children([end]).build());
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
    /// Welcomes a linked device and replaces its former connection, or says that it is not linked.
    pub fn log_in(&mut self, slot: &Slot, line: &Line) -> bool {
        let Some(device) = self.devices.get_mut(slot) else {
            line.send(failure(&ConnectFailure::new(401)));
            return false;
        };
        device.active = false;
        device.shown_online = false;
        if let Some(former) = device.line.replace(line.clone()) {
            former.send(conflict(None, "replaced"));
            former.close();
        }
        let welcome = NodeBuilder::new("success")
            .attr("t", unix_seconds().to_string())
            .attr("lid", device.lid.clone())
            .attr("props", "1");
        line.send(welcome.build());
        true
    }

    /// A connection ended.
    pub fn forget_line(&mut self, line: &Line) {
        self.codes_shown.retain(|_, shown_on| !shown_on.is(line));
        self.code_offers.retain(|offer| !offer.line.is(line));
        self.linking.retain(|(linking, _)| !linking.is(line));
        for device in self.devices.values_mut() {
            if device.line.as_ref().is_some_and(|current| current.is(line)) {
                device.line = None;
                device.active = false;
            }
        }
    }

    /// Says something to an account's linked devices.
    pub fn tell(&mut self, number: &str, stanza: &Node) {
        for (_, device) in self.devices_of(number) {
            if let Some(line) = &device.line {
                line.send(stanza.clone());
            }
        }
    }

    /// Ends the connections of an account's linked devices, with a last word or without.
    pub fn end_connections(&mut self, number: &str, last_word: Option<&Node>) {
        for (_, device) in self.devices_of(number) {
            device.active = false;
            if let Some(line) = device.line.take() {
                if let Some(word) = last_word {
                    line.send(word.clone());
                }
                line.close();
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
