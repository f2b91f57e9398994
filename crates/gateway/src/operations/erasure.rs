//! Erases everything that is stored of a person, as a call requests it.

use std::time::Duration;

use recado_domain::api_key::Environment;
use recado_domain::channel::ChannelKey;
use recado_domain::error::AppError;
use recado_store::person::{Erased, Erasure, Person, PersonPart, PersonQuery, PersonRow};
use tokio::time::sleep;

use crate::gateway::Gateway;

/// The wait between two batches, for the writes of others.
const PAUSE: Duration = Duration::from_millis(20);
/// How often messages in flight are looked at again, and the wait between.
const LOOKS: u32 = 10;
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// Erases all data of a person in one environment of an institution. What networks delivered goes last, with the contact: a call that was interrupted finds the
/// contact, and can be repeated.
///
/// # Errors
///
/// The store is unavailable, or a message to the person is still in flight. Part of the data may be erased.
pub async fn everything(gateway: &Gateway, mut person: Person) -> Result<(), AppError> {
    add_names(gateway, &mut person).await?;
    let mut looks = 0;
    while messages(gateway, &person).await?.sending > 0 {
        looks += 1;
        if looks == LOOKS {
            return Err(AppError::Unavailable);
        }
        sleep(IN_FLIGHT).await;
    }
    pages(gateway, |after| Erasure::Contacts { person: person.clone(), after }).await?;
    if person.environment != Some(Environment::Live) {
        let mut after = Some(0);
        while let Some(place) = after {
            (_, after) = gateway.drivers.sandbox().erase(person.clone(), place).await?;
        }
    }
    for channel in channels(gateway, &person).await? {
        pages(gateway, |after| Erasure::Traces { person: person.clone(), channel: Some(channel), after }).await?;
    }
    pages(gateway, |after| Erasure::EventTraces { person: person.clone(), after }).await?;
    pages(gateway, |_| Erasure::Inbox { person: person.clone() }).await?;
    super::person::forget_erased(gateway).await.map(drop)
}

/// Adds all other names that networks gave the person.
async fn add_names(gateway: &Gateway, person: &mut Person) -> Result<(), AppError> {
    loop {
        let known = person.numbers.len();
        for row in rows(gateway, person, PersonPart::Names).await? {
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

/// All rows of a part. The names and the keys of one person are few.
async fn rows(gateway: &Gateway, person: &Person, part: PersonPart) -> Result<Vec<PersonRow>, AppError> {
    let (mut rows, mut after) = (Vec::new(), Some(0));
    while let Some(place) = after {
        let page = gateway.store.person(PersonQuery { person: person.clone(), part, after: place }).await?;
        rows.extend(page.rows);
        after = page.next;
        if after.is_some() {
            sleep(PAUSE).await;
        }
    }
    Ok(rows)
}

/// The channels of the person's institution, the deleted ones too.
async fn channels(gateway: &Gateway, person: &Person) -> Result<Vec<ChannelKey>, AppError> {
    let key = |row| match row {
        PersonRow::Channel(key) => Some(key),
        _ => None,
    };
    Ok(rows(gateway, person, PersonPart::Channels).await?.into_iter().filter_map(key).collect())
}

/// Erases the messages to the person, with their idempotency keys. Those in flight stay.
async fn messages(gateway: &Gateway, person: &Person) -> Result<Erased, AppError> {
    let (mut total, mut after) = (Erased::default(), Some(0));
    while let Some(place) = after {
        let query = PersonQuery { person: person.clone(), part: PersonPart::Places, after: place };
        let page = gateway.store.person(query).await?;
        let places = page.rows.into_iter().filter_map(|row| match row {
            PersonRow::Place(place) => Some(place),
            _ => None,
        });
        let places: Vec<_> = places.collect();
        if !places.is_empty() {
            total.sending += super::person::erase_batch(gateway, Erasure::Messages(places)).await?.sending;
            sleep(PAUSE).await;
        }
        after = page.next;
    }
    Ok(total)
}

/// Erases all batches.
async fn pages(gateway: &Gateway, erasure: impl Fn(i64) -> Erasure) -> Result<(), AppError> {
    let mut after = Some(0);
    while let Some(place) = after {
        after = super::person::erase_batch(gateway, erasure(place)).await?.next;
        sleep(PAUSE).await;
    }
    Ok(())
}
