//! `recado migrate-store`: copies the store of one file to PostgreSQL.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use recado_domain::clock::Clock;
use recado_gateway::gateway::STORE_FILE;
use recado_gateway::lock::DataDirLock;
use recado_gateway::moved::Moved;
use recado_gateway::shutdown::Signals;
use recado_store::clock::{SystemClock, rfc3339};
use recado_store::postgres::import::{Count, Progress, import};
use recado_store::sqlkit::sqlite::tail;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::output::note;
use crate::{Exit, Output, output};

/// The interval of progress lines in a log.
const PAUSE: Duration = Duration::from_secs(5);

/// Copy a data directory's store into a PostgreSQL database, and compare the two
///
/// The server must be stopped, and the database empty; the tables are created. It continues after an interruption, also by
/// kill -9. The file is only read, and marked as moved. The sandbox (sandbox.db) is not copied: its inbox stays in the file.
#[derive(Debug, Args)]
pub struct MigrateStore {
    /// The store, recado.db in a data directory
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The database itself, and not a pooler before it: `postgres://user@host/database`. With a password in it use the
    /// variable: every user of a machine can read a command line
    #[arg(long, env = "RECADO_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    to: Option<SecretString>,
    #[command(flatten)]
    output: Output,
}

impl MigrateStore {
    pub async fn run(self) -> Result<Exit> {
        ensure!(self.from.is_file(), "there is no store {}: name the file {STORE_FILE}", self.from.display());
        let Some(to) = self.to else {
            let text = "name the target: RECADO_DATABASE_URL, or --to".to_owned();
            return Err(Failure { exit: Exit::Usage, text }.into());
        };
        let from = std::path::absolute(&self.from)?;
        let data_dir = from.parent().unwrap_or(Path::new("/"));
        let Some(_lock) = DataDirLock::try_acquire(data_dir)? else {
            bail!("a server or another command works on {}: stop it first", data_dir.display())
        };
        if Moved::of(&from)?.is_some_and(|moved| moved.complete) {
            return Moved::refuse(&from).map(Exit::done);
        }
        tail::check(&from).with_context(|| format!("{} is not moved", from.display()))?;
        let mut signals = Signals::listen()?;
        let mut show = Show::new(self.output.json);
        let done = tokio::select! {
            done = move_store(&from, to.expose_secret(), &mut show) => done,
            () = signals.next() => {
                show.end();
                note("interrupted: run it again to continue");
                return Ok(Exit::Interrupted);
            }
        };
        show.end();
        let counts = done.context("the store is not moved")?;
        let tables: Value = counts.iter().map(|(table, rows)| ((*table).to_owned(), json!(rows))).collect();
        let rows: u64 = counts.iter().map(|(_, rows)| rows).sum();
        output::show(&self.output, &json!({ "copied": rows, "compared": rows, "tables": tables }))?;
        note(&format!(
            "The database holds what the store holds. Now start the server with RECADO_DATABASE_URL set to it. Keep {} as a \
             back-up; it was not changed, and servers refuse it as long as {} is there.",
            from.display(),
            Moved::file_of(&from).display()
        ));
        Ok(Exit::Done)
    }
}

/// Copies and compares. The store is marked before the database can be used, so that no moment exists in which servers start on
/// both.
async fn move_store(from: &Path, to: &str, show: &mut Show) -> Result<Vec<Count>> {
    let mut marked = None;
    let mark = |database: &str| {
        let mark = Moved { at: rfc3339(SystemClock.now()), database: database.to_owned(), complete: false };
        mark.mark(from)?;
        marked = Some(mark);
        Ok(())
    };
    let counts = import(from, to, |progress| show.progress(progress), mark).await?;
    if let Some(mark) = marked {
        Moved { complete: true, ..mark }.mark(from)?;
    }
    Ok(counts)
}

/// The progress: a bar on a terminal, a line at an interval in a log, nothing for a program.
enum Show {
    Silent,
    Lines { last: Instant },
    Bar(ProgressBar),
}

impl Show {
    fn new(silent: bool) -> Self {
        match (silent, std::io::stderr().is_terminal()) {
            (true, _) => Self::Silent,
            (false, false) => Self::Lines { last: Instant::now() },
            (false, true) => {
                let bar = ProgressBar::new(0);
                let style = ProgressStyle::with_template("{percent:>3}% [{bar:30}] {eta} left  {wide_msg}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
                bar.enable_steady_tick(Duration::from_millis(200));
                Self::Bar(bar)
            }
        }
    }

    fn progress(&mut self, Progress { rows, copied, compared }: Progress) {
        let text = || format!("{copied} of {rows} rows copied, {compared} compared");
        match self {
            Self::Silent => {}
            Self::Lines { last } if last.elapsed() < PAUSE => {}
            Self::Lines { last } => {
                *last = Instant::now();
                note(&text());
            }
            Self::Bar(bar) => {
                bar.set_length(2 * rows);
                bar.set_position(copied + compared);
                bar.set_message(text());
            }
        }
    }

    /// Leaves the last state on the terminal.
    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}
