//! Servers for single tests.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binaries::{self, User};
use crate::sql;
use crate::watchdog::Watchdog;

/// How long a start, a stop and a promotion may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Bytes for a server and the databases of concurrent tests.
const ROOM: u64 = 2 << 30;

/// Enough connections for many pools, and no shared memory outside the folder, which a crash would leave behind.
const SETTINGS: &str = "
max_connections = 300
shared_buffers = 64MB
dynamic_shared_memory_type = mmap
";

/// Not durable: for tests without crashes.
const NOT_DURABLE: &str = "
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
";

/// How a server is set up.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether commits survive a crash.
    pub durable: bool,
    /// Lines of `postgresql.conf`.
    pub settings: Vec<String>,
    /// Further IPv4 addresses to listen on, for the test's own hosts.
    pub addresses: Vec<String>,
}

impl Options {
    /// As in production.
    pub fn durable() -> Self {
        Self { durable: true, ..Self::default() }
    }
}

/// A server in a temporary folder, on loopback, with a superuser `recado` without a password. It ends with this value, and with the
/// process, however that ends.
pub struct Server {
    /// Deleted by the watchdog.
    folder: PathBuf,
    binaries: PathBuf,
    user: Option<User>,
    port: u16,
    /// The port.
    addresses: String,
    process: Option<Child>,
    watchdog: Watchdog,
}

impl Server {
    /// A new cluster.
    pub fn start(options: &Options) -> Self {
        let mut server = Self::prepare(&place(options.durable));
        let arguments = ["--no-sync", "--auth=trust", "--username=recado", "--encoding=UTF8", "--locale=C.UTF-8"];
        run_to_end(server.command("initdb").args(arguments).arg("-D").arg(server.data()), &server.log());
        let durability = if options.durable { "" } else { NOT_DURABLE };
        server.append("postgresql.conf", &format!("{SETTINGS}{durability}{}", options.settings.join("\n")));
        for address in &options.addresses {
            server.append("pg_hba.conf", &format!("host all all {address}/30 trust\n"));
            server.addresses = format!("{},{address}", server.addresses);
        }
        server.begin();
        server
    }

    /// A synchronous standby: later commits of the primary are on both. It is read-only until its promotion.
    pub fn standby_of(primary: &Self) -> Self {
        let mut server = Self::prepare(&place(true));
        let from = format!("host=127.0.0.1 port={} user=recado", primary.port);
        let arguments = ["--no-sync", "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "-d", &from];
        run_to_end(server.command("pg_basebackup").args(arguments).arg("-D").arg(server.data()), &server.log());
        server.begin();
        let at = primary.url("postgres");
        wait_for("the standby follows", || {
            sql::exists(&at, "select from pg_stat_replication where state = 'streaming'")
        });
        for setting in ["synchronous_standby_names = '*'", "synchronous_commit = on"] {
            // One by one: these statements may not run in a transaction.
            sql::run(&at, &format!("ALTER SYSTEM SET {setting}"));
        }
        sql::run(&at, "SELECT pg_reload_conf()");
        wait_for("the standby is synchronous", || {
            sql::exists(&at, "select from pg_stat_replication where sync_state = 'sync'")
        });
        server
    }

    /// A new folder.
    fn prepare(place: &Path) -> Self {
        let user = User::instead_of_root();
        let folder = temporary_folder(place, user);
        let watchdog = Watchdog::start(&folder);
        let (port, addresses) = (free_port(), Ipv4Addr::LOCALHOST.to_string());
        Self { folder, binaries: binaries::folder(), user, port, addresses, process: None, watchdog }
    }

    /// The URL of a database. A new server has one, `postgres`.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://recado@127.0.0.1:{}/{database}", self.port)
    }

