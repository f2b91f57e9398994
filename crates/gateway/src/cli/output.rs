//! What commands print: JSON for programs, lines and tables for people.

use serde_json::{Map, Value};

use super::Output;

/// Prints `value` as JSON where that was asked for, else whatever `text` prints.
pub fn print(output: &Output, value: &Value, text: impl FnOnce()) {
    if output.json { println!("{value}") } else { text() }
}

/// Prints a result.
pub fn show(output: &Output, value: &Value) {
    print(output, value, || match value {
        Value::Array(rows) => table(rows),
        Value::Object(fields) => lines(fields),
        other => println!("{}", cell(other)),
    });
}

fn lines(fields: &Map<String, Value>) {
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in fields {
        println!("{name:width$}  {}", cell(value));
    }
}

/// Columns from the rows' fields, in the order of the first row.
fn table(rows: &[Value]) {
    let Some(Value::Object(first)) = rows.first() else {
        println!("(none)");
        return;
    };
    let names: Vec<&String> = first.keys().collect();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| names.iter().map(|name| cell(&row[*name])).collect()).collect();
    let widths: Vec<usize> = (0..names.len())
        .map(|column| {
            cells.iter().map(|row| row[column].chars().count()).chain([names[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |row: Vec<&str>| {
        let padded = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}", width = *width));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(names.iter().map(|name| name.as_str()).collect());
    cells.iter().for_each(|row| line(row.iter().map(String::as_str).collect()));
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
