//! `recado backup`: an online copy of a data directory.

mod keep;
pub mod manifest;
pub mod verify;

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use recado_domain::clock::Clock;
use recado_gateway::config::Behaviour;
use recado_gateway::gateway::{SANDBOX_FILE, STORE_FILE};
use recado_gateway::last_backup::{self, LastBackup};
use recado_gateway::lock::DataDirLock;
use recado_gateway::moved::Moved;
use recado_gateway::shutdown::Signals;
use recado_store::clock::{SystemClock, rfc3339};
use recado_store::sqlite::copy::{CopyError, copy, copy_still};
use recado_store::sqlkit::sqlite::tail;
use rusqlite::ErrorCode;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::backup::keep::Series;
use crate::backup::manifest::{MANIFEST, Manifest};
use crate::output::note;
use crate::read_only::is_read_only;
use crate::{Common, Exit, output};

/// The store is copied first. Messages that the sandbox has beyond it are as after a crash: they are sent again under their
/// first network id and shown once.
pub const FILES: [&str; 2] = [STORE_FILE, SANDBOX_FILE];
/// The directory inside the target where the copies are made.
pub const UNFINISHED: &str = "recado.db.unfinished";
/// Free space that is left to a server on the same disk, for its log: 128 MiB.
const SPARE: u64 = 128 << 20;

fn at_least_one(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "a number from 1 on")
}

/// Copy the store and the sandbox, also while a server runs, or check such a copy
///
/// `recado restore` makes a data directory of a backup.
#[derive(Debug, Args)]
pub struct Backup {
    /// Directory for the copy; created if needed; it must not contain a store
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    to: Option<PathBuf>,
    /// Make the copy in a new directory inside of --to, named by the time, and keep the newest N of these backups of the store.
    /// Older ones are removed after the new one was verified
    #[arg(long, value_name = "N", requires = "to", value_parser = at_least_one)]
    keep: Option<NonZeroUsize>,
    /// Check a backup: that its files belong together and are unchanged, whole, and of a version that this build reads
    #[arg(long, value_name = "DIR", conflicts_with_all = ["to", "keep"])]
    verify: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Backup {
    pub async fn run(self) -> Result<Exit> {
        let (from, show) = (self.common.data_dir.data_dir, self.common.output);
        if let Some(dir) = self.verify {
            let manifest = tokio::task::spawn_blocking(move || verify::verify(&dir).map(|found| (dir, found)));
            let (dir, manifest) = manifest.await??;
            return output::show(&show, &verify::report(&dir, &manifest)).map(Exit::done);
        }
        // clap requires it here.
        let to = self.to.context("name the directory for the copy: --to")?;
        if Behaviour::from_environment().database.urls().is_some() {
            bail!(
                "RECADO_DATABASE_URL names a database, which this command does not copy: use pg_dump or pg_basebackup"
            );
        }
        let store = from.join(STORE_FILE);
        if !store.try_exists().with_context(|| format!("{} cannot be read", store.display()))? {
            bail!("there is no store in {}", from.display());
        }
        // The database has what was accepted since.
        Moved::refuse(&store)?;
        if !DataDirLock::is_held(&from) {
            // A copy would look right, and lack what the log had.
            tail::check(&store).with_context(|| format!("{} is not copied", store.display()))?;
        }
        let keep = self.keep.map(NonZeroUsize::get);
        match interruptible(move |stop| back_up_series(&from, &to, keep, stop)).await? {
            None => Ok(Exit::Interrupted),
            Some(done) => output::show(&show, &done).map(Exit::done),
        }
    }
}

/// Runs blocking work that asks whether to stop. `None` if a signal has stopped it.
pub async fn interruptible<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T> + Send + 'static,
) -> Result<Option<T>> {
    let mut signals = Signals::listen()?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut working = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || work(&|| stop.load(Ordering::Relaxed))
    });
    let done = tokio::select! {
        done = &mut working => done?,
        () = signals.next() => {
            stop.store(true, Ordering::Relaxed);
            working.await?
        }
    };
    match done {
        Err(error) if matches!(error.downcast_ref(), Some(CopyError::Stopped)) => Ok(None),
        done => done.map(Some),
    }
}

/// Makes a backup, or the next one of several.
fn back_up_series(from: &Path, to: &Path, keep: Option<usize>, stop: &dyn Fn() -> bool) -> Result<Value> {
    let to = outside(from, to)?;
    let Some(keep) = keep else {
        let value = back_up(from, &to, stop)?;
        record(from, &to);
        return Ok(value);
    };
    let series = Series::open(&to)?;
    series.remove_unfinished()?;
    let to = series.place(SystemClock.now());
    let mut value = back_up(from, &to, stop)?;
    if let Err(error) = verify::verify(&to) {
        // Under this name it counts as none of the backups to keep.
        let bad = to.with_extension("bad");
        std::fs::rename(&to, &bad)?;
        let text = format!("the new backup is not right, so no older one was removed; it is {} now", bad.display());
        return Err(error.context(text));
    }
    record(from, &to);
    let removed = series.remove_old(&to, keep)?;
    value["removed"] = removed.iter().map(|path| path.display().to_string()).collect();
    Ok(value)
}

