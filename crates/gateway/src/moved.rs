//! The mark on a store that `recado migrate-store` has moved to a database.
//!
//! The file stays as a back-up. A server on it would send its queue a second time, so nothing opens it until the mark is removed.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The mark of a store that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// RFC 3339.
    pub at: String,
    /// The name of the database.
    pub database: String,
    /// `false` before the last step, after which the database can be used: the same command continues.
    pub complete: bool,
}

impl Moved {
    /// The file of the mark, beside the store.
    pub fn file_of(store: &Path) -> PathBuf {
        let mut name = store.as_os_str().to_owned();
        name.push(".moved");
        name.into()
    }

    /// The mark of this store, if there is one.
    pub fn of(store: &Path) -> Result<Option<Self>> {
        let path = Self::file_of(store);
        match std::fs::read(&path) {
            Ok(text) => {
                let mark = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
                Ok(Some(mark))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the mark; after this it survives a power cut.
    pub fn mark(&self, store: &Path) -> Result<()> {
        let path = Self::file_of(store);
        let write = || -> std::io::Result<()> {
            let new = path.with_extension("moved.new");
            let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Fails if this store was moved.
    pub fn refuse(store: &Path) -> Result<()> {
        let Some(Self { at, database, complete }) = Self::of(store)? else { return Ok(()) };
        let (store, mark) = (store.display(), Self::file_of(store));
        if complete {
            bail!(
                "{store} was moved to the PostgreSQL database {database} at {at}: set RECADO_DATABASE_URL. A server on the file would \
                 send what waited a second time; to go back to it all the same, delete {}",
                mark.display()
            );
        }
        bail!(
            "the move of {store} to the PostgreSQL database {database} was interrupted at {at}: run `recado migrate-store` again; if \
             it says that the database holds a store already, the move is complete. To stay with the file, drop that database and \
             delete {}",
            mark.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_refuses() {
        let place = tempfile::tempdir().expect("a directory");
        let store = place.path().join("recado.db");
        assert_eq!(Moved::of(&store).expect("readable"), None);
        Moved::refuse(&store).expect("not moved");
        for (complete, words) in [(false, "was interrupted"), (true, "was moved")] {
            let mark = Moved { at: "2026-11-23T00:00:00.000Z".to_owned(), database: "recado".to_owned(), complete };
            mark.mark(&store).expect("written");
            assert_eq!(Moved::of(&store).expect("readable"), Some(mark));
            let refusal = Moved::refuse(&store).expect_err("moved").to_string();
            assert!(refusal.contains(words) && refusal.contains("recado.db.moved"), "{refusal}");
        }
        assert_eq!(place.path().read_dir().expect("a directory").count(), 1);
        // A mark that cannot be read is still a mark.
        std::fs::write(Moved::file_of(&store), "").expect("a file");
        assert!(Moved::refuse(&store).expect_err("moved").to_string().contains("is damaged"));
    }
}
