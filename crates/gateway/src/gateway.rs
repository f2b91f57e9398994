//! The parts that serve requests, put together.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use recado_domain::clock::{Clock, Entropy, NewIds};
use recado_domain::ids::InstitutionId;
use recado_domain::phone::Country;
use recado_providers::cloud_api::{CloudApi, Graph};
use recado_providers::sandbox::Sandbox;
use recado_providers::{Context, Drivers};
use recado_store::clock::{SystemClock, SystemEntropy};
use recado_store::lease::{Leases, Notifier};
use recado_store::nodes::ClusterStore;
use recado_store::postgres::PgStore;
use recado_store::sqlite::{self, SqliteStore};
use recado_store::{Queue, Store, StoreError};
use secrecy::SecretString;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, Nodes, Parts, Standalone};
use crate::config::Behaviour;
use crate::directory::Directory;
use crate::dispatch::Dispatcher;
use crate::intake::Intake;
#[cfg(feature = "whatsapp-web")]
use recado_providers::whatsapp_web::WhatsAppWeb;
use recado_store::sealed::KeyRing;

use crate::rate_limit::FailedLogins;

/// The store's file in the data directory.
pub const STORE_FILE: &str = "recado.db";
/// The simulated network's file beside it.
pub const SANDBOX_FILE: &str = "sandbox.db";

/// Connections that follow events at a time.
const FOLLOWERS: usize = 256;

/// Everything that a request or a command works with.
pub struct Gateway {
    pub behaviour: Behaviour,
    pub store: Arc<dyn Store>,
    pub directory: Arc<Directory>,
    pub drivers: Arc<Drivers>,
    pub dispatcher: Dispatcher,
    /// The other nodes, where the store is one that can be shared.
    pub nodes: Arc<dyn Nodes>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Seals and opens secrets; empty where no key was given.
    pub secrets: Arc<KeyRing>,
    pub failed_logins: FailedLogins,
    /// What bodies may cost.
    pub intake: Intake,
    /// Seats for those who follow events.
    pub followers: Arc<Semaphore>,
    /// Institutions, keys and channels are changed one at a time, so that the directory hears of changes in the order of the store.
    pub changes: Arc<Mutex<()>>,
    /// A key was used for the first time since uses were written down.
    pub key_used: Notify,
    /// The server is about to end.
    pub stop: CancellationToken,
}

impl Gateway {
    /// Opens the files of a data directory, or the database that was named; nothing runs yet.
    pub async fn open(data_dir: &Path, behaviour: Behaviour, secrets: KeyRing) -> anyhow::Result<Arc<Self>> {
        let graph = Graph::new(&behaviour.graph_url, &behaviour.graph_version)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let Opened { store, sandbox, shared } = open_store(data_dir, &behaviour, clock.clone()).await?;
        let notifier = Arc::new(Notifier::default());
        let leases = if shared.is_some() { Leases::shared(notifier.clone()) } else { Leases::standalone() };
        let (secrets, changes) = (Arc::new(secrets), Arc::<Mutex<()>>::default());
        let context = Context {
            store: store.clone(),
            secrets: secrets.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            leases: leases.clone(),
            changes: changes.clone(),
        };
        let drivers = Drivers::new(Arc::new(sandbox)).with_cloud_api(Arc::new(CloudApi::new(graph, context.clone())));
        #[cfg(feature = "whatsapp-web")]
        let drivers = drivers.with_whatsapp_web(Arc::new(WhatsAppWeb::new(context, behaviour.whatsapp_web.options()?)));
        let drivers = Arc::new(drivers);
        let directory = Arc::new(read_directory(&*store).await?);
        let chance = (clock.clone(), entropy.clone());
        let queue: (Arc<dyn Queue>, _) = (store.clone(), store.health());
        let dispatcher = Dispatcher::new(queue, drivers.clone(), directory.clone(), chance, leases.clone());
        store.follow(Arc::new(dispatcher.clone()));
        let stop = CancellationToken::new();
        let nodes = nodes(shared, &store, &leases, |store| Parts {
            store,
            leases: leases.clone(),
            notifier,
            directory: directory.clone(),
            dispatcher: dispatcher.clone(),
            drivers: drivers.clone(),
            clock: clock.clone(),
            changes: changes.clone(),
            stop: stop.clone(),
        });
        Ok(Arc::new(Self {
            failed_logins: FailedLogins::new(behaviour.auth_failures),
            intake: Intake::default(),
            behaviour,
            store,
            directory,
            drivers,
            dispatcher,
            nodes,
            clock,
            entropy,
            secrets,
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            changes,
            key_used: Notify::new(),
            stop,
        }))
    }

