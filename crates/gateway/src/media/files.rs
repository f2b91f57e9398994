//! The directory of the bytes of received files: one file each, named by its id. A file gets its name when it is complete and
//! synced, so that a crash leaves no half file under a name.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recado_domain::ids::MediaId;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// The directory inside the data directory.
pub const DIRECTORY: &str = "media";
/// Ends the name of a file that is not complete.
const UNFINISHED: &str = ".part";
/// What files leave free on the disk, so that they do not prevent the store from writing: 128 MiB, and on a small disk a
/// twentieth of it.
const SPARE: u64 = 128 << 20;
const SPARE_PART: u64 = 20;
/// Bytes for which a file that is being written has room reserved at a time.
const STEP: u64 = 4 << 20;
/// Threads that work on the directory at a time. The store reads with threads of the same pool, and a disk that does not
/// answer must not take all of them.
const THREADS: usize = 64;

/// The directory, for tasks of the runtime. Nothing of it blocks them.
#[derive(Clone)]
pub struct Directory {
    disk: Arc<Disk>,
    threads: Arc<Semaphore>,
}

/// How many bytes of a disk are free, and how many it has.
pub type Space = (u64, u64);
/// Finds out the space of the disk with this directory.
type Measure = Box<dyn Fn(&Path) -> io::Result<Space> + Send + Sync>;

/// The directory, for threads that may block. It is created with the first file.
pub struct Disk {
    path: PathBuf,
    measure: Measure,
    /// Bytes that files which are being written may still take.
    reserved: Mutex<u64>,
}

/// A file that is being written. Dropping it deletes it, unless it was kept.
pub struct Part {
    pub file: Arc<File>,
    disk: Arc<Disk>,
    unfinished: PathBuf,
    name: PathBuf,
    /// How many of the reserved bytes are for this file.
    reserved: Mutex<u64>,
    is_kept: bool,
}

impl Directory {
    /// The directory of a data directory. Half files of an earlier process are deleted: this process holds the lock.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let measure = |path: &Path| {
            let disk = rustix::fs::statvfs(path)?;
            Ok((disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize))
        };
        Self::measured(data_dir, Box::new(measure))
    }

    pub(super) fn measured(data_dir: &Path, measure: Measure) -> io::Result<Self> {
        let disk = Disk { path: data_dir.join(DIRECTORY), measure, reserved: Mutex::default() };
        for name in disk.names()?.into_iter().filter(|name| name.ends_with(UNFINISHED)) {
            remove(&disk.path.join(name))?;
        }
        Ok(Self { disk: Arc::new(disk), threads: Arc::new(Semaphore::new(THREADS)) })
    }

    /// Works on the directory in another thread.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Disk>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        // The work goes on when its caller has left, so it holds the permit itself.
        let permit = self.threads.clone().acquire_owned().await.map_err(io::Error::other)?;
        let disk = self.disk.clone();
        let work = move || {
            let done = work(&disk);
            drop(permit);
            done
        };
        spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

