//! A CSV file of messages. It is read and checked as a whole before anything is sent.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use csv::StringRecord;
use recado_domain::kinds::{FieldSpec, Form, Kind};
use recado_domain::text::without_mark;
use sha2::{Digest, Sha256};

use crate::send::columns_of;

/// The separators that spreadsheets write. It is `;` if a comma is the decimal separator, as in Brazil.
const SEPARATORS: [u8; 4] = *b",;\t|";
/// Names standard input in the place of a file.
pub const STANDARD_INPUT: &str = "-";

/// The source of the messages.
pub struct Source<'a> {
    pub place: &'a Path,
    pub kind: &'static Kind,
    /// The headers that were named by hand.
    pub by_hand: &'a [(&'static FieldSpec, String)],
}

/// The messages of the file, in order.
pub struct Input {
    pub kind: &'static Kind,
    pub separator: u8,
    /// Whether the file begins with a byte order mark.
    pub mark: bool,
    pub lines: Vec<Line>,
    /// The headers of ignored columns.
    pub ignored: Vec<String>,
    columns: Columns,
}

/// One message.
pub struct Line {
    /// The line in the file where the record begins, from 1.
    pub number: u64,
    /// The identity of the line in every run, wherever it is in the file: a hash of the cells as they are, the same in all
    /// versions.
    pub key: [u8; 32],
    /// The same with the guards of cells removed, because cells may have been copied from a result file.
    pub unguarded: [u8; 32],
    /// Why it cannot be a message, if the file itself shows that.
    pub fault: Option<String>,
    /// The file is a result file that records that the line was sent.
    pub sent: bool,
    record: StringRecord,
}

impl Input {
    /// Reads the file. `scope` distinguishes the keys of lines with equal content.
    pub fn read(source: &Source<'_>, scope: [&str; 3]) -> Result<Self> {
        let shown = source.place.display();
        let bytes = bytes(source.place).with_context(|| format!("cannot read {shown}"))?;
        let text = as_text(&bytes).map_err(|text| anyhow::anyhow!("{shown}, {text}. Nothing was sent"))?;
        let (named, table) = separator_line(text);
        let head = table.lines().next().unwrap_or_default();
        let fields = columns_of(source.kind);
        let by_hand = |name: &str| source.by_hand.iter().any(|(_, header)| plain(header) == name);
        let guessed = || separator(head, |name| by_hand(&plain(name)) || field_of(&plain(name), &fields).is_some());
        let separator = named.unwrap_or_else(guessed);
        let mut reader = reader(table, separator);
        let head = reader.headers()?.clone();
        let (columns, ignored) = Columns::of(&head, source.kind, source.by_hand)
            .map_err(|text| anyhow::anyhow!("{shown}, line 1: {text}"))?;
        let (mut lines, mut keys, mut unguarded_keys) =
            (Vec::new(), Keys::new(source.kind, scope), Keys::new(source.kind, scope));
        let mut counter = LineCounter::new(table, 1 + u64::from(named.is_some()));
        let mut records = reader.records();
        while let Some(record) = records.next() {
            let record = record.with_context(|| format!("cannot read {shown}"))?;
            // An empty row of a spreadsheet.
            if record.iter().all(|field| field.trim().is_empty()) {
                continue;
            }
            let begin = record.position().map_or(0, csv::Position::byte);
            let quotes = quotes(table, begin, records.reader().position().byte());
            let number = counter.at(begin);
            let fault = columns.fault(&record, number, quotes);
            let key = keys.of(&columns.cells(&record));
            let unguarded = unguarded_keys.of(&columns.fields(&record));
            let sent = columns.status.and_then(|column| record.get(column));
            let sent = sent.is_some_and(|status| matches!(status, "accepted" | "replayed"));
            lines.push(Line { number, key, unguarded, fault, sent, record });
        }
        if lines.is_empty() {
            bail!("{shown} has no messages");
        }
        let mark = bytes.starts_with("\u{feff}".as_bytes());
        Ok(Self { kind: source.kind, separator, mark, lines, ignored, columns })
    }

