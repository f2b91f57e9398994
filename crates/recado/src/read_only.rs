//! Data directories on disks that are mounted read-only, such as a disk that has failed, or a snapshot.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use recado_gateway::gateway::{SANDBOX_FILE, STORE_FILE};
use recado_store::sqlite::copy::copy_bytes;
use recado_store::sqlkit::sqlite::tail;
use rustix::fs::{StatVfsMountFlags, statvfs};

use crate::output::note;
use crate::unique_name;

/// Whether no process can write to this directory's disk.
pub fn is_read_only(dir: &Path) -> bool {
    statvfs(dir).is_ok_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A copy of a data directory's files in the directory for temporary files; removed on drop. The store cannot be opened where it is,
/// because SQLite has to write beside it.
pub struct TemporaryCopy {
    /// The copy's directory.
    pub dir: PathBuf,
    /// The original's.
    pub of: PathBuf,
}

impl TemporaryCopy {
    /// Copies the files of this directory.
    pub fn of(data_dir: &Path) -> Result<Self> {
        let parent = std::env::temp_dir();
        let files = [STORE_FILE, SANDBOX_FILE].map(|name| data_dir.join(name));
        let needed: u64 = files
            .iter()
            .flat_map(|file| [file.clone(), file.with_extension("db-wal")])
            .map(|file| file.metadata().map_or(0, |file| file.len()))
            .sum();
        let disk = statvfs(&parent).with_context(|| format!("{} cannot be read", parent.display()))?;
        ensure!(
            disk.f_bavail * disk.f_frsize > needed,
            "{} is on a read-only disk, and a copy of it in {} needs {} MiB: name another directory by TMPDIR",
            data_dir.display(),
            parent.display(),
            needed >> 20
        );
        let copy = Self { dir: parent.join(format!("recado-{}", unique_name())), of: data_dir.to_owned() };
        let made = DirBuilder::new().mode(0o700).create(&copy.dir);
        made.with_context(|| format!("cannot make {}", copy.dir.display()))?;
        note(&format!("{} is on a read-only disk; reading a copy in {}", data_dir.display(), parent.display()));
        // The record of the log cannot be deleted there, and what is left can still be read.
        if let Err(lost) = tail::check(&data_dir.join(STORE_FILE)) {
            note(&format!("something is missing in what follows: {lost}"));
        }
        for file in files.iter().filter(|file| file.exists()) {
            let name = file.file_name().unwrap_or_default();
            copy_bytes(file, &copy.dir.join(name), || false)
                .with_context(|| format!("cannot copy {} to {}", file.display(), copy.dir.display()))?;
        }
        Ok(copy)
    }
}

impl Drop for TemporaryCopy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
