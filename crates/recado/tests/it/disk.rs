//! A failing disk: it is full, or its syncs fail. Meanwhile nothing is accepted without being stored, callers are
//! answered with a retryable error, and the server recovers by itself. A call that is repeated with its key makes one card.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Home, PATIENCE, Server, agent, call, wait_for};
use crate::receiver::Receiver;
use crate::trace::Strace;
use crate::v1::{ALL_SCOPES, assert_refused, create_key};

const CONTACT: &str = "/v1/channels/sandbox/messages/contact";
const SENDERS: usize = 4;

#[test]
fn a_full_disk_loses_nothing_and_heals_by_itself() {
    let disk = SmallDisk::mount();
    let home = Home::init_in(&disk.dir);
    let key = home.unlimited_key();
    let server = home.serve();
    let accepted = send_through(&server, &key, |senders| {
        let mut ballast = Ballast::new(&disk.dir);
        let refused = senders.refused.load(SeqCst);
        wait_for("callers to be refused by a full disk", || {
            // Repeatedly, because the server may still free some space.
            ballast.fill();
            senders.refused.load(SeqCst) >= refused + 3 * SENDERS
        });
        is_red_and_alive(&server, || ballast.fill());
    });
    survives_a_kill(server, &home, &key, accepted);
}

#[test]
fn failed_syncs_lose_nothing_and_heal_by_themselves() {
    let home = Home::init();
    let key = home.unlimited_key();
    let server = home.serve();
    let trace = home.dir.with_extension("trace");
    let accepted = send_through(&server, &key, |senders| {
        // Several times, because a row occasionally survives its failed sync: a repeated call could double those cards.
        for _ in 0..5 {
            let strace = fail_syncs(&server, "", &trace);
            let refused = senders.refused.load(SeqCst);
            wait_for("callers to be refused by failing syncs", || {
                senders.refused.load(SeqCst) >= refused + 3 * SENDERS
            });
            is_red_and_alive(&server, || {});
            strace.detach();
            assert_ne!(injected(&trace), 0, "no sync was made to fail");
            wait_for("/health/ready to be green again", || server.get("/health/ready", None).status == 200);
            senders.wait_for_accepted(10);
        }
    });
    survives_a_kill(server, &home, &key, accepted);
}

#[test]
fn syncs_that_fail_now_and_then_lose_nothing() {
    let home = Home::init();
    let key = home.unlimited_key();
    let server = home.serve();
    let trace = home.dir.with_extension("trace");
    let accepted = send_through(&server, &key, |senders| {
        // For each thread the tenth and each twentieth after it: enough successful ones between them to recover.
        let strace = fail_syncs(&server, ":when=10+20", &trace);
        for _ in 0..3 {
            let refused = senders.refused.load(SeqCst);
            wait_for("a caller to be refused", || senders.refused.load(SeqCst) > refused);
            senders.wait_for_accepted(10);
        }
        strace.detach();
        assert_ne!(injected(&trace), 0, "no sync was made to fail");
    });
    survives_a_kill(server, &home, &key, accepted);
}

#[test]
fn a_full_disk_refuses_a_file_and_keeps_no_half_of_it() {
    let disk = SmallDisk::mount();
    let home = Home::init_in(&disk.dir);
    let key = create_key(&home, "test", ALL_SCOPES, "unlimited");
    let server = home.serve_with(&["--allow-networks", "127.0.0.0/8"]);
    let host = Receiver::start(&[("", "the bytes of a file")]);
    let body = json!({"from": "5511977776666", "type": "document", "content": {"url": host.url}});
    let told = server.post("/v1/sandbox/simulate/incoming", &key, &body).expect(202).json();
    let message = format!("/v1/channels/sandbox/messages/{}", told["data"]["messageId"].as_str().expect("an id"));
    let message = server.get(&message, Some(&key)).expect(200).json()["data"].clone();
    let url = message["mediaUrl"].as_str().expect("a path");
    let ballast = {
        let mut ballast = Ballast::new(&disk.dir);
        ballast.fill();
        ballast
    };
    let full = r#"{"message":"Sem espaco para guardar a midia.","code":"MEDIA_STORE_FULL"}"#;
    assert_refused("a full disk", &server.get(url, Some(&key)), (503, full));
    let files = || std::fs::read_dir(disk.dir.join("media")).into_iter().flatten().count();
    assert_eq!(files(), 0);
    drop(ballast);
    wait_for("room for the file", || server.get(url, Some(&key)).status == 200);
    assert_eq!((server.get(url, Some(&key)).expect(200).text(), files()), ("the bytes of a file", 1));
}

/// Makes the syncs of the server fail until the tracer ends: those of the store and of the sandbox network alike, as a bad
/// disk would.
fn fail_syncs(server: &Server, when: &str, trace: &Path) -> Strace {
    let fault = format!("inject=fdatasync,fsync:error=EIO{when}");
    let output = trace.to_str().expect("UTF-8");
    Strace::attach(server, &["-e", "trace=fdatasync,fsync", "-e", &fault, "-o", output])
}

