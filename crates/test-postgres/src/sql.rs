//! Runs statements, from async tests and others.

use tokio_postgres::{Client, NoTls};

/// Runs statements on a database. Several in one text are one transaction.
pub fn run(url: &str, sql: &str) {
    try_run(url, sql).unwrap_or_else(|error| panic!("{sql}: {}", with_causes(&error)));
}

/// The integer that a query gives.
pub fn number(url: &str, sql: &str) -> i64 {
    let row = on(url, async |client| client.query_typed_one(sql, &[]).await);
    row.unwrap_or_else(|error| panic!("{sql}: {}", with_causes(&error))).get(0)
}

/// As [`run`], with the error as a result.
pub(crate) fn try_run(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    on(url, async |client| client.batch_execute(sql).await)
}

/// Whether a query gives a row.
pub(crate) fn exists(url: &str, sql: &str) -> bool {
    on(url, async |client| client.query_typed(sql, &[]).await).is_ok_and(|rows| !rows.is_empty())
}

/// Does work on a new connection.
pub(crate) fn on<T: Send>(
    url: &str,
    work: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error> + Send,
) -> Result<T, tokio_postgres::Error> {
    on_its_own(async || {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let connection = tokio::spawn(connection);
        let done = work(&client).await;
        drop(client);
        // Wait until the server has ended the connection.
        drop(connection.await);
        done
    })
}

/// Waits for async work, in its own thread, because the caller may be in a runtime, which must not be blocked.
pub(crate) fn on_its_own<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work())
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The error with its causes, because its own text is only "db error".
pub(crate) fn with_causes(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
