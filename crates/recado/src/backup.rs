//! `recado backup`: an online copy of a data directory.

use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use recado_gateway::config::Behaviour;
use recado_gateway::gateway::{SANDBOX_FILE, STORE_FILE};
use recado_gateway::shutdown::Signals;
use recado_store::sqlite::copy::{CopyError, copy};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::{Common, Exit, output};

/// The store is copied first. Messages that the sandbox has beyond it are as after a crash: they are sent again under their
/// first network id and shown once.
const FILES: [&str; 2] = [STORE_FILE, SANDBOX_FILE];
/// The directory inside the target where the copies are made.
const UNFINISHED: &str = "recado.db.unfinished";
/// Free space that is left to a server on the same disk, for its log: 128 MiB.
const SPARE: u64 = 128 << 20;

/// Copy the store and the sandbox, also while a server runs
///
/// To restore: stop the server, and start one with --data-dir on the copy, or on an empty directory with the two files
/// in it.
#[derive(Debug, Args)]
pub struct Backup {
    /// Directory for the copy; created if needed; it must not contain a store
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Backup {
    pub async fn run(self) -> Result<Exit> {
        let (from, to) = (self.common.data_dir.data_dir, self.to);
        if Behaviour::from_environment().database.urls().is_some() {
            bail!(
                "RECADO_DATABASE_URL names a database, which this command does not copy: use pg_dump or pg_basebackup"
            );
        }
        let store = from.join(STORE_FILE);
        if !store.try_exists().with_context(|| format!("{} cannot be read", store.display()))? {
            bail!("there is no store in {}", from.display());
        }
        let mut signals = Signals::listen()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut copying = tokio::task::spawn_blocking({
            let stop = stop.clone();
            move || back_up(&from, &to, &|| stop.load(Ordering::Relaxed))
        });
        let done = tokio::select! {
            done = &mut copying => done?,
            () = signals.next() => {
                stop.store(true, Ordering::Relaxed);
                copying.await?
            }
        };
        match done {
            Err(error) if matches!(error.downcast_ref(), Some(CopyError::Stopped)) => Ok(Exit::Interrupted),
            done => output::show(&self.common.output, &done?).map(Exit::done),
        }
    }
}

fn back_up(from: &Path, to: &Path, stop: &impl Fn() -> bool) -> Result<Value> {
    let to = std::path::absolute(to)?;
    if to.starts_with(std::path::absolute(from)?) {
        bail!("{} is in the data directory, whose loss a backup must survive", to.display());
    }
    let there = to.ancestors().find(|dir| dir.exists()).unwrap_or(&to).to_owned();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&to);
    made.with_context(|| format!("cannot make {}", to.display()))?;
    let done = copy_all(from, &to, stop);
    if done.is_err() && there != to {
        // Only if it is empty, so no other file is deleted.
        let _ = std::fs::remove_dir(&to);
    }
    let value = done?;
    // Sync the names of the files, and of every directory that was created for them.
    for dir in to.ancestors().take_while(|dir| dir.starts_with(&there)) {
        File::open(dir)?.sync_all()?;
    }
    Ok(value)
}

/// Copies into a temporary directory, and moves the copies when all of them are complete.
fn copy_all(from: &Path, to: &Path, stop: &impl Fn() -> bool) -> Result<Value> {
    // The creation fails if another copy to the same target is running.
    let unfinished = to.join(UNFINISHED);
    match DirBuilder::new().mode(0o700).create(&unfinished) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!(
                "{} is left by a backup that was killed, or another one runs: remove it if none runs",
                unfinished.display()
            )
        }
        made => made.with_context(|| format!("cannot make {}", unfinished.display()))?,
    }
    let done = fill(from, to, &unfinished, stop);
    let _ = std::fs::remove_dir_all(&unfinished);
    done
}

fn fill(from: &Path, to: &Path, unfinished: &Path, stop: &impl Fn() -> bool) -> Result<Value> {
    for entry in std::fs::read_dir(to)? {
        let entry = entry?.path();
        // Also a log without its database: it would be used as the log of the copy.
        let name = entry.file_name().unwrap_or_default().as_encoded_bytes();
        if entry != unfinished && FILES.iter().any(|file| name.starts_with(file.as_bytes())) {
            return Err(is_there(&entry));
        }
    }
    // A store that was never served has no sandbox yet.
    let files: Vec<_> = FILES.into_iter().filter(|name| from.join(name).exists()).collect();
    need_room(from, to, &files)?;
    let mut value = json!({ "to": to.display().to_string() });
    for name in &files {
        let (source, target) = (from.join(name), unfinished.join(name));
        copy(&source, &target, stop).with_context(|| format!("cannot copy {}", source.display()))?;
        value[name] = json!(target.metadata()?.len());
    }
    // The store last, so that a directory with a store is complete.
    for name in files.iter().rev() {
        place(&unfinished.join(name), &to.join(name))?;
    }
    Ok(value)
}

fn is_there(path: &Path) -> anyhow::Error {
    anyhow!("{} is there already: a backup overwrites nothing, name another directory", path.display())
}

/// If the copy filled the disk, the server could not write either, and would not recover before the copy ends.
fn need_room(from: &Path, to: &Path, files: &[&str]) -> Result<()> {
    let mut needed = if from.metadata()?.dev() == to.metadata()?.dev() { SPARE } else { 0 };
    for file in files.iter().flat_map(|name| [(*name).to_owned(), format!("{name}-wal")]) {
        needed += from.join(file).metadata().map_or(0, |file| file.len());
    }
    let disk = rustix::fs::statvfs(to)?;
    let free = disk.f_bavail * disk.f_frsize;
    if free < needed {
        bail!("no room in {}: {} MiB are needed, {} MiB are free", to.display(), needed >> 20, free >> 20);
    }
    Ok(())
}

/// Moves a copy to its final name, which must not exist.
fn place(copy: &Path, name: &Path) -> Result<()> {
    match renameat_with(CWD, copy, CWD, name, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Err(is_there(name)),
        // A network file system without an atomic check and rename. The check was done before.
        Err(Errno::INVAL) => Ok(std::fs::rename(copy, name)?),
        done => Ok(done?),
    }
}
