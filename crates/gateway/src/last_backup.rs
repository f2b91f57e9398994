//! The record of the last backup, in the data directory: `recado status` and the metrics show its age.

use std::fs::{File, Permissions, read_to_string, rename, set_permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use recado_domain::clock::Millis;
use serde::{Deserialize, Serialize};

/// The record's file.
pub const LAST_BACKUP_FILE: &str = "last-backup.json";

/// A backup that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastBackup {
    /// When it ended, in Unix milliseconds.
    pub at: Millis,
    /// Its directory.
    pub to: PathBuf,
}

/// Records that a backup of this data directory succeeded. An interruption leaves the former record.
pub fn record(data_dir: &Path, backup: &LastBackup) -> io::Result<()> {
    let path = data_dir.join(LAST_BACKUP_FILE);
    let unfinished = path.with_extension("unfinished");
    let mut file = File::create(&unfinished)?;
    set_permissions(&unfinished, Permissions::from_mode(0o600))?;
    give_to_owner_of(data_dir, &file);
    file.write_all(serde_json::to_string(backup)?.as_bytes())?;
    file.sync_all()?;
    rename(unfinished, path)
}

/// Gives a file that root has made to the owner of its directory, who must be able to replace it. Others cannot, and need not.
pub fn give_to_owner_of(dir: &Path, file: &File) {
    if let (Ok(dir), Ok(made)) = (dir.metadata(), file.metadata())
        && dir.uid() != made.uid()
    {
        let _ = fchown(file, Some(dir.uid()), Some(dir.gid()));
    }
}

/// The last backup of this data directory; `None` if there was none. A record that cannot be read says neither.
pub fn read(data_dir: &Path) -> io::Result<Option<LastBackup>> {
    match read_to_string(data_dir.join(LAST_BACKUP_FILE)) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Logs that the record cannot be read.
pub fn warn(error: &io::Error) {
    tracing::warn!(file = LAST_BACKUP_FILE, %error, "time of the last backup unknown: its record is not readable");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_counts_and_a_damaged_one_is_not_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let read = |dir: &Path| read(dir).map_err(|_| ());
        assert_eq!(read(dir.path()), Ok(None));
        let of = |at| LastBackup { at, to: "/backups/monday".into() };
        record(dir.path(), &of(1)).expect("written");
        record(dir.path(), &of(2)).expect("written");
        assert_eq!(read(dir.path()), Ok(Some(of(2))));
        std::fs::write(dir.path().join(LAST_BACKUP_FILE), "{\"at\":").expect("written");
        assert_eq!(read(dir.path()), Err(()));
        std::fs::remove_file(dir.path().join(LAST_BACKUP_FILE)).expect("removed");
        std::fs::create_dir(dir.path().join(LAST_BACKUP_FILE)).expect("a directory");
        assert_eq!(read(dir.path()), Err(()), "not a file");
    }
}
