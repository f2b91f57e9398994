//! The hosts of the database's URL, one of which is the primary.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use recado_domain::error_chain::causes;
use rustls::{ClientConfig, RootCertStore};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::sqlkit::postgres::db::PATIENCE;
use crate::sqlkit::postgres::failure::describe;

/// The default connect timeout of a host.
const CONNECT: Duration = Duration::from_secs(2);
/// How long all hosts together may take until a connection is ready.
const CONNECT_ANY: Duration = Duration::from_secs(4);

/// A client and its connection, which the caller has to poll.
type Connected = (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>);

/// The hosts of a URL.
#[derive(Clone)]
pub struct Hosts {
    each: Arc<[Config]>,
    pub tls: MakeRustlsConnect,
}

impl Hosts {
    /// Parses the database's URL. Each connection gets these options.
    pub fn parse(url: &str, options: &str) -> anyhow::Result<Self> {
        let mut config = config(url)?;
        let given = config.get_options().unwrap_or_default();
        config.options(format!("{given} {options}").trim());
        let each = (0..config.get_hosts().len()).map(|place| only(&config, place)).collect();
        let tls = MakeRustlsConnect::new(tls(config.get_ssl_mode())?);
        Ok(Self { each, tls })
    }

    /// Connects to the primary.
    pub async fn connect(&self) -> anyhow::Result<Connected> {
        let connected = tokio::time::timeout(CONNECT_ANY, self.race()).await;
        connected.context("no host of the database answers")?.map_err(describe)
    }

    /// Checks that the database answers and commits. It uses a new connection, because all connections of a pool may be
    /// waiting.
    pub async fn probe(&self) -> ProbeResult {
        // A server that is starting up refuses connections; standbys are skipped.
        let (client, connection) = match tokio::time::timeout(CONNECT_ANY, self.race()).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) if is_full(&error) => return ProbeResult::Full,
            Ok(Err(_)) | Err(_) => return ProbeResult::None,
        };
        let connection = tokio::spawn(connection);
        let kept = tokio::time::timeout(CONNECT_ANY, client.simple_query(PROBE_SQL)).await;
        if kept.is_err() {
            // The probe waits for a standby, and would occupy a connection until the standby answers. Cancelling a probe
            // loses no data.
            drop(tokio::time::timeout(CONNECT_ANY, client.cancel_token().cancel_query(self.tls.clone())).await);
        }
        connection.abort();
        let server = kept.ok().and_then(Result::ok).and_then(|rows| match rows.into_iter().nth(1) {
            Some(SimpleQueryMessage::Row(row)) => row.get(0).map(str::to_owned),
            _ => None,
        });
        server.map_or(ProbeResult::None, ProbeResult::Server)
    }

    /// Tries all hosts concurrently, and uses the first primary. So a former primary that does not answer does not delay the
    /// connection to the new one.
    async fn race(&self) -> Result<Connected, Error> {
        let mut attempts: FuturesUnordered<_> = self.each.iter().map(|one| one.connect(self.tls.clone())).collect();
        let mut why = None;
        loop {
            match attempts.next().await {
                Some(Ok(connected)) => return Ok(connected),
                // "Too many connections" is more useful than "is a standby".
                Some(Err(error)) if !why.as_ref().is_some_and(is_full) => why = Some(error),
                Some(Err(_)) => {}
                None => return Err(why.expect("a URL has a host")),
            }
        }
    }
}

/// Writes to PostgreSQL's log, so that its commit waits for the disk and a standby, like the commit of a message. Returns
/// an id that is new after each start of the server, also behind a pooler.
const PROBE_SQL: &str = "SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
                    FROM pg_logical_emit_message(true, 'recado', '')";

/// The result of a probe.
pub enum ProbeResult {
    /// The database answers. The text is new after each start of the server.
    Server(String),
    /// The database has no free connection.
    Full,
    /// No host takes writes.
    None,
}

fn is_full(error: &Error) -> bool {
    error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
}

/// Used by the pools, which limit the time themselves.
impl Connect for Hosts {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        async {
            let (client, connection) = self.race().await?;
            // Whoever uses the client gets the error of the connection.
            Ok((client, tokio::spawn(async move { drop(connection.await) })))
        }
        .boxed()
    }
}

/// Why the parser refuses a URL. The parser's own text may repeat a part of the URL, and so the password. The name of a known
/// option is safe to show.
fn why_unreadable(error: &Error) -> String {
    let text = causes(error);
    match text.split('`').nth(1).filter(|_| text.contains("invalid value for option")) {
        Some("sslmode") => "its sslmode must be disable, prefer or require".to_owned(),
        Some(option) => format!("the value of {option} is invalid"),
        None => "it must be like postgres://user:password@host:5432/database".to_owned(),
    }
}

/// Parses the URL, and fills in defaults.
fn config(url: &str) -> anyhow::Result<Config> {
    let mut config = match url.parse::<Config>() {
        Ok(config) => config,
        Err(error) => bail!("the database's URL cannot be read: {}", why_unreadable(&error)),
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
        // "Prefer" would continue without TLS if an attacker in between says that there is none.
        let crosses_a_network = !config.get_hosts().iter().all(here);
        config.ssl_mode(if crosses_a_network { SslMode::Require } else { SslMode::Disable });
    }
    Ok(config)
}

/// The configuration of one host.
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
    async fn a_host_that_does_not_answer_delays_no_other_host() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let silent = format!("127.0.0.1:{}", silent.local_addr().expect("bound").port());
        let database = test_postgres::Database::new();
        let (user, rest) = database.url().split_once('@').expect("a user");
        let hosts = Hosts::parse(&format!("{user}@{silent},{rest}"), "").expect("it can be read");
        drop(hosts.connect().await.expect("the second one answers"));
        assert!(matches!(hosts.probe().await, ProbeResult::Server(server) if server.contains("127.0.0.1")));
        let alone = Hosts::parse(&format!("{user}@{silent}/recado"), "").expect("it can be read");
        assert!(matches!(alone.probe().await, ProbeResult::None), "it admits no connection");
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
