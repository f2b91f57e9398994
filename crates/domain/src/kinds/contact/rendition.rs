//! Cards in the form in which they are sent. They are rendered once, so that every attempt sends the same bytes.

use serde::{Deserialize, Serialize};

use super::{Card, vcard};

/// The account in a card's `waid`, and its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardAccount {
    /// Digits.
    pub digits: String,
    /// Whether the network named the account. Otherwise these are the typed digits.
    pub known: bool,
}

/// A card in the form in which it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedCard {
    /// See [`vcard::render`].
    pub vcard: String,
    /// The account of each of its numbers.
    pub accounts: Vec<CardAccount>,
}

/// The cards of a message as they are sent. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactRendition {
    /// One to ten.
    pub cards: Vec<RenderedCard>,
}

/// The bytes of a typical rendition, of one card.
const CAPACITY: usize = 512;

impl ContactRendition {
    /// Renders cards with the accounts that the network named for their numbers, card by card.
    pub fn of(cards: &[Card], named: &[Vec<Option<String>>]) -> Self {
        let account = |digits: &str, named: Option<&String>| CardAccount {
            digits: named.map_or(digits, String::as_str).to_owned(),
            known: named.is_some(),
        };
        let cards = cards.iter().enumerate().map(|(index, card)| {
            let named = named.get(index);
            let numbers = card.phones.iter().enumerate();
            let accounts = numbers.map(|(place, phone)| {
                let named = named.and_then(|named| named.get(place)?.as_ref());
                account(phone.number.digits(), named)
            });
            let accounts: Vec<_> = accounts.collect();
            RenderedCard { vcard: vcard::render(card, &accounts), accounts }
        });
        Self { cards: cards.collect() }
    }

    /// The rendition of a new message, as it is stored. `None`: there are no cards.
    pub fn stored(cards: &[Card], named: &[Vec<Option<String>>]) -> Option<String> {
        (!cards.is_empty()).then(|| Self::of(cards, named).to_json())
    }

    /// One card with one number.
    pub fn of_one(vcard: String, account: CardAccount) -> Self {
        Self { cards: vec![RenderedCard { vcard, accounts: vec![account] }] }
    }

    /// The stored form.
    pub fn to_json(&self) -> String {
        let mut json = Vec::with_capacity(CAPACITY);
        let written = serde_json::to_writer(&mut json, self);
        written.ok().and_then(|()| String::from_utf8(json).ok()).unwrap_or_default()
    }

    /// Parses the stored form; `None` if a newer version wrote another form.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The account of the first number of the first card.
    pub fn first_account(&self) -> Option<&CardAccount> {
        self.cards.first()?.accounts.first()
    }

    /// All cards as one text, each on its own lines.
    pub fn text(&self) -> String {
        let cards: Vec<_> = self.cards.iter().map(|card| card.vcard.as_str()).collect();
        cards.join("\n")
    }

    /// The account that the network named for a number of a card, by their indexes.
    pub fn named(&self, card: usize, phone: usize) -> Option<&str> {
        let account = self.cards.get(card)?.accounts.get(phone)?;
        account.known.then_some(&*account.digits)
    }

    /// All accounts that the network named, card by card, in the form for [`of`](Self::of).
    pub fn all_named(&self) -> Vec<Vec<Option<String>>> {
        let named = |account: &CardAccount| account.known.then(|| account.digits.clone());
        self.cards.iter().map(|card| card.accounts.iter().map(named).collect()).collect()
    }

    /// Whether the network named the account of every number.
    pub fn is_complete(&self) -> bool {
        self.cards.iter().flat_map(|card| &card.accounts).all(|account| account.known)
    }
}
