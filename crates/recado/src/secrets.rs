//! `recado secrets`.

use std::io::IsTerminal;

use anyhow::Result;
use clap::Subcommand;
use recado_gateway::control::Command as Control;
use recado_store::clock::SystemEntropy;
use recado_store::sealed::new_key;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::{Common, Exit, operate, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print a new random key, for the file that `RECADO_SECRET_KEY_FILE` names
    NewKey,
    /// Encrypt with the first key what older keys have encrypted, so that those can be removed
    Rotate {
        #[command(flatten)]
        common: Common,
    },
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        match self {
            Self::NewKey => {
                output::line(new_key(&SystemEntropy).expose_secret())?;
                if std::io::stderr().is_terminal() {
                    output::note(
                        "Keep it in a file that RECADO_SECRET_KEY_FILE names, apart from back-ups of the data.",
                    );
                }
                Ok(Exit::Done)
            }
            Self::Rotate { common } => {
                let done = operate(&common.data_dir.data_dir, Control::RotateSecrets).await?;
                let whole = done["failed"].as_array().is_some_and(Vec::is_empty);
                let printed = output::print(&common.output, &done, || summary(&done));
                if whole { Exit::Done } else { Exit::Failed }.after(printed)
            }
        }
    }
}

fn summary(done: &Value) -> String {
    let failed = done["failed"].as_array().into_iter().flatten();
    let failed = failed.map(|one| {
        let (kind, id) = one.get("webhookId").map_or(("channel", &one["channelId"]), |id| ("webhook", id));
        format!("\nnot opened: {kind} {}: {}", output::cell(id), output::cell(&one["error"]))
    });
    let mut rest: String = failed.collect();
    if rest.is_empty() {
        "\nThe server needs no older key now; back-ups from before still do.".clone_into(&mut rest);
    }
    let key = output::cell(&done["keyId"]);
    format!("key {key}: {} re-encrypted, {} were current{rest}", done["sealedAnew"], done["already"])
}
