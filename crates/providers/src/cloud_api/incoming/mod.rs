//! Translates the messages of a callback, from people and from the phone of the business, into [`Arrival`]s.
//!
//! | File | |
//! |---|---|
//! | `people` | who wrote: `contacts`, numbers, user ids |
//! | `message` | one element of `messages` or `message_echoes`: id, time, chat, and what it is |
//! | `content` | the content of a message, by Meta's `type` |
//! | `files` | images, videos, recordings, documents, stickers |
//! | `answers` | buttons, lists, forms, orders |
//! | `cards` | contacts |
//! | `changes` | reactions, edits, revocations, changed numbers |
//!
//! Sources: Meta's OpenAPI file (v23.0), and the pages `webhooks/reference/messages/*`,
//! `webhooks/reference/smb_message_echoes`, `webhooks/reference/user_preferences` and `business-scoped-user-ids`.
//!
//! An element of unknown form is stored as a message of type `other` with its JSON.

mod answers;
mod cards;
mod changes;
mod content;
mod files;
mod message;
mod people;

pub(super) use files::digest;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use recado_domain::clock::Millis;
use recado_domain::incoming::{Arrival, Direction};

use crate::cloud_api::incoming::people::People;
use crate::cloud_api::lenient::{Object, elements};

/// The lists of a change that contain messages.
const LISTS: [(&str, Direction); 2] = [("messages", Direction::Inbound), ("message_echoes", Direction::Outbound)];
/// The list of opt-outs.
const PREFERENCES: &str = "user_preferences";
/// The list of errors that concern no message.
const ERRORS: &str = "errors";

/// The arrivals at one number.
#[derive(Debug, Clone)]
pub struct OfNumber {
    pub phone_number_id: Arc<str>,
    /// The digits of the number, as Meta shows it to people.
    pub number: Option<String>,
    /// In the order of the callback.
    pub arrivals: Vec<Arrival>,
    /// How many of them have an unknown form, and are stored as type `other`.
    pub unreadable: usize,
}

/// Whether a change has anything of this kind.
pub(super) fn is_in(value: &Object<'_>) -> bool {
    let lists = LISTS.map(|(list, _)| list).into_iter().chain([PREFERENCES, ERRORS]);
    lists.into_iter().any(|list| value.raw(list).is_some())
}

/// Reads the lists of a change. `shown` is the number as people write it. At most `room` elements are read. If there are
/// more, `room` is `None` after this.
pub(super) fn read(
    value: &Object<'_>,
    (phone_number_id, shown): (&Arc<str>, Option<&str>),
    room: &mut Option<usize>,
    now: Millis,
) -> Option<OfNumber> {
    let people = People::of(value);
    let mut arrivals = Vec::new();
    let mut unreadable = 0;
    for (list, direction) in LISTS {
        let Some(list) = value.raw(list) else { continue };
        let is_list = elements(list, |element| {
            *room = room.and_then(|room| room.checked_sub(1));
            if room.is_none() {
                return;
            }
            let (arrival, is_readable) = message::read(element, direction, &people, now);
            arrivals.push(arrival);
            unreadable += usize::from(!is_readable);
        });
        unreadable += usize::from(!is_list);
    }
    if let Some(list) = value.raw(PREFERENCES) {
        elements(list, |element| {
            *room = room.and_then(|room| room.checked_sub(1));
            if room.is_some() {
                arrivals.extend(changes::preference(element, &people, now));
            }
        });
    }
    if let Some(errors) = value.raw(ERRORS) {
        let mut codes = Vec::new();
        elements(errors, |error| codes.extend(Object::read(error).and_then(|error| error.value::<i64>("code"))));
        codes.truncate(8);
        tracing::warn!(?codes, "Meta reports errors of a number");
    }
    let number: Option<String> = shown.map(|shown| shown.chars().filter(char::is_ascii_digit).collect());
    let number = number.filter(|digits| recado_domain::ids::is_account(digits));
    let phone_number_id = phone_number_id.clone();
    (!arrivals.is_empty()).then_some(OfNumber { phone_number_id, number, arrivals, unreadable })
}