fn injected(trace: &Path) -> usize {
    let trace = std::fs::read_to_string(trace).expect("strace wrote its file");
    let count = trace.matches("(INJECTED)").count();
    println!("{count} syncs were made to fail");
    count
}

fn is_red_and_alive(server: &Server, mut keep_broken: impl FnMut()) {
    // A try to reopen the store may succeed for a moment, so this waits.
    wait_for("/health/ready to be red", || {
        keep_broken();
        server.get("/health/ready", None).status == 503
    });
    server.get("/health/live", None).expect(200);
}

/// A card that was accepted.
struct Accepted {
    name: String,
    location: String,
}

/// Callers in closed loops: each sends a card, repeats it with the same key until it is accepted, and sends the next one.
struct Senders<'a> {
    server: &'a Server,
    key: &'a str,
    accepted: Mutex<Vec<Accepted>>,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    replayed: AtomicUsize,
    /// Stop new cards; the current one is still completed.
    stop: AtomicBool,
    /// The test has failed: do not repeat any more.
    give_up: AtomicBool,
}

/// Ends the senders when the test panics. Otherwise they would continue until the outage ends.
struct GiveUp<'a>(&'a AtomicBool);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Keeps the senders running through an outage and after it, without a restart. Returns the accepted cards.
fn send_through(server: &Server, key: &str, outage: impl FnOnce(&Senders)) -> Vec<Accepted> {
    let senders = Senders {
        server,
        key,
        accepted: Mutex::default(),
        refused: AtomicUsize::new(0),
        unanswered: AtomicUsize::new(0),
        replayed: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        give_up: AtomicBool::new(false),
    };
    let shared = &senders;
    std::thread::scope(|scope| {
        let _give_up = GiveUp(&shared.give_up);
        let running: Vec<_> = (0..SENDERS).map(|number| scope.spawn(move || shared.run(number))).collect();
        shared.wait_for_accepted(40);
        outage(shared);
        wait_for("/health/ready to be green again", || server.get("/health/ready", None).status == 200);
        shared.wait_for_accepted(40);
        shared.stop.store(true, SeqCst);
        for sender in running {
            sender.join().expect("a sender brings its last card home");
        }
    });
    let accepted = senders.accepted.into_inner().expect("no sender panicked");
    let (refused, unanswered, replayed) = (senders.refused, senders.unanswered, senders.replayed);
    println!(
        "{} accepted, of them {replayed:?} replayed; {refused:?} refused, {unanswered:?} unanswered",
        accepted.len()
    );
    accepted
}

impl Senders<'_> {
    fn run(&self, number: usize) {
        let agent = agent();
        let mut card = 0;
        while !self.stop.load(SeqCst) && !self.give_up.load(SeqCst) {
            self.send(&agent, format!("Sender {number} card {card}"));
            card += 1;
        }
    }

    fn send(&self, agent: &ureq::Agent, name: String) {
        let url = self.server.url(CONTACT);
        let key = key_of(&name);
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", &*key)];
        let end = Instant::now() + PATIENCE * 3;
        while !self.give_up.load(SeqCst) {
            assert!(Instant::now() < end, "{name} was never accepted");
            match call(agent, &url, "POST", Some(self.key), &headers, Some(card(&name).as_bytes())) {
                Ok(answer) if answer.status == 202 => {
                    self.replayed.fetch_add(usize::from(answer.header("Idempotent-Replayed").is_some()), SeqCst);
                    return self.accepted.lock().expect("no sender panicked").push(accepted(name, &answer));
                }
                Ok(answer) => {
                    must_be_unavailable(&answer);
                    self.refused.fetch_add(1, SeqCst);
                }
                // No answer: the caller cannot know whether the card is stored, and repeats the call.
                Err(_) => drop(self.unanswered.fetch_add(1, SeqCst)),
            }
            // The pause of a caller that was refused, shorter than the one that the server asked for.
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn wait_for_accepted(&self, more: usize) {
        let accepted = || self.accepted.lock().expect("no sender panicked").len();
        let goal = accepted() + more;
        wait_for("cards to be accepted", || accepted() >= goal);
    }
}

fn card(name: &str) -> String {
    json!({"to": "5511999998888", "name": name, "phone": "5511988887777"}).to_string()
}

/// The idempotency key of a card.
fn key_of(name: &str) -> String {
    name.replace(' ', "-")
}

fn accepted(name: String, answer: &Answer) -> Accepted {
    Accepted { name, location: answer.header("Location").expect("a 202 says where the message is").to_owned() }
}

/// The only permitted answer, besides a 202, while the disk fails.
fn must_be_unavailable(answer: &Answer) {
    let body =
        r#"{"message":"Servico indisponivel. Tente novamente em alguns segundos.","code":"SERVICE_UNAVAILABLE"}"#;
    assert_eq!((answer.status, answer.text()), (503, body));
    let seconds = answer.header("Retry-After").expect("a 503 says when to come again");
    assert!(seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0), "Retry-After: {seconds}");
}

