//! Messages of linked devices: accepted, refused or lost, and read by their recipients.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use wacore::messages::MessageUtils;
use wacore::types::jid::JidExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, JidExt as _, Node, NodeRef};

use crate::clock::unix_seconds;
use crate::faults::{Faults, Treatment, spend};
use crate::groups::kept_attributes;
use crate::network::{Connection, Network, Slot, State};
use crate::receipts;
use crate::received::{self, Received};
use crate::stanza::attr;

/// What happens to the connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Then {
    GoOn,
    HangUp,
}

/// Accepts a message stanza. Its recipients have it before its ack is sent.
pub fn accept(network: &Arc<Network>, node: &NodeRef<'_>, connection: &Connection, slot: &Slot) -> Result<Then> {
    let to: Jid = attr(node, "to").parse().map_err(|_| anyhow!("a message without a recipient"))?;
    let mut state = network.lock();
    let account = state.number_of(&to).unwrap_or_default();
    // A message of the device to its own phone is no message of the account's owner.
    let treatment = if attr(node, "category") == "peer" {
        Treatment::Take
    } else {
        state.counters.messages += 1;
        state.faults.next(&account)
    };
    match treatment {
        Treatment::Take => {
            let read = if to.is_group() || to.is_status_broadcast() {
                // Phones do not read groups.
                state.deliver_to_group(node, &to, slot)?;
                false
            } else {
                state.deliver(node, &to, slot)?
            };
            send_ack(&state, node, connection, slot, None);
            if read {
                receipts::announce(network, &mut state, node, slot);
            }
        }
        Treatment::Refuse(code) => send_ack(&state, node, connection, slot, Some(code)),
        Treatment::NoAck { delivered, hang_up } => {
            if hang_up && let Some(device) = state.devices.get_mut(slot) {
                // Later stanzas wait for the next connection.
                device.active = false;
            }
            if delivered && state.deliver(node, &to, slot)? {
                receipts::announce(network, &mut state, node, slot);
            }
            return Ok(if hang_up { Then::HangUp } else { Then::GoOn });
        }
    }
    Ok(Then::GoOn)
}

/// At once, or later on the same connection.
fn send_ack(state: &State, node: &NodeRef<'_>, connection: &Connection, slot: &Slot, refused_with: Option<u16>) {
    let ack = NodeBuilder::new("ack")
        .attr("class", "message")
        .attr("id", attr(node, "id"))
        .attr("from", attr(node, "to"))
        .attr("t", unix_seconds().to_string());
    let ack = match refused_with {
        Some(code) => ack.attr("error", code.to_string()).build(),
        None => match state.missed(node, slot) {
            Some(hash) => ack.attr("phash", hash).build(),
            None => ack.build(),
        },
    };
    let (delay, connection) = (state.faults.ack_delay, connection.clone());
    if delay.is_zero() {
        connection.send(ack);
    } else {
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            connection.send(ack);
        });
    }
}

/// An encrypted copy for one device.
pub struct Copy {
    pub to: Jid,
    pub kind: String,
    pub data: Vec<u8>,
    attributes: Vec<(&'static str, String)>,
}

impl State {
    /// Delivers every copy to its device. Returns whether the recipient's phone read one.
    fn deliver(&mut self, node: &NodeRef<'_>, to: &Jid, slot: &Slot) -> Result<bool> {
        let id = attr(node, "id");
        let sender = self.devices.get(slot).context("the device was unlinked")?.number.to_protocol_address();
        self.senders.insert(id.clone(), slot.clone());
        let mut read = None;
        let mut own_phone_saw_it = false;
        for copy in copies(node, to) {
            let Some(number) = self.number_of(&copy.to) else { continue };
            if copy.to.device != 0 {
                self.forward(node, slot, &Slot { phone: number, device: copy.to.device }, copy);
                continue;
            }
            let Some(phone) = self.people.get_mut(&number) else { continue };
            match phone.decrypt(&sender, &copy.kind, &copy.data) {
                Ok(message) if number == slot.phone => own_phone_saw_it |= message.device_sent_message.is_set(),
                Ok(message) => read = Some((number, message)),
                Err(e) => {
                    self.counters.undecryptable += 1;
                    tracing::warn!(id, error = format!("{e:#}"), "a message that its recipient cannot read");
                }
            }
        }
        let Some((number, message)) = read else { return Ok(false) };
        let faults = received::faults(&message);
        if !faults.is_empty() {
            self.counters.malformed += 1;
            tracing::warn!(id, ?faults, "a message that a phone cannot show");
        }
        self.inbox.push(Received { id, from: slot.phone.clone(), to: number, message, own_phone_saw_it });
        Ok(true)
    }

