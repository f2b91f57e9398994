//! SQL that both engines share. The numbers of states come from [`MessageStatus`]. Literals occur only in the
//! predicates of the partial indexes, which a planner compares as they are written.

use recado_domain::status::MessageStatus;

/// The message is in its channel's queue.
pub(super) const OPEN: &str = "status <= 1";
/// The message has left its channel's queue.
pub(super) const PAST: &str = "status > 1";
/// A receipt may move the message.
pub(super) const IN_NETWORK: &str = "status BETWEEN 1 AND 4";
/// The message is queued.
pub(super) const QUEUED: &str = "status = 0";
/// The message is in flight, or its owner crashed.
pub(super) const SENDING: &str = "status = 1";

/// The column with the time of a state.
pub(super) fn reached_column(status: MessageStatus) -> &'static str {
    match status {
        MessageStatus::Queued => "queued_at",
        MessageStatus::Sending => "sending_at",
        MessageStatus::Sent => "sent_at",
        MessageStatus::Delivered => "delivered_at",
        MessageStatus::Unknown => "unknown_at",
        MessageStatus::Read => "read_at",
        MessageStatus::Failed => "failed_at",
        MessageStatus::Expired => "expired_at",
        MessageStatus::Cancelled => "cancelled_at",
    }
}

/// The conditions of a page beside the recipient: see `PageScan::page_sql`.
pub(crate) const FILTERS: &str = "(?5 IS NULL OR status = ?5) AND (?7 IS NULL OR coalesce(kind, 'contact') = ?7)
     AND (?8 IS NULL OR reference = ?8)";

/// Lower than all numbers of messages, including the negative numbers of scheduled messages.
pub(crate) const LOWEST: &str = "-9223372036854775807";

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use MessageStatus::{Queued, Sending, Unknown};

    #[test]
    fn predicates_of_indexes_name_the_states_that_they_mean() {
        let [queued, sending, unknown] = [Queued, Sending, Unknown].map(MessageStatus::number);
        assert_eq!(OPEN, format!("status <= {sending}"));
        assert_eq!(PAST, format!("status > {sending}"));
        assert_eq!(IN_NETWORK, format!("status BETWEEN {sending} AND {unknown}"));
        assert_eq!(QUEUED, format!("status = {queued}"));
        assert_eq!(SENDING, format!("status = {sending}"));
    }

    /// The files below a folder of the sources, with their texts.
    fn sources(folder: &str) -> Vec<(PathBuf, String)> {
        let mut folders = vec![Path::new("src").join(folder)];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = std::fs::read_to_string(&path).expect("a text");
                    files.push((path, text));
                }
            }
        }
        files
    }

    /// If a statement contained the number of a state, a change of the states would miss it.
    #[test]
    fn no_other_statement_names_a_state_by_a_number() {
        let files = sources("");
        assert!(files.len() > 50, "the sources are not where they were");
        for (path, text) in files.iter().filter(|(path, _)| !path.ends_with("src/sql.rs")) {
            let found: Vec<_> = text.lines().filter(|line| compares_a_status(line)).collect();
            assert_eq!(found, Vec::<&str>::new(), "{}", path.display());
        }
    }

    #[test]
    fn one_statement_of_each_engine_changes_states_of_messages_and_one_those_of_channels() {
        for (engine, of_messages) in [("sqlite", "SET status = "), ("postgres", "changes.set(\"status\"")] {
            let files = sources(engine);
            for (statement, only) in [(of_messages, "apply"), ("SET state = ", "channels")] {
                let found = files.iter().flat_map(|(path, text)| text.matches(statement).map(move |_| path));
                let found: Vec<_> = found.filter(|path| !path.ends_with("tests.rs")).collect();
                let module = format!("{engine}/{only}");
                let is_its_own = |path: &Path| path.to_string_lossy().contains(&module);
                assert!(found.len() == 1 && is_its_own(found[0]), "{engine}, {statement}: {found:?}");
            }
        }
    }

    /// Whether a line of SQL compares `status`, perhaps with `+ 0`, to a digit.
    fn compares_a_status(line: &str) -> bool {
        let line = line.to_ascii_lowercase();
        line.match_indices("status").any(|(at, name)| {
            let rest = line[at + name.len()..].trim_start();
            let rest = rest.strip_prefix("+ 0").unwrap_or(rest).trim_start();
            let operators = ["=", "<>", "<=", ">=", "<", ">", "in (", "between"];
            let operand = operators.iter().find_map(|operator| rest.strip_prefix(operator)).map(str::trim_start);
            operand.is_some_and(|operand| operand.starts_with(|c: char| c.is_ascii_digit()))
        })
    }

    #[test]
    fn what_compares_a_status() {
        for line in ["status = 0", "m.status + 0 = 1", "status BETWEEN 1 AND 4", "SET status = 8,", "status <> 3"] {
            assert!(compares_a_status(line), "{line}");
        }
        for line in ["status = $3", "status = ?2", "m.status = s.status", "let status = row.get(3)"] {
            assert!(!compares_a_status(line), "{line}");
        }
    }
}
