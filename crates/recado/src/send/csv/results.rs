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
use recado_domain::kinds::FieldSpec;
use recado_domain::text::without_mark;

use crate::made_up;
use crate::send::csv::input::{CONTACT, Cell, FIRST, Input, Line, hex, reader, separator};

/// The columns in front of the fields, and behind them.
const FRONT: [&str; 5] = ["line", "status", "messageId", "code", "reason"];
const BACK: [&str; 2] = ["account", "idempotencyKey"];
const STATUS: usize = 1;
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
    /// The fields that have columns.
    fields: Vec<&'static FieldSpec>,
    /// The account of the rows.
    account: String,
    done: HashSet<String>,
    refused: HashSet<String>,
    /// What is to stand in the file before the first row of this run.
    anew: Option<Vec<u8>>,
}

impl Results {
    /// Opens the file, or makes it. Rows of refused lines go with the first answer: those are tried again.
    /// `known`: the fields that the kind can have as columns.
    pub fn open(path: &Path, input: &Input, known: Vec<&'static FieldSpec>, account: String) -> Result<Self> {
        let shown = path.display();
        let mut file = lock(path)?;
        // What stands behind a link is replaced, not the link.
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
                "{shown} tells of a run to {other:?}, and this one goes to {account:?}: nothing was sent. To send the \
                 lines there too, name another file by --results"
            );
        }
        let (refused, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| &row[STATUS] == "refused");
        let [done, refused] = [&rows, &refused].map(|rows| rows.iter().map(|row| key_of(row).to_owned()).collect());
        // Without the mark a spreadsheet on Windows shows other letters.
        let mark = if input.mark || bytes.starts_with(MARK.as_bytes()) { MARK } else { "" };
        let mut kept = mark.as_bytes().to_vec();
        kept.extend(written(separator, &[head(&fields)])?);
        let rows: Vec<_> = rows.iter().map(|row| with_columns(row, &of_file, &fields)).collect();
        kept.extend(written(separator, &rows)?);
        let anew = (kept != bytes).then_some(kept);
        Ok(Self { file, path, separator, fields, account, done, refused, anew })
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
    pub fn add<'a>(&mut self, rows: impl Iterator<Item = (u64, &'a [u8; 32], Vec<Cell<'a>>, &'a Fate)>) -> Result<()> {
        let rows: Vec<_> =
            rows.map(|(number, key, cells, fate)| row(number, key, &self.cells(&cells), fate, &self.account)).collect();
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

    /// The cells in the order of the file's columns.
    fn cells<'a>(&self, cells: &[Cell<'a>]) -> Vec<&'a str> {
        let cell = |column: &&'static FieldSpec| cells.iter().find(|(field, _)| field.name == column.name);
        self.fields.iter().map(|column| cell(column).map_or("", |(_, cell)| *cell)).collect()
    }

    /// Brings what was appended to the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The columns of fields: those that the kind's files always had, and what the input or an earlier run has.
fn columns(known: Vec<&'static FieldSpec>, of_file: &[String], input: &Input) -> Vec<&'static FieldSpec> {
    let always = |field: &FieldSpec| input.kind.name == CONTACT && FIRST.contains(&field.name);
    let given =
        |name: &str| of_file.iter().any(|field| field == name) || input.columns().any(|field| field.name == name);
    known.into_iter().filter(|field| always(field) || given(field.name)).collect()
}

fn head(fields: &[&'static FieldSpec]) -> StringRecord {
    FRONT.into_iter().chain(fields.iter().map(|field| field.name)).chain(BACK).collect()
}

/// A row with the columns of this run.
fn with_columns(row: &StringRecord, before: &[String], now: &[&'static FieldSpec]) -> StringRecord {
    let cell = |field: &&'static FieldSpec| {
        let place = before.iter().position(|name| name == field.name);
        place.map_or("", |place| &row[FRONT.len() + place])
    };
    let back = row.iter().skip(row.len() - BACK.len());
    row.iter().take(FRONT.len()).chain(now.iter().map(cell)).chain(back).collect()
}

fn account_of(row: &StringRecord) -> &str {
    &row[row.len() - 2]
}

fn key_of(row: &StringRecord) -> &str {
    &row[row.len() - 1]
}

fn row(number: u64, key: &[u8; 32], cells: &[&str], fate: &Fate, account: &str) -> StringRecord {
    let (status, id, code, reason) = match fate {
        Fate::Accepted { id } => ("accepted", id.to_string(), "", ""),
        Fate::Replayed { id } => ("replayed", id.to_string(), "", ""),
        Fate::Refused { code, reason } => ("refused", String::new(), &**code, &**reason),
    };
    let front = [number.to_string(), status.to_owned(), id, plain(code), plain(reason)];
    let fields = cells.iter().map(|cell| plain(cell));
    front.into_iter().chain(fields).chain([account.to_owned(), hex(key)]).collect()
}

/// Text that no spreadsheet takes for a formula.
fn plain(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// What a result file holds.
#[derive(Debug, PartialEq)]
struct Table {
    separator: u8,
    /// The columns between those in front and those behind.
    fields: Vec<String>,
    rows: Vec<StringRecord>,
}

/// Reads a result file; `None` when it is empty. A last row that is not whole is left out.
fn parse(bytes: &[u8], known: &[&str]) -> Result<Option<Table>, String> {
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
        return if is_torn_head(&head, known) { Ok(None) } else { Err(no_result_file()) };
    }
    let is_column = |name: &str| FRONT.contains(&name) || BACK.contains(&name) || known.contains(&name);
    let separator = separator(text.lines().next().unwrap_or_default(), is_column);
    let mut reader = reader(text, separator);
    let head: Vec<_> = reader.headers().map_err(|error| error.to_string())?.iter().map(str::to_owned).collect();
    let fields =
        head.strip_prefix(&FRONT.map(str::to_owned)).and_then(|rest| rest.strip_suffix(&BACK.map(str::to_owned)));
    // Other fields are another kind's.
    let fields = fields.filter(|fields| fields.iter().all(|field| known.contains(&field.as_str())));
    let fields = fields.ok_or_else(no_result_file)?.to_vec();
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
    Ok(Some(Table { separator, fields, rows }))
}

/// Whether these are the first letters of a head.
fn is_torn_head(head: &str, known: &[&str]) -> bool {
    let front = FRONT.join(",");
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
    use recado_domain::kinds::Kind;

    use crate::send::columns_of;
    use crate::send::csv::results::*;

    fn fields(names: &[&str]) -> Vec<&'static FieldSpec> {
        let known = columns_of(Kind::named(CONTACT).expect("a kind"));
        known.into_iter().filter(|field| names.contains(&field.name)).collect()
    }

    #[test]
    fn a_file_of_an_earlier_version_goes_on() {
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
        let fate = Fate::Refused { code: "CSV_LINE".to_owned(), reason: "João\ndisse: \"não\"".to_owned() };
        let cells = ["5511999990001", "João", "", "", "", "", ""];
        let rows: Vec<_> = (2..4).map(|number| row(number, &[7; 32], &cells, &fate, "an account")).collect();
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
