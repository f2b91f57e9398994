//! Checks whether the secret key decrypts the secrets in the store.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use recado_gateway::config::SecretKey;
use recado_gateway::gateway::STORE_FILE;
use recado_store::Store;
use recado_store::postgres::PgStore;
use recado_store::sealed::{KeyRing, Place, SealError};
use recado_store::sqlkit::sqlite::open_read_only;

use crate::doctor::Check;
use crate::sealed;

const NAME: &str = "secret key";
/// Connections to a database.
const CONNECTIONS: usize = 2;
const ROTATE: &str = "run `recado secrets rotate`, and only then remove the old key";

pub fn check(dir: &Path, from: &SecretKey) -> Check {
    let keys = match from.read() {
        Ok(keys) => keys,
        Err(error) => return Check::fail(NAME, format!("{error:#}"), "give the key as the server has it"),
    };
    let mut found = Found::default();
    if let Err(error) = open_read_only(&dir.join(STORE_FILE))
        .and_then(|connection| sealed::each(&connection, |place, secret| found.try_open(&keys, place, secret)))
    {
        return Check::fail(NAME, format!("the secrets cannot be read: {error}"), "see the store");
    }
    let readable = from.secret_key_file.as_deref().filter(|file| is_open_to_all(file));
    match (found.evaluate(&keys), readable) {
        (Ok(found), Some(file)) => {
            let shown = file.display();
            Check::warn(NAME, format!("{found}; every user can read {shown}"), format!("chmod 640 {shown}"))
        }
        (Ok(found), None) => Check::ok(NAME, found),
        (Err(wrong), _) => wrong,
    }
}

/// The same for the secrets in a database.
pub async fn check_database((url, direct_url): (&str, &str), from: &SecretKey) -> Check {
    let keys = match from.read() {
        Ok(keys) => keys,
        Err(error) => return Check::fail(NAME, format!("{error:#}"), "give the key as the server has it"),
    };
    let mut found = Found::default();
    let read = async {
        let store = PgStore::open(url, direct_url, CONNECTIONS).await?;
        let read = sealed::each_in_database(&store, |place, secret| found.try_open(&keys, place, secret)).await;
        store.close().await;
        anyhow::Ok(read?)
    };
    if let Err(error) = read.await {
        return Check::fail(NAME, format!("the secrets cannot be read: {error:#}"), "see the database");
    }
    found.evaluate(&keys).map_or_else(|wrong| wrong, |found| Check::ok(NAME, found))
}

/// The encrypted secrets in a store, counted.
#[derive(Default)]
struct Found {
    all: usize,
    older: usize,
    unopened: usize,
    /// The first error.
    error: Option<SealError>,
}

impl Found {
    fn try_open(&mut self, keys: &KeyRing, place: Place<'_>, sealed: &[u8]) {
        self.all += 1;
        match keys.open(place, sealed).and_then(|_| keys.is_first_of(sealed)) {
            Ok(true) => {}
            Ok(false) => self.older += 1,
            Err(error) => {
                self.unopened += 1;
                self.error.get_or_insert(error);
            }
        }
    }

    /// The result if nothing is wrong.
    fn evaluate(&self, keys: &KeyRing) -> Result<String, Check> {
        let Self { all, older, unopened, error } = self;
        if *all == 0 {
            return Ok(keys
                .first()
                .map_or("none, and nothing is encrypted".to_owned(), |key| format!("{key}; nothing is encrypted")));
        }
        if let Some(error) = error {
            let to_do = match error {
                SealError::NoKey => "set RECADO_SECRET_KEY_FILE (or --secret-key-file) as for the server",
                SealError::KeyMissing(_) => {
                    "put that key behind the others; without it those channels must be linked again, and those webhooks need new secrets"
                }
                SealError::Tampered | SealError::UnknownForm => {
                    "link those channels again, give those webhooks new secrets, or restore a back-up"
                }
            };
            return Err(Check::fail(NAME, format!("{unopened} of {all} secrets cannot be opened: {error}"), to_do));
        }
        if *older > 0 {
            return Err(Check::warn(NAME, format!("{older} of {all} secrets are encrypted with an older key"), ROTATE));
        }
        Ok(keys.first().map_or(String::new(), |key| format!("{key} decrypts all secrets ({all})")))
    }
}

fn is_open_to_all(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}
