//! The metrics of a running server, and the rules and dashboards that use them.

mod alerts;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use test_postgres::Database;

use crate::docs::markdown::{collect, root};
use crate::harness::{Home, SECRET_KEY, Server, agent, call, wait_for};
use crate::v1::{CARD, every_scope};
use crate::webhooks::LOOPBACK;

const JSON: (&str, &str) = ("Content-Type", "application/json");
const FLAGS: [&str; 2] = ["--metrics-listen", "127.0.0.1:0"];

/// A server whose metrics are scraped.
struct Scraped {
    home: Home,
    server: Server,
    key: String,
    address: String,
}

impl Scraped {
    fn start(home: Home, flags: &[&str]) -> Self {
        Self::of(home.serve_with(&[&FLAGS[..], flags].concat()), home)
    }

    fn of(server: Server, home: Home) -> Self {
        let key = home.unlimited_key();
        let event = "metrics served address=";
        // The log is written by a thread of its own.
        wait_for(event, || server.log().contains(event));
        let log = server.log();
        let address = log.split(event).nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
        let address = address.to_owned();
        Self { home, server, key, address }
    }

    fn scrape(&self, accept: &str) -> (String, String) {
        let url = format!("http://{}/metrics", self.address);
        let answer = call(&agent(), &url, "GET", None, &[("Accept", accept)], None).expect("an answer").expect(200);
        (answer.header("Content-Type").expect("a type").to_owned(), answer.text().to_owned())
    }

    /// The value of a series; `None` if there is no such series.
    fn value(&self, series: &str) -> Option<f64> {
        let text = self.scrape("*/*").1;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
        line.map(|value| value.parse().unwrap_or_else(|_| panic!("{series} {value}")))
    }

    #[track_caller]
    fn expect(&self, series: &str, value: f64) {
        wait_for(&format!("{series} {value}"), || self.value(series).is_some_and(|found| (found - value).abs() < 1e-9));
    }

    fn send(&self, channel: &str, body: &str, status: u16) {
        let path = format!("/v1/channels/{channel}/messages/contact");
        self.server.call("POST", &path, Some(&self.key), &[JSON], Some(body.as_bytes())).expect(status);
    }

    fn open(&self, id: &str) {
        let channel = json!({"name": id, "type": "SANDBOX", "id": id});
        self.server.post("/v1/channels", &self.key, &channel).expect(201);
        self.server.call("POST", &format!("/v1/channels/{id}/connect"), Some(&self.key), &[], None).expect(200);
    }
}

#[test]
fn what_happens_is_counted_on_both_engines() {
    let database = Database::new();
    for home in [Home::init(), Home::on_postgres(database.url())] {
        let engine = if home.database.is_some() { "postgresql" } else { "sqlite" };
        is_counted(&Scraped::start(home, &[]), engine);
    }
}

fn is_counted(scraped: &Scraped, engine: &str) {
    let route = "/v1/channels/{channelId}/messages/contact";
    for _ in 0..3 {
        scraped.send("sandbox", CARD, 202);
    }
    // The network refuses this number for good.
    scraped.send("sandbox", &CARD.replace("5511999998888", "5511900000001"), 202);
    scraped.send("sandbox", "{}", 400);
    scraped.server.get("/v1/channels", None).expect(401);
    scraped.server.get("/v1/channels", Some("oapi_sk_test_bad")).expect(401);
    scraped.server.get("/nothing/here", None).expect(404);
    scraped.open("held");
    scraped.server.call("POST", "/v1/channels/held/pause", Some(&scraped.key), &[], None).expect(200);
    scraped.send("held", CARD, 202);

    let count = |status| format!("recado_http_requests_total{{route=\"{route}\",method=\"POST\",status=\"{status}\"}}");
    scraped.expect(&count(202), 5.0);
    scraped.expect(&count(400), 1.0);
    scraped.expect("recado_http_requests_total{route=\"none\",method=\"GET\",status=\"404\"}", 1.0);
    scraped.expect(&format!("recado_http_request_duration_seconds_count{{route=\"{route}\",method=\"POST\"}}"), 6.0);
    scraped.expect("recado_auth_failures_total{reason=\"missing\"}", 1.0);
    scraped.expect("recado_auth_failures_total{reason=\"invalid\"}", 1.0);
    scraped.expect("recado_messages_accepted_total{channel_type=\"SANDBOX\",message_type=\"contact\"}", 5.0);
    scraped.expect("recado_send_attempts_total{channel_type=\"SANDBOX\",outcome=\"accepted\"}", 3.0);
    scraped.expect("recado_messages_settled_total{channel_type=\"SANDBOX\",outcome=\"sent\"}", 3.0);
    scraped.expect("recado_messages_settled_total{channel_type=\"SANDBOX\",outcome=\"failed\"}", 1.0);
    let reached = |to: &str| format!("recado_message_transitions_total{{channel_type=\"SANDBOX\",to=\"{to}\"}}");
    for (to, messages) in [("SENDING", 4.0), ("SENT", 3.0), ("DELIVERED", 3.0), ("READ", 3.0), ("FAILED", 1.0)] {
        scraped.expect(&reached(to), messages);
    }
    let latency = |part: &str, until: &str| {
        format!("recado_message_latency_seconds_{part}{{channel_type=\"SANDBOX\",until=\"{until}\"}}")
    };
    for until in ["sent", "delivered"] {
        scraped.expect(&latency("count", until), 3.0);
        let sum = scraped.value(&latency("sum", until)).expect("a sum");
        assert!(sum > 0.0 && sum < 60.0, "{until}: {sum}");
    }
    if engine == "sqlite" {
        let commits = scraped.value("recado_store_commit_duration_seconds_count");
        assert!(commits.is_some_and(|commits| commits > 5.0), "{commits:?} commits");
    }
    for (to, times) in [("CONNECTED", 1.0), ("PAUSED", 1.0), ("BANNED", 0.0)] {
        let moves = format!("recado_channel_state_transitions_total{{channel_type=\"SANDBOX\",to=\"{to}\"}}");
        scraped.expect(&moves, times);
    }
    scraped.expect("recado_message_ttl_seconds", 86_400.0);
    scraped.expect("recado_store_reopened_total", 0.0);
    scraped.expect("recado_ready", 1.0);
    scraped.expect("recado_store_up", 1.0);
    scraped.expect("recado_secret_key_ok", 1.0);
    scraped.expect("recado_node_channels", 2.0);

    polled_values_are_right(scraped, engine);
    let (kind, text) = scraped.scrape("*/*");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains(&format!("engine=\"{engine}\"")), "{text}");
    assert!(!text.contains("5511"), "a phone number: {text}");
    let kind = scraped.scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5").0;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    // The listener has nothing else, and the API has no metrics.
    let url = format!("http://{}/v1/channels", scraped.address);
    call(&agent(), &url, "GET", Some(&scraped.key), &[], None).expect("an answer").expect(404);
    scraped.server.get("/metrics", None).expect(404);
}

