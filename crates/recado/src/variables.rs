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
const OF_TOOLS: [&str; 3] = ["RECADO_TEST_", "RECADO_BENCH", "RECADO_UPDATE_DOCS"];
/// The port of `./dev run`.
const OF_DEV: &str = "RECADO_PORT";

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
    let is_of_tools = name == OF_DEV || OF_TOOLS.iter().any(|prefix| name.starts_with(prefix));
    name.starts_with("RECADO_") && !known.contains(name) && !is_of_tools && !is_of_a_service(name)
}

/// Whether Kubernetes or Docker made the variable for a service or a link whose name begins with `recado`:
/// `RECADO_SERVICE_HOST`, `RECADO_DB_SERVICE_PORT_HTTP`, `RECADO_PORT_8080_TCP_ADDR`, `RECADO_1_NAME`.
fn is_of_a_service(name: &str) -> bool {
    let is_port_of_a_protocol = |rest: &str| {
        let mut parts = rest.split('_');
        let (port, protocol, detail, end) = (parts.next(), parts.next(), parts.next(), parts.next());
        port.is_some_and(|port| !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()))
            && protocol.is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
            && detail.is_none_or(|detail| ["ADDR", "PORT", "PROTO"].contains(&detail))
            && end.is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_port_of_a_protocol(rest))
        || name.ends_with("_NAME")
        || name.contains("_ENV_")
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
        for name in [
            "RECADO_LISTEN",
            "RECADO_DATABASE_URL",
            "RECADO_SECRET_KEY",
            "RECADO_TEST_SEED",
            "RECADO_PORT",
            "PATH",
            "XRECADO_A",
        ] {
            assert!(!is_unknown(name, &known), "{name}");
        }
        for name in ["RECADO_LSTEN", "RECADO_", "RECADO_listen"] {
            assert!(is_unknown(name, &known), "{name}");
        }
    }

    #[test]
    fn variables_of_services_and_links_are_ignored() {
        for name in [
            "RECADO_SERVICE_HOST",
            "RECADO_SERVICE_PORT",
            "RECADO_SERVICE_PORT_HTTP",
            "RECADO_DB_SERVICE_HOST",
            "RECADO_PORT",
            "RECADO_DB_PORT",
            "RECADO_PORT_8080_TCP",
            "RECADO_PORT_8080_TCP_ADDR",
            "RECADO_PORT_8080_TCP_PORT",
            "RECADO_DB_PORT_5432_TCP_PROTO",
            "RECADO_DB_NAME",
            "RECADO_DB_ENV_POSTGRES_USER",
        ] {
            assert!(is_of_a_service(name) && !is_unknown(name, &known()), "{name}");
        }
        for name in ["RECADO_LISTENPORT", "RECADO_PORT_HTTP", "RECADO_PORT_8080_XTP", "RECADO_SERVICE", "RECADO_HOST"] {
            assert!(is_unknown(name, &known()), "{name}");
        }
    }
}
