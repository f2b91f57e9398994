//! A received message.

use recado_domain::incoming::{Body, Choice, Direction, Incoming, Media, Quoted, Reaction, SenderIds};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::clock::rfc3339;

/// A message that a network delivered, as the API shows it.
pub struct MessageView<'a> {
    message: &'a Incoming,
    base: &'a str,
}

/// The sender of a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SenderView<'a> {
    contact_id: Option<String>,
    phone: Option<&'a str>,
    user_id: Option<&'a str>,
    lid: Option<&'a str>,
    username: Option<&'a str>,
    name: Option<&'a str>,
    is_me: bool,
}

#[derive(Serialize)]
struct ChatView<'a> {
    kind: &'static str,
    address: &'a str,
    name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QuoteView<'a> {
    message_id: Option<String>,
    network_id: &'a str,
    from: Option<&'a str>,
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    content: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChoiceView<'a> {
    message_id: Option<String>,
    id: Option<&'a str>,
    title: Option<&'a str>,
    kind: Value,
    matched_by: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MediaView<'a> {
    id: String,
    mime_type: &'a str,
    size: Option<u64>,
    sha256: Option<&'a str>,
    file_name: Option<&'a str>,
    width: Option<u32>,
    height: Option<u32>,
    duration_seconds: Option<u32>,
    ptt: bool,
    animated: bool,
    state: &'static str,
}

/// A reaction to a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReactionView<'a> {
    contact_id: Option<String>,
    from: Option<&'a str>,
    is_me: bool,
    emoji: &'a str,
    at: String,
}

/// A sender; `contact` is the id of the contact.
pub fn sender(ids: &SenderIds, contact: Option<String>, is_me: bool) -> SenderView<'_> {
    SenderView {
        contact_id: contact,
        phone: ids.phone.as_deref(),
        user_id: ids.user_id.as_deref(),
        lid: ids.lid.as_deref(),
        username: ids.username.as_deref(),
        name: ids.name.as_deref(),
        is_me,
    }
}

impl<'a> MessageView<'a> {
    pub(super) fn new(message: &'a Incoming) -> Self {
        Self { message, base: "" }
    }

    /// The same with the public address of this server before the path of the file: `https://recado.exemplo.com`.
    #[must_use]
    pub fn with_base(self, base: &'a str) -> Self {
        Self { base, ..self }
    }

    /// The digits of the sender and of the recipient.
    fn ends(&self) -> (Option<&'a str>, Option<&'a str>) {
        let Body { sender, number, .. } = &self.message.body;
        let (person, channel) = (sender.phone.as_deref(), number.as_deref());
        match self.message.direction {
            Direction::Inbound => (person, channel),
            // In a direct chat the address names the other person.
            Direction::Outbound => {
                let address = self.message.address.as_str();
                let is_number = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_digit());
                (channel, is_number.then_some(address))
            }
        }
    }

    fn status(&self) -> &'static str {
        match (self.message.direction, self.message.read_at) {
            (Direction::Outbound, _) => "SENT",
            (Direction::Inbound, Some(_)) => "READ",
            (Direction::Inbound, None) => "RECEIVED",
        }
    }

    fn sender(&self) -> SenderView<'a> {
        let message = self.message;
        let mut shown = sender(
            &message.body.sender,
            message.contact.map(|id| id.to_string()),
            message.direction == Direction::Outbound,
        );
        if shown.is_me {
            (shown.contact_id, shown.phone) = (None, message.body.number.as_deref());
        }
        shown
    }

    /// The first half of the keys: the content of the message.
    fn head<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Incoming { body, media, .. } = self.message;
        let (from, to) = self.ends();
        map.serialize_entry("id", &self.message.id.to_string())?;
        map.serialize_entry("conversationId", &self.message.conversation.to_string())?;
        map.serialize_entry("channelId", &self.message.channel_id)?;
        map.serialize_entry("type", body.content.name())?;
        map.serialize_entry("direction", self.message.direction.name())?;
        map.serialize_entry("status", self.status())?;
        map.serialize_entry("content", &body.text)?;
        let url = media.as_ref().map(|media| format!("{}/v1/media/{}/content", self.base, media.id));
        map.serialize_entry("mediaUrl", &url)?;
        map.serialize_entry("from", &from)?;
        map.serialize_entry("to", &to)?;
        map.serialize_entry("sender", &self.sender())?;
        let chat = ChatView {
            kind: self.message.chat.name(),
            address: &self.message.address,
            name: self.message.chat_name.as_deref(),
        };
        map.serialize_entry("chat", &chat)
    }
}

