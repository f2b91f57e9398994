//! Erases everything that is stored of a person in one environment of an institution, for calls and for the command line.

use std::time::Duration;

use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::error::AppError;
use recado_store::person::{Erased, Erasure, Person, PersonPage, PersonPart, PersonQuery, PersonRow};
use tokio::time::sleep;

use crate::gateway::Gateway;

/// The wait between two batches, for the writes of others.
const PAUSE: Duration = Duration::from_millis(20);
/// How often messages in flight are looked at again, and the wait between.
const LOOKS: u32 = 10;
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// Where the batches of an erasure run: in this process, or in the server that a command asks.
pub trait Batches: Sync {
    type Error: Send;
    /// A page of names, places or channels.
    fn page(&self, query: PersonQuery) -> impl Future<Output = Result<PersonPage, Self::Error>> + Send;
    /// Erases a batch.
    fn erase(&self, erasure: Erasure) -> impl Future<Output = Result<Batch, Self::Error>> + Send;
    /// Erases a batch on the sandbox's phone. `None`: the file of the sandbox cannot be used.
    fn erase_on_sandbox(&self, person: Person, after: i64) -> impl Future<Output = Option<Batch>> + Send;
}

/// What an erasure has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// Messages in flight, and all that the rest knows of the person: the next erasure finds these messages by it, also those to a
    /// former number.
    InFlight,
    /// What is on the sandbox's phone, because its file cannot be used; and the contact, by which the next erasure finds the
    /// person.
    Sandbox,
}

/// A batch that was erased.
#[derive(Default)]
pub struct Batch {
    /// Messages in flight, which stay.
    pub sending: u64,
    /// Whether there was anything.
    pub is_empty: bool,
    /// Where the next batch begins.
    pub next: Option<i64>,
}

/// Erases all data of a person in one environment of an institution by a call. What networks delivered goes last, with the contact:
/// a call that was interrupted finds the contact, and can be repeated.
///
/// # Errors
///
/// The store is unavailable, or a message to the person is still in flight. Part of the data may be erased.
pub async fn everything(gateway: &Gateway, mut person: Person) -> Result<Left, AppError> {
    add_names(gateway, &mut person).await?;
    let mut looks = 0;
    while messages(gateway, &person).await? > 0 {
        looks += 1;
        if looks == LOOKS {
            return Err(AppError::Unavailable);
        }
        sleep(IN_FLIGHT).await;
    }
    let left = rest(gateway, &person).await?;
    super::person::forget_erased(gateway).await?;
    Ok(left)
}

/// Erases all data of a person in one environment of an institution. If messages are in flight, only the other messages to the
/// person are erased.
///
/// # Errors
///
/// Those of the batches. Part of the data may be erased.
pub async fn at_once<B: Batches>(batches: &B, mut person: Person) -> Result<Left, B::Error> {
    add_names(batches, &mut person).await?;
    if messages(batches, &person).await? > 0 {
        return Ok(Left::InFlight);
    }
    rest(batches, &person).await
}

/// Erases all but the messages to the person.
async fn rest<B: Batches>(batches: &B, person: &Person) -> Result<Left, B::Error> {
    pages(batches, |after| Erasure::Contacts { person: person.clone(), after }).await?;
    let left = on_sandbox(batches, person).await;
    for channel in channels(batches, person).await? {
        pages(batches, |after| Erasure::Traces { person: person.clone(), channel: Some(channel), after }).await?;
    }
    pages(batches, |after| Erasure::EventTraces { person: person.clone(), after }).await?;
    // Each batch is the first of what is left.
    let keeps_contacts = left == Left::Sandbox;
    pages(batches, |_| Erasure::Inbox { person: person.clone(), keeps_contacts }).await?;
    Ok(left)
}

/// Erases what is on the sandbox's phone.
async fn on_sandbox<B: Batches>(batches: &B, person: &Person) -> Left {
    let mut after = (person.environment != Some(Environment::Live)).then_some(0);
    while let Some(place) = after {
        match batches.erase_on_sandbox(person.clone(), place).await {
            Some(batch) => after = batch.next,
            // The rest must not wait for the sandbox.
            None => return Left::Sandbox,
        }
    }
    Left::Nothing
}

/// Adds all other names that networks gave the person.
async fn add_names<B: Batches>(batches: &B, person: &mut Person) -> Result<(), B::Error> {
    loop {
        let known = person.numbers.len();
        for row in rows(batches, person, PersonPart::Names).await? {
            if let PersonRow::Name(name) = row
                && !person.numbers.contains(&name)
            {
                person.numbers.push(name);
            }
        }
        if person.numbers.len() == known {
            return Ok(());
        }
    }
}

/// All rows of a part. The names and the channels of one person are few.
async fn rows<B: Batches>(batches: &B, person: &Person, part: PersonPart) -> Result<Vec<PersonRow>, B::Error> {
    let (mut rows, mut after) = (Vec::new(), Some(0));
    while let Some(place) = after {
        let page = batches.page(PersonQuery { person: person.clone(), part, after: place }).await?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_some() {
            sleep(PAUSE).await;
        }
    }
    Ok(rows)
}

/// The channels of the person's institution, the deleted ones too.
async fn channels<B: Batches>(batches: &B, person: &Person) -> Result<Vec<ChannelKey>, B::Error> {
    let key = |row| match row {
        PersonRow::Channel(key) => Some(key),
        _ => None,
    };
    Ok(rows(batches, person, PersonPart::Channels).await?.into_iter().filter_map(key).collect())
}

/// Erases the messages to the person, with their idempotency keys. Those in flight stay; returns how many.
async fn messages<B: Batches>(batches: &B, person: &Person) -> Result<u64, B::Error> {
    let (mut sending, mut after) = (0, Some(0));
    while let Some(place) = after {
        let query = PersonQuery { person: person.clone(), part: PersonPart::Places, after: place };
        let page = batches.page(query).await?;
        let places = page.rows.into_iter().filter_map(|row| match row {
            PersonRow::Place(place) => Some(place),
            _ => None,
        });
        let places: Vec<_> = places.collect();
        if !places.is_empty() {
            sending += batches.erase(Erasure::Messages(places)).await?.sending;
            sleep(PAUSE).await;
        }
        after = page.next;
    }
    Ok(sending)
}

/// Erases all batches.
async fn pages<B: Batches>(batches: &B, erasure: impl Fn(i64) -> Erasure) -> Result<(), B::Error> {
    let mut after = Some(0);
    while let Some(place) = after {
        let batch = batches.erase(erasure(place)).await?;
        after = batch.next;
        if after.is_some() || !batch.is_empty {
            sleep(PAUSE).await;
        }
    }
    Ok(())
}

impl Batches for Gateway {
    type Error = AppError;

    async fn page(&self, query: PersonQuery) -> Result<PersonPage, AppError> {
        Ok(self.store.person(query).await?)
    }

    async fn erase(&self, erasure: Erasure) -> Result<Batch, AppError> {
        let erased = super::person::erase_batch(self, erasure).await?;
        let (sending, next) = (erased.sending, erased.next);
        Ok(Batch { sending, is_empty: Erased { next: None, ..erased } == Erased::default(), next })
    }

    async fn erase_on_sandbox(&self, person: Person, after: i64) -> Option<Batch> {
        // The sandbox logs what is wrong with its file.
        let (shown, next) = self.drivers.sandbox().erase(person, after).await.ok()?;
        Some(Batch { sending: 0, is_empty: shown == 0, next })
    }
}
