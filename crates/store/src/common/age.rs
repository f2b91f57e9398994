//! Which rows at the head of a table are old. The numbers of rows ascend with time, so nothing behind the first young rows has
//! to be read, and the time needs no index. But a clock may have been ahead for a while.

use recado_domain::clock::Millis;

use crate::sqlkit::both::{Executor, Read, Row, values};

/// The rows of a table with numbers and times.
pub(crate) struct Dated<'a> {
    /// The table, perhaps with the index to use.
    pub table: &'a str,
    /// The column with the number.
    pub number: &'a str,
    /// The column with the time.
    pub time: &'a str,
    /// The condition for the rows that count.
    pub which: &'a str,
}

/// The number and the time of a row.
type Place = (i64, Millis);

fn place(row: &Row<'_>) -> Read<Place> {
    Ok((row.get("n")?, row.get("at")?))
}

impl Dated<'_> {
    /// The first rows.
    pub async fn head<E: Executor>(&self, db: &E, limit: i64) -> Result<Vec<Place>, E::Error> {
        let Self { table, number, time, which } = self;
        let sql = format!("SELECT {number} AS n, {time} AS at FROM {table} WHERE {which} ORDER BY {number} LIMIT ?1");
        db.rows(&sql, values![limit], place).await
    }

    /// The last of the first rows that is old. A row from the future counts as old if a later row is old: it was written while
    /// the clock was ahead, and would keep itself, and the rows behind it, until its time has come.
    pub async fn last_old<E: Executor>(
        &self,
        db: &E,
        head: &[Place],
        (before, now): (Millis, Millis),
    ) -> Result<Option<i64>, E::Error> {
        let known = head.iter().rfind(|(_, at)| *at < before).map(|(number, _)| *number);
        let Some((last, _)) = head.last().filter(|(_, at)| *at > now) else { return Ok(known) };
        let next = self.next_in_time(db, *last, now).await?;
        Ok(if next.is_some_and(|at| at < before) { Some(*last) } else { known })
    }

    /// The time of the first row behind this one that is not from the future. There may be any number of rows from the future,
    /// so this reads few of them: it finds their end in steps that are doubled, and then halved.
    async fn next_in_time<E: Executor>(&self, db: &E, last: i64, now: Millis) -> Result<Option<Millis>, E::Error> {
        let Self { table, number, time, which } = self;
        let sql = format!(
            "SELECT {number} AS n, {time} AS at FROM {table} WHERE {number} >= ?1 AND {which} ORDER BY {number} LIMIT 1"
        );
        let (mut from_future, mut step, mut is_behind, mut next) = (last, 1_i64, false, None);
        while step > 0 {
            match db.row(&sql, values![from_future.saturating_add(step)], place).await? {
                Some((number, at)) if at > now => from_future = number,
                found => (is_behind, next) = (true, found.map(|(_, at)| at)),
            }
            step = if is_behind { step / 2 } else { step.saturating_mul(2) };
        }
        Ok(next)
    }
}
