//! The writing thread: shared commits, calls that fail alone, a log of bounded length, and coming back.

use std::fs;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use futures_util::future::{join, join_all};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::log::{CHECKPOINT_AT, RESTART_AT, RESTART_NEXT};
use super::*;

/// A file with one table, and a count of its commits.
struct Rows {
    connection: Connection,
    commits: Arc<AtomicUsize>,
    /// Derived from the file, like the queues of the real store.
    count: i64,
}

impl Rows {
    fn insert(&mut self, n: i64) -> rusqlite::Result<()> {
        self.connection.prepare_cached("INSERT INTO numbers (n, text) VALUES (?1, ?2)")?.execute((n, "x"))?;
        self.count += 1;
        Ok(())
    }

    fn read_count(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
    }
}

impl Owned for Rows {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        // These tests do not concern the disk: without syncs they run many commits.
        let connection = crate::sqlkit::sqlite::connect(path, "off")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS numbers (n integer NOT NULL PRIMARY KEY, text text NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS probe (n integer NOT NULL) STRICT;",
        )?;
        let commits = Arc::new(AtomicUsize::new(0));
        let counted = commits.clone();
        connection.commit_hook(Some(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        }))?;
        let count = Self::read_count(&connection)?;
        Ok(Self { connection, commits, count })
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn rolled_back(&mut self) -> rusqlite::Result<()> {
        self.count = Self::read_count(&self.connection)?;
        Ok(())
    }
}

struct File {
    dir: TempDir,
    writer: Writer<Rows>,
}

impl File {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let writer = Writer::start(dir.path().join("rows.db")).expect("the file opens");
        Self { dir, writer }
    }

    async fn insert(&self, n: i64) -> Result<(), StoreError> {
        self.writer.run(move |rows: &mut Rows| rows.insert(n)).await
    }

    /// The rows that another connection reads, in order.
    fn seen(&self) -> Vec<i64> {
        let connection = self.reader();
        let mut statement = connection.prepare("SELECT n FROM numbers ORDER BY n").expect("a statement");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<rusqlite::Result<_>>().expect("numbers")
    }

    fn reader(&self) -> Connection {
        Connection::open(self.dir.path().join("rows.db")).expect("the file opens")
    }

    async fn count(&self) -> i64 {
        self.writer.run(|rows: &mut Rows| Ok(rows.count)).await.expect("the file works")
    }

    async fn commits(&self) -> usize {
        self.writer.run(|rows: &mut Rows| Ok(rows.commits.load(Ordering::Relaxed))).await.expect("the file works")
    }

    /// Blocks the thread while `calls` are made, so that they wait together.
    async fn together<T>(&self, calls: impl Future<Output = T>) -> T {
        let (go, wait) = mpsc::channel::<()>();
        let (runs, running) = oneshot::channel();
        let mut runs = Some(runs);
        let blocker = self.writer.run(move |_| {
            // The test is gone if this fails; so is the need to wait.
            let _ = (runs.take().map(|runs| runs.send(())), wait.recv());
            Ok(())
        });
        let calls = async {
            running.await.expect("the thread runs");
            // The release is polled after the calls, and each call is queued when it is first polled.
            let release = async { go.send(()).expect("the thread waits") };
            join(calls, release).await.0
        };
        join(blocker, calls).await.1
    }

    fn log_size(&self) -> u64 {
        fs::metadata(self.dir.path().join("rows.db-wal")).map_or(0, |file| file.len())
    }

    async fn until(&self, wanted: fn(&Health) -> bool) {
        let mut health = self.writer.health();
        let seen = tokio::time::timeout(Duration::from_secs(30), health.wait_for(wanted)).await;
        seen.expect("in time").expect("the thread runs");
    }

    /// Makes writes fail with a full disk until the file is reopened.
    async fn fill(&self) {
        let fill = |rows: &mut Rows| {
            let pages: i64 = rows.connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            rows.connection.pragma_update(None, "max_page_count", pages)
        };
        self.writer.run(fill).await.expect("a cap");
    }
}

fn insert_text(rows: &mut Rows, n: i64, length: usize) -> rusqlite::Result<()> {
    rows.connection.execute("INSERT INTO numbers (n, text) VALUES (?1, ?2)", (n, "x".repeat(length)))?;
    rows.count += 1;
    Ok(())
}

/// More than fits into a full file.
fn insert_much(rows: &mut Rows) -> rusqlite::Result<()> {
    insert_text(rows, 1_000_000, 100_000)
}

fn is_unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

