//! The meaning of the network's refusal codes. A code comes with the answer to a message. WhatsApp documents none of them.
//! Sources: how open clients handle them (whatsapp-rust 0.7 `send`, Baileys issues 2441, 2636 and 2688, WAHA issue 1992).

use std::time::Duration;

/// The consequence of a refusal for the message and its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The account may not write to people who never wrote to it.
    NoNewChats,
    /// The account sends too much, and its channel must wait.
    TooMuch,
    /// The network has a temporary failure.
    Trouble,
    /// The recipient no longer exists.
    NoRecipient,
    /// The network refuses only this message.
    Message,
}

/// How long new chats wait if the network does not name the end. Reported restrictions last for days, but end unannounced.
pub const NO_NEW_CHATS: Duration = Duration::from_hours(24);
/// How long an account that sends too much waits if the network does not name the end.
pub const TOO_MUCH: Duration = Duration::from_mins(15);

/// The meaning of a code. An unknown code concerns only the message.
pub fn of(code: &str, is_group: bool) -> Refusal {
    match code {
        // "Privacy token missing", "reach-out limit". A message in a group opens no chat.
        "463" if !is_group => Refusal::NoNewChats,
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
            assert_eq!(of(code, false), meaning, "{code}");
        }
        assert_eq!(of("463", true), Refusal::Message, "a group is no new chat");
    }
}
