//! `recado status`: the state of everything at a glance.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use recado_domain::clock::Clock;
use recado_gateway::control::Command as Control;
use recado_gateway::gateway::STORE_FILE;
use recado_gateway::last_backup::{self, LAST_BACKUP_FILE, LastBackup};
use recado_store::clock::{SystemClock, rfc3339};
use serde_json::{Value, json};

use crate::local::Local;
use crate::{Common, output};

/// Show nodes, queues, sessions, webhooks, files and the last backup
///
/// A running server tells its own state; without one the command reads the store.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    common: Common,
}

impl Status {
    pub async fn run(self) -> Result<()> {
        let dir = &self.common.data_dir.data_dir;
        let local = Local::open(dir).await?;
        let served = matches!(local, Local::Server(_));
        let shown = local.execute(Control::Status).await;
        local.close().await;
        let mut status = shown?;
        status["dataDir"] = json!(dir.display().to_string());
        status["served"] = json!(served);
        if !served {
            // Nothing is ready without a server, and the key of a command proves nothing about a server's.
            status["ready"] = json!(false);
            status["secretKeyOk"] = Value::Null;
        }
        status["disk"] = disk(dir, status["engine"] == "sqlite");
        status["lastBackup"] = backed_up(last_backup::read(dir));
        output::print(&self.common.output, &status, || text(&status))
    }
}

/// The last backup; `null` if there was none. A record that cannot be read has an `error` in place of a time.
fn backed_up(read: io::Result<Option<LastBackup>>) -> Value {
    match read {
        Ok(None) => Value::Null,
        Ok(Some(backup)) => json!({
            "at": rfc3339(backup.at), "to": backup.to.display().to_string(),
            "ageSeconds": (SystemClock.now() - backup.at).max(0) / 1_000,
        }),
        Err(error) => json!({ "error": format!("{LAST_BACKUP_FILE} cannot be read: {error}") }),
    }
}

/// Sizes in bytes. The file of a store in a database is not here.
fn disk(dir: &Path, in_file: bool) -> Value {
    let size = |name: &str| dir.join(name).metadata().ok().filter(|_| in_file).map(|file| file.len());
    let free = rustix::fs::statvfs(dir).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    json!({ "store": size(STORE_FILE), "wal": size(&format!("{STORE_FILE}-wal")), "free": free })
}

fn text(status: &Value) -> String {
    let mut lines = vec![head(status)];
    let mut line = |name: &str, text: String| lines.push(format!("{name:12}  {text}"));
    let key = match status["secretKeyOk"].as_bool() {
        Some(true) => "opens what channels need",
        Some(false) => "MISSING OR WRONG: channels with secrets wait",
        None => "not tried, see `recado doctor`",
    };
    line("secret key", key.to_owned());
    line("channels", states(&status["channels"]));
    let sessions = &status["sessions"];
    line("sessions", format!("{} of {} linked phones are open here", sessions["openHere"], sessions["linked"]));
    line("messages", waiting(&status["waiting"]));
    let disabled = &status["webhooks"]["disabled"];
    line("webhooks", format!("{}; {disabled} disabled after failures", waiting(&status["webhooks"])));
    line("disk", sizes(&status["disk"]));
    line("last backup", backup(status));
    for node in status["nodes"].as_array().into_iter().flatten() {
        let types = node["sendsFor"].as_array().map_or(0, Vec::len);
        let sends = if types == 0 { "nothing".to_owned() } else { output::cell(&node["sendsFor"]) };
        let (name, id) = (output::cell(&node["name"]), &node["id"]);
        let (channels, lease) = (&node["channels"], &node["leaseLeftSeconds"]);
        line("node", format!("{name} ({id}): {channels} channels, lease {lease} s, sends {sends}"));
    }
    for queue in status["queues"].as_array().into_iter().flatten() {
        let (channel, state) = (output::cell(&queue["channel"]), output::cell(&queue["state"]));
        let served = if queue["served"] == false { ", NO NODE SENDS FOR ITS TYPE" } else { "" };
        let of = json!({ "count": queue["waiting"], "oldestAgeSeconds": queue["oldestAgeSeconds"] });
        line("queue", format!("{channel} ({}, {state}{served}): {}", output::cell(&queue["type"]), waiting(&of)));
    }
    lines.join("\n")
}

fn head(status: &Value) -> String {
    let server = match (status["served"].as_bool(), status["ready"].as_bool()) {
        (Some(true), Some(true)) => "a server runs, and is ready",
        (Some(true), _) => "a server runs, and is NOT READY",
        _ => "NO SERVER runs here",
    };
    let (version, engine) = (output::cell(&status["version"]), output::cell(&status["engine"]));
    format!("recado {version} on {engine}, {}: {server}", output::cell(&status["dataDir"]))
}

fn states(states: &Value) -> String {
    let states: Vec<_> =
        states.as_object().into_iter().flatten().map(|(state, channels)| format!("{channels} {state}")).collect();
    if states.is_empty() { "none".to_owned() } else { states.join(", ") }
}

fn waiting(of: &Value) -> String {
    match of["oldestAgeSeconds"].as_u64() {
        Some(age) => format!("{} wait, the oldest for {}", of["count"], duration(age)),
        None => "none waits".to_owned(),
    }
}

fn duration(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn sizes(disk: &Value) -> String {
    let mib = |name: &str| disk[name].as_u64().map(|bytes| bytes >> 20);
    let store = mib("store").map(|store| format!("store {store} MiB, log {} MiB, ", mib("wal").unwrap_or(0)));
    let free = mib("free").map_or_else(|| "free space unknown".to_owned(), |free| format!("{free} MiB free"));
    format!("{}{free}", store.unwrap_or_default())
}

fn backup(status: &Value) -> String {
    let backup = &status["lastBackup"];
    match backup["ageSeconds"].as_u64() {
        Some(age) => {
            format!("{}, {} ago, to {}", output::cell(&backup["at"]), duration(age), output::cell(&backup["to"]))
        }
        None if backup["error"].is_string() => {
            format!("UNKNOWN: {}. The next backup replaces the file", output::cell(&backup["error"]))
        }
        None if status["engine"] == "postgresql" => "by PostgreSQL's own means".to_owned(),
        None => "NONE by `recado backup`".to_owned(),
    }
}