/// Records the backup for metrics and `recado status`. It succeeded, whether that can be recorded or not.
fn record(from: &Path, to: &Path) {
    let backup = LastBackup { at: SystemClock.now(), to: to.to_owned() };
    if let Err(error) = last_backup::record(from, &backup) {
        note(&format!("the backup succeeded; its time cannot be recorded in {}: {error}", from.display()));
    }
}

/// The absolute target, which must not be in the data directory.
fn outside(from: &Path, to: &Path) -> Result<PathBuf> {
    let to = std::path::absolute(to)?;
    if real(&to).starts_with(real(&std::path::absolute(from)?)) {
        bail!("{} is in the data directory, whose loss a backup must survive", to.display());
    }
    Ok(to)
}

/// An absolute path without the links in the part of it that exists.
fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|there| Some((there.canonicalize().ok()?, path.strip_prefix(there).ok()?)));
    found.map_or_else(|| path.to_owned(), |(there, rest)| there.join(rest))
}

fn back_up(from: &Path, to: &Path, stop: &dyn Fn() -> bool) -> Result<Value> {
    let there = to.ancestors().find(|dir| dir.exists()).unwrap_or(to).to_owned();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(to);
    made.with_context(|| format!("cannot make {}", to.display()))?;
    let done = copy_all(from, to, stop);
    if done.is_err() && there != to {
        // Only if it is empty, so no other file is deleted.
        let _ = std::fs::remove_dir(to);
    }
    let value = done?;
    sync_names(to, &there)?;
    Ok(value)
}

/// Syncs the names of the files in a directory, and of every directory that was created for it.
pub fn sync_names(dir: &Path, was_there: &Path) -> Result<()> {
    for dir in dir.ancestors().take_while(|dir| dir.starts_with(was_there)) {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Copies into a temporary directory, and moves the copies when all of them are complete.
fn copy_all(from: &Path, to: &Path, stop: &dyn Fn() -> bool) -> Result<Value> {
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

fn fill(from: &Path, to: &Path, unfinished: &Path, stop: &dyn Fn() -> bool) -> Result<Value> {
    for entry in std::fs::read_dir(to)? {
        let entry = entry?.path();
        // Also a log without its database: it would be used as the log of the copy.
        let name = entry.file_name().unwrap_or_default().as_encoded_bytes();
        if entry != unfinished
            && (FILES.iter().any(|file| name.starts_with(file.as_bytes())) || name == MANIFEST.as_bytes())
        {
            return Err(is_there(&entry));
        }
    }
    // A store that was never served has no sandbox yet.
    let files: Vec<_> = FILES.into_iter().filter(|name| from.join(name).is_file()).collect();
    need_room(from, to, &files)?;
    let made_at = rfc3339(SystemClock.now());
    let mut value = json!({ "to": to.display().to_string(), "madeAt": made_at });
    let mut copied = Vec::new();
    for name in files {
        let target = unfinished.join(name);
        match copy_file(&from.join(name), &target, stop) {
            // A broken sandbox must not prevent the backup of what matters.
            Err(error) if name == SANDBOX_FILE && is_of_source(&error) => {
                note(&format!("the sandbox is left out of the backup: {error:#}"));
            }
            done => {
                done?;
                value[name] = json!(target.metadata()?.len());
                copied.push(name);
            }
        }
    }
    let manifest = Manifest::of(unfinished, &copied, made_at)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(unfinished.join(MANIFEST))?;
    file.write_all(&serde_json::to_vec_pretty(&manifest)?)?;
    file.sync_all()?;
    // The store last, so that a directory with a store is complete.
    for name in [MANIFEST].iter().chain(copied.iter().rev()) {
        place(&unfinished.join(name), &to.join(name))?;
    }
    Ok(value)
}

/// Copies one file. The source is only read, so a full disk is the target's.
pub fn copy_file(source: &Path, target: &Path, stop: &dyn Fn() -> bool) -> Result<()> {
    let (shown, dir) = (source.display(), target.parent().unwrap_or(target).display());
    let copied = if is_read_only(source.parent().unwrap_or(source)) {
        copy_still(source, target, stop)
    } else {
        copy(source, target, stop)
    };
    copied.map_err(|error| {
        let is_full =
            matches!(&error, CopyError::Database(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull));
        let why = if is_full {
            format!("no room in {dir}: cannot copy {shown}")
        } else {
            format!("cannot copy {shown} to {dir}")
        };
        anyhow::Error::new(error).context(why)
    })
}

/// Whether a copy failed because of its source: it was not stopped, and there was room.
fn is_of_source(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(CopyError::Damaged(_)) => true,
        Some(CopyError::Database(error)) => error.sqlite_error_code() != Some(ErrorCode::DiskFull),
        Some(CopyError::File(error)) => error.kind() != ErrorKind::StorageFull,
        Some(CopyError::Stopped) | None => false,
    }
}

fn is_there(path: &Path) -> anyhow::Error {
    anyhow!("{} is there already: a backup overwrites nothing, name another directory", path.display())
}

/// If the copy filled the disk, the server could not write either, and would not recover before the copy ends.
pub fn need_room(from: &Path, to: &Path, files: &[&str]) -> Result<()> {
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
pub fn place(copy: &Path, name: &Path) -> Result<()> {
    match renameat_with(CWD, copy, CWD, name, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Err(is_there(name)),
        // A network file system without an atomic check and rename. The check was done before.
        Err(Errno::INVAL) => Ok(std::fs::rename(copy, name)?),
        done => Ok(done?),
    }
}
