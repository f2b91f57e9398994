//! `recado init`: a data directory from nothing.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use recado_domain::api_key::DEFAULT_RATE_LIMIT;
use serde_json::json;

use super::{Common, output, refused};
use crate::config::Behaviour;
use crate::gateway::{Gateway, STORE_FILE};
use crate::lock::DataDirLock;
use crate::operations::institutions::{self, Founded};

#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    common: Common,

    /// Name of the first institution
    #[arg(long, default_value = "Recado", value_name = "NAME")]
    name: String,
}

impl Init {
    pub async fn run(self) -> Result<()> {
        let dir = &self.common.data_dir.data_dir;
        // Keys' hashes and people's numbers: nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
        let _lock = DataDirLock::take(dir).await?;
        let store = dir.join(STORE_FILE);
        if store.exists() {
            bail!("{} is there already: this directory is in use", store.display());
        }
        let made = found(dir, &self.name).await;
        if made.is_err() {
            // Nothing of use is in it, and it would stand in the way of the next try.
            let _ = std::fs::remove_file(store);
        }
        self.show(&made?);
        Ok(())
    }

    fn show(&self, made: &Founded) {
        let value = json!({
            "institutionId": made.id, "testKey": made.test_key, "liveKey": made.live_key,
            "sandboxChannel": made.sandbox_channel,
        });
        output::print(&self.common.output, &value, || {
            let dir = self.common.data_dir.data_dir.display();
            println!("institution      {}", made.id);
            println!("test key         {}", made.test_key);
            println!("live key         {}", made.live_key);
            println!("sandbox channel  {}", made.sandbox_channel);
            println!("\nThe keys are shown this once. Next: recado serve --data-dir {dir}");
        });
    }
}

async fn found(dir: &Path, name: &str) -> Result<Founded> {
    let gateway = Gateway::open(dir, Behaviour::from_environment()).await?;
    let made = institutions::found(&gateway, name, Some(DEFAULT_RATE_LIMIT)).await;
    gateway.close().await;
    made.map_err(|error| refused(&error))
}
