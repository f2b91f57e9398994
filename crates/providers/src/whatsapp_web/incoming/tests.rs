//! Tests that need no network.

use recado_domain::channel::{ChannelKey, ChannelRef, ChannelSettings, ChannelType};
use recado_domain::event::ChatKind;
use recado_domain::incoming::{Content, IncomingQuery, NewIncoming, NewMedia};
use recado_store::Store;
use recado_store::fixtures::{Ground, SqliteFile};
use recado_store::sealed::KeyRing;
use recado_whatsapp_web::{Logins, Options};

use super::*;
use crate::Context;
use crate::whatsapp_web::WhatsAppWeb;

const ANA: &str = "5511977776666";

/// A channel, and the inbox of its first session.
struct Stage {
    /// Keeps the files of the store.
    _ground: Ground,
    store: Arc<dyn Store>,
    secrets: Arc<KeyRing>,
    channel: ChannelKey,
    inbox: SessionInbox,
}

impl Stage {
    async fn set() -> Self {
        let ground = Ground::on(SqliteFile::new()).await;
        let channel = ground.channel_of(ChannelType::WhatsAppWeb, "vendas").await;
        let secrets = Arc::new(KeyRing::parse(&"7".repeat(64)).expect("a key"));
        let store = ground.store.clone();
        let context = Context { secrets: secrets.clone(), ..Context::on(store.clone()) };
        let options = Options { url: None, version: None, device_name: "teste".to_owned(), logins: Logins::new(1_000) };
        let via = ChannelRef { key: channel, institution: ground.institution, id: "vendas".parse().expect("an id") };
        let connection = WhatsAppWeb::new(context, options).connection(&via);
        Self { _ground: ground, store, secrets, channel, inbox: SessionInbox { connection, session: 0 } }
    }

    async fn receive(&self, arrivals: Vec<Arrival>) -> Result<(), NotStored> {
        let inbound = arrivals.into_iter().map(|arrival| Inbound::Arrival(Box::new(arrival))).collect();
        let number = Some("551140000000".to_owned());
        self.inbox.receive(Delivered { number, inbound }).await
    }

    async fn stored(&self) -> Vec<Incoming> {
        let query = IncomingQuery { channel: self.channel, before: None, from: None, limit: 100 };
        self.store.incoming_page(query).await.expect("read").messages
    }

    async fn ids(&self) -> Vec<String> {
        self.stored().await.into_iter().rev().map(|message| message.network_id).collect()
    }
}

fn message(id: &str) -> Arrival {
    let media = NewMedia { sealed: Some(b"key".to_vec()), ..NewMedia::default() };
    let new = NewIncoming { raw: Some(b"raw".to_vec()), media: Some(media), ..NewIncoming::new(Content::text(), "Oi") };
    Arrival {
        network_id: id.parse().expect("an id"),
        group: None,
        person: SenderIds::of_phone(ANA),
        from_me: false,
        sent_at: 1_000,
        what: What::Message(Box::new(new)),
    }
}

#[tokio::test]
async fn what_holds_keys_is_sealed_for_its_message() {
    let stage = Stage::set().await;
    stage.receive(vec![message("3EB0A"), message("3EB0B")]).await.expect("stored");
    let stored = stage.stored().await.remove(1);
    assert_eq!((stored.network_id.as_str(), stored.chat), ("3EB0A", ChatKind::Direct));
    let raw = stage.store.incoming_raw(stage.channel, stored.id).await.expect("read").expect("kept");
    let file = stored.media.expect("a file").about.sealed.expect("kept");
    let open = |id, part, sealed: &[u8]| {
        let place = Place::Received { channel: stage.channel, network_id: id, part };
        stage.secrets.open(place, sealed).map(|opened| opened.expose_secret().to_vec())
    };
    assert_eq!(open("3EB0A", ReceivedPart::Message, &raw).expect("opened"), b"raw");
    assert_eq!(open("3EB0A", ReceivedPart::File, &file).expect("opened"), b"key");
    assert!(open("3EB0B", ReceivedPart::File, &file).is_err(), "it is bound to its message");
    assert!(open("3EB0A", ReceivedPart::Message, &file).is_err(), "and to its part");
}

#[tokio::test]
async fn the_settings_of_the_channel_decide_what_is_received() {
    let stage = Stage::set().await;
    let group = Some(Group { address: "120363@g.us".to_owned(), name: None });
    let all = |n: u32| {
        let of_group = Arrival { group: group.clone(), ..message(&format!("group{n}")) };
        vec![message(&format!("direct{n}")), of_group, Arrival { from_me: true, ..message(&format!("echo{n}")) }]
    };
    stage.receive(all(1)).await.expect("stored");
    assert_eq!(stage.ids().await, ["direct1", "echo1"], "groups are off, and the own devices are on");
    let settings = Settings {
        groups: recado_domain::channel::OnOff::On,
        own_device: recado_domain::channel::OnOff::Off,
        ..Settings::default()
    };
    let settings = ChannelSettings::WhatsAppWeb(settings);
    assert!(stage.store.update_channel(stage.channel, "Vendas".to_owned(), settings).await.expect("stored"));
    stage.receive(all(2)).await.expect("stored");
    assert_eq!(stage.ids().await, ["direct1", "echo1", "direct2", "group2"]);
}

#[tokio::test]
async fn a_message_is_read_on_the_phone() {
    let stage = Stage::set().await;
    stage.receive(vec![message("3EB0A"), message("3EB0B")]).await.expect("stored");
    let read = |id: &str| Delivered { number: None, inbound: vec![Inbound::Read(vec![id.to_owned()])] };
    stage.inbox.receive(read("3EB0UNKNOWN")).await.expect("nothing to do");
    stage.inbox.receive(read("3EB0A")).await.expect("stored");
    let read_at: Vec<_> = stage.stored().await.into_iter().rev().map(|message| message.read_at.is_some()).collect();
    assert_eq!(read_at, [true, false], "the later one is unread");
}

#[tokio::test]
async fn another_session_stores_nothing() {
    let mut stage = Stage::set().await;
    stage.inbox.session = 1;
    stage.receive(vec![message("3EB0A")]).await.expect_err("the channel has another session");
    assert_eq!(stage.ids().await, [""; 0]);
}
