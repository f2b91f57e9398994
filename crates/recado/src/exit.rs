//! The exit codes of all commands.

use std::io;
use std::process::ExitCode;

use recado_gateway::control::AskError;
use serde_json::{Value, json};

use crate::output::{note, tame};

/// An exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done = 0,
    /// The command was refused, or failed.
    Failed = 1,
    /// The command line is invalid. (clap exits with this code by itself.)
    Usage = 2,
    /// Some lines of a CSV file were refused; the others were sent.
    SomeRefused = 3,
    /// No answer, or a store that accepts no writes: the same command may succeed later.
    Unavailable = 4,
    /// Ctrl-C, or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    /// The exit code of a command without its own result.
    pub(super) fn done((): ()) -> Self {
        Self::Done
    }

    /// This code, after the result was printed. A reader that has gone does not change the result of the work.
    pub fn after(self, printed: anyhow::Result<()>) -> anyhow::Result<Self> {
        printed.map_or_else(|error| if is_gone(&error) { Ok(self) } else { Err(error) }, |()| Ok(self))
    }

    /// The code of a failure. `None` if the reader of the output has gone, which is no failure.
    fn of(error: &anyhow::Error) -> Option<Self> {
        // `downcast_ref` also finds an error behind a context.
        if let Some(Failure { exit, .. }) = error.downcast_ref() {
            return Some(*exit);
        }
        match error.downcast_ref() {
            Some(AskError::NobodyThere(_) | AskError::Unavailable(_) | AskError::NoAnswer(_)) => {
                Some(Self::Unavailable)
            }
            _ if is_gone(error) => None,
            _ => Some(Self::Failed),
        }
    }
}

/// Whether it failed because the reader of the output has gone.
pub fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with its own exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub exit: Exit,
    pub text: String,
}

/// A failure that may not occur later: there was no answer.
pub fn unavailable(text: impl Into<String>) -> anyhow::Error {
    Failure { exit: Exit::Unavailable, text: text.into() }.into()
}

/// Prints the reason of a failure, and returns the exit code.
pub fn end(result: anyhow::Result<Exit>) -> Exit {
    end_with(result, note)
}

/// The same as one JSON object, for programs.
pub fn end_for_programs(result: anyhow::Result<Exit>) -> Exit {
    let Err(error) = &result else { return end(result) };
    let told = for_programs(error).to_string();
    end_with(result, |_| note(&told))
}

/// A failure with its code, and the invalid fields if there are some.
fn for_programs(error: &anyhow::Error) -> Value {
    let (code, fields) = match (error.downcast_ref::<AskError>(), error.downcast_ref::<Failure>()) {
        (Some(error), _) => error.for_programs(),
        (None, Some(Failure { exit: Exit::Usage, .. })) => ("USAGE", None),
        (None, Some(Failure { exit: Exit::Unavailable, .. })) => ("NO_ANSWER", None),
        (None, _) => ("FAILED", None),
    };
    let mut told = json!({ "code": code, "message": format!("{error:#}") });
    if let Some(fields) = fields {
        told["errors"] = fields;
    }
    told
}

/// The same, printed by `print`.
pub(super) fn end_with(result: anyhow::Result<Exit>, print: impl FnOnce(&str)) -> Exit {
    result.unwrap_or_else(|error| match Exit::of(&error) {
        Some(exit) => {
            print(&tame(&format!("recado: {error:#}")));
            exit
        }
        None => Exit::Done,
    })
}
