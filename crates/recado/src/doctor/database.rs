//! The shared database.

use recado_gateway::config::{Database, SecretKey};
use recado_store::postgres::{SCHEMA_VERSION, preflight};

use crate::doctor::{Check, secrets};

/// The oldest server version that supports the tables.
const OLDEST: i32 = 130_000;
/// Connections of a node beside those for messages.
const BESIDE: i64 = 11;
/// Connections of other programs.
const OTHERS: i64 = 10;

pub async fn checks(database: &Database, secret_key: &SecretKey) -> Vec<Check> {
    let Some((url, direct_url)) = database.urls() else { return Vec::new() };
    let name = "database";
    let found = match preflight::preflight(direct_url).await {
        Ok(found) => found,
        Err(error) => {
            let to_do =
                "is the database started, and is the URL right? A node starts only if its database accepts writes";
            return vec![Check::fail(name, format!("{error:#}"), to_do)];
        }
    };
    let version = format!("PostgreSQL {}.{} accepts writes", found.version / 10_000, found.version % 10_000);
    let mut checks = vec![if found.version < OLDEST {
        Check::fail(name, version, "Recado needs PostgreSQL 13 or later")
    } else {
        Check::ok(name, version)
    }];
    checks.push(tables(&found));
    if found.tables.is_some() {
        checks.push(crate::doctor::institutions(found.institutions));
        // Other tables are of another version, and are reported above.
        if found.tables == Some(SCHEMA_VERSION) && !found.importing {
            checks.push(secrets::check_database((url, direct_url), secret_key).await);
        }
    }
    checks.extend(found.wrong.iter().map(|(setting, is)| {
        let to_do = format!("set {setting} as docs/nodes.md says: accepted messages may be lost with it");
        Check::fail("settings", format!("{setting} is {is}"), to_do)
    }));
    if found.wrong.is_empty() {
        checks.push(Check::ok("settings", "the settings that the promises need are right"));
    }
    checks.push(connections(&found, database.database_connections.into()));
    if url != direct_url {
        checks.push(if preflight::answers(url).await {
            Check::ok("pooler", "forwards to a server that accepts writes")
        } else {
            Check::fail("pooler", "does not forward to a server that accepts writes", "check its log")
        });
    }
    checks
}

fn tables(found: &preflight::Preflight) -> Check {
    let name = "tables";
    if found.importing {
        return Check::fail(name, "a store is being copied into this database", "let `recado migrate-store` end first");
    }
    match found.tables {
        Some(version) if found.works_from.is_some_and(|works_from| works_from > SCHEMA_VERSION) => {
            let found = format!("version {version}, of a newer Recado");
            Check::fail(name, found, "start that Recado: there is no way back")
        }
        None => Check::fail(name, "there are none", "make them with `recado init --database-url …`"),
        Some(version) if version < SCHEMA_VERSION => {
            let found = format!("version {version}, and this Recado makes {SCHEMA_VERSION}");
            Check::warn(name, found, "the next `recado serve` brings them up to date")
        }
        Some(version) => Check::ok(name, format!("version {version}")),
    }
}

fn connections(found: &preflight::Preflight, of_a_node: i64) -> Check {
    let (name, nodes) = ("connections", found.nodes.max(1));
    let wanted = nodes * (of_a_node + BESIDE) + OTHERS;
    let text = format!("the server allows {}, {nodes} such nodes need {wanted}", found.max_connections);
    if wanted > found.max_connections.into() {
        Check::warn(name, text, "raise max_connections, or lower --database-connections")
    } else {
        Check::ok(name, text)
    }
}
