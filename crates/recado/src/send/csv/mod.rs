//! A CSV file of messages: `recado send KIND --csv`.

mod deliver;
mod input;
mod progress;
mod results;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::{FutureExt, StreamExt, stream};
use recado_domain::hex::hex;
use recado_gateway::shutdown::Signals;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::exit::Failure;
use crate::output::{self, note};
use crate::send::csv::deliver::Sender;
use crate::send::csv::input::{Input, Line, STANDARD_INPUT, Source};
use crate::send::csv::progress::{Count, Progress};
use crate::send::csv::results::{LineOutcome, Results};
use crate::send::{Command, columns_of, request};
use crate::{Exit, Output};

/// The code of a line that is invalid by itself.
const BAD_LINE: &str = "CSV_LINE";
/// The most refused lines that are listed at the end. The result file has all of them.
const NAMED: usize = 5;
/// The most answers that one write adds to the result file.
const CHUNK: usize = 256;
/// How long answers may be in the result file before a sync.
const SYNC: Duration = Duration::from_secs(1);

/// Sends every line that no earlier run has sent.
pub async fn send(command: &Command, file: &Path) -> Result<Exit> {
    let place = command.options.bulk.results.clone();
    let named = if file == Path::new(STANDARD_INPUT) {
        // The result file records where a run continues, and standard input has no name from which its name could be
        // derived.
        place.as_deref().ok_or_else(|| Failure {
            exit: Exit::Usage,
            text: "--csv - needs --results: the result file records where the next run continues".to_owned(),
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
        // A result file that was named by hand may belong to another input, with keys of another batch.
        if command.options.bulk.results.is_some() {
            results.check_belongs_to(&input.lines, file)?;
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
        let printed = self.report(&self.command.options.place.output, interrupted || ended.is_err());
        ended?;
        let exit = match (interrupted, self.count.refused) {
            (true, _) => Exit::Interrupted,
            (false, 0) => Exit::Done,
            (false, _) => Exit::SomeRefused,
        };
        exit.after(printed)
    }

    /// Starts the lines in the file's order, some at a time, and records each answer when it comes. After a stop or an error
    /// the lines in flight are finished.
    async fn send_all(&mut self, sender: &Sender<'_>, progress: &mut Progress) -> Result<()> {
        let (input, command) = (self.input, self.command);
        let open: Vec<&Line> = input.lines.iter().filter(|line| !line.sent && !self.results.has(line)).collect();
        let calls =
            stream::iter(open).map(|line| answer(command, input, line, sender).map(move |outcome| (line, outcome)));
        let mut answers = calls.buffer_unordered(command.options.bulk.parallel.into()).ready_chunks(CHUNK);
        let (mut synced, mut ended, mut reported) = (Instant::now(), Ok(()), false);
        loop {
            let tick = tokio::time::sleep(Duration::from_millis(500));
            let answered = tokio::select! {
                answered = answers.next() => answered,
                () = tick => Some(Vec::new()),
            };
            let Some(answered) = answered else { return ended };
            let mut outcomes = Vec::with_capacity(answered.len());
            for (line, outcome) in answered {
                match outcome {
                    Ok(outcome) => outcomes.extend(outcome.map(|outcome| (line, outcome))),
                    Err(error) => ended = ended.and(Err(error)),
                }
            }
            self.note(&outcomes)?;
            if synced.elapsed() > SYNC {
                self.results.sync()?;
                synced = Instant::now();
            }
            progress.show(self.count, sender.waits_for().as_deref());
            if sender.stop.is_cancelled() && ended.is_ok() && !reported {
                progress.print("stopping: finishing the lines in flight; Ctrl-C again ends at once");
                reported = true;
            }
        }
    }

    fn note(&mut self, outcomes: &[(&Line, LineOutcome)]) -> Result<()> {
        let input = self.input;
        self.results
            .add(outcomes.iter().map(|(line, outcome)| (line.number, &line.key, input.fields(line), outcome)))?;
        for (line, outcome) in outcomes {
            match outcome {
                LineOutcome::Accepted { .. } => self.count.accepted += 1,
                LineOutcome::Replayed { .. } => self.count.already += 1,
                LineOutcome::Refused { reason, .. } => {
                    self.count.refused += 1;
                    if self.named.len() < NAMED {
                        self.named.push((line.number, reason.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    fn report(&mut self, output: &Output, unfinished: bool) -> Result<()> {
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
                note("correct the refused lines in the CSV file and run the same command: it sends only those");
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

/// The outcome of a line; `None` if it was not sent because the run stopped.
async fn answer(command: &Command, input: &Input, line: &Line, sender: &Sender<'_>) -> Result<Option<LineOutcome>> {
    if sender.stop.is_cancelled() {
        return Ok(None);
    }
    if let Some(reason) = &line.fault {
        return Ok(Some(LineOutcome::Refused { code: BAD_LINE.to_owned(), reason: reason.clone() }));
    }
    let (channel, scenario) = (&command.options.place.channel, command.options.scenario.as_deref());
    let call = request(command.kind, channel, input.fields(line), &hex(&line.key), scenario);
    let outcome = sender.deliver(call).await;
    if outcome.is_err() {
        sender.stop.cancel();
    }
    outcome.with_context(|| format!("stopped at line {}", line.number))
}

/// The first signal stops the run, and the second one ends the process.
async fn obey_signals(mut signals: Signals, stop: CancellationToken) {
    signals.next().await;
    stop.cancel();
    signals.next().await;
    // The result file has every answer that came. The idempotency keys protect the other lines.
    std::process::exit(Exit::Interrupted as i32);
}
