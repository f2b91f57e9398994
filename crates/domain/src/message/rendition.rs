//! What a contact message sends: the cards as they were rendered, and whose accounts stand on them.

use serde::{Deserialize, Serialize};

/// The cards of a contact message, in their order. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactRendition {
    /// At least one.
    pub cards: Vec<RenderedCard>,
}

/// A card as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenderedCard {
    /// The card as text.
    pub vcard: String,
    /// The account of each of its phones, in their order.
    pub accounts: Vec<CardAccount>,
}

/// The account that stands in a `waid` of a card, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardAccount {
    /// The account's number.
    pub digits: String,
    /// The network named it; else the typed digits stand in.
    pub known: bool,
}

impl ContactRendition {
    /// One card with one phone.
    pub fn of_one(vcard: String, account: CardAccount) -> Self {
        Self { cards: vec![RenderedCard { vcard, accounts: vec![account] }] }
    }

    /// As it is stored: JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what was stored; `None` where a newer version wrote something else.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The account of the first phone of the first card.
    pub fn first_account(&self) -> Option<&CardAccount> {
        self.cards.first()?.accounts.first()
    }

    /// All cards as one text, each on lines of its own.
    pub fn text(&self) -> String {
        let cards: Vec<_> = self.cards.iter().map(|card| card.vcard.as_str()).collect();
        cards.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_is_read_again() {
        let account = CardAccount { digits: "5511988887777".to_owned(), known: true };
        let mut rendition = ContactRendition::of_one("BEGIN:VCARD\nEND:VCARD".to_owned(), account.clone());
        let text =
            r#"{"cards":[{"vcard":"BEGIN:VCARD\nEND:VCARD","accounts":[{"digits":"5511988887777","known":true}]}]}"#;
        assert_eq!(rendition.to_json(), text);
        assert_eq!(ContactRendition::from_json(text), Some(rendition.clone()));
        assert_eq!((rendition.first_account(), ContactRendition::from_json("{}")), (Some(&account), None));
        rendition.cards.push(rendition.cards[0].clone());
        assert_eq!(rendition.text(), "BEGIN:VCARD\nEND:VCARD\nBEGIN:VCARD\nEND:VCARD");
    }
}
