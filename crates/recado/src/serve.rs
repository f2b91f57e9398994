//! `recado serve`: starts the parts, serves, and ends them in order.

use std::io::{self, Write};
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use recado_domain::channel::ChannelType;
use recado_domain::clock::Millis;
use recado_gateway::WHATSAPP_WEB;
use recado_gateway::api::Api;
use recado_gateway::config::{Config, Role};
use recado_gateway::control::Socket;
use recado_gateway::gateway::{self, Gateway};
use recado_gateway::lock::{DataDirLock, make_private};
use recado_gateway::log::Log;
use recado_gateway::metrics::METRICS;
use recado_gateway::operations::secrets;
use recado_gateway::server::{Limits, Steps};
use recado_gateway::shutdown::Signals;
use recado_gateway::systemd::Systemd;
use recado_gateway::{
    contents, events, housekeeping, idle, media, outages, read_signals, refused, schedule, scrape, sealed, server,
    stranded, unfinished, webhooks,
};
use recado_store::clock::rfc3339;
use recado_store::nodes::NewNode;
use recado_store::sealed::KeyRing;
use recado_store::{StoreError, postgres};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::check;
use crate::exit::{self, Exit, end_with};
use crate::settings::{self, Setting};

/// Serve the API until SIGTERM
#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    config: Config,
    /// Check the settings, the store and the addresses, and end: 0 if the server would start. Works beside a running server
    #[arg(long)]
    check: bool,
}

impl Serve {
    pub async fn run(self, settings: &[Setting]) -> Exit {
        if self.check {
            return exit::end(check::run(&self.config).await.map(Exit::done));
        }
        let log = Log::start(&self.config.log);
        announce_start(&self.config);
        settings::log(settings);
        let served = serve(self.config).await.map(Exit::done);
        // Through the log as well: a failed start must end, whatever is behind standard error.
        end_with(served, |why| log.write_plain(why))
    }
}

/// Logs what starts, so that a log shows it before anything goes wrong.
fn announce_start(config: &Config) {
    let engine = if config.behaviour.database.urls().is_some() { "postgresql" } else { "sqlite" };
    let roles: Vec<_> = config.node.roles.iter().filter_map(ValueEnum::to_possible_value).collect();
    let roles = roles.iter().map(PossibleValue::get_name).collect::<Vec<_>>().join(",");
    let (version, data_dir) = (env!("CARGO_PKG_VERSION"), config.data_dir.data_dir.display());
    tracing::info!(version, whatsapp_web = WHATSAPP_WEB, engine, roles, %data_dir, "server starting");
}

/// A store that is newer than the clock: messages would wait, or their order of times would be wrong.
fn check_clock(gateway: &Gateway, created: impl Iterator<Item = Millis>) {
    let now = gateway.clock.now();
    if let Some(newest) = created.max().filter(|newest| *newest > now) {
        let (clock, store) = (rfc3339(now), rfc3339(newest));
        tracing::warn!(clock, store, "clock behind the store: messages may wait until it has caught up");
    }
}

async fn serve(mut config: Config) -> Result<()> {
    let mut signals = Signals::listen_as_server()?;
    let Some(secrets) = prepare(&config, &mut signals).await? else { return Ok(()) };
    let dir = &config.data_dir.data_dir;
    let Some(lock) = unless_stopped(&mut signals, DataDirLock::acquire(dir)).await? else { return Ok(()) };
    let listener = server::listen(config.listen);
    let listener = listener.with_context(|| format!("cannot listen on {}", config.listen))?;
    raise_file_limit(config.max_connections);
    config.behaviour.own_addresses = own_addresses(config.listen.ip());
    let scrapes = listen_for_scrapes(&config)?;
    let Some(gateway) = unless_stopped(&mut signals, open(&config, secrets)).await? else { return Ok(()) };
    let background = TaskTracker::new();
    // Receipts stop last, because messages that were sent during the shutdown may still be acknowledged.
    let receipts_stop = CancellationToken::new();
    start_sandbox(&gateway, &background, receipts_stop.clone());
    background.spawn(Socket::open(dir)?.serve(gateway.clone()));
    let is_started = unless_stopped(&mut signals, start(&config, &gateway, &background)).await?.is_some();
    serve_scrapes(&config, &gateway, &background, scrapes);
    background.close();
    if is_started {
        announce(&listener);
    }
    let (hurry, steps) = (CancellationToken::new(), Steps::new(config.drain, gateway.stop.clone()));
    let serving = tokio::spawn(serve_calls(&config, &gateway, listener, steps.clone(), hurry.clone()));
    let systemd = Arc::new(Systemd::from_environment());
    if is_started {
        systemd.ready();
    }
    let (watched, fed) = (gateway.clone(), systemd.clone());
    let feeding = tokio::spawn(async move { fed.feed_watchdog(&watched).await });
    if is_started {
        signals.next().await;
    }
    systemd.stopping();
    // No load balancer knows of a server that has not started.
    let time = if is_started { config.drain } else { Duration::ZERO };
    drain(time, &gateway, &steps, &mut signals).await;
    let insist = async {
        tokio::select! {
            () = tokio::time::sleep(config.shutdown_grace) => {}
            () = signals.next() => {}
        }
    };
    let ending = end(&gateway, serving, &background, &receipts_stop);
    let in_time = tokio::select! {
        () = ending => true,
        () = insist => false,
    };
    if !in_time {
        // The next start, or another node, rescues what was aborted, as after a crash.
        tracing::warn!("shutdown timed out");
        hurry.cancel();
        gateway.nodes.force_release().await;
    }
    gateway.close().await;
    feeding.abort();
    drop(lock);
    Ok(())
}

