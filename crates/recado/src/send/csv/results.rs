//! The result file. It records the outcome of each line, and so where the next run continues.
//!
//! An answer is appended when it comes. What a kill loses (an answer that was not written, or half of the last line) is
//! requested again, and the line's idempotency key keeps it one message.

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use csv::StringRecord;
use recado_domain::hex::hex;
use recado_domain::ids::MessageId;
use recado_domain::kinds::FieldSpec;
use recado_domain::text::without_mark;

use crate::send::csv::input::{CONTACT, Cell, FIRST, Input, Line, reader, separator};
use crate::unique_name;

/// The columns before the fields, and those after them.
const COLUMNS_BEFORE: [&str; 5] = ["line", "status", "messageId", "code", "reason"];
const BACK: [&str; 2] = ["account", "idempotencyKey"];
const STATUS: usize = 1;
const MARK: &str = "\u{feff}";

/// The outcome of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineOutcome {
    Accepted {
        id: MessageId,
    },
    /// An earlier run had sent it, and did not record it.
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
    /// The fields that have columns.
    fields: Vec<&'static FieldSpec>,
    /// The account column of the rows.
    account: String,
    done: HashSet<String>,
    refused: HashSet<String>,
    /// The content to write before the first row of this run.
    replacement: Option<Vec<u8>>,
}

impl Results {
    /// Opens the file, or creates it. The first answer removes the rows of refused lines, which are tried again. `known`:
    /// the fields that the kind can have as columns.
    pub fn open(path: &Path, input: &Input, known: Vec<&'static FieldSpec>, account: String) -> Result<Self> {
        let shown = path.display();
        let mut file = lock(path)?;
        // The target of a link is replaced, and not the link.
        let path = path.canonicalize().with_context(|| format!("cannot open {shown}"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {shown}"))?;
        let names: Vec<_> = known.iter().map(|field| field.name).collect();
        let (separator, of_file, rows) = match parse(&bytes, &names) {
            Ok(None) => (input.separator, Vec::new(), Vec::new()),
            Ok(Some(table)) => (table.separator, table.fields, table.rows),
            Err(reason) => bail!("{shown} is there already, and {reason}: name another by --results, or move it away"),
        };
        let fields = columns(known, &of_file, input);
        if let Some(other) = rows.iter().map(account_of).find(|other| *other != account) {
            bail!(
                "{shown} records a run to {other:?}, and this run sends to {account:?}: nothing was sent. To send the \
                 lines there too, name another file by --results"
            );
        }
        let (refused, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| &row[STATUS] == "refused");
        let [done, refused] = [&rows, &refused].map(|rows| rows.iter().map(|row| key_of(row).to_owned()).collect());
        // Without the mark, a spreadsheet on Windows shows wrong letters.
        let mark = if input.mark || bytes.starts_with(MARK.as_bytes()) { MARK } else { "" };
        let mut kept = mark.as_bytes().to_vec();
        kept.extend(written(separator, &[head(&fields)])?);
        let rows: Vec<_> = rows.iter().map(|row| with_columns(row, &of_file, &fields)).collect();
        kept.extend(written(separator, &rows)?);
        let replacement = (kept != bytes).then_some(kept);
        Ok(Self { file, path, separator, fields, account, done, refused, replacement })
    }

    /// Whether an earlier run has sent the line.
    pub fn has(&self, line: &Line) -> bool {
        [&line.key, &line.unguarded].into_iter().any(|key| self.done.contains(&hex(key)))
    }

    /// An error if lines were sent, but none of these lines is in the file: it belongs to another run, which may have sent
    /// the same contacts under other keys.
    pub fn check_belongs_to(&self, lines: &[Line], source: &Path) -> Result<()> {
        let known = |line: &Line| self.has(line) || self.refused.contains(&hex(&line.key));
        if self.done.is_empty() || lines.iter().any(known) {
            return Ok(());
        }
        let (shown, source) = (self.path.display(), source.display());
        bail!(
            "{shown} records sent lines, and none of them is in {source} for this batch, channel and scenario: nothing \
             was sent. To go on with the run that wrote it, give its channel, scenario and --batch (without --batch it \
             was the name of its CSV file, for standard input that of the result file). To send other lines, name \
             another file by --results"
        )
    }

    /// Appends rows in one write.
    pub fn add<'a>(
        &mut self,
        rows: impl Iterator<Item = (u64, &'a [u8; 32], Vec<Cell<'a>>, &'a LineOutcome)>,
    ) -> Result<()> {
        let rows: Vec<_> = rows
            .map(|(number, key, cells, outcome)| row(number, key, &self.cells(&cells), outcome, &self.account))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        let failed = || format!("cannot write {}", self.path.display());
        if let Some(bytes) = self.replacement.take() {
            self.file = replace(&self.path, &bytes).with_context(failed)?;
        }
        let bytes = written(self.separator, &rows)?;
        self.file.write_all(&bytes).with_context(failed)
    }

    /// The cells in the order of the file's columns.
    fn cells<'a>(&self, cells: &[Cell<'a>]) -> Vec<&'a str> {
        let cell = |column: &&'static FieldSpec| cells.iter().find(|(field, _)| field.name == column.name);
        self.fields.iter().map(|column| cell(column).map_or("", |(_, cell)| *cell)).collect()
    }

    /// Syncs the appended rows to the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The columns of fields: those that the kind's files always had, and those of the input or of an earlier run.