/// Checks that all accepted cards arrive once each, and that repeated calls make no new ones; then that a crash loses none
/// of them, including those accepted a moment before it.
fn survives_a_kill(server: Server, home: &Home, key: &str, mut all: Vec<Accepted>) {
    all.push(send_one(&server, key, "The last before the check"));
    shows_each_once(&server, key, &all);
    for card in &all {
        let answer = send_one(&server, key, &card.name);
        assert_eq!(answer.location, card.location, "{} was accepted again, in spite of its key", card.name);
    }
    for number in 0..20 {
        all.push(send_one(&server, key, &format!("A moment before the crash {number}")));
    }
    server.kill();
    let server = home.serve();
    all.push(send_one(&server, key, "The last after the crash"));
    shows_each_once(&server, key, &all);
    for Accepted { name, location } in &all {
        wait_for("an accepted message to be read", || {
            let message = server.get(location, Some(key)).expect(200).json();
            assert_eq!(message["data"]["contact"]["name"], **name);
            message["data"]["status"] == "READ"
        });
    }
}

fn send_one(server: &Server, key: &str, name: &str) -> Accepted {
    let idempotency = key_of(name);
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", &*idempotency)];
    accepted(
        name.to_owned(),
        &server.call("POST", CONTACT, Some(key), &headers, Some(card(name).as_bytes())).expect(202),
    )
}

/// The inbox contains exactly the accepted cards, each once. The last one was sent when all others had their answers, so by
/// the order of a channel nothing is in flight when it is there.
fn shows_each_once(server: &Server, key: &str, all: &[Accepted]) {
    let last = &all.last().expect("at least one card").name;
    wait_for("the last card to be on the phone", || {
        let newest = server.get("/v1/sandbox/messages?limit=100", Some(key)).expect(200).json();
        newest["data"].as_array().expect("a list").iter().any(|message| message["contact"]["name"] == **last)
    });
    let phone = phone(server, key);
    let arrivals: u64 = phone.iter().map(|message| message["arrivals"].as_u64().expect("a count")).sum();
    println!("{} accepted, {} on the phone, {arrivals} arrivals", all.len(), phone.len());
    let mut shown: Vec<_> = phone.iter().map(|message| message["contact"]["name"].as_str().expect("a name")).collect();
    let mut expected: Vec<_> = all.iter().map(|card| &*card.name).collect();
    shown.sort_unstable();
    expected.sort_unstable();
    assert_eq!(shown, expected, "on the phone (left) is not what was accepted (right)");
}

fn phone(server: &Server, key: &str) -> Vec<Value> {
    let mut messages = Vec::new();
    let mut path = "/v1/sandbox/messages?limit=100".to_owned();
    loop {
        let page = server.get(&path, Some(key)).expect(200).json();
        messages.extend(page["data"].as_array().expect("a list").iter().cloned());
        let Some(cursor) = page["pagination"]["nextCursor"].as_str() else { return messages };
        path = format!("/v1/sandbox/messages?limit=100&cursor={cursor}");
    }
}

/// A separate file system, small enough to be filled quickly. Unmounted when dropped.
pub struct SmallDisk {
    pub dir: PathBuf,
    // Removed after the unmount, because fields are dropped after their owner.
    _above: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount() -> Self {
        Self::of("64m")
    }

    /// The same with another size, as `mount` writes it.
    pub fn of(size: &str) -> Self {
        let above = tempfile::tempdir().expect("a temporary directory");
        // The data directory is the mount itself. The server's log is beside it and still has space.
        let dir = above.path().join("data");
        std::fs::create_dir(&dir).expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "recado-test"])
            .arg(&dir)
            .output()
            .expect("mount is installed");
        let words = String::from_utf8_lossy(&mount.stderr);
        assert!(mount.status.success(), "this test mounts a tmpfs: run it as root, with CAP_SYS_ADMIN ({words})");
        Self { dir, _above: above }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, because a process that is just ending may still hold a file.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.dir).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be unmounted", self.dir.display());
        }
    }
}

/// A file that uses all free space, and releases it when dropped.
pub struct Ballast {
    file: File,
    path: PathBuf,
}

impl Ballast {
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("ballast");
        Self { file: File::create(&path).expect("a file for the ballast"), path }
    }

    pub fn fill(&mut self) {
        // Small pieces at the end, so that the last free page is used too.
        for piece in [1 << 20, 1 << 12] {
            let piece = vec![1; piece];
            let end = std::iter::repeat_with(|| self.file.write(&piece)).find_map(Result::err).expect("an end");
            assert_eq!(end.kind(), ErrorKind::StorageFull, "{end}");
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // The space is released when the file is closed too, a moment later.
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("the ballast stays: {error}");
        }
    }
}
