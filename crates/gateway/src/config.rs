//! Every setting of the server: by flag, or by the variable named beside it.
//!
//! The texts are those of `--help`, and of the table in `docs/settings.md`, which a test writes from here.

mod addresses;
mod metrics;
mod times;
mod variables;

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use recado_domain::pacing::Pacing;
use recado_domain::phone::Country;
use recado_providers::outbound::address::Network;
use recado_store::sealed::KeyRing;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use crate::origin::Origin;
pub use addresses::address;
use addresses::{node_url, public_url};
pub use metrics::MetricsConfig;
pub use times::time;
use times::{time_at_least_a_second, time_of_a_connection, time_of_a_drain};
pub use variables::{exit, name_variable};

/// Where the files are.
#[derive(Debug, Clone, Args)]
pub struct DataDir {
    /// Directory of the store, the sandbox and the control socket
    #[arg(long, env = DATA_DIR.0, hide_env_values = true, default_value = DATA_DIR.1, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// The environment variable of the data directory, and its default.
const DATA_DIR: (&str, &str) = ("RECADO_DATA_DIR", "data");

impl DataDir {
    /// The default directory.
    pub fn untyped() -> PathBuf {
        std::env::var_os(DATA_DIR.0).unwrap_or_else(|| DATA_DIR.1.into()).into()
    }
}

/// The settings of `recado serve`.
#[derive(Debug, Clone, Args)]
pub struct Config {
    #[command(flatten)]
    pub data_dir: DataDir,

    /// Address to listen on; port 0 chooses a free one, which the first line of standard output names
    #[arg(long, env = "RECADO_LISTEN", hide_env_values = true, default_value = "127.0.0.1:8080", value_name = "ADDR",
          value_parser = address)]
    pub listen: SocketAddr,

    /// Connections at a time; further ones wait to be accepted
    #[arg(long, env = "RECADO_MAX_CONNECTIONS", hide_env_values = true, default_value_t = 16_384, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// How long an idle connection stays open; clients, such as a load balancer, should close it earlier
    #[arg(long, env = "RECADO_IDLE_TIMEOUT", hide_env_values = true, default_value = "75s", value_name = "TIME",
          value_parser = time_of_a_connection)]
    pub idle_timeout: Duration,

    /// How long calls are still accepted after SIGTERM, while `/health/ready` answers 503, so that load balancers use other nodes; a second signal ends the wait
    #[arg(long, env = "RECADO_DRAIN", hide_env_values = true, default_value = "1s", value_name = "TIME",
          value_parser = time_of_a_drain)]
    pub drain: Duration,

    /// How long calls and sends in flight may take after the drain; a further signal ends the wait
    #[arg(long, env = "RECADO_SHUTDOWN_GRACE", hide_env_values = true, default_value = "30s", value_name = "TIME",
          value_parser = time)]
    pub shutdown_grace: Duration,

    #[command(flatten)]
    pub node: NodeConfig,

    #[command(flatten)]
    pub log: LogConfig,

    #[command(flatten)]
    pub metrics: MetricsConfig,

    #[command(flatten)]
    pub behaviour: Behaviour,
}

/// This process as a node on a shared PostgreSQL.
#[derive(Debug, Clone, Args)]
pub struct NodeConfig {
    /// What this process does: answer calls (api), send (dispatch), or both. Health is always answered
    #[arg(
        long,
        env = "RECADO_ROLES",
        hide_env_values = true,
        default_value = "api,dispatch",
        value_name = "ROLES",
        value_delimiter = ','
    )]
    pub roles: Vec<Role>,

    /// Name of this node in logs; default: the host's name
    #[arg(long, env = "RECADO_NODE_NAME", hide_env_values = true, value_name = "NAME")]
    pub node_name: Option<String>,

    /// Where other nodes reach this one, such as `http://10.0.0.5:8080`. They forward calls about a WhatsApp Web session to its node; without it they answer 503
    #[arg(long, env = "RECADO_NODE_URL", hide_env_values = true, value_name = "URL", value_parser = node_url)]
    pub node_url: Option<String>,
}

/// Whether the server shows its documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Docs {
    /// For every caller.
    #[default]
    On,
    /// The paths do not exist.
    Off,
}

