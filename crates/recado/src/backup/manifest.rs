//! `backup.json` in each backup: which files belong together, and what they contain.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use recado_domain::hex::hex;
use recado_gateway::gateway::STORE_FILE;
use recado_store::sqlite::contents;
use recado_store::sqlkit::sqlite::open_read_only;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::sealed;

/// The manifest's file.
pub const MANIFEST: &str = "backup.json";
/// The only version of the manifest so far.
const FORMAT: u32 = 1;
/// The most bytes of a manifest.
const LIMIT: u64 = 1 << 20;

/// What a backup contains.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    format: u32,
    /// The store has everything that was accepted before this time.
    pub made_at: String,
    /// The version of Recado.
    recado: String,
    /// The store's identity, which all its backups share; empty if its tables are older than that.
    pub store: String,
    pub files: BTreeMap<String, Copied>,
    /// The ids of the keys that open what is sealed in the store.
    pub secret_keys: BTreeSet<String>,
    /// The number of rows of the main tables.
    pub contents: BTreeMap<String, i64>,
}

/// One file of a backup.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    pub bytes: u64,
    pub sha256: String,
    /// The version of its tables.
    pub version: i64,
}

impl Manifest {
    /// Describes the files of this directory, which a backup has just made.
    pub fn of(dir: &Path, names: &[&str], made_at: String) -> Result<Self> {
        let mut files = BTreeMap::new();
        for name in names {
            files.insert((*name).to_owned(), Copied::of(&dir.join(name))?);
        }
        let store = open_read_only(&dir.join(STORE_FILE))?;
        Ok(Self {
            format: FORMAT,
            made_at,
            recado: env!("CARGO_PKG_VERSION").to_owned(),
            store: identity(&store)?,
            files,
            secret_keys: sealed::key_ids(&store)?,
            contents: counts(&store)?,
        })
    }

    /// Reads the manifest of a backup.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(missing(dir)),
            file => file.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let mut text = String::new();
        file.take(LIMIT).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest: Self = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(manifest.format == FORMAT, "{} was written by a newer version of Recado", path.display());
        Ok(manifest)
    }
}

impl Copied {
    /// Describes a file as it is now.
    pub fn of(path: &Path) -> Result<Self> {
        let (mut file, mut hash) = (File::open(path)?, Sha256::new());
        let (mut part, mut bytes) = (vec![0; 1 << 20], 0);
        loop {
            let read = file.read(&mut part)?;
            if read == 0 {
                break;
            }
            hash.update(&part[..read]);
            bytes += read as u64;
        }
        Ok(Self { bytes, sha256: hex(&hash.finalize()), version: contents::version(&open_read_only(path)?)? })
    }
}

/// The rows of the main tables of a store.
pub fn counts(store: &Connection) -> rusqlite::Result<BTreeMap<String, i64>> {
    Ok(contents::counts(store)?.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect())
}

/// The identity of a store, in hexadecimal digits.
pub fn identity(store: &Connection) -> rusqlite::Result<String> {
    Ok(contents::identity(store)?.map(|identity| hex(&identity)).unwrap_or_default())
}

/// Why a directory has no manifest.
fn missing(dir: &Path) -> String {
    let shown = dir.display();
    if !dir.exists() {
        return format!("there is no {shown}");
    }
    let inside = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    // The directory of `recado backup --keep`: the names of its backups are their times.
    match inside.filter(|path| path.join(MANIFEST).exists()).max() {
        Some(newest) => format!("{shown} is a directory with backups: name one of them, such as {}", newest.display()),
        None => {
            format!("{shown} has no {MANIFEST}: it is no complete backup of `recado backup`, or of an older version")
        }
    }
}
