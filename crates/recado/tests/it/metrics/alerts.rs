//! Each alert fires on a running server when its condition is caused: a real Prometheus scrapes the server and evaluates the
//! rules of `deploy/prometheus`, without their waits and with shorter limits for ages.

use std::cell::Cell;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fake_graph::{Answer as Reply, Behaviour, FakeGraph, GraphError, Number, Status};
use serde_json::{Value, json};
use test_postgres::{Database, Options, Server as Postgres};

use super::{JSON, Scraped};
use crate::cloud_api::{ANOTHER_KEY, NUMBER, command, credentials};
use crate::disk::{Ballast, SmallDisk};
use crate::docs::markdown::root;
use crate::harness::{Home, SECRET_KEY, Server, agent, call, wait_for};
use crate::v1::{CARD, create_key, every_scope};
use crate::webhooks::LOOPBACK;

/// A Prometheus that evaluates the rules.
pub struct Prometheus {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes this target. `faster` replaces parts of the rules, such as the limit of an age; each must be there.
    pub fn on(target: &str, faster: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let rules = std::fs::read_to_string(root().join("deploy/prometheus/recado.rules.yml")).expect("the rules");
        let lasting = |line: &&str| !line.trim_start().starts_with("for: ");
        let mut rules = rules.lines().filter(lasting).collect::<Vec<_>>().join("\n");
        for (from, to) in faster {
            assert!(rules.contains(from), "no rule has {from}");
            rules = rules.replace(from, to);
        }
        std::fs::write(dir.path().join("rules.yml"), rules).expect("written");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: recado, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).expect("written");
        let address = free_address();
        let child = Command::new("prometheus")
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"])
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus (Debian: prometheus)");
        let prometheus = Self { child, address, _dir: dir };
        wait_for("the first scrapes", || prometheus.sees("count_over_time(up[1m]) > 2"));
        prometheus
    }

    fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.address);
        let answer = call(&agent(), &url, "GET", None, &[], None).ok().filter(|answer| answer.status == 200)?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// Whether a query has a result.
    fn sees(&self, query: &str) -> bool {
        let query = query.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
        let found = self.get(&format!("/api/v1/query?query={query}"));
        found.is_some_and(|found| found["data"]["result"].as_array().is_some_and(|found| !found.is_empty()))
    }

    fn fires(&self, alert: &str) -> bool {
        let alerts = self.get("/api/v1/alerts");
        let alerts = alerts.as_ref().and_then(|found| found["data"]["alerts"].as_array());
        alerts.into_iter().flatten().any(|one| one["labels"]["alertname"] == alert && one["state"] == "firing")
    }

    /// Waits until an alert fires whose condition was caused already.
    #[track_caller]
    pub fn until_fires(&self, alert: &str) {
        wait_for(&format!("{alert} to fire"), || self.fires(alert));
    }

    /// The alert does not fire before `cause`, and fires after it.
    #[track_caller]
    pub fn fires_by<T>(&self, alert: &str, cause: impl FnOnce() -> T) -> T {
        assert!(!self.fires(alert), "{alert} fires without a cause");
        let caused = cause();
        self.until_fires(alert);
        caused
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// A server, its metrics at an address that does not depend on its log, and a key.
fn scraped(home: Home, command: Command, address: &str) -> Scraped {
    let key = every_scope(&home);
    let server = Server::start(command, &home);
    Scraped { home, server, key, address: address.to_owned() }
}

/// Creates a key that ends after so many days, and returns it.
#[expect(clippy::disallowed_methods, reason = "the server under test has the machine's clock")]
pub fn ending_key(home: &Home, days: i64) -> String {
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let key =
        ["keys", "create", "--name", "ends", "--environment", "test", "--scopes", "messages.read", "--expires-at"];
    let made = home.cli(&[&key[..], &[&*ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()]].concat());
    made["key"].as_str().expect("a key").to_owned()
}

#[test]
fn every_alert_is_caused_by_a_test() {
    let rules = std::fs::read_to_string(root().join("deploy/prometheus/recado.rules.yml")).expect("the rules");
    let tests = include_str!("alerts.rs");
    for alert in rules.lines().filter_map(|line| line.split("alert: ").nth(1)) {
        let caused = ["fires_by", "until_fires"].map(|how| format!("prometheus.{how}(\"{alert}\""));
        assert!(caused.iter().any(|call| tests.contains(call)), "no test causes {alert}");
    }
}

#[test]
fn failures_full_queues_webhooks_and_old_backups_alert() {
    let home = Home::init();
    let backup = home.dir.with_extension("backup");
    let address = free_address();
    let mut command = home.command(&[&LOOPBACK[..], &["--backlog-cap", "40", "--metrics-listen", &address]].concat());
    command.env("RECADO_SECRET_KEY", SECRET_KEY);
    let scraped = scraped(home, command, &address);
    let faster =
        [("> 93600", "> 1"), ("age_seconds > 600", "age_seconds > 1"), ("age_seconds > 900", "age_seconds > 0.5")];
    let prometheus = Prometheus::on(&address, &faster);
    // The network does not answer: the message is tried again for 21 seconds.
    prometheus.fires_by("RecadoQueueOld", || {
        scraped.open("slow");
        scraped.send("slow", &CARD.replace("5511999998888", "5511900000004"), 202);
    });
    prometheus.fires_by("RecadoQueueNearlyFull", || {
        scraped.open("held");
        scraped.server.call("POST", "/v1/channels/held/pause", Some(&scraped.key), &[], None).expect(200);
        (0..35).for_each(|_| scraped.send("held", CARD, 202));
    });
    prometheus.fires_by("RecadoFailing", || {
        for number in 0..80 {
            let bad = CARD.replace("5511999998888", "5511900000001");
            let card = if number % 4 == 0 { &bad } else { CARD };
            wait_for("room in the queue", || {
                let path = "/v1/channels/sandbox/messages/contact";
                let answer = scraped.server.call("POST", path, Some(&scraped.key), &[JSON], Some(card.as_bytes()));
                answer.status == 202
            });
        }
    });
    let hook = json!({"url": format!("http://{}/", free_address()), "events": ["message.*"]});
    prometheus.fires_by("RecadoWebhookBehind", || {
        scraped.server.post("/v1/webhooks", &scraped.key, &hook).expect(201);
        (0..30).for_each(|_| scraped.send("sandbox", CARD, 202));
    });
    prometheus.fires_by("RecadoBackupOld", || {
        scraped.home.cli(&["backup", "--to", backup.to_str().expect("UTF-8")]);
    });
    std::fs::remove_dir_all(backup).expect("removed");
    prometheus.fires_by("RecadoBackupUnknown", || {
        std::fs::write(scraped.home.dir.join("last-backup.json"), "damaged").expect("written");
    });
    prometheus.until_fires("RecadoWebhooksFailing");
    let ending = ending_key(&scraped.home, 3);
    wait_for("the series of the key", || scraped.scrape("*/*").1.contains("recado_api_key_expiry_timestamp_seconds{"));
    // A key that nobody uses may end.
    prometheus.fires_by("RecadoKeyExpires", || {
        scraped.server.get("/v1/channels/sandbox/messages", Some(&ending)).expect(200);
    });
    prometheus.fires_by("RecadoDown", || scraped.server.kill());
}

#[test]
fn waiting_and_expired_messages_alert() {
    let (home, address) = (Home::init(), free_address());
    let delay = ["--sandbox-delay-min", "1h", "--sandbox-delay-max", "1h", "--message-ttl", "40s"];
    let command = home.command(&[&delay[..], &["--metrics-listen", &address]].concat());
    let scraped = scraped(home, command, &address);
    let prometheus = Prometheus::on(&address, &[("age_seconds > 900", "age_seconds > 0.5")]);
    // The channel rests for an hour after the first message.
    prometheus.fires_by("RecadoExpiring", || (0..3).for_each(|_| scraped.send("sandbox", CARD, 202)));
    assert!(!prometheus.fires("RecadoQueueOld"), "nothing is due");
    prometheus.until_fires("RecadoExpired");
    let log = "messages expired: not sent before the end of their time to live messages=2";
    wait_for(log, || scraped.server.log().contains(log));
}

#[test]
fn a_small_and_a_full_disk_alert() {
    let disk = SmallDisk::mount();
    let (home, address) = (Home::init_in(&disk.dir), free_address());
    let command = home.command(&["--metrics-listen", &address]);
    let scraped = scraped(home, command, &address);
    let prometheus = Prometheus::on(&address, &[]);
    prometheus.until_fires("RecadoDiskLow");
    let mut ballast = Ballast::new(&disk.dir);
    prometheus.fires_by("RecadoNotReady", || {
        wait_for("a refused call", || {
            ballast.fill();
            let path = "/v1/channels/sandbox/messages/contact";
            scraped.server.call("POST", path, Some(&scraped.key), &[JSON], Some(CARD.as_bytes())).status == 503
        });
        ballast.fill();
    });
    drop(ballast);
    wait_for("the store to be opened again", || {
        scraped.value("recado_store_reopened_total").is_some_and(|times| times > 0.0)
    });
}

#[test]
fn a_channel_without_receipts_alerts() {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    let (home, address) = (Home::init(), free_address());
    let key = create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
    let mut command = command(&home, &graph);
    command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0", "--metrics-listen", &address]);
    let server = Server::start(command, &home);
    let prometheus = Prometheus::on(&address, &[("[1h]", "[20s]"), ("[1d] offset 1h", "[3m] offset 20s")]);
    server.post("/v1/channels", &key, &json!({"name": "a", "type": "WHATSAPP_WABA", "id": "vendas"})).expect(201);
    server.post("/v1/channels/vendas/connect", &key, &credentials(NUMBER)).expect(200);
    graph.send_callbacks_to(Some(server.url("/v1/callbacks/meta")));
    // Each to another person: the network limits messages to one.
    let people = Cell::new(0);
    let send = || {
        people.set(people.get() + 1);
        let card = CARD.replace("5511999998888", &format!("55119{:08}", 99_000_000 + people.get()));
        let path = "/v1/channels/vendas/messages/contact";
        server.call("POST", path, Some(&key), &[JSON], Some(card.as_bytes())).expect(202);
    };
    let delivered = |than: &str| {
        let series = "recado_channel_transitions_total{channel=\"vendas\",to=\"DELIVERED\"}";
        format!("increase({series}[20s]) {than}")
    };
    wait_for("receipts", || {
        send();
        prometheus.sees(&delivered("> 10"))
    });
    graph.behave(|_| Behaviour::accept().calling_back([] as [Status; 0]));
    prometheus.fires_by("RecadoNoReceipts", || {
        wait_for("the receipts to be over", || {
            send();
            prometheus.sees(&delivered("== 0"))
        });
    });
}

#[test]
fn a_slow_store_alerts() {
    let (home, address) = (Home::init(), free_address());
    let command = home.command(&["--metrics-listen", &address]);
    let scraped = scraped(home, command, &address);
    let prometheus = Prometheus::on(&address, &[]);
    prometheus.fires_by("RecadoStoreSlow", || {
        let other = rusqlite::Connection::open(scraped.home.dir.join("recado.db")).expect("the store");
        other.execute_batch("BEGIN IMMEDIATE").expect("locked");
        std::thread::scope(|scope| {
            scope.spawn(|| scraped.send("sandbox", CARD, 202));
            std::thread::sleep(Duration::from_secs(2));
            other.execute_batch("COMMIT").expect("released");
        });
    });
}

#[test]
fn lost_log_lines_alert() {
    let (home, address) = (Home::init(), free_address());
    let key = every_scope(&home);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let command = home.command(&["--metrics-listen", &address, "--log", "debug"]);
    let server = Server::start_logging_to(command, &home, writer);
    let scraped = Scraped { home, server, key, address: address.clone() };
    let prometheus = Prometheus::on(&address, &[]);
    prometheus.fires_by("RecadoLogLinesLost", || {
        wait_for("lost lines", || {
            (0..200).for_each(|_| drop(scraped.server.get("/health/live", None)));
            scraped.value("recado_log_lines_lost_total").is_some_and(|lost| lost > 0.0)
        });
    });
    drop(reader);
}

#[test]
fn many_open_files_alert() {
    let (home, address) = (Home::init(), free_address());
    let plain = home.command(&["--metrics-listen", &address]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""]).arg(plain.get_program()).args(plain.get_args());
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let scraped = scraped(home, command, &address);
    let prometheus = Prometheus::on(&address, &[]);
    let held = prometheus.fires_by("RecadoFilesNearlyUsedUp", || {
        // Each is a file of the server. They are not told apart from callers that are slow.
        let connect = || {
            let mut stream = TcpStream::connect(&scraped.server.address).expect("a connection");
            stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n").expect("written");
            stream
        };
        let mut held = Vec::new();
        while scraped.value("process_open_fds").is_some_and(|open| open < 88.0) && held.len() < 100 {
            held.push(connect());
        }
        held
    });
    drop(held);
}

