//! The processes under test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fake_graph::{FakeGraph, Number};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::load::{Client, Keys};
use crate::postgres::Database;
use crate::tables::Tables;
use crate::{Engine, Setting};

/// Keys that the calls use in rotation. Each has the highest rate limit, so that limits are checked and never reached.
const KEYS: usize = 256;
const RATE_LIMIT: u32 = 10_000;

/// The scopes of the key that creates the others.
const SCOPES: &str = "messages.send,channels.write,keys.write";
const SCOPES_OF_WEBHOOKS: &str = "messages.send,channels.write,keys.write,webhooks.write,messages.read,channels.read,\
                                  conversations.read,contacts.read";

/// The key that encrypts the secrets of a channel.
pub const SECRET_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A store with keys and channels, and a data directory for each server on it.
pub struct Home {
    recado: PathBuf,
    dir: TempDir,
    /// The environment variables of its servers: the network of its channels, and the database.
    variables: Vec<(&'static str, String)>,
    pub tables: Tables,
    /// Dropped after the connection to it.
    database: Option<Database>,
    /// The key that created the others.
    pub maker: String,
    pub keys: Keys,
    pub channels: u64,
}

impl Home {
    /// A store with this many connected sandbox channels, `c0`, `c1` and so on.
    pub async fn make(setting: &Setting, channels: u64) -> Result<Self> {
        Self::sandboxes(setting, channels, Vec::new(), SCOPES).await
    }

    /// The same, whose maker may create webhooks that lead to this machine.
    pub async fn with_webhooks(setting: &Setting, channels: u64) -> Result<Self> {
        let variables = secretly("RECADO_ALLOW_NETWORKS", "127.0.0.0/8".to_owned());
        Self::sandboxes(setting, channels, variables, SCOPES_OF_WEBHOOKS).await
    }

