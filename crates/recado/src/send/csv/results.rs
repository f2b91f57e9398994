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
use recado_domain::ids::MessageId;
use recado_domain::text::without_mark;

use crate::made_up;
use crate::send::csv::input::{Line, hex, reader, separator};

const COLUMNS: [&str; 14] = [
    "line",
    "status",
    "messageId",
    "code",
    "reason",
    "to",
    "name",
    "phone",
    "email",
    "organization",
    "firstName",
    "lastName",
    "account",
    "idempotencyKey",
];
const STATUS: usize = 1;
const PARTS: std::ops::Range<usize> = 10..12;
const ACCOUNT: usize = 12;
const KEY: usize = 13;
const MARK: &str = "\u{feff}";

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Accepted {
        id: MessageId,
    },
    /// An earlier run had sent it, and did not come to note it.
    Replayed {
        id: MessageId,
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
    /// The account of the rows.
    account: String,
    done: HashSet<String>,
    refused: HashSet<String>,
    /// What is to stand in the file before the first row of this run.
    anew: Option<Vec<u8>>,
}

impl Results {
    /// Opens the file, or makes it. Rows of refused lines go with the first answer: those are tried again.
    pub fn open(path: &Path, separator_of_new: u8, mark: bool, account: String) -> Result<Self> {
        let shown = path.display();
        let mut file = lock(path)?;
        // What stands behind a link is replaced, not the link.
        let path = path.canonicalize().with_context(|| format!("cannot open {shown}"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
        let (separator, rows) = match parse(&bytes) {
            Ok(None) => (separator_of_new, Vec::new()),
            Ok(Some(parsed)) => parsed,
            Err(reason) => bail!("{shown} is there already, and {reason}: name another by --results, or move it away"),
        };
        if let Some(other) = rows.iter().map(|row| &row[ACCOUNT]).find(|other| *other != account) {
            bail!(
                "{shown} tells of a run to {other:?}, and this one goes to {account:?}: nothing was sent. To send the \
                 lines there too, name another file by --results"
            );
        }
        let (refused, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| &row[STATUS] == "refused");
        let [done, refused] = [&rows, &refused].map(|rows| rows.iter().map(|row| row[KEY].to_owned()).collect());
        // Without the mark a spreadsheet on Windows shows other letters.
        let mark = if mark || bytes.starts_with(MARK.as_bytes()) { MARK } else { "" };
        let mut kept = mark.as_bytes().to_vec();
        kept.extend(written(separator, &[StringRecord::from(COLUMNS.to_vec())])?);
        kept.extend(written(separator, &rows)?);
        let anew = (kept != bytes).then_some(kept);
        Ok(Self { file, path, separator, account, done, refused, anew })
    }

    /// Whether an earlier run has sent the line.
    pub fn has(&self, line: &Line) -> bool {
        [&line.key, &line.unguarded].into_iter().any(|key| self.done.contains(&hex(key)))
    }

    /// An error where lines were sent, and the file knows none of these: it is of another run, which may well have sent
    /// the same cards under other keys.
    pub fn check_tells_of(&self, lines: &[Line], source: &Path) -> Result<()> {
        let known = |line: &Line| self.has(line) || self.refused.contains(&hex(&line.key));
        if self.done.is_empty() || lines.iter().any(known) {
            return Ok(());
        }
        let (shown, source) = (self.path.display(), source.display());
        bail!(
            "{shown} tells of sent lines, and none of them is in {source} for this batch, channel and scenario: nothing \
             was sent. To go on with the run that wrote it, give its channel, scenario and --batch (without --batch it \
             was the name of its CSV file, for standard input that of the result file). To send other lines, name \
             another file by --results"
        )
    }

    /// Appends rows, in one write.
    pub fn add<'a>(
        &mut self,
        rows: impl Iterator<Item = (u64, &'a [u8; 32], [Option<&'a str>; 7], &'a Fate)>,
    ) -> Result<()> {
        let rows: Vec<_> =
            rows.map(|(number, key, fields, fate)| row(number, key, fields, fate, &self.account)).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let failed = || format!("cannot write {}", self.path.display());
        if let Some(bytes) = self.anew.take() {
            self.file = replace(&self.path, &bytes).with_context(failed)?;
        }
        let bytes = written(self.separator, &rows)?;
        self.file.write_all(&bytes).with_context(failed)
    }

    /// Brings what was appended to the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn row(number: u64, key: &[u8; 32], fields: [Option<&str>; 7], fate: &Fate, account: &str) -> StringRecord {
    let (status, id, code, reason) = match fate {
        Fate::Accepted { id } => ("accepted", id.to_string(), "", ""),
        Fate::Replayed { id } => ("replayed", id.to_string(), "", ""),
        Fate::Refused { code, reason } => ("refused", String::new(), &**code, &**reason),
    };
    let front = [number.to_string(), status.to_owned(), id, plain(code), plain(reason)];
    let fields = fields.into_iter().map(|field| plain(field.unwrap_or_default()));
    front.into_iter().chain(fields).chain([account.to_owned(), hex(key)]).collect()
}

/// Text that no spreadsheet takes for a formula.
fn plain(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// The rows of a result file, and its separator; `None` when it is empty. A last row that is not whole is left out.
fn parse(bytes: &[u8]) -> Result<Option<(u8, Vec<StringRecord>)>, String> {
    let no_result_file = || "is no result file".to_owned();
    // A kill can tear the last row, also within a letter.
    let (whole, torn) = bytes.split_at(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    let text = std::str::from_utf8(whole).map_err(|_| no_result_file())?;
    let text = without_mark(text);
    if text.is_empty() {
        let head = torn.strip_prefix(MARK.as_bytes()).unwrap_or(torn);
        if MARK.as_bytes().starts_with(head) {
            return Ok(None);
        }
        let head = String::from_utf8_lossy(head).replace([';', '\t', '|'], ",");
        return if COLUMNS.join(",").starts_with(&head) { Ok(None) } else { Err(no_result_file()) };
    }
    let separator = separator(text.lines().next().unwrap_or_default(), |name| COLUMNS.contains(&name));
    let mut reader = reader(text, separator);
    let head = reader.headers().map_err(|error| error.to_string())?;
    // Earlier versions did not know the parts of a name.
    let without_parts = *head == without_parts();
    if !without_parts && head != COLUMNS.as_slice() {
        return Err(no_result_file());
    }
    let width = head.len();
    let rows = reader.into_records().collect::<Result<Vec<_>, _>>();
    let mut rows = rows.map_err(|error| error.to_string())?;
    // Torn behind a line break within a value.
    if rows.last().is_some_and(|row| row.len() != width) {
        rows.pop();
    }
    if let Some(row) = rows.iter().find(|row| row.len() != width) {
        return Err(format!("its line {} is damaged", row.position().map_or(0, csv::Position::line)));
    }
    if without_parts {
        rows = rows.iter().map(with_empty_parts).collect();
    }
    Ok(Some((separator, rows)))
}

fn without_parts() -> Vec<&'static str> {
    [&COLUMNS[..PARTS.start], &COLUMNS[PARTS.end..]].concat()
}

fn with_empty_parts(row: &StringRecord) -> StringRecord {
    let front = row.iter().take(PARTS.start);
    front.chain(PARTS.map(|_| "")).chain(row.iter().skip(PARTS.start)).collect()
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
        // A device or a pipe cannot be read back, and must not be replaced.
        if !file.metadata()?.is_file() {
            bail!("{shown} is no regular file");
        }
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
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", made_up()));
    let mut file = File::options().append(true).create_new(true).mode(0o600).open(&name)?;
    file.lock()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&name, path)?;
    // Without it a power cut can take the name.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use crate::send::csv::results::*;

    #[test]
    fn a_file_of_an_earlier_version_goes_on() {
        let mut row = vec!["x"; 12];
        row[STATUS] = "accepted";
        let old = [without_parts(), row].map(StringRecord::from);
        let (_, rows) = parse(&written(b';', &old).expect("a file")).expect("a result file").expect("rows");
        let expected = ["x", "accepted", "x", "x", "x", "x", "x", "x", "x", "x", "", "", "x", "x"];
        assert_eq!(rows, [StringRecord::from(expected.to_vec())]);
    }

    #[test]
    fn a_file_torn_anywhere_keeps_its_whole_rows() {
        let fate = Fate::Refused { code: "CSV_LINE".to_owned(), reason: "João\ndisse: \"não\"".to_owned() };
        let fields = [Some("5511999990001"), Some("João"), None, None, None, None, None];
        let rows: Vec<_> = (2..4).map(|number| row(number, &[7; 32], fields, &fate, "an account")).collect();
        let head = written(b';', &[StringRecord::from(COLUMNS.to_vec())]).expect("a head");
        let head = [MARK.as_bytes(), &head].concat();
        let bytes = [&head[..], &written(b';', &rows).expect("rows")].concat();
        let first = head.len() + (bytes.len() - head.len()) / 2;
        for cut in 0..=bytes.len() {
            let whole = parse(&bytes[..cut]).unwrap_or_else(|reason| panic!("cut at {cut}: {reason}"));
            let found = whole.map(|(_, rows)| rows.len());
            let expected = (cut >= head.len()).then(|| usize::from(cut >= first) + usize::from(cut == bytes.len()));
            assert_eq!(found, expected, "cut at {cut}");
        }
    }
}
