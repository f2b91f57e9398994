//! Connections to PostgreSQL: borrowed for one transaction, given up when they hang, found again after a failover.
//!
//! Where a transaction pooler stands between, no statement leaves anything behind in its connection. Where none does,
//! statements are prepared once for each connection, which saves parsing them; each run is planned for its own values,
//! because a plan for any would walk a channel of a million messages as if it had five.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool as Connections, RecyclingMethod, Runtime, StatementCache,
};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use crate::store::Result;
use crate::store::rows::{Health, StoreError};

/// The longest that one transaction may take, and that a call waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The wait before a connection that was refused is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// The wait between two looks whether a database that was lost is back.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long a host may take to answer before the next one in the list is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// What holds for each transaction: how long it waits for a lock, so that one that is held for long harms only who waits
/// for it; and how long it may stand still, so that a node that does so keeps no lock for long.
pub(crate) const LIMITS: &str = "set local lock_timeout = '2s'; set local idle_in_transaction_session_timeout = '3s'";
/// How often a transaction is run that lost against another.
const TRIES: usize = 4;

/// Why a statement or a transaction came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    Postgres(tokio_postgres::Error),
    /// The channel is another node's now.
    Fenced,
    /// This operation cannot be done.
    Refused(&'static str),
}

/// The result of a statement.
pub(crate) type Done<T> = std::result::Result<T, Failure>;

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

/// A value in the database that this version does not understand.
pub(crate) fn not_understood(what: &'static str) -> Failure {
    Failure::Refused(what)
}

/// What a failure means for the connection, and for whoever asked.
enum Verdict {
    /// The transaction lost against another, and nothing of it was kept.
    Again,
    /// The connection, or the server behind it, is of no use.
    Lost(String),
    /// The fault is the operation's own.
    Own(StoreError),
}

impl Failure {
    fn verdict(self) -> Verdict {
        let error = match self {
            Self::Postgres(error) => error,
            Self::Fenced => return Verdict::Own(StoreError::Fenced),
            Self::Refused(why) => return Verdict::Own(StoreError::Refused(why.to_owned())),
        };
        let Some(database) = error.as_db_error() else {
            let local = error.is_closed()
                || std::error::Error::source(&error).is_some_and(|cause| cause.is::<std::io::Error>());
            let text = crate::outbound::causes(&error);
            return if local { Verdict::Lost(text) } else { Verdict::Own(StoreError::Refused(text)) };
        };
        // Its message alone: its detail names values, which may be somebody's number.
        let text = format!("{} ({})", database.message(), database.code().code());
        match database.code() {
            code if *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE => {
                Verdict::Again
            }
            // Somebody holds a lock for long, or the server's own limit is shorter.
            code if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::QUERY_CANCELED => {
                Verdict::Own(StoreError::Overloaded)
            }
            // The server gave the connection up: this node stood still in a transaction.
            code if *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Verdict::Lost(text),
            // A server that was a primary and is none any more.
            code if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Verdict::Lost(text),
            // Connection failures; out of memory, disk or connections; shut down by a person or a crash; damaged files.
            code if ["08", "53", "57", "58", "XX"].iter().any(|class| code.code().starts_with(class)) => {
                Verdict::Lost(text)
            }
            _ => Verdict::Own(StoreError::Refused(text)),
        }
    }
}

/// A value for a statement, with its type.
pub(crate) type Arg<'a> = (&'a (dyn ToSql + Sync), Type);

/// What can be given to a statement.
pub(crate) trait Typed: ToSql + Sync {
    /// The type by which the database knows it.
    const TYPE: Type;
}

macro_rules! typed {
    ($($rust:ty => $one:ident, $many:ident;)+) => {
        $(
            impl Typed for $rust { const TYPE: Type = Type::$one; }
            impl Typed for Option<$rust> { const TYPE: Type = Type::$one; }
            impl Typed for Vec<$rust> { const TYPE: Type = Type::$many; }
            impl Typed for &[$rust] { const TYPE: Type = Type::$many; }
            impl Typed for Vec<Option<$rust>> { const TYPE: Type = Type::$many; }
        )+
    };
}

typed! {
    bool => BOOL, BOOL_ARRAY;
    i16 => INT2, INT2_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    String => TEXT, TEXT_ARRAY;
    &str => TEXT, TEXT_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
    &[u8] => BYTEA, BYTEA_ARRAY;
}

/// A value with its type.
pub(crate) fn arg<T: Typed>(value: &T) -> Arg<'_> {
    (value, T::TYPE)
}

/// The values of a statement, in the order of `$1`, `$2` and so on.
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::store::postgres::db::arg(&$value)),*] };
}
pub(crate) use args;

/// A connection, in a transaction or not.
#[derive(Clone, Copy)]
pub(crate) struct Db<'a> {
    pub client: &'a Client,
    /// What is prepared in it; `None` where nothing may be.
    pub prepared: Option<&'a StatementCache>,
}

