//! Nodes behind a real load balancer are restarted one after another, and no caller notices.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use super::Place;
use crate::harness::{Server, agent, call, wait_for};
use crate::load::{card, channel_id, join, open_channel, setting};

/// The default number of restarts; `RECADO_TEST_RESTARTS` sets another one.
const RESTARTS: u64 = 4;
/// The callers, and how often each of them calls: together 200 times a second.
const CALLERS: usize = 24;
const EVERY: Duration = Duration::from_millis(120);
/// Between a node that is ready again and the next restart.
const PAUSE: Duration = Duration::from_millis(700);
const NGINX: &str = include_str!("../../../../../deploy/nginx/nodes.conf");
const HAPROXY: &str = include_str!("../../../../../deploy/haproxy/recado.cfg");

#[test]
fn a_rolling_restart_behind_nginx_fails_no_call() {
    roll("nginx", "1s", |dir, port, nodes| {
        let http = deployed(NGINX, nodes).replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};"));
        // The test has no certificate.
        let http: Vec<&str> = http.lines().filter(|line| !line.trim_start().starts_with("ssl_certificate")).collect();
        let config = format!(
            "daemon off; user root; pid {dir}/nginx.pid; error_log stderr; worker_processes 2;
            events {{ worker_connections 1024; }}
            http {{
                access_log off;
                client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
                uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
                {http}
            }}",
            dir = dir.display(),
            http = http.join("\n"),
        );
        (config, vec!["-e", "stderr", "-c"])
    });
}

#[test]
fn a_rolling_restart_behind_haproxy_fails_no_call() {
    roll("haproxy", "3s", |_, port, nodes| {
        let tls = "bind :443 ssl crt /etc/ssl/recado/recado.pem";
        let config = deployed(HAPROXY, nodes).replace(tls, &format!("bind 127.0.0.1:{port}"));
        (format!("global\n    maxconn 1000\n{config}"), vec!["-db", "-f"])
    });
}

/// A configuration that operators install, with the addresses of these nodes.
fn deployed(config: &str, [first, second]: [SocketAddr; 2]) -> String {
    let config = config.replace("10.0.0.5:8080", &first.to_string()).replace("10.0.0.6:8080", &second.to_string());
    assert!(config.contains(&first.to_string()) && config.contains(&second.to_string()));
    config
}

/// The text of a balancer's configuration, and the flags before the name of its file.
type Configure = fn(&Path, u16, [SocketAddr; 2]) -> (String, Vec<&'static str>);

/// Restarts nodes with this drain; `RECADO_TEST_DRAIN` sets another one. With `0s` calls fail.
fn roll(program: &str, drain: &str, configure: Configure) {
    let place = Place::new();
    let key = place.home.unlimited_key();
    let names = ["first", "second"];
    let drain = std::env::var("RECADO_TEST_DRAIN").unwrap_or_else(|_| drain.to_owned());
    let drain = ["--drain", &drain];
    let mut nodes = names.map(|name| Some(place.start(name, &drain)));
    let addresses = nodes.each_ref().map(|node| node.as_ref().expect("running").address.parse().expect("an address"));
    open_channel(nodes[0].as_ref().expect("running"), &key, &channel_id(0));
    let balancer = Balancer::start(program, configure, addresses);
    let restarts = setting("RECADO_TEST_RESTARTS").unwrap_or(RESTARTS);
    let (stop, url, key) = (&AtomicBool::new(false), &balancer.url, &key);
    let answers: Vec<Caller> = scope(|scope| {
        let callers: Vec<_> =
            (0..CALLERS).map(|number| scope.spawn(move || call_until(stop, url, key, number))).collect();
        let ends = Stop(stop);
        sleep(PAUSE);
        for restart in 0..restarts {
            let number = usize::try_from(restart % 2).expect("small");
            let node: Server = nodes[number].take().expect("running");
            node.terminate();
            assert_eq!(node.wait().code(), Some(0));
            // It returns when the node is ready.
            nodes[number] = Some(place.start_at(names[number], &addresses[number].to_string(), &drain));
            sleep(PAUSE);
        }
        drop(ends);
        callers.into_iter().map(join).collect()
    });
    let calls: usize = answers.iter().map(|caller| caller.accepted).sum();
    let failures: Vec<&String> = answers.iter().flat_map(|caller| &caller.failures).collect();
    let longest = answers.iter().map(|caller| caller.longest).max().unwrap_or_default();
    println!("{program}: {restarts} restarts, {calls} calls accepted, {} failed, longest {longest:?}", failures.len());
    assert!(failures.is_empty(), "{failures:?}\n{}", balancer.log());
    assert_eq!(place.number("SELECT count(*) FROM messages"), i64::try_from(calls).expect("few"));
}

/// Ends the callers, also if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[derive(Default)]
struct Caller {
    accepted: usize,
    failures: Vec<String>,
    longest: Duration,
}

fn call_until(stop: &AtomicBool, url: &str, key: &str, number: usize) -> Caller {
    let (agent, mut caller, begun) = (agent(), Caller::default(), Instant::now());
    let url = format!("{url}/v1/channels/{}/messages/contact", channel_id(0));
    let mut calls = 0;
    while !stop.load(SeqCst) {
        let due = begun + EVERY * calls;
        sleep(due.saturating_duration_since(Instant::now()));
        calls += 1;
        let (card, sent) = (card(0, number), Instant::now());
        let headers = [("Content-Type", "application/json")];
        match call(&agent, &url, "POST", Some(key), &headers, Some(card.as_bytes())) {
            Ok(answer) if answer.status == 202 => caller.accepted += 1,
            Ok(answer) => caller.failures.push(format!("{} {}", answer.status, answer.text())),
            Err(error) => caller.failures.push(error.to_string()),
        }
        caller.longest = caller.longest.max(sent.elapsed());
    }
    caller
}

/// A running load balancer, killed when dropped.
struct Balancer {
    child: Child,
    url: String,
    dir: tempfile::TempDir,
}

impl Balancer {
    fn start(program: &str, configure: Configure, nodes: [SocketAddr; 2]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let (config, flags) = configure(dir.path(), port, nodes);
        let file = dir.path().join("config");
        std::fs::write(&file, config).expect("a file");
        let log = File::create(dir.path().join("log")).expect("a log");
        // Debian keeps both outside of the PATH of users.
        let child = Command::new(program)
            .env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()))
            .args(flags)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let balancer = Self { child, url: format!("http://127.0.0.1:{port}"), dir };
        let url = format!("{}/health/ready", balancer.url);
        wait_for("the balancer to pass calls on", || {
            let answered = call(&agent(), &url, "GET", None, &[], None);
            let ended = balancer.log();
            assert!(!ended.contains("[emerg]") && !ended.contains("[ALERT]"), "{ended}");
            answered.is_ok_and(|answer| answer.status == 200)
        });
        balancer
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // SIGTERM, because nginx has children of its own.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}
