//! Writes the conversations of sent messages, chat by chat: a statement is cheap here.

use recado_domain::clock::Millis;
use recado_domain::conversation::Status;
use recado_domain::event::Owner;
use recado_domain::ids::ConversationId;
use recado_domain::incoming::Direction;
use rusqlite::{Connection, params};

use crate::common::inbox::outgoing::{Joins, Opening};

impl Joins for Connection {
    async fn write(&self, owner: Owner, chats: &[Opening<'_>], now: Millis) -> rusqlite::Result<Vec<ConversationId>> {
        let (status, direction) = (Status::Open.name(), Direction::Outbound.name());
        let mut begin = self.prepare_cached(include_str!("joins/write.sql"))?;
        let mut note = self.prepare_cached(
            "UPDATE messages SET conversation_id = ?1 WHERE seq = ?2 AND channel_key = ?3 AND conversation_id IS NULL",
        )?;
        let mut written = Vec::with_capacity(chats.len());
        for chat in chats {
            let last = chat.last;
            let id: [u8; 16] = begin.query_row(
                params![
                    chat.id.as_bytes(),
                    owner.0.as_bytes(),
                    owner.1.name(),
                    last.channel,
                    chat.kind.name(),
                    chat.chat,
                    chat.address,
                    chat.contact.map(|contact| *contact.as_bytes()),
                    status,
                    last.id.as_bytes(),
                    last.kind,
                    direction,
                    last.text,
                    now,
                    chat.windowed,
                    chat.chat_name,
                    chat.wrote_at,
                ],
                |row| row.get(0),
            )?;
            for message in chat.messages {
                note.execute(params![id, message.seq, message.channel])?;
            }
            written.push(ConversationId::from_bytes(id));
        }
        Ok(written)
    }
}
