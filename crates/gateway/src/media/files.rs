//! The directory of the bytes of received files: one file each, named by its id. A file gets its name when it is complete and
//! synced, so that a crash leaves no half file under a name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use recado_domain::ids::MediaId;

/// The directory inside the data directory.
pub const DIRECTORY: &str = "media";
/// Ends the name of a file that is not complete.
const UNFINISHED: &str = ".part";
/// What files leave free on the disk, so that they do not prevent the store from writing: 128 MiB, and on a small disk a
/// twentieth of it.
const SPARE: u64 = 128 << 20;
const SPARE_PART: u64 = 20;

/// The directory. It is created with the first file.
pub struct Directory(PathBuf);

/// A file that is being written. Dropping it deletes it, unless it was kept.
pub struct Part {
    pub file: Arc<File>,
    unfinished: PathBuf,
    name: PathBuf,
    is_kept: bool,
}

impl Directory {
    /// The directory of a data directory. Half files of an earlier process are deleted: this process holds the lock.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let directory = Self(data_dir.join(DIRECTORY));
        for name in directory.names()?.into_iter().filter(|name| name.ends_with(UNFINISHED)) {
            remove(&directory.0.join(name))?;
        }
        Ok(directory)
    }

    /// The complete file with this id.
    pub fn find(&self, id: MediaId) -> io::Result<Option<File>> {
        match File::open(self.0.join(id.to_string())) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a file of about this size. There is only one at a time for an id.
    pub fn begin(&self, id: MediaId, size: u64) -> io::Result<Part> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        self.need_room(size)?;
        let (name, unfinished) = (self.0.join(id.to_string()), self.0.join(format!("{id}{UNFINISHED}")));
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        Ok(Part { file: Arc::new(file), unfinished, name, is_kept: false })
    }

    /// Fails if the disk has no room for this many bytes.
    pub fn need_room(&self, size: u64) -> io::Result<()> {
        let disk = rustix::fs::statvfs(&self.0)?;
        let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        if free < size + SPARE.min(all / SPARE_PART) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// The ids of all complete files.
    pub fn ids(&self) -> io::Result<Vec<MediaId>> {
        Ok(self.names()?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Deletes a complete file. One that is being read can still be read to its end.
    pub fn delete(&self, id: MediaId) -> io::Result<()> {
        remove(&self.0.join(id.to_string()))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().flatten().collect())
    }
}

impl Part {
    /// Writes more bytes at the end.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)
    }

    /// Syncs the complete file, and gives it its name.
    pub fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.unfinished, &self.name)?;
        self.is_kept = true;
        let directory = self.name.parent().unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = remove(&self.unfinished)
        {
            tracing::warn!(%error, "unfinished media file not deleted; the next start deletes it");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn id(n: u8) -> MediaId {
        MediaId::new(1, [n; 10])
    }

    #[test]
    fn only_a_complete_file_has_a_name() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(home.path()).expect("a directory");
        assert_eq!(directory.ids().expect("read"), []);
        let (kept, dropped, crashed) =
            (directory.begin(id(1), 3), directory.begin(id(2), 3), directory.begin(id(3), 3));
        let (kept, dropped, crashed) = (kept.expect("a file"), dropped.expect("a file"), crashed.expect("a file"));
        for part in [&kept, &dropped, &crashed] {
            part.write(b"ab").expect("written");
            part.write(b"c").expect("written");
        }
        assert_eq!(directory.ids().expect("read"), []);
        assert!(directory.find(id(1)).expect("read").is_none());
        kept.keep().expect("kept");
        drop(dropped);
        std::mem::forget(crashed);
        assert_eq!(directory.names().expect("read").len(), 2);
        let directory = Directory::open(home.path()).expect("a directory");
        assert_eq!(directory.names().expect("read"), [id(1).to_string()]);
        let mut text = String::new();
        directory.find(id(1)).expect("read").expect("there").read_to_string(&mut text).expect("read");
        assert_eq!((&*text, directory.ids().expect("read")), ("abc", vec![id(1)]));
        directory.delete(id(1)).expect("deleted");
        directory.delete(id(1)).expect("nothing to delete");
        assert!(directory.find(id(1)).expect("read").is_none());
    }

    #[test]
    fn files_leave_room_for_the_store() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = Directory::open(home.path()).expect("a directory");
        let full = directory.begin(id(1), u64::MAX / 2).err().expect("no room");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(directory.names().expect("read"), Vec::<String>::new());
    }
}
