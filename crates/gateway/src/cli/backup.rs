//! `recado backup`: an on-line copy of a data directory.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{Common, Exit, output};
use crate::gateway::{SANDBOX_FILE, STORE_FILE};
use crate::shutdown::Signals;
use crate::store::sqlite::copy::{CopyError, copy};

/// The store first: what the sandbox shows beyond it is then only what a crash leaves, a card that is sent again under
/// its first network id and shown once.
const FILES: [&str; 2] = [STORE_FILE, SANDBOX_FILE];

/// Copy the store and the sandbox, also while a server runs
///
/// To restore: stop the server, and start one with --data-dir on the copy, or on an empty directory with the two files
/// in it.
#[derive(Debug, Args)]
pub struct Backup {
    /// Directory for the copy; made if it is not there, and never one that holds a store already
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Backup {
    pub async fn run(self) -> Result<Exit> {
        let (from, to) = (self.common.data_dir.data_dir, self.to);
        if !from.join(STORE_FILE).exists() {
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
    let made = !to.exists();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(to)
        .with_context(|| format!("cannot make {}", to.display()))?;
    let unfinished = |name: &str| to.join(format!("{name}.unfinished"));
    for name in FILES {
        for there in [to.join(name), unfinished(name)] {
            if there.exists() {
                bail!("{} is there already: a backup overwrites nothing, name another directory", there.display());
            }
        }
    }
    let done = copy_all(from, to, unfinished, stop);
    if done.is_err() {
        for name in FILES {
            let _ = std::fs::remove_file(unfinished(name));
            let _ = std::fs::remove_file(to.join(format!("{name}.unfinished-journal")));
        }
        if made {
            // Only if it is empty, so nobody else's file goes.
            let _ = std::fs::remove_dir(to);
        }
    }
    done
}

fn copy_all(from: &Path, to: &Path, unfinished: impl Fn(&str) -> PathBuf, stop: &impl Fn() -> bool) -> Result<Value> {
    let mut sizes = Vec::new();
    for name in FILES {
        let (source, target) = (from.join(name), unfinished(name));
        // A store that never served has no sandbox yet.
        if source.exists() {
            copy(&source, &target, stop).with_context(|| format!("cannot copy {}", source.display()))?;
            sizes.push((name, target.metadata()?.len()));
        }
    }
    // The store last: a directory that has one is whole.
    for (name, _) in sizes.iter().rev() {
        std::fs::rename(unfinished(name), to.join(name))?;
    }
    File::open(to)?.sync_all()?;
    let sizes = sizes.iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes)));
    let mut value = json!({ "to": to.display().to_string() });
    value.as_object_mut().into_iter().for_each(|fields| fields.extend(sizes.clone()));
    Ok(value)
}
