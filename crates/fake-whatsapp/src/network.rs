//! The network's state: people, the devices linked to their accounts, and what happened.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use wacore::libsignal::protocol::KeyPair;
use wacore_binary::{Jid, Node};

use crate::faults::Faults;
use crate::groups::Group;
use crate::keys::UploadedKeys;
use crate::media::Files;
use crate::noise::certificate_chain;
use crate::pair_code::CodeOffer;
use crate::phone::Phone;
use crate::receipts::ReadReceipt;
use crate::received::Received;
use crate::say::Spoken;

pub fn rng() -> rand::rngs::StdRng {
    rand::make_rng()
}

pub struct Network {
    pub noise: KeyPair,
    pub root: [u8; 32],
    pub certificate: Vec<u8>,
    state: Mutex<State>,
}

impl Network {
    pub fn new() -> Result<Self> {
        let noise = KeyPair::generate(&mut rng());
        let (root, certificate) = certificate_chain(noise.public_key.public_key_bytes())?;
        Ok(Self { noise, root, certificate, state: Mutex::default() })
    }

    pub fn noise_public(&self) -> Result<[u8; 32]> {
        self.noise.public_key.public_key_bytes().try_into().map_err(|_| anyhow!("a key of another length"))
    }

    /// Never held across an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub struct State {
    /// By their number.
    pub people: HashMap<String, Phone>,
    /// LID to number.
    pub lids: HashMap<String, String>,
    /// The requested number to the number of its account.
    pub aliases: HashMap<String, String>,
    pub devices: BTreeMap<Slot, Device>,
    /// References in shown QR codes, with their connections.
    pub codes_shown: HashMap<String, Connection>,
    /// The connections that wait for a code to be typed on a phone.
    pub code_offers: Vec<CodeOffer>,
    /// Devices that were notified of their link, and have not confirmed it yet.
    pub linking: Vec<(Connection, Slot)>,
    pub faults: Faults,
    pub restricted_until: Option<i64>,
    pub inbox: Vec<Received>,
    /// What contacts wrote, by id, for repetitions.
    pub spoken: HashMap<String, Spoken>,
    /// The ids of messages that linked devices acknowledged, in order.
    pub acknowledged: Vec<Acknowledged>,
    /// Every receipt of a linked device: the id of the message, and the type.
    pub receipts: Vec<(Slot, String, String)>,
    /// By the part of their address before the `@`.
    pub groups: HashMap<String, Group>,
    pub files: Files,
    /// Where the network listens: `127.0.0.1:PORT`.
    pub address: String,
    /// Message id to the linked device that sent it, for receipts.
    pub senders: HashMap<String, Slot>,
    pub lookups: BTreeMap<String, u64>,
    pub typing: Vec<Typing>,
    pub reads: Vec<ReadReceipt>,
    pub trace: Option<Vec<String>>,
    /// No client can connect.
    pub cut_off: bool,
    /// When each connection began.
    pub connected_at: Vec<Instant>,
    pub counters: Counters,
    last_id: u64,
}

/// The number of a device of an account; 0 is its phone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub phone: String,
    pub device: u16,
}

/// A linked device: a client under test.
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub struct Device {
    pub number: Jid,
    pub lid: Jid,
    /// Its identity signed by the account and by itself, for its correspondents.
    pub proof: Option<Vec<u8>>,
    pub keys: Option<UploadedKeys>,
    pub connection: Option<Connection>,
    /// The device has announced on its connection that it receives messages.
    pub active: bool,
    /// The device is shown as online, so that the phone gets no notifications.
    pub shown_online: bool,
    /// The stanzas that it has not acknowledged.
    pub queue: Vec<Node>,
    pub key_shared: bool,
    /// Messages wait, although the device is connected.
    pub held: bool,
}

impl Device {
    pub fn new(slot: &Slot, lid: &str) -> Self {
        Self {
            number: Jid::pn_device(slot.phone.as_str(), slot.device),
            lid: Jid::lid_device(lid, slot.device),
            proof: None,
            keys: None,
            connection: None,
            active: false,
            shown_online: false,
            queue: Vec::new(),
            key_shared: false,
            held: false,
        }
    }
}

/// A linked device reported that it has a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// The account of the device.
    pub account: String,
    pub id: String,
    /// `receipt`, `receipt TYPE`, `ack`, or `ack CODE` of a device that refuses the message.
    pub by: String,
}

/// The writing side of a connection.
#[derive(Clone)]
pub struct Connection(UnboundedSender<Out>);

pub enum Out {
    Stanza(Node),
    Close,
}

impl Connection {
    pub fn new() -> (Self, UnboundedReceiver<Out>) {
        let (connection, out) = unbounded_channel();
        (Self(connection), out)
    }

