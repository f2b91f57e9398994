//! Access to a data directory: by its server, or by this process if no server runs.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use recado_gateway::config::Behaviour;
use recado_gateway::control::{AskError, Client, Command, CommandHandler};
use recado_gateway::gateway::{self, Gateway};
use recado_gateway::lock::{DataDirLock, make_private};
use recado_gateway::shutdown::Signals;
use recado_store::StoreError;
use serde_json::Value;

use crate::exit::unavailable;

/// The executor of commands on a data directory; it does not change until it is dropped.
pub enum Local {
    /// A running server.
    Server(Client),
    /// This process. No server can start meanwhile.
    Own(Own),
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
        let mut tries = 0;
        let lock = loop {
            if let Some(lock) = DataDirLock::try_acquire(data_dir)? {
                break lock;
            }
            match Client::connect(data_dir).await {
                // The lock may be held by another command, or by a server that has not opened its socket yet, but only for a
                // moment.
                Err(AskError::NobodyThere(_)) if tries < 50 => tries += 1,
                client => return Ok(Self::Server(client?)),
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

    /// Executes a command.
    pub async fn execute(&self, command: Command) -> Result<Value, AskError> {
        match self {
            Self::Server(client) => client.ask(&command).await,
            Self::Own(own) => own.handler.execute(command).await.map_err(|error| (&error).into()),
        }
    }

    /// Closes what was opened.
    pub async fn close(self) {
        if let Self::Own(own) = self {
            own.handler.close().await;
        }
    }
}
