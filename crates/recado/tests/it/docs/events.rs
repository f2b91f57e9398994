//! `docs/logging.md` has every event that the code logs, with its level and its fields.

use std::collections::BTreeSet;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

use super::markdown::{Page, collect, root};

const LEVELS: [&str; 5] = ["ERROR", "WARN", "INFO", "DEBUG", "TRACE"];

/// Level, message, fields.
type Event = (String, String, Vec<String>);

#[test]
fn the_page_names_every_event_and_no_other() {
    let mut sources = Vec::new();
    // The server's logs come from the gateway and the driver.
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
    let documented = documented();
    let undocumented: Vec<_> = logged.difference(&documented).collect();
    let unlogged: Vec<_> = documented.difference(&logged).collect();
    assert!(
        undocumented.is_empty() && unlogged.is_empty(),
        "logged, not documented: {undocumented:#?}\ndocumented, not logged: {unlogged:#?}"
    );
}

/// The rows of the page's tables of events, each of which is under a heading with its level.
fn documented() -> BTreeSet<Event> {
    let page = Page::read(Path::new("docs/logging.md"));
    let (mut level, mut found) = (None, BTreeSet::new());
    for (_, line) in &page.prose {
        if let Some(heading) = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')) {
            level = LEVELS.into_iter().find(|level| *level == heading);
        }
        let cells: Vec<Vec<&str>> = line.split('|').map(|cell| cell.split('`').skip(1).step_by(2).collect()).collect();
        let (Some(level), [before, message, fields, ..]) = (level, &cells[..]) else { continue };
        if let ([], [message]) = (&before[..], &message[..]) {
            found.insert((level.to_owned(), (*message).to_owned(), fields.iter().map(|&f| f.to_owned()).collect()));
        }
    }
    found
}

/// The events that a source file logs.
fn events(source: &str) -> Vec<Event> {
    let (mut found, mut streams) = (Vec::new(), vec![source.parse::<TokenStream>().expect("a Rust file")]);
    while let Some(stream) = streams.pop() {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        found.extend(tokens.windows(6).filter_map(event));
        let group = |token| if let TokenTree::Group(group) = token { Some(group.stream()) } else { None };
        streams.extend(tokens.into_iter().filter_map(group));
    }
    found
}

/// The event of the six tokens `tracing`, `:`, `:`, level, `!` and arguments.
fn event(tokens: &[TokenTree]) -> Option<Event> {
    let [library, .., level, _, TokenTree::Group(arguments)] = tokens else { return None };
    let level = level.to_string().to_uppercase();
    if library.to_string() != "tracing" || !LEVELS.contains(&&*level) {
        return None;
    }
    let arguments: Vec<TokenTree> = arguments.stream().into_iter().collect();
    let name =
        |argument: &[TokenTree]| argument.iter().map(ToString::to_string).take_while(|token| token != "=").collect();
    let arguments = arguments.split(|token| token.to_string() == ",").filter(|argument| !argument.is_empty());
    let mut names: Vec<String> = arguments.map(name).collect();
    let message = names.pop()?.trim_matches('"').to_owned();
    Some((level, message, names.iter().map(|name| name.trim_start_matches(['%', '?']).to_owned()).collect()))
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
