//! The server's programs, and the user that runs them.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of `postgres` and `initdb`: from `PATH`, else Debian's newest, which is not in `PATH`.
pub fn folder() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // `PATH` may have links to only some of the programs.
    let real = |folder: PathBuf| Some(folder.join("postgres").canonicalize().ok()?.parent()?.to_owned());
    if let Some(folder) = std::env::split_paths(&path).filter_map(real).find(|folder| has_server(folder)) {
        return folder;
    }
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let versions = installed.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let newest = versions.filter(|(_, path)| has_server(&path.join("bin"))).max();
    let (_, path) = newest.expect("PostgreSQL is not installed (Debian's package: postgresql)");
    path.join("bin")
}

fn has_server(folder: &Path) -> bool {
    folder.join("postgres").is_file() && folder.join("initdb").is_file()
}

/// The user of a server.
#[derive(Clone, Copy)]
pub struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The user `postgres` if this process is root, as which the server refuses to run; else `None`.
    pub fn instead_of_root() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
        let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let user = fields.find(|fields| fields.len() > 3 && fields[0] == "postgres");
        let user = user.expect("there is no user `postgres`, and the server does not run as root");
        let id = |field: &str| field.parse().expect("a number in /etc/passwd");
        Some(Self { uid: id(user[2]), gid: id(user[3]) })
    }

    /// Changes the owner of a file or a folder.
    pub fn own(user: Option<Self>, path: &Path) {
        if let Some(User { uid, gid }) = user {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).expect("root can give a folder away");
        }
    }

    /// A program that runs as the user, in a folder that the user can enter.
    pub fn command(user: Option<Self>, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder);
        if let Some(User { uid, gid }) = user {
            command.uid(uid).gid(gid);
        }
        command
    }
}
