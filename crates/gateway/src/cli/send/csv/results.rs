//! The result file: what became of each line, and so where the next run goes on.
//!
//! An answer is appended when it comes. What a kill takes (an answer that was not written, half a last line) is asked
//! for again, and the line's idempotency key keeps it one message.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use csv::StringRecord;

use super::input::{hex, reader, separator};

const COLUMNS: [&str; 11] =
    ["line", "status", "messageId", "code", "reason", "to", "name", "phone", "email", "organization", "idempotencyKey"];
const STATUS: usize = 1;
const KEY: usize = 10;

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Accepted {
        id: String,
    },
    /// An earlier run had sent it, and did not come to note it.
    Replayed {
        id: String,
    },
    Refused {
        code: String,
        reason: String,
    },
}

/// The opened and locked file.
pub struct Results {
    file: File,
    path: PathBuf,
    separator: u8,
    done: HashSet<String>,
}

impl Results {
    /// Opens the file, or makes it. Rows of refused lines go: those are tried again.
    pub fn open(path: &Path, separator_of_new: u8) -> Result<Self> {
        let shown = path.display();
        let mut file = lock(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("cannot read {shown}"))?;
        let (separator, rows) = match parse(&text) {
            Ok(None) => (separator_of_new, Vec::new()),
            Ok(Some(parsed)) => parsed,
            Err(reason) => bail!("{shown} is there already, and {reason}: name another by --results, or move it away"),
        };
        let rows: Vec<_> = rows.into_iter().filter(|row| &row[STATUS] != "refused").collect();
        let done = rows.iter().map(|row| row[KEY].to_owned()).collect();
        let mut bytes = written(separator, &[StringRecord::from(COLUMNS.to_vec())])?;
        bytes.extend(written(separator, &rows)?);
        if bytes != text.as_bytes() {
            file = replace(path, &bytes).with_context(|| format!("cannot write {shown}"))?;
        }
        Ok(Self { file, path: path.to_owned(), separator, done })
    }

    /// Whether an earlier run has sent the line.
    pub fn has(&self, key: &[u8; 32]) -> bool {
        self.done.contains(&hex(key))
    }

    /// Appends rows, in one write.
    pub fn add<'a>(
        &mut self,
        rows: impl Iterator<Item = (u64, &'a [u8; 32], [Option<&'a str>; 5], &'a Fate)>,
    ) -> Result<()> {
        let rows: Vec<_> = rows.map(|(number, key, fields, fate)| row(number, key, fields, fate)).collect();
        let bytes = written(self.separator, &rows)?;
        self.file.write_all(&bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Brings what was appended to the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn row(number: u64, key: &[u8; 32], fields: [Option<&str>; 5], fate: &Fate) -> StringRecord {
    let (status, id, code, reason) = match fate {
        Fate::Accepted { id } => ("accepted", &**id, "", ""),
        Fate::Replayed { id } => ("replayed", &**id, "", ""),
        Fate::Refused { code, reason } => ("refused", "", &**code, &**reason),
    };
    let number = number.to_string();
    let key = hex(key);
    let front = [&*number, status, id, code, reason];
    front.into_iter().chain(fields.into_iter().map(Option::unwrap_or_default)).chain([&*key]).collect()
}

/// The rows of a result file, and its separator; `None` when it is empty. A last row that is not whole is left out.
fn parse(text: &str) -> Result<Option<(u8, Vec<StringRecord>)>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let head = text.lines().next().unwrap_or_default();
    // A kill can also tear the first line.
    if COLUMNS.join(",").starts_with(&head.replace([';', '\t'], ",")) && !text.contains('\n') {
        return Ok(None);
    }
    let separator = separator(head, |name| COLUMNS.contains(&name));
    let mut reader = reader(text, separator);
    if reader.headers().is_ok_and(|head| head != COLUMNS.as_slice()) {
        return Err("is no result file".to_owned());
    }
    let mut rows: Vec<StringRecord> = Vec::new();
    for record in reader.into_records() {
        rows.push(record.map_err(|error| error.to_string())?);
    }
    if rows.last().is_some_and(|row| row.len() != COLUMNS.len()) || !text.ends_with('\n') {
        rows.pop();
    }
    match rows.iter().find(|row| row.len() != COLUMNS.len()) {
        Some(row) => Err(format!("its line {} is damaged", row.position().map_or(0, csv::Position::line))),
        None => Ok(Some((separator, rows))),
    }
}

fn written(separator: u8, rows: &[StringRecord]) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.write_record(row))?;
    Ok(writer.into_inner()?)
}

/// Opens the file for this run alone.
fn lock(path: &Path) -> Result<File> {
    let shown = path.display();
    loop {
        // Numbers and names stand in it: nobody else's business.
        let file = File::options().read(true).append(true).create(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("cannot open {shown}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another run is sending, and writes {shown}"),
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {shown}")),
        }
        // Another run may have put a new file in its place between our opening and our locking.
        if std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino())) {
            return Ok(file);
        }
    }
}

/// Puts a new file in the place of one that we hold, whole or not at all. It is locked before it can be found.
fn replace(path: &Path, bytes: &[u8]) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    // A leftover of a kill.
    let _ = std::fs::remove_file(&name);
    let mut file = File::options().append(true).create_new(true).mode(0o600).open(&name)?;
    file.lock()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&name, path)?;
    Ok(file)
}