/// The treatment of a field that the call does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum UnknownFields {
    /// Refuse the call: silently dropping a misspelled field would lose data.
    #[default]
    Refuse,
    /// Accept the call, and name the field in `X-Ignored-Fields`.
    Ignore,
}

/// The roles of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Answers calls.
    Api,
    /// Sends.
    Dispatch,
}

impl NodeConfig {
    /// Whether this process has the role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// The configured name, or the host's.
    pub fn name(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.node_name.clone().unwrap_or_else(host)
    }
}

/// The location of the store, if it is not in the data directory.
#[derive(Debug, Clone, Args)]
pub struct Database {
    /// PostgreSQL database, in place of a file in the data directory: `postgres://user:password@host:5432/database`. Several hosts, separated by commas, are tried until one takes writes. With TLS, unless the host is this machine or the URL says sslmode=disable
    #[arg(long, env = "RECADO_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<SecretString>,

    /// The same database without a pooler, for migrations and notifications; needed only if the other URL leads to a transaction pooler
    #[arg(
        long,
        env = "RECADO_DATABASE_DIRECT_URL",
        hide_env_values = true,
        value_name = "URL",
        requires = "database_url"
    )]
    pub database_direct_url: Option<SecretString>,

    /// Connections of this process to PostgreSQL; eleven more are for leases, limits, notifications, the sandbox and accepting
    #[arg(long, env = "RECADO_DATABASE_CONNECTIONS", hide_env_values = true, default_value_t = 16, value_name = "N",
          value_parser = clap::value_parser!(u16).range(2..=500))]
    pub database_connections: u16,
}

impl Database {
    /// The URL, and the one that leads to the database directly; `None` if the store is a file.
    pub fn urls(&self) -> Option<(&str, &str)> {
        let url = self.database_url.as_ref()?.expose_secret();
        Some((url, self.database_direct_url.as_ref().map_or(url, |url| url.expose_secret())))
    }
}

/// The source of the keys that encrypt secrets in the store.
#[derive(Debug, Clone, Args)]
pub struct SecretKey {
    /// File with the key that encrypts secrets in the store, as `recado secrets new-key` prints it; further keys in it only
    /// decrypt. The variable `RECADO_SECRET_KEY` holds the key itself, in place of a file
    #[arg(long, env = "RECADO_SECRET_KEY_FILE", hide_env_values = true, value_name = "FILE")]
    pub secret_key_file: Option<PathBuf>,
}

/// The variable with the key itself. It has no flag, because every user of a machine can read command lines.
pub const SECRET_KEY: &str = "RECADO_SECRET_KEY";
/// The most bytes of a key file.
const SECRET_KEY_LIMIT: usize = 64 << 10;

impl SecretKey {
    /// Reads the keys; the ring is empty if none is given.
    pub fn read(&self) -> Result<KeyRing> {
        let (place, text) = match (&self.secret_key_file, std::env::var_os(SECRET_KEY)) {
            (None, None) => return Ok(KeyRing::default()),
            (Some(_), Some(_)) => {
                bail!("{SECRET_KEY} and RECADO_SECRET_KEY_FILE (--secret-key-file) are both given: remove one")
            }
            (None, Some(key)) => (SECRET_KEY.to_owned(), Zeroizing::new(key.into_encoded_bytes())),
            (Some(path), None) => {
                let shown = path.display().to_string();
                // The buffer has the full capacity, because growing would leave copies behind.
                let mut text = Zeroizing::new(Vec::with_capacity(SECRET_KEY_LIMIT));
                let read = File::open(path).and_then(|file| file.take(SECRET_KEY_LIMIT as u64).read_to_end(&mut text));
                read.with_context(|| format!("cannot read the secret key from {shown}"))?;
                (shown, text)
            }
        };
        // A file that is not text contains no valid key.
        let ring = KeyRing::parse(std::str::from_utf8(&text).unwrap_or("?"));
        ring.with_context(|| format!("no secret key can be read from {place}"))
    }
}

/// What is logged, to standard error.
#[derive(Debug, Clone, Args)]
pub struct LogConfig {
    /// Least important level to log: error, warn, info, debug (a line for each request), trace, or off
    #[arg(long, env = "RECADO_LOG", hide_env_values = true, default_value = "info", value_name = "LEVEL")]
    pub log: tracing_subscriber::filter::LevelFilter,

