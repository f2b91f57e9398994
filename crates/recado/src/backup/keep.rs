//! `recado backup --keep`: backups by time in one directory, of which the oldest ones are removed.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use recado_domain::clock::Millis;
use recado_gateway::gateway::STORE_FILE;
use recado_gateway::last_backup::give_to_owner_of;
use recado_store::clock::rfc3339;

use crate::backup::manifest::{MANIFEST, Manifest};
use crate::backup::{FILES, UNFINISHED};
use crate::output::note;

/// Locked during a backup, so that no other one mistakes an unfinished copy for one of a killed process.
const LOCK: &str = ".recado-backup.lock";

/// A directory of backups, which this process has locked.
pub struct Series {
    dir: PathBuf,
    _lock: File,
}

impl Series {
    /// Locks the directory, which is created if needed.
    pub fn open(dir: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.with_context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        give_to_owner_of(dir, &lock);
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => bail!("another backup to {} runs", dir.display()),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The directory for a backup of this time: that of the next free second.
    pub fn place(&self, mut now: Millis) -> PathBuf {
        loop {
            let path = self.dir.join(name(now));
            if path.symlink_metadata().is_err() {
                return path;
            }
            now += 1_000;
        }
    }

    /// Removes what backups that were killed have left.
    pub fn remove_unfinished(&self) -> Result<()> {
        for (path, names) in self.ours()? {
            if !names.contains(STORE_FILE) {
                remove(&path)?;
            } else if names.contains(UNFINISHED) {
                // Killed after its last file had got its name.
                std::fs::remove_dir_all(path.join(UNFINISHED))?;
            }
        }
        Ok(())
    }

    /// Removes the oldest backups of this store, so that `keep` remain with the new one. Returns their paths.
    pub fn remove_old(&self, new: &Path, keep: usize) -> Result<Vec<PathBuf>> {
        let store = Manifest::read(new)?.store;
        if store.is_empty() {
            note("nothing is removed: this store has no identity yet, which its next start gives it");
            return Ok(Vec::new());
        }
        let of_this_store = |path: &Path| Manifest::read(path).is_ok_and(|manifest| manifest.store == store);
        let mut old: Vec<_> = self.ours()?.into_iter().map(|(path, _)| path).collect();
        old.retain(|path| path != new && of_this_store(path));
        old.sort();
        // The names do not say which backups are old.
        if let Some(later) = old.last().filter(|path| path.as_path() > new) {
            note(&format!(
                "nothing is removed: {} is later than this backup, so the clock was set back",
                later.display()
            ));
            return Ok(Vec::new());
        }
        old.truncate((old.len() + 1).saturating_sub(keep));
        for path in &old {
            remove(path)?;
        }
        Ok(old)
    }

    /// The directories that `--keep` made, with the names of the files in them. A directory that has got any other file is not
    /// among them: it is in use for something else.
    fn ours(&self) -> Result<Vec<(PathBuf, BTreeSet<String>)>> {
        let mut ours = Vec::new();
        for entry in self.dir.read_dir().with_context(|| format!("cannot read {}", self.dir.display()))? {
            let entry = entry?;
            // Not a link to a directory elsewhere.
            if !entry.file_type()?.is_dir() || !is_name(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let (path, mut names) = (entry.path(), BTreeSet::new());
            for file in path.read_dir()? {
                names.insert(file?.file_name().to_string_lossy().into_owned());
            }
            let known = |name: &String| FILES.contains(&&**name) || [MANIFEST, UNFINISHED].contains(&&**name);
            if names.iter().all(known) {
                ours.push((path, names));
            } else {
                note(&format!("{} has other files in it, and is kept", path.display()));
            }
        }
        Ok(ours)
    }
}

/// Removes a backup. The store goes first: a directory without it is one that was never finished.
fn remove(path: &Path) -> Result<()> {
    let store = path.join(STORE_FILE);
    let removed = if store.exists() { std::fs::remove_file(store) } else { Ok(()) };
    removed.and_then(|()| std::fs::remove_dir_all(path)).with_context(|| format!("cannot remove {}", path.display()))
}

/// The name of a backup: its time in UTC, so that names sort by time.
fn name(now: Millis) -> String {
    let time = rfc3339(now);
    format!("{}Z", time.get(..19).unwrap_or(&time).replace(':', "-"))
}

fn is_name(name: &str) -> bool {
    let form = "0000-00-00T00-00-00Z";
    name.len() == form.len()
        && name
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_times_that_sort() {
        assert_eq!(name(1_790_000_000_123), "2026-09-21T14-13-20Z");
        for (text, expected) in [
            (&*name(0), true),
            ("2026-09-21T14-13-20", false),
            ("2026-09-21T14:13:20Z", false),
            ("2026-09-21T14-13-20Z.old", false),
            ("monday", false),
        ] {
            assert_eq!(is_name(text), expected, "{text}");
        }
    }
}
