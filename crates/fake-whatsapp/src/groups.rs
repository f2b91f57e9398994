//! Groups: what the network says of them, and messages in them. Shapes as in `wacore::iq::groups`.

use anyhow::{Context as _, Result};
use wacore::types::jid::JidExt as _;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};

use crate::clock::unix_seconds;
use crate::messages::{Copy, copies, kept_children};
use crate::network::{Slot, State};
use crate::stanza::attr;

#[derive(Clone, Debug)]
pub struct Group {
    pub subject: String,
    /// The accounts, as digits.
    pub members: Vec<String>,
    /// Members are named by their LID, else by their number.
    pub by_lid: bool,
}

impl State {
    /// Answers a question about one group, or about all groups of an account.
    pub fn about_groups(&self, node: &NodeRef<'_>, slot: &Slot) -> Result<Vec<Node>> {
        if node.get_optional_child("participating").is_some() {
            let own = self.groups.iter().filter(|(_, group)| group.members.contains(&slot.phone));
            let groups = own.map(|(id, group)| self.describe(id, group));
            return Ok(vec![NodeBuilder::new("groups").children(groups).build()]);
        }
        let to: Jid = attr(node, "to").parse().ok().context("not an address")?;
        let id = to.user.as_str();
        let group = self.groups.get(id).context("no such group")?;
        Ok(vec![self.describe(id, group)])
    }

    fn describe(&self, id: &str, group: &Group) -> Node {
        let member = |number: &String| {
            let phone = self.people.get(number)?;
            let member = NodeBuilder::new("participant");
            Some(if group.by_lid {
                member.attr("jid", phone.lid.clone()).attr("phone_number", phone.number.clone()).build()
            } else {
                member.attr("jid", phone.number.clone()).attr("lid", phone.lid.clone()).build()
            })
        };
        let now = unix_seconds().to_string();
        NodeBuilder::new("group")
            .attr("id", id)
            .attr("subject", group.subject.as_str())
            .attr("creation", now.as_str())
            .attr("s_t", now.as_str())
            .attr("size", group.members.len().to_string())
            .attr("addressing_mode", mode(group.by_lid))
            .children(group.members.iter().filter_map(member))
            .build()
    }

    /// Delivers a message of a linked device to a group or to its status.
    pub fn deliver_to_group(&mut self, node: &NodeRef<'_>, to: &Jid, slot: &Slot) -> Result<()> {
        let sender = self.devices.get(slot).context("the device was unlinked")?.number.to_protocol_address();
        let mut listed = Vec::new();
        // Sent again to one device.
        let only = node.get_attr("participant").and_then(wacore_binary::node::ValueRef::to_jid);
        for copy in copies(node, only.as_ref().unwrap_or(to)) {
            let Some(number) = self.number_of(&copy.to).filter(|_| copy.kind != "skmsg") else { continue };
            if copy.to.device != 0 {
                listed.push((Slot { phone: number, device: copy.to.device }, copy));
            } else if let Some(phone) = self.people.get_mut(&number)
                && phone.decrypt(&sender, &copy.kind, &copy.data).is_err()
            {
                self.counters.undecryptable += 1;
            }
        }
        for member in self.members(to, slot, only.is_some(), &listed) {
            let copy = listed.iter().position(|(device, _)| *device == member).map(|at| listed.swap_remove(at).1);
            self.forward_in_group(node, to, slot, (&member, copy));
        }
        Ok(())
    }

    /// The devices that a message reaches.
    fn members(&self, to: &Jid, from: &Slot, again: bool, listed: &[(Slot, Copy)]) -> Vec<Slot> {
        match self.groups.get(to.user.as_str()).filter(|_| !again) {
            Some(group) => {
                let devices = self.devices.keys().filter(|slot| *slot != from && group.members.contains(&slot.phone));
                devices.cloned().collect()
            }
            None => listed.iter().map(|(slot, _)| slot.clone()).collect(),
        }
    }

    fn forward_in_group(&mut self, node: &NodeRef<'_>, to: &Jid, from: &Slot, (member, copy): (&Slot, Option<Copy>)) {
        let Some(sender) = self.devices.get(from) else { return };
        let (number, lid) = (sender.number.clone(), sender.lid.clone());
        let by_lid = self.groups.get(to.user.as_str()).is_none_or(|group| group.by_lid);
        let message = NodeBuilder::new("message")
            .attr("from", to.clone())
            .attr("id", attr(node, "id"))
            .attr("type", attr(node, "type"))
            .attr("t", unix_seconds().to_string())
            .attr("notify", "Peer");
        let message = author(message, (number, lid), by_lid, self.faults.hidden.contains(&from.phone));
        let message = message.attrs(kept_attributes(node));
        let own = copy.map(|copy| self.envelope(copy));
        let shared = node.get_optional_child("enc").filter(|encrypted| attr(encrypted, "type") == "skmsg");
        let inside = own.into_iter().chain(shared.map(NodeRef::to_owned)).chain(kept_children(node));
        self.send(member, message.children(inside).build());
    }
}

fn mode(by_lid: bool) -> &'static str {
    if by_lid { "lid" } else { "pn" }
}

/// Names the author of a message in a group.
pub fn author(message: NodeBuilder, (number, lid): (Jid, Jid), by_lid: bool, hidden: bool) -> NodeBuilder {
    let message = message.attr("addressing_mode", mode(by_lid || hidden));
    match (by_lid || hidden, hidden) {
        (true, true) => message.attr("participant", lid),
        (true, false) => message.attr("participant", lid).attr("participant_pn", number),
        (false, _) => message.attr("participant", number).attr("participant_lid", lid),
    }
}

/// The attributes of a message that its recipients get, too.
pub fn kept_attributes(node: &NodeRef<'_>) -> Vec<(&'static str, String)> {
    let value = |name| Some((name, node.get_attr(name)?.as_str().into_owned()));
    ["edit", "expiration"].into_iter().filter_map(value).collect()
}
