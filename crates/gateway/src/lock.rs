//! The lock that gives one process at a time access to a data directory.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// The lock's file in the data directory. It stays when the lock is released: the kernel tracks the holder, so a crash
/// leaves nothing to clean up.
pub const LOCK_FILE: &str = "recado.lock";

/// Creates a data directory, if there is none, for its owner alone.
pub fn make_private(data_dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.with_context(|| format!("cannot make {}", data_dir.display()))
}

/// The right to write a data directory, released on drop.
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Acquires the lock; `None` while another process holds it.
    pub fn try_acquire(data_dir: &Path) -> Result<Option<Self>> {
        let path = data_dir.join(LOCK_FILE);
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}: does the file system know locks?", path.display()))
            }
        }
    }

    /// Whether a process holds the lock of this directory. Creates no file.
    pub fn is_held(data_dir: &Path) -> bool {
        let file = File::open(data_dir.join(LOCK_FILE));
        // A shared lock, so that concurrent checks do not see each other.
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Acquires the lock. It waits a moment for a command that is about to end.
    pub async fn acquire(data_dir: &Path) -> Result<Self> {
        for _ in 0..50 {
            if let Some(lock) = Self::try_acquire(data_dir)? {
                return Ok(lock);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("another recado works on {}: stop it first, or use another directory", data_dir.display())
    }
}
