//! Where the database is: the hosts of a URL, of which one takes writes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::sqlkit::postgres::db::PATIENCE;
use crate::sqlkit::postgres::failure::in_words;

/// How long a host may take to be reached, where the URL does not say it.
const CONNECT: Duration = Duration::from_secs(2);
/// How long the hosts may take together, until one of them has let us in.
const LET_IN: Duration = Duration::from_secs(4);

/// A connection that nobody drives yet.
type Connected = (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// The hosts of a URL.
#[derive(Clone)]
pub struct Hosts {
    each: Arc<[Config]>,
    pub tls: MakeRustlsConnect,
}

impl Hosts {
    /// Reads what was typed as the database's URL. Each connection gets these options.
    pub fn parse(url: &str, options: &str) -> anyhow::Result<Self> {
        let mut config = config(url)?;
        let given = config.get_options().unwrap_or_default();
        config.options(format!("{given} {options}").trim());
        let each = (0..config.get_hosts().len()).map(|place| only(&config, place)).collect();
        let tls = MakeRustlsConnect::new(tls(config.get_ssl_mode())?);
        Ok(Self { each, tls })
    }

    /// A connection to the one that takes writes.
    pub async fn connect(&self) -> anyhow::Result<Connected> {
        let connected = tokio::time::timeout(LET_IN, self.race()).await;
        connected.context("no host of the database answers")?.map_err(in_words)
    }

    /// Whether the database answers and keeps what it is told, on a connection of its own: those of a pool may all be
    /// waiting.
    pub async fn answer(&self) -> Answer {
        // A server that is still starting up refuses; a standby is not connected to.
        let (client, connection) = match tokio::time::timeout(LET_IN, self.race()).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) if is_full(&error) => return Answer::Full,
            Ok(Err(_)) | Err(_) => return Answer::None,
        };
        let connection = tokio::spawn(connection);
        let kept = tokio::time::timeout(LET_IN, client.simple_query(KEEP)).await;
        if kept.is_err() {
            // It waits for a standby, and would take up a place for as long as that does not answer. Nothing is lost by it.
            drop(tokio::time::timeout(LET_IN, client.cancel_token().cancel_query(self.tls.clone())).await);
        }
        connection.abort();
        let server = kept.ok().and_then(Result::ok).and_then(|rows| match rows.into_iter().nth(1) {
            Some(SimpleQueryMessage::Row(row)) => row.get(0).map(str::to_owned),
            _ => None,
        });
        server.map_or(Answer::None, Answer::Of)
    }

    /// All are tried side by side, and the first that takes writes is it: one that is silent, like a machine that was
    /// lost, must not keep us from the one that has taken its place.
    async fn race(&self) -> Result<Connected, Error> {
        let mut attempts: FuturesUnordered<_> = self.each.iter().map(|one| one.connect(self.tls.clone())).collect();
        let mut why = None;
        loop {
            match attempts.next().await {
                Some(Ok(connected)) => return Ok(connected),
                // That the primary is full tells more than that a standby is one.
                Some(Err(error)) if !why.as_ref().is_some_and(is_full) => why = Some(error),
                Some(Err(_)) => {}
                None => return Err(why.expect("a URL has a host")),
            }
        }
    }
}

/// Leaves a trace in the log, so that its commit waits as that of a message would, for the disk and for a standby. Gives what
/// tells a server's run from another, behind a pooler as well.
const KEEP: &str = "select concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
                    from pg_logical_emit_message(true, 'recado', '')";

/// What the database says to somebody new.
pub enum Answer {
    /// It answers: which server's run it is.
    Of(String),
    /// It has no room for one more.
    Full,
    None,
}

fn is_full(error: &Error) -> bool {
    error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
}

/// For the pools, which have a limit in time of their own.
impl Connect for Hosts {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        async {
            let (client, connection) = self.race().await?;
            // Its error is told to whoever waits for an answer.
            Ok((client, tokio::spawn(async move { drop(connection.await) })))
        }
        .boxed()
    }
}

/// What was typed as the database's URL, with what it leaves open filled in.
fn config(url: &str) -> anyhow::Result<Config> {
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
    Ok(config)
}

/// The same for one of its hosts alone.
fn only(all: &Config, place: usize) -> Config {
    let mut one = Config::new();
    match &all.get_hosts()[place] {
        Host::Tcp(name) => one.host(name),
        Host::Unix(path) => one.host_path(path),
    };
    // One address or port may be given for each host, or one port for all.
    all.get_hostaddrs().get(place).map(|address| one.hostaddr(*address));
    all.get_ports().get(place).or(all.get_ports().first()).map(|port| one.port(*port));
    all.get_user().map(|user| one.user(user));
    all.get_password().map(|password| one.password(password));
    all.get_dbname().map(|name| one.dbname(name));
    all.get_options().filter(|options| !options.is_empty()).map(|options| one.options(options));
    all.get_application_name().map(|name| one.application_name(name));
    all.get_connect_timeout().map(|time| one.connect_timeout(*time));
    all.get_tcp_user_timeout().map(|time| one.tcp_user_timeout(*time));
    all.get_keepalives_interval().map(|time| one.keepalives_interval(time));
    all.get_keepalives_retries().map(|times| one.keepalives_retries(times));
    one.keepalives(all.get_keepalives()).keepalives_idle(all.get_keepalives_idle());
    one.ssl_mode(all.get_ssl_mode()).ssl_negotiation(all.get_ssl_negotiation());
    one.channel_binding(all.get_channel_binding()).target_session_attrs(all.get_target_session_attrs());
    one
}

fn tls(mode: SslMode) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if mode != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            bail!("this system has no CA certificates (package ca-certificates): no TLS to the database without them");
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.context("TLS")?.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use crate::sqlkit::postgres::hosts::*;

    #[tokio::test]
    async fn a_host_that_says_nothing_keeps_nobody_from_the_next() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let silent = format!("127.0.0.1:{}", silent.local_addr().expect("bound").port());
        let database = test_postgres::Database::new();
        let (user, rest) = database.url().split_once('@').expect("a user");
        let hosts = Hosts::parse(&format!("{user}@{silent},{rest}"), "").expect("it can be read");
        drop(hosts.connect().await.expect("the second one answers"));
        assert!(matches!(hosts.answer().await, Answer::Of(server) if server.contains("127.0.0.1")));
        let alone = Hosts::parse(&format!("{user}@{silent}/recado"), "").expect("it can be read");
        assert!(matches!(alone.answer().await, Answer::None), "it lets nobody in");
    }

    #[test]
    fn each_host_has_its_own_port_and_what_is_said_for_all() {
        let url = "postgres://ana:segredo@db1:5001,db2:5002/recado?connect_timeout=7&application_name=loja";
        let hosts = Hosts::parse(url, "-c a=b").expect("it can be read");
        let shown: Vec<_> = hosts.each.iter().map(|one| (one.get_hosts().to_vec(), one.get_ports().to_vec())).collect();
        let host = |name: &str, port| (vec![Host::Tcp(name.to_owned())], vec![port]);
        assert_eq!(shown, [host("db1", 5001), host("db2", 5002)]);
        for one in &*hosts.each {
            assert_eq!((one.get_user(), one.get_password()), (Some("ana"), Some(&b"segredo"[..])));
            assert_eq!((one.get_dbname(), one.get_options()), (Some("recado"), Some("-c a=b")));
            assert_eq!(one.get_application_name(), Some("loja"));
            assert_eq!(one.get_connect_timeout(), Some(&Duration::from_secs(7)));
            assert_eq!(one.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
            assert_eq!(one.get_ssl_mode(), SslMode::Require);
        }
    }
}