#[tokio::test]
async fn calls_that_wait_together_share_a_commit() {
    let file = File::new();
    let before = file.commits().await;
    let answers = file.together(join_all((0..200).map(|n| file.insert(n)))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(file.seen(), (0..200).collect::<Vec<_>>(), "answered means committed");
    // One commit for the call that read the count, one for the call that held the thread, one for all others.
    assert!(file.commits().await - before <= 3);
}

#[tokio::test]
async fn calls_run_in_the_order_in_which_they_were_made() {
    let file = File::new();
    let counts = file.together(join_all((0..100).map(|n| {
        file.writer.run(move |rows: &mut Rows| {
            rows.insert(n)?;
            Rows::read_count(&rows.connection)
        })
    })));
    let counts: Vec<_> = counts.await.into_iter().map(|count| count.expect("written")).collect();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_failing_call_fails_alone() {
    let file = File::new();
    file.insert(0).await.expect("written");
    // Every tenth call writes a row, and then fails with a duplicate.
    let answers = file.together(join_all((1..=100).map(|n| {
        file.writer.run(move |rows: &mut Rows| {
            rows.insert(n)?;
            if n % 10 == 0 { rows.insert(0).map(|()| 0) } else { Ok(rows.count) }
        })
    })));
    for (answer, n) in answers.await.iter().zip(1..) {
        match answer {
            Ok(count) => assert_eq!(*count, 1 + n - n / 10, "{n}: its neighbours count once"),
            Err(StoreError::Refused(_)) => assert_eq!(n % 10, 0),
            Err(error) => panic!("{n}: {error}"),
        }
    }
    assert_eq!(file.seen(), (0..=100).filter(|n| *n == 0 || n % 10 != 0).collect::<Vec<_>>());
    assert_eq!(file.count().await, 91, "what was derived from the undone write is undone with it");
    assert_eq!(*file.writer.health().borrow(), Health::Up);
}

#[tokio::test]
async fn too_many_waiting_calls_are_refused() {
    let file = File::new();
    let made = i64::try_from(WAITING + 100).expect("few");
    let calls = join_all((0..made).map(|n| file.insert(n)));
    let (answers, reached) = file.together(join(calls, file.writer.reach())).await;
    reached.expect("it waits for room in the queue");
    let turned_away = answers.iter().filter(|answer| matches!(answer, Err(StoreError::Overloaded))).count();
    assert_eq!(turned_away, 100);
    assert_eq!(file.seen().len(), WAITING, "and the others are written");
}

#[tokio::test]
async fn the_log_stays_short_under_a_long_load() {
    let bytes = |pages: i32| 4096 * u64::try_from(pages).expect("positive");
    let file = File::new();
    let mut reader = None;
    let mut longest = 0;
    for n in 0..60_000 {
        file.insert(n).await.expect("written");
        longest = longest.max(file.log_size());
        match n % 10_000 {
            // Now and then a reader runs for a while, and the log keeps what is written meanwhile.
            0 => {
                let connection = file.reader();
                connection.execute_batch("BEGIN; SELECT count(*) FROM numbers").expect("a read");
                reader = Some(connection);
            }
            5_000 => reader = None,
            _ => {}
        }
    }
    drop(reader);
    assert!(longest > bytes(2 * CHECKPOINT_AT), "the reader did hold the log: it had {longest} bytes");
    assert!(longest < bytes(RESTART_AT), "the log had {longest} bytes");
}

/// Readers without a gap between them never let the log restart by itself: at its bound the writer waits for them.
#[tokio::test]
async fn readers_without_a_gap_are_waited_for() {
    let bound = 4096 * u64::try_from(RESTART_AT).expect("positive");
    let file = File::new();
    let reading = || {
        let reader = file.reader();
        reader.execute_batch("BEGIN; SELECT count(*) FROM numbers").expect("a read");
        reader
    };
    let mut readers = vec![reading()];
    let mut turn = || {
        readers.push(reading());
        readers.remove(0);
    };
    let mut waited = 0;
    for n in 0..800 {
        let insert = file.writer.run(move |rows: &mut Rows| insert_text(rows, n, 400_000));
        let mut insert = pin!(insert);
        // A new reader begins, then the former one ends, once for each time that the writer waits.
        while tokio::time::timeout(Duration::from_millis(100), &mut insert)
            .await
            .map(|done| done.expect("written"))
            .is_err()
        {
            turn();
            waited += 1;
        }
        turn();
        assert!(file.log_size() <= bound + bound / 4, "the log has {} bytes after {n} writes", file.log_size());
    }
    assert!(waited > 0, "the bound was met");
}

/// A long reader (a copy of the whole file) delays no call for long: the log grows, and is bounded again afterwards.
#[tokio::test]
async fn a_reader_that_stays_is_not_waited_for() {
    let bound = 4096 * u64::try_from(RESTART_AT).expect("positive");
    let file = File::new();
    let reader = file.reader();
    reader.execute_batch("BEGIN; SELECT count(*) FROM numbers").expect("a read");
    let mut longest = Duration::ZERO;
    for n in 0..450 {
        let started = std::time::Instant::now();
        file.writer.run(move |rows: &mut Rows| insert_text(rows, n, 400_000)).await.expect("written");
        longest = longest.max(started.elapsed());
    }
    assert!(file.log_size() > bound + bound / 4, "the reader did hold the log: it has {} bytes", file.log_size());
    assert!(longest < Duration::from_secs(2), "a call waited {longest:?}");
    drop(reader);
    for n in 450..600 {
        file.writer.run(move |rows: &mut Rows| insert_text(rows, n, 400_000)).await.expect("written");
    }
    assert!(file.log_size() <= bound, "the log still has {} bytes", file.log_size());
    let next = file.writer.run(|_| Ok(RESTART_NEXT.get())).await.expect("the file works");
    assert_eq!(next, RESTART_AT, "the next one is waited for at the usual bound");
}

#[tokio::test]
async fn a_full_disk_is_survived_without_a_restart() {
    let file = File::new();
    file.insert(1).await.expect("written");
    file.fill().await;
    // The reader holds the log, so that recovery takes until it ends.
    let reader = file.reader();
    reader.execute_batch("BEGIN; SELECT count(*) FROM numbers").expect("a read");
    let answers = file.together(join(file.insert(2), join(file.writer.run(insert_much), file.insert(3)))).await;
    let (before, (much, after)) = answers;
    assert!(
        is_unavailable(&before) && is_unavailable(&much) && is_unavailable(&after),
        "no call of the batch succeeds"
    );

    file.until(|health| matches!(health, Health::Down(_))).await;
    assert!(is_unavailable(&file.insert(4).await), "refused at once");
    drop(reader);
    file.until(|health| *health == Health::Up).await;

    assert_eq!(file.seen(), [1], "what was answered is there, what was not is not");
    assert_eq!(file.count().await, 1);
    file.writer.run(insert_much).await.expect("there is space again");
    file.insert(2).await.expect("written");
    assert_eq!(file.seen(), [1, 2, 1_000_000]);
}

#[tokio::test]
async fn a_call_that_panics_is_survived() {
    let file = File::new();
    file.insert(1).await.expect("written");
    let panics = file.writer.run(|rows: &mut Rows| {
        rows.insert(2)?;
        assert_eq!(rows.count, 0, "a bug in a store operation");
        Ok(())
    });
    let (before, (panicked, after)) = file.together(join(file.insert(3), join(panics, file.insert(4)))).await;
    assert!(is_unavailable(&before) && is_unavailable(&panicked) && is_unavailable(&after));
    file.until(|health| *health == Health::Up).await;
    assert_eq!(file.seen(), [1]);
    file.insert(5).await.expect("written");
    assert_eq!((file.seen(), file.count().await), (vec![1, 5], 2));
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_tried_again() {
    let file = File::new();
    file.insert(1).await.expect("written");
    let (path, aside) = (file.dir.path().join("rows.db"), file.dir.path().join("aside"));
    file.fill().await;
    // A directory in place of the file: no process can open it.
    let moved = |from: &Path, to: &Path| fs::rename(from, to).expect("renamed");
    moved(&path, &aside);
    fs::create_dir(&path).expect("a directory");
    assert!(is_unavailable(&file.writer.run(insert_much).await));
    file.until(|health| matches!(health, Health::Down(reason) if reason.contains("unable to open"))).await;
    fs::remove_dir(&path).expect("gone");
    moved(&aside, &path);
    file.until(|health| *health == Health::Up).await;
    assert_eq!(file.seen(), [1]);
    file.insert(2).await.expect("written");
}

#[tokio::test]
async fn waiting_calls_are_written_before_the_file_is_closed() {
    let file = File::new();
    let calls = join_all((0..50).map(|n| file.insert(n)));
    let (answers, ()) = file.together(join(calls, file.writer.close())).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(file.seen().len(), 50);
    assert!(is_unavailable(&file.insert(99).await), "closed");
    file.writer.close().await;
}
