//! Several nodes on one PostgreSQL, each in its own process.

mod audit;
mod cloud;
mod cut_off;
mod limits;
mod nodes;
mod primary;
mod rolling;
mod secret_key;
mod stopped_start;
mod webhooks;

use std::time::Duration;

use serde_json::Value;
use test_postgres::Database;

use crate::harness::{Home, Server, wait_for};
use crate::webhooks::LOOPBACK;

/// Longer than the lease of a silent node, and the time until another node acquires its channels.
pub const LOSS: Duration = Duration::from_secs(15);

/// A database with an institution, for nodes.
pub struct Place {
    pub database: Database,
    pub home: Home,
}

impl Place {
    pub fn new() -> Self {
        let database = Database::new();
        let home = Home::on_postgres(database.url());
        Self { database, home }
    }

    /// Starts a node.
    pub fn start(&self, name: &str, flags: &[&str]) -> Server {
        let mut node = self.home.node(name);
        node.database = Some(self.url_of(name));
        node.serve_with(&[&["--node-name", name], flags].concat())
    }

    /// Starts a node on this address, which a load balancer knows.
    pub fn start_at(&self, name: &str, address: &str, flags: &[&str]) -> Server {
        let mut node = self.home.node(name);
        node.database = Some(self.url_of(name));
        node.serve_at(address, &[&["--node-name", name], flags].concat())
    }

    /// Starts a node whose webhooks may lead to this machine.
    pub fn start_with_webhooks(&self, name: &str) -> Server {
        let mut node = self.home.node(name);
        node.database = Some(self.url_of(name));
        node.serve_sealing(&[&["--node-name", name][..], &LOOPBACK].concat())
    }

    /// The database URL of a node, by which its connections have its name.
    pub fn url_of(&self, name: &str) -> String {
        format!("{}?application_name={name}", self.database.url())
    }

    /// The number that a node got when it last joined; waits for it.
    pub fn id_of(&self, name: &str) -> i64 {
        let id = || self.number(&format!("SELECT coalesce(max(id), 0) FROM nodes WHERE name = '{name}'"));
        wait_for("the node to join", || id() > 0);
        id()
    }

    pub fn number(&self, sql: &str) -> i64 {
        test_postgres::number(self.database.url(), sql)
    }

    /// The number of messages that a node has claimed and not settled.
    pub fn in_flight(&self, node: i64) -> i64 {
        let sql = "SELECT count(*) FROM messages JOIN channels ON key = channel_key WHERE status = 1 AND lease_node =";
        self.number(&format!("{sql} {node}"))
    }

    /// How many channels each node owns, in the order of joining.
    pub fn held(&self) -> Vec<i64> {
        let nodes = self.number("SELECT count(*) FROM nodes");
        let of = |number: i64| {
            let sql = "SELECT count(*) FROM channels WHERE lease_node =";
            self.number(&format!("{sql} (select id from nodes order by id limit 1 offset {number})"))
        };
        (0..nodes).map(of).collect()
    }

    /// Waits until each of the nodes owns its quota.
    pub fn wait_until_balanced(&self, nodes: usize) {
        let all = self.number("SELECT count(*) FROM channels WHERE deleted_at IS NULL");
        let share = (all + i64::try_from(nodes).expect("few") - 1) / i64::try_from(nodes).expect("few");
        wait_for("a fair share for each node", || {
            let held = self.held();
            held.len() == nodes && held.iter().sum::<i64>() == all && held.iter().all(|held| *held <= share)
        });
    }
}

/// The status of the message under this path.
pub fn status(server: &Server, key: &str, channel: &str, id: &str) -> Value {
    let path = format!("/v1/channels/{channel}/messages/{id}");
    server.get(&path, Some(key)).expect(200).json()["data"]["status"].clone()
}