fn quote(quoted: &Quoted) -> QuoteView<'_> {
    QuoteView {
        message_id: quoted.message_id.map(|id| id.to_string()),
        network_id: &quoted.network_id,
        from: quoted.from.as_deref(),
        kind: quoted.kind.as_deref(),
        content: quoted.content.as_deref(),
    }
}

fn choice(choice: &Choice) -> ChoiceView<'_> {
    ChoiceView {
        message_id: choice.message_id.map(|id| id.to_string()),
        id: choice.id.as_deref(),
        title: choice.title.as_deref(),
        kind: serde_json::to_value(choice.kind).unwrap_or_default(),
        matched_by: serde_json::to_value(choice.matched_by).unwrap_or_default(),
    }
}

fn media(Media { id, state, about, .. }: &Media) -> MediaView<'_> {
    MediaView {
        id: id.to_string(),
        mime_type: &about.mime_type,
        size: about.size,
        sha256: about.sha256.as_deref(),
        file_name: about.file_name.as_deref(),
        width: about.width,
        height: about.height,
        duration_seconds: about.duration_seconds,
        ptt: about.ptt,
        animated: about.animated,
        state: state.name(),
    }
}

pub(super) fn reaction(reaction: &Reaction) -> Option<ReactionView<'_>> {
    Some(ReactionView {
        contact_id: reaction.contact.map(|id| id.to_string()),
        from: reaction.from.as_deref(),
        is_me: reaction.is_me,
        emoji: reaction.emoji.as_deref()?,
        at: rfc3339(reaction.at),
    })
}