impl Disk {
    /// The complete file with this id, and its size.
    pub fn find(&self, id: MediaId) -> io::Result<Option<(File, u64)>> {
        match File::open(self.path.join(id.to_string())) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins a file of about this size. There is only one at a time for an id.
    pub fn begin(self: &Arc<Self>, id: MediaId, size: u64) -> io::Result<Part> {
        self.create()?;
        self.reserve(size, STEP)?;
        let reserved = Mutex::new(STEP);
        let name = self.path.join(id.to_string());
        let unfinished = self.path.join(format!("{id}{UNFINISHED}"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
        match file {
            Ok(file) => {
                Ok(Part { file: Arc::new(file), disk: self.clone(), unfinished, name, reserved, is_kept: false })
            }
            Err(error) => {
                self.release(STEP);
                Err(error)
            }
        }
    }

    /// How many bytes the disk lacks for a file of this size.
    pub fn lacks(&self, size: u64) -> io::Result<u64> {
        self.lacking(*lock(&self.reserved), size.max(STEP))
    }

    /// The complete files, and their sizes.
    pub fn files(&self) -> io::Result<Vec<(MediaId, u64)>> {
        let ids = self.names()?.into_iter().filter_map(|name| name.parse::<MediaId>().ok());
        // One that was deleted meanwhile has no size.
        let size = |id: MediaId| Some((id, std::fs::metadata(self.path.join(id.to_string())).ok()?.len()));
        Ok(ids.filter_map(size).collect())
    }

    /// Deletes a complete file. One that is being read can still be read to its end.
    pub fn delete(&self, id: MediaId) -> io::Result<()> {
        remove(&self.path.join(id.to_string()))
    }

    fn create(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            // The name of the directory survives a power cut before the first row says that a file is in it.
            Ok(()) => sync_parent(&self.path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Fails if the disk has no room for this size. Reserves this many bytes, which the size contains.
    fn reserve(&self, size: u64, bytes: u64) -> io::Result<()> {
        // Held meanwhile, so that two files do not both find the last room.
        let mut reserved = lock(&self.reserved);
        if self.lacking(*reserved, size.max(bytes))? > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *reserved += bytes;
        Ok(())
    }

    fn lacking(&self, reserved: u64, size: u64) -> io::Result<u64> {
        let (free, all) = (self.measure)(&self.path)?;
        let spare = SPARE.min(all / SPARE_PART);
        Ok(reserved.saturating_add(size).saturating_add(spare).saturating_sub(free))
    }

    fn release(&self, bytes: u64) {
        let mut reserved = lock(&self.reserved);
        *reserved = reserved.saturating_sub(bytes);
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<io::Result<Vec<_>>>()?;
        Ok(names.into_iter().flatten().collect())
    }
}

impl Part {
    /// Writes more bytes at the end, if the disk has room for them.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let (length, mut reserved) = (bytes.len() as u64, lock(&self.reserved));
        if *reserved < length {
            let more = STEP.max(length);
            self.disk.reserve(more, more)?;
            *reserved += more;
        }
        (&*self.file).write_all(bytes)?;
        // The disk counts them now.
        self.disk.release(length);
        *reserved -= length;
        Ok(())
    }

    /// Syncs the complete file.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives the complete file its name.
    pub fn keep(mut self) -> io::Result<()> {
        std::fs::rename(&self.unfinished, &self.name)?;
        self.is_kept = true;
        sync_parent(&self.name)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.disk.release(*lock(&self.reserved));
        if !self.is_kept
            && let Err(error) = remove(&self.unfinished)
        {
            tracing::warn!(%error, "unfinished media file not deleted; the next start deletes it");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Syncs the directory that has this name in it.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn id(n: u8) -> MediaId {
        MediaId::new(1, [n; 10])
    }

    fn open(home: &Path) -> Arc<Disk> {
        Directory::open(home).expect("a directory").disk
    }

    #[test]
    fn only_a_complete_file_has_a_name() {
        let home = tempfile::tempdir().expect("a directory");
        let disk = open(home.path());
        assert_eq!(disk.files().expect("read"), []);
        let [kept, dropped, crashed] = [1, 2, 3].map(|n| disk.begin(id(n), 3).expect("a file"));
        for part in [&kept, &dropped, &crashed] {
            part.write(b"ab").expect("written");
            part.write(b"c").expect("written");
        }
        assert_eq!(disk.files().expect("read"), []);
        assert!(disk.find(id(1)).expect("read").is_none());
        kept.keep().expect("kept");
        drop(dropped);
        std::mem::forget(crashed);
        assert_eq!(disk.names().expect("read").len(), 2);
        let disk = open(home.path());
        assert_eq!(disk.names().expect("read"), [id(1).to_string()]);
        let mut text = String::new();
        let (mut file, size) = disk.find(id(1)).expect("read").expect("there");
        file.read_to_string(&mut text).expect("read");
        assert_eq!((&*text, size, disk.files().expect("read")), ("abc", 3, vec![(id(1), 3)]));
        disk.delete(id(1)).expect("deleted");
        disk.delete(id(1)).expect("nothing to delete");
        assert!(disk.find(id(1)).expect("read").is_none());
    }

    /// Room for two steps, beside the spare room.
    #[test]
    fn files_that_are_written_side_by_side_leave_room_for_the_store() {
        let home = tempfile::tempdir().expect("a directory");
        let free = Arc::new(AtomicU64::new(SPARE + 2 * STEP));
        let measured = free.clone();
        let measure = move |_: &Path| Ok((measured.load(Ordering::Relaxed), u64::MAX));
        let disk = Directory::measured(home.path(), Box::new(measure)).expect("a directory").disk;
        let full = |done: io::Result<Part>| done.err().map(|error| error.kind()) == Some(io::ErrorKind::StorageFull);
        assert!(full(disk.begin(id(1), 2 * STEP + 1)));
        let (first, second) = (disk.begin(id(1), 1).expect("room"), disk.begin(id(2), 1).expect("room"));
        assert!(full(disk.begin(id(3), 1)), "the others may still take all of it");
        let bytes = vec![0; usize::try_from(STEP).expect("few")];
        first.write(&bytes).expect("it was reserved");
        free.fetch_sub(STEP, Ordering::Relaxed);
        assert_eq!(first.write(b"x").expect_err("no room").kind(), io::ErrorKind::StorageFull);
        assert!(full(disk.begin(id(3), 1)));
        drop(second);
        first.write(b"x").expect("room");
        drop(first);
        assert_eq!((*lock(&disk.reserved), disk.names().expect("read").len()), (0, 0));
    }
}
