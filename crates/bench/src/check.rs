//! Checks that no message was lost or doubled and that the order was kept, in the tables of a server that has ended.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

use crate::tables::Tables;

/// Every accepted message is stored once, and in its channel's queue in the order in which its connection sent it.
pub fn stored(tables: &Tables, accepted: &[u128]) -> Result<()> {
    let distinct: HashSet<u128> = accepted.iter().copied().collect();
    ensure!(distinct.len() == accepted.len(), "an id was given twice");
    let mut order = Order::default();
    let mut found = 0;
    tables.each("SELECT id, channel_key, payload FROM messages ORDER BY seq", |row| {
        // A message may be stored without an answer that reports it.
        found += usize::from(distinct.contains(&row.id(0)?));
        order.next(row.number(1)?, row.text(2)?)
    })?;
    ensure!(found == distinct.len(), "{} of {} accepted messages are not in the store", distinct.len() - found, found);
    Ok(())
}

/// Every stored message arrived once, in the order of its channel.
pub fn all_arrived(tables: &Tables) -> Result<()> {
    let stored = tables.number("SELECT count(*) FROM messages")?;
    let arrived = in_order(tables)?;
    ensure!(arrived == stored, "{stored} messages are in the store, {arrived} arrived");
    Ok(())
}

/// Every message that arrived did so once, in the order of its channel. Returns the number of messages.
pub fn in_order(tables: &Tables) -> Result<i64> {
    let arrivals = tables.number("SELECT count(*) FROM sandbox_arrivals")?;
    let messages = shown_in_order(tables)?;
    ensure!(arrivals == messages, "{messages} messages arrived {arrivals} times");
    Ok(messages)
}

/// The sandbox inbox shows messages in the order of their channel. Returns the number of messages.
pub fn shown_in_order(tables: &Tables) -> Result<i64> {
    let mut order = Order::default();
    tables.each("SELECT channel_key, contact FROM sandbox_phone ORDER BY n", |row| {
        order.next(row.number(0)?, row.text(1)?)
    })?;
    tables.number("SELECT count(*) FROM sandbox_phone")
}

/// Every message that a network accepted was accepted once and is READ, under the id that the network assigned, or that it
/// accepted from us. Every other message still waits.
pub fn read_once(tables: &Tables, accepted: &[String]) -> Result<()> {
    let distinct: HashSet<&str> = accepted.iter().map(String::as_str).collect();
    ensure!(distinct.len() == accepted.len(), "the network assigned an id twice");
    let waiting = "attempts = 0 and sending_at is null";
    let stray = format!("SELECT count(*) FROM messages WHERE read_at IS NULL AND NOT ({waiting})");
    let stray = tables.number(&stray)?;
    ensure!(stray == 0, "{stray} messages were sent and are not READ");
    let (mut read, mut known) = (0, 0);
    tables.each("SELECT coalesce(remote_id, network_id) FROM messages WHERE read_at IS NOT NULL", |row| {
        read += 1;
        known += usize::from(distinct.contains(row.text(0)?));
        Ok(())
    })?;
    ensure!(known == read, "{} messages have an id that the network never gave", read - known);
    ensure!(read == accepted.len(), "the network accepted {} messages, of which {read} are read", accepted.len());
    Ok(())
}

/// The last number of each connection on each channel.
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
            bail!("contact {number} follows {before}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// Files of a server, with only the columns that the checks read.
    struct Files(tempfile::TempDir);

    impl Files {
        /// A store with these contacts on one channel, in this order, all of which arrived in the same order.
        fn with(contacts: &[(u32, u64)]) -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            files.store(
                "CREATE TABLE messages (seq integer PRIMARY KEY, id blob, channel_key integer, payload text,
                                        attempts integer default 0, sending_at integer, read_at integer,
                                        network_id text, remote_id text)",
            );
            files.sandbox("CREATE TABLE arrivals (n integer PRIMARY KEY, network_id text)");
            files.sandbox("CREATE TABLE phone (n integer PRIMARY KEY, channel_key integer, contact text)");
            for (connection, number) in contacts {
                let payload = format!(r#"{{"contact":{{"name":"Maria Silva {connection} {number}"}}}}"#);
                let id = format!("{number:032x}");
                files.store(&format!(
                    "INSERT INTO messages (id, channel_key, payload) VALUES (x'{id}', 1, '{payload}')"
                ));
                files.sandbox(&format!("INSERT INTO arrivals (network_id) VALUES ('{number}')"));
                files.sandbox(&format!("INSERT INTO phone (channel_key, contact) VALUES (1, '{payload}')"));
            }
            files
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn tables(&self) -> Tables {
            Tables::Files(self.0.path().to_owned())
        }

        fn store(&self, sql: &str) {
            Connection::open(self.path("recado.db")).unwrap().execute(sql, []).unwrap();
        }

        fn sandbox(&self, sql: &str) {
            Connection::open(self.path("sandbox.db")).unwrap().execute(sql, []).unwrap();
        }

        fn stored(&self, accepted: &[u128]) -> bool {
            stored(&self.tables(), accepted).is_ok()
        }

        fn all_arrived(&self) -> bool {
            all_arrived(&self.tables()).is_ok()
        }
    }

    #[test]
    fn complete_tables_in_order_pass() {
        // There is no order between two connections.
        let files = Files::with(&[(0, 1), (1, 0), (0, 2), (1, 3)]);
        assert!(files.stored(&[0, 1, 2, 3]) && files.all_arrived());
        assert!(files.stored(&[0, 1]), "what was stored without an answer is no loss");
    }

    #[test]
    fn a_lost_message_is_noticed() {
        let files = Files::with(&[(0, 1), (0, 2)]);
        assert!(!files.stored(&[1, 2, 3]));
        files.sandbox("DELETE FROM phone WHERE n = 2");
        files.sandbox("DELETE FROM arrivals WHERE n = 2");
        assert!(!files.all_arrived());
    }

    #[test]
    fn a_doubled_message_is_noticed() {
        let files = Files::with(&[(0, 1), (0, 2)]);
        assert!(!files.stored(&[1, 1]));
        files.sandbox("INSERT INTO arrivals (network_id) VALUES ('2')");
        assert!(!files.all_arrived());
    }

    #[test]
    fn disorder_is_noticed() {
        let files = Files::with(&[(0, 2), (0, 1)]);
        assert!(!files.stored(&[1, 2]) && !files.all_arrived());
    }

    #[test]
    fn a_network_accepts_each_message_once() {
        let files = Files::with(&[(0, 1), (0, 2), (0, 3)]);
        let read = |accepted: &[&str]| {
            let accepted: Vec<_> = accepted.iter().map(|&id| id.to_owned()).collect();
            read_once(&files.tables(), &accepted).is_ok()
        };
        let sent = "UPDATE messages SET attempts = 1, sending_at = 1, read_at = 2";
        files.store(&format!("{sent}, remote_id = 'a' where seq = 1"));
        files.store(&format!("{sent}, remote_id = 'b' where seq = 2"));
        assert!(read(&["a", "b"]), "the third waits");
        assert!(!read(&["a", "b", "c"]), "sent twice");
        assert!(!read(&["a", "c"]), "an unknown id");
        assert!(!read(&["a", "b", "b"]));
        files.store("UPDATE messages SET read_at = NULL WHERE seq = 2");
        assert!(!read(&["a"]), "sent, and not read");
    }
}