    /// The address on loopback. The server also listens on a Unix socket in its folder.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills all processes of the server, as a power cut would.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        // Stopped first, so that it starts no more children.
        signal(process.id(), Signal::STOP);
        let children = children_of(process.id());
        for child in &children {
            signal(*child, Signal::KILL);
        }
        process.kill().expect("it is our child");
        process.wait().expect("it is our child");
        // The shared memory must be free for the next start.
        wait_for("its processes are gone", || !children.iter().any(|child| runs(*child)));
        self.watchdog.watch(None);
    }

    /// Freezes the server, as a machine that hangs: the system accepts connections, and the server does not answer.
    pub fn freeze(&self) {
        let process = self.process.as_ref().expect("it runs").id();
        // Stopped first, so that it starts no more children.
        signal(process, Signal::STOP);
        children_of(process).into_iter().for_each(|child| signal(child, Signal::STOP));
    }

    /// Continues a frozen server.
    pub fn thaw(&self) {
        let process = self.process.as_ref().expect("it runs").id();
        children_of(process).into_iter().for_each(|child| signal(child, Signal::CONT));
        signal(process, Signal::CONT);
    }

    /// Stops the server in order, as an upgrade would, and ends its connections.
    pub fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        signal(process.id(), Signal::INT);
        wait_for("it stops", || process.try_wait().expect("it is our child").is_some());
        self.watchdog.watch(None);
    }

    /// Restarts the server under the same URL.
    pub fn restart(&mut self) {
        self.stop();
        self.begin();
    }

    /// Promotes a standby; returns when it accepts writes.
    pub fn promote(&self) {
        sql::run(&self.url("postgres"), "SELECT pg_promote(true, 60)");
        wait_for("it accepts writes", || sql::exists(&self.url("postgres"), "SELECT WHERE NOT pg_is_in_recovery()"));
    }

    /// Starts the process; returns when it answers.
    fn begin(&mut self) {
        let log = log_file(&self.log());
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        command.args(["-c", &format!("listen_addresses={}", self.addresses), "-c"]);
        command.arg(format!("unix_socket_directories={}", self.folder.display()));
        // Ctrl-C is for the tests: the server ends with them.
        command.process_group(0);
        let process = command.stderr(log.try_clone().expect("a log")).stdout(log).spawn().expect("postgres starts");
        self.watchdog.watch(Some(process.id()));
        let process = self.process.insert(process);
        let url = format!("postgres://recado@127.0.0.1:{}/postgres", self.port);
        let log = self.folder.join("log");
        wait_for("it answers", || {
            if let Some(status) = process.try_wait().expect("it is our child") {
                panic!("postgres ended ({status}):\n{}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            sql::exists(&url, "SELECT 1")
        });
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = User::command(self.user, &self.binaries.join(program), &self.folder);
        command.stdin(std::process::Stdio::null());
        command
    }

    fn append(&self, file: &str, lines: &str) {
        let path = self.data().join(file);
        let mut file = OpenOptions::new().append(true).open(path).expect("initdb made it");
        file.write_all(lines.as_bytes()).expect("written");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.watchdog.end();
        if let Some(mut process) = self.process.take() {
            // Killed by the watchdog.
            drop(process.wait());
        }
    }
}

/// The parent of a server's folder: in memory if the data need not last and there is room, because a copy of a database takes 16 ms
/// there, and 300 on a disk.
fn place(durable: bool) -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    let has_room = || rustix::fs::statvfs(MEMORY).is_ok_and(|free| free.f_bavail * free.f_frsize >= ROOM);
    let in_memory = !durable && std::env::var_os("TMPDIR").is_none() && has_room();
    if in_memory { PathBuf::from(MEMORY) } else { std::env::temp_dir() }
}

/// A folder of this user's, which the watchdog deletes.
pub fn temporary_folder(place: &Path, user: Option<User>) -> PathBuf {
    let folder = TempDir::with_prefix_in("recado-postgres-", place).expect("a temporary folder").keep();
    User::own(user, &folder);
    folder
}

/// A free port.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

pub fn log_file(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a log")
}

/// Runs a program. A failure ends the test with the program's output.
fn run_to_end(command: &mut Command, log: &Path) {
    let file = log_file(log);
    let status = command.stderr(file.try_clone().expect("a log")).stdout(file).status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}\n{}", std::fs::read_to_string(log).unwrap_or_default());
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "PostgreSQL: waited in vain until {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn signal(process: u32, signal: Signal) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id");
    // A process that has ended needs no signal.
    let _ = kill_process(pid, signal);
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, its)| its == parent)).collect()
}

/// Whether a process is alive.
fn runs(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != 'Z')
}

/// A process's state and its parent.
fn stat(process: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may contain any characters.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
