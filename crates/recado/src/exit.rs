//! How a command ends: the one list of exit codes.

use std::io;
use std::process::ExitCode;

use recado_gateway::control::AskError;

use crate::output::{note, tame};

/// An exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It was refused, or failed.
    Failed = 1,
    /// The command line makes no sense. (clap ends with this code by itself.)
    Usage = 2,
    /// Some lines of a CSV file were refused; the others were sent.
    SomeRefused = 3,
    /// Nobody answers, or the store takes no writes: the same command may succeed later.
    Unavailable = 4,
    /// Ctrl-C, or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    /// What a command without a result of its own ends with.
    pub(super) fn done((): ()) -> Self {
        Self::Done
    }

    /// This code, after the result was printed: a reader who has gone changes nothing in how the work ended.
    pub fn after(self, printed: anyhow::Result<()>) -> anyhow::Result<Self> {
        printed.map_or_else(|error| if is_gone(&error) { Ok(self) } else { Err(error) }, |()| Ok(self))
    }

    /// The code of a failure. `None` where it is none: who reads what we print has seen enough and gone.
    fn of(error: &anyhow::Error) -> Option<Self> {
        // `downcast_ref` finds what stands behind a context, too.
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

/// Whether it failed because nobody reads what we print.
fn is_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub exit: Exit,
    pub text: String,
}

/// A failure that may be none later: nobody answers.
pub fn unavailable(text: impl Into<String>) -> anyhow::Error {
    Failure { exit: Exit::Unavailable, text: text.into() }.into()
}

/// Says why a command failed, and gives its exit code.
pub fn end(result: anyhow::Result<Exit>) -> Exit {
    end_with(result, note)
}

/// The same, said by `say`.
pub(super) fn end_with(result: anyhow::Result<Exit>, say: impl FnOnce(&str)) -> Exit {
    result.unwrap_or_else(|error| match Exit::of(&error) {
        Some(exit) => {
            say(&tame(&format!("recado: {error:#}")));
            exit
        }
        None => Exit::Done,
    })
}
