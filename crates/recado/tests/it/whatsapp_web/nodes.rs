//! Sessions on several nodes: a session moves with its channel, and calls about it reach its node.

use std::process::Command;
use std::sync::Arc;

use fake_whatsapp::FakeWhatsApp;
use test_postgres::Database;

use super::{MARIA, OWNER, Stage, command, owner};
use crate::harness::{Home, Server, wait_for};
use crate::v1::create_key;

/// A node with an address for the other nodes.
pub fn start(home: &Home, name: &str, whatsapp: &FakeWhatsApp) -> Server {
    let node = home.node(name);
    // The port is chosen before the server listens, because the address is a setting.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let address = format!("127.0.0.1:{port}");
    let mut command: Command = command(whatsapp);
    command.env("RECADO_DATABASE_URL", home.database.as_deref().expect("a database"));
    command.args(["serve", "--data-dir", node.dir(), "--listen", &address, "--node-name", name]);
    command.args(["--node-url", &format!("http://{address}")]);
    Server::start(command, &node)
}

#[test]
fn a_session_moves_with_its_channel_and_calls_find_it() {
    let database = Database::new();
    let home = Home::on_postgres(database.url());
    let whatsapp = Arc::new(FakeWhatsApp::start());
    whatsapp.add_contact(MARIA, "900000000000002");
    whatsapp.add_contact(super::KNOWN, "900000000000003");
    whatsapp.add_alias(super::TYPED, super::KNOWN);
    let key = create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
    let number = |sql: &str| test_postgres::number(database.url(), sql);
    let holder = || number("SELECT coalesce(max(lease_node), 0) FROM channels WHERE id = 'vendas'");

    let first = start(&home, "first", &whatsapp);
    let stage = Stage { home, server: first, whatsapp, key };
    stage.create("vendas");
    wait_for("the first node to hold the channel", || holder() > 0);
    let second = start(&stage.home, "second", &stage.whatsapp);
    wait_for("the second node to be there", || number("SELECT count(*) FROM nodes") == 2);

    // Linked by calls to a node that does not own the session.
    let Stage { home, server: first, whatsapp, key } = stage;
    let stage = Stage { home, server: second, whatsapp, key };
    let pairing = stage.connect("vendas");
    assert_eq!(pairing["status"], "QR_CODE", "{pairing}");
    assert_eq!(stage.pairing("vendas")["code"], pairing["code"]);
    // The call is counted once, though two nodes see it. A caller cannot avoid the count with the header of a node.
    let limited = create_key(&stage.home, "live", "channels.read,channels.write", "60");
    let left = |headers: &[(&str, &str)]| {
        let answer = stage.server.call("GET", "/v1/channels/vendas/pairing", Some(&limited), headers, None).expect(200);
        answer.header("ratelimit-remaining").expect("a limit").to_owned()
    };
    assert_eq!([left(&[]), left(&[]), left(&[("recado-forwarded", "sim")])], ["59", "58", "57"]);
    stage.whatsapp.scan(pairing["code"].as_str().expect("a code"), &owner()).expect("it can be scanned");
    let channel = stage.until_state("vendas", "CONNECTED");
    assert_eq!(channel["link"]["phone"], OWNER);
    let sent = stage.accept("vendas", MARIA);
    stage.until("vendas", &sent, "READ");

    // The first node ends: its session is closed, and is opened here without another code.
    let before = holder();
    first.terminate();
    assert_eq!(first.wait().code(), Some(0));
    let moved = stage.accept("vendas", MARIA);
    stage.until("vendas", &moved, "READ");
    assert_ne!(holder(), before);

    // Another node replaces it, and the node that owns the session is killed.
    let third = start(&stage.home, "third", &stage.whatsapp);
    wait_for("the third node to be there", || number("SELECT count(*) FROM nodes") == 2);
    let Stage { home, server: second, whatsapp, key } = stage;
    second.kill();
    let stage = Stage { home, server: third, whatsapp, key };
    let inherited = stage.accept("vendas", MARIA);
    stage.until("vendas", &inherited, "READ");
    stage.until_state("vendas", "CONNECTED");

    // A node without the session replaces it on the network, and is refused by the store: the owner opens the session again.
    stage.whatsapp.replace(OWNER);
    stage.until_state("vendas", "DISCONNECTED");
    stage.until_state("vendas", "CONNECTED");
    let inbox = stage.whatsapp.inbox();
    let ids: std::collections::HashSet<_> = inbox.iter().map(|received| &received.id).collect();
    assert_eq!((ids.len(), stage.whatsapp.counters().undecryptable), (3, 0), "{inbox:?}");
}
