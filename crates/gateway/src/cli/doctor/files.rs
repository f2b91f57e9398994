//! The data directory: who may read it, where it lies, how much room there is, how long a sync takes.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Check;

/// Syncs that are measured.
const SYNCS: usize = 40;
/// The longest path of a socket, in bytes, without its end.
const SOCKET_PATH: usize = 107;
const NETWORK: [&str; 14] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "fuse.ceph",
    "fuse.sshfs",
    "fuse.glusterfs",
    "lustre",
    "beegfs",
    "gpfs",
];
const GIB: u64 = 1 << 30;

pub fn checks(dir: &Path, served: bool) -> Vec<Check> {
    vec![permissions(dir), file_system(dir), space(dir), sync_time(dir), socket(dir, served)]
}

fn permissions(dir: &Path) -> Check {
    let name = "permissions";
    let shown = dir.display();
    let Ok(metadata) = dir.metadata() else {
        return Check::fail(name, format!("{shown} cannot be looked at"), "run this as the user of the server");
    };
    let me = rustix::process::geteuid().as_raw();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let entries: Vec<_> = entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).collect();
    let ours = entries.iter().filter(|(path, _)| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("recado.") || name.starts_with("sandbox.db") || name == "dev-key"
    });
    for (path, metadata) in ours {
        // The lock's file is empty: there is nothing to read.
        if metadata.mode() & 0o077 != 0 && metadata.len() > 0 {
            let mode = metadata.permissions().mode() & 0o777;
            let found = format!("{} has mode {mode:o}: others may read numbers and keys' hashes", path.display());
            return Check::fail(name, found, format!("chmod 600 {}", path.display()));
        }
        if metadata.uid() != me {
            let found = format!("{} belongs to user {}, this is user {me}", path.display(), metadata.uid());
            return Check::fail(name, found, "run server and commands as one user, or give it the files: chown");
        }
    }
    match metadata.mode() & 0o777 {
        mode @ (0o700 | 0o500) => Check::ok(name, format!("the directory has mode {mode:o}, its files 600")),
        mode => Check::warn(name, format!("{shown} has mode {mode:o}"), format!("chmod 700 {shown}")),
    }
}

fn file_system(dir: &Path) -> Check {
    let name = "file system";
    match kind(dir).as_deref() {
        None => Check::warn(name, "which one it is cannot be told", "see to it that it is a local disk"),
        Some(kind) if NETWORK.contains(&kind) => Check::fail(
            name,
            format!("{kind} is a network file system"),
            "move the data directory to a local disk: a network does not keep what locks and the log need",
        ),
        Some(kind @ ("tmpfs" | "ramfs")) => Check::warn(
            name,
            format!("{kind} lies in memory"),
            "move the data directory to a disk: a power cut takes every message",
        ),
        Some("overlay") => Check::warn(
            name,
            "overlay: this is a container's own layer",
            "put the data directory on a volume: it goes with the container",
        ),
        Some(kind) => Check::ok(name, kind),
    }
}

/// The type of the file system: that of the mount point which is the longest beginning of the path.
fn kind(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        let point = front.split(' ').nth(4)?.replace("\\040", " ");
        dir.starts_with(&point).then(|| Some((point.len(), back.split(' ').next()?.to_owned())))?
    };
    // The last of equals: it was mounted over the others.
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

fn space(dir: &Path) -> Check {
    let name = "disk space";
    let Ok(disk) = rustix::fs::statvfs(dir) else {
        return Check::warn(name, "it cannot be asked for", "look at `df`");
    };
    let (free, all) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let found = format!("{} MiB free of {} MiB", free >> 20, all >> 20);
    let to_do = "make room: when the disk is full, calls are answered 503. `--keep-messages` shortens the history";
    if free < GIB / 8 {
        Check::fail(name, found, to_do)
    } else if free < GIB || free < all / 20 {
        Check::warn(name, found, to_do)
    } else {
        Check::ok(name, found)
    }
}

fn sync_time(dir: &Path) -> Check {
    let name = "fsync";
    let mut times = match measure(dir) {
        Ok(times) => times,
        Err(error) => {
            return Check::fail(name, format!("nothing can be written: {error}"), "look at the disk, and at its mount");
        }
    };
    times.sort_unstable();
    let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let found = format!("{middle:.1?} in the middle, {longest:.1?} at most, of {SYNCS}");
    if middle < Duration::from_micros(20) {
        let to_do = "no disk is that fast: one that only says so loses messages in a power cut";
        Check::warn(name, found, to_do)
    } else if middle > Duration::from_millis(50) {
        Check::warn(name, found, "each accepted message waits for a sync: a faster disk makes every call faster")
    } else {
        Check::ok(name, found)
    }
}

fn measure(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    // Nobody finds it, and nothing is left behind whatever happens next.
    std::fs::remove_file(&path)?;
    let time = |_| {
        file.write_all(&[0x5a; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        Ok(started.elapsed())
    };
    (0..SYNCS).map(time).collect()
}

fn socket(dir: &Path, served: bool) -> Check {
    let name = "control socket";
    let path = dir.join("recado.sock");
    let length = path.as_os_str().len();
    if length > SOCKET_PATH {
        let found = format!("its path has {length} bytes; the system takes {SOCKET_PATH}");
        return Check::fail(name, found, "use a data directory with a shorter path, or start the server inside of it");
    }
    if path.exists() && !served {
        return Check::ok(name, "left over from a crash; the next start removes it");
    }
    Check::ok(name, format!("its path has {length} bytes of {SOCKET_PATH}"))
}
