//! Errors of variables.

use clap::Command;
use clap::error::{ContextKind, ContextValue};

/// An error about the value of a variable names the variable, and not the flag that was not given.
pub fn name_variable(
    mut error: clap::Error,
    command: &Command,
    arguments: impl Iterator<Item = String>,
) -> clap::Error {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return error };
    let Some(flag) = argument.strip_prefix("--").and_then(|rest| rest.split([' ', '=']).next()) else { return error };
    let given = |argument: String| argument.strip_prefix("--").is_some_and(|rest| rest.split('=').next() == Some(flag));
    if let Some(variable) = variable_of(command, flag).filter(|_| !arguments.into_iter().any(given)) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// The variable that stands for a flag, of a command or one of its subcommands.
fn variable_of(command: &Command, flag: &str) -> Option<String> {
    let own = command.get_arguments().find(|argument| argument.get_long() == Some(flag));
    let own = own.and_then(|argument| argument.get_env()).map(|variable| variable.to_string_lossy().into_owned());
    own.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, flag)))
}
