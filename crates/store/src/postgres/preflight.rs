//! How a database is set up, for whoever is to look after it.

use crate::sqlkit::postgres::db::{Db, args};
use crate::sqlkit::postgres::hosts::{Answer, Hosts};

/// The settings that matter, and what they have to be.
const SETTINGS: [(&str, &[&str]); 4] = [
    ("fsync", &["on"]),
    ("full_page_writes", &["on"]),
    ("synchronous_commit", &["on", "remote_apply"]),
    ("default_transaction_isolation", &["read committed"]),
];

/// A database that can be reached, and takes writes.
pub struct Condition {
    /// As `150008`.
    pub version: i32,
    /// The version of the tables; `None`: there are none.
    pub tables: Option<i32>,
    /// Settings that are not what they have to be, with what they are.
    pub wrong: Vec<(&'static str, String)>,
    pub max_connections: i32,
    /// Nodes that are there.
    pub nodes: i64,
    pub institutions: i64,
}

/// Looks at a database; an error says why it cannot be reached.
pub async fn condition(url: &str) -> anyhow::Result<Condition> {
    let (client, connection) = Hosts::parse(url, "")?.connect().await?;
    let connection = tokio::spawn(connection);
    let found = look(Db { client: &client, prepared: None }).await;
    connection.abort();
    found.map_err(|failure| anyhow::anyhow!("{failure:?}"))
}

async fn look(db: Db<'_>) -> crate::sqlkit::postgres::db::Done<Condition> {
    let sql = "select current_setting('server_version_num')::integer, current_setting('max_connections')::integer,
                      to_regclass('recado_migrations') is not null";
    let (mut version, mut max_connections, mut there) = (0, 0, false);
    if let Some(row) = db.row(sql, args![]).await? {
        (version, max_connections, there) = (row.get(0), row.get(1), row.get(2));
    }
    let mut wrong = Vec::new();
    for (name, right) in SETTINGS {
        let row = db.row("select current_setting($1)", args![name]).await?;
        wrong.extend(row.map(|row| row.get::<_, String>(0)).filter(|is| !right.contains(&&**is)).map(|is| (name, is)));
    }
    let (mut tables, mut nodes, mut institutions) = (None, 0, 0);
    if there {
        let sql = "select (select max(number) from recado_migrations), (select count(*) from nodes),
                          (select count(*) from institutions)";
        if let Some(row) = db.row(sql, args![]).await? {
            (tables, nodes, institutions) = (row.get(0), row.get(1), row.get(2));
        }
    }
    Ok(Condition { version, tables, wrong, max_connections, nodes, institutions })
}

/// Whether a pooler lets a program through to the database.
pub async fn answers(url: &str) -> bool {
    match Hosts::parse(url, "") {
        Ok(hosts) => !matches!(hosts.answer().await, Answer::None),
        Err(_) => false,
    }
}
