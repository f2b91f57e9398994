//! Access to a data directory: by its server, or by this process if no server runs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use recado_gateway::config::Behaviour;
use recado_gateway::control::{AskError, Client, Command, CommandHandler};
use recado_gateway::gateway::{self, Gateway};
use recado_gateway::lock::{DataDirLock, make_private};
use recado_gateway::shutdown::Signals;
use recado_store::StoreError;
use serde_json::Value;

use crate::exit::unavailable;
use crate::read_only::{TemporaryCopy, is_read_only};

/// The executor of commands on a data directory; it does not change until it is dropped.
pub enum Local {
    /// A running server.
    Server(Client),
    /// This process. No server can start meanwhile.
    Own(Own),
    /// This process, on a copy of files on a read-only disk.
    Still(CommandHandler, TemporaryCopy),
}

/// Refuses the server of a file if the command is meant for a database.
async fn check_store(client: &Client, data_dir: &Path) -> Result<()> {
    // A server that does not answer now could answer the command itself.
    let status = client.ask(&Command::Status).await?;
    if status["engine"] != "postgresql" {
        bail!(
            "RECADO_DATABASE_URL names a database, but the server of {} has its own file: name another --data-dir, or unset the \
             variable",
            data_dir.display()
        );
    }
    Ok(())
}

/// The opened files of a data directory.
pub struct Own {
    handler: CommandHandler,
    _lock: DataDirLock,
}

impl Local {
    /// Finds the server, or opens the files.
    pub async fn open(data_dir: &Path) -> Result<Self> {
        let behaviour = Behaviour::from_environment();
        if behaviour.database.urls().is_some() {
            make_private(data_dir)?;
        } else if !DataDirLock::is_held(data_dir) {
            gateway::check_store_exists(data_dir)?;
        }
        if behaviour.database.urls().is_none() && is_read_only(data_dir) {
            return Self::open_still(data_dir, behaviour).await;
        }
        let mut tries = 0;
        let lock = loop {
            if let Some(lock) = DataDirLock::try_acquire(data_dir)? {
                break lock;
            }
            match Client::connect(data_dir).await {
                // The lock may be held by another command, or by a server that has not opened its socket yet, but only for a
                // moment.
                Err(AskError::NobodyThere(_)) if tries < 50 => tries += 1,
                client => {
                    let client = client?;
                    if behaviour.database.urls().is_some() {
                        check_store(&client, data_dir).await?;
                    }
                    return Ok(Self::Server(client));
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        // From here on Ctrl-C does not end the process: a command that has begun is finished.
        let _signals = Signals::listen()?;
        let secrets = behaviour.secret_key.read()?;
        let shared = behaviour.database.urls().is_some();
        let opened = Gateway::open(data_dir, behaviour, secrets).await;
        let gateway = opened.map_err(|error| match error.downcast_ref() {
            Some(StoreError::Unavailable(_) | StoreError::Overloaded) if shared => unavailable(format!("{error:#}")),
            _ => error,
        })?;
        Ok(Self::Own(Own { handler: CommandHandler::new(gateway), _lock: lock }))
    }

    /// Reads files on a read-only disk, also beside a server, which can do nothing there.
    async fn open_still(data_dir: &Path, behaviour: Behaviour) -> Result<Self> {
        let _signals = Signals::listen()?;
        let copy = TemporaryCopy::of(data_dir)?;
        let secrets = behaviour.secret_key.read()?;
        let gateway = Gateway::open(&copy.dir, behaviour, secrets).await?;
        Ok(Self::Still(CommandHandler::new(gateway), copy))
    }

    /// Executes a command.
    pub async fn execute(&self, command: Command) -> Result<Value, AskError> {
        match self {
            Self::Server(client) => client.ask(&command).await,
            Self::Own(Own { handler, .. }) => handler.execute(command).await.map_err(|error| (&error).into()),
            Self::Still(handler, _) if command.only_reads() => {
                handler.execute(command).await.map_err(|error| (&error).into())
            }
            Self::Still(_, copy) => Err(AskError::Refused(
                format!("{} is on a read-only disk: nothing can be changed", copy.of.display()).into(),
            )),
        }
    }

    /// Closes what was opened.
    pub async fn close(self) {
        match self {
            Self::Server(_) => {}
            Self::Own(own) => own.handler.close().await,
            Self::Still(handler, _copy) => handler.close().await,
        }
    }
}
