//! Queries to the network. An unknown query gets an empty answer, because clients of newer versions send more of them.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;
use wacore::iq::mex_operations::fetch_reachout_timelock;
use wacore_binary::builder::NodeBuilder;
use wacore_binary::{Node, NodeRef};

use crate::login::result;
use crate::media;
use crate::network::{Connection, Network, Slot, State};
use crate::stanza::{HOST, attr};

pub fn answer(network: &Arc<Network>, node: &NodeRef<'_>, connection: &Connection, slot: &Slot) {
    let id = attr(node, "id");
    if ["result", "error"].contains(&attr(node, "type").as_str()) {
        return;
    }
    let mut state = network.lock();
    let logs_out = attr(node, "xmlns") == "md" && node.get_optional_child("remove-companion-device").is_some();
    if logs_out && state.faults.swallows_log_out() {
        return;
    }
    let keys = node.get_optional_child("key").filter(|_| attr(node, "xmlns") == "encrypt");
    let answer = match keys.and_then(|asked| state.refuses_keys(asked)) {
        Some(code) => Err((code, "refused".to_owned())),
        None => state.reply(node, slot).map_err(|error| (404, error.to_string())),
    };
    match answer {
        Ok(children) => connection.send(result(&id).children(children).build()),
        Err((code, text)) => {
            let error = NodeBuilder::new("error").attr("code", code.to_string()).attr("text", text).build();
            let reply = NodeBuilder::new("iq").attr("from", HOST).attr("id", id).attr("type", "error");
            connection.send(reply.children([error]).build())
        }
    };
    if logs_out {
        state.devices.remove(slot);
        connection.close();
    }
}

impl State {
    fn reply(&mut self, node: &NodeRef<'_>, slot: &Slot) -> Result<Vec<Node>> {
        let leaf = |tag: &'static str| Ok(vec![NodeBuilder::new(tag).build()]);
        match attr(node, "xmlns").as_str() {
            "encrypt" => self.about_keys(node, slot),
            "w:m" => Ok(vec![media::hosts(&self.address)]),
            "w:g2" => self.about_groups(node, slot),
            "usync" => Ok(vec![self.synchronise(node)?]),
            "w:mex" => self.graph_query(node),
            "w:sync:app:state" => empty_app_state(node),
            "abt" => Ok(vec![NodeBuilder::new("props").attr("protocol", "1").attr("hash", "x").build()]),
            "blocklist" => leaf("list"),
            "privacy" => leaf("privacy"),
            _ => Ok(vec![]),
        }
    }

    /// Whether the account may open new chats: `fetch_reachout_timelock`, as in `wacore::iq::mex_operations`.
    fn graph_query(&self, node: &NodeRef<'_>) -> Result<Vec<Node>> {
        let query = node.get_optional_child("query").context("no query")?;
        if attr(query, "query_id") != fetch_reachout_timelock::DOC_ID {
            return Ok(vec![]);
        }
        let lock = fetch_reachout_timelock::Xwa2FetchAccountReachoutTimelock {
            enforcement_type: self.restricted_until.map(|_| "DEFAULT".to_owned()),
            is_active: Some(self.restricted_until.is_some()),
            time_enforcement_ends: self.restricted_until.map(|time| time.to_string()),
        };
        let answer = json!({ "data": { "xwa2_fetch_account_reachout_timelock": lock } }).to_string();
        Ok(vec![NodeBuilder::new("result").bytes(answer.into_bytes()).build()])
    }
}

/// Contacts, settings and the like, which this network does not store.
fn empty_app_state(node: &NodeRef<'_>) -> Result<Vec<Node>> {
    let asked = node.get_optional_child("sync").context("no sync")?.get_children_by_tag("collection");
    let collections: Vec<Node> = asked
        .map(|asked| NodeBuilder::new("collection").attr("name", attr(asked, "name")).attr("version", "0").build())
        .collect();
    Ok(vec![NodeBuilder::new("sync").children(collections).build()])
}
