//! Writes the document: what fits into a line is in one line, which keeps the file small and changes of it readable.

use serde_json::Value;

/// The most characters of a line with several values.
const WIDTH: usize = 120;

/// The document as a text.
pub fn written(document: &Value) -> String {
    let mut text = String::new();
    write(document, 0, 0, &mut text);
    text.push('\n');
    text
}

/// Writes a value. The line has so many characters before it.
fn write(value: &Value, depth: usize, before: usize, text: &mut String) {
    let line = value.to_string();
    if before + line.chars().count() <= WIDTH {
        text.push_str(&line);
        return;
    }
    match value {
        Value::Object(fields) => {
            text.push('{');
            for (place, (name, value)) in fields.iter().enumerate() {
                begin_line(place > 0, depth + 1, text);
                let name = format!("{}: ", Value::from(name.as_str()));
                text.push_str(&name);
                write(value, depth + 1, depth + 1 + name.chars().count(), text);
            }
            begin_line(false, depth, text);
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (place, value) in items.iter().enumerate() {
                begin_line(place > 0, depth + 1, text);
                write(value, depth + 1, depth + 1, text);
            }
            begin_line(false, depth, text);
            text.push(']');
        }
        _ => text.push_str(&line),
    }
}

fn begin_line(follows: bool, depth: usize, text: &mut String) {
    text.push_str(if follows { ",\n" } else { "\n" });
    text.extend(std::iter::repeat_n(' ', depth));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_fits_is_in_one_line() {
        let long = "x".repeat(110);
        let value = json!({"a": {"b": [1, {}]}, "c": [long, long], "d": [], "e": long});
        let expected = format!(
            "{{\n \"a\": {{\"b\":[1,{{}}]}},\n \"c\": [\n  \"{long}\",\n  \"{long}\"\n ],\n \"d\": [],\n \"e\": \"{long}\"\n}}\n"
        );
        assert_eq!(written(&value), expected);
        assert_eq!(serde_json::from_str::<Value>(&written(&value)).expect("JSON"), value);
    }
}
