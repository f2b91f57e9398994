//! The secret key: whether it opens what is sealed in the store.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Check;
use crate::config::SecretKey;
use crate::gateway::STORE_FILE;
use crate::sealed::{KeyRing, Place, SealError};
use crate::store::rows::Link;
use crate::store::sqlite::copy::{links, look_at};

const NAME: &str = "secret key";
const ROTATE: &str = "run `recado secrets rotate`, and only then take the old key away";

pub fn check(dir: &Path, from: &SecretKey) -> Check {
    let keys = match from.read() {
        Ok(keys) => keys,
        Err(error) => return Check::fail(NAME, format!("{error:#}"), "give the key as the server has it"),
    };
    let links = match look_at(&dir.join(STORE_FILE)).and_then(|connection| links(&connection)) {
        Ok(links) => links,
        Err(error) => return Check::fail(NAME, format!("what is sealed cannot be read: {error}"), "see the store"),
    };
    let readable = from.secret_key_file.as_deref().filter(|file| is_open_to_all(file));
    match (judge(&keys, &links), readable) {
        (Ok(found), Some(file)) => {
            let shown = file.display();
            Check::warn(NAME, format!("{found}; every user can read {shown}"), format!("chmod 640 {shown}"))
        }
        (Ok(found), None) => Check::ok(NAME, found),
        (Err(wrong), _) => wrong,
    }
}

/// What is found where nothing is wrong.
fn judge(keys: &KeyRing, links: &[Link]) -> Result<String, Check> {
    if links.is_empty() {
        return Ok(keys
            .first()
            .map_or("none, and nothing is sealed".to_owned(), |key| format!("{key}; nothing is sealed")));
    }
    let (mut older, mut unopened) = (0, Vec::new());
    for link in links {
        match keys.open(Place::Link(link.channel), &link.sealed).and_then(|_| keys.is_first_of(&link.sealed)) {
            Ok(true) => {}
            Ok(false) => older += 1,
            Err(error) => unopened.push(error),
        }
    }
    let all = links.len();
    if let Some(error) = unopened.first() {
        let to_do = match error {
            SealError::NoKey => "set RECADO_SECRET_KEY_FILE (or --secret-key-file) as for the server",
            SealError::KeyMissing(_) => "put that key behind the others; without it those channels must be linked anew",
            SealError::Tampered | SealError::UnknownForm => "link those channels anew, or restore a back-up",
        };
        return Err(Check::fail(NAME, format!("{} of {all} links cannot be opened: {error}", unopened.len()), to_do));
    }
    if older > 0 {
        return Err(Check::warn(NAME, format!("{older} of {all} links are sealed with an older key"), ROTATE));
    }
    Ok(keys.first().map_or(String::new(), |key| format!("{key} opens all that is sealed ({all})")))
}

fn is_open_to_all(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.mode() & 0o004 != 0)
}
