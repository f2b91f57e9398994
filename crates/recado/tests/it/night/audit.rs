//! What the store lists, read while the night goes on, because old messages are purged.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use crate::harness::{agent, call};
use crate::load::{Load, Sender, channel_id};

/// The wait between two readings. It is far shorter than messages are kept.
const EVERY: Duration = Duration::from_secs(5);

/// The ids of the listed messages of each channel, in the order of the store.
pub struct Audit {
    listed: Mutex<Vec<Vec<String>>>,
}

impl Audit {
    pub fn new(channels: usize) -> Self {
        Self { listed: Mutex::new(vec![Vec::new(); channels]) }
    }

    fn listed(&self) -> MutexGuard<'_, Vec<Vec<String>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest listed message of a channel.
    pub fn newest(&self, channel: usize) -> Option<String> {
        self.listed()[channel].last().cloned()
    }

    /// Reads until the load stops.
    pub fn follow(&self, load: &Load) {
        while !load.stop.load(SeqCst) {
            self.read(load);
            sleep(EVERY);
        }
    }

    /// Reads what is new in all channels. Returns whether every call was answered.
    pub fn read(&self, load: &Load) -> bool {
        let channels = self.listed().len();
        (0..channels).all(|channel| self.read_channel(load, channel).is_some())
    }

    fn read_channel(&self, load: &Load, channel: usize) -> Option<()> {
        let (known, agent) = (self.newest(channel), agent());
        let (mut new, mut cursor) = (Vec::new(), String::new());
        'pages: loop {
            let path = format!("/v1/channels/{}/messages?limit=100{cursor}", channel_id(channel));
            let url = format!("http://{}{path}", load.address(channel));
            let page = call(&agent, &url, "GET", Some(&load.key), &[], None).ok().filter(|page| page.status == 200)?;
            let page = page.json();
            for message in page["data"].as_array().expect("a list") {
                let id = message["id"].as_str().expect("an id").to_owned();
                if known.as_ref() == Some(&id) {
                    break 'pages;
                }
                new.push(id);
            }
            match page["pagination"]["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        self.listed()[channel].extend(new.into_iter().rev());
        Some(())
    }

    /// The store listed exactly the accepted messages, in their order.
    pub fn check(&self, senders: &[Sender<'_>]) {
        let listed = self.listed();
        println!("store: {} messages listed", listed.iter().map(Vec::len).sum::<usize>());
        for sender in senders {
            let (listed, channel) = (&listed[sender.channel], sender.channel);
            let wrong = listed.iter().zip(&sender.ids).find(|(listed, accepted)| listed != accepted);
            assert_eq!(wrong, None, "channel {channel}: what the store lists, where the caller's order has the other");
            assert_eq!(listed.len(), sender.ids.len(), "messages of channel {channel} in the store, accepted messages");
        }
    }
}
