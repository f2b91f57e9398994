//! The machine: its clock, the port, and the limit of open files.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use recado_domain::clock::{Clock, Millis};
use recado_gateway::server;
use recado_store::clock::{SystemClock, rfc3339};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::doctor::Check;

/// From when this was written until long after. A correct clock is in this range. In milliseconds.
const SENSIBLE: std::ops::Range<i64> = 1_790_000_000_000..4_102_444_800_000;
/// How long the clock is compared with a monotonic one.
const WATCHED: Duration = Duration::from_millis(100);
/// How far the clock may exceed the elapsed time, in milliseconds, because this process may have been delayed.
const JUMP: Millis = 50;

pub fn clock() -> Check {
    let (now, started) = (SystemClock.now(), Instant::now());
    std::thread::sleep(WATCHED);
    let passed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    clock_check(now, SystemClock.now() - now - passed)
}

/// `jump` is how far the clock exceeded the elapsed time, in milliseconds.
fn clock_check(now: Millis, jump: Millis) -> Check {
    let name = "clock";
    if !SENSIBLE.contains(&now) {
        Check::fail(name, format!("it shows {}", rfc3339(now)), "set it, and keep it by NTP")
    } else if jump.abs() > JUMP {
        Check::warn(name, format!("it jumped by {jump} ms during the check"), "keep it by NTP, in small steps")
    } else {
        Check::ok(name, rfc3339(now))
    }
}

/// Whether the server can listen, or does.
pub async fn port(address: SocketAddr, served: bool) -> Check {
    let name = "port";
    match server::listen(address) {
        Ok(_) if served && address.port() != 0 => {
            let to_do = "name its address: --listen, or RECADO_LISTEN";
            Check::warn(name, format!("a server runs, but no process listens on {address}"), to_do)
        }
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match answers_as_recado(address).await {
            // Whether it is the server of this directory is not visible from outside.
            true if served => Check::ok(name, format!("a Recado answers on {address}")),
            true => Check::fail(name, format!("a Recado of another directory answers on {address}"), "choose another"),
            false => {
                Check::fail(name, format!("another program has {address}"), "stop it, or choose another: --listen")
            }
        },
        Err(error) => Check::fail(name, format!("{address}: {error}"), "choose an address of this machine: --listen"),
    }
}

async fn answers_as_recado(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health/live HTTP/1.0\r\nHost: localhost\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(4_096).read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.to_lowercase().contains("x-request-id") && answer.contains(r#"{"status":"ok"}"#))
    };
    matches!(tokio::time::timeout(Duration::from_secs(3), ask).await, Ok(Ok(true)))
}

pub fn open_files(connections: u32) -> Check {
    let name = "open files";
    let wanted = u64::from(connections) + server::OTHER_FILES;
    match rlimit::getrlimit(rlimit::Resource::NOFILE) {
        Ok((_, hard)) if hard < wanted => Check::warn(
            name,
            format!("the system allows {hard}; {connections} connections need {wanted}"),
            format!("raise the limit (systemd: LimitNOFILE={wanted}), or lower --max-connections"),
        ),
        Ok((_, hard)) => Check::ok(name, format!("the system allows {hard}, {wanted} are needed")),
        Err(error) => Check::warn(name, format!("the limit cannot be read: {error}"), "check `ulimit -Hn`"),
    }
}

#[cfg(test)]
mod tests {
    use crate::doctor::Status;
    use crate::doctor::system::*;

    #[test]
    fn a_clock_is_judged_by_its_time_and_by_its_steps() {
        let now = SENSIBLE.start;
        for (now, jump, status) in [
            (now, 0, Status::Ok),
            (now, JUMP, Status::Ok),
            (now, JUMP + 1, Status::Warn),
            (now, -3_600_000, Status::Warn),
            (0, 0, Status::Fail),
            (SENSIBLE.end, 0, Status::Fail),
        ] {
            assert_eq!(clock_check(now, jump).status, status, "{now} {jump}");
        }
    }
}
