//! Reading events in the order of their numbers, which are given before the commit.
//!
//! A transaction has its id before it gets a number: the default of `events.seq` ensures that. So all transactions
//! that got a number up to the last one have lower ids than a transaction that begins now. Once no transaction with a
//! lower id runs, each of those events is stored, or never will be. The `xmax` of a snapshot would be wrong here: it is
//! one more than the highest id that has *ended*, and a running transaction may have a higher id.
//!
//! The result is valid for one run of one server. After a crash the server can give uncommitted numbers and ids again,
//! and so can a new primary. So the reader has its own connection, which ends with the run of the server, and uses only
//! what it has read through it.

use async_trait::async_trait;
use recado_domain::event::{EventPage, EventQuery, EventSeq, OwnedRange};
use tokio_postgres::Client;

use crate::common::events;
use crate::sqlkit::postgres::db::{Db, Done, OPTIONS, limited, not_understood};
use crate::sqlkit::postgres::failure::{Failure, FailureClass};
use crate::sqlkit::postgres::hosts::Hosts;
use crate::sqlkit::postgres::pool::NO_ANSWER;
use crate::{EventReader, Result, StoreError};

pub(super) struct Reader {
    /// The direct URL: behind a pooler each statement may have another connection.
    url: String,
    open: Option<Open>,
}

/// The connection, and what was found on it.
struct Open {
    client: Client,
    /// Every event up to this number is stored, or never will be.
    settled: EventSeq,
    /// The next number up to which this will hold.
    pending: Option<Pending>,
}

struct Pending {
    last: EventSeq,
    /// When no transaction with a lower id runs.
    xid: i64,
}

impl Reader {
    pub fn new(url: String) -> Self {
        Self { url, open: None }
    }

    /// The connection. It is put back after a success. A connection that failed, or whose call was dropped, is closed.
    async fn take_open(&mut self) -> Result<Open> {
        match self.open.take().filter(|open| !open.client.is_closed()) {
            Some(open) => Ok(open),
            None => Open::connect(&self.url).await,
        }
    }
}

#[async_trait]
impl EventReader for Reader {
    async fn read(&mut self, query: EventQuery) -> Result<Option<EventPage>> {
        let mut open = self.take_open().await?;
        let page = limited(open.read(&query)).await.map_err(error)?;
        self.open = Some(open);
        Ok(page)
    }

    async fn last(&mut self) -> Result<EventSeq> {
        let open = self.take_open().await?;
        let last = limited(open.last()).await.map_err(error)?;
        self.open = Some(open);
        Ok(last)
    }

    async fn owners(&mut self, after: EventSeq, until: EventSeq) -> Result<Vec<OwnedRange>> {
        let open = self.take_open().await?;
        let owners = limited(events::owners(&open.db(), after, until)).await.map_err(error)?;
        self.open = Some(open);
        Ok(owners)
    }

    async fn settled(&mut self) -> Result<EventSeq> {
        let mut open = self.take_open().await?;
        let settle = async {
            let last = open.last().await?;
            open.settle(last).await
        };
        limited(settle).await.map_err(error)?;
        let settled = open.settled;
        self.open = Some(open);
        Ok(settled)
    }
}

fn error(failure: Option<Failure>) -> StoreError {
    match failure.map(Failure::classify) {
        Some(FailureClass::Operation(error)) => error,
        Some(FailureClass::ConnectionLost(why)) => StoreError::Unavailable(why),
        Some(FailureClass::Retry) => StoreError::Overloaded,
        None => StoreError::Unavailable(NO_ANSWER.to_owned()),
    }
}

impl Open {
    async fn connect(url: &str) -> Result<Self> {
        let unavailable = |error: anyhow::Error| StoreError::Unavailable(format!("{error:#}"));
        let hosts = Hosts::parse(url, OPTIONS).map_err(unavailable)?;
        let (client, connection) = hosts.connect().await.map_err(unavailable)?;
        // The task ends with the client. The client also returns the error to the caller.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self { client, settled: 0, pending: None })
    }

    async fn read(&mut self, query: &EventQuery) -> Done<Option<EventPage>> {
        // Where events are known to follow, they are given first.
        if query.after >= self.settled {
            let last = self.last().await?;
            if query.after > last {
                return Ok(None);
            }
            self.settle(last).await?;
        }
        events::page(&self.db(), query, self.settled).await.map(Some)
    }

    /// A number, by a statement of its own.
    async fn number(&self, sql: &str) -> Done<i64> {
        let row = self.db().row(sql, &[]).await?;
        row.map(|row| row.get(0)).ok_or_else(|| not_understood("number of an event"))
    }

    fn db(&self) -> Db<'_> {
        Db { client: &self.client, prepared: None, reached: None }
    }

    /// The last number that was given. The sequence's own row would be wrong: whenever the sequence is logged, it
    /// briefly contains a number up to 32 higher, and later numbers would count as settled.
    async fn last(&self) -> Done<EventSeq> {
        self.number("SELECT coalesce(pg_sequence_last_value('event_numbers'), 0)").await
    }

    /// Finds the number up to which every event is stored. The statements must be separate: each sees the state before
    /// it.
    async fn settle(&mut self, last: EventSeq) -> Done<()> {
        if self.pending.is_none() && last > self.settled {
            let xid = self.number("SELECT pg_current_xact_id()::text::bigint").await?;
            self.pending = Some(Pending { last, xid });
        }
        if let Some(Pending { last, xid }) = self.pending {
            let oldest = self.number("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint").await?;
            // Otherwise the pending range stays as it is: a long transaction delays no event after its own end.
            if oldest >= xid {
                (self.settled, self.pending) = (last, None);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
