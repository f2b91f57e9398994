//! `recado data erase`: works in batches, so that it does not delay other callers. It may be interrupted at any point: the
//! next run erases the rest.

use std::collections::HashMap;
use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use recado_gateway::config::Behaviour;
use recado_gateway::control::Command as Control;
use recado_gateway::gateway::{SANDBOX_FILE, STORE_FILE};
use recado_gateway::lock::DataDirLock;
use recado_gateway::shutdown::Signals;
use recado_store::person::{Erasure, Person, PersonPart, PersonQuery, Place};
use recado_store::sqlite::copy::compact as compact_file;
use serde_json::{Map, Value, json};

use crate::data::{Recipient, pages, rows};
use crate::exit::Failure;
use crate::local::Local;
use crate::output::{self, note};
use crate::{Common, Exit};

/// The pause between two batches, which gives messages precedence.
const PAUSE: Duration = Duration::from_millis(10);

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
    let person = recipient.find(local, names).await?;
    let mut total = Total::default();
    erase_messages(local, &person, &mut total).await?;
    let contacts = |after| Control::ErasePerson { erasure: Erasure::Contacts { person: person.clone(), after } };
    all(local, contacts, &mut total).await?;
    erase_inbox(local, &person, &mut total).await?;
    let sandbox = |after| Control::ErasePersonOnSandbox { person: person.clone(), after };
    let on_sandbox = all(local, sandbox, &mut total).await;
    // Also if the sandbox's file is broken: the rest is erased.
    local.execute(Control::ForgetErased).await?;
    on_sandbox.context("all was erased except on the sandbox's phone")?;
    Ok(Value::Object(total.0))
}

async fn erase_messages(local: &Local, person: &Person, total: &mut Total) -> Result<()> {
    // Usually they are kept for a day only. No index leads from a message to its key.
    let mut keys: HashMap<String, i64> = HashMap::new();
    pages(local, person, PersonPart::Keys, |key| {
        keys.extend(key["messageId"].as_str().map(str::to_owned).zip(key["n"].as_i64()));
        Ok(())
    })
    .await?;
    let mut after = Some(0);
    while let Some(place) = after {
        let query = PersonQuery { person: person.clone(), part: PersonPart::Places, after: place };
        let mut page = local.execute(Control::ShowPerson { query }).await?;
        let with_key = |row| {
            let mut place: Place = serde_json::from_value(row)?;
            place.key = keys.get(&place.id.to_string()).copied();
            Ok(place)
        };
        let places = rows(&mut page).map(with_key).collect::<Result<Vec<_>>>()?;
        if !places.is_empty() {
            let done = local.execute(Control::ErasePerson { erasure: Erasure::Messages(places) }).await?;
            total.add(&done["erased"]);
            tokio::time::sleep(PAUSE).await;
        }
        after = page["next"].as_i64();
    }
    Ok(())
}

/// Erases what the person wrote, the contacts and conversations, and what messages of others and events say of the person.
async fn erase_inbox(local: &Local, person: &Person, total: &mut Total) -> Result<()> {
    let erase = |erasure| Control::ErasePerson { erasure };
    // Traces first: they are found by the contacts, too.
    all(local, |after| erase(Erasure::Traces { person: person.clone(), channel: None, after }), total).await?;
    // Each batch is the first of what is left.
    all(local, |_| erase(Erasure::Inbox { person: person.clone() }), total).await?;
    all(local, |after| erase(Erasure::EventTraces { person: person.clone(), after }), total).await
}

/// Erases all pages.
async fn all(local: &Local, command: impl Fn(i64) -> Control, total: &mut Total) -> Result<()> {
    let mut after = Some(0);
    while let Some(place) = after {
        let done = local.execute(command(place)).await?;
        total.add(&done["erased"]);
        after = done["next"].as_i64();
    }
    Ok(())
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
