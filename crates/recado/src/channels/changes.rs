//! The flags of `recado channels update`: a name, and one for each setting of a channel type.

use std::convert::Infallible;
use std::num::ParseIntError;
use std::str::ParseBoolError;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};
use recado_domain::channel::{ChannelChange, ChannelType, Setting, SettingKind, all_settings};
use serde_json::Value;

/// The requested changes.
#[derive(Debug)]
pub struct Changes(pub ChannelChange);

impl Args for Changes {
    fn augment_args(command: Command) -> Command {
        let name = Arg::new("name").long("name").value_name("NAME").help("Its name, for people");
        command.arg(name).args(all_settings().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let about = setting.about.trim_end_matches('.');
    let types: Vec<_> = ChannelType::ALL.into_iter().filter(|kind| kind.settings().contains(setting)).collect();
    let mut help = about.to_owned();
    if types.len() < ChannelType::ALL.len() {
        let names: Vec<_> = types.into_iter().map(ChannelType::name).collect();
        help = format!("{about} ({})", names.join(", "));
    }
    let (value, parser): (&str, ValueParser) = match setting.kind {
        SettingKind::Number(..) => ("N", ValueParser::new(number)),
        SettingKind::Seconds(..) => ("TIME", ValueParser::new(seconds)),
        SettingKind::Limit(..) => ("N|unlimited", ValueParser::new(limit)),
        SettingKind::Switch => ("true|false", ValueParser::new(switch)),
        SettingKind::Words => ("WORD,…", ValueParser::new(|given: &str| Ok::<_, Infallible>(words(given)))),
        SettingKind::Choice { names, .. } => {
            help = format!("{help}: {}", names.join(" or "));
            let choice =
                |given: &str| names.contains(&given).then(|| Value::from(given)).ok_or_else(|| names.join(" or "));
            ("WHAT", ValueParser::new(choice))
        }
    };
    Arg::new(setting.name).long(setting.flag).value_name(value).value_parser(parser).help(help)
}

fn number(given: &str) -> Result<Value, ParseIntError> {
    given.parse::<u32>().map(Value::from)
}

/// Whole seconds, rounded up.
fn seconds(given: &str) -> Result<Value, String> {
    let time = recado_gateway::config::time(given)?;
    Ok(u32::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).into())
}

fn switch(given: &str) -> Result<Value, ParseBoolError> {
    given.parse::<bool>().map(Value::from)
}

/// Words between commas; none in an empty text.
fn words(given: &str) -> Value {
    given.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
}

fn limit(given: &str) -> Result<Value, &'static str> {
    match given {
        "unlimited" => Ok(Value::Null),
        number => number.parse::<u32>().map(Value::from).map_err(|_| "a number, or unlimited"),
    }
}

impl FromArgMatches for Changes {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |setting: &Setting| {
            let value = matches.get_one::<Value>(setting.name)?;
            Some((setting.name.to_owned(), value.clone()))
        };
        let settings = all_settings().filter_map(given).collect();
        Ok(Self(ChannelChange { name: matches.get_one::<String>("name").cloned(), settings }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
