//! The accounts of numbers and LIDs, and their devices. Shapes as in `wacore::usync`.

use anyhow::{Context as _, Result};
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Jid, Node, NodeRef};
use waproto::buffa::Message as _;
use waproto::whatsapp as wa;

use crate::clock::unix_seconds;
use crate::network::State;
use crate::stanza::attr;

impl State {
    pub fn synchronise(&mut self, node: &NodeRef<'_>) -> Result<Node> {
        let usync = node.get_optional_child("usync").context("no usync")?;
        let query = usync.get_optional_child("query");
        let wanted = |tag: &str| query.is_some_and(|query| query.get_optional_child(tag).is_some());
        let wanted = Wanted { contact: wanted("contact"), lid: wanted("lid"), devices: wanted("devices") };
        let mut users = Vec::new();
        for user in usync.get_optional_child("list").context("no list")?.get_children_by_tag("user") {
            users.extend(self.about_user(user, &wanted));
        }
        Ok(NodeBuilder::new("usync")
            .attr("sid", attr(usync, "sid"))
            .attr("mode", attr(usync, "mode"))
            .attr("context", attr(usync, "context"))
            .children([NodeBuilder::new("list").children(users).build()])
            .build())
    }

    /// Requested by address, or by a number as a person typed it.
    fn about_user(&mut self, user: &NodeRef<'_>, wanted: &Wanted) -> Option<Node> {
        let typed = user.get_optional_child("contact").and_then(NodeRef::content_as_string);
        let typed = typed.map(|number| number.trim_start_matches('+').to_owned());
        let jid = match (user.get_attr("jid").and_then(wacore_binary::node::ValueRef::to_jid), &typed) {
            (Some(jid), _) => jid.to_non_ad(),
            (None, Some(number)) => {
                *self.lookups.entry(number.clone()).or_default() += 1;
                if self.faults.withheld_accounts.contains(number) {
                    return None;
                }
                Jid::pn(self.aliases.get(number).unwrap_or(number).as_str())
            }
            (None, None) => return None,
        };
        let number = self.number_of(&jid);
        let person = number.as_ref().and_then(|number| self.people.get(number));
        let mut parts = Vec::new();
        if wanted.contact {
            let found = NodeBuilder::new("contact").attr("type", if person.is_some() { "in" } else { "out" });
            let found = match typed {
                Some(number) => found.bytes(format!("+{number}").into_bytes()),
                None => found,
            };
            parts.push(found.build());
        }
        if let Some(person) = person {
            if wanted.lid {
                parts.push(NodeBuilder::new("lid").attr("val", person.lid.clone()).build());
            }
            if wanted.devices && number.as_ref().is_none_or(|number| !self.faults.no_devices.contains(number)) {
                let linked = self.devices.keys().filter(|slot| Some(&slot.phone) == number.as_ref());
                let linked: Vec<u16> = linked.map(|slot| slot.device).collect();
                parts.push(devices(&linked));
            }
        }
        Some(NodeBuilder::new("user").attr("jid", jid).children(parts).build())
    }
}

struct Wanted {
    contact: bool,
    lid: bool,
    devices: bool,
}

/// The phone itself, which is device 0, and its linked devices.
fn devices(linked: &[u16]) -> Node {
    let device = |id: u16| NodeBuilder::new("device").attr("id", id.to_string());
    let keyed = linked.iter().map(|id| device(*id).attr("key-index", id.to_string()).build());
    let list = std::iter::once(device(0).build()).chain(keyed);
    let mut parts = vec![NodeBuilder::new("device-list").children(list).build()];
    if let Some(highest) = linked.iter().max() {
        let index = wa::ADVKeyIndexList {
            raw_id: Some(7),
            timestamp: Some(unix_seconds()),
            current_index: Some(u32::from(*highest)),
            valid_indexes: std::iter::once(0).chain(linked.iter().map(|id| u32::from(*id))).collect(),
            ..Default::default()
        };
        let signed = wa::ADVSignedKeyIndexList { details: Some(index.encode_to_vec()), ..Default::default() };
        let list = NodeBuilder::new("key-index-list").attr("ts", unix_seconds().to_string());
        parts.push(list.bytes(signed.encode_to_vec()).build());
    }
    NodeBuilder::new("devices").children(parts).build()
}
