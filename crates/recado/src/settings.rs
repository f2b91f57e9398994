//! The settings in effect with their origins, and `recado config`.

use std::ffi::OsStr;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory};
use recado_gateway::config::{Config, SECRET_KEY};
use serde_json::{Value, json};

use crate::{Cli, Output, check, output};

/// Show the settings that `recado serve` would use, and where each comes from
///
/// It takes the flags of `serve`, and reads the variables. Secrets are hidden.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    config: Config,
    #[command(flatten)]
    output: Output,
}

/// A setting.
#[derive(Debug, Clone)]
pub struct Setting {
    /// `None` for the variable with the secret key, which has no flag.
    flag: Option<String>,
    variable: String,
    /// `None`: not set, and without a default.
    value: Option<String>,
    origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Default,
    Variable,
    Flag,
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Variable => "variable",
            Self::Flag => "flag",
        }
    }
}

/// Shown in place of a secret.
const HIDDEN: &str = "***";
/// The settings that contain a password.
const URLS_WITH_PASSWORDS: [&str; 2] = ["database_url", "database_direct_url"];

/// The settings of `serve` that these arguments and the variables give.
pub fn given(matches: &ArgMatches) -> Vec<Setting> {
    let Some((name @ ("serve" | "config"), matches)) = matches.subcommand() else { return Vec::new() };
    let command = Cli::command();
    let Some(command) = command.find_subcommand(name) else { return Vec::new() };
    let mut settings: Vec<_> = command
        .get_arguments()
        .filter_map(|argument| {
            let (id, variable) = (argument.get_id().as_str(), argument.get_env()?);
            let raw =
                matches.get_raw(id).map(|values| values.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(","));
            let hide = |value: String| if URLS_WITH_PASSWORDS.contains(&id) { without_password(&value) } else { value };
            let origin = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                Some(ValueSource::EnvVariable) => Origin::Variable,
                _ => Origin::Default,
            };
            let flag = argument.get_long().map(|flag| format!("--{flag}"));
            Some(Setting { flag, variable: variable.to_string_lossy().into(), value: raw.map(hide), origin })
        })
        .collect();
    let key = std::env::var_os(SECRET_KEY).map(|_| HIDDEN.to_owned());
    let origin = if key.is_some() { Origin::Variable } else { Origin::Default };
    settings.push(Setting { flag: None, variable: SECRET_KEY.to_owned(), value: key, origin });
    settings
}

/// The URL of a database with its password hidden. If it may be elsewhere in the URL, nothing is shown.
fn without_password(url: &str) -> String {
    let parts = url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
    match parts {
        _ if url.to_lowercase().contains("password") => HIDDEN.to_owned(),
        Some((scheme, (user, place))) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}://{name}:{HIDDEN}@{place}"),
            None => url.to_owned(),
        },
        None if url.contains("://") && !url.contains('@') => url.to_owned(),
        None => HIDDEN.to_owned(),
    }
}

/// Logs the settings that are not the defaults.
pub fn log(settings: &[Setting]) {
    for setting in settings.iter().filter(|setting| setting.origin != Origin::Default) {
        let name = setting.flag.as_deref().unwrap_or(&setting.variable);
        let value = setting.value.as_deref().unwrap_or_default();
        tracing::info!(name, value, origin = setting.origin.name(), "setting");
    }
}

impl Show {
    pub fn run(&self, settings: &[Setting]) -> Result<()> {
        let rows: Vec<Value> = settings
            .iter()
            .map(|Setting { flag, variable, value, origin }| {
                json!({ "flag": flag, "variable": variable, "value": value, "origin": origin.name() })
            })
            .collect();
        output::show(&self.output, &rows.into())?;
        // Values that do not fit together are an error here too.
        check::validate(&self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            ("postgres://recado:s3cret@db:5432/recado", "postgres://recado:***@db:5432/recado"),
            (
                "postgres://recado:s3@cret@db1,db2/recado?sslmode=require",
                "postgres://recado:***@db1,db2/recado?sslmode=require",
            ),
            ("postgres://recado@db/recado", "postgres://recado@db/recado"),
            ("postgres:///recado?host=/run/postgresql", "postgres:///recado?host=/run/postgresql"),
            ("postgres://db/recado?user=recado&password=s3cret", "***"),
            ("host=db user=recado password=s3cret", "***"),
            ("s3cret", "***"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
