//! The output of commands: JSON for programs, lines and tables for people.

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::Output;

/// Prints `value` as JSON if that was requested, else `text`.
pub fn print(output: &Output, value: &Value, text: impl FnOnce() -> String) -> Result<()> {
    line(&if output.json { value.to_string() } else { tame(&text()) })
}

/// Prints a result.
pub fn show(output: &Output, value: &Value) -> Result<()> {
    print(output, value, || match value {
        Value::Array(rows) => table(rows),
        Value::Object(fields) => lines(fields),
        other => cell(other),
    })
}

/// Prints a text and its line end at once. Unlike `println!` it does not panic if the reader has gone (`| head`): the error
/// ends the command, see [`crate::exit::Exit::of`].
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush());
    written.context(NOT_PRINTED)
}

/// The context of an error that prevented printing a result, such as a full disk.
pub const NOT_PRINTED: &str = "cannot write to standard output";

/// A note for the person on standard error. It may have no reader.
pub fn note(text: &str) {
    let _ = std::io::stderr().lock().write_all(format!("{}\n", tame(text)).as_bytes());
}

/// Replaces characters by which untrusted text could control the terminal, or reverse the text beside it.
pub fn tame(text: &str) -> String {
    let reverses =
        |sign| matches!(sign, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(|sign: char| (sign.is_control() && sign != '\n') || reverses(sign), "\u{fffd}")
}

fn lines(fields: &Map<String, Value>) -> String {
    let mut all = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Object(parts) => all.extend(parts.iter().map(|(part, value)| (format!("{name}.{part}"), value))),
            value => all.push((name.clone(), value)),
        }
    }
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(String, &Value)| format!("{name:width$}  {}", cell(value));
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A table with the fields of the first row as columns. Values with parts are left to `--json` and to the commands that show
/// one item.
fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else { return "(none)".to_owned() };
    let names: Vec<&String> = first.keys().filter(|name| !rows.iter().any(|row| row[*name].is_object())).collect();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| names.iter().map(|name| cell(&row[*name])).collect()).collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            cells.iter().map(|row| row[column].chars().count()).chain([names[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |row: Vec<&str>| {
        let padded = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}", width = *width));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(names.iter().map(|name| name.as_str()).collect());
    let rows = cells.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    [head].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
}

pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // The text must not begin its own row either.
        Value::String(text) => tame(text).replace('\n', "\u{fffd}"),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
