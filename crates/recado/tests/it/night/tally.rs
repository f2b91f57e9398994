//! What the webhook heard: each event of a message once, and the messages of a channel in their order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::json;

use super::Hook;
use crate::harness::{Server, wait_for};
use crate::load::{Sender, channel_id};
use crate::webhooks::receiver::{Arrival, Receiver};

/// The events of the webhook. A message that a receipt settles, because its answer was lost, skips the first one.
const EVENTS: [&str; 2] = ["message.sent", "message.read"];
/// Faults that are kept, so that a broken run does not fill the memory.
const FAULTS: usize = 20;

pub struct Tally {
    receiver: Receiver,
    heard: Arc<Mutex<Heard>>,
    /// The secret with which requests are signed.
    secret: Arc<OnceLock<String>>,
}

#[derive(Default)]
struct Heard {
    /// The id of each event of a message.
    events: HashMap<String, [Option<String>; EVENTS.len()]>,
    /// The messages of each channel in the order in which their sends were first heard of.
    order: HashMap<String, Vec<String>>,
    read: usize,
    /// Requests that repeated an event under its id.
    repeated: usize,
    faults: Vec<String>,
}

impl Tally {
    /// Starts a receiver.
    pub fn start() -> Self {
        let (heard, secret): (Arc<Mutex<Heard>>, Arc<OnceLock<String>>) = Default::default();
        let (told, signed) = (heard.clone(), secret.clone());
        let receiver = Receiver::telling(move |arrival| {
            let signed = signed.get().is_some_and(|secret| arrival.is_signed_with(secret));
            told.lock().unwrap_or_else(PoisonError::into_inner).hear(arrival, signed);
        });
        Self { receiver, heard, secret }
    }

    /// Creates the webhook.
    pub fn hook(&self, server: &Server, key: &str, Hook { order, channels }: Hook) {
        // After a second failed attempt, the default policy would wait for minutes.
        let retries = json!({"maxRetries": 10, "retryDelay": 5_000});
        let mut body = json!({"url": self.receiver.url("/"), "events": EVENTS, "order": order, "retryPolicy": retries});
        body["channelIds"] = (0..channels).map(channel_id).collect();
        let made = server.post("/v1/webhooks", key, &body).expect(201).json();
        let secret = made["data"]["secret"].as_str().expect("a secret").to_owned();
        self.secret.set(secret).expect("one webhook");
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The messages that were reported as sent, and as read.
    pub fn counts(&self) -> (usize, usize) {
        let heard = self.heard();
        (heard.events.len(), heard.read)
    }

    /// Waits until all messages were reported as read. The wait has no limit as long as events arrive.
    pub fn wait_until_read(&self, senders: &[Sender<'_>]) {
        let ids = || senders.iter().flat_map(|sender| &sender.ids);
        let mut read = self.counts().1;
        while read < ids().count() {
            let (before, heard) = (read, self.heard());
            let is_open = |id: &&String| heard.events.get(*id).is_none_or(|events| events[1].is_none());
            let open: Vec<_> = ids().filter(is_open).take(20).cloned().collect();
            drop(heard);
            wait_for(&format!("events that these and others were read: {open:?}"), || {
                read = self.counts().1;
                read > before
            });
        }
    }

    /// Compares with the accepted messages of its channels, in the order that it promises.
    pub fn check(&self, senders: &[Sender<'_>], order: &str) {
        let heard = self.heard();
        let skipped = heard.events.values().filter(|events| events[0].is_none()).count();
        println!(
            "webhook: {} messages, {skipped} settled by a receipt, {} requests repeated",
            heard.events.len(),
            heard.repeated
        );
        assert_eq!(heard.faults, Vec::<String>::new());
        for sender in senders {
            let (channel, ids) = (channel_id(sender.channel), &sender.ids);
            for id in ids {
                let read = heard.events.get(id).is_some_and(|events| events[1].is_some());
                assert!(read, "{channel}: the event that {id} was read is missing");
            }
            if order == "message" {
                continue;
            }
            let sent = ids.iter().filter(|id| heard.events[*id][0].is_some());
            let wrong = heard.order[&channel].iter().zip(sent).find(|(heard, accepted)| heard != accepted);
            assert_eq!(wrong, None, "{channel}: what the webhook heard, where the caller's order has the other");
        }
        let accepted: usize = senders.iter().map(|sender| sender.ids.len()).sum();
        assert_eq!(heard.events.len(), accepted, "messages in events, accepted messages");
    }
}

impl Heard {
    fn hear(&mut self, arrival: &Arrival, signed: bool) {
        let event = arrival.json();
        let (data, id) = (&event["data"], arrival.id());
        let place = EVENTS.iter().position(|name| event["event"] == *name);
        let (Some(place), Some(message)) = (place, data["messageId"].as_str()) else {
            return self.fault(format!("an unexpected event: {}", event["event"]));
        };
        if !signed {
            self.fault(format!("event {id} has a wrong signature"));
        }
        let events = self.events.entry(message.to_owned()).or_default();
        match &events[place] {
            Some(known) if known == id => self.repeated += 1,
            Some(known) => {
                let text = format!("{message} has two events {}: {known} and {id}", EVENTS[place]);
                self.fault(text);
            }
            None => {
                events[place] = Some(id.to_owned());
                if place == 0 {
                    let channel = event["channelId"].as_str().unwrap_or_default().to_owned();
                    self.order.entry(channel).or_default().push(message.to_owned());
                } else {
                    self.read += 1;
                }
            }
        }
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS {
            self.faults.push(fault);
        }
    }
}
