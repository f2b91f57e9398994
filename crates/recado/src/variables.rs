//! Environment variables: a misspelled one is an error, as an unknown flag is.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::{Arg, Command, CommandFactory};

use crate::Cli;
use crate::exit::{Exit, Failure};

/// Variables that no flag names.
const WITHOUT_FLAGS: [&str; 8] = [
    "RECADO_SECRET_KEY",
    "RECADO_URL",
    "RECADO_API_KEY",
    "RECADO_ACCESS_TOKEN",
    "RECADO_VERIFY_TOKEN",
    "RECADO_APP_SECRET",
    "RECADO_WEBHOOK_SECRET",
    "RECADO_LISTEN_SECRET",
];
/// Variables of the test suite, of the benchmarks and of `./dev`, which the command does not read.
const OF_TOOLS: [&str; 4] = ["RECADO_TEST_", "RECADO_BENCH", "RECADO_UPDATE_DOCS", "RECADO_PORT"];

/// Fails if a variable begins like those of Recado, and is none.
pub fn check() -> Result<()> {
    let known = known();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<_> = names.filter(|name| is_unknown(name, &known)).collect();
    unknown.sort();
    if unknown.is_empty() {
        return Ok(());
    }
    let text = format!("unknown variable {}: `recado config` lists those of the server", unknown.join(", "));
    Err(Failure { exit: Exit::Usage, text }.into())
}

fn is_unknown(name: &str, known: &BTreeSet<String>) -> bool {
    name.starts_with("RECADO_") && !known.contains(name) && !OF_TOOLS.iter().any(|prefix| name.starts_with(prefix))
}

fn known() -> BTreeSet<String> {
    fn add(command: &Command, all: &mut BTreeSet<String>) {
        let of_flags = command.get_arguments().filter_map(Arg::get_env);
        all.extend(of_flags.map(|variable| variable.to_string_lossy().into_owned()));
        command.get_subcommands().for_each(|command| add(command, all));
    }
    let mut all: BTreeSet<String> = WITHOUT_FLAGS.map(str::to_owned).into();
    add(&Cli::command(), &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_misspelled_variables_are_unknown() {
        let known = known();
        for name in
            ["RECADO_LISTEN", "RECADO_DATABASE_URL", "RECADO_SECRET_KEY", "RECADO_TEST_SEED", "PATH", "XRECADO_A"]
        {
            assert!(!is_unknown(name, &known), "{name}");
        }
        for name in ["RECADO_LSTEN", "RECADO_", "RECADO_listen"] {
            assert!(is_unknown(name, &known), "{name}");
        }
    }
}
