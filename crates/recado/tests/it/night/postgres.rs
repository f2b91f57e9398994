//! The night of two nodes and their database.

use test_postgres::{Options, Server as Postgres};

use super::table::Site;
use super::{FLAGS, Hook, Stage, rotate, secret_key, with_older};
use crate::harness::{Home, Server, wait_for};

#[derive(Clone, Copy)]
enum Event {
    RestartDatabase,
    CrashDatabase,
    RollNodes,
    RotateKeys,
}

/// What happens in a round, and when.
const ROUND: [(f64, Event); 4] =
    [(0.10, Event::RestartDatabase), (0.30, Event::RollNodes), (0.50, Event::CrashDatabase), (0.65, Event::RotateKeys)];

const NODES: [&str; 2] = ["first", "second"];

struct House<'a> {
    stage: &'a Stage,
    home: &'a Home,
    database: &'a mut Postgres,
    nodes: [Option<Server>; NODES.len()],
    /// The number of the newest secret key.
    key: u8,
}

fn start(home: &Home, name: &str, keys: &str) -> Server {
    let node = home.node(name);
    let mut command = node.command(&[&FLAGS[..], &["--node-name", name]].concat());
    command.env("RECADO_SECRET_KEY", keys);
    Server::start(command, &node)
}

impl House<'_> {
    fn happen(&mut self, event: Event) {
        match event {
            Event::RestartDatabase => {
                self.database.restart();
                self.wait_until_ready("database restarted");
            }
            Event::CrashDatabase => {
                self.database.kill();
                self.database.restart();
                self.wait_until_ready("database killed and started");
            }
            Event::RollNodes => {
                self.roll(&secret_key(self.key));
                self.stage.site.note("nodes rolled");
            }
            Event::RotateKeys => {
                self.key += 1;
                let both = with_older(self.key);
                self.roll(&both);
                rotate(self.home, Some(&both));
                self.roll(&secret_key(self.key));
                self.stage.site.note("keys rotated, nodes rolled twice");
            }
        }
    }

    fn wait_until_ready(&self, note: &str) {
        self.nodes.iter().flatten().for_each(Server::wait_until_ready);
        self.stage.site.note(note);
    }

    /// Restarts one node after the other.
    fn roll(&mut self, keys: &str) {
        for (node, name) in self.nodes.iter_mut().zip(NODES) {
            self.stage.stop(node.take().expect("running"));
            let next = start(self.home, name, keys);
            self.stage.enter(&next);
            *node = Some(next);
        }
    }
}

#[test]
fn a_night_of_two_nodes() {
    // A small limit, so that the write-ahead log reaches its size early.
    let settings = vec!["max_wal_size = 128MB".to_owned()];
    let mut database = Postgres::start(&Options { settings, ..Options::durable() });
    test_postgres::run(&database.url("postgres"), "create database recado");
    let home = Home::on_postgres(&database.url("recado"));
    let data = database.folder().join("data");
    let site = Site::new(&[data.join("base")], &[data.join("pg_wal")]);
    // All channels would be more than one webhook delivers on a database, eight at a time, on a machine that is busy.
    let mut stage = Stage::set(&home, site, Hook { order: "message", channels: 2 });
    let nodes = NODES.map(|name| start(&home, name, &secret_key(0)));
    stage.furnish(&nodes[0]);
    nodes.iter().for_each(|node| stage.enter(node));
    let stage = &stage;
    let mut house = House { stage, home: &home, database: &mut database, nodes: nodes.map(Some), key: 0 };
    let (senders, table) = stage.live_through(|| {
        stage.night.happen(&stage.load, &ROUND, |event| house.happen(event));
        wait_for("both nodes to be ready", || {
            house.nodes.iter().flatten().all(|node| node.get("/health/ready", None).status == 200)
        });
    });
    stage.check(house.nodes[1].as_ref().expect("running"), &senders, &table);
}
