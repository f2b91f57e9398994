//! Links devices without a phone: each is written where its channel's session reads it, as pairing would leave it. Pairing
//! itself would need a build that trusts any server.

use anyhow::Result;
use fake_whatsapp::{Account, FakeWhatsApp};
use recado_domain::channel::{Held, SessionChange};
use recado_store::clock::SystemEntropy;
use recado_store::sealed::{KeyRing, Place};
use recado_store::sqlite::SqliteStore;
use recado_store::{Channels, Sessions, Store};
use recado_whatsapp_web::Kind;

use crate::server::{Home, SECRET_KEY};

/// Links every channel of a store without a running server.
pub async fn link(home: &Home, network: &FakeWhatsApp) -> Result<()> {
    let secrets = KeyRing::parse(SECRET_KEY)?;
    let store = SqliteStore::open(&home.store())?;
    for channel in store.channels().await?.iter().filter(|channel| channel.kind.name() == "WHATSAPP_BAILEYS") {
        let phone = format!("5521400{:05}", channel.key);
        let device = network.linked_device(&Account::new(&phone, &format!("92{:013}", channel.key)));
        let (kind, key) = (Kind::Device.number(), Vec::new());
        let place = Place::Session { channel: channel.key, session: channel.session, kind, key: &key };
        let sealed = secrets.seal(place, &serde_json::to_vec(&device)?, &SystemEntropy)?;
        let held = Held { channel: channel.key, epoch: 0, session: channel.session };
        store.write_session(held, vec![SessionChange::Put { kind, key, sealed, stamp: 0 }]).await?;
    }
    store.close().await;
    Ok(())
}
