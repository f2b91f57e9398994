//! The command's side of the control socket.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::socket::{Answer, SOCKET_FILE};
use super::{Command, explain};
use crate::api::error::ApiError;

/// The timeout of a command.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No server listens on the socket.
    #[error("no server answers on {0}")]
    NobodyThere(String),
    /// The server refused the command.
    #[error("{0}")]
    Refused(Told),
    /// A queue is full, and nothing was done.
    #[error("{0}")]
    Unavailable(Told),
    /// No answer, or a failure: the command may have been executed.
    #[error("{0}")]
    NoAnswer(Told),
}

/// What is said about a failure: a text for people, and the error of the API if there is one.
#[derive(Debug, Default)]
pub struct Told {
    text: String,
    error: Value,
}

impl fmt::Display for Told {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        Self { text, error: Value::Null }
    }
}

impl AskError {
    /// A refusal, from the body of an API error.
    pub fn refused(error: &Value) -> Self {
        let text = Told { text: explain(error), error: error.clone() };
        let is = |known: ApiError| error["code"] == known.parts().1;
        if is(ApiError::QueueFull) {
            Self::Unavailable(text)
        } else if is(ApiError::Unavailable) || is(ApiError::Internal) {
            Self::NoAnswer(text)
        } else {
            Self::Refused(text)
        }
    }
}

impl AskError {
    /// The code, for programs, and the invalid fields, if there are some.
    pub fn for_programs(&self) -> (&str, Option<Value>) {
        let (told, otherwise) = match self {
            Self::NobodyThere(_) => return ("NO_SERVER", None),
            Self::Refused(told) => (told, "REFUSED"),
            Self::Unavailable(told) => (told, "UNAVAILABLE"),
            Self::NoAnswer(told) => (told, "NO_ANSWER"),
        };
        (told.error["code"].as_str().unwrap_or(otherwise), super::faults_for_programs(&told.error))
    }
}

impl From<&ApiError> for AskError {
    fn from(error: &ApiError) -> Self {
        Self::refused(&serde_json::to_value(error.body()).unwrap_or_default())
    }
}

/// Connections to a running server, opened on demand and kept for the next command.
pub struct Client {
    path: PathBuf,
    idle: Mutex<Vec<BufReader<UnixStream>>>,
}

impl Client {
    /// Checks whether a server is running.
    pub async fn connect(data_dir: &Path) -> Result<Self, AskError> {
        let client = Self { path: data_dir.join(SOCKET_FILE), idle: Mutex::default() };
        let first = client.open().await?;
        client.keep(first);
        Ok(client)
    }

    /// Sends a command to the server.
    pub async fn ask(&self, command: &Command) -> Result<Value, AskError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => self.open().await?,
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange(&mut stream, command)).await;
        let answer = answer.map_err(anyhow::Error::from).flatten().map_err(|error| {
            // Most likely the server is gone, so all kept connections are dead.
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
            AskError::NoAnswer(
                format!("the server gave no answer ({error}); does it hang, or is it of another version?").into(),
            )
        })?;
        self.keep(stream);
        match answer {
            Answer::Done(value) => Ok(value),
            Answer::Refused(error) => Err(AskError::refused(&error)),
        }
    }

    async fn open(&self) -> Result<BufReader<UnixStream>, AskError> {
        let stream = UnixStream::connect(&self.path).await;
        stream.map(BufReader::new).map_err(|error| AskError::NobodyThere(format!("{}: {error}", self.path.display())))
    }

    fn keep(&self, stream: BufReader<UnixStream>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }
}

async fn exchange(stream: &mut BufReader<UnixStream>, command: &Command) -> anyhow::Result<Answer> {
    stream.write_all(format!("{}\n", serde_json::to_string(command)?).as_bytes()).await?;
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}