#[test]
fn a_wrong_key_unknown_outcomes_and_forged_callbacks_alert() {
    let graph = FakeGraph::start();
    graph.add_number(Number::example(NUMBER));
    let (home, address) = (Home::init(), free_address());
    let key = create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
    let start = |key: Option<&str>| {
        let mut command = command(&home, &graph);
        command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0", "--metrics-listen", &address]);
        command.envs(key.map(|key| ("RECADO_SECRET_KEY", key)));
        Server::start(command, &home)
    };
    let server = start(None);
    let prometheus = Prometheus::on(&address, &[]);
    server.post("/v1/channels", &key, &json!({"name": "a", "type": "WHATSAPP_WABA", "id": "vendas"})).expect(201);
    server.post("/v1/channels/vendas/connect", &key, &credentials(NUMBER)).expect(200);
    graph.behave(|_| Behaviour::accept().answering(Reply::Lost).calling_back([] as [Status; 0]));
    prometheus.fires_by("RecadoUnknown", || {
        server
            .call("POST", "/v1/channels/vendas/messages/contact", Some(&key), &[JSON], Some(CARD.as_bytes()))
            .expect(202);
    });
    // The token has expired, and the network pauses the channel.
    graph.behave(|_| Behaviour::refuse(GraphError::new(401, 190, "The session has expired")));
    prometheus.fires_by("RecadoChannelNeedsPerson", || {
        server
            .call("POST", "/v1/channels/vendas/messages/contact", Some(&key), &[JSON], Some(CARD.as_bytes()))
            .expect(202);
    });
    prometheus.fires_by("RecadoCallbackSignature", || {
        for _ in 0..8 {
            let forged = [JSON, ("X-Hub-Signature-256", "sha256=00")];
            server.call("POST", "/v1/callbacks/meta", None, &forged, Some(b"{}")).expect(403);
        }
    });
    prometheus.fires_by("RecadoSecretKey", || {
        server.kill();
        start(Some(ANOTHER_KEY))
    });
}

