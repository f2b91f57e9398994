//! `recado data erase`: works in batches, so that it does not delay other callers. It may be interrupted at any point: the
//! next run erases the rest.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use recado_domain::api_key::Environment;
use recado_gateway::config::Behaviour;
use recado_gateway::control::{AskError, Command as Control};
use recado_gateway::gateway::{SANDBOX_FILE, STORE_FILE};
use recado_gateway::lock::DataDirLock;
use recado_gateway::operations::erasure::{self, Batch, Batches};
use recado_gateway::shutdown::Signals;
use recado_store::person::{Erasure, Person, PersonPage, PersonPart, PersonQuery, PersonRow};
use recado_store::sqlite::copy::compact as compact_file;
use serde_json::{Map, Value, json};

use crate::data::{Recipient, rows};
use crate::exit::Failure;
use crate::local::Local;
use crate::output::{self, note};
use crate::{Common, Exit};

pub async fn run(recipient: &Recipient, (yes, compact): (bool, bool), common: &Common) -> Result<Exit> {
    let data_dir = &common.data_dir.data_dir;
    let local = Local::open(data_dir).await?;
    let names = recipient.names(&local).await;
    local.close().await;
    let names = names?;
    // Ask while the store is closed, so that the question does not block the start of a server.
    if !yes && !confirmed(recipient, &names)? {
        note("nothing was erased");
        return Ok(Exit::Failed);
    }
    let mut signals = Signals::listen()?;
    let local = Local::open(data_dir).await?;
    if compact && Behaviour::from_environment().database.urls().is_some() {
        bail!("--compact is for a store in a file: PostgreSQL clears away by itself (autovacuum)");
    }
    if compact && matches!(local, Local::Server(_)) {
        bail!("a server works on {}: the files are rewritten only when it is stopped", data_dir.display());
    }
    let done = tokio::select! {
        done = erase(&local, recipient, names) => done.map(Some),
        () = signals.next() => Ok(None),
    };
    local.close().await;
    let Some(erased) = done? else {
        note("interrupted: run it again to erase the rest");
        return Ok(Exit::Interrupted);
    };
    if compact {
        rewrite(data_dir).await?;
    }
    let exit = if erased["sending"] == 0 { Exit::Done } else { Exit::Unavailable };
    let printed = exit.after(output::show(&common.output, &erased));
    if exit == Exit::Unavailable {
        note("messages are on their way to the network and were left: run it again in a moment");
    }
    printed
}

async fn rewrite(data_dir: &Path) -> Result<()> {
    let _lock = DataDirLock::acquire(data_dir).await?;
    for file in [STORE_FILE, SANDBOX_FILE].map(|name| data_dir.join(name)) {
        // A store that was never served has no sandbox yet.
        if file.exists() {
            compact_file(&file).with_context(|| format!("all was erased, but {} was not rewritten", file.display()))?;
        }
    }
    Ok(())
}

/// Asks for a confirmation on a terminal.
fn confirmed(recipient: &Recipient, names: &[String]) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let text = "this cannot be undone: confirm with --yes, as there is no terminal".to_owned();
        return Err(Failure { exit: Exit::Usage, text }.into());
    }
    let owner =
        recipient.institution.as_ref().map_or_else(|| "all institutions have".to_owned(), |id| format!("{id} has"));
    note(&format!(
        "All that {owner} of {} is erased, and waiting messages are cancelled. This cannot be undone.\n\
         Type yes to go on:",
        names.join(" and ")
    ));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

async fn erase(local: &Local, recipient: &Recipient, names: Vec<String>) -> Result<Value> {
    let erasing = Erasing { local, total: Mutex::default(), sandbox: Mutex::default() };
    for institution in recipient.institutions(local).await? {
        for environment in [Environment::Live, Environment::Test] {
            let person = Person::new(names.clone(), Some(institution));
            let person = Person { environment: Some(environment), ..person };
            erasure::at_once(&erasing, person).await?;
        }
    }
    local.execute(Control::ForgetErased).await?;
    let Erasing { total, sandbox, .. } = erasing;
    if let Some(error) = sandbox.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error).context("all was erased except on the sandbox's phone, and the contact");
    }
    Ok(Value::Object(total.into_inner().unwrap_or_else(PoisonError::into_inner).0))
}

/// The batches of the erasures of all institutions.
struct Erasing<'a> {
    local: &'a Local,
    total: Mutex<Total>,
    /// Why nothing was erased on the sandbox's phone. A file that is broken must not keep the rest from being erased.
    sandbox: Mutex<Option<AskError>>,
}

impl Erasing<'_> {
    fn note(&self, done: &Value) -> Batch {
        let erased = &done["erased"];
        self.total.lock().unwrap_or_else(PoisonError::into_inner).add(erased);
        let is_empty = erased.as_object().into_iter().flatten().all(|(_, count)| *count == 0);
        Batch { sending: erased["sending"].as_u64().unwrap_or(0), is_empty, next: done["next"].as_i64() }
    }
}

impl Batches for Erasing<'_> {
    type Error = AskError;

    async fn page(&self, query: PersonQuery) -> Result<PersonPage, AskError> {
        let part = query.part;
        let mut page = self.local.execute(Control::ShowPerson { query }).await?;
        let read = |row: Value| match part {
            PersonPart::Names => row.as_str().map(|name| PersonRow::Name(name.to_owned())),
            PersonPart::Channels => row["channelKey"].as_i64().map(PersonRow::Channel),
            _ => serde_json::from_value(row).ok().map(PersonRow::Place),
        };
        Ok(PersonPage { rows: rows(&mut page).filter_map(read).collect(), next: page["next"].as_i64() })
    }

    async fn erase(&self, erasure: Erasure) -> Result<Batch, AskError> {
        Ok(self.note(&self.local.execute(Control::ErasePerson { erasure }).await?))
    }

    async fn erase_on_sandbox(&self, person: Person, after: i64) -> Option<Batch> {
        match self.local.execute(Control::ErasePersonOnSandbox { person, after }).await {
            Ok(done) => Some(self.note(&done)),
            Err(error) => {
                *self.sandbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        }
    }
}

/// The totals of all batches.
struct Total(Map<String, Value>);

impl Default for Total {
    fn default() -> Self {
        let mut total = Self(Map::new());
        total.add(&json!(recado_store::person::Erased::default()));
        total
    }
}

impl Total {
    fn add(&mut self, erased: &Value) {
        for (name, count) in erased.as_object().into_iter().flatten() {
            let so_far = self.0.get(name).and_then(Value::as_u64).unwrap_or(0);
            self.0.insert(name.clone(), (so_far + count.as_u64().unwrap_or(0)).into());
        }
    }
}