    /// Form of the log lines, which go to standard error
    #[arg(long, env = "RECADO_LOG_FORMAT", hide_env_values = true, default_value = "text", value_name = "FORM")]
    pub log_format: LogFormat,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The treatment of calls and messages.
#[derive(Debug, Clone, Args)]
pub struct Behaviour {
    #[command(flatten)]
    pub database: Database,

    /// What to do with a body field that a call to send does not know
    #[arg(long, env = "RECADO_UNKNOWN_FIELDS", hide_env_values = true, default_value = "refuse", value_name = "WHAT")]
    pub unknown_fields: UnknownFields,

    /// Country of numbers without a `+` and without a country code, by its two letters, such as BR; without it they are
    /// refused. An institution can have its own: `recado institutions update --default-country`
    #[arg(long, env = "RECADO_DEFAULT_COUNTRY", hide_env_values = true, value_name = "COUNTRY")]
    pub default_country: Option<Country>,

    /// Whether /docs and /openapi.json are served
    #[arg(long, env = "RECADO_DOCS", hide_env_values = true, default_value = "on", value_name = "WHETHER")]
    pub docs: Docs,

    /// Address by which callers reach this server, such as `https://recado.example.com`. With it `mediaUrl` is a whole URL, without it a path
    #[arg(long, env = "RECADO_PUBLIC_URL", hide_env_values = true, value_name = "URL", value_parser = public_url)]
    pub public_url: Option<String>,

    /// Origins of pages that may call Recado from a browser, such as `https://app.example.com`, separated by commas; default: none
    #[arg(
        long = "cors-origin",
        env = "RECADO_CORS_ORIGIN",
        hide_env_values = true,
        value_name = "ORIGINS",
        value_delimiter = ','
    )]
    pub cors_origins: Vec<Origin>,

    /// Private networks that URLs of webhooks, and of files of the sandbox, may lead to, also without TLS, such as `10.1.0.0/16,fd00::/8`; default: none, public addresses only, with TLS
    #[arg(long, env = "RECADO_ALLOW_NETWORKS", hide_env_values = true, value_name = "NETWORKS", value_delimiter = ',')]
    pub allow_networks: Vec<Network>,

    /// Addresses of this server, to which URLs of webhooks may not lead.
    #[arg(skip)]
    pub own_addresses: Vec<IpAddr>,

    /// How long an accepted message may wait to be sent before it expires
    #[arg(long, env = "RECADO_MESSAGE_TTL", hide_env_values = true, default_value = "24h", value_name = "TIME",
          value_parser = time_at_least_a_second)]
    pub message_ttl: Duration,

    /// Messages that may wait on one channel; further ones are answered 503
    #[arg(long, env = "RECADO_BACKLOG_CAP", hide_env_values = true, default_value_t = 100_000, value_name = "N")]
    pub backlog_cap: usize,

    /// How long finished messages are kept; under 7 days, late statuses of Meta match none. The sandbox's phone keeps them
    /// for a day at least
    #[arg(long, env = "RECADO_KEEP_MESSAGES", hide_env_values = true, default_value = "90days", value_name = "TIME",
          value_parser = time_at_least_a_second)]
    pub keep_messages: Duration,

    /// How long the event stream goes back, and dead deliveries of webhooks can be sent again. Events of a message go with it, too
    #[arg(long, env = "RECADO_KEEP_EVENTS", hide_env_values = true, default_value = "14days", value_name = "TIME",
          value_parser = time_at_least_a_second)]
    pub keep_events: Duration,

    /// How long the bytes of received files are stored after they were last read. After that they are fetched again, as long as the network has them
    #[arg(long, env = "RECADO_KEEP_INBOUND_MEDIA", hide_env_values = true, default_value = "7days", value_name = "TIME",
          value_parser = time_at_least_a_second)]
    pub keep_inbound_media: Duration,

    /// How long an Idempotency-Key is remembered
    #[arg(long, env = "RECADO_KEEP_IDEMPOTENCY", hide_env_values = true, default_value = "24h", value_name = "TIME",
          value_parser = time_at_least_a_second)]
    pub keep_idempotency: Duration,

    /// Failed authentications a minute from one address before they are answered 429
    #[arg(long, env = "RECADO_AUTH_FAILURES", hide_env_values = true, default_value_t = 300, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub auth_failures: u32,

    /// Shortest send interval of a sandbox channel
    #[arg(long, env = "RECADO_SANDBOX_DELAY_MIN", hide_env_values = true, default_value = "0s", value_name = "TIME",
          value_parser = time)]
    pub sandbox_delay_min: Duration,

    /// Longest send interval of a sandbox channel; each interval is random between the two
    #[arg(long, env = "RECADO_SANDBOX_DELAY_MAX", hide_env_values = true, default_value = "0s", value_name = "TIME",
          value_parser = time)]
    pub sandbox_delay_max: Duration,

    /// Address of Meta's Graph API; by http on this machine only
    #[arg(
        long,
        env = "RECADO_GRAPH_URL",
        hide_env_values = true,
        default_value = "https://graph.facebook.com",
        value_name = "URL"
    )]
    pub graph_url: String,

    /// Version of the Graph API
    #[arg(long, env = "RECADO_GRAPH_VERSION", hide_env_values = true, default_value = "v23.0", value_name = "VERSION")]
    pub graph_version: String,

    #[command(flatten)]
    pub whatsapp_web: WhatsAppWebConfig,

    #[command(flatten)]
    pub secret_key: SecretKey,
}

