//! `recado restore`: a data directory of a backup.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use recado_domain::channel::{Actor, ChannelAction};
use recado_domain::clock::Clock;
use recado_domain::error::AppError;
use recado_domain::ids::InstitutionId;
use recado_gateway::config::{Behaviour, SecretKey};
use recado_gateway::control::AskError;
use recado_gateway::gateway::{Gateway, SANDBOX_FILE, STORE_FILE};
use recado_gateway::lock::{DataDirLock, LOCK_FILE, make_private};
use recado_gateway::moved::Moved;
use recado_gateway::operations::channels;
use recado_providers::sandbox::network::SCHEMA_VERSION as SANDBOX_VERSION;
use recado_store::clock::SystemClock;
use recado_store::sealed::KeyRing;
use recado_store::sqlite::{SCHEMA_VERSION, contents};
use recado_store::sqlkit::sqlite::{open_read_only, tail};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::backup::manifest::Manifest;
use crate::backup::{FILES, copy_file, interruptible, need_room, place, sync_names, verify};
use crate::{Common, Exit, output, sealed};

/// The directory inside the data directory where the files are prepared.
const RESTORING: &str = "recado.restoring";
/// What a missing secret key costs.
const WITHOUT_KEY: &str =
    "those channels must be linked again, and those webhooks deliver nothing until they get new secrets";

/// Make a data directory of a backup, with its channels paused
///
/// The directory must be empty. Prints what will be sent again and what is missing. On PostgreSQL use its own tools.
#[derive(Debug, Args)]
pub struct Restore {
    /// Directory of the backup
    from: PathBuf,
    /// Leave the channels as they were: what waits is sent at the start of the server, also what was sent after the backup
    #[arg(long)]
    no_pause: bool,
    /// Also restore files without a valid backup.json, such as a copy of a stopped server's directory: whether they belong
    /// together is not checked
    #[arg(long)]
    ignore_manifest: bool,
    #[command(flatten)]
    secret_key: SecretKey,
    #[command(flatten)]
    common: Common,
}

impl Restore {
    pub async fn run(self) -> Result<Exit> {
        if Behaviour::from_environment().database.urls().is_some() {
            bail!("RECADO_DATABASE_URL names a database: restore it by pg_restore, or from its base backup");
        }
        let show = self.common.output.clone();
        match interruptible(move |stop| self.restore(stop)).await? {
            None => Ok(Exit::Interrupted),
            Some(report) => output::print(&show, &report, || text_of(&report)).map(Exit::done),
        }
    }

