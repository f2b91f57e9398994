//! A CSV file of messages: `recado send KIND --csv`.

mod deliver;
mod input;
mod progress;
mod results;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{FutureExt, StreamExt, stream};
use recado_gateway::shutdown::Signals;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::exit::Failure;
use crate::output::{self, note};
use crate::send::csv::deliver::Sender;
use crate::send::csv::input::{Input, Line, STANDARD_INPUT, Source, hex};
use crate::send::csv::progress::{Count, Progress};
use crate::send::csv::results::{Fate, Results};
use crate::send::{Command, columns_of, request};
use crate::{Exit, Output};

/// The code of a line that the file itself shows to be none.
const BAD_LINE: &str = "CSV_LINE";
/// Refused lines that are named at the end; all of them stand in the result file.
const NAMED: usize = 5;
/// Answers that are written to the result file at once, at most.
const CHUNK: usize = 256;
/// How long answers may be in the result file before they are brought to the disk.
const SYNC: Duration = Duration::from_secs(1);

/// Sends every line that no earlier run has sent.
pub async fn send(command: &Command, file: &Path) -> Result<Exit> {
    let place = command.options.bulk.results.clone();
    let named = if file == Path::new(STANDARD_INPUT) {
        // Where a run goes on is found by the result file: the input has no name of its own.
        place.as_deref().ok_or_else(|| Failure {
            exit: Exit::Usage,
            text: "--csv - needs --results: there stands where the next run goes on".to_owned(),
        })?
    } else {
        file
    };
    let batch = &command.options.bulk.batch;
    let name = named.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let batch = batch.as_deref().unwrap_or(&name);
    let scenario = command.options.scenario.as_deref().unwrap_or_default();
    let source = Source { place: file, kind: command.kind, by_hand: &command.columns };
    let input = Input::read(&source, [batch, &command.options.place.channel, scenario])?;
    if !input.ignored.is_empty() {
        note(&format!("columns that are no fields: {}", input.ignored.join(", ")));
    }
    let place = place.unwrap_or_else(|| file.with_extension("results.csv"));
    if place == file {
        anyhow::bail!("the result file must be another file than {}", file.display());
    }
    let api = Api::open(&command.options.place.target, Some(&command.options.place.channel)).await?;
    let done = async {
        let fields = columns_of(command.kind);
        let results = Results::open(&place, &input, fields, api.account().await?)?;
        // Named by hand, it can be another input's, with keys of another batch.
        if command.options.bulk.results.is_some() {
            results.check_tells_of(&input.lines, file)?;
        }
        Run::new(command, &input, results, place).go(&api).await
    };
    let done = done.await;
    api.close().await;
    done
}

struct Run<'a> {
    command: &'a Command,
    input: &'a Input,
    results: Results,
    place: PathBuf,
    count: Count,
    /// The first refused lines.
    named: Vec<(u64, String)>,
}

impl<'a> Run<'a> {
    fn new(command: &'a Command, input: &'a Input, results: Results, place: PathBuf) -> Self {
        let already = input.lines.iter().filter(|line| line.sent || results.has(line)).count();
        let count = Count { lines: input.lines.len(), already, ..Count::default() };
        Self { command, input, results, place, count, named: Vec::new() }
    }

    async fn go(mut self, api: &Api) -> Result<Exit> {
        let stop = CancellationToken::new();
        let watching = tokio::spawn(obey_signals(Signals::listen()?, stop.clone()));
        let sender = Sender::new(api, self.command.options.bulk.patience, stop.clone());
        let mut progress = Progress::new(self.count, self.command.options.place.output.json);
        let ended = self.send_all(&sender, &mut progress).await;
        progress.end();
        watching.abort();
        let ended = ended.and(self.results.sync());
        let interrupted = stop.is_cancelled() && ended.is_ok();
        let printed = self.tell(&self.command.options.place.output, interrupted || ended.is_err());
        ended?;
        let exit = match (interrupted, self.count.refused) {
            (true, _) => Exit::Interrupted,
            (false, 0) => Exit::Done,
            (false, _) => Exit::SomeRefused,
        };
        exit.after(printed)
    }