/// What comes from the store, some seconds later.
fn polled_values_are_right(scraped: &Scraped, engine: &str) {
    let institution = &scraped.home.institution;
    let of = |name: &str, channel: &str| format!("{name}{{institution=\"{institution}\",channel=\"{channel}\"}}");
    scraped.expect(&of("recado_channel_waiting", "held"), 1.0);
    scraped.expect(&of("recado_channel_waiting", "sandbox"), 0.0);
    wait_for("the message to become older", || {
        scraped.value(&of("recado_channel_oldest_waiting_age_seconds", "held")).is_some_and(|age| age > 1.0)
    });
    for (to, messages) in [("SENT", 3.0), ("DELIVERED", 3.0), ("READ", 3.0), ("FAILED", 1.0)] {
        let of = format!("institution=\"{institution}\",channel=\"sandbox\",to=\"{to}\"");
        scraped.expect(&format!("recado_channel_transitions_total{{{of}}}"), messages);
    }
    scraped.expect(
        &format!("recado_channel_transitions_total{{institution=\"{institution}\",channel=\"held\",to=\"SENT\"}}"),
        0.0,
    );
    scraped.expect("recado_channels_protocol_refused{channel_type=\"SANDBOX\"}", 0.0);
    scraped.expect("recado_channels{channel_type=\"SANDBOX\",state=\"PAUSED\"}", 1.0);
    scraped.expect("recado_messages_waiting{channel_type=\"SANDBOX\"}", 1.0);
    let state = "state=\"PAUSED\",cause=\"person\"";
    scraped.expect(&format!("recado_channel_state{{institution=\"{institution}\",channel=\"held\",{state}}}"), 1.0);
    let since = scraped.value(&of("recado_channel_state_since_timestamp_seconds", "held")).expect("since when");
    let started = scraped.value("process_start_time_seconds").expect("a start");
    assert!(since > started && since < started + 600.0, "{since} {started}");
    for kind in ["ack", "receipt"] {
        let activity = "recado_channel_last_activity_timestamp_seconds";
        let series = format!("{activity}{{institution=\"{institution}\",channel=\"sandbox\",kind=\"{kind}\"}}");
        assert!(scraped.value(&series).is_some_and(|at| at > started), "{series}");
    }
    assert!(scraped.value("recado_data_dir_free_bytes").is_some_and(|free| free > 0.0));
    let file = scraped.value("recado_store_file_bytes").expect("a size");
    assert_eq!(file > 0.0, engine == "sqlite", "{file}");
    scraped.expect("recado_backup_last_success_timestamp_seconds", 0.0);
    scraped.expect("recado_backup_record_ok", 1.0);
}