/// Waits for a step of the start. `None`: a signal requests a stop.
async fn unless_stopped<T>(signals: &mut Signals, step: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    tokio::select! {
        biased;
        () = signals.next() => {
            tracing::info!("server stopped during its start");
            Ok(None)
        }
        done = step => done.map(Some),
    }
}

/// Answers calls until the server stops.
fn serve_calls(
    config: &Config,
    gateway: &Arc<Gateway>,
    listener: TcpListener,
    steps: Steps,
    hurry: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let api = if config.node.has(Role::Api) { Api::new(gateway.clone()) } else { Api::of_sessions(gateway.clone()) };
    let limits = Limits::new(config.max_connections, config.idle_timeout);
    let open = METRICS.http_connections.clone();
    async move { server::serve(listener, api, limits, steps, open, hurry.cancelled()).await }
}

/// Answers scrapes until the server ends.
fn serve_scrapes(config: &Config, gateway: &Arc<Gateway>, background: &TaskTracker, scrapes: Option<TcpListener>) {
    if let Some(scrapes) = scrapes {
        let most = usize::try_from(config.metrics.metrics_channels).unwrap_or(usize::MAX);
        let data_dir = config.data_dir.data_dir.clone();
        background.spawn(scrape::serve(gateway.clone(), scrapes, most, data_dir));
    }
}

/// Opens the listener for scrapes, if there is one.
fn listen_for_scrapes(config: &Config) -> Result<Option<TcpListener>> {
    let Some(address) = config.metrics.metrics_listen else { return Ok(None) };
    METRICS.begin_to_count_calls();
    let listener = server::listen(address).with_context(|| format!("cannot listen on {address} for metrics"))?;
    tracing::info!(address = %listener.local_addr()?, "metrics served");
    Ok(Some(listener))
}

/// Checks the preconditions before anything is opened. `None`: a signal requests a stop.
async fn prepare(config: &Config, signals: &mut Signals) -> Result<Option<KeyRing>> {
    check::validate(config)?;
    let dir = &config.data_dir.data_dir;
    if let Some((_, direct_url)) = config.behaviour.database.urls() {
        make_private(dir)?;
        let upgraded = postgres::upgrade(direct_url, signals.next()).await;
        if !upgraded.context("cannot bring the database's tables up to date")? {
            tracing::info!("server stopped during its start");
            return Ok(None);
        }
    } else {
        gateway::check_store_exists(dir)?;
    }
    config.behaviour.secret_key.read().map(Some)
}

/// Opens the store, which must have an institution.
async fn open(config: &Config, secrets: KeyRing) -> Result<Arc<Gateway>> {
    let gateway = Gateway::open(&config.data_dir.data_dir, config.behaviour.clone(), secrets).await?;
    let institutions = gateway.store.institutions().await?;
    check_clock(&gateway, institutions.iter().map(|institution| institution.created_at));
    if institutions.is_empty() {
        gateway.close().await;
        bail!("the store has no institution, so no caller could authenticate: make the first one with `recado init`");
    }
    Ok(gateway)
}

/// Starts the simulated network.
fn start_sandbox(gateway: &Gateway, background: &TaskTracker, receipts_stop: CancellationToken) {
    let (sandbox, receipts) = (gateway.drivers.sandbox().clone(), gateway.store.clone());
    background.spawn(async move { sandbox.send_receipts(receipts, receipts_stop).await });
    let (sandbox, inbox, stop) = (gateway.drivers.sandbox().clone(), gateway.store.clone(), gateway.stop.clone());
    background.spawn(async move { sandbox.deliver_rest(&*inbox, stop).await });
}