    /// Makes new ids.
    pub fn new_ids(&self) -> NewIds<'_> {
        NewIds(&*self.clock, &*self.entropy)
    }

    /// The country whose numbers this institution's callers may write without a country code.
    pub fn country(&self, institution: InstitutionId) -> Option<Country> {
        self.directory.default_country(institution).or(self.behaviour.default_country)
    }

    /// Writes what is left and closes the files.
    pub async fn close(&self) {
        self.nodes.close().await;
        self.store.close().await;
        self.drivers.sandbox().close().await;
    }
}

/// Fails where no store is in the directory. Only `recado init` makes one: a mistyped path, or a file that was emptied,
/// must not be served as a store that knows no key.
pub fn look_for_store(data_dir: &Path) -> anyhow::Result<()> {
    let (store, dir) = (data_dir.join(STORE_FILE), data_dir.display());
    if !store.exists() {
        bail!("there is no store in {dir}: make one with `recado init --data-dir {dir}`");
    }
    if sqlite::copy::is_empty(&store) {
        bail!("{} is empty: make a store with `recado init --data-dir {dir}`, or restore a back-up", store.display());
    }
    Ok(())
}

async fn read_directory(store: &dyn Store) -> Result<Directory, StoreError> {
    let directory = Directory::new(store.api_keys().await?, &store.channels().await?);
    for institution in store.institutions().await? {
        directory.set_default_country(institution.id, institution.default_country);
    }
    Ok(directory)
}

/// The other nodes, or that there are none.
fn nodes(
    shared: Option<Shared>,
    store: &Arc<dyn Store>,
    leases: &Arc<Leases>,
    parts: impl FnOnce(Arc<dyn ClusterStore>) -> Parts,
) -> Arc<dyn Nodes> {
    match shared {
        None => Arc::new(Standalone::new(store.clone(), leases.clone())),
        Some(Shared { store, version, secret }) => Arc::new(Cluster::new(parts(store), version, secret)),
    }
}

/// What a gateway stands on.
struct Opened {
    store: Arc<dyn Store>,
    sandbox: Sandbox,
    shared: Option<Shared>,
}

/// A store that other nodes share.
struct Shared {
    store: Arc<dyn ClusterStore>,
    /// The number of the last change that the directory has.
    version: i64,
    secret: SecretString,
}

async fn open_store(data_dir: &Path, behaviour: &Behaviour, clock: Arc<dyn Clock>) -> anyhow::Result<Opened> {
    let pacing = behaviour.sandbox_pacing();
    if let Some((url, direct_url)) = behaviour.database.urls() {
        let connections = behaviour.database.database_connections.into();
        let store = Arc::new(PgStore::open(url, direct_url, connections).await.context("cannot open the database")?);
        let sandbox = Sandbox::on_postgres(store.database(), pacing, clock, store.clone())?;
        // Before keys and channels are read: what changes meanwhile is read again.
        let version = store.directory_version().await?;
        let secret = SecretString::from(store.secret().await?);
        let shared = Some(Shared { store: store.clone(), version, secret });
        return Ok(Opened { store, sandbox, shared });
    }
    let store = Arc::new(SqliteStore::open(&data_dir.join(STORE_FILE)).context("cannot open the store")?);
    let sandbox = Sandbox::open(&data_dir.join(SANDBOX_FILE), pacing, clock, store.clone())?;
    Ok(Opened { store, sandbox, shared: None })
}