#[test]
fn purged_rows_are_counted() {
    let home = Home::init();
    let key = every_scope(&home);
    let send = |server: &Server| {
        let path = "/v1/channels/sandbox/messages/contact";
        server.call("POST", path, Some(&key), &[JSON], Some(CARD.as_bytes())).expect(202);
    };
    let server = home.serve();
    (0..3).for_each(|_| send(&server));
    let read = "/v1/channels/sandbox/messages?status=READ";
    wait_for("the messages to be read", || {
        server.get(read, Some(&key)).json()["data"].as_array().is_some_and(|read| read.len() == 3)
    });
    server.kill();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let scraped = Scraped::start(home, &["--keep-messages", "1s"]);
    wait_for("the purge", || scraped.value("recado_purge_last_success_timestamp_seconds").is_some_and(|at| at > 0.0));
    assert!(scraped.value("recado_purged_rows_total").is_some_and(|rows| rows >= 3.0));
}

#[test]
fn channels_beyond_the_limit_are_omitted_and_counted() {
    let scraped = Scraped::start(Home::init(), &["--metrics-channels", "1"]);
    scraped.open("held");
    scraped.server.call("POST", "/v1/channels/held/pause", Some(&scraped.key), &[], None).expect(200);
    scraped.send("held", CARD, 202);
    scraped.expect("recado_metrics_channels_omitted", 1.0);
    // The one with the oldest message is shown.
    wait_for("the channel that waits", || scraped.scrape("*/*").1.contains("recado_channel_waiting{institution="));
    wait_for("the channel that waits", || scraped.scrape("*/*").1.contains("channel=\"held\"} 1"));
    let text = scraped.scrape("*/*").1;
    assert!(!text.contains("channel=\"sandbox\""), "{text}");
    scraped.expect("recado_channels{channel_type=\"SANDBOX\",state=\"CONNECTED\"}", 1.0);
}

// --- Rules and dashboards ---

#[test]
fn rules_and_dashboards_name_only_series_that_a_server_exports() {
    let home = Home::init();
    let mut command = home.command(&[&FLAGS[..], &LOOPBACK].concat());
    command.env("RECADO_SECRET_KEY", SECRET_KEY);
    let scraped = Scraped::of(Server::start(command, &home), home);
    scraped.send("sandbox", CARD, 202);
    scraped.send("sandbox", &CARD.replace("5511999998888", "5511900000001"), 202);
    // Series of a channel or a code begin with it.
    alerts::ending_key(&scraped.home, 30);
    let hook = json!({"url": format!("http://{}/", alerts::free_address()), "events": ["message.*"]});
    scraped.server.post("/v1/webhooks", &every_scope(&scraped.home), &hook).expect(201);
    for late in [
        "recado_message_errors_total{",
        "recado_channel_last_activity_timestamp_seconds{",
        "recado_webhook_waiting{",
        "recado_api_key_expiry_timestamp_seconds{",
        "until=\"delivered\"}",
    ] {
        wait_for(late, || scraped.scrape("*/*").1.contains(late));
    }
    let exported = exported(&scraped.scrape("*/*").1);
    let mut queries = Vec::new();
    for path in files("deploy/grafana", "json") {
        let board: Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
        let panels = board["panels"].as_array().expect("panels").clone();
        let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets").clone());
        queries.extend(targets.map(|target| target["expr"].as_str().expect("a query").to_owned()));
        let variables = board["templating"]["list"].as_array().expect("variables").clone();
        queries.extend(variables.iter().map(|variable| variable["query"].as_str().expect("a query").to_owned()));
    }
    let rules = std::fs::read_to_string(root().join("deploy/prometheus/recado.rules.yml")).expect("the rules");
    queries.extend(rules.lines().filter(|line| !line.contains("alert:")).map(str::to_owned));
    let named: BTreeSet<_> = queries.iter().flat_map(|query| names(query)).collect();
    assert!(named.len() > 30, "{named:?}");
    let unknown: Vec<_> = named.difference(&exported).collect();
    assert!(unknown.is_empty(), "no such series: {unknown:?}");
}

#[test]
fn every_alert_fires_by_its_cause_alone() {
    let dir = root().join("deploy/prometheus");
    let (rules, tests) = ("recado.rules.yml", "recado.test.yml");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a file");
    let alerts: Vec<String> =
        read(rules).lines().filter_map(|line| line.split("alert: ").nth(1)).map(str::to_owned).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let tested = read(tests);
    for alert in &alerts {
        assert!(tested.contains(&format!("alertname=\"{alert}\"")), "{alert} is not tested");
    }
    for args in [["check", "rules", rules], ["test", "rules", tests]] {
        let output =
            Command::new("promtool").args(args).current_dir(&dir).output().expect("promtool (Debian: prometheus)");
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{args:?}: {text}");
    }
}

fn files(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&root().join(dir), extension, &mut files);
    assert!(!files.is_empty(), "nothing in {dir}");
    files
}

/// The names of the series of a scrape: a counter has its suffix, and a histogram has three.
fn exported(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .flat_map(|(name, kind)| match kind {
            "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).to_vec(),
            _ => vec![name.to_owned()],
        })
        .collect()
}

/// The names of our series in a query.
fn names(query: &str) -> Vec<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| word.starts_with("recado_") || word.starts_with("process_");
    words.filter(ours).map(str::to_owned).collect()
}