    /// Starts the lines in the file's order, some at a time, and notes each answer as it comes. After a stop or an error
    /// those in hand are finished.
    async fn send_all(&mut self, sender: &Sender<'_>, progress: &mut Progress) -> Result<()> {
        let (input, command) = (self.input, self.command);
        let open: Vec<&Line> = input.lines.iter().filter(|line| !line.sent && !self.results.has(line)).collect();
        let calls = stream::iter(open).map(|line| answer(command, input, line, sender).map(move |fate| (line, fate)));
        let mut answers = calls.buffer_unordered(command.options.bulk.parallel.into()).ready_chunks(CHUNK);
        let (mut synced, mut ended, mut told) = (Instant::now(), Ok(()), false);
        loop {
            let tick = tokio::time::sleep(Duration::from_millis(500));
            let answered = tokio::select! {
                answered = answers.next() => answered,
                () = tick => Some(Vec::new()),
            };
            let Some(answered) = answered else { return ended };
            let mut fates = Vec::with_capacity(answered.len());
            for (line, fate) in answered {
                match fate {
                    Ok(fate) => fates.extend(fate.map(|fate| (line, fate))),
                    Err(error) => ended = ended.and(Err(error)),
                }
            }
            self.note(&fates)?;
            if synced.elapsed() > SYNC {
                self.results.sync()?;
                synced = Instant::now();
            }
            progress.show(self.count, sender.waits_for().as_deref());
            if sender.stop.is_cancelled() && ended.is_ok() && !told {
                progress.say("stopping: what is in hand is finished; Ctrl-C again ends at once");
                told = true;
            }
        }
    }

    fn note(&mut self, fates: &[(&Line, Fate)]) -> Result<()> {
        let input = self.input;
        self.results.add(fates.iter().map(|(line, fate)| (line.number, &line.key, input.fields(line), fate)))?;
        for (line, fate) in fates {
            match fate {
                Fate::Accepted { .. } => self.count.accepted += 1,
                Fate::Replayed { .. } => self.count.already += 1,
                Fate::Refused { reason, .. } => {
                    self.count.refused += 1;
                    if self.named.len() < NAMED {
                        self.named.push((line.number, reason.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, output: &Output, unfinished: bool) -> Result<()> {
        let Count { lines, accepted, already, refused } = self.count;
        let place = self.place.display().to_string();
        if !output.json {
            self.named.sort_unstable();
            self.named.iter().for_each(|(number, reason)| note(&format!("line {number}: {reason}")));
            if refused > self.named.len() && !self.named.is_empty() {
                note(&format!("... and {} more refused lines, in {place}", refused - self.named.len()));
            }
            if unfinished {
                note("not finished; the same command goes on where this one ended");
            } else if refused > 0 {
                note("mend the refused lines in the CSV file and run the same command: it sends those alone");
            }
        }
        let remaining = lines - self.count.done();
        let value = json!({
            "lines": lines, "accepted": accepted, "alreadySent": already, "refused": refused, "remaining": remaining,
            "results": place,
        });
        output::show(output, &value)
    }
}

/// What becomes of a line; `None` when it was not sent because the run stopped.
async fn answer(command: &Command, input: &Input, line: &Line, sender: &Sender<'_>) -> Result<Option<Fate>> {
    if sender.stop.is_cancelled() {
        return Ok(None);
    }
    if let Some(reason) = &line.fault {
        return Ok(Some(Fate::Refused { code: BAD_LINE.to_owned(), reason: reason.clone() }));
    }
    let (channel, scenario) = (&command.options.place.channel, command.options.scenario.as_deref());
    let call = request(command.kind, channel, input.fields(line), &hex(&line.key), scenario);
    let fate = sender.deliver(call).await;
    if fate.is_err() {
        sender.stop.cancel();
    }
    fate.with_context(|| format!("stopped at line {}", line.number))
}

/// The first signal asks, the second one insists.
async fn obey_signals(mut signals: Signals, stop: CancellationToken) {
    signals.next().await;
    stop.cancel();
    signals.next().await;
    // The result file has every answer that came, and the keys stand for those that did not.
    std::process::exit(Exit::Interrupted as i32);
}
