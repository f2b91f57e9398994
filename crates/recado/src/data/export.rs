//! `recado data export`: one JSON document, written while it is read.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use recado_domain::clock::Clock;
use recado_gateway::control::Command as Control;
use recado_gateway::shutdown::Signals;
use recado_store::clock::{SystemClock, rfc3339};
use recado_store::person::{Person, PersonPart};
use serde_json::{Value, json};

use crate::Exit;
use crate::data::{Recipient, pages, rows};
use crate::local::Local;

pub async fn run(recipient: &Recipient, output: Option<PathBuf>, data_dir: &Path) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let local = Local::open(data_dir).await?;
    let done = tokio::select! {
        done = write_to(&local, recipient, output) => done.map(Exit::done),
        () = signals.next() => Ok(Exit::Interrupted),
    };
    local.close().await;
    done
}

async fn write_to(local: &Local, recipient: &Recipient, output: Option<PathBuf>) -> Result<()> {
    let person = recipient.find(local, recipient.names(local).await?).await?;
    let Some(path) = output else {
        return write(local, &person, &mut BufWriter::new(std::io::stdout())).await;
    };
    // A new file that only its owner can read.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
    let mut out = BufWriter::new(file.with_context(|| format!("cannot make {}", path.display()))?);
    let mut half = Half { path, whole: false };
    let done = write(local, &person, &mut out).await;
    done.and_then(|()| Ok(out.get_ref().sync_all()?))
        .with_context(|| format!("cannot write {}", half.path.display()))?;
    half.whole = true;
    Ok(())
}

/// A file that is deleted unless it is completed, because a partial document is not valid.
struct Half {
    path: PathBuf,
    whole: bool,
}

impl Drop for Half {
    fn drop(&mut self) {
        if !self.whole {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The lists of the document. What channels know of a recipient is called `contacts`; `people` are the contacts that the API
/// shows, and the conversations with them.
const LISTS: [(&str, PersonPart); 5] = [
    ("messages", PersonPart::Messages),
    ("idempotencyKeys", PersonPart::Keys),
    ("contacts", PersonPart::Contacts),
    ("received", PersonPart::Received),
    ("people", PersonPart::Book),
];

async fn write(local: &Local, person: &Person, out: &mut impl Write) -> Result<()> {
    let head = json!({
        "exportedAt": rfc3339(SystemClock.now()), "numbers": person.numbers, "institutionId": person.institution,
    });
    // The fields of the head, followed by the lists.
    let head = head.to_string();
    write!(out, "{}", head.strip_suffix('}').unwrap_or(&head))?;
    for (name, part) in LISTS {
        let mut list = List::begin(out, name)?;
        pages(local, person, part, |row| list.row(row)).await?;
        list.end()?;
    }
    let mut list = List::begin(out, "sandbox")?;
    let mut after = Some(0);
    while let Some(place) = after {
        let command = Control::ShowPersonOnSandbox { person: person.clone(), after: place };
        let mut page = local.execute(command).await?;
        rows(&mut page).try_for_each(|row| list.row(row))?;
        after = page["next"].as_i64();
    }
    list.end()?;
    writeln!(out, "\n}}")?;
    Ok(out.flush()?)
}

/// A list of the document, with one row per line.
struct List<'a, W> {
    out: &'a mut W,
    first: bool,
}

impl<'a, W: Write> List<'a, W> {
    fn begin(out: &'a mut W, name: &str) -> Result<Self> {
        write!(out, ",\n\"{name}\": [")?;
        Ok(Self { out, first: true })
    }

    fn row(&mut self, mut row: Value) -> Result<()> {
        // The store's internal row number has no meaning for the reader.
        row.as_object_mut().map(|fields| fields.remove("n"));
        write!(self.out, "{}{row}", if self.first { "\n" } else { ",\n" })?;
        self.first = false;
        Ok(())
    }

    fn end(self) -> Result<()> {
        Ok(write!(self.out, "]")?)
    }
}
