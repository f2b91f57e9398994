//! Delivery and read receipts.

use std::sync::Arc;

use serde::Deserialize;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};

use crate::clock::unix_seconds;
use crate::network::{Connection, Network, Slot, State};
use crate::stanza::attr;
use crate::{media, retries};

/// The recipient's phone sends receipts to the sending device: delivered, then read; at once or later.
pub fn announce(network: &Arc<Network>, state: &mut State, node: &NodeRef<'_>, slot: &Slot) {
    let faults = &state.faults;
    let (delay, each) = (faults.receipt_delay, faults.extra_receipts as usize + 1);
    // A receipt without a type is a delivery receipt.
    let kinds: &[&str] = match (faults.no_receipts, faults.no_read) {
        (true, _) => &[],
        (false, true) => &[""],
        (false, false) => &["", "read"],
    };
    let (from, id) = (attr(node, "to"), attr(node, "id"));
    let receipts = kinds.iter().flat_map(|kind| vec![receipt(&from, &id, kind); each]);
    if delay.is_zero() {
        receipts.for_each(|receipt| _ = state.send(slot, receipt));
        return;
    }
    let (network, slot, receipts) = (network.clone(), slot.clone(), receipts.collect::<Vec<_>>());
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        let mut state = network.lock();
        for receipt in receipts {
            state.send(&slot, receipt);
        }
    });
}

/// A linked device reported that messages were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadReceipt {
    /// The account.
    pub from: String,
    /// The address of the chat.
    pub chat: String,
    /// The author within a group.
    pub author: Option<String>,
    pub ids: Vec<String>,
}

/// A receipt with any content, for any message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeUp {
    /// The address of the author: of a person, by number or LID, of a group, or `status@broadcast`.
    pub from: String,
    pub id: String,
    /// Empty for delivered.
    #[serde(default)]
    pub kind: String,
    /// The author within a group.
    #[serde(default)]
    pub participant: Option<String>,
    /// Unix seconds; now if omitted.
    #[serde(default)]
    pub at: Option<u64>,
}

impl MadeUp {
    pub fn new(from: &str, id: &str, kind: &str) -> Self {
        Self { from: from.to_owned(), id: id.to_owned(), kind: kind.to_owned(), participant: None, at: None }
    }

    pub fn stanza(&self) -> Node {
        let mut node = receipt(&self.from, &self.id, &self.kind);
        if let Some(participant) = &self.participant {
            node.attrs.insert("participant", participant.as_str());
        }
        if let Some(at) = self.at {
            node.attrs.insert("t", at.to_string());
        }
        node
    }
}

fn receipt(from: &str, id: &str, kind: &str) -> Node {
    let mut receipt =
        NodeBuilder::new("receipt").attr("from", from).attr("id", id).attr("t", unix_seconds().to_string());
    if !kind.is_empty() {
        receipt = receipt.attr("type", kind);
    }
    receipt.build()
}

/// A linked device acknowledges what it received.
pub fn accept(state: &mut State, node: &NodeRef<'_>, connection: &Connection, slot: &Slot) {
    let mut ids = vec![attr(node, "id")];
    if let Some(list) = node.get_optional_child("list") {
        ids.extend(list.get_children_by_tag("item").map(|item| attr(item, "id")));
    }
    let kind = attr(node, "type");
    state.receipts.extend(ids.iter().map(|id| (slot.clone(), id.clone(), kind.clone())));
    if kind == "read" {
        let (chat, author) = (attr(node, "to"), attr(node, "participant"));
        let author = (!author.is_empty()).then_some(author);
        state.reads.push(ReadReceipt { from: slot.phone.clone(), chat, author, ids: ids.clone() });
    }
    match kind.as_str() {
        // The device asks for the message again, so it does not have it.
        "retry" => retries::ask(state, node, slot, &ids),
        "server-error" => media::ask(state, node, slot),
        kind => state.acknowledge(slot, &ids, format!("receipt {kind}").trim_end()),
    }
    if kind != "retry" {
        forward(state, node, slot, ids);
    }
    let ack =
        NodeBuilder::new("ack").attr("class", "receipt").attr("id", attr(node, "id")).attr("from", attr(node, "to"));
    connection.send(ack.build());
}

fn forward(state: &mut State, node: &NodeRef<'_>, slot: &Slot, ids: Vec<String>) {
    // Forwarded to the linked device that sent it, if there is one, and to no other device of the account.
    let from = Jid::pn_device(slot.phone.as_str(), slot.device).to_string();
    for id in ids {
        if let Some(sender) = state.senders.get(&id).cloned()
            && sender.phone != slot.phone
        {
            state.send(&sender, receipt(&from, &id, &attr(node, "type")));
        }
    }
}
