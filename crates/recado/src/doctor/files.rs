//! The data directory: permissions, file system, free space, sync time.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use recado_gateway::control::SOCKET_FILE;
use recado_gateway::lock::LOCK_FILE;

use crate::doctor::Check;

/// The number of measured syncs.
const SYNCS: usize = 40;
/// The longest path of a socket in bytes, without its terminator.
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
    let me = rustix::process::geteuid().as_raw();
    let looked = || -> std::io::Result<_> {
        let entries = std::fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>()?;
        Ok((dir.metadata()?.mode() & 0o777, entries))
    };
    let (mode, entries) = match looked() {
        Ok(looked) => looked,
        Err(error) => {
            return Check::fail(name, format!("{shown}: {error}"), "run this as the user of the server");
        }
    };
    for entry in entries {
        let file_name = entry.file_name();
        let known = file_name.to_str().unwrap_or_default();
        let ours = known.starts_with("recado.") || known.starts_with("sandbox.db") || known == "dev-key";
        // A file that has just disappeared belongs to a database.
        let Some(metadata) = entry.metadata().ok().filter(|_| ours) else { continue };
        if let Some(wrong) = file_check(&entry.path(), metadata.mode() & 0o777, metadata.uid(), me) {
            return wrong;
        }
    }
    match mode {
        0o700 | 0o500 => Check::ok(name, format!("the directory has mode {mode:o}, its files 600")),
        mode => Check::warn(name, format!("{shown} has mode {mode:o}"), format!("chmod 700 {shown}")),
    }
}

/// What is wrong with the mode or the owner of one of our files. `me` is the current user.
fn file_check(path: &Path, mode: u32, owner: u32, me: u32) -> Option<Check> {
    let (name, shown) = ("permissions", path.display());
    if owner != me {
        let found = format!("{shown} belongs to user {owner}, this is user {me}");
        return Some(Check::fail(name, found, "run server and commands as one user, or give it the files: chown"));
    }
    if mode & 0o200 == 0 {
        let found = format!("{shown} has mode {mode:o}: the server starts and can store nothing");
        return Some(Check::fail(name, found, format!("chmod 600 {shown}")));
    }
    // The lock's file is empty, so reading it reveals nothing.
    if mode & 0o077 != 0 && !path.ends_with(LOCK_FILE) {
        let found = format!("{shown} has mode {mode:o}: others may read numbers and keys' hashes, or give commands");
        return Some(Check::fail(name, found, format!("chmod 600 {shown}")));
    }
    None
}

fn file_system(dir: &Path) -> Check {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_default();
    kind_check(kind(&dir, &mounts))
}

fn kind_check(kind: Option<&str>) -> Check {
    let name = "file system";
    match kind {
        None => Check::warn(name, "its type is unknown", "make sure that it is a local disk"),
        Some(kind) if NETWORK.contains(&kind) => Check::fail(
            name,
            format!("{kind} is a network file system"),
            "move the data directory to a local disk: a network does not keep what locks and the log need",
        ),
        Some(kind @ ("tmpfs" | "ramfs")) => Check::warn(
            name,
            format!("{kind} lies in memory"),
            "move the data directory to a disk: a power cut loses every message",
        ),
        Some("overlay") => Check::warn(
            name,
            "overlay: this is a container's own layer",
            "put the data directory on a volume: it goes with the container",
        ),
        Some(kind) => Check::ok(name, kind),
    }
}

/// The type of the file system: that of the mount point which is the longest prefix of the path. `mounts` is the content of
/// `/proc/self/mountinfo`.
fn kind<'a>(dir: &Path, mounts: &'a str) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let (front, back) = line.split_once(" - ")?;
        let point = front.split(' ').nth(4)?.replace("\\040", " ");
        dir.starts_with(&point).then(|| Some((point.len(), back.split(' ').next()?)))?
    };
    // The last of equal mount points, because it was mounted over the others.
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

fn space(dir: &Path) -> Check {
    let name = "disk space";
    let Ok(disk) = rustix::fs::statvfs(dir) else {
        return Check::warn(name, "it cannot be read", "check `df`");
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
            return Check::fail(name, format!("nothing can be written: {error}"), "check the disk and its mount");
        }
    };
    times.sort_unstable();
    let (middle, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let found = format!("{middle:.1?} in the middle, {longest:.1?} at most, of {SYNCS}");
    if middle < Duration::from_micros(20) {
        let to_do = "no disk is that fast: a disk that ignores syncs loses messages in a power cut";
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
    // The file has no name any more, so a crash leaves nothing behind.
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
    let path = dir.join(SOCKET_FILE);
    let length = path.as_os_str().len();
    if length > SOCKET_PATH {
        let found = format!("its path has {length} bytes; the system permits {SOCKET_PATH}");
        return Check::fail(name, found, "use a data directory with a shorter path, or start the server inside of it");
    }
    if path.exists() && !served {
        return Check::ok(name, "left over from a crash; the next start removes it");
    }
    Check::ok(name, format!("its path has {length} bytes of {SOCKET_PATH}"))
}

#[cfg(test)]
mod tests {
    use crate::doctor::Status;
    use crate::doctor::files::*;

    #[test]
    fn a_file_of_ours_is_the_users_own_and_closed_to_others() {
        let status = |path: &str, mode, owner| file_check(Path::new(path), mode, owner, 7).map(|check| check.status);
        assert_eq!(status("d/recado.db", 0o600, 7), None);
        assert_eq!(status("d/recado.db", 0o600, 0), Some(Status::Fail));
        assert_eq!(status("d/recado.lock", 0o600, 0), Some(Status::Fail));
        assert_eq!(status("d/recado.db", 0o400, 7), Some(Status::Fail));
        for mode in [0o640, 0o604, 0o777] {
            assert_eq!(status("d/recado.sock", mode, 7), Some(Status::Fail), "{mode:o}");
        }
        assert_eq!(status("d/recado.lock", 0o644, 7), None);
    }

    #[test]
    fn the_nearest_mount_decides_the_file_system() {
        let mounts = "\
            22 1 0:20 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a\n\
            23 22 8:1 / /var/lib rw master:1 - ext4 /dev/sda1 rw\n\
            24 23 0:50 / /var/lib/with\\040space rw - nfs4 host:/x rw\n\
            25 22 0:51 / /srv rw - ext4 /dev/sdb rw\n\
            26 22 0:52 / /srv rw - fuse.sshfs host: rw\n";
        for (dir, expected, status) in [
            ("/home/recado", Some("overlay"), Status::Warn),
            ("/var/lib/recado", Some("ext4"), Status::Ok),
            ("/var/library", Some("overlay"), Status::Warn),
            ("/var/lib/with space/recado", Some("nfs4"), Status::Fail),
            ("/srv/recado", Some("fuse.sshfs"), Status::Fail),
            ("", None, Status::Warn),
        ] {
            let found = kind(Path::new(dir), mounts);
            assert_eq!((found, kind_check(found).status), (expected, status), "{dir}");
        }
        assert_eq!(kind_check(Some("tmpfs")).status, Status::Warn);
    }
}
