//! Nothing lost, nothing doubled, and the order kept: read from the files of a server that has ended.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

/// Every accepted message is in the store, once, and on its channel's line in the order in which its connection sent it.
pub fn stored(store: &Path, accepted: &[u128]) -> Result<()> {
    let connection = read_only(store)?;
    let distinct: HashSet<u128> = accepted.iter().copied().collect();
    ensure!(distinct.len() == accepted.len(), "an id was given twice");
    let mut order = Order::default();
    let mut found = 0;
    let mut statement = connection.prepare("select id, channel_key, payload from messages order by seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let id = u128::from_be_bytes(row.get(0)?);
        // A message that was stored without an answer that says so is no loss.
        found += usize::from(distinct.contains(&id));
        order.next(row.get(1)?, row.get_ref(2)?.as_str()?)?;
    }
    ensure!(found == distinct.len(), "{} of {} accepted messages are not in the store", distinct.len() - found, found);
    Ok(())
}

/// Every message in the store arrived, once, in the order of its channel.
pub fn all_arrived(store: &Path, sandbox: &Path) -> Result<()> {
    let stored: u32 = read_only(store)?.query_row("select count(*) from messages", [], |row| row.get(0))?;
    let arrived = in_order(sandbox)?;
    ensure!(arrived == stored, "{stored} messages are in the store, {arrived} arrived");
    Ok(())
}

/// What arrived did so once, in the order of its channel; gives how many messages did.
pub fn in_order(sandbox: &Path) -> Result<u32> {
    let connection = read_only(sandbox)?;
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u32>(0));
    let (arrivals, messages) = (count("select count(*) from arrivals")?, count("select count(*) from phone")?);
    ensure!(arrivals == messages, "{messages} messages arrived {arrivals} times");
    let mut order = Order::default();
    let mut statement = connection.prepare("select channel_key, contact from phone order by n")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        order.next(row.get(0)?, row.get_ref(1)?.as_str()?)?;
    }
    Ok(messages)
}

/// Every message that a network took was taken once and is READ, under the id that the network gave it, or took
/// from us; every other one waits, untouched.
pub fn read_once(store: &Path, taken: &[String]) -> Result<()> {
    let connection = read_only(store)?;
    let distinct: HashSet<&str> = taken.iter().map(String::as_str).collect();
    ensure!(distinct.len() == taken.len(), "the network gave an id twice");
    let waiting = "attempts = 0 and sending_at is null";
    let stray = format!("select count(*) from messages where read_at is null and not ({waiting})");
    let stray: u32 = connection.query_row(&stray, [], |row| row.get(0))?;
    ensure!(stray == 0, "{stray} messages were sent and are not READ");
    let mut statement =
        connection.prepare("select coalesce(remote_id, network_id) from messages where read_at is not null")?;
    let read = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let known = read.iter().filter(|id| distinct.contains(id.as_str())).count();
    ensure!(known == read.len(), "{} messages have an id that the network never gave", read.len() - known);
    ensure!(read.len() == taken.len(), "the network took {} times what are {} messages", taken.len(), read.len());
    Ok(())
}

