//! An inbox in memory. The tests of the session share it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use recado_domain::incoming::{Arrival, What};
use recado_whatsapp_web::{Delivered, Inbound, Inbox, NotStored};

#[derive(Default)]
pub struct MemoryInbox {
    /// What was stored, in its order.
    stored: Mutex<Vec<Inbound>>,
    /// Nothing can be stored.
    pub is_full: AtomicBool,
    /// How often something was to be stored.
    pub tries: AtomicUsize,
    /// It will be so for long.
    pub is_lasting: AtomicBool,
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn receive(&self, delivered: Delivered) -> Result<(), NotStored> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.is_full.load(Ordering::Relaxed) {
            let is_lasting = self.is_lasting.load(Ordering::Relaxed);
            return Err(NotStored { why: "the disk is full".to_owned(), is_lasting });
        }
        self.stored.lock().unwrap_or_else(PoisonError::into_inner).extend(delivered.inbound);
        Ok(())
    }
}

impl MemoryInbox {
    /// The arrivals that were stored.
    #[expect(clippy::allow_attributes, reason = "some users of this file call it")]
    #[allow(dead_code, reason = "not every user of this file looks at them")]
    pub fn arrivals(&self) -> Vec<Arrival> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = |inbound: &Inbound| match inbound {
            Inbound::Arrival(arrival) => Some((**arrival).clone()),
            Inbound::Vote(_) | Inbound::Read(_) => None,
        };
        stored.iter().filter_map(arrival).collect()
    }

    /// The messages that the phone has read.
    #[expect(clippy::allow_attributes, reason = "some users of this file call it")]
    #[allow(dead_code, reason = "not every user of this file looks at them")]
    pub fn reads(&self) -> Vec<String> {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |inbound: &Inbound| match inbound {
            Inbound::Read(ids) => ids.clone(),
            Inbound::Arrival(_) | Inbound::Vote(_) => Vec::new(),
        };
        stored.iter().flat_map(read).collect()
    }

    /// The texts of the messages that were stored.
    #[expect(clippy::allow_attributes, reason = "some users of this file call it")]
    #[allow(dead_code, reason = "not every user of this file looks at them")]
    pub fn texts(&self) -> Vec<String> {
        let text = |arrival: Arrival| match arrival.what {
            What::Message(new) => Some(new.text),
            _ => None,
        };
        self.arrivals().into_iter().filter_map(text).collect()
    }
}
