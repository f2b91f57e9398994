//! The store's files: their integrity, their version, and the size of their log.

use std::path::Path;

use recado_domain::clock::Clock;
use recado_gateway::config::SecretKey;
use recado_gateway::gateway::{SANDBOX_FILE, STORE_FILE};
use recado_gateway::moved::Moved;
use recado_providers::sandbox::network::SCHEMA_VERSION as SANDBOX_VERSION;
use recado_store::clock::{SystemClock, rfc3339};
use recado_store::sqlite::SCHEMA_VERSION;
use recado_store::sqlite::copy::{check, institutions, is_empty, version_and_newest};
use recado_store::sqlkit::sqlite::{open_read_only, tail};
use rusqlite::{Connection, ErrorCode};

use crate::doctor::{Check, secrets};

/// A log beyond this size is not checkpointed as it should be.
const LOG: u64 = 512 << 20;
/// How far the clock may be behind the newest message, in milliseconds, because it is adjusted in small steps.
const BEHIND: i64 = 1_000;

pub fn checks(dir: &Path, served: bool, secret_key: &SecretKey) -> Vec<Check> {
    let store = dir.join(STORE_FILE);
    match store.try_exists() {
        Ok(true) => {}
        Ok(false) => {
            let to_do =
                format!("make one with `recado init --data-dir {}`, or name the right directory", dir.display());
            return vec![Check::fail("store", "there is none in this directory", to_do)];
        }
        Err(error) => {
            let found = format!("{} cannot be read: {error}", store.display());
            return vec![Check::fail("store", found, "run this as the user of the server, and check the path")];
        }
    }
    if is_empty(&store) {
        let to_do = format!("make one with `recado init --data-dir {}`, or restore a back-up", dir.display());
        return vec![Check::fail("store", format!("{} is empty", store.display()), to_do)];
    }
    if let Err(moved) = Moved::refuse(&store) {
        return vec![Check::fail(
            "store",
            format!("{moved:#}"),
            "set RECADO_DATABASE_URL, or name the right directory",
        )];
    }
    let mut checks =
        vec![whole("store", &store, "stop the server, keep a copy of the directory, and restore a back-up")];
    checks.extend(version(&store));
    checks.extend(
        open_read_only(&store).and_then(|connection| institutions(&connection)).map(crate::doctor::institutions),
    );
    let sandbox = dir.join(SANDBOX_FILE);
    if sandbox.exists() {
        checks.push(newer_sandbox(&sandbox).unwrap_or_else(|| whole("sandbox", &sandbox, MOVE_SANDBOX)));
    }
    checks.push(secrets::check(dir, secret_key));
    checks.push(log(&store, served));
    checks
}

/// The sandbox's file contains no message of a real network.
const MOVE_SANDBOX: &str = "stop the server and move this file away: the sandbox begins with an empty phone";

/// A sandbox whose tables this build does not know.
fn newer_sandbox(path: &Path) -> Option<Check> {
    let version = |connection: Connection| connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    let version = usize::try_from(open_read_only(path).and_then(version).ok()?).ok()?;
    let found = format!("{} has version {version}, this build's is {SANDBOX_VERSION}", path.display());
    (version > SANDBOX_VERSION).then(|| Check::fail("sandbox", found, MOVE_SANDBOX))
}

fn whole(name: &'static str, path: &Path, to_do: &str) -> Check {
    match open_read_only(path).and_then(|connection| check(&connection, "quick_check")) {
        Ok(found) if found == "ok" => Check::ok(name, "whole"),
        Ok(found) => Check::fail(name, found, to_do),
        Err(error) => {
            let is_denied = matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
            );
            let to_do = if is_denied && path.is_file() { PERMISSIONS } else { to_do };
            Check::fail(name, format!("{} cannot be read: {error}", path.display()), to_do)
        }
    }
}

/// For a file that may be intact.
const PERMISSIONS: &str = "run this as the user of the server, who must be able to write the directory and its files";

fn version(store: &Path) -> Vec<Check> {
    let name = "store version";
    let (version, newest) = match open_read_only(store).and_then(|connection| version_and_newest(&connection)) {
        Ok(found) => found,
        Err(error) => return vec![Check::fail(name, error.to_string(), "is this a store of Recado?")],
    };
    let found = format!("{version}, this build's is {SCHEMA_VERSION}");
    let version = match version {
        version if version > SCHEMA_VERSION => {
            Check::fail(name, found, "a newer Recado has worked on it: use that one, or restore an older back-up")
        }
        version if version < SCHEMA_VERSION => {
            Check::warn(name, found, "the next start brings it up to date, and there is no way back: `recado backup`")
        }
        _ => Check::ok(name, found),
    };
    let Some(newest) = newest else { return vec![version] };
    let (name, now) = ("store's clock", SystemClock.now());
    let behind = if newest - now > BEHIND {
        let found = format!("the newest message has the time {}, the clock shows {}", rfc3339(newest), rfc3339(now));
        Check::fail(name, found, "set the clock: messages wait until it has caught up")
    } else {
        Check::ok(name, format!("the newest message is of {}", rfc3339(newest)))
    };
    vec![version, behind]
}

fn log(store: &Path, served: bool) -> Check {
    let name = "store's log";
    // A server changes both meanwhile.
    if let (false, Err(lost)) = (served, tail::check(store)) {
        return Check::fail(
            name,
            lost.to_string(),
            "look for the log, or restore a back-up; keep a copy of the directory",
        );
    }
    let bytes = store.with_extension("db-wal").metadata().map_or(0, |metadata| metadata.len());
    let found = format!("{} MiB", bytes >> 20);
    if bytes > LOG {
        Check::warn(name, found, "something reads the store for a long time; it shrinks when that has ended")
    } else {
        Check::ok(name, found)
    }
}
