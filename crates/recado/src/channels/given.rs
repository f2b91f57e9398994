//! The flags of `recado channels connect`: one for each field that connects channels of some type. Secrets have no flags,
//! because every user of a machine can read a command line: they come from files or variables.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};
use recado_domain::channel::ChannelType;
use recado_domain::channel::types::{ConnectField, FieldText};
use recado_domain::text::without_mark;
use recado_gateway::control::Credentials;

/// The given flags.
#[derive(Debug)]
pub struct Given {
    texts: Vec<(&'static str, String)>,
    files: Vec<(&'static str, PathBuf)>,
}

/// The fields of all types.
fn fields() -> impl Iterator<Item = (ChannelType, &'static ConnectField)> {
    ChannelType::ALL.into_iter().flat_map(|kind| kind.descriptor().connect.iter().map(move |field| (kind, field)))
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        command.args(fields().map(|(kind, field)| flag(kind, field)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(kind: ChannelType, field: &'static ConnectField) -> Arg {
    let about = field.about.trim_end_matches('.');
    let arg = Arg::new(field.name).long(field.flag);
    match field.text {
        FieldText::Digits(_) => arg.value_name("ID").help(about),
        FieldText::Secret { variable, .. } => {
            let help = format!("{about}. In this file, or in the variable `{variable}`");
            arg.value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
        }
        FieldText::Phone => {
            let about = about.trim_start_matches(&format!("`{}`: ", kind.name()));
            arg.value_name("NUMBER").help(format!("In place of a QR code, {about} ({})", kind.name()))
        }
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = Self { texts: Vec::new(), files: Vec::new() };
        for (_, ConnectField { name, text, .. }) in fields() {
            match text {
                FieldText::Secret { .. } => {
                    given.files.extend(matches.get_one::<PathBuf>(name).map(|file| (*name, file.clone())));
                }
                FieldText::Digits(_) | FieldText::Phone => {
                    given.texts.extend(matches.get_one::<String>(name).map(|text| (*name, text.clone())));
                }
            }
        }
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Given {
    /// The given values, with the contents of files, and the variables of this type.
    pub fn credentials(self, kind: ChannelType) -> Result<Credentials> {
        let mut all: Vec<_> = self.texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        for (name, file) in &self.files {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let text = without_mark(&text).trim();
            // If an empty file counted as no value, the channel would be linked without it, silently.
            ensure!(!text.is_empty(), "{} is empty", file.display());
            all.push(((*name).to_owned(), text.to_owned()));
        }
        for field in kind.descriptor().connect {
            if let FieldText::Secret { variable, .. } = field.text
                && !all.iter().any(|(name, _)| name == field.name)
                && let Ok(text) = std::env::var(variable)
            {
                all.push((field.name.to_owned(), text));
            }
        }
        Ok(Credentials(all))
    }
}
