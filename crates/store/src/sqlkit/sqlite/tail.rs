//! Notices that the log of a file was lost.
//!
//! A log (`-wal`) that is missing or cut off looks to SQLite like the log of a file that was closed, so commits since the last
//! checkpoint would be lost silently. Beside the file, a record says how far the log reaches: it is written after each commit, and
//! cleared (with a sync) before the log may be merged and removed. So it never claims more than the disk has, and after a crash the
//! log must contain at least what it says. PostgreSQL and `InnoDB` refuse such a start, too.
//!
//! The record is written after every commit: if it were written after some of them, nobody would notice the loss of the commits
//! since then. It costs 10 µs on a machine where the sync of a commit takes 1,800 µs: two reads of the log from memory, and a
//! write that is not synced.
//!
//! Another program that opens the file after a crash, such as `sqlite3`, merges and removes the log. Therefore the record has a
//! checksum of the last page in the log, too: if the file has that page, the log was merged.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

/// The name of the record is that of the file with this behind it.
pub const SUFFIX: &str = ".tail";
const MAGIC: &[u8; 8] = b"RCDTAIL2";
/// Magic, kept part of the log's header, frames, number and checksum of the last page, checksum of the record.
const RECORD: usize = 8 + KEPT + 4 + 12 + 8;
/// The log's header: magic, format, page size, sequence, two salts, checksum.
const HEADER: usize = 32;
/// The length of the header without its checksum. Two logs differ in this part.
const KEPT: usize = 24;
/// SQLite may have restarted the log at most this often since the record was written. A log with a salt that is further away is
/// another file's. The limit is small, so that another file's log is hardly ever accepted by chance.
const STEPS: u32 = 1_000;
/// The header of a frame, which is followed by its page.
const FRAME: usize = 24;

/// The log is not the one that the record names.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its log {log} is missing or cut off: it had at least {expected} pages, and {found} of them are there. With it, what was stored \
     last before {until} is lost. Put the log back, or restore a back-up. To start without it, delete {record}; nothing is lost if \
     another program, such as sqlite3, has written the file since then"
)]
pub struct LogLost {
    log: String,
    record: String,
    expected: u32,
    found: u32,
    until: String,
}

/// What a record says.
struct Recorded {
    header: [u8; KEPT],
    frames: u32,
    /// The last page in the log: its number, from 1, and its checksum.
    page: u32,
    sums: (u32, u32),
}

impl Recorded {
    /// Nothing is needed of the log.
    const NOTHING: Self = Self { header: [0; KEPT], frames: 0, page: 0, sums: (0, 0) };

    fn page_size(&self) -> usize {
        page_size(&self.header)
    }
}

/// The record of a file's log, for the one thread that writes the file.
pub struct Tail {
    path: PathBuf,
    /// Both are opened when they are needed, and again after a failure.
    record: Option<File>,
    log: Option<File>,
}

impl Tail {
    /// Of the database at this path.
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), record: None, log: None }
    }

    /// Records that the log has so many frames, which a commit has synced. A failure costs only the check.
    pub fn note(&mut self, frames: i32) {
        let Some(frames) = u32::try_from(frames).ok().filter(|frames| *frames > 0) else { return };
        if self.try_note(frames).is_err() {
            self.clear();
        }
    }

    fn try_note(&mut self, frames: u32) -> io::Result<()> {
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(File::open(beside(&self.path, "-wal"))?),
        };
        let mut header = [0; KEPT];
        log.read_exact_at(&mut header, 0)?;
        let mut frame = vec![0; FRAME + page_size(&header)];
        let last = u64::from(frames - 1) * frame.len() as u64;
        log.read_exact_at(&mut frame, HEADER as u64 + last)?;
        let (page, sums) = (number(&frame, 0), sum((0, 0), &frame[FRAME..], true));
        self.write(&Recorded { header, frames, page, sums })
    }

    /// Records that the log may be removed: nothing of it is needed, or it will be merged into the file.
    pub fn clear(&mut self) {
        self.log = None;
        let cleared = self.write(&Recorded::NOTHING).and_then(|()| match &self.record {
            Some(record) => record.sync_data(),
            None => Ok(()),
        });
        if cleared.is_err() {
            // Without a record nothing is checked, which is right when nothing is known.
            self.record = None;
            let _ = std::fs::remove_file(beside(&self.path, SUFFIX));
        }
    }

    fn write(&mut self, said: &Recorded) -> io::Result<()> {
        let record = match &mut self.record {
            Some(record) => record,
            none => none.insert(
                OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .mode(0o600)
                    .open(beside(&self.path, SUFFIX))?,
            ),
        };
        let mut bytes = Vec::with_capacity(RECORD);
        bytes.extend(MAGIC);
        bytes.extend(said.header);
        for number in [said.frames, said.page, said.sums.0, said.sums.1] {
            bytes.extend(number.to_be_bytes());
        }
        let hash = Sha256::digest(&bytes);
        bytes.extend(&hash[..8]);
        // One write within one sector.
        record.write_all_at(&bytes, 0)
    }
}