    async fn sandboxes(
        setting: &Setting,
        channels: u64,
        variables: Vec<(&'static str, String)>,
        scopes: &str,
    ) -> Result<Self> {
        let mut home = Self::init(setting, "test", variables, scopes).await?;
        home.channels = channels;
        let server = home.serve()?;
        home.keys = make_keys(server.address, &home.maker).await?;
        make_channels(server.address, &home.maker, "SANDBOX", channels).await?;
        server.stop()?;
        home.set_channels("CONNECTED")?;
        Ok(home)
    }

    /// A store with one Cloud API channel, `c0`, linked to a number of this network.
    pub async fn linked(setting: &Setting, graph: &FakeGraph) -> Result<Self> {
        let number = Number::example("106540352242922");
        graph.add_number(number.clone());
        let mut home = Self::init(setting, "live", secretly("RECADO_GRAPH_URL", graph.url()), SCOPES).await?;
        home.channels = 1;
        home.keys.add(&home.maker);
        let server = home.serve()?;
        let mut client = Client::connect(server.address).await?;
        make_channel(&mut client, &home.maker, "WHATSAPP_WABA", 0).await?;
        let link = json!({
            "phoneNumberId": number.id, "businessAccountId": number.business_account_id,
            "accessToken": number.access_token, "verifyToken": "bench", "appSecret": number.app_secret,
        });
        client.post("/v1/channels/c0/connect", &home.maker, link.to_string()).await?.expect(200)?;
        server.stop()?;
        Ok(home)
    }

    /// A store with this many WhatsApp Web channels, `c0`, `c1` and so on, that no phone has linked yet.
    #[cfg(feature = "whatsapp-web")]
    pub async fn unlinked(setting: &Setting, network: String, channels: u64) -> Result<Self> {
        let mut home = Self::init(setting, "live", secretly("RECADO_WHATSAPP_WEB_URL", network), SCOPES).await?;
        home.channels = channels;
        home.keys.add(&home.maker);
        let server = home.serve()?;
        make_channels(server.address, &home.maker, "WHATSAPP_BAILEYS", channels).await?;
        server.stop()?;
        Ok(home)
    }

    /// A store with one key, and no channel.
    async fn init(
        setting: &Setting,
        environment: &str,
        mut variables: Vec<(&'static str, String)>,
        scopes: &str,
    ) -> Result<Self> {
        std::fs::create_dir_all(&setting.dir)?;
        let dir = tempfile::tempdir_in(&setting.dir)?;
        let recado = setting.recado.clone();
        let database = (setting.engine == Engine::Postgres).then(|| setting.postgres.database());
        variables.extend(database.iter().map(|database| ("RECADO_DATABASE_URL", database.url())));
        let of_first = node_dir(&dir, 0);
        let command = || {
            let mut command = Command::new(&recado);
            command.envs(variables.iter().cloned());
            command
        };
        run(command().arg("init").arg("--data-dir").arg(&of_first))?;
        let mut create = command();
        create.args(["keys", "create", "--name", "bench", "--environment", environment, "--rate-limit", "unlimited"]);
        create.args(["--scopes", scopes, "--json", "--data-dir"]).arg(&of_first);
        let made: Value = serde_json::from_str(&run(&mut create)?)?;
        let maker = made["key"].as_str().context("keys create printed no key")?.to_owned();
        let tables = match &database {
            Some(database) => Tables::in_postgres(&database.url()).await?,
            None => Tables::Files(of_first),
        };
        Ok(Self { recado, dir, variables, tables, database, maker, keys: Keys::default(), channels: 0 })
    }

    /// Starts a server on it.
    pub fn serve(&self) -> Result<Server> {
        self.node(0)
    }

    /// Starts the server with this number on it.
    pub fn node(&self, number: usize) -> Result<Server> {
        let mut command = Command::new(&self.recado);
        command.arg("serve").args(["--listen", "127.0.0.1:0", "--log", "warn", "--backlog-cap", "100000000"]);
        command.envs(self.variables.iter().cloned());
        if self.is_shared() {
            command.args(["--node-name", &format!("node{number}")]);
        }
        Server::start(command.arg("--data-dir").arg(node_dir(&self.dir, number)))
    }

    /// Whether several servers may use it.
    pub fn is_shared(&self) -> bool {
        self.database.is_some()
    }

    #[cfg(feature = "whatsapp-web")]
    pub fn store(&self) -> PathBuf {
        node_dir(&self.dir, 0).join(crate::tables::STORE)
    }

    /// Pauses or connects every channel at once in the tables, because ten thousand calls would disturb the measurement.
    /// Only while no server runs.
    pub fn set_channels(&self, state: &str) -> Result<()> {
        let sql = format!("UPDATE channels SET state = '{state}', connected_at = coalesce(connected_at, created_at)");
        self.tables.change(&sql)
    }

    /// Starts this many servers, and resumes the channels once they are spread over the servers.
    pub async fn send_from(&self, nodes: usize) -> Result<Vec<Server>> {
        if !self.is_shared() {
            self.set_channels("CONNECTED")?;
            return Ok(vec![self.serve()?]);
        }
        let servers = (0..nodes).map(|number| self.node(number)).collect::<Result<_>>()?;
        self.wait_until_spread(nodes).await?;
        self.set_channels("CONNECTED")?;
        // The same notification that a node sends to the others.
        self.tables.change(
            "SELECT pg_notify('recado', 'work ' || string_agg(key::text, ','))
             FROM channels GROUP BY key / 300",
        )?;
        Ok(servers)
    }

    /// Waits until each of the nodes owns its share of the channels.
    pub async fn wait_until_spread(&self, nodes: usize) -> Result<()> {
        let sql = format!(
            "SELECT count(*) = {nodes} AND sum(held) = (SELECT count(*) FROM channels)
                    AND max(held) <= ceil(sum(held) / {nodes})
             FROM (SELECT count(*) AS held FROM channels WHERE lease_node IS NOT NULL GROUP BY lease_node) AS shares"
        );
        let until = Instant::now() + Duration::from_mins(1);
        while self.tables.number(&sql)? == 0 {
            if Instant::now() > until {
                bail!("the channels are not spread over {nodes} nodes after a minute");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// The data directory of a node.
fn node_dir(dir: &TempDir, number: usize) -> PathBuf {
    dir.path().join(format!("node{number}"))
}

/// The environment variables for a network whose channels have secrets.
fn secretly(variable: &'static str, url: String) -> Vec<(&'static str, String)> {
    vec![("RECADO_SECRET_KEY", SECRET_KEY.to_owned()), (variable, url)]
}

async fn make_keys(address: SocketAddr, maker: &str) -> Result<Keys> {
    let mut client = Client::connect(address).await?;
    let mut keys = Keys::default();
    for number in 0..KEYS {
        let body = json!({
            "name": format!("bench {number}"), "environment": "test", "permissions": ["messages.send"],
            "rateLimit": RATE_LIMIT,
        });
        let answer = client.post("/v1/api-keys", maker, body.to_string()).await?.expect(201)?;
        let made: Value = serde_json::from_slice(&answer.body)?;
        keys.add(made["data"]["key"].as_str().with_context(|| format!("no key in {made}"))?);
    }
    Ok(keys)
}

async fn make_channels(address: SocketAddr, maker: &str, kind: &str, channels: u64) -> Result<()> {
    let connections = 64_u64;
    let make = async |first: u64| -> Result<()> {
        let mut client = Client::connect(address).await?;
        for number in (first..channels).step_by(usize::try_from(connections)?) {
            make_channel(&mut client, maker, kind, number).await?;
        }
        Ok(())
    };
    futures_util::future::try_join_all((0..connections).map(make)).await?;
    Ok(())
}

async fn make_channel(client: &mut Client, maker: &str, kind: &str, number: u64) -> Result<()> {
    let body = json!({ "type": kind, "name": "bench", "id": format!("c{number}") });
    client.post("/v1/channels", maker, body.to_string()).await?.expect(201)?;
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let done = command.stderr(Stdio::inherit()).output().with_context(|| format!("{command:?}"))?;
    if !done.status.success() {
        bail!("{command:?} failed");
    }
    Ok(String::from_utf8(done.stdout)?)
}

/// A running process, killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process until it reports that it is ready.
    pub ready_after: Duration,
}

impl Server {
    /// The bare handler.
    pub fn bare() -> Result<Self> {
        let bare = std::env::current_exe()?.with_file_name("bare");
        Self::start(&mut Command::new(bare))
    }

    /// Starts a process that prints its address on its first line, and waits until it answers.
    fn start(command: &mut Command) -> Result<Self> {
        let started = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
        let address = line.trim().rsplit("http://").next().unwrap_or_default().parse();
        let address = address.with_context(|| format!("no address in {line:?}"))?;
        while !is_ready(address) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { child, address, ready_after: started.elapsed() })
    }

    /// The resident megabytes: now, and at most since the start.
    pub fn memory(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let of = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no memory in the status")?;
            let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
            Ok(kilobytes * 1_024.0 / 1e6)
        };
        Ok((of("VmRSS:")?, of("VmHWM:")?))
    }

    /// The seconds of processor time of the process. They are less noisy than a rate.
    pub fn busy(&self) -> Result<f64> {
        // Linux has a hundred ticks a second in /proc (`USER_HZ`).
        const TICK: f64 = 0.01;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("a status has a name")?;
        let ticks = |place: usize| fields.split_whitespace().nth(place).unwrap_or_default().parse::<f64>();
        Ok(TICK * (ticks(11)? + ticks(12)?))
    }

    /// Stops the process in order.
    pub fn stop(mut self) -> Result<()> {
        run(Command::new("kill").arg(self.child.id().to_string()))?;
        if !self.child.wait()?.success() {
            bail!("the server did not end in good order");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process answers there. The bare handler answers that it does not know the path.
fn is_ready(address: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<[u8; 12]> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head)
    };
    ask().is_ok_and(|head| head.ends_with(b" 200") || head.ends_with(b" 404"))
}
