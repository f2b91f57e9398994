//! The composition root: it builds the parts that serve requests.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use recado_domain::clock::{Clock, Entropy, NewIds};
use recado_domain::ids::InstitutionId;
use recado_domain::phone::Country;
use recado_providers::cloud_api::{CloudApi, Graph};
use recado_providers::outbound::address::Allowed;
use recado_providers::sandbox::Sandbox;
use recado_providers::transients::Transients;
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
use crate::erasures::Erasures;
use crate::events::Events;
use crate::intake::Intake;
use crate::media::{MediaFiles, eager};
use crate::metrics::METRICS;
use crate::moved::Moved;
#[cfg(feature = "whatsapp-web")]
use recado_providers::whatsapp_web::WhatsAppWeb;
use recado_store::sealed::KeyRing;

use crate::rate_limit::FailedLogins;
use crate::webhooks::Webhooks;

/// The store's file in the data directory.
pub const STORE_FILE: &str = "recado.db";
/// The simulated network's file beside it.
pub const SANDBOX_FILE: &str = "sandbox.db";

/// The most subscribers of event streams.
const MAX_SUBSCRIBERS: usize = 256;

/// The parts that a request or a command works with.
pub struct Gateway {
    pub behaviour: Behaviour,
    pub store: Arc<dyn Store>,
    pub directory: Arc<Directory>,
    pub drivers: Arc<Drivers>,
    pub dispatcher: Dispatcher,
    /// The nodes that share the store.
    pub nodes: Arc<dyn Nodes>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    /// Whether the secret key opens what channels and webhooks need, as far as it was checked.
    pub opens_secrets: AtomicBool,
    /// Notified when stored secrets were encrypted again, so that they are checked.
    pub check_secrets: Notify,
    /// Encrypts and decrypts secrets; empty if no key was given.
    pub secrets: Arc<KeyRing>,
    pub failed_logins: FailedLogins,
    /// The memory limits of request bodies.
    pub intake: Intake,
    /// The reader of events in this process.
    pub events: Arc<Events>,
    /// The open streams of this process, for events that nothing stores.
    pub transients: Arc<Transients>,
    /// The webhooks that this process serves.
    pub webhooks: Arc<Webhooks>,
    /// The files of received messages.
    pub media: Arc<MediaFiles>,
    /// Messages whose files are to be fetched at once, until a task takes them.
    pub files_to_fetch: std::sync::Mutex<Option<eager::Queue>>,
    /// Permits for subscribers of event streams.
    pub subscribers: Arc<Semaphore>,
    /// Held during a change of institutions, keys or channels, so that the directory gets changes in the order of the store.
    pub changes: Arc<Mutex<()>>,
    /// The right to erase a person by a call.
    pub erasing: Erasures,
    /// Notified when a key is used for the first time since uses were stored.
    pub key_used: Notify,
    /// Cancelled when the drain begins: load balancers should send no more calls, and calls are still accepted.
    pub draining: CancellationToken,
    /// Cancelled when the server stops, after the drain.
    pub stop: CancellationToken,
}

impl Gateway {
    /// Checks the settings that are otherwise read when the parts are built.
    pub fn check(behaviour: &Behaviour) -> anyhow::Result<()> {
        Graph::new(&behaviour.graph_url, &behaviour.graph_version)?;
        #[cfg(feature = "whatsapp-web")]
        behaviour.whatsapp_web.options()?;
        Ok(())
    }

