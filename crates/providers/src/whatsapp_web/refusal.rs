//! What the network's codes of refusal mean. They come with the answer to a message; none of them is documented by WhatsApp.
//! Sources: what open clients do at them (whatsapp-rust 0.7 `send`, Baileys issues 2441, 2636 and 2688, WAHA issue 1992).

use std::time::Duration;

/// What becomes of a message that was refused, and of its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The account may not write to those who never wrote to it.
    NoNewChats,
    /// The account writes too much: all of it rests.
    TooMuch,
    /// The network has a trouble of its own.
    Trouble,
    /// No such recipient any more.
    NoRecipient,
    /// This message is not taken.
    Message,
}

/// How long new chats wait where the network does not say until when it refuses them. Reported restrictions last for days,
/// but end unannounced.
pub const NO_NEW_CHATS: Duration = Duration::from_hours(24);
/// How long an account rests that writes too much, where the network does not say.
pub const TOO_MUCH: Duration = Duration::from_mins(15);

/// What a code means; what nobody knows is the message's own.
pub fn of(code: &str) -> Refusal {
    match code {
        // "Privacy token missing", "reach-out limit".
        "463" => Refusal::NoNewChats,
        // "rate-overlimit".
        "429" => Refusal::TooMuch,
        "500" | "503" => Refusal::Trouble,
        "404" => Refusal::NoRecipient,
        // 400 and 479: malformed, or the wrong kind of address.
        _ => Refusal::Message,
    }
}

#[cfg(test)]
mod tests {
    use crate::whatsapp_web::refusal::*;

    #[test]
    fn the_codes() {
        let table = [
            ("463", Refusal::NoNewChats),
            ("429", Refusal::TooMuch),
            ("500", Refusal::Trouble),
            ("503", Refusal::Trouble),
            ("404", Refusal::NoRecipient),
            ("400", Refusal::Message),
            ("479", Refusal::Message),
            ("1", Refusal::Message),
            ("", Refusal::Message),
        ];
        for (code, meaning) in table {
            assert_eq!(of(code), meaning, "{code}");
        }
    }
}
