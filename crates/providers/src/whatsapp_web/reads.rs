//! Tells the network which messages were read.

use std::collections::BTreeMap;

use recado_domain::conversation::ReadSignal;
use recado_domain::event::ChatKind;

use super::connection::Connection;
use crate::ReadOutcome;

impl Connection {
    /// Tells the network that messages were read. The network does not answer, so a receipt that was written counts.
    pub(super) async fn mark_read(&self, signal: &ReadSignal) -> ReadOutcome {
        let Some(session) = self.session() else { return ReadOutcome::Later };
        for (author, ids) in by_author(signal) {
            if session.mark_read(&signal.address, author, ids).await.is_err() {
                // Those that were reported already are reported again, which changes nothing.
                return ReadOutcome::Later;
            }
        }
        ReadOutcome::Sent
    }
}

/// The messages by their author, whom a receipt in a group names.
fn by_author(signal: &ReadSignal) -> BTreeMap<Option<&str>, Vec<String>> {
    let mut ids = BTreeMap::<_, Vec<_>>::new();
    for message in &signal.messages {
        let author = (signal.chat == ChatKind::Group).then_some(&*message.author);
        ids.entry(author).or_default().push(message.network_id.clone());
    }
    ids
}

#[cfg(test)]
mod tests {
    use recado_domain::conversation::ReadMark;
    use recado_domain::ids::{ConversationId, MessageId};

    use super::*;

    #[test]
    fn only_a_group_names_the_authors() {
        let mark = |n: u8, author: &str| ReadMark {
            id: MessageId::new(1, [n; 10]),
            network_id: n.to_string(),
            author: author.to_owned(),
        };
        let mut signal = ReadSignal {
            conversation: ConversationId::new(1, [1; 10]),
            channel: 1,
            chat: ChatKind::Direct,
            address: "551".to_owned(),
            messages: vec![mark(3, "551"), mark(2, "552"), mark(1, "551")],
            until: 3,
            attempts: 1,
        };
        let of = |author, ids: &[&str]| (author, ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        assert_eq!(by_author(&signal), BTreeMap::from([of(None, &["3", "2", "1"])]));
        signal.chat = ChatKind::Group;
        assert_eq!(by_author(&signal), BTreeMap::from([of(Some("551"), &["3", "1"]), of(Some("552"), &["2"])]));
    }
}
