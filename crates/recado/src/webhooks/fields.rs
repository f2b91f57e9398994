//! The fields of a webhook as flags. The secret and the headers come from files, because every user of a machine can read a
//! command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use recado_domain::clock::millis;
use recado_domain::text::without_mark;
use recado_gateway::signature;
use recado_store::clock::SystemEntropy;
use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};

/// The variable with the secret.
const SECRET: &str = "RECADO_WEBHOOK_SECRET";

#[derive(Debug, Args)]
pub struct Fields {
    /// Its name, for people; the host of the URL if omitted
    #[arg(long)]
    name: Option<String>,
    /// Its events: names and patterns (message.*), separated by commas
    #[arg(long, value_name = "EVENTS", value_delimiter = ',')]
    events: Option<Vec<String>>,
    /// false: nothing is sent. true also enables a webhook that the server disabled
    #[arg(long, value_name = "BOOL")]
    active: Option<bool>,
    /// File with the secret. `create` also reads the variable `RECADO_WEBHOOK_SECRET`; without both the server makes a secret
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The number of retries at one interval, in place of the long schedule: 0 to 10
    #[arg(long, value_name = "N", requires = "retry_delay")]
    max_retries: Option<u8>,
    /// The interval of these retries: 5s to 5m
    #[arg(long, value_name = "TIME", requires = "max_retries", value_parser = recado_gateway::config::time)]
    retry_delay: Option<Duration>,
    /// Only events of these channels, separated by commas
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    channels: Option<Vec<String>>,
    /// DIRECT, or DIRECT,GROUP for groups, too
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    chat_kinds: Option<Vec<String>>,
    /// File with fixed headers, one `Name: value` a line
    #[arg(long, value_name = "FILE")]
    headers_file: Option<PathBuf>,
    /// false: events have ids and states, but no texts, names or numbers
    #[arg(long, value_name = "BOOL")]
    content: Option<bool>,
    /// message, or conversation: an event waits for the earlier ones of its conversation
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
}

/// Fields that get their default again.
#[derive(Debug, Args)]
pub struct Resets {
    /// Retries by the long schedule again
    #[arg(long, conflicts_with = "max_retries")]
    long_schedule: bool,
    /// Events of all channels again
    #[arg(long, conflicts_with = "channels")]
    all_channels: bool,
    /// No fixed headers any more
    #[arg(long, conflicts_with = "headers_file")]
    no_headers: bool,
}

impl Fields {
    /// The body that creates a webhook.
    pub fn new_webhook(&self, url: &str) -> Result<Value> {
        let secret = match self.secret()? {
            Some(secret) => Some(secret),
            None => std::env::var(SECRET).ok().map(|secret| without_mark(&secret).trim().to_owned()),
        };
        Ok(self.body(Some(url), secret.as_deref())?.into())
    }

    /// The body that changes a webhook. The variable with the secret is not read: it may still be set from its creation.
    pub fn change(&self, url: Option<&str>, new_secret: bool, resets: &Resets) -> Result<Value> {
        let secret = if new_secret { Some(signature::new_secret(&SystemEntropy)) } else { self.secret()? };
        let mut body = self.body(url, secret.as_deref())?;
        let Resets { long_schedule, all_channels, no_headers } = resets;
        for (name, _) in [("retryPolicy", long_schedule), ("channelIds", all_channels), ("headers", no_headers)]
            .iter()
            .filter(|(_, reset)| **reset)
        {
            body.insert((*name).to_owned(), Value::Null);
        }
        if body.is_empty() {
            let text = "nothing to change; `recado webhooks update --help` lists the fields".to_owned();
            return Err(Failure { exit: Exit::Usage, text }.into());
        }
        Ok(body.into())
    }

    fn body(&self, url: Option<&str>, secret: Option<&str>) -> Result<Map<String, Value>> {
        let retries = self.max_retries.zip(self.retry_delay);
        let retries = retries.map(|(most, delay)| json!({ "maxRetries": most, "retryDelay": millis(delay) }));
        let headers = self.headers_file.as_deref().map(headers).transpose()?;
        let given = [
            ("name", json!(self.name)),
            ("url", json!(url)),
            ("events", json!(self.events)),
            ("secret", json!(secret)),
            ("active", json!(self.active)),
            ("retryPolicy", json!(retries)),
            ("channelIds", json!(self.channels)),
            ("chatKinds", json!(self.chat_kinds)),
            ("headers", json!(headers)),
            ("content", json!(self.content)),
            ("order", json!(self.order)),
        ];
        let given = given.into_iter().filter(|(_, value)| !value.is_null());
        Ok(given.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn secret(&self) -> Result<Option<String>> {
        let text = self.secret_file.as_deref().map(read).transpose()?;
        Ok(text.map(|text| without_mark(&text).trim().to_owned()))
    }
}

fn read(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // An empty file is an error. If it counted as no value, the server would silently make a secret.
    ensure!(!text.trim().is_empty(), "{} is empty", file.display());
    Ok(text)
}

/// The headers of a file. Their values are not shown in errors.
fn headers(file: &Path) -> Result<Value> {
    let text = read(file)?;
    let mut headers = Map::new();
    for (number, line) in (1..).zip(without_mark(&text).lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            bail!("{}: line {number} is no `Name: value`", file.display());
        };
        headers.insert(name.trim().to_owned(), value.trim().into());
    }
    Ok(headers.into())
}
