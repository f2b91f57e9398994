//! Reports to systemd, in the protocol of `sd_notify(3)`: the server is ready, it stops, and it makes progress.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::gateway::Gateway;

/// Reports within the time of systemd's watchdog.
const FEEDINGS: u32 = 3;

/// The connection to systemd. Without one, reports do nothing.
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The time of the watchdog: systemd restarts a server that has not reported for this long.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// The connection that systemd names in the environment.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").map(|name| connect(&name)).transpose();
        let socket = socket.unwrap_or_else(|error| {
            tracing::warn!(%error, "systemd not notified");
            None
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        // The variables may have been meant for another process, which started this one.
        let own = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|time| own && *time > 0).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// The server answers calls.
    pub fn ready(&self) {
        self.report("READY=1");
    }

    /// The server begins to stop.
    pub fn stopping(&self) {
        self.report("STOPPING=1");
    }

    /// Feeds the watchdog as long as the server makes progress. It ends at once if there is no watchdog.
    pub async fn feed_watchdog(&self, gateway: &Gateway) {
        let (Some(watchdog), Some(_)) = (self.watchdog, &self.socket) else { return };
        loop {
            make_progress(gateway).await;
            self.report("WATCHDOG=1");
            tokio::time::sleep(watchdog / FEEDINGS).await;
        }
    }

    fn report(&self, state: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            tracing::warn!(%error, "systemd not notified");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(OsString::from(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A report must never block the server.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Returns when the parts that must make progress have made some. It does not return while one of them is stuck.
///
/// An outage or an overload of the disk or of the database is no lack of progress: a restart would not help, and would end the
/// sessions of all nodes. So every answer counts, and the database is not asked. The log is not asked either, because the server
/// does without it while its reader is stuck.
async fn make_progress(gateway: &Gateway) {
    // The answer may be a refusal. What counts is that the thread gives one.
    let _ = gateway.store.reach_writer().await;
    // The dispatcher's lock, which every accepted message needs.
    let _ = gateway.dispatcher.works_on(0);
}