/// How channels that a phone links reach WhatsApp. A build without WhatsApp Web ignores it.
#[derive(Debug, Clone, Args)]
pub struct WhatsAppWebConfig {
    /// Version of WhatsApp Web to name, such as 2.3000.1012345678; without it WhatsApp is asked. For when that fails, or is refused
    #[arg(long, env = "RECADO_WHATSAPP_WEB_VERSION", hide_env_values = true, value_name = "VERSION",
          value_parser = three_numbers)]
    pub whatsapp_web_version: Option<(u32, u32, u32)>,

    /// Most logins of linked phones a second: after an outage the channels reconnect one after another. Pairings have a limit of their own
    #[arg(long, env = "RECADO_WHATSAPP_WEB_LOGINS", hide_env_values = true, default_value_t = 20, value_name = "PER_SECOND",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub whatsapp_web_logins: u32,

    /// Another network than WhatsApp's, on this machine, for tests
    #[arg(long, env = "RECADO_WHATSAPP_WEB_URL", hide_env_values = true, hide = true, value_name = "URL")]
    pub whatsapp_web_url: Option<String>,
}

impl WhatsAppWebConfig {
    /// The options for the driver.
    #[cfg(feature = "whatsapp-web")]
    pub fn options(&self) -> Result<recado_whatsapp_web::Options> {
        let options = recado_whatsapp_web::Options {
            url: self.whatsapp_web_url.clone(),
            version: self.whatsapp_web_version,
            device_name: "Recado".to_owned(),
            logins: recado_whatsapp_web::Logins::new(self.whatsapp_web_logins),
        };
        if self.whatsapp_web_url.is_some() {
            options.check().context("RECADO_WHATSAPP_WEB_URL")?;
        }
        Ok(options)
    }
}

fn three_numbers(text: &str) -> Result<(u32, u32, u32), String> {
    let numbers: Vec<u32> = text.split('.').map(str::parse).collect::<Result<_, _>>().unwrap_or_default();
    <[u32; 3]>::try_from(numbers).map(Into::into).map_err(|_| "three numbers with points between them".to_owned())
}

/// A parser for the variables alone.
#[derive(clap::Parser)]
struct FromEnvironment {
    #[command(flatten)]
    behaviour: Behaviour,
}

impl Behaviour {
    /// The defaults and the variables, for commands that have no flags for them.
    pub fn from_environment() -> Self {
        let parsed = <FromEnvironment as clap::Parser>::try_parse_from(["recado"]);
        let command = <FromEnvironment as clap::CommandFactory>::command;
        parsed.unwrap_or_else(|error| exit(&name_variable(error, &command(), std::iter::empty()))).behaviour
    }

    /// What is put before the path of a file; nothing without a public address.
    pub fn media_base(&self) -> &str {
        self.public_url.as_deref().unwrap_or_default()
    }

    /// The send interval of the sandbox.
    pub fn sandbox_pacing(&self) -> Pacing {
        Pacing { min: self.sandbox_delay_min, max: self.sandbox_delay_max }
    }
}
