//! The parts that serve requests, put together.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::api::rate_limit::FailedLogins;
use crate::clock::{Clock, Entropy, NewIds, SystemClock, SystemEntropy};
use crate::config::Behaviour;
use crate::directory::Directory;
use crate::dispatch::Dispatcher;
use crate::provider::Providers;
use crate::provider::sandbox::Sandbox;
use crate::receipts::Receipts;
use crate::sealed::KeyRing;
use crate::store::Store;
use crate::store::rows::StoreError;
use crate::store::sqlite::SqliteStore;

/// The store's file in the data directory.
pub const STORE_FILE: &str = "recado.db";
/// The simulated network's file beside it.
pub const SANDBOX_FILE: &str = "sandbox.db";

/// Everything that a request or a command works with.
pub struct Gateway {
    pub behaviour: Behaviour,
    pub store: Arc<dyn Store>,
    pub directory: Arc<Directory>,
    pub providers: Arc<Providers>,
    pub dispatcher: Dispatcher,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Seals and opens secrets; empty where no key was given.
    pub secrets: Arc<KeyRing>,
    pub failed_logins: FailedLogins,
    /// Keys and channels are changed one at a time, so that the directory hears of changes in the order of the store.
    pub changes: Mutex<()>,
    /// A key was used for the first time since uses were written down.
    pub key_used: Notify,
    /// The server is about to end.
    pub stop: CancellationToken,
}

impl Gateway {
    /// Opens the files of a data directory; nothing runs yet.
    pub async fn open(data_dir: &Path, behaviour: Behaviour, secrets: KeyRing) -> Result<Arc<Self>, StoreError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&data_dir.join(STORE_FILE))?);
        let sandbox = Sandbox::open(&data_dir.join(SANDBOX_FILE), behaviour.sandbox_pacing(), clock.clone())?;
        let providers = Arc::new(Providers::new(Arc::new(sandbox)));
        let directory = Arc::new(Directory::new(store.api_keys().await?, &store.channels().await?));
        let dispatcher =
            Dispatcher::new(store.clone(), providers.clone(), directory.clone(), clock.clone(), entropy.clone());
        Ok(Arc::new(Self {
            failed_logins: FailedLogins::new(behaviour.auth_failures),
            behaviour,
            store,
            directory,
            providers,
            dispatcher,
            clock,
            entropy,
            secrets: Arc::new(secrets),
            changes: Mutex::default(),
            key_used: Notify::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Makes new ids.
    pub fn new_ids(&self) -> NewIds<'_> {
        NewIds(&*self.clock, &*self.entropy)
    }

    /// Where networks hand in receipts.
    pub fn receipts(&self) -> Receipts {
        Receipts::new(self.store.clone())
    }

    /// Writes what is left and closes the files.
    pub async fn close(&self) {
        self.store.close().await;
        self.providers.sandbox().close().await;
    }
}
