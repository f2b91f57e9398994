//! Messages that a device could not decrypt, and that their authors send again.

use wacore::types::jid::JidExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, NodeRef};

use crate::network::{Slot, State};
use crate::stanza::attr;

/// A device asks the author for a message again.
pub fn ask(state: &mut State, node: &NodeRef<'_>, slot: &Slot, ids: &[String]) {
    if state.faults.no_retries {
        return;
    }
    for id in ids {
        if let Some(spoken) = state.spoken.get(id).cloned() {
            let again = state.forget_session(&spoken.contact, slot);
            if let Err(error) = again.map_or(Ok(()), |()| state.speak(slot, id, &spoken)) {
                tracing::warn!(error = format!("{error:#}"), "a message that is not sent again");
            }
        } else if let Some(sender) = state.senders.get(id).cloned() {
            forward(state, node, id, slot, &sender);
        }
    }
}

/// Passes the request to the linked device that sent the message.
fn forward(state: &mut State, node: &NodeRef<'_>, id: &str, from: &Slot, to: &Slot) {
    let device = Jid::pn_device(from.phone.as_str(), from.device);
    let group: Option<Jid> = attr(node, "to").parse().ok().filter(|to: &Jid| to.server.as_str() == "g.us");
    let receipt = NodeBuilder::new("receipt").attr("id", id).attr("type", "retry").attr("t", attr(node, "t"));
    let receipt = match group {
        Some(group) => receipt.attr("from", group).attr("participant", device),
        None => receipt.attr("from", device),
    };
    let inside = node.children().into_iter().flatten().map(NodeRef::to_owned);
    state.send(to, receipt.children(inside).build());
}

impl State {
    /// A phone opens a new session for its next message to the device.
    fn forget_session(&mut self, contact: &str, slot: &Slot) -> Option<()> {
        let address = self.devices.get(slot)?.number.to_protocol_address();
        self.people.get_mut(contact)?.forget_session(&address);
        Some(())
    }
}