impl Db<'_> {
    /// All rows.
    pub async fn rows(self, sql: &str, args: &[Arg<'_>]) -> Done<Vec<Row>> {
        match self.prepare(sql, args).await? {
            Some(statement) => Ok(self.client.query(&statement, &values(args)).await?),
            None => Ok(self.client.query_typed(sql, args).await?),
        }
    }

    /// The one row, if there is one.
    pub async fn row(self, sql: &str, args: &[Arg<'_>]) -> Done<Option<Row>> {
        match self.prepare(sql, args).await? {
            Some(statement) => Ok(self.client.query_opt(&statement, &values(args)).await?),
            None => Ok(self.client.query_typed_opt(sql, args).await?),
        }
    }

    /// How many rows were changed.
    pub async fn run(self, sql: &str, args: &[Arg<'_>]) -> Done<u64> {
        match self.prepare(sql, args).await? {
            Some(statement) => Ok(self.client.execute(&statement, &values(args)).await?),
            None => Ok(self.client.execute_typed(sql, args).await?),
        }
    }

    async fn prepare(self, sql: &str, args: &[Arg<'_>]) -> Done<Option<Statement>> {
        let Some(prepared) = self.prepared else { return Ok(None) };
        let types: Vec<_> = args.iter().map(|(_, its)| its.clone()).collect();
        Ok(Some(prepared.prepare_typed(self.client, sql, &types).await?))
    }
}

fn values<'a>(args: &[Arg<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    args.iter().map(|(value, _)| *value).collect()
}

/// The connections of this node, and whether they work.
#[derive(Clone)]
pub(crate) struct Pool {
    connections: Connections,
    /// For a connection outside of the pool.
    config: Arc<Config>,
    tls: MakeRustlsConnect,
    /// Whether a connection is the same for as long as we have it.
    prepares: bool,
    health: watch::Sender<Health>,
    closed: CancellationToken,
}

impl Pool {
    /// Connects nothing yet.
    pub fn new(url: &str, size: usize, prepares: bool) -> anyhow::Result<Self> {
        let (mut config, tls) = config(url)?;
        if prepares {
            let options = config.get_options().unwrap_or_default();
            config.options(format!("{options} -c plan_cache_mode=force_custom_plan").trim());
        }
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(config.clone(), tls.clone(), ManagerConfig { recycling_method });
        let pool = Connections::builder(manager).max_size(size).runtime(Runtime::Tokio1);
        let connections = pool.create_timeout(Some(PATIENCE)).wait_timeout(Some(PATIENCE)).build()?;
        let (health, closed) = (watch::Sender::new(Health::Up), CancellationToken::new());
        Ok(Self { connections, config: Arc::new(config), tls, prepares, health, closed })
    }

    /// What is prepared in a connection.
    pub fn prepared(&self, client: &Object) -> Option<Arc<StatementCache>> {
        self.prepares.then(|| client.statement_cache.clone())
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// A connection; waits a while for one.
    pub async fn get(&self) -> Result<Object> {
        if let Health::Down(why) = &*self.health.borrow() {
            return Err(StoreError::Unavailable(why.clone()));
        }
        let patient_until = Instant::now() + PATIENCE;
        loop {
            let error = match self.connections.get().await {
                Ok(client) => return Ok(client),
                Err(deadpool_postgres::PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                    return Err(StoreError::Overloaded);
                }
                Err(error) => crate::outbound::causes(&error),
            };
            if Instant::now() >= patient_until || self.closed.is_cancelled() {
                self.lost(error.clone());
                return Err(StoreError::Unavailable(error));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Takes a failure to heart; `None` when the work may be run again.
    pub fn judge(&self, client: Object, failure: Option<Failure>) -> Option<StoreError> {
        match failure.map(Failure::verdict) {
            Some(Verdict::Again) => None,
            Some(Verdict::Own(error)) => Some(error),
            // It is not given back: who knows in what state it is.
            Some(Verdict::Lost(why)) => {
                drop(Object::take(client));
                self.lost(why.clone());
                Some(StoreError::Unavailable(why))
            }
            // It took too long, which may be this statement's own fault.
            None => {
                drop(Object::take(client));
                self.suspect();
                Some(StoreError::Unavailable(SILENT.to_owned()))
            }
        }
    }

    /// Looks whether the database still answers.
    fn suspect(&self) {
        let pool = self.clone();
        tokio::spawn(async move {
            if !pool.answers().await {
                pool.lost(SILENT.to_owned());
            }
        });
    }

    /// Whether the database answers, on a connection of its own: those of the pool may all be waiting.
    async fn answers(&self) -> bool {
        let answers = async {
            // A server that is still starting up refuses; a standby is not connected to.
            let (client, connection) = self.config.connect(self.tls.clone()).await.ok()?;
            let connection = tokio::spawn(connection);
            let answer = client.simple_query("select 1").await.ok();
            connection.abort();
            answer
        };
        tokio::time::timeout(CONNECT, answers).await.is_ok_and(|answer| answer.is_some())
    }

    /// The database is out of reach: nothing more is asked of it until it is back.
    fn lost(&self, why: String) {
        let first = self.health.send_if_modified(|health| {
            let first = *health == Health::Up;
            if first {
                *health = Health::Down(why.clone());
            }
            first
        });
        if first {
            tracing::error!(why, "the database cannot be reached");
            // What was open may lead to a server that is no primary any more.
            self.connections.retain(|_, _| false);
            tokio::spawn(self.clone().come_back());
        }
    }

    /// Looks until the database is back.
    async fn come_back(self) {
        while !self.answers().await {
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
        tracing::info!("the database is back");
        self.health.send_replace(Health::Up);
    }

    pub fn close(&self) {
        self.closed.cancel();
        self.connections.close();
    }
}

/// What is said of a database that says nothing.
const SILENT: &str = "the database does not answer";

/// Runs work on a connection, once; with a limit in time.
pub(crate) async fn limited<T>(work: impl Future<Output = Done<T>>) -> std::result::Result<T, Option<Failure>> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Some),
        Err(_) => Err(None),
    }
}

/// Runs `work`, an expression that uses the connection `$db`, in one transaction: all of it is kept, or nothing.
macro_rules! transaction {
    ($pool:expr, $db:ident => $work:expr) => {{
        let mut tries = $crate::store::postgres::db::tries();
        loop {
            let mut client = $pool.get().await?;
            let prepared = $pool.prepared(&client);
            let done = $crate::store::postgres::db::limited(async {
                let transaction = client.transaction().await?;
                let done = {
                    let $db =
                        $crate::store::postgres::db::Db { client: transaction.client(), prepared: prepared.as_deref() };
                    // Sent together with the first statement: it costs no time.
                    let limits = transaction.batch_execute($crate::store::postgres::db::LIMITS);
                    let (limits, done) = tokio::join!(limits, async { $work });
                    limits?;
                    done?
                };
                transaction.commit().await?;
                Ok(done)
            })
            .await;
            let failure = match done {
                Ok(done) => break Ok(done),
                Err(failure) => failure,
            };
            match $pool.judge(client, failure) {
                Some(error) => break Err(error),
                None if tries.next().is_some() => {}
                None => break Err($crate::store::rows::StoreError::Overloaded),
            }
        }
    }};
}
pub(crate) use transaction;

/// Runs `work` on a connection, without a transaction: for one statement, or for several that need not agree.
macro_rules! plainly {
    ($pool:expr, $db:ident => $work:expr) => {{
        let mut tries = $crate::store::postgres::db::tries();
        loop {
            let client = $pool.get().await?;
            let prepared = $pool.prepared(&client);
            let done = {
                let $db = $crate::store::postgres::db::Db { client: &client, prepared: prepared.as_deref() };
                $crate::store::postgres::db::limited($work).await
            };
            let failure = match done {
                Ok(done) => break Ok(done),
                Err(failure) => failure,
            };
            match $pool.judge(client, failure) {
                Some(error) => break Err(error),
                None if tries.next().is_some() => {}
                None => break Err($crate::store::rows::StoreError::Overloaded),
            }
        }
    }};
}
pub(crate) use plainly;

/// The further tries of a transaction.
pub(crate) fn tries() -> impl Iterator<Item = usize> {
    1..TRIES
}

/// What was typed as the database's URL, with what it leaves open filled in.
pub(super) fn config(url: &str) -> anyhow::Result<(Config, MakeRustlsConnect)> {
    // Its own error may repeat a part of the URL, and so the password.
    let Ok(mut config) = url.parse::<Config>() else {
        bail!("the database's URL cannot be read: postgres://user:password@host:5432/database")
    };
    if config.get_hosts().is_empty() {
        bail!("the database's URL names no host");
    }
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    config.connect_timeout(*config.get_connect_timeout().unwrap_or(&CONNECT));
    config.tcp_user_timeout(PATIENCE);
    config.keepalives_idle(PATIENCE);
    if config.get_application_name().is_none() {
        config.application_name("recado");
    }
    let here = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    if config.get_ssl_mode() == SslMode::Prefer {
        // "Prefer" would go on in clear wherever somebody in between says that there is no TLS.
        let crosses_a_network = !config.get_hosts().iter().all(here);
        config.ssl_mode(if crosses_a_network { SslMode::Require } else { SslMode::Disable });
    }
    let mut roots = RootCertStore::empty();
    if config.get_ssl_mode() != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!("this system has no CA certificates (package ca-certificates): no TLS to the database without them");
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = versions.context("TLS")?.with_root_certificates(roots).with_no_client_auth();
    Ok((config, MakeRustlsConnect::new(tls)))
}
