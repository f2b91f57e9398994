//! `recado init`: creates a data directory.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use recado_domain::api_key::DEFAULT_RATE_LIMIT;
use recado_domain::phone::DefaultCountry;
use recado_gateway::api::error::ApiError;
use recado_gateway::config::{Behaviour, Database};
use recado_gateway::control::AskError;
use recado_gateway::gateway::{Gateway, STORE_FILE};
use recado_gateway::lock::{DataDirLock, make_private};
use recado_gateway::operations::institutions::{self, CreatedInstitution};
use recado_gateway::shutdown::Signals;
use recado_store::postgres;
use recado_store::sqlite::copy;
use recado_store::sqlkit::sqlite::open_read_only;
use serde_json::json;

use crate::{Common, output};

#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    database: Database,

    /// Name of the first institution
    #[arg(long, default_value = "Recado", value_name = "NAME")]
    name: String,
}

impl Init {
    pub async fn run(self) -> Result<()> {
        let dir = &self.common.data_dir.data_dir;
        // It contains hashes of keys and people's numbers, so only the owner may read it.
        make_private(dir)?;
        // From here on Ctrl-C waits: a partial institution would block the next attempt.
        let _signals = Signals::listen()?;
        let _lock = DataDirLock::acquire(dir).await?;
        let behaviour = Behaviour { database: self.database.clone(), ..Behaviour::from_environment() };
        if let Some((_, direct_url)) = behaviour.database.urls() {
            postgres::migrate(direct_url).await.context("cannot make the tables")?;
            return self.show(&create(dir, behaviour, &self.name).await?);
        }
        let store = dir.join(STORE_FILE);
        let begun = store.exists();
        if begun && !is_unused(&store) {
            bail!("{} is there already: this directory is in use", store.display());
        }
        let made = create(dir, behaviour, &self.name).await;
        if made.is_err() && !begun {
            // It contains nothing useful, and would block the next attempt.
            let _ = std::fs::remove_file(store);
        }
        self.show(&made?)
    }

    fn show(&self, made: &CreatedInstitution) -> Result<()> {
        let value = json!({
            "institutionId": made.id, "testKey": made.test_key, "liveKey": made.live_key,
            "sandboxChannel": made.sandbox_channel,
        });
        output::print(&self.common.output, &value, || {
            let dir = self.common.data_dir.data_dir.display();
            format!(
                "institution      {}\ntest key         {}\nlive key         {}\nsandbox channel  {}\n\n\
                 The keys are shown this once. Next: recado serve --data-dir {dir}",
                made.id, made.test_key, made.live_key, made.sandbox_channel
            )
        })
    }
}

/// Whether the store is unused: its file is empty, or `init` was killed before it made an institution.
fn is_unused(store: &Path) -> bool {
    copy::is_empty(store)
        || open_read_only(store).and_then(|store| copy::institutions(&store)).is_ok_and(|count| count == 0)
}

async fn create(dir: &Path, behaviour: Behaviour, name: &str) -> Result<CreatedInstitution> {
    let secrets = behaviour.secret_key.read()?;
    let gateway = Gateway::open(dir, behaviour, secrets).await?;
    let made = async {
        // A file is new. A database may be in use, also by other nodes.
        if !gateway.store.institutions().await?.is_empty() {
            bail!("there are institutions in the database already: `recado institutions create` makes further ones");
        }
        let made = institutions::create(&gateway, name, Some(DEFAULT_RATE_LIMIT), DefaultCountry::Server).await;
        made.map_err(|error| AskError::from(&ApiError::from(error)).into())
    };
    let made = made.await;
    gateway.close().await;
    made
}