/// Opens a server's file without any say in it.
pub fn read_only(path: &Path) -> Result<Connection> {
    Ok(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

/// The last number seen of each connection on each channel.
#[derive(Default)]
struct Order(HashMap<(i64, u64), u64>);

impl Order {
    fn next(&mut self, channel: i64, payload: &str) -> Result<()> {
        let payload: Value = serde_json::from_str(payload)?;
        let name = payload["contact"]["name"].as_str().context("a payload has a name")?;
        let mut parts = name.rsplit(' ');
        let (number, connection) = (parts.next(), parts.next());
        let (Some(number), Some(connection)) = (number, connection) else { bail!("not a contact of ours: {name}") };
        let number = number.parse()?;
        if let Some(before) = self.0.insert((channel, connection.parse()?), number)
            && before >= number
        {
            bail!("contact {number} stands behind {before}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as a server leaves them, with just what is looked at.
    struct Files(tempfile::TempDir);

    impl Files {
        /// A store with these contacts on one channel, in this order, all of which arrived in the same order.
        fn with(contacts: &[(u32, u64)]) -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            files.store(
                "create table messages (seq integer primary key, id blob, channel_key integer, payload text,
                                        attempts integer default 0, sending_at integer, read_at integer,
                                        network_id text, remote_id text)",
            );
            files.sandbox("create table arrivals (n integer primary key, network_id text)");
            files.sandbox("create table phone (n integer primary key, channel_key integer, contact text)");
            for (connection, number) in contacts {
                let payload = format!(r#"{{"contact":{{"name":"Maria Silva {connection} {number}"}}}}"#);
                let id = format!("{number:032x}");
                files.store(&format!(
                    "insert into messages (id, channel_key, payload) values (x'{id}', 1, '{payload}')"
                ));
                files.sandbox(&format!("insert into arrivals (network_id) values ('{number}')"));
                files.sandbox(&format!("insert into phone (channel_key, contact) values (1, '{payload}')"));
            }
            files
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn store(&self, sql: &str) {
            Connection::open(self.path("recado.db")).unwrap().execute(sql, []).unwrap();
        }

        fn sandbox(&self, sql: &str) {
            Connection::open(self.path("sandbox.db")).unwrap().execute(sql, []).unwrap();
        }

        fn stored(&self, accepted: &[u128]) -> bool {
            stored(&self.path("recado.db"), accepted).is_ok()
        }

        fn all_arrived(&self) -> bool {
            all_arrived(&self.path("recado.db"), &self.path("sandbox.db")).is_ok()
        }
    }

    #[test]
    fn what_is_whole_and_in_order_passes() {
        // Between two connections there is no order.
        let files = Files::with(&[(0, 1), (1, 0), (0, 2), (1, 3)]);
        assert!(files.stored(&[0, 1, 2, 3]) && files.all_arrived());
        assert!(files.stored(&[0, 1]), "what was stored without an answer is no loss");
    }

    #[test]
    fn a_lost_message_is_noticed() {
        let files = Files::with(&[(0, 1), (0, 2)]);
        assert!(!files.stored(&[1, 2, 3]));
        files.sandbox("delete from phone where n = 2");
        files.sandbox("delete from arrivals where n = 2");
        assert!(!files.all_arrived());
    }

    #[test]
    fn a_doubled_message_is_noticed() {
        let files = Files::with(&[(0, 1), (0, 2)]);
        assert!(!files.stored(&[1, 1]));
        files.sandbox("insert into arrivals (network_id) values ('2')");
        assert!(!files.all_arrived());
    }

    #[test]
    fn disorder_is_noticed() {
        let files = Files::with(&[(0, 2), (0, 1)]);
        assert!(!files.stored(&[1, 2]) && !files.all_arrived());
    }

    #[test]
    fn what_a_network_took_is_read_once() {
        let files = Files::with(&[(0, 1), (0, 2), (0, 3)]);
        let read = |taken: &[&str]| {
            let taken: Vec<_> = taken.iter().map(|&id| id.to_owned()).collect();
            read_once(&files.path("recado.db"), &taken).is_ok()
        };
        let sent = "update messages set attempts = 1, sending_at = 1, read_at = 2";
        files.store(&format!("{sent}, remote_id = 'a' where seq = 1"));
        files.store(&format!("{sent}, remote_id = 'b' where seq = 2"));
        assert!(read(&["a", "b"]), "the third waits");
        assert!(!read(&["a", "b", "c"]), "sent twice");
        assert!(!read(&["a", "c"]), "an id of nobody");
        assert!(!read(&["a", "b", "b"]));
        files.store("update messages set read_at = null where seq = 2");
        assert!(!read(&["a"]), "sent, and not read");
    }
}
