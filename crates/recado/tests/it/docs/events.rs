//! `docs/logging.md` names every event that the code logs, with its level and its fields.

use std::collections::BTreeSet;
use std::path::Path;

use super::markdown::{Page, collect, root};

/// Level, message, fields.
type Event = (String, String, Vec<String>);

#[test]
fn the_page_names_every_event_and_no_other() {
    let mut sources = Vec::new();
    // What the server logs: the gateway, and the driver in it.
    collect(&root().join("crates/gateway/src"), "rs", &mut sources);
    collect(&root().join("crates/store/src"), "rs", &mut sources);
    collect(&root().join("crates/providers/src"), "rs", &mut sources);
    collect(&root().join("crates/recado/src"), "rs", &mut sources);
    collect(&root().join("crates/whatsapp-web/src"), "rs", &mut sources);
    let mut logged = BTreeSet::new();
    for path in sources {
        let source = std::fs::read_to_string(&path).expect("a source file");
        // A macro under another name would not be found below.
        assert!(!source.contains("use tracing::"), "{}: write tracing::info!(…) in full", path.display());
        logged.extend(events(&source));
    }
    assert!(logged.len() > 10, "{logged:?}");
    let told = told();
    let untold: Vec<_> = logged.difference(&told).collect();
    let unlogged: Vec<_> = told.difference(&logged).collect();
    assert!(untold.is_empty() && unlogged.is_empty(), "logged, not told: {untold:#?}\ntold, not logged: {unlogged:#?}");
}

/// The rows of the page's table of events.
fn told() -> BTreeSet<Event> {
    let page = Page::read(Path::new("docs/logging.md"));
    let rows = page.prose.iter().filter_map(|(_, line)| {
        let cells: Vec<Vec<&str>> = line.split('|').map(|cell| cell.split('`').skip(1).step_by(2).collect()).collect();
        let [before, level, message, fields, ..] = &cells[..] else { return None };
        let ([], [level], [message]) = (&before[..], &level[..], &message[..]) else { return None };
        let is_level = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(level);
        is_level.then(|| ((*level).to_owned(), (*message).to_owned(), fields.iter().map(|&f| f.to_owned()).collect()))
    });
    rows.collect()
}

/// The events that a source file logs.
fn events(source: &str) -> Vec<Event> {
    let of = |call: &str| {
        let (level, arguments) = call.split_once("!(")?;
        let level = ["error", "warn", "info", "debug", "trace"].contains(&level).then(|| level.to_uppercase())?;
        let mut arguments = arguments_of(arguments);
        let message = arguments.pop()?;
        let fields = arguments.iter().map(|field| field.split('=').next().unwrap_or_default());
        let fields = fields.map(|name| name.trim().trim_start_matches(['%', '?']).to_owned());
        Some((level, message.trim_matches('"').to_owned(), fields.collect()))
    };
    source.split("tracing::").skip(1).filter_map(of).collect()
}

/// What stands between a macro's parentheses, split at its commas; comments left out.
fn arguments_of(text: &str) -> Vec<String> {
    let without_comments: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let (mut arguments, mut depth, mut quoted) = (vec![String::new()], 1, false);
    for c in without_comments.join("\n").chars() {
        match c {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 1 => {
                arguments.push(String::new());
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
        arguments.last_mut().expect("there is always one").push(c);
    }
    arguments.iter().map(|argument| argument.trim().to_owned()).filter(|argument| !argument.is_empty()).collect()
}

#[test]
fn events_are_read_from_the_code() {
    let source = "tracing::warn!(%error, a.b = f(x, \")\"), \"it (broke), off\");\ntracing::debug!(\n  // why\n  n,\n  \"m\"\n);";
    let expected = [("WARN", "it (broke), off", vec!["error", "a.b"]), ("DEBUG", "m", vec!["n"])];
    let expected = expected.map(|(level, message, fields)| {
        (level.to_owned(), message.to_owned(), fields.into_iter().map(str::to_owned).collect())
    });
    assert_eq!(events(source), expected);
}
