//! `recado doctor`: checks what a server depends on, and says what to do if something is wrong.

mod database;
mod files;
mod secrets;
mod store;
mod system;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use recado_gateway::config::{Database, SecretKey, address};
use recado_gateway::control::{Client, SOCKET_FILE};
use recado_gateway::lock::DataDirLock;
use serde::Serialize;
use serde_json::Value;

use crate::read_only::is_read_only;
use crate::{Common, Exit, output};

/// Check this machine and the data directory, and say what to do
///
/// Works beside a running server. Exits with 1 when something fails, with 0 when there are only warnings.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Address that the server listens on, or is to
    #[arg(long, env = "RECADO_LISTEN", hide_env_values = true, default_value = "127.0.0.1:8080", value_name = "ADDR",
          value_parser = address)]
    listen: SocketAddr,
    /// Connections of the server at a time
    #[arg(long, env = "RECADO_MAX_CONNECTIONS", hide_env_values = true, default_value_t = 16_384, value_name = "N")]
    max_connections: u32,
    #[command(flatten)]
    secret_key: SecretKey,
    #[command(flatten)]
    database: Database,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

/// A check and its result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    name: &'static str,
    status: Status,
    found: String,
    /// What a person should do.
    to_do: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), to_do: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, found: found.into(), to_do: Some(to_do.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, to_do: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, found: found.into(), to_do: Some(to_do.into()) }
    }
}

impl Doctor {
    pub async fn run(self) -> Result<Exit> {
        let dir = &self.common.data_dir.data_dir;
        let (first, served) = server(dir).await;
        let mut checks = vec![first];
        if self.database.urls().is_some() {
            // With a shared database, the directory contains only the lock and the socket, and is created when a node
            // starts.
            checks.extend(database::checks(&self.database, &self.secret_key).await);
        } else if is_read_only(dir) {
            checks.push(read_only(dir));
        } else if dir.is_dir() {
            checks.extend(files::checks(dir, served));
            let (dir, secret_key) = (dir.clone(), self.secret_key);
            checks.extend(tokio::task::spawn_blocking(move || store::checks(&dir, served, &secret_key)).await?);
        } else {
            checks.push(no_directory(dir));
        }
        checks.push(system::clock());
        checks.push(system::port(self.listen, served).await);
        checks.push(system::open_files(self.max_connections));
        let failed = checks.iter().any(|check| check.status == Status::Fail);
        let value = serde_json::to_value(&checks)?;
        let text = || checks.iter().map(line_of).collect::<Vec<_>>().join("\n");
        let printed = output::print(&self.common.output, &value, text);
        if failed { Exit::Failed } else { Exit::Done }.after(printed)
    }
}

/// Whether a server runs on the directory. A server without its socket counts too, although commands do not reach it.
async fn server(dir: &Path) -> (Check, bool) {
    let name = "server";
    // The lock may be held by another command, or by a server that has not opened its socket yet, but only for a moment.
    for _ in 0..20 {
        if Client::connect(dir).await.is_ok() {
            return (Check::ok(name, "one runs on this directory"), true);
        }
        if !DataDirLock::is_held(dir) {
            return (Check::ok(name, "none runs on this directory"), false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let found =
        format!("a process works on this directory, but no server answers on {}", dir.join(SOCKET_FILE).display());
    (Check::fail(name, found, "a long command? Wait for it. A server whose socket is gone? Restart it"), true)
}

fn no_directory(dir: &Path) -> Check {
    Check::fail(
        "data directory",
        format!("{} is no directory that can be read", dir.display()),
        format!("make one with `recado init --data-dir {}`, or name the right one", dir.display()),
    )
}

/// The store cannot be opened there, which says nothing of its health.
fn read_only(dir: &Path) -> Check {
    Check::fail(
        "data directory",
        format!("{} is on a disk that is mounted read-only, so nothing can be stored", dir.display()),
        "find out why (`dmesg`), and mount it for writing; `recado backup` and lists work meanwhile",
    )
}

/// A store without an institution has no key.
fn institutions(count: i64) -> Check {
    let name = "institutions";
    match count {
        0 => Check::fail(name, "there are none", "make the first one with `recado init`"),
        count => Check::ok(name, count.to_string()),
    }
}

fn line_of(check: &Check) -> String {
    let status = serde_json::to_value(check.status).unwrap_or(Value::Null);
    let line = format!("{:4}  {:14}  {}", status.as_str().unwrap_or_default(), check.name, check.found);
    check.to_do.iter().fold(line, |line, to_do| format!("{line}\n{:22}-> {to_do}", ""))
}
