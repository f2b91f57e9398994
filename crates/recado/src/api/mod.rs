//! The API client of the commands: with a data directory as its operator and without a key, or with `--url` over HTTP.

mod remote;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use recado_domain::api_key::Environment;
use recado_gateway::api::error::ApiError;
use recado_gateway::api::json::BODY_LIMIT;
use recado_gateway::config::DataDir;
use recado_gateway::control::{AskError, Call, CallScope, Command, Reply};
use serde_json::Value;

use crate::api::remote::Remote;
use crate::exit::{Exit, Failure};
use crate::local::Local;
use crate::parse_environment;

/// The page size of lists: the largest that the API permits.
const PAGE: usize = 100;

/// The institution and environment of the API calls.
#[derive(Debug, Clone, Args)]
pub struct Target {
    // `elsewhere` reads the variable: clap cannot distinguish a typed value from that of a variable.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "url",
        help = "Directory of the store, the sandbox and the control socket [env: RECADO_DATA_DIR] [default: data]"
    )]
    data_dir: Option<PathBuf>,
    #[arg(
        long,
        value_name = "URL",
        help = "A Recado elsewhere (https://recado.example.com) in place of a data directory. Its API key is read \
                  from RECADO_API_KEY, or from a file [env: RECADO_URL]"
    )]
    url: Option<String>,
    /// File whose first line is the API key for --url
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    api_key_file: Option<PathBuf>,
    /// test or live; needed when both have a channel of this id
    #[arg(long, value_parser = parse_environment, conflicts_with = "url")]
    environment: Option<Environment>,
    /// Institution of the channel; needed if there is more than one
    #[arg(long, value_name = "ID", conflicts_with = "url")]
    institution: Option<String>,
}

impl Target {
    /// The URL of another server, if there is one. A typed value has precedence over the variable.
    fn elsewhere(&self) -> Result<Option<String>> {
        let variable = || std::env::var("RECADO_URL").ok().filter(|_| self.data_dir.is_none());
        let url = self.url.clone().or_else(variable);
        let text = match &url {
            Some(_) if self.institution.is_some() || self.environment.is_some() => {
                "--institution and --environment are for a data directory, and RECADO_URL is set: name the directory \
                 by --data-dir"
            }
            None if self.api_key_file.is_some() => "--api-key-file goes with --url",
            _ => return Ok(url),
        };
        Err(Failure { exit: Exit::Usage, text: text.to_owned() }.into())
    }
}

/// A call, before its transport is known.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn get(path: String) -> Self {
        Self { method: "GET", path, ..Self::default() }
    }

    pub fn delete(path: String) -> Self {
        Self { method: "DELETE", path, ..Self::default() }
    }
}

/// The API, and its transport.
pub struct Api {
    way: Way,
    whose: CallScope,
}

enum Way {
    Local(Local),
    Remote(Box<Remote>),
}

impl Api {
    /// Opens the transport. The channel of the calls decides the environment.
    pub async fn open(target: &Target, channel: Option<&str>) -> Result<Self> {
        let way = match target.elsewhere()? {
            Some(url) => Way::Remote(Box::new(Remote::new(&url, target.api_key_file.as_deref())?)),
            None => Way::Local(Local::open(&target.data_dir.clone().unwrap_or_else(DataDir::untyped)).await?),
        };
        let (institution, environment) = (target.institution.clone(), target.environment);
        Ok(Self { way, whose: CallScope { institution, environment, channel: channel.map(str::to_owned) } })
    }

    /// Whether accepted messages are sent. Without a server they only wait in the store.
    pub fn is_served(&self) -> bool {
        !matches!(self.way, Way::Local(Local::Own(_)))
    }

    /// A name of the sender that no other institution, environment or server shares.
    pub async fn account(&self) -> Result<String, AskError> {
        match &self.way {
            Way::Remote(remote) => Ok(remote.account.clone()),
            Way::Local(local) => {
                let whose = local.execute(Command::Resolve { whose: self.whose.clone() }).await?;
                let part = |name: &str| whose[name].as_str().unwrap_or_default();
                Ok(format!("{} {}", part("institution"), part("environment")))
            }
        }
    }

    /// How long to wait before polling again: a remote key has a rate limit, and a local server has none.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(if matches!(self.way, Way::Remote(_)) { 3_000 } else { 200 })
    }

    /// Makes one call, and returns its answer.
    pub async fn call(&self, request: Request) -> Result<Reply, AskError> {
        if request.body.len() > BODY_LIMIT {
            // The connection would be closed in the middle of the body, and the reason lost.
            let body = serde_json::to_string(&ApiError::PayloadTooLarge.body()).unwrap_or_default();
            return Ok(Reply { status: 413, headers: BTreeMap::new(), body });
        }
        match &self.way {
            Way::Remote(remote) => remote.call(request).await,
            Way::Local(local) => {
                let Request { method, path, headers, body } = request;
                let call = Call { whose: self.whose.clone(), method: method.to_owned(), path, headers, body };
                let value = local.execute(Command::Call(call)).await?;
                let unexpected =
                    |error| AskError::NoAnswer(format!("{error}: is the server of another version?").into());
                serde_json::from_value(value).map_err(unexpected)
            }
        }
    }

    /// Makes one call that must succeed. It waits while the key is rate limited.
    pub async fn ask(&self, request: Request) -> Result<Value, AskError> {
        loop {
            let reply = self.call(request.clone()).await?;
            match reply.retry_after() {
                Some(wait) if reply.status == 429 => tokio::time::sleep(wait).await,
                _ => return reply.success(),
            }
        }
    }

    /// The rows of a list, page by page, until there are `most`.
    pub async fn list(
        &self,
        path: &str,
        filters: &[(&str, Option<&str>)],
        most: usize,
    ) -> Result<Vec<Value>, AskError> {
        let given = filters.iter().filter_map(|(name, value)| Some(format!("&{name}={}", encoded((*value)?))));
        let filters: String = given.collect();
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        while rows.len() < most {
            let limit = PAGE.min(most - rows.len());
            let mut page = self.ask(Request::get(format!("{path}?limit={limit}{filters}{cursor}"))).await?;
            match page["data"].take() {
                Value::Array(more) if !more.is_empty() => rows.extend(more),
                // Independent of the next page: each page makes progress, or is the last.
                _ => break,
            }
            let Some(next) = page["pagination"]["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={}", encoded(next));
        }
        Ok(rows)
    }

    /// Closes what was opened.
    pub async fn close(self) {
        if let Way::Local(local) = self.way {
            local.close().await;
        }
    }
}

/// A path of a channel's messages.
pub fn messages_path(channel: &str, rest: &str) -> String {
    format!("/v1/channels/{}/messages{rest}", encoded(channel))
}

/// Encodes a text for a path segment or a query.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use crate::api::*;

    #[test]
    fn retry_after_is_bounded() {
        let parsed = |time: &str| {
            let headers = BTreeMap::from([("retry-after".to_owned(), time.to_owned())]);
            Reply { status: 429, headers, body: String::new() }.retry_after().map(|wait| wait.as_secs())
        };
        let times = ["0", "7", "18446744073709551615", "Mon, 23 Nov 2026 12:00:00 GMT"].map(parsed);
        assert_eq!(times, [Some(1), Some(7), Some(3_600), None]);
    }
}