impl Serialize for MessageView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Incoming { body, .. } = self.message;
        let mut map = serializer.serialize_map(None)?;
        self.head(&mut map)?;
        map.serialize_entry("networkId", &self.message.network_id)?;
        map.serialize_entry("replyTo", &body.reply_to.as_ref().map(quote))?;
        map.serialize_entry("mentions", &body.mentions)?;
        map.serialize_entry("forwarded", &body.forwarded)?;
        map.serialize_entry("choice", &body.choice.as_ref().map(choice))?;
        map.serialize_entry("referral", &body.referral)?;
        map.serialize_entry(body.content.name(), &body.content.object())?;
        map.serialize_entry("media", &self.message.media.as_ref().map(media))?;
        let reactions: Vec<_> = self.message.reactions.iter().filter_map(reaction).collect();
        map.serialize_entry("reactions", &reactions)?;
        map.serialize_entry("editedAt", &self.message.edited_at.map(rfc3339))?;
        map.serialize_entry("revokedAt", &self.message.revoked_at.map(rfc3339))?;
        map.serialize_entry("expiresInSeconds", &body.expires_in_seconds)?;
        map.serialize_entry("late", &self.message.is_late())?;
        map.serialize_entry("sentAt", &rfc3339(self.message.sent_at))?;
        map.serialize_entry("receivedAt", &rfc3339(self.message.received_at))?;
        map.serialize_entry("readAt", &self.message.read_at.map(rfc3339))?;
        map.serialize_entry("createdAt", &rfc3339(self.message.received_at))?;
        map.serialize_entry("updatedAt", &rfc3339(self.message.updated_at))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use recado_domain::event::ChatKind;
    use recado_domain::ids::{ContactId, ConversationId, MediaId, MessageId};
    use recado_domain::incoming::{Captioned, Content, MediaState, NewMedia};
    use serde_json::json;

    use super::*;

    fn received() -> Incoming {
        let message = MessageId::new(1, [1; 10]);
        let about = NewMedia { mime_type: "image/jpeg".to_owned(), size: Some(3), ..NewMedia::default() };
        let content = Content::Image(Captioned { caption: Some("Olha".to_owned()), ..Captioned::default() });
        let sender = SenderIds {
            phone: Some("5511977776666".to_owned()),
            lid: Some("900".to_owned()),
            name: Some("Ana".to_owned()),
            ..SenderIds::default()
        };
        let body = Body {
            content,
            text: "Olha".to_owned(),
            sender,
            number: Some("551140000000".to_owned()),
            reply_to: Some(Quoted::of_id("3EB0")),
            mentions: Vec::new(),
            forwarded: false,
            choice: None,
            referral: None,
            expires_in_seconds: None,
        };
        let media = Media {
            id: MediaId::new(1, [2; 10]),
            message,
            channel: 1,
            state: MediaState::Remote,
            about,
            read_at: None,
        };
        Incoming {
            seq: 1,
            id: message,
            channel: 1,
            channel_id: "vendas".to_owned(),
            conversation: ConversationId::new(1, [3; 10]),
            contact: Some(ContactId::new(1, [4; 10])),
            direction: Direction::Inbound,
            network_id: "3EB1".to_owned(),
            chat: ChatKind::Direct,
            address: "5511977776666".to_owned(),
            chat_name: None,
            body,
            media: Some(media),
            reactions: Vec::new(),
            edited_at: None,
            revoked_at: None,
            sent_at: 0,
            received_at: 1_403,
            read_at: None,
            updated_at: 1_403,
        }
    }

    /// The keys of a JSON object in their order.
    fn keys(text: &str) -> Vec<String> {
        let map: serde_json::Map<String, Value> = serde_json::from_str(text).expect("an object");
        let mut keys: Vec<_> = map.keys().cloned().collect();
        keys.sort_by_key(|key| text.find(&format!("\"{key}\":")));
        keys
    }

    #[test]
    fn the_keys_are_those_of_the_contract_in_their_order() {
        let text = serde_json::to_string(&MessageView::new(&received())).expect("JSON");
        let wanted = "id conversationId channelId type direction status content mediaUrl from to sender chat networkId replyTo \
                      mentions forwarded choice referral image media reactions editedAt revokedAt expiresInSeconds late \
                      sentAt receivedAt readAt createdAt updatedAt";
        assert_eq!(keys(&text), wanted.split_whitespace().collect::<Vec<_>>());
        let shown: Value = serde_json::from_str(&text).expect("JSON");
        let media = received().media.expect("a file").id;
        assert_eq!(shown["mediaUrl"], format!("/v1/media/{media}/content"));
        assert_eq!((&shown["from"], &shown["to"]), (&json!("5511977776666"), &json!("551140000000")));
        assert_eq!(shown["image"], json!({"caption": "Olha", "fileName": null}));
        let reply = json!({"messageId": null, "networkId": "3EB0", "from": null, "type": null, "content": null});
        assert_eq!(shown["replyTo"], reply);
        assert_eq!(shown["sender"]["isMe"], false);
        assert_eq!((&shown["sentAt"], &shown["late"]), (&json!("1970-01-01T00:00:00.000Z"), &json!(false)));
        let based = serde_json::to_value(MessageView::new(&received()).with_base("https://a.example")).expect("JSON");
        assert_eq!(based["mediaUrl"], format!("https://a.example/v1/media/{media}/content"));
    }

    #[test]
    fn a_person_without_a_number_has_no_from() {
        let mut hidden = received();
        hidden.body.sender.phone = None;
        hidden.address = "900@lid".to_owned();
        let shown = serde_json::to_value(MessageView::new(&hidden)).expect("JSON");
        assert_eq!((&shown["from"], &shown["chat"]["address"]), (&Value::Null, &json!("900@lid")));
        hidden.direction = Direction::Outbound;
        let echo = serde_json::to_value(MessageView::new(&hidden)).expect("JSON");
        assert_eq!(
            (&echo["from"], &echo["to"], &echo["status"]),
            (&json!("551140000000"), &Value::Null, &json!("SENT"))
        );
        assert_eq!((&echo["sender"]["isMe"], &echo["sender"]["contactId"]), (&json!(true), &Value::Null));
    }

    #[test]
    fn five_minutes_on_the_way_are_late() {
        let mut message = received();
        message.received_at = message.sent_at + 5 * 60_000;
        assert!(!message.is_late());
        message.received_at += 1;
        assert!(message.is_late());
    }
}