    /// The fields of a line.
    pub fn fields<'a>(&self, line: &'a Line) -> Vec<Cell<'a>> {
        self.columns.fields(&line.record)
    }

    /// The fields that are columns of the file.
    pub fn columns(&self) -> impl Iterator<Item = &'static FieldSpec> + use<'_> {
        self.columns.fields.iter().map(|(field, _)| *field)
    }
}

/// A field, and its cell.
pub type Cell<'a> = (&'static FieldSpec, &'a str);

fn bytes(place: &Path) -> std::io::Result<Vec<u8>> {
    if place != Path::new(STANDARD_INPUT) {
        return std::fs::read(place);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The separator that Excel's first line `sep=;` names, and the table after that line.
fn separator_line(text: &str) -> (Option<u8>, &str) {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let first = first.strip_suffix('\r').unwrap_or(first).trim_matches('"');
    let named = first.split_at_checked(4).filter(|(name, _)| name.eq_ignore_ascii_case("sep="));
    let named = named.and_then(|(_, sign)| SEPARATORS.into_iter().find(|known| sign.as_bytes() == [*known]));
    (named, if named.is_some() { rest } else { text })
}

/// A reader of records of any length. A short one is an error of its line, and does not end the reading.
pub fn reader(text: &str, separator: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(text.as_bytes())
}

/// The separator with which most names of the head are known.
pub fn separator(head: &str, known: impl Fn(&str) -> bool) -> u8 {
    let names = |separator: &u8| head.split(char::from(*separator)).filter(|name| known(name)).count();
    // The first of equal counts, because `max_by_key` returns the last.
    SEPARATORS.into_iter().rev().max_by_key(names).unwrap_or(b',')
}

/// The file as text without its mark, or why it is not text, and where.
fn as_text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("line 1: this is UTF-16; save the file as \"CSV UTF-8\"".to_owned());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(without_mark(text)),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let line = good.split(|byte| *byte == b'\n').count();
            Err(format!("line {line}: this is not UTF-8 (Windows-1252, perhaps); save the file as \"CSV UTF-8\""))
        }
    }
}

fn plain(name: &str) -> String {
    name.trim().trim_matches('"').to_lowercase()
}

/// Headers of address books and Portuguese tables, by their field.
const OTHER_NAMES: [(&str, &[&str]); 8] = [
    ("to", &["para", "destinatario", "destinat\u{e1}rio"]),
    ("name", &["nome"]),
    ("phone", &["telefone", "phone 1 - value"]),
    ("email", &["e-mail", "e-mail 1 - value"]),
    (
        "organization",
        &["organizacao", "organiza\u{e7}\u{e3}o", "empresa", "organization name", "organization 1 - name"],
    ),
    ("firstName", &["first name", "given name", "primeiro nome"]),
    ("lastName", &["last name", "family name", "sobrenome"]),
    ("content", &["texto", "mensagem"]),
];
/// The kind that every version could send.
pub const CONTACT: &str = "contact";
/// The columns of this kind in every version.
const OLDEST: [&str; 5] = ["to", "name", "phone", "email", "organization"];
/// The columns that were added next.
const PARTS: [&str; 2] = ["firstName", "lastName"];
/// All of them.
pub const FIRST: [&str; 7] = ["to", "name", "phone", "email", "organization", "firstName", "lastName"];
/// Columns of a result file that are no fields of a message.
const OF_RESULTS: [&str; 7] = ["line", "status", "messageid", "code", "reason", "account", "idempotencykey"];
/// The column by which an export of Google's address book is recognised, which has many other columns.
const OF_GOOGLE: &str = "phone 1 - value";