    /// The hash of all devices of the recipient, if some of them have no copy of a message.
    fn missed(&self, node: &NodeRef<'_>, slot: &Slot) -> Option<String> {
        let to: Jid = attr(node, "to").parse().ok()?;
        let number = self.number_of(&to).filter(|number| *number != slot.phone)?;
        let mut devices: Vec<Jid> = copies(node, &to).into_iter().map(|copy| copy.to).collect();
        let linked = self.devices.keys().filter(|slot| slot.phone == number).map(|slot| slot.device);
        let missed: Vec<Jid> = linked
            .filter(|device| !devices.iter().any(|jid| jid.user == to.user && jid.device == *device))
            .map(|device| to.with_device(device))
            .collect();
        if missed.is_empty() {
            return None;
        }
        devices.extend(missed);
        MessageUtils::participant_list_hash(&devices).ok()
    }

    /// Forwards a copy to a linked device.
    fn forward(&mut self, node: &NodeRef<'_>, from: &Slot, to: &Slot, copy: Copy) {
        let Some(sender) = self.devices.get(from) else { return };
        let named = name(&self.faults, &from.phone, sender.number.clone(), sender.lid.clone());
        let mut message = NodeBuilder::new("message")
            .attrs(named)
            .attr("id", attr(node, "id"))
            .attr("type", attr(node, "type"))
            .attr("t", unix_seconds().to_string())
            .attr("notify", "Peer");
        if to.phone == from.phone {
            message = message.attr("recipient", attr(node, "to"));
        }
        let message = message.attrs(kept_attributes(node));
        let inside = [self.envelope(copy)].into_iter().chain(kept_children(node));
        self.send(to, message.children(inside).build());
    }

    /// A copy as a part of a message to a device. The network may garble it.
    pub fn envelope(&mut self, mut copy: Copy) -> Node {
        if spend(&mut self.faults.garbled) {
            // Within what the authentication code covers; at the end of a first message are numbers of keys.
            let at = copy.data.len().saturating_sub(10);
            copy.data[at] ^= 1;
        }
        let encrypted = NodeBuilder::new("enc").attr("v", "2").attr("type", copy.kind).attrs(copy.attributes);
        encrypted.bytes(copy.data).build()
    }
}

impl Copy {
    pub fn new(to: Jid, kind: &str, data: Vec<u8>) -> Self {
        Self { to, kind: kind.to_owned(), data, attributes: Vec::new() }
    }
}

/// How a message names its sender.
pub fn name(faults: &Faults, sender: &str, number: Jid, lid: Jid) -> Vec<(&'static str, Jid)> {
    let is_among = |named: &[String]| named.iter().any(|named| named == sender);
    if is_among(&faults.hidden) {
        vec![("from", lid)]
    } else if is_among(&faults.by_lid) {
        vec![("from", lid), ("sender_pn", number)]
    } else {
        vec![("from", number), ("sender_lid", lid)]
    }
}

/// The parts of a message that its recipients get, too.
pub fn kept_children(node: &NodeRef<'_>) -> impl Iterator<Item = Node> {
    let kept = ["device-identity", "meta", "biz", "reporting"];
    kept.into_iter().filter_map(|tag| node.get_optional_child(tag)).map(NodeRef::to_owned)
}

/// The copies in a message stanza: one for the recipient, or one for each device.
pub fn copies(node: &NodeRef<'_>, to: &Jid) -> Vec<Copy> {
    let copy = |to: Jid, encrypted: &NodeRef<'_>| Copy {
        to,
        kind: attr(encrypted, "type"),
        data: encrypted.content_bytes().unwrap_or_default().to_vec(),
        attributes: ["mediatype", "decrypt-fail", "count"]
            .into_iter()
            .filter_map(|name| Some((name, encrypted.get_attr(name)?.as_str().into_owned())))
            .collect(),
    };
    let direct = node.get_optional_child("enc").map(|encrypted| copy(to.clone(), encrypted));
    let listed = node.get_optional_child("participants").into_iter().flat_map(|list| list.get_children_by_tag("to"));
    let listed = listed.filter_map(|to| {
        let jid = to.get_attr("jid").and_then(wacore_binary::node::ValueRef::to_jid)?;
        Some(copy(jid, to.get_optional_child("enc")?))
    });
    direct.into_iter().chain(listed).collect()
}
