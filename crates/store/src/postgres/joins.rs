//! Writes the conversations of sent messages, by one statement for all: a statement costs a plan, and a round trip.

use std::collections::HashMap;

use recado_domain::channel::ChannelKey;
use recado_domain::clock::Millis;
use recado_domain::conversation::Status;
use recado_domain::event::Owner;
use recado_domain::ids::ConversationId;
use recado_domain::incoming::Direction;

use crate::common::inbox::outgoing::{Joins, Opening};
use crate::sqlkit::postgres::db::{Db, Done, args, column, not_understood};

impl Joins for Db<'_> {
    async fn write(&self, owner: Owner, chats: &[Opening<'_>], now: Millis) -> Done<Vec<ConversationId>> {
        let (status, direction) = (Status::Open.name(), Direction::Outbound.name());
        let messages: Vec<_> =
            chats.iter().flat_map(|chat| chat.messages.iter().map(move |message| (*message, chat.chat))).collect();
        let sql = include_str!("joins/write.sql");
        let found = Db::rows(
            *self,
            sql,
            args![
                &owner.0.as_bytes()[..],
                owner.1.name(),
                status,
                direction,
                now,
                column(chats, |chat| &chat.id.as_bytes()[..]),
                column(chats, |chat| chat.last.channel),
                column(chats, |chat| chat.kind.name()),
                column(chats, |chat| chat.chat),
                column(chats, |chat| &*chat.address),
                column(chats, |chat| chat.contact.map(|contact| contact.as_bytes().to_vec())),
                column(chats, |chat| &chat.last.id.as_bytes()[..]),
                column(chats, |chat| &*chat.last.kind),
                column(chats, |chat| &*chat.last.text),
                column(chats, |chat| chat.windowed),
                column(chats, |chat| chat.chat_name),
                column(chats, |chat| chat.wrote_at),
                column(&messages, |(message, _)| message.seq),
                column(&messages, |(message, _)| message.channel),
                column(&messages, |(_, chat)| *chat),
            ],
        )
        .await?;
        let mut ids: HashMap<(ChannelKey, String), ConversationId> = HashMap::with_capacity(found.len());
        for row in found {
            let id: &[u8] = row.get(0);
            let id: [u8; 16] = id.try_into().map_err(|_| not_understood("conversation"))?;
            ids.insert((row.get(1), row.get(2)), ConversationId::from_bytes(id));
        }
        let of = |chat: &Opening<'_>| ids.get(&(chat.last.channel, chat.chat.to_owned())).copied();
        chats.iter().map(|chat| of(chat).ok_or_else(|| not_understood("conversation"))).collect()
    }
}
