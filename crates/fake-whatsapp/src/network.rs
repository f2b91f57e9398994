//! What the network knows: people, the devices linked to their accounts, and what happened.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow};
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use wacore::libsignal::protocol::KeyPair;
use wacore_binary::{Jid, Node};

use crate::faults::Faults;
use crate::keys::UploadedKeys;
use crate::noise::certificate_chain;
use crate::pair_code::CodeOffer;
use crate::phone::Phone;
use crate::received::Received;

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

    /// Never held across an await: what is done with it is done at once.
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
    /// The number asked to the number it is an account of.
    pub aliases: HashMap<String, String>,
    pub devices: BTreeMap<Slot, Device>,
    /// References in QR codes that are shown, with the connection they were given to.
    pub codes_shown: HashMap<String, Line>,
    /// Who waits for a code to be typed on a phone.
    pub code_offers: Vec<CodeOffer>,
    /// Told that they are linked, and have not confirmed it yet.
    pub linking: Vec<(Line, Slot)>,
    pub faults: Faults,
    pub restricted_until: Option<i64>,
    pub inbox: Vec<Received>,
    /// Message id to the linked device that sent it, for receipts.
    pub senders: HashMap<String, Slot>,
    pub lookups: BTreeMap<String, u64>,
    pub typing: Vec<Typing>,
    pub trace: Option<Vec<String>>,
    /// Nobody can connect.
    pub cut_off: bool,
    /// When each connection began.
    pub connected_at: Vec<Instant>,
    pub counters: Counters,
    last_id: u64,
}

/// A place among the devices of an account; 0 is its phone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub phone: String,
    pub device: u16,
}

/// A linked device: a client under test.
pub struct Device {
    pub number: Jid,
    pub lid: Jid,
    /// Its identity as signed by the account and by itself, for whoever writes to it.
    pub proof: Option<Vec<u8>>,
    pub keys: Option<UploadedKeys>,
    pub line: Option<Line>,
    /// It has said that it takes messages, on the connection it has.
    pub active: bool,
    /// It has shown itself online: the phone gets no notifications meanwhile.
    pub shown_online: bool,
    /// What it has not confirmed.
    pub queue: Vec<Node>,
    pub key_shared: bool,
}

impl Device {
    pub fn new(slot: &Slot, lid: &str) -> Self {
        Self {
            number: Jid::pn_device(slot.phone.as_str(), slot.device),
            lid: Jid::lid_device(lid, slot.device),
            proof: None,
            keys: None,
            line: None,
            active: false,
            shown_online: false,
            queue: Vec::new(),
            key_shared: false,
        }
    }
}

/// The writing side of a connection.
#[derive(Clone)]
pub struct Line(UnboundedSender<Out>);

pub enum Out {
    Stanza(Node),
    Close,
}

impl Line {
    pub fn new() -> (Self, UnboundedReceiver<Out>) {
        let (line, out) = unbounded_channel();
        (Self(line), out)
    }

    /// Whether the connection still stood.
    pub fn send(&self, stanza: Node) -> bool {
        self.0.send(Out::Stanza(stanza)).is_ok()
    }

    /// Ends the connection after all that was sent.
    pub fn close(&self) {
        let _ = self.0.send(Out::Close);
    }

    pub fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

/// A sign that someone types, or stopped to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Typing {
    pub from: String,
    pub to: String,
    pub on: bool,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    pub connections: u64,
    /// Logins, and connections to be linked, of clients that did not know our key.
    pub logins_xx: u64,
    /// Logins of clients that did.
    pub logins_ik: u64,
    /// Message stanzas to other people, those included that were refused or lost.
    pub messages: u64,
    /// Copies that their phone could not read.
    pub undecryptable: u64,
    /// Messages that their phone could read and not show.
    pub malformed: u64,
    /// Codes typed on a phone that were not the one shown.
    pub wrong_codes: u64,
    /// `<presence>` stanzas.
    pub presences: u64,
}

impl State {
    pub fn next_id(&mut self, prefix: &str) -> String {
        self.last_id += 1;
        format!("{prefix}{}", self.last_id)
    }

    /// Adds a person with a phone; one who is there stays as they are.
    pub fn add_person(&mut self, number: &str, lid: &str) -> Result<&mut Phone> {
        if !self.people.contains_key(number) {
            self.people.insert(number.to_owned(), Phone::new(number, lid)?);
            self.lids.insert(lid.to_owned(), number.to_owned());
        }
        self.people.get_mut(number).ok_or_else(|| anyhow!("nobody has {number}"))
    }

    /// The number behind an address, which may be by LID.
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

    /// Sends to a linked device. Messages wait until it confirms them, and receipts until it is there, as on the real
    /// network; anything else is lost while it is away. Whether it was there.
    pub fn send(&mut self, to: &Slot, stanza: Node) -> bool {
        let Some(device) = self.devices.get_mut(to) else { return false };
        let there = device.line.as_ref().filter(|_| device.active);
        let sent = there.is_some_and(|line| line.send(stanza.clone()));
        if stanza.tag == "message" || (stanza.tag == "receipt" && !sent) {
            device.queue.push(stanza);
        }
        sent
    }
}
