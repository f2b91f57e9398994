//! `recado serve --check`: whether the server would start with these settings. It changes nothing.

use std::path::Path;

use anyhow::{Context, Result, bail};
use recado_gateway::config::{Config, Database};
use recado_gateway::gateway::{self, Gateway, STORE_FILE};
use recado_gateway::lock::DataDirLock;
use recado_gateway::server;
use recado_store::postgres::{self, preflight};
use recado_store::sqlite::{self, copy};
use recado_store::sqlkit::sqlite::{open_read_only, tail};

use crate::output;

/// Checks the settings, the store and the addresses. An error says what would prevent the start.
pub async fn run(config: &Config) -> Result<()> {
    validate(config)?;
    config.behaviour.secret_key.read()?;
    let dir = &config.data_dir.data_dir;
    let institutions = match config.behaviour.database.urls() {
        Some(_) => in_database(&config.behaviour.database).await?,
        None => in_file(dir)?,
    };
    if institutions == 0 {
        bail!("the store has no institution: make the first one with `recado init`");
    }
    // The addresses of a running server are taken by itself.
    let runs = DataDirLock::is_held(dir);
    for address in [Some(config.listen), config.metrics.metrics_listen].into_iter().flatten().filter(|_| !runs) {
        server::listen(address).with_context(|| format!("cannot listen on {address}"))?;
    }
    output::line("the server would start with these settings")
}

/// Checks settings that depend on each other, and those that no parser of a single value checks.
pub fn validate(config: &Config) -> Result<()> {
    let behaviour = &config.behaviour;
    if behaviour.sandbox_delay_max < behaviour.sandbox_delay_min {
        bail!("--sandbox-delay-max must not be shorter than --sandbox-delay-min");
    }
    Gateway::check(behaviour)
}

fn in_file(dir: &Path) -> Result<i64> {
    gateway::check_store_exists(dir)?;
    let path = dir.join(STORE_FILE);
    if !DataDirLock::is_held(dir) {
        tail::check(&path)?;
    }
    let read = || {
        let connection = open_read_only(&path)?;
        let (version, _) = copy::version_and_newest(&connection)?;
        Ok::<_, rusqlite::Error>((version, copy::institutions(&connection)?))
    };
    let (version, institutions) = read().with_context(|| format!("cannot read {}", path.display()))?;
    if version > sqlite::SCHEMA_VERSION {
        bail!(
            "{} has version {version}, of a newer Recado; this build's is {}",
            path.display(),
            sqlite::SCHEMA_VERSION
        );
    }
    Ok(institutions)
}

async fn in_database(database: &Database) -> Result<i64> {
    let Some((_, direct_url)) = database.urls() else { return Ok(0) };
    let found = preflight::preflight(direct_url).await.context("cannot reach the database")?;
    if found.importing {
        bail!("a store is being copied into the database: let `recado migrate-store` end first");
    }
    match found.tables {
        None => bail!("there are no tables in the database: make them with `recado init --database-url …`"),
        Some(version) if found.works_from.is_some_and(|works_from| works_from > postgres::SCHEMA_VERSION) => {
            bail!("the tables have version {version}, of a newer Recado; this build's is {}", postgres::SCHEMA_VERSION)
        }
        Some(_) => Ok(found.institutions),
    }
}
