//! Checks how a database is set up, for `recado doctor`.

use super::migrations::IMPORTING;
use crate::sqlkit::postgres::db::{Db, Failure, args};
use crate::sqlkit::postgres::failure::describe;
use crate::sqlkit::postgres::hosts::{Hosts, ProbeResult};

/// Settings that the promises need, and their permitted values.
const SETTINGS: [(&str, &[&str]); 4] = [
    ("fsync", &["on"]),
    ("full_page_writes", &["on"]),
    ("synchronous_commit", &["on", "remote_apply"]),
    ("default_transaction_isolation", &["read committed"]),
];

/// What was found in a reachable, writable database.
pub struct Preflight {
    /// The server's version, such as `150008`.
    pub version: i32,
    /// The version of the tables; `None` without tables.
    pub tables: Option<i32>,
    /// The version that a build must know at least to work on the tables.
    pub works_from: Option<i32>,
    /// Whether `recado migrate-store` has not finished.
    pub importing: bool,
    /// Settings with other values than the permitted ones.
    pub wrong: Vec<(&'static str, String)>,
    pub max_connections: i32,
    /// The number of nodes.
    pub nodes: i64,
    pub institutions: i64,
}

/// Checks a database; an error says why it cannot be reached.
pub async fn preflight(url: &str) -> anyhow::Result<Preflight> {
    let (client, connection) = Hosts::parse(url, "")?.connect().await?;
    let connection = tokio::spawn(connection);
    let found = check(Db { client: &client, prepared: None, reached: None }).await;
    connection.abort();
    found.map_err(|failure| match failure {
        Failure::Postgres(error) => describe(error),
        other => anyhow::anyhow!("{other:?}"),
    })
}

async fn check(db: Db<'_>) -> crate::sqlkit::postgres::db::Done<Preflight> {
    let sql = "SELECT current_setting('server_version_num')::integer, current_setting('max_connections')::integer,
                      to_regclass('recado_migrations') IS NOT NULL, to_regclass($1) IS NOT NULL";
    let (mut version, mut max_connections, mut there, mut importing) = (0, 0, false, false);
    if let Some(row) = db.row(sql, args![IMPORTING]).await? {
        (version, max_connections, there, importing) = (row.get(0), row.get(1), row.get(2), row.get(3));
    }
    let mut wrong = Vec::new();
    for (name, right) in SETTINGS {
        let row = db.row("SELECT current_setting($1)", args![name]).await?;
        wrong.extend(row.map(|row| row.get::<_, String>(0)).filter(|is| !right.contains(&&**is)).map(|is| (name, is)));
    }
    let (mut tables, mut works_from, mut nodes, mut institutions) = (None, None, 0, 0);
    if there {
        let sql = "SELECT (SELECT max(number) FROM recado_migrations), (SELECT count(*) FROM nodes),
                          (SELECT count(*) FROM institutions), (SELECT max(works_from) FROM recado_migrations)";
        if let Some(row) = db.row(sql, args![]).await? {
            (tables, nodes, institutions, works_from) = (row.get(0), row.get(1), row.get(2), row.get(3));
        }
    }
    Ok(Preflight { version, tables, works_from, importing, wrong, max_connections, nodes, institutions })
}

/// Whether a pooler forwards connections to the database.
pub async fn answers(url: &str) -> bool {
    match Hosts::parse(url, "") {
        Ok(hosts) => !matches!(hosts.probe().await, ProbeResult::None),
        Err(_) => false,
    }
}