#[test]
fn a_frozen_database_alerts() {
    let postgres = Postgres::start(&Options::default());
    test_postgres::run(&postgres.url("postgres"), "create database recado");
    let (home, address) = (Home::on_postgres(&postgres.url("recado")), free_address());
    let command = home.command(&["--metrics-listen", &address]);
    let _scraped = scraped(home, command, &address);
    let prometheus = Prometheus::on(&address, &[("seconds > 300", "seconds > 12")]);
    prometheus.fires_by("RecadoLeaseLate", || postgres.freeze());
    prometheus.until_fires("RecadoMetricsStale");
    postgres.thaw();
}

#[test]
fn a_fenced_node_alerts() {
    let database = Database::new();
    let (home, address) = (Home::on_postgres(database.url()), free_address());
    let command = home.command(&["--metrics-listen", &address]);
    let scraped = scraped(home, command, &address);
    let prometheus = Prometheus::on(&address, &[]);
    wait_for("the node to own the channel", || scraped.value("recado_node_channels") == Some(1.0));
    prometheus.fires_by("RecadoFenced", || {
        // As if another node had taken the channel over, and this one had not noticed.
        test_postgres::run(database.url(), "update channels set lease_epoch = lease_epoch + 1");
        scraped.send("sandbox", CARD, 202);
    });
}

