//! How a command ends: the one list of exit codes.

use std::io;
use std::process::ExitCode;

use super::output::note;
use crate::control::AskError;

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

    /// The code of a failure. `None` where it is none: who reads what we print has seen enough and gone.
    fn of(error: &anyhow::Error) -> Option<Self> {
        // `downcast_ref` finds what stands behind a context, too.
        if let Some(Failure { exit, .. }) = error.downcast_ref() {
            return Some(*exit);
        }
        match (error.downcast_ref(), error.downcast_ref::<io::Error>()) {
            (Some(AskError::NobodyThere(_) | AskError::Unavailable(_) | AskError::NoAnswer(_)), _) => {
                Some(Self::Unavailable)
            }
            (_, Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => None,
            _ => Some(Self::Failed),
        }
    }
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
    result.unwrap_or_else(|error| match Exit::of(&error) {
        Some(exit) => {
            note(&format!("recado: {error:#}"));
            exit
        }
        None => Exit::Done,
    })
}
