//! A transaction pooler between clients and a server.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use crate::binaries::User;
use crate::server::{free_port, log_file, temporary_folder, wait_for};
use crate::sql;
use crate::watchdog::Watchdog;

/// Fewer connections than clients, so that clients change connections between transactions.
const CONNECTIONS: u32 = 3;

/// A pgbouncer on loopback. It ends with this value, and with the process.
pub struct Pooler {
    process: Child,
    watchdog: Watchdog,
    url: String,
}

impl Pooler {
    /// Starts a pooler for the server of a database.
    pub fn before(url: &str) -> Self {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter().find(|at| at.is_file());
        let program = program.expect("pgbouncer is not installed (Debian's package: pgbouncer)");
        let (server, database) = url.rsplit_once('/').expect("a URL that ends with its database");
        let (_, address) = server.rsplit_once(':').expect("a URL with a port");
        let port = free_port();
        let user = User::instead_of_root();
        let folder = temporary_folder(&std::env::temp_dir(), user);
        let config = folder.join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={address} user=recado\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\nmax_client_conn = 1000\n"
        );
        std::fs::write(&config, settings).expect("written");
        let mut watchdog = Watchdog::start(&folder);
        let process = start(user, &program, &folder, &config);
        watchdog.watch(Some(process.id()));
        let url = format!("postgres://recado@127.0.0.1:{port}/{database}");
        wait_for("the pooler answers", || sql::exists(&url, "SELECT 1"));
        Self { process, watchdog, url }
    }

    /// The database's URL through the pooler.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn start(user: Option<User>, program: &Path, folder: &Path, config: &Path) -> Child {
    let log = log_file(&folder.join("log"));
    let mut command = User::command(user, program, folder);
    command.arg("-q").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("pgbouncer starts")
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.watchdog.end();
        drop(self.process.wait());
    }
}