    fn restore(&self, stop: &dyn Fn() -> bool) -> Result<Value> {
        let from = std::path::absolute(&self.from)?;
        let dir = std::path::absolute(&self.common.data_dir.data_dir)?;
        ensure!(!dir.starts_with(&from), "{} is in the backup: name another --data-dir", dir.display());
        let keys = self.secret_key.read()?;
        // Before anything is created.
        let manifest = if self.ignore_manifest { None } else { Some(verify::verify(&from)?) };
        let store = from.join(STORE_FILE);
        ensure!(store.is_file(), "there is no {STORE_FILE} in {}", from.display());
        Moved::refuse(&store)?;
        if !DataDirLock::is_held(&from) {
            tail::check(&store)?;
        }
        check_is_free(&dir)?;
        let was_there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&dir).to_owned();
        make_private(&dir)?;
        let Some(_lock) = DataDirLock::try_acquire(&dir)? else { bail!(in_use(&dir)) };
        let unfinished = begin(&dir)?;
        let files: Vec<_> = FILES.into_iter().filter(|name| from.join(name).is_file()).collect();
        let prepared = self.prepare(&from, &unfinished, &files, (&keys, manifest.as_ref()), stop);
        let placed = prepared.and_then(|report| {
            // The store last: without it no server starts on the directory.
            for name in files.iter().rev() {
                File::open(unfinished.join(name))?.sync_all()?;
                place(&unfinished.join(name), &dir.join(name))?;
            }
            Ok(report)
        });
        let _ = std::fs::remove_dir_all(&unfinished);
        let mut report = placed?;
        sync_names(&dir, &was_there)?;
        report["restored"] = json!(dir.display().to_string());
        report["from"] = json!(from.display().to_string());
        Ok(report)
    }

    /// Copies the files, checks them, and pauses the channels. Returns the report.
    fn prepare(
        &self,
        from: &Path,
        unfinished: &Path,
        files: &[&str],
        (keys, manifest): (&KeyRing, Option<&Manifest>),
        stop: &dyn Fn() -> bool,
    ) -> Result<Value> {
        need_room(from, unfinished, files)?;
        for name in files {
            let copy = unfinished.join(name);
            copy_file(&from.join(name), &copy, stop)?;
            verify::open_file(&copy, if *name == STORE_FILE { SCHEMA_VERSION } else { SANDBOX_VERSION })?;
        }
        let store = open_read_only(&unfinished.join(STORE_FILE))?;
        let ids = sealed::key_ids(&store)?;
        check_keys(&store, keys)?;
        let sent_again = contents::waiting(&store, SystemClock.now())?;
        let several = contents::counts(&store)?.into_iter().any(|(name, rows)| name == "institutions" && rows > 1);
        let sent_again = sent_again.iter().map(|waiting| {
            let row = json!({
                "channel": waiting.channel, "environment": waiting.environment, "queued": waiting.queued,
                "sending": waiting.sending, "scheduled": waiting.scheduled, "unknown": waiting.unknown,
            });
            named(row, several.then_some(waiting.institution))
        });
        let mut report = json!({
            "restored": null,
            "from": null,
            "madeAt": manifest.map(|manifest| &manifest.made_at),
            "channels": [],
            "sentAgain": sent_again.collect::<Value>(),
            "webhookDeliveries": contents::waiting_deliveries(&store)?,
            "missing": {
                "receivedFiles": contents::stored_files(&store)?,
                "secretKeys": if keys.is_empty() { json!(ids) } else { json!([]) },
            },
        });
        drop(store);
        if !self.no_pause {
            report["channels"] = Handle::current().block_on(pause(unfinished))?;
            // Only the files get their names, so nothing may be left in a log.
            for name in files {
                let log = unfinished.join(format!("{name}-wal"));
                let left = log.metadata().map_or(0, |log| log.len());
                ensure!(left == 0, "{} was not merged into its file", log.display());
                let version = if *name == STORE_FILE { SCHEMA_VERSION } else { SANDBOX_VERSION };
                verify::open_file(&unfinished.join(name), version)?;
            }
        }
        Ok(report)
    }
}

/// Refuses a directory that is in use, or that contains anything.
fn check_is_free(dir: &Path) -> Result<()> {
    if DataDirLock::is_held(dir) {
        bail!(in_use(dir));
    }
    if !dir.exists() {
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in dir.read_dir().with_context(|| format!("cannot read {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    // What a restore that was killed has left is no store yet.
    let interrupted = names.iter().any(|name| name == RESTORING);
    let is_left = |name: &String| interrupted && [RESTORING, SANDBOX_FILE].contains(&&**name);
    // A file system of its own has `lost+found`.
    names.retain(|name| ![LOCK_FILE, "lost+found"].contains(&&**name) && !is_left(name));
    match names.first() {
        None => Ok(()),
        Some(name) => bail!(
            "{} is not empty ({name} is in it): move it away, because files of two stores must not be mixed",
            dir.display()
        ),
    }
}

fn in_use(dir: &Path) -> String {
    format!("a server or another command works on {}: stop it first", dir.display())
}

/// Makes the directory for the preparation, in place of what a killed restore has left.
fn begin(dir: &Path) -> Result<PathBuf> {
    // Again, under the lock.
    ensure!(!dir.join(STORE_FILE).exists(), "there is a store in {} already", dir.display());
    let unfinished = dir.join(RESTORING);
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)?;
        let sandbox = dir.join(SANDBOX_FILE);
        if sandbox.exists() {
            std::fs::remove_file(sandbox)?;
        }
    }
    let made = DirBuilder::new().mode(0o700).create(&unfinished);
    made.with_context(|| format!("cannot make {}", unfinished.display()))?;
    Ok(unfinished)
}

/// Refuses keys that do not open the secrets of the store. No key at all is no mistake: the report names those that are needed.
fn check_keys(store: &rusqlite::Connection, keys: &KeyRing) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let (mut wrong, mut first) = (0, None);
    sealed::each(store, |place, secret| {
        if let Err(error) = keys.open(place, secret) {
            wrong += 1;
            first.get_or_insert(error);
        }
    })?;
    match first {
        None => Ok(()),
        Some(error) => bail!(
            "{wrong} secrets of the backup cannot be opened: {error}. Give the key of the time of the backup; without any key \
             the rest is restored, {WITHOUT_KEY}"
        ),
    }
}