/// The field of a column with this plain header.
fn field_of(name: &str, fields: &[&'static FieldSpec]) -> Option<&'static FieldSpec> {
    let named = |name: &str| fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).copied();
    let other = || OTHER_NAMES.iter().find(|(_, names)| names.contains(&name)).and_then(|(field, _)| named(field));
    named(name).or_else(other)
}

/// The positions of columns in a record.
struct Columns {
    /// The columns of fields, in the order of the fields.
    fields: Vec<(&'static FieldSpec, usize)>,
    /// The status, in a result file.
    status: Option<usize>,
    /// Whether the column has a name.
    named: Vec<bool>,
}

impl Columns {
    /// Reads the first line. Also returns the headers that are ignored.
    fn of(
        head: &StringRecord,
        kind: &'static Kind,
        by_hand: &[(&'static FieldSpec, String)],
    ) -> Result<(Self, Vec<String>), String> {
        let known = columns_of(kind);
        let expected = expected(&known);
        let names: Vec<_> = head.iter().map(plain).collect();
        let of_results = OF_RESULTS.iter().all(|column| names.iter().any(|name| name == column));
        let lenient = !by_hand.is_empty() || names.iter().any(|name| name == OF_GOOGLE);
        // If other columns are ignored, earlier versions ignored the columns of fields that were added later. Such a field
        // must be named by hand, so that a line keeps its key, and the birthday column of an address book is no error.
        let is_later = |field: &FieldSpec| lenient && kind.name == CONTACT && !FIRST.contains(&field.name);
        let by_header: Vec<_> = known.iter().copied().filter(|field| !is_later(field)).collect();
        let (mut found, mut ignored) = (HashMap::new(), Vec::new());
        for (field, header) in by_hand {
            let place = names.iter().position(|name| *name == plain(header));
            found.insert(field.name, place.ok_or_else(|| format!("no column {header:?}, which --column names"))?);
        }
        for (place, name) in names.iter().enumerate() {
            let shown = &head[place];
            let is_used = by_hand.iter().any(|(_, header)| plain(header) == *name);
            if name.is_empty() || is_used || (of_results && OF_RESULTS.contains(&name.as_str())) {
                continue;
            }
            match field_of(name, &by_header) {
                Some(field) if by_hand.iter().any(|(other, _)| other.name == field.name) => {
                    ignored.push(shown.to_owned());
                }
                Some(field) if found.insert(field.name, place).is_some() => {
                    return Err(format!("the column {shown:?} is there twice"));
                }
                Some(_) => {}
                None if lenient => ignored.push(shown.to_owned()),
                None => return Err(format!("unknown column {shown:?}; {expected}")),
            }
        }
        let missing = known.iter().filter(|field| field.required && !found.contains_key(field.name));
        let missing: Vec<_> = missing.map(|field| field.name).collect();
        if !missing.is_empty() {
            return Err(format!("no column {}; {expected}", missing.join(", ")));
        }
        let status = of_results.then(|| names.iter().position(|name| name == "status")).flatten();
        let has_name = names.iter().map(|name| !name.is_empty()).collect();
        let fields = known.iter().filter_map(|field| Some((*field, *found.get(field.name)?))).collect();
        Ok((Self { fields, status, named: has_name }, ignored))
    }

    fn fields<'a>(&self, record: &'a StringRecord) -> Vec<Cell<'a>> {
        self.cells(record).into_iter().map(|(field, cell)| (field, unguarded(cell))).collect()
    }

    /// The fields of a record. A short record lacks some.
    fn cells<'a>(&self, record: &'a StringRecord) -> Vec<Cell<'a>> {
        self.fields.iter().filter_map(|(field, column)| Some((*field, record.get(*column)?))).collect()
    }

    /// Spreadsheets omit empty cells at the end of a row, and write empty columns.
    fn fault(&self, record: &StringRecord, number: u64, quotes: usize) -> Option<String> {
        let breaks: usize = record.iter().map(|cell| cell.matches('\n').count()).sum();
        // An unclosed quote contains the following text, also in an ignored column.
        let open = breaks > 0 && quotes % 2 == 1;
        // Few fields may contain a line break. An ignored column may.
        let broken = |(field, cell): &Cell<'_>| field.form != Form::Lines && cell.contains('\n');
        if open || self.cells(record).iter().any(broken) {
            let last = number + breaks as u64;
            return Some(format!("a quoted value continues until line {last}: is a quote not closed?"));
        }
        let (count, width) = (record.len(), self.named.iter().filter(|named| **named).count());
        let needed = self.fields.iter().filter(|(field, _)| field.required).all(|(_, column)| *column < count);
        let mut cells = record.iter().enumerate();
        let beside =
            cells.any(|(place, cell)| !cell.trim().is_empty() && !self.named.get(place).is_some_and(|named| *named));
        (beside || !needed).then(|| {
            format!(
                "the line has {count} values, the first line names {width}: is a value with a separator not quoted?"
            )
        })
    }
}

