//! Proves by system calls that an accepted message is stored: no byte of a 202 leaves before a sync of the write-ahead log
//! that covers its row has succeeded. Without `synchronous=FULL` there is no such sync, and this test fails.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::{Home, Server, agent, call, wait_for};

const SENDERS: usize = 8;
const CARDS_EACH: usize = 50;

/// The prefix of a card's marker. Six digits follow it, in the card's name and in its `X-Request-Id`.
const MARKER: &str = "mark-";

#[test]
fn the_first_byte_of_a_202_follows_a_sync_that_covers_its_row() {
    let home = Home::init();
    let key = home.unlimited_key();
    let server = home.serve();
    let trace = home.dir.with_extension("trace");
    // A page of the log is 4,096 bytes; a string that `-s` cuts short could hide a marker.
    let calls = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fdatasync,fsync";
    let strace = Strace::attach(&server, &["-y", "-s", "8192", "-e", calls, "-o", trace.to_str().expect("UTF-8")]);
    send_from_many_threads(&server, &key);
    strace.detach();

    let proof = Proof::of(BufReader::new(File::open(&trace).expect("strace wrote its file")));
    let sent = SENDERS * CARDS_EACH;
    println!("{sent} answers, {} proven, {} syncs stored them", proof.proven.len(), proof.groups);
    assert!(proof.unproven.is_empty(), "answered before they were stored: {:?}", proof.unproven);
    assert_eq!(proof.proven.iter().collect::<HashSet<_>>().len(), sent, "not every answer was seen");
    // Concurrent callers share a commit. Otherwise the promised throughput on one disk would not be possible.
    assert!(proof.groups < sent, "{} syncs for {sent} cards: no commit was shared", proof.groups);
}

fn send_from_many_threads(server: &Server, key: &str) {
    std::thread::scope(|scope| {
        for sender in 0..SENDERS {
            scope.spawn(move || {
                let agent = agent();
                let url = server.url("/v1/channels/sandbox/messages/contact");
                for card in 0..CARDS_EACH {
                    let marker = format!("{MARKER}{:06}", sender * CARDS_EACH + card);
                    let body = json!({"to": "5511999998888", "name": marker, "phone": "5511988887777"}).to_string();
                    let headers = [("Content-Type", "application/json"), ("X-Request-Id", &*marker)];
                    let answer = call(&agent, &url, "POST", Some(key), &headers, Some(body.as_bytes()));
                    answer.expect("an answer").expect(202);
                }
            });
        }
    });
}

/// `strace` on a running server. It is attached instead of started around the server, because a tracer that starts its
/// tracee can leave it behind when a test is torn down.
pub(crate) struct Strace(Child);