/// Pauses the channels of a store, and disconnects those whose session must not be open twice.
async fn pause(dir: &Path) -> Result<Value> {
    let gateway = Gateway::open(dir, Behaviour::from_environment(), KeyRing::default()).await?;
    let several = gateway.store.institutions().await?.len() > 1;
    let mut paused = Vec::new();
    for entry in gateway.directory.channels() {
        let holds_session = entry.kind.descriptor().holds_session;
        let action = if holds_session { ChannelAction::Disconnect } else { ChannelAction::Pause };
        match channels::act(&gateway, &entry, action, Actor::Operator).await {
            Ok(channel) => {
                let (id, environment) = (entry.via.id.as_str(), entry.environment.name());
                let row = json!({ "channel": id, "environment": environment, "state": channel.state.name() });
                paused.push(named(row, several.then_some(entry.via.institution)));
            }
            // It was not connected, and sends nothing.
            Err(AppError::ChannelNotConnected) => {}
            Err(error) => {
                gateway.close().await;
                let error: AskError = (&recado_gateway::api::error::ApiError::from(error)).into();
                return Err(error).context("a channel cannot be paused");
            }
        }
    }
    gateway.close().await;
    Ok(paused.into())
}

/// The row of a channel, which names its institution if the store has several.
fn named(mut row: Value, institution: Option<InstitutionId>) -> Value {
    if let Some(institution) = institution {
        row["institutionId"] = json!(institution);
    }
    row
}

/// The channel of a row, for people.
fn channel_of(row: &Value) -> String {
    let of = row["institutionId"].as_str().map(|id| format!(" of {id}")).unwrap_or_default();
    format!("{} ({}){of}", output::cell(&row["channel"]), output::cell(&row["environment"]))
}

/// The report for people.
fn text_of(report: &Value) -> String {
    let rows = |name: &str| report[name].as_array().cloned().unwrap_or_default();
    let (paused, waiting) = (rows("channels"), rows("sentAgain"));
    let cell = output::cell;
    let mut lines = vec![
        format!("restored {} from {}", cell(&report["restored"]), cell(&report["from"])),
        format!("state of {}; missing: whatever was accepted or changed later", cell(&report["madeAt"])),
    ];
    let missing = &report["missing"];
    if missing["receivedFiles"] != json!(0) {
        let files = cell(&missing["receivedFiles"]);
        lines.push(format!("missing: {files} received files, which are fetched again as long as the network has them"));
    }
    if missing["secretKeys"] != json!([]) {
        let keys = cell(&missing["secretKeys"]);
        lines.push(format!("missing: the secret key {keys}; without it {WITHOUT_KEY}"));
    }
    lines.push(format!("webhook deliveries that are sent again: {}", cell(&report["webhookDeliveries"])));
    if waiting.is_empty() {
        lines.push("no message waits".to_owned());
    } else {
        lines.push("sent again, unless you cancel it first (`recado messages list --status queued`):".to_owned());
        lines.extend(waiting.iter().map(|row| {
            let count = |name: &str| format!("{} {name}", cell(&row[name]));
            let counts = ["queued", "sending", "scheduled", "unknown"].map(count).join(", ");
            format!("  {}: {counts}", channel_of(row))
        }));
    }
    if !paused.is_empty() {
        lines.push("not sending until `recado channels resume` or `connect`:".to_owned());
        lines.extend(paused.iter().map(|row| format!("  {}: {}", channel_of(row), cell(&row["state"]))));
    }
    lines.join("\n")
}