/// The expected first line.
fn expected(known: &[&'static FieldSpec]) -> String {
    let names = |required: bool| {
        let of = known.iter().filter(|field| field.required == required);
        of.map(|field| field.name).collect::<Vec<_>>().join(", ")
    };
    format!("the first line names the columns: {}, and optionally {}", names(true), names(false))
}

/// The number of quotes in the file between these bytes.
fn quotes(text: &str, begin: u64, end: u64) -> usize {
    let [begin, end] = [begin, end].map(|byte| usize::try_from(byte).unwrap_or(usize::MAX));
    text.get(begin..end).unwrap_or_default().matches('"').count()
}

/// The cell without the quote that guards it against being a formula, as in result files.
fn unguarded(cell: &str) -> &str {
    let guarded = |rest: &&str| rest.starts_with(['=', '+', '-', '@', '\t', '\r']);
    cell.strip_prefix('\'').filter(guarded).unwrap_or(cell)
}

/// Counts lines, because the reader's own count is one too low in a file with CRLF.
struct LineCounter<'a> {
    text: &'a [u8],
    number: u64,
    byte: usize,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str, number: u64) -> Self {
        Self { text: text.as_bytes(), number, byte: 0 }
    }

    /// The line of a record that begins at this byte, or after the line end there. Bytes only increase.
    fn at(&mut self, byte: u64) -> u64 {
        let start = usize::try_from(byte).unwrap_or(usize::MAX).min(self.text.len());
        let ends = self.text[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let breaks = self.text[self.byte..start + ends].split(|byte| *byte == b'\n').count() - 1;
        self.byte = start + ends;
        self.number += breaks as u64;
        self.number
    }
}

/// Computes the keys of lines: a hash of the scope, the fields, and the occurrence number among identical lines. A line
/// keeps its key when other lines are corrected, moved or removed, and two equal lines are two messages.
struct Keys {
    scope: Sha256,
    is_contact: bool,
    seen: HashMap<[u8; 32], u64>,
}

impl Keys {
    fn new(kind: &Kind, scope: [&str; 3]) -> Self {
        let scope = scope.into_iter().fold(Sha256::new(), with_text);
        // Contacts existed before other kinds.
        let scope = if kind.name == CONTACT { scope } else { with_text(scope, kind.name) };
        Self { scope, is_contact: kind.name == CONTACT, seen: HashMap::new() }
    }

    fn of(&mut self, cells: &[Cell<'_>]) -> [u8; 32] {
        let cell = |name: &str| cells.iter().find(|(field, _)| field.name == name).map_or("", |(_, cell)| *cell);
        let mut content = self.scope.clone();
        let mut known: &[&str] = &[];
        // As in every version: an absent later column leaves the key as it was before the column existed.
        if self.is_contact {
            content = OLDEST.iter().map(|name| cell(name)).fold(content, with_text);
            if PARTS.iter().any(|name| !cell(name).trim().is_empty()) {
                content = PARTS.iter().map(|name| cell(name)).fold(content, with_text);
            }
            known = &FIRST;
        }
        for (field, cell) in
            cells.iter().filter(|(field, cell)| !known.contains(&field.name) && !cell.trim().is_empty())
        {
            content = [field.name, *cell].into_iter().fold(content, with_text);
        }
        let count = self.seen.entry(content.clone().finalize().into()).or_default();
        *count += 1;
        content.chain_update(count.to_be_bytes()).finalize().into()
    }
}

/// With its length before it, so that text cannot move from one field to the next.
fn with_text(hash: Sha256, text: &str) -> Sha256 {
    hash.chain_update((text.len() as u64).to_be_bytes()).chain_update(text)
}
