//! The standard metrics of a process, from `/proc`. Where that is missing they stay 0.

use std::fs::{read_dir, read_to_string};

use recado_domain::clock::Millis;
use rustix::process::{Resource, getrlimit};

use crate::metrics::{METRICS, seconds};

/// Ticks of a second in `/proc`: the same on every architecture that Recado runs on.
const TICKS: f64 = 100.0;

/// Sets the gauges that change.
pub fn set() {
    let fields = stat();
    let used = (field(&fields, 11) + field(&fields, 12)) / TICKS;
    METRICS.cpu.inc_by((used - METRICS.cpu.get()).max(0.0));
    METRICS.memory.set(resident());
    // The listing itself is one of them.
    let open = read_dir("/proc/self/fd").map_or(0, Iterator::count);
    METRICS.files.set(i64::try_from(open.saturating_sub(1)).unwrap_or(i64::MAX));
}

/// The limit of open files.
pub fn most_files() -> i64 {
    getrlimit(Resource::Nofile).current.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

/// When the process started, in seconds since 1970.
pub fn started(now: Millis) -> f64 {
    let uptime = read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    seconds(now) - uptime + field(&stat(), 19) / TICKS
}

/// The fields behind the name of the program, which may contain spaces.
fn stat() -> Vec<String> {
    let stat = read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    behind.split_whitespace().map(str::to_owned).collect()
}

fn field(fields: &[String], place: usize) -> f64 {
    fields.get(place).and_then(|field| field.parse().ok()).unwrap_or_default()
}

/// Resident memory in bytes.
fn resident() -> i64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kibibytes| kibibytes.parse::<i64>().ok()).unwrap_or_default() * 1_024
}