/// The name puts it into the first run, the only one whose build has this feature.
#[cfg(feature = "danger-loopback")]
mod whatsapp_web {
    use fake_whatsapp::{Account, ConnectFailure, FakeWhatsApp, Refusal};

    use super::*;
    use crate::whatsapp_web::{self as web, MARIA, unix_seconds};

    /// Each channel is linked by a phone of its own.
    fn phone(number: usize) -> Account {
        Account::new(&format!("55114000{number:04}"), &format!("90000000001{number:04}"))
    }

    #[test]
    fn silent_restricted_lost_and_unlinked_channels_alert() {
        let whatsapp = std::sync::Arc::new(FakeWhatsApp::start());
        whatsapp.add_contact(MARIA, "900000000000002");
        let (home, address) = (Home::init(), free_address());
        let key = create_key(&home, "live", "messages.send,messages.read,channels.read,channels.write", "unlimited");
        let mut command = web::command(&whatsapp);
        command.args(["serve", "--data-dir", home.dir(), "--listen", "127.0.0.1:0", "--metrics-listen", &address]);
        let server = Server::start(command, &home);
        let stage = web::Stage { home, server, whatsapp, key };
        // An idle session hears from the network every half minute.
        let prometheus = Prometheus::on(&address, &[("kind=\"line\"} > 900", "kind=\"line\"} > 3")]);
        prometheus.fires_by("RecadoChannelSilent", || stage.link("calado", &phone(1)));
        stage.link("restrito", &phone(2));
        stage.link("caido", &phone(3));
        prometheus.fires_by("RecadoChannelRestricted", || {
            stage.whatsapp.restrict(Some(unix_seconds() + 600));
            stage.whatsapp.faults(|faults| faults.refusal = Some(Refusal { code: 463, times: 1, to: vec![] }));
            stage.accept("restrito", MARIA);
        });
        prometheus.fires_by("RecadoChannelNeedsPerson", || stage.whatsapp.log_out(&phone(1).phone));
        prometheus.fires_by("RecadoChannelIdleDown", || {
            stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(503)));
            stage.whatsapp.drop_connections(&phone(3).phone);
            stage.until_state("caido", "DISCONNECTED");
        });
        prometheus.fires_by("RecadoChannelDown", || stage.accept("caido", MARIA));
        prometheus.fires_by("RecadoProtocolRefused", || {
            stage.whatsapp.faults(|faults| faults.connect_failure = Some(ConnectFailure::new(405)));
            stage.whatsapp.drop_connections(&phone(2).phone);
        });
        what_sessions_do_is_counted(&stage, &address);
    }

    /// The counts of the test above.
    fn what_sessions_do_is_counted(stage: &web::Stage, address: &str) {
        let text = call(&agent(), &format!("http://{address}/metrics"), "GET", None, &[], None);
        let text = text.expect("an answer").expect(200).text().to_owned();
        let counted = |series: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {series}")).parse::<f64>().expect("a number")
        };
        assert!((counted("recado_pairings_total{result=\"linked\"}") - 3.0).abs() < 0.5, "{text}");
        assert!(counted("recado_number_lookups_total{result=\"found\"}") > 0.5, "{text}");
        assert!(counted("recado_line_reconnects_total{result=\"failed\"}") > 0.5, "{text}");
        let moves = "recado_channel_state_transitions_total{channel_type=\"WHATSAPP_BAILEYS\"";
        assert!(counted(&format!("{moves},to=\"CONNECTED\"}}")) > 2.5, "{text}");
        assert!(counted(&format!("{moves},to=\"LOGGED_OUT\"}}")) > 0.5, "{text}");
        assert!(!stage.server.log().contains("panicked"), "{}", stage.server.log());
    }
}