/// Checks the log of a database that no process has open. `Ok` if there is no record: an older version left the file.
pub fn check(path: &Path) -> Result<(), LogLost> {
    let name = beside(path, SUFFIX);
    let Some(said) = File::open(&name).ok().and_then(|file| read(&file)) else { return Ok(()) };
    let (log, expected) = (beside(path, "-wal"), said.frames);
    let found = match frames(&log, &said.header, expected) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(()),
        Err(error) if [ErrorKind::NotFound, ErrorKind::UnexpectedEof].contains(&error.kind()) => 0,
        // Opening the file reports it.
        Err(_) => return Ok(()),
    };
    if found >= expected || is_merged(path, &said) {
        return Ok(());
    }
    let until = name.metadata().and_then(|record| record.modified()).ok();
    Err(LogLost {
        log: log.display().to_string(),
        record: name.display().to_string(),
        expected,
        found,
        until: until.map_or_else(|| "then".to_owned(), time),
    })
}

fn time(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    crate::clock::rfc3339(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// What a record says. `None` if it names no log.
fn read(file: &File) -> Option<Recorded> {
    let mut bytes = [0; RECORD];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (said, hash) = bytes.split_at(RECORD - 8);
    if !said.starts_with(MAGIC) || Sha256::digest(said)[..8] != *hash {
        return None;
    }
    let (header, numbers) = said[MAGIC.len()..].split_at(KEPT);
    let [frames, page, first, second] = [0, 4, 8, 12].map(|at| number(numbers, at));
    let said = Recorded { header: header.try_into().ok()?, frames, page, sums: (first, second) };
    Some(said).filter(|said| said.frames > 0)
}

/// Whether the database has the last page of the log, so that the log was merged into it.
fn is_merged(path: &Path, said: &Recorded) -> bool {
    let Some(before) = said.page.checked_sub(1) else { return false };
    let mut page = vec![0; said.page_size()];
    let place = u64::from(before) * page.len() as u64;
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut page, place));
    read.is_ok() && sum((0, 0), &page, true) == said.sums
}

/// How many frames of the recorded log are in the file, at most `most`. `None` if the log was restarted since: SQLite does that
/// only when everything of it is in the database.
fn frames(log: &Path, recorded: &[u8; KEPT], most: u32) -> io::Result<Option<u32>> {
    let mut log = BufReader::with_capacity(1 << 20, File::open(log)?);
    let mut header = [0; HEADER];
    log.read_exact(&mut header)?;
    if header[..KEPT] != *recorded {
        return Ok(if is_later(&header, recorded) { None } else { Some(0) });
    }
    let big_endian = header[3] & 1 == 1;
    let page = page_size(&header);
    let mut sums = sum((0, 0), &header[..KEPT], big_endian);
    let mut frame = vec![0; FRAME + page];
    for found in 0..most {
        match log.read_exact(&mut frame) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Some(found)),
            read => read?,
        }
        // What the checksum covers: the page's number, the size of the database, the page.
        sums = sum(sum(sums, &frame[..8], big_endian), &frame[FRAME..], big_endian);
        if frame[8..16] != header[16..24] || (number(&frame, 16), number(&frame, 20)) != sums {
            return Ok(Some(found));
        }
    }
    Ok(Some(most))
}

fn page_size(header: &[u8]) -> usize {
    usize::try_from(number(header, 8)).unwrap_or(usize::MAX).clamp(512, 65_536)
}

/// Whether this log came after the recorded one. SQLite increments the first salt each time it restarts the log; the salt of a
/// new log is random. The sequence in the header does not say it, because each connection counts by itself. After a crash there
/// is no record of the last restart.
fn is_later(header: &[u8], recorded: &[u8]) -> bool {
    (1..=STEPS).contains(&number(header, 16).wrapping_sub(number(recorded, 16)))
}

/// The checksum of SQLite's log: <https://www.sqlite.org/fileformat2.html#checksum_algorithm>.
fn sum((mut first, mut second): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        first = first.wrapping_add(word(pair)).wrapping_add(second);
        second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
    }
    (first, second)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests;