    /// Opens the files of a data directory, or the named database. No task runs yet.
    #[expect(clippy::too_many_lines, reason = "a list of parts, and how they are connected")]
    pub async fn open(data_dir: &Path, behaviour: Behaviour, secrets: KeyRing) -> anyhow::Result<Arc<Self>> {
        let graph = Graph::new(&behaviour.graph_url, &behaviour.graph_version)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let Opened { store, sandbox, shared } = open_store(data_dir, &behaviour, clock.clone()).await?;
        let sandbox = sandbox.reaching(reach(&behaviour));
        let notifier = Arc::new(Notifier::default());
        let leases = if shared.is_some() { Leases::shared(notifier.clone()) } else { Leases::standalone() };
        let (secrets, changes) = (Arc::new(secrets), Arc::<Mutex<()>>::default());
        let transients = Arc::<Transients>::default();
        let context = Context {
            store: store.clone(),
            secrets: secrets.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            leases: leases.clone(),
            changes: changes.clone(),
            count: |what| METRICS.driver_counted(what),
            transients: transients.clone(),
        };
        let drivers = Drivers::new(Arc::new(sandbox)).with_cloud_api(Arc::new(CloudApi::new(graph, context.clone())));
        #[cfg(feature = "whatsapp-web")]
        let drivers = drivers.with_whatsapp_web(Arc::new(WhatsAppWeb::new(context, behaviour.whatsapp_web.options()?)));
        let drivers = Arc::new(drivers);
        let directory = Arc::new(read_directory(&*store).await?);
        let chance = (clock.clone(), entropy.clone());
        let queue: (Arc<dyn Queue>, _) = (store.clone(), store.health());
        let dispatcher = Dispatcher::new(queue, drivers.clone(), directory.clone(), chance, leases.clone());
        let (follower, files_to_fetch) = eager::Follower::new(dispatcher.clone(), directory.clone());
        store.follow(Arc::new(follower));
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
        let (on_store, keep) = ((store.clone(), nodes.are_shared()), behaviour.keep_inbound_media);
        let media = MediaFiles::open(data_dir, on_store, keep, drivers.clone(), directory.clone(), clock.clone());
        let media = Arc::new(media.context("cannot open the directory of received files")?);
        let events = Arc::new(Events::new(store.clone()));
        let (parts, to) = ((store.clone(), events.clone()), (reach(&behaviour), behaviour.media_base()));
        let webhooks = Webhooks::new(parts, secrets.clone(), (clock.clone(), entropy.clone()), to);
        Ok(Arc::new(Self {
            failed_logins: FailedLogins::new(behaviour.auth_failures),
            intake: Intake::default(),
            behaviour,
            directory,
            drivers,
            dispatcher,
            nodes,
            clock,
            entropy,
            opens_secrets: AtomicBool::new(true),
            check_secrets: Notify::new(),
            secrets,
            events,
            transients,
            webhooks: Arc::new(webhooks),
            media,
            files_to_fetch: std::sync::Mutex::new(Some(files_to_fetch)),
            subscribers: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
            store,
            changes,
            erasing: Erasures::default(),
            key_used: Notify::new(),
            draining: CancellationToken::new(),
            stop,
        }))
    }

    /// Creates ids.
    pub fn new_ids(&self) -> NewIds<'_> {
        NewIds(&*self.clock, &*self.entropy)
    }

    /// The country whose numbers this institution's callers may write without a country code.
    pub fn country(&self, institution: InstitutionId) -> Option<Country> {
        self.directory.default_country(institution).or(self.behaviour.default_country)
    }

    /// Writes unsaved data and closes the files.
    pub async fn close(&self) {
        self.nodes.close().await;
        self.store.close().await;
        self.drivers.sandbox().close().await;
    }
}

/// Fails if the directory contains no store, or one that was moved. Only `recado init` creates one: a mistyped path, or a file
/// that was emptied, must not be served as a store without keys.
pub fn check_store_exists(data_dir: &Path) -> anyhow::Result<()> {
    let (store, dir) = (data_dir.join(STORE_FILE), data_dir.display());
    if !store.try_exists().with_context(|| format!("{} cannot be read", store.display()))? {
        bail!("there is no store in {dir}: make one with `recado init --data-dir {dir}`");
    }
    if sqlite::copy::is_empty(&store) {
        bail!("{} is empty: make a store with `recado init --data-dir {dir}`, or restore a back-up", store.display());
    }
    Moved::refuse(&store)
}

/// Where URLs of callers may lead to.
fn reach(behaviour: &Behaviour) -> Allowed {
    Allowed::new(behaviour.allow_networks.clone(), behaviour.own_addresses.clone())
}

async fn read_directory(store: &dyn Store) -> Result<Directory, StoreError> {
    let directory = Directory::new(store.api_keys().await?, &store.channels().await?);
    for institution in store.institutions().await? {
        directory.set_default_country(institution.id, institution.default_country);
    }
    Ok(directory)
}

/// The nodes of a shared store, or a standalone process.
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

/// The opened store and its parts.
struct Opened {
    store: Arc<dyn Store>,
    sandbox: Sandbox,
    shared: Option<Shared>,
}

/// A store that nodes share.
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
        // Read before the keys and channels: later changes are read again.
        let version = store.directory_version().await?;
        let secret = SecretString::from(store.secret().await?);
        let shared = Some(Shared { store: store.clone(), version, secret });
        return Ok(Opened { store, sandbox, shared });
    }
    let store = data_dir.join(STORE_FILE);
    // Again, now under the directory's lock: a move may have ended since the first check.
    Moved::refuse(&store)?;
    let store = Arc::new(SqliteStore::open(&store).context("cannot open the store")?);
    let sandbox = Sandbox::open(&data_dir.join(SANDBOX_FILE), pacing, clock, store.clone());
    Ok(Opened { store, sandbox, shared: None })
}