impl Strace {
    /// Follows all threads, those to come too. Returns when every call is traced.
    pub(crate) fn attach(server: &Server, flags: &[&str]) -> Self {
        // A file and not a pipe: nothing reads it, and a full pipe would stop the tracer and with it the server.
        let stderr = tempfile::NamedTempFile::new().expect("a temporary file");
        let child = Command::new("strace")
            .args(["-f", "-p", &server.pid().to_string()])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.reopen().expect("the temporary file opens"))
            .spawn()
            .expect("strace is installed");
        let mut strace = Self(child);
        wait_for("strace to attach", || {
            let report = std::fs::read_to_string(stderr.path()).expect("the temporary file is read");
            let ended = strace.0.try_wait().expect("strace can be waited for");
            assert!(ended.is_none(), "strace could not attach (may this user trace processes?): {report}");
            report.contains("attached")
        });
        strace
    }

    /// Lets the server go on alone. All that was traced is in the file by then.
    pub(crate) fn detach(self) {
        drop(self);
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Terminated and not killed: a killed tracer can leave a thread in the middle of an injected call.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

/// The evidence of a trace.
#[derive(Default)]
struct Proof {
    /// Markers of the 202 answers that left after a sync that covers them.
    proven: Vec<String>,
    /// Markers of the other 202 answers, or the written data without a marker.
    unproven: Vec<String>,
    /// Syncs that made at least one more marker durable.
    groups: usize,
    /// Calls that began and have not ended, by thread.
    running: HashMap<String, Call>,
    /// Markers in pages whose transaction has no commit frame yet.
    uncommitted: Vec<String>,
    /// Whether the next page of the log ends a transaction.
    commits: bool,
    /// Markers of the transactions written in full, oldest first, each once.
    written: Vec<String>,
    /// How many of `written` a successful sync covers.
    synced: usize,
}

enum Call {
    /// Bytes on their way into the log.
    Log(Vec<u8>),
    /// A sync of the log, with the length that `written` had when it began: what came later it need not cover.
    Sync(usize),
}

impl Proof {
    fn of(trace: impl BufRead) -> Self {
        let mut proof = Self::default();
        for line in trace.lines() {
            proof.line(&line.expect("strace writes ASCII"));
        }
        proof
    }

    /// A line is a whole call, its beginning (`… <unfinished ...>`), its end (`<... name resumed>…`), or none of these.
    fn line(&mut self, line: &str) {
        let Some((thread, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        let cut = rest.ends_with("<unfinished ...>") || rest.ends_with("<detached ...>");
        if let Some((name, arguments)) = rest.split_once('(')
            && !rest.starts_with("<... ")
        {
            self.begin(thread, name, arguments);
        }
        if let Some((_, result)) = rest.rsplit_once(" = ")
            && !cut
        {
            let number = result.split(' ').next().unwrap_or_default();
            self.end(thread, number.parse().unwrap_or(-1));
        }
    }

    fn begin(&mut self, thread: &str, name: &str, arguments: &str) {
        // With `-y` the descriptor comes with its file: `9</tmp/…/recado.db-wal>`.
        let file = arguments.split_once('<').and_then(|(_, file)| file.split_once('>')).map_or("", |(file, _)| file);
        let log = file.ends_with("/recado.db-wal");
        let call = match name {
            "fdatasync" | "fsync" if log => Call::Sync(self.written.len()),
            "fdatasync" | "fsync" => return,
            _ if log => Call::Log(bytes(arguments)),
            _ => return self.answers(&bytes(arguments)),
        };
        self.running.insert(thread.to_owned(), call);
    }

    /// An answer counts from the beginning of its write, a write to the log and a sync from their end.
    fn end(&mut self, thread: &str, result: i64) {
        match self.running.remove(thread) {
            Some(Call::Sync(covered)) if result == 0 && covered > self.synced => {
                self.synced = covered;
                self.groups += 1;
            }
            Some(Call::Log(data)) if usize::try_from(result) == Ok(data.len()) => self.logged(&data),
            _ => {}
        }
    }

    /// Follows the frames of the log: a header of 24 bytes, then a page. The header's second word is not 0 when its
    /// page is the last of a transaction; only then does a sync store what the pages before it hold.
    /// <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>
    fn logged(&mut self, data: &[u8]) {
        if data.len() == 24 {
            self.commits = data[4..8] != [0; 4];
            return;
        }
        self.uncommitted.extend(markers(&String::from_utf8_lossy(data)));
        if self.commits {
            // A page is written again with each row that joins it: the first time is the one that counts.
            for marker in std::mem::take(&mut self.uncommitted) {
                if !self.written.contains(&marker) {
                    self.written.push(marker);
                }
            }
        }
    }

    fn answers(&mut self, data: &[u8]) {
        // Names of headers have no case.
        let text = String::from_utf8_lossy(data).to_ascii_lowercase();
        for answer in text.split("http/1.1 ").filter(|answer| answer.starts_with("202")) {
            let id = answer.split_once("\r\nx-request-id:").and_then(|(_, id)| markers(id).next());
            match id {
                Some(id) if self.written[..self.synced].contains(&id) => self.proven.push(id),
                other => self.unproven.push(other.unwrap_or_else(|| answer.to_owned())),
            }
        }
    }
}

fn markers(text: &str) -> impl Iterator<Item = String> {
    text.match_indices(MARKER).filter_map(|(at, _)| text.get(at..at + MARKER.len() + 6)).map(str::to_owned)
}

/// All quoted strings of a call's arguments in one (a vectored write has several), their escapes undone.
fn bytes(arguments: &str) -> Vec<u8> {
    let mut rest = arguments.bytes().peekable();
    let mut data = Vec::new();
    let mut quoted = false;
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => data.push(escaped(&mut rest)),
            _ if quoted => data.push(byte),
            _ => {}
        }
    }
    data
}

fn escaped(rest: &mut std::iter::Peekable<std::str::Bytes>) -> u8 {
    match rest.next().unwrap_or_default() {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'v' => 0x0b,
        b'f' => 0x0c,
        first @ b'0'..=b'7' => {
            // One to three octal digits, as few as the next character allows.
            let mut value = first - b'0';
            for _ in 0..2 {
                let Some(digit) = rest.next_if(|byte| (b'0'..=b'7').contains(byte)) else { break };
                value = value.wrapping_mul(8).wrapping_add(digit - b'0');
            }
            value
        }
        other => other,
    }
}

/// The parser against small traces made by hand, in the letters `strace -f -y` writes.
mod parser {
    use super::Proof;

    const SYNC: &str = "7  fdatasync(9</d/recado.db-wal>) = 0";
    const ANSWER: &str = r#"8  writev(12<socket:[1]>, [{iov_base="HTTP/1.1 202 Accepted\r\nx-request-id: mark-000001\r\n", iov_len=51}, {iov_base="\r\n{}", iov_len=4}], 2) = 55"#;

    /// A frame's header; `size` is the database's size in pages after a commit, 0 within a transaction.
    fn header(size: u8) -> String {
        format!(
            r#"7  pwrite64(9</d/recado.db-wal>, "\0\0\0\2\0\0\0\{size}?\251\25\374k\345}}\24\6!\4U\317\243\357\340", 24, 56) = 24"#
        )
    }

    fn page(marker: &str) -> String {
        format!(r#"7  pwrite64(9</d/recado.db-wal>, "\r\0\1\"{marker}\0", 16, 80) = 16"#)
    }

    fn proof(lines: &[&str]) -> Proof {
        Proof::of(lines.join("\n").as_bytes())
    }

    /// The proven, the unproven.
    fn counts(lines: &[&str]) -> (usize, usize) {
        let proof = proof(lines);
        (proof.proven.len(), proof.unproven.len())
    }

    #[test]
    fn an_answer_after_the_sync_is_proven() {
        let proof = proof(&[&header(2), &page("mark-000001"), SYNC, ANSWER, "7  +++ exited with 0 +++"]);
        assert_eq!(proof.proven, ["mark-000001"]);
        assert!(proof.unproven.is_empty());
        assert_eq!(proof.groups, 1);
    }

    #[test]
    fn header_names_have_no_case() {
        let answer = ANSWER.replace("x-request-id", "X-Request-Id");
        assert_eq!(counts(&[&header(2), &page("mark-000001"), SYNC, &answer]), (1, 0));
    }

    #[test]
    fn other_answers_prove_nothing_and_harm_nothing() {
        assert_eq!(counts(&[&ANSWER.replace("202 Accepted", "503 Service Unavailable")]), (0, 0));
    }

    #[test]
    fn an_answer_without_its_id_is_refused() {
        let answer = ANSWER.replace("mark-", "other-");
        assert_eq!(counts(&[&header(2), &page("mark-000001"), SYNC, &answer]), (0, 1));
    }

    #[test]
    fn a_missing_sync_is_refused() {
        assert_eq!(counts(&[&header(2), &page("mark-000001"), ANSWER]), (0, 1));
        assert_eq!(counts(&[&header(2), &page("mark-000001"), ANSWER, SYNC]), (0, 1));
    }

    #[test]
    fn a_failed_sync_is_refused() {
        let failed = SYNC.replace("= 0", "= -1 EIO (Input/output error) (INJECTED)");
        assert_eq!(counts(&[&header(2), &page("mark-000001"), &failed, ANSWER]), (0, 1));
    }

    #[test]
    fn a_sync_of_another_file_is_refused() {
        for other in ["/d/recado.db", "/d/sandbox.db-wal"] {
            let sync = SYNC.replace("/d/recado.db-wal", other);
            assert_eq!(counts(&[&header(2), &page("mark-000001"), &sync, ANSWER]), (0, 1), "{other}");
        }
    }

    #[test]
    fn a_sync_that_began_before_the_write_is_refused() {
        let (began, ended) = ("6  fdatasync(9</d/recado.db-wal> <unfinished ...>", "6  <... fdatasync resumed>) = 0");
        assert_eq!(counts(&[began, &header(2), &page("mark-000001"), ended, ANSWER]), (0, 1));
        assert_eq!(counts(&[&header(2), &page("mark-000001"), began, ended, ANSWER]), (1, 0));
        assert_eq!(counts(&[&header(2), &page("mark-000001"), began, ANSWER, ended]), (0, 1));
    }

    #[test]
    fn an_answer_counts_from_its_first_byte() {
        let began = ANSWER.replace(") = 55", " <unfinished ...>");
        let ended = "8  <... writev resumed>) = 55";
        assert_eq!(counts(&[&header(2), &page("mark-000001"), &began, SYNC, ended]), (0, 1));
    }

    #[test]
    fn a_write_counts_when_it_has_ended_well() {
        let began = page("mark-000001").replace(") = 16", " <unfinished ...>");
        let ended = "7  <... pwrite64 resumed>, 16, 80)     = 16";
        let sync = SYNC.replace("7  ", "6  ");
        assert_eq!(counts(&[&header(2), &began, &sync, ended, ANSWER]), (0, 1));
        assert_eq!(counts(&[&header(2), &began, ended, &sync, ANSWER]), (1, 0));
        let failed = "7  <... pwrite64 resumed>) = -1 ENOSPC (No space left on device)";
        assert_eq!(counts(&[&header(2), &began, failed, &sync, ANSWER]), (0, 1));
    }

    #[test]
    fn a_sync_before_the_commit_frame_is_refused() {
        let (row, end) = (page("mark-000001"), page("nothing-new"));
        assert_eq!(counts(&[&header(0), &row, SYNC, &header(2), &end, ANSWER]), (0, 1));
        assert_eq!(counts(&[&header(0), &row, &header(2), &end, SYNC, ANSWER]), (1, 0));
    }

    #[test]
    fn rows_that_share_a_commit_share_its_sync() {
        let second = ANSWER.replace("mark-000001", "mark-000002");
        let (one, two) = (page("mark-000001"), page("mark-000002"));
        let proof = proof(&[&header(0), &one, &header(2), &two, SYNC, ANSWER, &second]);
        assert_eq!((proof.proven.len(), proof.groups), (2, 1));
    }
}
