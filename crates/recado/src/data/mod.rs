//! `recado data`: the stored data of one person.

mod erase;
mod export;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use recado_domain::address::AddressKind;
use recado_domain::ids::InstitutionId;
use recado_domain::phone::PhoneNumber;
use recado_gateway::control::Command as Control;
use recado_store::person::{Person, PersonPart, PersonQuery};
use serde_json::Value;

use crate::local::Local;
use crate::{Common, Exit};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the stored data of a recipient, as JSON
    Export {
        #[command(flatten)]
        recipient: Recipient,
        /// File to write it to, which must not exist; standard output without it
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        data_dir: recado_gateway::config::DataDir,
    },
    /// Erase the stored data of a recipient; waiting messages to them are cancelled
    ///
    /// Exits with 4 while a message to them is in flight: run it again. Backups are not changed.
    Erase {
        #[command(flatten)]
        recipient: Recipient,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        /// Rewrite the files afterwards, so that no byte of erased data stays in unused space; no server may run
        #[arg(long)]
        compact: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub struct Recipient {
    /// The person's number, DDI+DDD+NUM; without DDI if there is a default country. Or a hidden id, DIGITS@lid, or a user
    /// id of a business, such as BR.1502576394655843
    #[arg(long, value_name = "NUMBER")]
    recipient: String,
    /// Only the data of this institution; of all institutions if omitted
    #[arg(long, value_name = "ID")]
    institution: Option<String>,
}

impl Command {
    pub async fn run(self) -> Result<Exit> {
        match self {
            Self::Export { recipient, output, data_dir } => export::run(&recipient, output, &data_dir.data_dir).await,
            Self::Erase { recipient, yes, compact, common } => erase::run(&recipient, (yes, compact), &common).await,
        }
    }
}

impl Recipient {
    /// The names under which the store may know the person: the number in both of its forms, as the store reads it, or an
    /// id.
    async fn names(&self, local: &Local) -> Result<Vec<String>> {
        if matches!(AddressKind::of(&self.recipient), AddressKind::Lid | AddressKind::UserId) {
            return Ok(vec![self.recipient.clone()]);
        }
        let institution = self.institution(local).await?;
        let read = local.execute(Control::ReadNumber { institution, text: self.recipient.clone() }).await?;
        Ok(forms(&PhoneNumber::of_stored(read.as_str().unwrap_or_default())?))
    }

    /// The person with these names, with all others that the networks gave.
    async fn find(&self, local: &Local, names: Vec<String>) -> Result<Person> {
        let mut person = Person::new(names, self.institution(local).await?);
        loop {
            let known = person.numbers.len();
            let (mut found, wanted) = (Vec::new(), person.clone());
            pages(local, &wanted, PersonPart::Names, |name| {
                found.extend(name.as_str().map(str::to_owned));
                Ok(())
            })
            .await?;
            for name in found {
                if !person.numbers.contains(&name) {
                    person.numbers.push(name);
                }
            }
            if person.numbers.len() == known {
                return Ok(person);
            }
        }
    }

    /// The institutions whose data is meant: the named one, or all.
    async fn institutions(&self, local: &Local) -> Result<Vec<InstitutionId>> {
        if let Some(institution) = self.institution(local).await? {
            return Ok(vec![institution]);
        }
        let all = local.execute(Control::ListInstitutions).await?;
        let ids = all.as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()?.parse().ok());
        Ok(ids.collect())
    }

    async fn institution(&self, local: &Local) -> Result<Option<InstitutionId>> {
        let Some(named) = &self.institution else { return Ok(None) };
        let all = local.execute(Control::ListInstitutions).await?;
        match all.as_array().into_iter().flatten().find(|one| one["id"] == **named) {
            Some(_) => Ok(named.parse().ok()),
            None => bail!("there is no institution {named}"),
        }
    }
}

/// The digits under which a person may be stored.
fn forms(number: &PhoneNumber) -> Vec<String> {
    let others = [number.twin(), number.with_trunk_zero()];
    [number].into_iter().chain(others.iter().flatten()).map(|form| form.digits().to_owned()).collect()
}

/// Passes all rows of a part to `row`, page by page.
async fn pages(
    local: &Local,
    person: &Person,
    part: PersonPart,
    mut row: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let mut after = 0;
    loop {
        let query = PersonQuery { person: person.clone(), part, after };
        let mut page = local.execute(Control::ShowPerson { query }).await?;
        rows(&mut page).try_for_each(&mut row)?;
        match page["next"].as_i64() {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn rows(page: &mut Value) -> impl Iterator<Item = Value> + use<> {
    match page["rows"].take() {
        Value::Array(rows) => rows.into_iter(),
        _ => Vec::new().into_iter(),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::*;

    #[test]
    fn a_person_is_found_under_all_digits_that_any_version_stored() {
        let forms = |digits: &str| forms(&PhoneNumber::parse(digits, None).expect("a number"));
        assert_eq!(forms("+44 (0)20 7946 0958"), ["442079460958", "4402079460958"]);
        assert_eq!(forms("442079460958"), ["442079460958", "4402079460958"]);
        assert_eq!(forms("5511999998888"), ["5511999998888", "551199998888"]);
    }
}