fn columns(known: Vec<&'static FieldSpec>, of_file: &[String], input: &Input) -> Vec<&'static FieldSpec> {
    let always = |field: &FieldSpec| input.kind.name == CONTACT && FIRST.contains(&field.name);
    let given =
        |name: &str| of_file.iter().any(|field| field == name) || input.columns().any(|field| field.name == name);
    known.into_iter().filter(|field| always(field) || given(field.name)).collect()
}

fn head(fields: &[&'static FieldSpec]) -> StringRecord {
    COLUMNS_BEFORE.into_iter().chain(fields.iter().map(|field| field.name)).chain(BACK).collect()
}

/// A row with the columns of this run.
fn with_columns(row: &StringRecord, before: &[String], now: &[&'static FieldSpec]) -> StringRecord {
    let cell = |field: &&'static FieldSpec| {
        let place = before.iter().position(|name| name == field.name);
        place.map_or("", |place| &row[COLUMNS_BEFORE.len() + place])
    };
    let back = row.iter().skip(row.len() - BACK.len());
    row.iter().take(COLUMNS_BEFORE.len()).chain(now.iter().map(cell)).chain(back).collect()
}

fn account_of(row: &StringRecord) -> &str {
    &row[row.len() - 2]
}

fn key_of(row: &StringRecord) -> &str {
    &row[row.len() - 1]
}

fn row(number: u64, key: &[u8; 32], cells: &[&str], outcome: &LineOutcome, account: &str) -> StringRecord {
    let (status, id, code, reason) = match outcome {
        LineOutcome::Accepted { id } => ("accepted", id.to_string(), "", ""),
        LineOutcome::Replayed { id } => ("replayed", id.to_string(), "", ""),
        LineOutcome::Refused { code, reason } => ("refused", String::new(), &**code, &**reason),
    };
    let front = [number.to_string(), status.to_owned(), id, plain(code), plain(reason)];
    let fields = cells.iter().map(|cell| plain(cell));
    front.into_iter().chain(fields).chain([account.to_owned(), hex(key)]).collect()
}

/// Text that no spreadsheet treats as a formula.
fn plain(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// The content of a result file.
#[derive(Debug, PartialEq)]
struct Table {
    separator: u8,
    /// The columns between the first and the last ones.
    fields: Vec<String>,
    rows: Vec<StringRecord>,
}

/// Parses a result file; `None` if it is empty. An incomplete last row is left out.
fn parse(bytes: &[u8], known: &[&str]) -> Result<Option<Table>, String> {
    let no_result_file = || "is no result file".to_owned();
    // A kill can cut the last row, also within a character.
    let (whole, torn) = bytes.split_at(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    let text = std::str::from_utf8(whole).map_err(|_| no_result_file())?;
    let text = without_mark(text);
    if text.is_empty() {
        let head = torn.strip_prefix(MARK.as_bytes()).unwrap_or(torn);
        if MARK.as_bytes().starts_with(head) {
            return Ok(None);
        }
        let head = String::from_utf8_lossy(head).replace([';', '\t', '|'], ",");
        return if is_torn_head(&head, known) { Ok(None) } else { Err(no_result_file()) };
    }
    let is_column = |name: &str| COLUMNS_BEFORE.contains(&name) || BACK.contains(&name) || known.contains(&name);
    let separator = separator(text.lines().next().unwrap_or_default(), is_column);
    let mut reader = reader(text, separator);
    let head: Vec<_> = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    let fields = head
        .strip_prefix(&COLUMNS_BEFORE.map(str::to_owned))
        .and_then(|rest| rest.strip_suffix(&BACK.map(str::to_owned)));
    // Other fields belong to another kind.
    let fields = fields.filter(|fields| fields.iter().all(|field| known.contains(&field.as_str())));
    let fields = fields.ok_or_else(no_result_file)?.to_vec();
    let width = head.len();
    let rows = reader.into_records().collect::<Result<Vec<_>, _>>();
    let mut rows = rows.map_err(|error| error.to_string())?;
    // Cut after a line break within a value.
    if rows.last().is_some_and(|row| row.len() != width) {
        rows.pop();
    }
    if let Some(row) = rows.iter().find(|row| row.len() != width) {
        return Err(format!("its line {} is damaged", row.position().map_or(0, csv::Position::line)));
    }
    Ok(Some(Table { separator, fields, rows }))
}

/// Whether this is the beginning of a head.
fn is_torn_head(head: &str, known: &[&str]) -> bool {
    let front = COLUMNS_BEFORE.join(",");
    let Some(rest) = head.strip_prefix(&front) else { return front.starts_with(head) };
    let mut names = rest.strip_prefix(',').unwrap_or(rest).split(',').peekable();
    while let Some(name) = names.next() {
        let mut columns = known.iter().chain(&BACK);
        let is_whole = names.peek().is_some();
        if !columns.any(|column| if is_whole { *column == name } else { column.starts_with(name) }) {
            return false;
        }
    }
    true
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
        // It contains numbers and names, so only the owner may read it.
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
        // Another run may have replaced the file between our opening and our locking.
        if std::fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino())) {
            return Ok(file);
        }
    }
}

/// Atomically replaces a file that we hold. The new file is locked before it can be found.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", unique_name()));
    let mut file = File::options().append(true).create_new(true).mode(0o600).open(&name)?;
    file.lock()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&name, path)?;
    // Without it a power cut can lose the name.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use recado_domain::kinds::Kind;

    use crate::send::columns_of;
    use crate::send::csv::results::*;

    fn fields(names: &[&str]) -> Vec<&'static FieldSpec> {
        let known = columns_of(Kind::named(CONTACT).expect("a kind"));
        known.into_iter().filter(|field| names.contains(&field.name)).collect()
    }

    #[test]
    fn a_result_file_of_an_earlier_version_is_continued() {
        let oldest = &FIRST[..5];
        let mut row = vec!["x"; 12];
        row[STATUS] = "accepted";
        let old = [head(&fields(oldest)), StringRecord::from(row)];
        let table = parse(&written(b';', &old).expect("a file"), &FIRST).expect("a result file").expect("rows");
        assert_eq!(table.fields, oldest);
        let now = with_columns(&table.rows[0], &table.fields, &fields(&FIRST));
        let expected = ["x", "accepted", "x", "x", "x", "x", "x", "x", "x", "x", "", "", "x", "x"];
        assert_eq!(now, StringRecord::from(expected.to_vec()));
        let more = fields(&[&FIRST[..], &["title", "reference"]].concat());
        assert_eq!(with_columns(&now, &FIRST.map(str::to_owned), &more).len(), 16);
    }

    #[test]
    fn a_file_torn_anywhere_keeps_its_whole_rows() {
        let outcome = LineOutcome::Refused { code: "CSV_LINE".to_owned(), reason: "João\ndisse: \"não\"".to_owned() };
        let cells = ["5511999990001", "João", "", "", "", "", ""];
        let rows: Vec<_> = (2..4).map(|number| row(number, &[7; 32], &cells, &outcome, "an account")).collect();
        let head = written(b';', &[head(&fields(&FIRST))]).expect("a head");
        let head = [MARK.as_bytes(), &head].concat();
        let bytes = [&head[..], &written(b';', &rows).expect("rows")].concat();
        let first = head.len() + (bytes.len() - head.len()) / 2;
        for cut in 0..=bytes.len() {
            let whole = parse(&bytes[..cut], &FIRST).unwrap_or_else(|reason| panic!("cut at {cut}: {reason}"));
            let found = whole.map(|table| table.rows.len());
            let expected = (cut >= head.len()).then(|| usize::from(cut >= first) + usize::from(cut == bytes.len()));
            assert_eq!(found, expected, "cut at {cut}");
        }
        assert_eq!(parse(b"to,name,pho", &FIRST), Err("is no result file".to_owned()));
    }
}