/// Starts the background tasks.
async fn start(config: &Config, gateway: &Arc<Gateway>, background: &TaskTracker) -> Result<()> {
    let opens = secrets::load(gateway).await.context("cannot read how channels are linked")?;
    METRICS.secret_key_ok.set(opens.into());
    gateway.opens_secrets.store(opens, Ordering::Relaxed);
    background.spawn(housekeeping::purge(gateway.clone()));
    background.spawn(housekeeping::note_key_uses(gateway.clone()));
    background.spawn(sealed::watch(gateway.clone()));
    let expiring = gateway.clone();
    background.spawn(async move { expiring.dispatcher.log_expired(&expiring.stop).await });
    let queue = gateway.files_to_fetch.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(queue) = queue {
        background.spawn(media::eager::run(gateway.media.clone(), queue, gateway.stop.clone()));
    }
    background.spawn(idle::close_conversations(gateway.clone()));
    background.spawn(contents::delete(gateway.clone()));
    background.spawn(refused::retry(gateway.clone()));
    background.spawn(unfinished::finish(gateway.clone()));
    background.spawn(outages::follow(gateway.clone()));
    background.spawn(schedule::run(gateway.clone()));
    background.spawn(read_signals::run(gateway.clone()));
    background.spawn(events::run(gateway.events.clone(), gateway.stop.clone()));
    if config.node.has(Role::Dispatch) {
        let shares = gateway.nodes.are_shared();
        background.spawn(webhooks::run(gateway.webhooks.clone(), shares, gateway.stop.clone()));
    }
    background.spawn(stranded::watch(gateway.clone()));
    for (_, driver) in gateway.drivers.all() {
        driver.start(Arc::new(gateway.dispatcher.clone()));
    }
    // Before the queue, so that no channel is claimed before its session is open.
    if !gateway.nodes.are_shared() {
        restore_sessions(gateway).await.context("cannot read the channels")?;
    }
    if config.node.has(Role::Dispatch) {
        gateway.dispatcher.start().await.context("cannot read the queue")?;
    }
    gateway.nodes.start(node(config, gateway, opens), background);
    Ok(())
}

/// Lets load balancers notice that this server stops, while calls are still accepted. A second signal ends this.
async fn drain(time: Duration, gateway: &Gateway, steps: &Steps, signals: &mut Signals) {
    tracing::info!("shutdown started; draining");
    gateway.draining.cancel();
    tokio::select! {
        () = steps.drain(time) => {}
        () = signals.next() => {}
    }
    gateway.stop.cancel();
}

/// Ends the calls first, because they may still enqueue, then the sends, and then the receipts. Other nodes get the channels
/// at once.
async fn end(
    gateway: &Arc<Gateway>,
    serving: tokio::task::JoinHandle<()>,
    background: &TaskTracker,
    receipts_stop: &CancellationToken,
) {
    let (served, ()) = tokio::join!(serving, gateway.nodes.drain());
    if let Err(error) = served {
        tracing::error!(%error, "server task failed");
    }
    gateway.dispatcher.stop().await;
    for (_, driver) in gateway.drivers.all() {
        driver.stop().await;
    }
    gateway.nodes.close().await;
    receipts_stop.cancel();
    housekeeping::write_key_uses(gateway).await;
    background.wait().await;
}

/// This process as a node. It sends for the channel types of its build. If it could not decrypt all secrets, it sends only
/// for channels without secrets.
fn node(config: &Config, gateway: &Gateway, opens: bool) -> NewNode {
    let sends = |kind: &ChannelType| opens || !kind.descriptor().has_secrets;
    let types =
        gateway.drivers.all().map(|(kind, _)| kind).filter(|kind| config.node.has(Role::Dispatch) && sends(kind));
    NewNode { name: config.node.name(), address: config.node.node_url.clone(), types: types.collect() }
}

/// Restores the sessions that were open when the server ended.
async fn restore_sessions(gateway: &Gateway) -> Result<(), StoreError> {
    for entry in gateway.directory.channels() {
        if let Some(driver) = gateway.drivers.of(entry.kind) {
            driver.restore(&entry.via).await?;
        }
    }
    Ok(())
}

/// Prints the address of the server on the first line of standard output, for scripts that requested a free port.
fn announce(listener: &TcpListener) {
    let print = |mut out: io::Stdout| {
        writeln!(out, "recado {} listens on http://{}", env!("CARGO_PKG_VERSION"), listener.local_addr()?)?;
        out.flush()
    };
    if let Err(error) = print(io::stdout()) {
        tracing::warn!(%error, "address not written to standard output");
    }
}

/// The addresses of this server: the one that it listens on, or else those by which this machine reaches others. A socket
/// for datagrams that is connected sends nothing.
fn own_addresses(listen: IpAddr) -> Vec<IpAddr> {
    if !listen.is_unspecified() {
        return vec![listen];
    }
    let routes = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let own = |(any, there): (&str, &str)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(there).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    routes.into_iter().filter_map(own).collect()
}

/// Systems start programs with a limit of 1,024 files, and each connection is one.
fn raise_file_limit(connections: u32) {
    let wanted = u64::from(connections) + webhooks::CONNECTIONS + server::OTHER_FILES;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => {
            tracing::warn!(limit, wanted, "open file limit below max_connections");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "open file limit not raised"),
    }
}
