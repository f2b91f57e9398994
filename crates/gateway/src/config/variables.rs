//! Errors of variables.

use std::io::Write;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Command, Error};
use serde_json::json;

/// Changes an error of clap: clap names a flag also where its value came from a variable, and then the error names the variable.
pub fn name_variable(mut error: Error, command: &Command, mut arguments: impl Iterator<Item = String>) -> Error {
    let Some(flag) = flag_of(&error) else { return error };
    let is_it =
        |argument: String| argument.strip_prefix("--").is_some_and(|rest| rest.split('=').next() == Some(&flag));
    if !arguments.any(is_it)
        && let Some(variable) = variable_of(command, &flag)
    {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// The name of the flag in an error: `listen` of `--listen <ADDR>`.
fn flag_of(error: &Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    argument.strip_prefix("--")?.split([' ', '=']).next().map(str::to_owned)
}

/// The variable that sets the same as a flag. The flag may belong to the command, or to one of its subcommands.
fn variable_of(command: &Command, flag: &str) -> Option<String> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(flag)).and_then(Arg::get_env);
    let own = own.map(|variable| variable.to_string_lossy().into_owned());
    own.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, flag)))
}

/// Prints the error, and ends the process: as an object for programs if `--json` was given.
pub fn exit(error: &Error) -> ! {
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let told = json!({ "code": "USAGE", "message": error.to_string().trim_end() });
        // Nothing can be done if it has no reader.
        let _ = writeln!(std::io::stderr(), "{told}");
        std::process::exit(error.exit_code());
    }
    error.exit()
}
