//! A CSV file of cards, read and judged as a whole before anything is sent.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use csv::StringRecord;
use recado_domain::contact::FIELDS;
use sha2::{Digest, Sha256};

/// Separators that spreadsheets write. Where a comma is the decimal sign, as in Brazil, it is `;`.
const SEPARATORS: [u8; 3] = *b",;\t";

/// The file's cards in its order.
pub struct Input {
    pub separator: u8,
    pub lines: Vec<Line>,
    /// Where each of [`FIELDS`] stands in a record.
    columns: [Option<usize>; 5],
}

/// One card.
pub struct Line {
    /// Where it begins in the file, from 1.
    pub number: u64,
    /// What makes it the same line in every run, wherever it stands.
    pub key: [u8; 32],
    /// Why it cannot be a card, where the file itself tells.
    pub fault: Option<String>,
    record: StringRecord,
}

impl Input {
    /// Reads the file. `scope` is what the lines' keys are to be told apart by besides their content.
    pub fn read(path: &Path, scope: [&str; 3]) -> Result<Self> {
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let text = as_text(&bytes).map_err(|text| anyhow::anyhow!("{shown}, {text}. Nothing was sent"))?;
        let head = text.lines().next().unwrap_or_default();
        let separator = separator(head, |name| FIELDS.contains(&&*plain(name)));
        let mut reader = reader(text, separator);
        let columns = columns(reader.headers()?).map_err(|text| anyhow::anyhow!("{shown}, line 1: {text}"))?;
        let width = reader.headers()?.len();
        let (mut lines, mut keys, mut counter) = (Vec::new(), Keys::new(scope), LineCounter::new(text));
        for record in reader.records() {
            let record = record.with_context(|| format!("cannot read {shown}"))?;
            // What a spreadsheet leaves of an empty row.
            if record.iter().all(|field| field.trim().is_empty()) {
                continue;
            }
            let number = counter.at(record.position().map_or(0, csv::Position::byte));
            let fault = fault(&record, width, number);
            let key = keys.of(columns.map(|column| record.get(column?)));
            lines.push(Line { number, key, fault, record });
        }
        if lines.is_empty() {
            bail!("{shown} has no cards");
        }
        Ok(Self { separator, lines, columns })
    }

    /// A line's fields, in the order of [`FIELDS`].
    pub fn fields<'a>(&self, line: &'a Line) -> [Option<&'a str>; 5] {
        self.columns.map(|column| line.record.get(column?))
    }
}

/// A reader of records that may be of any length: a short one is one bad line, and not the end of the file.
pub fn reader(text: &str, separator: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(text.as_bytes())
}

/// The separator by which most names of the head are known.
pub fn separator(head: &str, known: impl Fn(&str) -> bool) -> u8 {
    let names = |separator: &u8| head.split(char::from(*separator)).filter(|name| known(name)).count();
    // The first of equals: `max_by_key` would give the last.
    SEPARATORS.into_iter().rev().max_by_key(names).unwrap_or(b',')
}

/// The file as text without its mark, or where and why it is none.
fn as_text(bytes: &[u8]) -> Result<&str, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("line 1: this is UTF-16; save the file as \"CSV UTF-8\"".to_owned());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
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

fn columns(head: &StringRecord) -> Result<[Option<usize>; 5], String> {
    let expected = "the first line names the columns: to, name, phone, and perhaps email and organization";
    let mut columns = [None; 5];
    for (place, name) in head.iter().enumerate() {
        let Some(field) = FIELDS.iter().position(|field| *field == plain(name)) else {
            return Err(format!("unknown column {name:?}; {expected}"));
        };
        if columns[field].replace(place).is_some() {
            return Err(format!("the column {name:?} is there twice"));
        }
    }
    let missing: Vec<_> = (0..3).filter(|field| columns[*field].is_none()).map(|field| FIELDS[field]).collect();
    if missing.is_empty() { Ok(columns) } else { Err(format!("no column {}; {expected}", missing.join(", "))) }
}

/// Counts lines, because the reader's own count is one behind in a file with CRLF.
struct LineCounter<'a> {
    text: &'a [u8],
    number: u64,
    byte: usize,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), number: 1, byte: 0 }
    }

    /// The line of a record that begins at this byte, or behind the line's end that stands there. Bytes only grow.
    fn at(&mut self, byte: u64) -> u64 {
        let start = usize::try_from(byte).unwrap_or(usize::MAX).min(self.text.len());
        let ends = self.text[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let breaks = self.text[self.byte..start + ends].split(|byte| *byte == b'\n').count() - 1;
        self.byte = start + ends;
        self.number += breaks as u64;
        self.number
    }
}

fn fault(record: &StringRecord, width: usize, number: u64) -> Option<String> {
    let breaks: usize = record.iter().map(|field| field.matches('\n').count()).sum();
    if breaks > 0 {
        // No field of a card may have a line break; a quote that is not closed swallows what follows.
        let last = number + breaks as u64;
        return Some(format!("a quoted value goes on until line {last}: is a quote not closed?"));
    }
    (record.len() != width).then(|| {
        let count = record.len();
        format!("the line has {count} values, the first line names {width}: is a value with a separator not quoted?")
    })
}

/// Makes the lines' keys: a hash of the scope, the fields, and the how-manieth of identical lines it is. So a line keeps
/// its key when others are mended, moved or taken out, and two equal lines are two messages.
struct Keys {
    scope: Sha256,
    seen: HashMap<[u8; 32], u64>,
}

impl Keys {
    fn new(scope: [&str; 3]) -> Self {
        Self { scope: scope.into_iter().fold(Sha256::new(), with_text), seen: HashMap::new() }
    }

    fn of(&mut self, fields: [Option<&str>; 5]) -> [u8; 32] {
        let content = fields.into_iter().map(Option::unwrap_or_default).fold(self.scope.clone(), with_text);
        let count = self.seen.entry(content.clone().finalize().into()).or_default();
        *count += 1;
        content.chain_update(count.to_be_bytes()).finalize().into()
    }
}

/// With its length in front, so that text cannot wander from one field into the next.
fn with_text(hash: Sha256, text: &str) -> Sha256 {
    hash.chain_update((text.len() as u64).to_be_bytes()).chain_update(text)
}

/// A key as the contract takes one.
pub fn hex(key: &[u8; 32]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|half| char::from(b"0123456789abcdef"[usize::from(half)]));
    key.iter().flat_map(digits).collect()
}
