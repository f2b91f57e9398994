//! Received messages, conversations and contacts as the API shows them. Events are recorded with the same JSON, in the
//! contract's order of keys.
//!
//! A recorded event has the path of a file in `mediaUrl`. The gateway puts its public address before it: in a view by
//! [`MessageView::with_base`], in a recorded event by [`with_base`].

mod contact;
mod conversation;
mod message;

use std::borrow::Cow;

use recado_domain::clock::Millis;
use recado_domain::contact_book::Contact;
use recado_domain::conversation::Conversation;
use recado_domain::incoming::{Incoming, Reaction};

pub use contact::ContactView;
pub use conversation::ConversationView;
pub use message::{MessageView, ReactionView, SenderView, sender};

/// A received message.
pub fn message(message: &Incoming) -> MessageView<'_> {
    MessageView::new(message)
}

/// A reaction to a message; `None` if it was removed.
pub fn reaction(reaction: &Reaction) -> Option<ReactionView<'_>> {
    message::reaction(reaction)
}

/// A conversation, with the state of its window at this time.
pub fn conversation(conversation: &Conversation, now: Millis) -> ConversationView<'_> {
    ConversationView::new(conversation, now)
}

/// A contact.
pub fn contact(contact: &Contact) -> ContactView<'_> {
    ContactView::new(contact)
}

/// The data of a recorded event with the public address of this server before the path of a file. Quotes in texts are
/// escaped, so that nothing else has these signs.
pub fn with_base<'a>(data: &'a str, base: &str) -> Cow<'a, str> {
    const PATH: &str = r#""mediaUrl":"/v1/media/"#;
    if base.is_empty() || !data.contains(PATH) {
        return data.into();
    }
    data.replace(PATH, &format!(r#""mediaUrl":"{base}/v1/media/"#)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_path_of_a_file_gets_the_public_address() {
        let data = r#"{"content":"\"mediaUrl\":\"/v1/media/","mediaUrl":"/v1/media/1/content"}"#;
        let wanted = r#"{"content":"\"mediaUrl\":\"/v1/media/","mediaUrl":"https://a.example/v1/media/1/content"}"#;
        assert_eq!(with_base(data, "https://a.example"), wanted);
        assert_eq!(with_base(data, ""), data);
    }
}
