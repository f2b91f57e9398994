//! The server's side of the control socket: JSON lines, each with one line as its answer.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::TaskTracker;

use super::CommandHandler;
use crate::gateway::Gateway;

pub const SOCKET_FILE: &str = "recado.sock";
/// The most bytes of a command: the largest body of the API (64 KiB) with every byte escaped, and room for the rest.
const COMMAND_LIMIT: u64 = 512 * 1024;
/// The time a command has to arrive, from its first byte on.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// The time a command has to read its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The wait after a failed accept (out of file descriptors, for instance).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The answer on the socket.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Done(Value),
    Refused(Value),
}

/// The socket of a data directory. It is removed when the server stops.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Opens the socket. The caller holds the directory's lock, so an existing socket is left from a crash.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(SOCKET_FILE);
        if path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("cannot open {} (a path of over 100 characters is too long)", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers commands until the server stops. Commands in progress finish.
    pub async fn serve(self, gateway: Arc<Gateway>) {
        let handler = Arc::new(CommandHandler::new(gateway));
        let tracker = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = handler.gateway.stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let handler = handler.clone();
                    tracker.spawn(async move {
                        if let Err(error) = converse(stream, &handler).await {
                            tracing::warn!(%error, "control command failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control connection accept failed; retrying");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // The next start removes a socket that is left.
        let _ = std::fs::remove_file(&self.path);
        drop(self.listener);
        tracker.close();
        tracker.wait().await;
    }
}

async fn converse(mut stream: UnixStream, handler: &CommandHandler) -> Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reader = BufReader::new(reading);
    let mut line = String::new();
    loop {
        let more = tokio::select! {
            () = handler.gateway.stop.cancelled() => return Ok(()),
            read = reader.fill_buf() => !read?.is_empty(),
        };
        if !more {
            return Ok(());
        }
        line.clear();
        tokio::time::timeout(COMMAND_TIMEOUT, (&mut reader).take(COMMAND_LIMIT).read_line(&mut line)).await??;
        let answer = match serde_json::from_str(&line) {
            Ok(command) => match handler.execute(command).await {
                Ok(value) => Answer::Done(value),
                Err(error) => Answer::Refused(serde_json::to_value(error.body())?),
            },
            Err(error) => Answer::Refused(json!({ "message": format!("not a command of this version: {error}") })),
        };
        let answer = format!("{}\n", serde_json::to_string(&answer)?);
        // A stopped command (SIGSTOP) does not read, and must not block the end of the server.
        tokio::time::timeout(ANSWER_TIMEOUT, writing.write_all(answer.as_bytes())).await??;
    }
}
