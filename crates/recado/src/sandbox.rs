//! `recado sandbox`: the sandbox inbox.

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::api::{Api, Request, Target};
use crate::messages::content;
use crate::{Output, output};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the messages in the inbox, newest first
    Messages {
        /// Only messages to this number
        #[arg(long, value_name = "NUMBER")]
        to: Option<String>,
        /// Most messages
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        output: Output,
    },
    /// Empty the inbox, and delete the received messages, conversations and contacts of the sandbox
    Clear {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        output: Output,
    },
}

impl Command {
    pub async fn run(self) -> Result<()> {
        let (target, output) = match &self {
            Self::Messages { target, output, .. } | Self::Clear { target, output } => (target, output),
        };
        let api = Api::open(target, None).await?;
        let done = self.ask(&api).await;
        api.close().await;
        let value = done?;
        match &value {
            Value::Array(rows) if !output.json => output::show(output, &rows.iter().map(row).collect()),
            value => output::show(output, value),
        }
    }

    async fn ask(&self, api: &Api) -> Result<Value> {
        match self {
            Self::Messages { to, limit, .. } => {
                Ok(api.list("/v1/sandbox/messages", &[("to", to.as_deref())], *limit).await?.into())
            }
            Self::Clear { .. } => Ok(api.ask(Request::delete("/v1/sandbox/data".to_owned())).await?),
        }
    }
}

fn row(message: &Value) -> Value {
    json!({
        "receivedAt": message["receivedAt"], "channelId": message["channelId"], "to": message["to"],
        "type": message["type"], "content": content(message), "arrivals": message["arrivals"],
    })
}