    /// Sends a stanza. Returns whether the connection was open.
    pub fn send(&self, stanza: Node) -> bool {
        self.0.send(Out::Stanza(stanza)).is_ok()
    }

    /// Closes the connection after everything was sent.
    pub fn close(&self) {
        let _ = self.0.send(Out::Close);
    }

    pub fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

/// A typing state of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Typing {
    pub from: String,
    pub to: String,
    pub on: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    pub connections: u64,
    /// Logins and pairings of clients that did not know our key.
    pub logins_xx: u64,
    /// Logins of clients that knew it.
    pub logins_ik: u64,
    /// Message stanzas to other people, including refused and lost ones.
    pub messages: u64,
    /// Copies that the recipient's phone could not read.
    pub undecryptable: u64,
    /// Messages that the recipient's phone could read but not show.
    pub malformed: u64,
    /// Wrong codes that were typed on a phone.
    pub wrong_codes: u64,
    /// `<presence>` stanzas.
    pub presences: u64,
}

impl State {
    pub fn next_id(&mut self, prefix: &str) -> String {
        self.last_id += 1;
        format!("{prefix}{}", self.last_id)
    }

    /// Adds a person with a phone; an existing one does not change.
    pub fn add_person(&mut self, number: &str, lid: &str) -> Result<&mut Phone> {
        if !self.people.contains_key(number) {
            self.people.insert(number.to_owned(), Phone::new(number, lid)?);
            self.lids.insert(lid.to_owned(), number.to_owned());
        }
        self.people.get_mut(number).ok_or_else(|| anyhow!("unknown number {number}"))
    }

    /// The number of an address, which may have a LID.
    pub fn number_of(&self, jid: &Jid) -> Option<String> {
        let user = jid.user.as_str();
        if jid.is_lid() { self.lids.get(user).cloned() } else { Some(user.to_owned()) }
    }

    pub fn phone_of(&mut self, jid: &Jid) -> Option<&mut Phone> {
        let number = self.number_of(jid)?;
        self.people.get_mut(&number)
    }

    /// The linked devices of an account.
    pub fn devices_of(&mut self, number: &str) -> impl Iterator<Item = (&Slot, &mut Device)> {
        self.devices.iter_mut().filter(move |(slot, _)| slot.phone == number)
    }

    /// Sends to a linked device. Messages wait until it acknowledges them, and receipts until it connects, as on the real
    /// network; other stanzas are lost while it is away. Returns whether it was connected.
    pub fn send(&mut self, to: &Slot, stanza: Node) -> bool {
        let Some(device) = self.devices.get_mut(to) else { return false };
        let is_message = stanza.tag == "message";
        let there = device.connection.as_ref().filter(|_| device.active && !(device.held && is_message));
        let copies = if is_message { self.faults.extra_messages as usize + 1 } else { 1 };
        let sent = there.is_some_and(|connection| (0..copies).all(|_| connection.send(stanza.clone())));
        if is_message || (stanza.tag == "receipt" && !sent) {
            device.queue.push(stanza);
        }
        sent
    }
    /// The messages that wait for a device, in the order and as often as the network sends them now.
    pub fn arranged(&self, mut waiting: Vec<Node>) -> Vec<Node> {
        let messages = waiting.iter().filter(|stanza| stanza.tag == "message").cloned().collect::<Vec<_>>();
        for _ in 0..self.faults.extra_messages {
            waiting.extend(messages.iter().cloned());
        }
        if let Some(seed) = self.faults.shuffle {
            waiting.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
        }
        waiting
    }

    /// Sends a connected device the messages that waited for it.
    pub fn release(&mut self, slot: &Slot) {
        let Some(device) = self.devices.get_mut(slot) else { return };
        device.held = false;
        let waiting = device.queue.iter().filter(|stanza| stanza.tag == "message").cloned().collect();
        let connection = device.connection.clone().filter(|_| device.active);
        if let Some(connection) = connection {
            for stanza in self.arranged(waiting) {
                connection.send(stanza);
            }
        }
    }

    /// A device has these messages: they are not sent again.
    pub fn acknowledge(&mut self, slot: &Slot, ids: &[String], by: &str) {
        let Some(device) = self.devices.get_mut(slot) else { return };
        for id in ids {
            let sent = |stanza: &Node| stanza.tag == "message" && stanza.attrs.get("id").is_some_and(|sent| sent == id);
            let before = device.queue.len();
            device.queue.retain(|stanza| !sent(stanza));
            if device.queue.len() < before {
                let (account, id, by) = (slot.phone.clone(), id.clone(), by.to_owned());
                self.acknowledged.push(Acknowledged { account, id, by });
            }
        }
    }
}
